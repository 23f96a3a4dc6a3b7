/*
 * preflight.c - every plugin is tried in a process that may die of it.
 *
 * Whether it passed is told by the token "ok" and nothing else: an exit status of 0 may come from
 * a constructor that calls exit(0). What the child reports is text from a process that runs
 * strangers' code: bounded, escaped, never a format.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fd.h"
#include "base/must.h"
#include "base/tasks.h"
#include "base/urgency.h"
#include "master/internal.h"
#include "obs/log.h"

#define CPU_SECONDS  10
#define MEMORY_BYTES (4ull << 30)
#define REPORT_MAX   (256u << 10) /* bytes; who says more is stopped */
#define TICK_MS      20           /* a descendant that holds the pipe open may hide the end */

int preflight_wall_ms = 15000;

enum ending { ENDED_BY_ITSELF, ENDED_LATE, ENDED_TALKATIVE, ENDED_BY_US };

#define SAID_MAX 8192 /* bytes of mistakes that are kept, for who asked */

struct report {
    char line[PATH_MAX + 256]; /* printable; longer ones are cut */
    size_t len;
    size_t total;
    char plugin[128], stage[32], object[PATH_MAX]; /* where it is */
    char culprit[128];                             /* that crashed; "": none did */
    bool is_ok;                                    /* the last line was "ok" */
    bool had_error;
    bool is_quiet; /* nothing on stderr: somebody else tells it */
    size_t said_len;
    char said[SAID_MAX];
};

struct preflight {
    const struct config *cfg;
    const char *consequence;
    struct report rep;
    enum ending ending;
    pid_t pid;
    int fd; /* the report */
    int status;
    int64_t end_ms;
    int64_t waited_ms; /* for a processor, when its time was over; 0: it did not lack one */
    int64_t hurry_ms;  /* until then it yields to those that serve; INT64_MAX: it does not */
};

/* ---- In the child ---- */

static void set_limit(__rlimit_resource_t resource, rlim_t soft, rlim_t hard)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) < 0)
        return;
    if (limit.rlim_max > hard)
        limit.rlim_max = hard;
    limit.rlim_cur = limit.rlim_max < soft ? limit.rlim_max : soft;
    setrlimit(resource, &limit);
}

static void set_limits(void)
{
    set_limit(RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS + 1); /* SIGXCPU, then SIGKILL */
    set_limit(RLIMIT_CORE, 0, 0);
#if !defined(BULKHEAD_SANITIZE) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    set_limit(RLIMIT_AS, MEMORY_BYTES, MEMORY_BYTES); /* the sanitizers' shadow is larger */
#endif
}

/* Its own group, so that what it starts ends with it. */
static void become_trial(const struct user *user, pid_t parent, bool yields)
{
    setpgid(0, 0);
    if (yields)
        urgency_allow_return();
    child_become(user, parent, false, "preflight");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    set_limits();
    if (yields)
        urgency_yield();
}

/* ---- What it says ---- */

/* The word or path after `key` in "plugin NAME stage STAGE object PATH". */
static void copy_field(const char *line, const char *key, bool to_end, char *out, size_t size)
{
    const char *at = strstr(line, key);
    size_t n;

    out[0] = '\0';
    if (at == NULL)
        return;
    at += strlen(key);
    n = to_end ? strlen(at) : strcspn(at, " ");
    if (n >= size)
        n = size - 1;
    memcpy(out, at, n);
    out[n] = '\0';
}

static void say(struct report *rep, const char *line)
{
    int n = snprintf(rep->said + rep->said_len, sizeof rep->said - rep->said_len, "%s\n", line);

    if (n > 0)
        rep->said_len += (size_t)n;
    if (rep->said_len >= sizeof rep->said)
        rep->said_len = sizeof rep->said - 1;
    if (!rep->is_quiet)
        fprintf(stderr, "%s\n", line);
}

/* For the log, where that is not what has just been said. */
static bool is_for_log(const struct report *rep)
{
    return rep->is_quiet || !log_is_stderr();
}

