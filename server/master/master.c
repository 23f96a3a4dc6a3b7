/*
 * master.c - the life of the server: start, watch over the children, stop.
 *
 * One thread, one loop; what it reads are signals and the few bytes of a worker that is ready.
 * What a newcomer would get wrong: children that ended are looked for by pid, each; waitpid(-1)
 * would steal from whoever else has children in this process.
 */
#include "master/master.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/must.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "master/notify.h"
#include "obs/log.h"
#include "store/memory.h"

#define FORCE_MS        1000 /* from SIGQUIT to SIGKILL */
#define DRAIN_EXTRA_MS  2000 /* beyond limits.drain_ms, which is the workers' own */
#define SLOTS_PER_POST  4
#define FLUSH_MS        5000 /* for the recorder's last lines */
#define RELOAD_TICK_MS  5    /* between two looks at what a reload waits for */
#define ESCROW_RETRY_MS 5    /* a worker's channel is full, or it is not there yet */

static const char *const phase_names[] = {
    [MASTER_STARTING] = "starting", [MASTER_SERVING] = "serving",   [MASTER_DRAINING] = "draining",
    [MASTER_FORCING] = "forcing",   [MASTER_FLUSHING] = "flushing", [MASTER_ENDED] = "ended",
};

const char *phase_name(enum master_phase phase)
{
    return phase_names[phase];
}

/* ---- Phases ---- */

static void signal_workers(struct master *m, int signo)
{
    for (int i = 0; i < m->n_slots; i++)
        /* One that stands by has nothing to finish. */
        child_kill(&m->worker[i], m->worker[i].duty == DUTY_STANDBY ? SIGQUIT : signo);
}

static int count_workers(const struct master *m)
{
    int n = 0;

    for (int i = 0; i < m->n_slots; i++)
        n += child_is_alive(&m->worker[i]);
    return n;
}

static void enter(struct master *m, enum master_phase phase)
{
    int64_t now = clock_mono_ms();

    must(phase > m->phase);
    log_debug("master: %s -> %s", phase_names[m->phase], phase_names[phase]);
    m->phase = phase;
    switch (phase) {
    case MASTER_STARTING: break;
    case MASTER_SERVING:
        if (m->predecessor_fd >= 0) /* not sooner: until now it was the old master's */
            control_open(m);
        watch_update(m);
        watchdog_saw_turn(m, now);
        admin_start(m);
        exporter_start(m);
        events_add(&m->events, EVENT_STARTED, NULL, "the server serves");
        if (m->roles->interrupted != NULL && m->roles->interrupted[0] != '\0') {
            log_warn("plugin '%s' was being rolled out when the server ended: it is the version "
                     "before that serves",
                     m->roles->interrupted);
            events_add(&m->events, EVENT_ROLLOUT_ABORTED, m->roles->interrupted,
                       "it was being rolled out when the server ended: the version before serves");
        }
        kept_save(m, &m->overlay, NULL);
        master_announce(m);
        if (m->predecessor_fd >= 0)
            upgrade_announce(m); /* the old one tells systemd */
        else
            notify_systemd("READY=1");
        break;
    case MASTER_DRAINING:
    case MASTER_FORCING:
        reload_abandon(m, "the server stops");
        if (m->is_succeeded) {
            listen_leave_paths(&m->listeners);
            admin_stop(m);
        } else
            notify_systemd("STOPPING=1");
        if (!m->is_succeeded)
            listen_shut_door(&m->listeners, NULL);
        listen_close(&m->listeners);
        if (m->is_succeeded && phase == MASTER_DRAINING)
            posts_dismiss_all(m);
        else
            signal_workers(m, phase == MASTER_DRAINING ? SIGTERM : SIGQUIT);
        m->phase_end_ms = now + (phase == MASTER_DRAINING
                                     ? (int64_t)m->cfg->limits.drain_ms + DRAIN_EXTRA_MS
                                     : FORCE_MS);
        break;
    case MASTER_FLUSHING:
        /* Not sooner: it writes out what the workers left. */
        if (m->recorder.state == CHILD_WAITING)
            m->recorder.state = CHILD_DOWN;
        child_kill(&m->recorder, SIGTERM);
        admin_stop(m);
        exporter_stop(m);
        m->phase_end_ms = now + FLUSH_MS;
        break;
    case MASTER_ENDED:
        log_tell_repeats(true);
        log_info("stopped");
        break;
    }
}

