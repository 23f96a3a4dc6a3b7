#include "worker/leftovers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fd.h"
#include "base/tasks.h"
#include "conf/config.h"
#include "plugin/object.h"
#include "plugin/ration.h"
#include "plugin/specific.h"
#include "plugin/symbol.h"
#include "plugin/text.h"
#include "plugin/thread.h"
#include "plugin/timer.h"

#define WAIT_MS  1000 /* for threads that were told to end */
#define LEFT_MAX 16   /* handlers and keys that are told */

/* A handler or a key, which points into an object. */
struct left {
    uint32_t plugin;
    int signo; /* 0: a key */
    pthread_key_t key;
    const void *function;
    char name[128]; /* of it */
};

/* ---- threads ---- */

void leftovers_begin(struct leftovers *l)
{
    memset(l, 0, sizeof *l);
    for (int signo = 1; signo < NSIG; signo++)
        sigaction(signo, NULL, &l->action[signo]);
    l->n_tasks = tasks_count(getpid());
}

static bool is_pinned(const struct plugins *plugins, uint32_t plugin)
{
    const struct object *o = plugins->loaded[plugin - 1];

    return o != NULL && o->desc != NULL && (o->desc->flags & BH_F_PINNED) != 0;
}

static void wait_for_threads(const struct config *cfg, const struct plugins *plugins)
{
    int64_t end_ms = clock_mono_ms() + WAIT_MS;

    for (uint32_t id = 1; id <= (uint32_t)cfg->n_plugins; id++)
        while (!is_pinned(plugins, id) && thread_count(id) > 0 && clock_mono_ms() < end_ms)
            usleep(2000);
}

static void complain(const struct config *cfg, uint32_t plugin, struct diag *diag, const char *hint,
                     const char *what)
{
    const struct config_plugin *p = &cfg->plugin[plugin - 1];

    diag_add(diag, cfg->path, p->pos.line, p->pos.column, hint, "plugin '%s' %s", p->name, what);
}

static int judge_threads(const struct config *cfg, const struct plugins *plugins, struct diag *diag)
{
    char what[256], name[128];
    int n_bad = 0;

    for (uint32_t id = 1; id <= (uint32_t)cfg->n_plugins; id++) {
        uint32_t n = thread_count(id);
        const void *thread = thread_function(id), *timer = timer_function(id);

        if (is_pinned(plugins, id))
            continue;
        if (n > 0) {
            snprintf(what, sizeof what, "leaves %u thread%s running after close(): %s", n,
                     n > 1 ? "s" : "",
                     thread != NULL ? symbol_name(thread, name, sizeof name) : "not begun yet");
            complain(cfg, id, diag,
                     "end and join them in close(); a plugin whose threads cannot be ended sets "
                     "BH_F_PINNED",
                     what);
            n_bad++;
        }
        if (timer != NULL) {
            snprintf(what, sizeof what,
                     "leaves a timer (timer_create()) after close(), whose function is %s",
                     symbol_name(timer, name, sizeof name));
            complain(cfg, id, diag, "delete it in close() with timer_delete()", what);
            n_bad++;
        }
    }
    return n_bad;
}

static bool is_own(int32_t task, const char *name)
{
    char path[64], comm[32] = "";
    int fd;

    snprintf(path, sizeof path, "/proc/self/task/%d/comm", task);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, comm, sizeof comm - 1) < 0)
        comm[0] = '\0';
    fd_close(&fd);
    return strncmp(comm, name, strlen(name)) == 0;
}

/* Those that nobody has started by pthread_create() have no name of the host's, which names its own. They
 * are looked for when there is one more than before: see urgency_restore() of what that costs. */
static void note_strangers(const struct leftovers *l, int report_fd)
{
    DIR *d = tasks_count(getpid()) > l->n_tasks ? opendir("/proc/self/task") : NULL;
    const struct dirent *e;
    char line[256];
    int n = 0;

    while (d != NULL && (e = readdir(d)) != NULL) {
        int32_t task = (int32_t)strtol(e->d_name, NULL, 10);

        n += task > 0 && task != getpid() && !thread_is_shown(task) && is_own(task, "bh-preflight");
    }
    if (d != NULL)
        closedir(d);
    if (n == 0)
        return;
    snprintf(
        line, sizeof line,
        "note %d thread%s left after close() that no plugin has started by pthread_create(): of "
        "a function of libc's (timer_create(), aio_*), or of a raw clone()\n",
        n, n > 1 ? "s are" : " is");
    fd_write_all(report_fd, line, strlen(line));
}

/* ---- what points into an object ---- */

static const void *handler_of(const struct sigaction *sa)
{
    return (sa->sa_flags & SA_SIGINFO) != 0 ? *(const void *const *)&sa->sa_sigaction
                                            : *(const void *const *)&sa->sa_handler;
}

/* Not one of the two answers that need no function. */
static bool is_function(const struct sigaction *sa)
{
    return sa->sa_handler != SIG_DFL && sa->sa_handler != SIG_IGN;
}

static bool is_changed(const struct leftovers *l, int signo, struct sigaction *now)
{
    return sigaction(signo, NULL, now) == 0 && handler_of(now) != handler_of(&l->action[signo]);
}

static void add_left(struct left *left, int *n, const struct left *one)
{
    if (*n == LEFT_MAX)
        return;
    left[*n] = *one;
    symbol_name(one->function, left[*n].name, sizeof left[*n].name);
    (*n)++;
}