static void end_line(struct report *rep)
{
    const char *line = rep->line;

    rep->line[rep->len] = '\0';
    rep->len = 0;
    rep->is_ok = strcmp(line, "ok") == 0;
    if (strncmp(line, "plugin ", 7) == 0) {
        char before[sizeof rep->plugin];

        memcpy(before, rep->plugin, sizeof before);
        copy_field(line, "plugin ", false, rep->plugin, sizeof rep->plugin);
        copy_field(line, " stage ", false, rep->stage, sizeof rep->stage);
        /* Said once per plugin. */
        if (strstr(line, " object ") != NULL || strcmp(before, rep->plugin) != 0)
            copy_field(line, " object ", true, rep->object, sizeof rep->object);
    } else if (strncmp(line, "note ", 5) == 0) {
        log_warn("preflight: %s", line + 5);
    } else if (strncmp(line, "crash ", 6) == 0) {
        copy_field(line, "crash ", false, rep->culprit, sizeof rep->culprit);
    } else if (strstr(line, "error: ") != NULL || (rep->had_error && line[0] == ' ')) {
        rep->had_error = true; /* its hint is indented */
        say(rep, line);
        if (is_for_log(rep))
            log_error("preflight: %s", line);
    } else if (!rep->is_ok && line[0] != '\0') {
        log_debug("preflight: %s", line);
    }
}

static void take(struct report *rep, const char *p, size_t n)
{
    rep->total += n;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n')
            end_line(rep);
        else if (rep->len < sizeof rep->line - 1)
            /* No control characters; UTF-8 may pass. */
            rep->line[rep->len++] = (unsigned char)p[i] < 0x20 || p[i] == 0x7f ? '?' : p[i];
    }
}

/* True while the pipe may have more. */
static bool read_report(int fd, struct report *rep)
{
    char buf[4096];
    ssize_t n = read(fd, buf, sizeof buf);

    if (n > 0)
        take(rep, buf, (size_t)n);
    return n > 0 || (n < 0 && errno == EINTR);
}

/* ---- Waiting for it ---- */

static bool is_stop_pending(void)
{
    sigset_t pending;

    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1 ||
            sigismember(&pending, SIGQUIT) == 1);
}

/* For how long it could have run, had others not had the processors; 0: that is not why it is late. One that
 * loops meets the limit of its processor time first, unless it lacks a third of the time. */
static int64_t starved_ms(const struct preflight *p)
{
    struct tasks_time t;

    if (tasks_time(p->pid, &t) < 0)
        return 0;
    if (t.is_ready &&
        t.ran_ms < preflight_wall_ms / 10) /* it waits still, and that is not counted yet */
        t.waited_ms = preflight_wall_ms - t.ran_ms;
    return t.waited_ms >= preflight_wall_ms / 3 ? t.waited_ms : 0;
}

/* Takes what is there; true when the child is gone, by itself or otherwise. Its group goes with it. */
static bool step(struct preflight *p)
{
    struct report *rep = &p->rep;
    pid_t r;

    while (rep->total < REPORT_MAX && read_report(p->fd, rep))
        continue;
    if (clock_mono_ms() >= p->hurry_ms) {
        p->hurry_ms += MASTER_YIELD_MS; /* again: see posts_tick() */
        urgency_restore(p->pid, CHILD_OWN_THREADS);
    }
    if (rep->total >= REPORT_MAX)
        p->ending = ENDED_TALKATIVE;
    else if (clock_mono_ms() >= p->end_ms)
        p->ending = ENDED_LATE;
    if (p->ending == ENDED_LATE)
        p->waited_ms = starved_ms(p);
    if (p->ending != ENDED_BY_ITSELF) {
        urgency_restore(
            p->pid,
            CHILD_OWN_THREADS); /* to die takes time of the CPU, too, and it is waited for */
        kill(p->pid, SIGKILL);
    }
    do {
        r = waitpid(p->pid, &p->status, p->ending == ENDED_BY_ITSELF ? WNOHANG : 0);
    } while (r < 0 && errno == EINTR);
    if (r == 0)
        return false;
    /* What it left in the pipe; then what it left running, which may hold the other end. */
    while (rep->total < REPORT_MAX && read_report(p->fd, rep))
        continue;
    if (rep->len > 0)
        end_line(rep);
    kill(-p->pid, SIGKILL);
    p->pid = 0;
    return true;
}

