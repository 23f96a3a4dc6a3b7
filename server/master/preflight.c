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
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fd.h"
#include "base/must.h"
#include "master/internal.h"
#include "obs/log.h"

#define CPU_SECONDS  10
#define MEMORY_BYTES (4ull << 30)
#define REPORT_MAX   (256u << 10) /* bytes; who says more is stopped */
#define TICK_MS      20           /* a descendant that holds the pipe open may hide the end */

int preflight_wall_ms = 15000;

enum ending { ENDED_BY_ITSELF, ENDED_LATE, ENDED_TALKATIVE, ENDED_BY_US };

struct report {
    char line[PATH_MAX + 256]; /* printable; longer ones are cut */
    size_t len;
    size_t total;
    char plugin[128], stage[32], object[PATH_MAX]; /* where it is */
    bool is_ok;                                    /* the last line was "ok" */
    bool had_error;
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
static void become_trial(const struct user *user, pid_t parent)
{
    setpgid(0, 0);
    child_become(user, parent, false, "preflight");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    set_limits();
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
    } else if (strstr(line, "error: ") != NULL || (rep->had_error && line[0] == ' ')) {
        rep->had_error = true; /* its hint is indented */
        fprintf(stderr, "%s\n", line);
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

/* Reads until the child is gone, by itself or otherwise; its group goes with it. */
static enum ending watch(pid_t pid, int fd, struct report *rep, int *status)
{
    int64_t end_ms = clock_mono_ms() + preflight_wall_ms;
    enum ending ending = ENDED_BY_ITSELF;
    bool is_open = true;
    pid_t r;

    while ((r = waitpid(pid, status, ending == ENDED_BY_ITSELF ? WNOHANG : 0)) == 0 ||
           (r < 0 && errno == EINTR)) {
        struct pollfd pfd = {.fd = is_open ? fd : -1, .events = POLLIN};

        /* The end of the file and that of the process are a moment apart. */
        if (poll(&pfd, 1, is_open ? TICK_MS : 1) > 0)
            is_open = read_report(fd, rep) && rep->total < REPORT_MAX;
        if (is_stop_pending())
            ending = ENDED_BY_US;
        else if (rep->total >= REPORT_MAX)
            ending = ENDED_TALKATIVE;
        else if (clock_mono_ms() >= end_ms)
            ending = ENDED_LATE;
        if (ending != ENDED_BY_ITSELF)
            kill(pid, SIGKILL);
    }
    /* What it left in the pipe; then what it left running, which may hold the other end. */
    while (rep->total < REPORT_MAX && read_report(fd, rep))
        continue;
    if (rep->len > 0)
        end_line(rep);
    kill(-pid, SIGKILL);
    return ending;
}

/* ---- What to tell ---- */

static const char *describe_stage(const char *stage, char *buf, size_t size)
{
    if (strcmp(stage, "load") == 0)
        return "its constructor (dlopen)";
    if (stage[0] == '\0')
        return "an unknown stage";
    snprintf(buf, size, "%s()", stage);
    return buf;
}

static void describe_end(enum ending ending, int status, const char *in, char *buf, size_t size)
{
    int signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

    if (ending == ENDED_LATE)
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

static void tell(const struct config *cfg, const struct report *rep, enum ending ending, int status)
{
    const struct config_plugin *plugin = NULL;
    char stage[48], what[160], who[PATH_MAX + 192] = "the trial of the plugins";
    const char *in = describe_stage(rep->stage, stage, sizeof stage);
    struct diag diag;

    for (int i = 0; i < cfg->n_plugins && plugin == NULL; i++) {
        if (strcmp(cfg->plugin[i].name, rep->plugin) == 0)
            plugin = &cfg->plugin[i];
    }
    if (rep->plugin[0] != '\0')
        snprintf(who, sizeof who, "plugin '%s' (%s)", rep->plugin,
                 rep->object[0] != '\0' ? rep->object
                 : plugin != NULL       ? plugin->module
                                        : "?");
    describe_end(ending, status, in, what, sizeof what);
    diag_init(&diag);
    diag_add(&diag, cfg->path, plugin != NULL ? plugin->pos.line : 0,
             plugin != NULL ? plugin->pos.column : 0, NULL, "%s %s; nothing was started", who,
             what);
    diag_print(&diag, stderr);
    diag_fini(&diag);
    log_error("preflight: %s %s; nothing was started", who, what);
}

/* ---- The whole ---- */

int preflight_run(const struct config *cfg, const struct setup *setup, struct shm *shm,
                  const struct master_roles *roles, int validate_only, const struct user *user,
                  struct listen_set *listeners)
{
    struct report rep = {.len = 0};
    enum ending ending;
    int fd[2], status = 0, r;
    bool is_exit_0;
    pid_t parent = getpid(), pid;

    if (pipe2(fd, O_CLOEXEC) < 0)
        return -errno;
    /* Ignored by whoever started us, it would take the children's status away. */
    signal(SIGCHLD, SIG_DFL);
    fflush(NULL);
    pid = fork();
    if (pid < 0) {
        r = -errno;
        fprintf(stderr, "bulkhead: cannot try the plugins: %s\n", strerror(-r));
        fd_close(&fd[0]);
        fd_close(&fd[1]);
        return r;
    }
    if (pid == 0) {
        fd_close(&fd[0]);
        if (listeners != NULL)
            listen_close_others(listeners, -1);
        become_trial(user, parent);
        status = roles->preflight(cfg, setup, shm, fd[1], validate_only);
        fflush(NULL);
        _exit(status);
    }
    setpgid(pid, pid); /* whoever is first */
    fd_close(&fd[1]);
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    ending = watch(pid, fd[0], &rep, &status);
    fd_close(&fd[0]);

    is_exit_0 = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (ending == ENDED_BY_US)
        r = -EINTR;
    else
        r = ending == ENDED_BY_ITSELF && rep.is_ok && is_exit_0 ? 0 : -ENOEXEC;
    /* A role that has said what is wrong has come to an orderly end. */
    if (r == -ENOEXEC && !(rep.had_error && ending == ENDED_BY_ITSELF && WIFEXITED(status)))
        tell(cfg, &rep, ending, status);
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