void master_give_way(struct master *m)
{
    if (m->phase == MASTER_SERVING)
        enter(m, MASTER_DRAINING);
}

static void fail_start(struct master *m)
{
    m->exit_status = MASTER_FAILED;
    enter(m, MASTER_FORCING);
}

static void run_out_of_patience(struct master *m)
{
    if (m->phase == MASTER_FLUSHING) {
        log_warn(
            "the recorder, the exporter or the admin process did not finish within %d ms: killed",
            FLUSH_MS);
        child_kill(&m->exporter, SIGKILL);
        child_kill(&m->recorder, SIGKILL);
        child_kill(&m->admin_child, SIGKILL);
    }
    for (int i = 0; i < m->n_slots; i++) {
        char where[512];

        if (!child_is_alive(&m->worker[i]))
            continue;
        death_where(m, i, where, sizeof where);
        log_warn("worker %d did not finish in time (%s): killed", i, where);
        child_kill(&m->worker[i], SIGKILL);
    }
    m->phase_end_ms = INT64_MAX; /* nothing survives SIGKILL */
}

/* ---- Children that end ---- */

static void worker_not_ready(struct master *m, struct child *c, const char *why)
{
    if (m->phase == MASTER_STARTING) {
        master_say(m, "worker %d is not ready: %s; nothing was started", c->index, why);
        fail_start(m);
    } else {
        log_error("worker %d is not ready: %s", c->index, why);
    }
}

/* An end that nobody asked for. Says in *reason, for the log, what it was. */
static void account_for(struct master *m, struct child *c, pid_t pid, int status, char *reason,
                        size_t size)
{
    bool is_in_plugin = atomic_load(&m->shm->worker[c->index].call.plugin) != 0;
    bool is_exit = WIFEXITED(status) && !is_in_plugin;

    death_describe(status, reason, size);
    if (is_exit && WEXITSTATUS(status) == WORKER_NOT_READY && c->message_len > 0)
        snprintf(reason, size, "%s", c->message);
    else if (is_exit && WEXITSTATUS(status) == WORKER_REPLACE)
        log_warn("worker %d (pid %d) asked to be replaced", c->index, (int)pid);
    else if (is_exit && WEXITSTATUS(status) == WORKER_STOPPED)
        log_warn("worker %d (pid %d) ended by itself", c->index, (int)pid);
    else
        death_charge(m, c->index, pid, status, NULL, 0);
}

static void worker_ended(struct master *m, struct child *c, pid_t pid, int status, bool was_serving)
{
    char reason[CHILD_MESSAGE] = "crashed";
    enum child_duty was = c->duty;
    int post = c->post;
    bool has_stopped = WIFEXITED(status) && WEXITSTATUS(status) == WORKER_STOPPED;
    /* A SIGTERM that comes before the worker is prepared for it kills; it was asked to end. */
    bool is_fine = c->was_told_to_end || (was == DUTY_LEAVING && has_stopped) ||
                   (m->phase >= MASTER_DRAINING &&
                    (has_stopped || (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)));

    escrow_take_back(m, c);
    posts_read_last(m, c);
    escrow_taken(m, c);
    log_debug("worker %d (pid %d): %s -> %s", c->index, (int)pid, duty_name(was),
              duty_name(DUTY_NONE));
    c->duty = DUTY_NONE;
    c->post = -1;
    if (!is_fine)
        account_for(m, c, pid, status, reason, sizeof reason);
    if (!is_fine || was == DUTY_PARKED)
        events_add(&m->events, EVENT_WORKER_ENDED, NULL, "worker %d (pid %d) %s", c->index,
                   (int)pid, reason);
    history_add(m, c, pid, is_fine && was != DUTY_PARKED ? "ended as it was told to" : reason);
    death_clear(m, c->index);
    if (m->phase >= MASTER_DRAINING)
        return;
    if (was == DUTY_CANDIDATE) {
        if (!is_fine || m->reload.state >= RELOAD_PREPARING)
            reload_candidate_ended(m, reason);
        return;
    }
    if (!was_serving && (!is_fine || was == DUTY_PARKED))
        worker_not_ready(m, c, reason);
    if (m->phase == MASTER_STARTING && was_serving) {
        master_say(m, "worker %d %s while the others were starting; nothing was started", c->index,
                   reason);
        fail_start(m);
    }
    if (m->phase == MASTER_SERVING)
        posts_ended(m, c, was, post, was_serving, "it was not ready");
}