/* ---- What to tell ---- */

static const char *describe_stage(const char *stage, char *buf, size_t size)
{
    if (strcmp(stage, "load") == 0)
        return "its constructor (dlopen)";
    if (strcmp(stage, "unload") == 0)
        return "a destructor (dlclose)";
    if (stage[0] == '\0')
        return "an unknown stage";
    snprintf(buf, size, "%s()", stage);
    return buf;
}

static void describe_end(const struct preflight *p, const char *in, char *buf, size_t size)
{
    int status = p->status, signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    enum ending ending = p->ending;

    if (ending == ENDED_LATE && p->waited_ms > 0)
        snprintf(
            buf, size,
            "did not finish within %d s in %s: for %.1f s of them it waited for a processor, so "
            "that nothing is known of it: try again when the machine is less busy",
            preflight_wall_ms / 1000, in, (double)p->waited_ms / 1000);
    else if (ending == ENDED_LATE)
        snprintf(buf, size, "did not finish within %d s in %s", preflight_wall_ms / 1000, in);
    else if (ending == ENDED_TALKATIVE)
        snprintf(buf, size, "wrote more than %u KiB to the report in %s", REPORT_MAX >> 10, in);
    else if (signo == SIGXCPU)
        snprintf(buf, size, "used more than %d s of processor time in %s", CPU_SECONDS, in);
    else if (signo != 0)
        snprintf(buf, size, "crashed with SIG%s in %s",
                 sigabbrev_np(signo) != NULL ? sigabbrev_np(signo) : "?", in);
    else
        snprintf(buf, size, "ended the process with exit(%d) in %s", WEXITSTATUS(status), in);
}

static void tell(struct preflight *p)
{
    struct report *rep = &p->rep;
    const struct config_plugin *plugin = NULL;
    char stage[48], what[320], who[PATH_MAX + 192] = "the trial of the plugins",
                                              line[PATH_MAX + 768];
    const char *in = describe_stage(rep->stage, stage, sizeof stage);
    struct diag diag;

    for (int i = 0; i < p->cfg->n_plugins && plugin == NULL; i++) {
        if (strcmp(p->cfg->plugin[i].name, rep->plugin) == 0)
            plugin = &p->cfg->plugin[i];
    }
    if (rep->plugin[0] != '\0')
        snprintf(who, sizeof who, "plugin '%s' (%s)", rep->plugin,
                 rep->object[0] != '\0' ? rep->object
                 : plugin != NULL       ? plugin->module
                                        : "?");
    describe_end(p, in, what, sizeof what);
    diag_init(&diag);
    diag_add(&diag, p->cfg->path, plugin != NULL ? plugin->pos.line : 0,
             plugin != NULL ? plugin->pos.column : 0, NULL, "%s %s; %s", who, what, p->consequence);
    diag_format(&diag, 0, line, sizeof line);
    say(rep, line);
    diag_fini(&diag);
    if (p->waited_ms == 0)
        memcpy(rep->culprit, rep->plugin, sizeof rep->culprit);
    if (is_for_log(rep))
        log_error("preflight: %s %s; %s", who, what, p->consequence);
}

const char *preflight_culprit(const struct preflight *p)
{
    return p->rep.culprit;
}

/* ---- The whole ---- */

