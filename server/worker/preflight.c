#include "worker/preflight.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fd.h"
#include "base/tasks.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "ipc/state.h"
#include "plugin/eject.h"
#include "plugin/hook.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/recover.h"
#include "plugin/thread.h"
#include "worker/leftovers.h"
#include "worker/plugins.h"
#include "worker/sinks.h"
#include "worker/store.h"
#include "worker/watchdog.h"

/* When the stage that is under way began, and what this thread had waited for a processor by then. */
static struct {
    int64_t began_ms, waited_ms;
} stage_now;

static int64_t waited_ms(void)
{
    struct tasks_time t;

    return tasks_time(getpid(), &t) < 0 ? 0 : t.waited_ms;
}

static void say_stage(void *arg, const char *plugin, const char *stage, const char *object)
{
    char line[4400];
    int n = snprintf(line, sizeof line, "plugin %s stage %s%s%s\n", plugin, stage,
                     object != NULL ? " object " : "", object != NULL ? object : "");

    if (n > 0)
        fd_write_all(*(int *)arg, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    stage_now.began_ms = clock_mono_ms();
    stage_now.waited_ms = waited_ms();
}

/* One that ran past its deadline while others had the processor is refused, but not called bad for it. */
static void say_crash(int report_fd, const char *plugin)
{
    int64_t took_ms = clock_mono_ms() - stage_now.began_ms,
            lacked_ms = waited_ms() - stage_now.waited_ms;
    bool is_starved = recover_self.fault.is_deadline && lacked_ms >= took_ms / 3;
    char line[256];
    int n = is_starved
                ? snprintf(line, sizeof line,
                           "note plugin '%s' waited for a processor for %.1f of %.1f s: nothing is "
                           "known of it; try again when the machine is less busy\n",
                           plugin, (double)lacked_ms / 1000, (double)took_ms / 1000)
                : snprintf(line, sizeof line, "crash %s\n", plugin);

    fd_write_all(report_fd, line, (size_t)n);
}

/* Outcome Q is a refusal here: a thread of the plugin's own has crashed, say. But not in close(),
 * which may fail in the trial run as it may in a worker. */
static int report_ejected(const struct config *cfg, int report_fd, struct diag *diag)
{
    uint32_t plugin;
    const char *why;
    int r = 0;

    while (eject_take(&plugin, &why)) {
        const struct config_plugin *p = plugin > 0 ? &cfg->plugin[plugin - 1] : NULL;

        diag_add(diag, cfg->path, p != NULL ? p->pos.line : 0, p != NULL ? p->pos.column : 0, NULL,
                 "plugin '%s': %s", p != NULL ? p->name : "?", why);
        if (p != NULL)
            say_crash(report_fd, p->name);
        r = -EFAULT;
    }
    return r;
}

/* With what the plugins of a worker have saved just now. One that refuses it loses its state, which is told;
 * one that crashes over it must not be loaded. */
static int try_restore(const struct config *cfg, struct plugins *plugins, int *report_fd,
                       int state_fd, struct diag *diag)
{
    const char *map;
    size_t size;
    int first = 0;

    if (state_map(state_fd, &map, &size) < 0)
        return 0; /* nobody had anything */
    for (int i = 0; i < plugins->n; i++) {
        const struct config_plugin *p = &cfg->plugin[i];
        char note[256];
        int r;

        if (plugins->inst[i] == NULL || plugins->inst[i]->desc->restore == NULL)
            continue;
        say_stage(report_fd, p->name, hook_name(HOOK_RESTORE), NULL);
        r = instance_restore(plugins->inst[i], map, size);
        if (r == -EFAULT) {
            diag_add(
                diag, cfg->path, p->pos.line, p->pos.column, NULL,
                "plugin '%s': restore() crashed, or ran past its deadline, over the state of the "
                "version that serves",
                p->name);
            say_crash(*report_fd, p->name);
            first = r;
        } else if (r < 0) {
            snprintf(note, sizeof note,
                     "note plugin '%s': restore() refuses the state of the version that serves: it "
                     "would be lost\n",
                     p->name);
            fd_write_all(*report_fd, note, strlen(note));
        }
    }
    munmap((void *)(uintptr_t)map, size);
    return first;
}

static int try_plugins(const struct config *cfg, struct plugins *plugins, int *report_fd,
                       bool validate_only, int state_fd, struct diag *diag)
{
    int r = 0, first = 0;

    for (int i = 0; i < plugins->n; i++) {
        if (plugins->inst[i] == NULL || plugins->inst[i]->desc->validate == NULL)
            continue;
        say_stage(report_fd, cfg->plugin[i].name, hook_name(HOOK_VALIDATE), NULL);
        r = instance_validate(plugins->inst[i], diag);
        if (r == -EFAULT)
            say_crash(*report_fd, cfg->plugin[i].name);
        if (r < 0)
            first = r;
    }
    for (int i = 0; !validate_only && first == 0 && i < plugins->n; i++) {
        if (plugins->inst[i] == NULL)
            continue;
        say_stage(report_fd, cfg->plugin[i].name, hook_name(HOOK_OPEN), NULL);
        r = instance_open(plugins->inst[i], diag);
        if (r == -EFAULT)
            say_crash(*report_fd, cfg->plugin[i].name);
        if (r < 0)
            first = r;
    }
    if (first == 0 && state_fd >= 0)
        first = try_restore(cfg, plugins, report_fd, state_fd, diag);
    if (first == 0)
        first = report_ejected(cfg, *report_fd, diag);
    for (int i = plugins->n - 1; first == 0 && i >= 0; i--) {
        if (plugins->inst[i] != NULL) {
            say_stage(report_fd, cfg->plugin[i].name, hook_name(HOOK_CLOSE), NULL);
            instance_destroy(&plugins->inst[i]);
        }
        plugins->n = i;
    }
    return first;
}

static int run(const struct config *cfg, const struct setup *setup, struct shm *shm, int report_fd,
               int validate_only, int state_fd)
{
    struct shm *own = NULL;
    struct leftovers leftovers;
    struct plugins plugins;
    struct diag diag;
    char text[1024];
    int r;

    prctl(PR_SET_NAME, "bh-preflight");
    diag_init(&diag);
    /* Memory of its own: what dies here is no worker, and is reported through report_fd. */
    (void)shm;
    r = shm_create(1, (uint32_t)cfg->n_plugins, &own);
    if (r == 0)
        r = recover_init(own, -1);
    if (r == 0)
        r = watchdog_start(cfg, &own->worker[0].call, NULL);
    if (r == 0) {
        thread_init(cfg, &own->worker[0]);
        sinks_init(host_table(), own, &own->worker[0]);
        r = store_open(host_table(), cfg, NULL, &diag);
    }
    if (r == 0) {
        leftovers_begin(&leftovers);
        r = plugins_load(cfg, setup, own, 0, say_stage, &report_fd, &diag, &plugins);
    }
    if (r == 0)
        r = try_plugins(cfg, &plugins, &report_fd, validate_only != 0, state_fd, &diag);
    if (r == 0)
        r = leftovers_check(&leftovers, cfg, &plugins, report_fd, say_stage, &report_fd, &diag);
    for (int i = 0; i < diag.n; i++) {
        size_t n;

        diag_format(&diag, i, text, sizeof text - 1);
        n = strlen(text);
        text[n++] = '\n';
        fd_write_all(report_fd, text, n);
    }
    if (r < 0 && diag.n == 0) {
        snprintf(text, sizeof text, "error: cannot try the plugins: %s\n", strerror(-r));
        fd_write_all(report_fd, text, strlen(text));
    }
    if (r == 0)
        fd_write_all(report_fd, "ok\n", 3);
    return 0;
}

int worker_preflight(const struct config *cfg, const struct setup *setup, struct shm *shm,
                     int report_fd, int validate_only)
{
    return run(cfg, setup, shm, report_fd, validate_only, -1);
}

int worker_rehearse(const struct config *cfg, const struct setup *setup, struct shm *shm,
                    int report_fd, int state_fd)
{
    return run(cfg, setup, shm, report_fd, 0, state_fd);
}