static void start_recorder_later(struct master *m, const char *reason)
{
    struct child *c = &m->recorder;
    int64_t now = clock_mono_ms();
    uint32_t delay_ms = respawn_ended(&c->respawn, now, reason == NULL);

    c->state = CHILD_WAITING;
    c->due_ms = now + delay_ms;
    if (delay_ms == 0)
        log_info("the recorder is started again");
    else
        log_error("the recorder is started again in %u ms: %s", delay_ms,
                  reason != NULL ? reason : "it ended too often");
}

static void start_recorder(struct master *m)
{
    int r;

    respawn_started(&m->recorder.respawn, clock_mono_ms());
    r = child_start(m, &m->recorder, -1, m->generation);
    if (r < 0)
        start_recorder_later(m, strerror(-r));
}

static void recorder_ended(struct master *m, int status)
{
    char how[64];

    if (m->phase >= MASTER_FLUSHING)
        return;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && m->recorder.gen != m->generation) {
        start_recorder(m); /* it was told to make room */
        return;
    }
    death_describe(status, how, sizeof how);
    log_error("the recorder %s", how);
    start_recorder_later(m, NULL);
}

static void reap(struct master *m)
{
    bool was_serving;
    int status;

    upgrade_reap(m);
    for (int i = 0; i < m->n_slots; i++) {
        pid_t pid = m->worker[i].pid;

        if (child_reap(&m->worker[i], &status, &was_serving))
            worker_ended(m, &m->worker[i], pid, status, was_serving);
    }
    if (child_reap(&m->recorder, &status, &was_serving))
        recorder_ended(m, status);
    if (child_reap(&m->admin_child, &status, &was_serving))
        admin_ended(m, status);
    if (child_reap(&m->exporter, &status, &was_serving))
        exporter_ended(m, status);
}

/* ---- Signals ---- */

static void stop(struct master *m, int signo)
{
    log_info("SIG%s: stopping%s", sigabbrev_np(signo),
             signo == SIGQUIT || m->phase >= MASTER_DRAINING ? " at once" : "");
    if (m->phase >= MASTER_FORCING)
        run_out_of_patience(m);
    else if (m->phase == MASTER_DRAINING || signo == SIGQUIT)
        enter(m, MASTER_FORCING);
    else
        enter(m, MASTER_DRAINING);
}

static void reopen_logs(struct master *m)
{
    int r = log_reopen();

    if (r < 0)
        log_error("cannot open %s anew: %s", m->cfg->log.path, strerror(-r));
    child_kill(&m->recorder, SIGUSR1);
    child_kill(&m->admin_child, SIGUSR1);
    child_kill(&m->exporter, SIGUSR1);
    for (int i = 0; i < m->n_slots; i++)
        child_kill(&m->worker[i], SIGUSR1);
}