int preflight_start(const struct config *cfg, const struct setup *setup, struct shm *shm,
                    struct master *m, const struct master_roles *roles, int validate_only,
                    const struct user *user, struct listen_set *listeners, const char *consequence,
                    int state_fd, struct preflight **out)
{
    struct preflight *p = calloc(1, sizeof *p);
    pid_t parent = getpid();
    int fd[2], r;

    if (p == NULL)
        return -ENOMEM;
    if (pipe2(fd, O_CLOEXEC) < 0) {
        r = -errno;
        free(p);
        return r;
    }
    /* Ignored by whoever started us, it would take the children's status away. */
    signal(SIGCHLD, SIG_DFL);
    fflush(NULL);
    p->pid = fork();
    if (p->pid < 0) {
        r = -errno;
        fd_close(&fd[0]);
        fd_close(&fd[1]);
        free(p);
        return r;
    }
    if (p->pid == 0) {
        int status;

        free(p);
        fd_close(&fd[0]);
        if (m != NULL)
            child_close_masters(m);
        if (m != NULL)
            keys_close(m, -1);
        if (listeners != NULL)
            listen_close_others(listeners, -1);
        become_trial(user, parent, m != NULL);
        status = state_fd >= 0 && roles->rehearse != NULL
                     ? roles->rehearse(cfg, setup, shm, fd[1], state_fd)
                     : roles->preflight(cfg, setup, shm, fd[1], validate_only);
        fflush(NULL);
        _exit(status);
    }
    setpgid(p->pid, p->pid); /* whoever is first */
    fd_close(&fd[1]);
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    p->cfg = cfg;
    p->consequence = consequence;
    p->fd = fd[0];
    p->end_ms = clock_mono_ms() + preflight_wall_ms;
    p->hurry_ms = m != NULL ? clock_mono_ms() + MASTER_YIELD_MS : INT64_MAX;
    p->rep.is_quiet = m != NULL;
    *out = p;
    return 0;
}

int preflight_step(struct preflight *p)
{
    bool is_exit_0;
    int r;

    if (p->pid != 0 && !step(p))
        return -EAGAIN;
    is_exit_0 = WIFEXITED(p->status) && WEXITSTATUS(p->status) == 0;
    if (p->ending == ENDED_BY_US)
        return -EINTR;
    r = p->ending == ENDED_BY_ITSELF && p->rep.is_ok && is_exit_0 ? 0 : -ENOEXEC;
    /* A role that has said what is wrong has come to an orderly end. */
    if (r == -ENOEXEC &&
        !(p->rep.had_error && p->ending == ENDED_BY_ITSELF && WIFEXITED(p->status)))
        tell(p);
    return r;
}

pid_t preflight_pid(const struct preflight *p)
{
    return p->pid;
}

const char *preflight_said(const struct preflight *p)
{
    return p->rep.said;
}

void preflight_end(struct preflight **pp)
{
    struct preflight *p = *pp;

    *pp = NULL;
    if (p == NULL)
        return;
    if (p->pid != 0) {
        p->ending = ENDED_BY_US;
        step(p);
    }
    fd_close(&p->fd);
    free(p);
}

int preflight_run(const struct config *cfg, const struct setup *setup, struct shm *shm,
                  const struct master_roles *roles, int validate_only, const struct user *user,
                  struct listen_set *listeners)
{
    struct preflight *p = NULL;
    int r = preflight_start(cfg, setup, shm, NULL, roles, validate_only, user, listeners,
                            "nothing was started", -1, &p);

    if (p == NULL) {
        fprintf(stderr, "bulkhead: cannot try the plugins: %s\n", strerror(-r));
        return r;
    }
    while ((r = preflight_step(p)) == -EAGAIN) {
        /* The end of the file and that of the process are a moment apart. */
        struct pollfd pfd = {.fd = p->fd, .events = POLLIN};

        if (poll(&pfd, 1, TICK_MS) > 0 && (pfd.revents & POLLIN) == 0)
            poll(NULL, 0, 1);
        if (is_stop_pending())
            p->ending = ENDED_BY_US;
    }
    preflight_end(&p);
    return r;
}

int master_preflight(const struct config *cfg, const struct setup *setup, struct shm *shm,
                     const struct master_roles *roles, int validate_only)
{
    struct user user = {.is_set = false};
    struct diag diag;
    int r;

    must(cfg != NULL && roles != NULL);
    diag_init(&diag);
    r = user_find(cfg, &diag, &user);
    diag_print(&diag, stderr);
    diag_fini(&diag);
    if (r == 0)
        r = preflight_run(cfg, setup, shm, roles, validate_only, &user, NULL);
    return r < 0 ? -1 : 0;
}