static int find_left(const struct leftovers *l, const struct plugins *plugins, struct left *left)
{
    struct sigaction now;
    int n = 0;

    for (int signo = 1; signo < NSIG; signo++) {
        struct left one = {.signo = signo};

        if (!is_changed(l, signo, &now) || !is_function(&now))
            continue;
        one.function = handler_of(&now);
        one.plugin = text_owner((uintptr_t)one.function);
        add_left(left, &n, &one);
    }
    for (pthread_key_t key = 0; key < PTHREAD_KEYS_MAX; key++) {
        void (*destructor)(void *) = specific_destructor(key);
        struct left one = {.key = key, .plugin = text_owner((uintptr_t)destructor)};

        if (one.plugin == 0 || is_pinned(plugins, one.plugin))
            continue;
        memcpy(&one.function, &destructor, sizeof destructor);
        add_left(left, &n, &one);
    }
    return n;
}

static bool is_still_there(const struct left *left)
{
    struct sigaction now;
    void (*destructor)(void *) = specific_destructor(left->key);

    if (left->signo != 0)
        return sigaction(left->signo, NULL, &now) == 0 && handler_of(&now) == left->function;
    return memcmp(&left->function, &destructor, sizeof destructor) == 0;
}

/* One that no plugin's object has is a library's: of which plugin is not known, so the first place that
 * names plugins has to do. */
static void complain_of(const struct config *cfg, const struct left *left, struct diag *diag)
{
    char what[320];

    if (left->signo == 0) {
        snprintf(
            what, sizeof what,
            "leaves a key of thread-specific data (pthread_key_create()), whose destructor is %s",
            left->name);
        complain(cfg, left->plugin, diag,
                 "pthread_key_delete() it in close() or in a destructor; a plugin that cannot sets "
                 "BH_F_PINNED",
                 what);
    } else if (left->plugin != 0) {
        snprintf(what, sizeof what, "leaves a handler of SIG%s after close(): %s",
                 sigabbrev_np(left->signo) != NULL ? sigabbrev_np(left->signo) : "RT", left->name);
        complain(cfg, left->plugin, diag, "put back in close() what sigaction() had before", what);
    } else {
        diag_add(diag, cfg->path, 0, 0, "put back in close() what sigaction() had before",
                 "a library of a plugin leaves a handler of SIG%s after close(): %s",
                 sigabbrev_np(left->signo) != NULL ? sigabbrev_np(left->signo) : "RT", left->name);
    }
}

static void unload(const struct config *cfg, struct plugins *plugins, plugins_progress *progress,
                   void *arg)
{
    for (int i = plugins->n_objects - 1; i >= 0; i--) {
        for (int k = 0; k < cfg->n_plugins; k++)
            if (plugins->loaded[k] == plugins->object[i])
                progress(arg, cfg->plugin[k].name, "unload", NULL);
        object_unload(&plugins->object[i]);
    }
    plugins->n_objects = 0;
}

static int judge_left(const struct leftovers *l, const struct config *cfg, struct plugins *plugins,
                      plugins_progress *progress, void *arg, struct diag *diag)
{
    struct left left[LEFT_MAX];
    int n = find_left(l, plugins, left), n_bad = 0;

    if (n > 0)
        unload(cfg, plugins, progress, arg);
    for (int i = 0; i < n; i++) {
        if (!is_still_there(&left[i]))
            continue;
        complain_of(cfg, &left[i], diag);
        n_bad++;
    }
    return n_bad;
}

/* ---- what harms nobody else ---- */

static void note_ignored(const struct leftovers *l, int report_fd)
{
    struct sigaction now;
    char line[128];

    for (int signo = 1; signo < NSIG; signo++) {
        if (!is_changed(l, signo, &now) || is_function(&now))
            continue;
        snprintf(line, sizeof line, "note a plugin has SIG%s %s, and leaves it so after close()\n",
                 sigabbrev_np(signo) != NULL ? sigabbrev_np(signo) : "RT",
                 now.sa_handler == SIG_DFL ? "as it is by default" : "ignored");
        fd_write_all(report_fd, line, strlen(line));
    }
}

static void note_descriptors(const struct config *cfg, int report_fd)
{
    char path[64], target[256], line[512];

    for (uint32_t id = 1; id <= (uint32_t)cfg->n_plugins; id++) {
        uint32_t n = ration_count(id);
        ssize_t len;

        if (n == 0)
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", ration_find(id));
        len = readlink(path, target, sizeof target - 1);
        target[len > 0 ? len : 0] = '\0';
        snprintf(line, sizeof line,
                 "note plugin '%s' leaves %u descriptor%s open after close() (%s): each fresh "
                 "instance will\n",
                 cfg->plugin[id - 1].name, n, n > 1 ? "s" : "", target);
        fd_write_all(report_fd, line, strlen(line));
    }
}

int leftovers_check(const struct leftovers *l, const struct config *cfg, struct plugins *plugins,
                    int report_fd, plugins_progress *progress, void *arg, struct diag *diag)
{
    int n_bad;

    wait_for_threads(cfg, plugins);
    note_descriptors(cfg, report_fd);
    note_ignored(l, report_fd);
    note_strangers(l, report_fd);
    n_bad = judge_threads(cfg, plugins, diag);
    if (n_bad == 0) /* none runs in what is unloaded there */
        n_bad = judge_left(l, cfg, plugins, progress, arg, diag);
    return n_bad > 0 ? -EBUSY : 0;
}