static void read_signals(struct master *m)
{
    struct signalfd_siginfo info;

    while (m->phase != MASTER_ENDED && read(m->signal_fd, &info, sizeof info) == sizeof info) {
        switch (info.ssi_signo) {
        case SIGCHLD: reap(m); break;
        case SIGTERM:
        case SIGINT:
        case SIGQUIT: stop(m, (int)info.ssi_signo); break;
        case SIGHUP:
            if (reload_begin(m, "SIGHUP", RELOAD_ANYWAY, NULL, NULL) == -EBUSY)
                log_warn("SIGHUP: no reload: the server is starting, stopping or being upgraded");
            break;
        case SIGUSR1: reopen_logs(m); break;
        case SIGUSR2: upgrade_begin(m); break;
        default: break;
        }
    }
}

/* ---- The loop ---- */

static void late_worker(struct master *m, struct child *c)
{
    char where[512];
    char why[640];

    death_where(m, c->index, where, sizeof where);
    snprintf(why, sizeof why, "it said nothing for %d ms (%s)", MASTER_READY_MS, where);
    if (c->duty == DUTY_CANDIDATE)
        reload_candidate_ended(m, why);
    else
        worker_not_ready(m, c, why);
    child_kill(c, SIGKILL); /* the rest when it is reaped */
    c->due_ms = INT64_MAX;
}

static void do_what_is_due(struct master *m)
{
    int64_t now = clock_mono_ms();

    if (m->recorder.state == CHILD_WAITING && m->recorder.due_ms <= now)
        start_recorder(m);
    for (int i = 0; i < m->n_slots; i++) {
        struct child *c = &m->worker[i];

        if (c->state == CHILD_STARTING && c->due_ms <= now && m->phase <= MASTER_SERVING)
            late_worker(m, c);
    }
    posts_tick(m, now);
    keys_tick(m, now);
    upgrade_tick(m, now);
    reload_tick(m, now);
    rollout_tick(m, now);
    events_look(m, now);
    watch_tick(m, now);
    watchdog_tick(m, now);
    admin_tick(m, now);
    exporter_tick(m, now);
    log_tell_repeats(false);
    if (escrow_is_waiting(m))
        escrow_deliver(m, now);
    if (m->phase == MASTER_STARTING && posts_count_ready(m) == m->cfg->n_workers) {
        enter(m, MASTER_SERVING);
        posts_tick(m, now);
    }
    if (m->phase >= MASTER_DRAINING && m->phase_end_ms <= now)
        run_out_of_patience(m);
    if ((m->phase == MASTER_DRAINING || m->phase == MASTER_FORCING) && count_workers(m) == 0 &&
        !(m->is_succeeded && escrow_is_waiting(m)))
        enter(m, MASTER_FLUSHING);
    if (m->phase == MASTER_FLUSHING && !child_is_alive(&m->recorder) &&
        !child_is_alive(&m->admin_child) && !child_is_alive(&m->exporter))
        enter(m, MASTER_ENDED);
}

/* For epoll_wait(): until something is due. */
static int time_left_ms(const struct master *m)
{
    int64_t at_ms = m->phase >= MASTER_DRAINING ? m->phase_end_ms : INT64_MAX, left_ms;
    int64_t next_ms = posts_next_ms(m);

    if (next_ms < at_ms)
        at_ms = next_ms;
    if (watchdog_next_ms(m) < at_ms)
        at_ms = watchdog_next_ms(m);
    if (watch_next_ms(m) < at_ms)
        at_ms = watch_next_ms(m);
    if (log_next_ms() < at_ms)
        at_ms = log_next_ms();
    if (rollout_next_ms(m) < at_ms)
        at_ms = rollout_next_ms(m);
    if (keys_next_ms(m) < at_ms && m->phase < MASTER_DRAINING)
        at_ms = keys_next_ms(m);
    if (m->recorder.state == CHILD_WAITING && m->recorder.due_ms < at_ms)
        at_ms = m->recorder.due_ms;
    if (admin_next_ms(m) < at_ms)
        at_ms = admin_next_ms(m);
    if (exporter_next_ms(m) < at_ms)
        at_ms = exporter_next_ms(m);
    left_ms = at_ms == INT64_MAX ? 60000 : at_ms - clock_mono_ms();
    if (escrow_is_waiting(m) && left_ms > ESCROW_RETRY_MS)
        left_ms = ESCROW_RETRY_MS;
    if (m->reload.state != RELOAD_IDLE && left_ms > RELOAD_TICK_MS)
        left_ms = RELOAD_TICK_MS;
    return left_ms < 0 ? 0 : left_ms > 60000 ? 60000 : (int)left_ms;
}

static void loop(struct master *m)
{
    static pid_t self; /* not in a register, nor on the stack */
    struct epoll_event event[16];

    self = getpid();
    for (;;) {
        int n;

        if (getpid() !=
            self) /* a worker: a plugin's longjmp() threw it back to where it was forked */
            _exit(MASTER_FAILED);
        do_what_is_due(m);
        publish_workers(m);
        if (m->phase == MASTER_ENDED)
            return;
        n = epoll_wait(m->epoll_fd, event, 16, time_left_ms(m));
        for (int i = 0; i < n; i++) {
            uint32_t which = event[i].data.u32;

            if (which == MASTER_CONTROL_EVENT) {
                control_run(m);
            } else if (which == MASTER_ADMIN_EVENT) {
                admin_read(m);
            } else if (which == MASTER_WATCH_EVENT) {
                watch_read(m);
            } else if (which == MASTER_UPGRADE_EVENT) {
                upgrade_read(m);
            } else if (which < (uint32_t)m->n_slots) {
                bool was_running = m->worker[which].state == CHILD_RUNNING;

                child_read_ready(&m->worker[which]);
                if (!was_running && m->worker[which].state == CHILD_RUNNING)
                    posts_ready(m, &m->worker[which]);
            } else if ((which & MASTER_CHANNEL_EVENT) != 0 &&
                       (which & ~MASTER_CHANNEL_EVENT) < (uint32_t)m->n_slots) {
                posts_read_channel(m, &m->worker[which & ~MASTER_CHANNEL_EVENT]);
            } else if (which == MASTER_SIGNAL_EVENT) {
                read_signals(m);
            }
        }
    }
}

/* ---- The whole ---- */

static int open_loop(struct master *m, const sigset_t *signals)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = MASTER_SIGNAL_EVENT};

    m->signal_fd = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
    m->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (m->signal_fd < 0 || m->epoll_fd < 0 ||
        epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, m->signal_fd, &event) < 0) {
        master_say(m, "cannot wait for signals: %s", strerror(errno));
        return -errno;
    }
    return 0;
}

static void start_children(struct master *m)
{
    start_recorder(m);
    if (!posts_start(m))
        fail_start(m);
}

static void set_mask(sigset_t *signals, sigset_t *before)
{
    static const int mine[] = {SIGCHLD, SIGTERM, SIGINT,  SIGQUIT,
                               SIGHUP,  SIGUSR1, SIGUSR2, SIGPIPE};

    sigemptyset(signals);
    for (size_t i = 0; i < sizeof mine / sizeof mine[0]; i++)
        sigaddset(signals, mine[i]);
    sigprocmask(SIG_BLOCK, signals, before);
}

static int master_init(struct master *m, const struct config *cfg, const struct setup *setup,
                       const struct master_roles *roles)
{
    *m = (struct master){.cfg = cfg,
                         .setup = setup,
                         .roles = roles,
                         .exit_status = MASTER_STOPPED,
                         .epoll_fd = -1,
                         .signal_fd = -1,
                         .upgrade.channel_fd = -1,
                         .inherited.channel_fd = -1,
                         .predecessor_fd = -1};
    m->listeners.cfg = cfg;
    control_init(&m->control);
    watch_init(&m->watch);
    history_init(&m->history);
    watchdog_init(m);
    admin_init(&m->admin);
    rollout_init(m);
    bans_load(cfg, &m->bans);
    if (roles->overlay != NULL) { /* it has been laid over cfg already */
        m->overlay = *roles->overlay;
        *roles->overlay = (struct overlay){.n = 0};
        m->kept = strdup("");
    }
    /* calloc(): most of a child is the memory of its ends, which most never need. */
    /* After a reload for each post one that serves, and several that finish what they have begun. */
    m->n_slots = SLOTS_PER_POST * cfg->n_workers + 2;
    m->worker = calloc((size_t)m->n_slots, sizeof m->worker[0]);
    m->post = calloc((size_t)cfg->n_workers, sizeof m->post[0]);
    m->generation = calloc(1, sizeof *m->generation);
    if (m->worker == NULL || m->post == NULL || m->generation == NULL) {
        free(m->worker);
        free(m->post);
        free(m->generation);
        free(m->kept);
        return -ENOMEM;
    }
    *m->generation = (struct generation){
        .number = 1, .cfg = cfg, .setup = setup, .is_borrowed = true, .keys.fd = -1};
    child_init(&m->recorder, CHILD_RECORDER, cfg);
    child_init(&m->admin_child, CHILD_ADMIN, cfg);
    child_init(&m->exporter, CHILD_EXPORTER, cfg);
    for (int i = 0; i < m->n_slots; i++)
        child_init(&m->worker[i], i, cfg);
    posts_init(m);
    return 0;
}

static void master_fini(struct master *m)
{
    listen_close(&m->listeners);
    control_close(&m->control);
    admin_close(m);
    watch_close(&m->watch);
    fd_close(&m->epoll_fd);
    fd_close(&m->signal_fd);
    escrow_close(m);
    fd_close(&m->upgrade.channel_fd);
    fd_close(&m->predecessor_fd);
    for (int i = 0; i < m->n_slots; i++) {
        fd_close(&m->worker[i].channel_fd);
        fd_close(&m->worker[i].far_fd);
    }
    log_follow(NULL);
    log_count_in(NULL);
    shm_destroy(&m->shm);
    store_memory_destroy(&m->store);
    reload_fini(m);
    rollout_fini(m);
    free(m->worker);
    free(m->post);
}

int master_run(const struct config *cfg, const struct setup *setup,
               const struct master_roles *roles)
{
    sigset_t signals, before;
    struct master m;
    int r;

    must(cfg != NULL && roles != NULL && cfg->n_workers > 0);
    r = log_open(cfg->log.path, cfg->log.level, (enum log_format)cfg->log.format);
    if (r < 0) {
        fprintf(stderr, "bulkhead: cannot open the error log %s: %s (logs.error.path in %s)\n",
                cfg->log.path, strerror(-r), cfg->path);
        return MASTER_FAILED;
    }
    log_set_role("master");
    log_limit_repeats(cfg->log.repeats);
    r = master_init(&m, cfg, setup, roles);
    if (r < 0)
        return MASTER_FAILED;
    /* Before anything is made that a signal's default action would leave behind. */
    set_mask(&signals, &before);

    r = master_prepare(&m);
    if (r == 0)
        r = open_loop(&m, &signals);
    if (r == 0)
        r = preflight_run(cfg, setup, m.shm, roles, 0, &m.user, &m.listeners);
    if (r ==
        0) /* not sooner: the preflight process, which runs plugins' code, need not have them */
        r = keys_open(&m);
    if (r == 0 && m.predecessor_fd < 0)
        r = control_open(&m);
    if (r == 0) {
        start_children(&m);
        loop(&m);
    } else if (r != -EINTR) { /* that is a signal to stop */
        m.exit_status = MASTER_FAILED;
    }
    master_fini(&m);
    /* One that came last must not turn a good end into a death. */
    while (sigtimedwait(&signals, NULL, &(struct timespec){0}) > 0)
        continue;
    sigprocmask(SIG_SETMASK, &before, NULL);
    return m.exit_status;
}
