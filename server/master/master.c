/*
 * master.c - the master's loop: signals, what came from children, what is due.
 *
 * One thread, which waits for nothing but here. What a phase begins with is in phase.c, what follows
 * from the end of a child in reap.c.
 */
#include "master/master.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/must.h"
#include "ipc/beat.h"
#include "ipc/shm.h"
#include "master/followers.h"
#include "master/internal.h"
#include "master/notify.h"
#include "obs/log.h"
#include "store/memory.h"

#define SLOTS_PER_POST  4
#define RELOAD_TICK_MS  5 /* between two looks at what a reload waits for */
#define ESCROW_RETRY_MS 5 /* a worker's channel is full, or it is not there yet */

/* ---- Signals ---- */

static void stop(struct master *m, int signo)
{
    log_info("SIG%s: stopping%s", sigabbrev_np(signo),
             signo == SIGQUIT || m->phase >= MASTER_DRAINING ? " at once" : "");
    if (m->phase >= MASTER_FORCING)
        phase_out_of_patience(m);
    else if (m->phase == MASTER_DRAINING || signo == SIGQUIT)
        phase_enter(m, MASTER_FORCING);
    else
        phase_enter(m, MASTER_DRAINING);
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
        case SIGCHLD: reap_children(m); break;
        case SIGTERM:
        case SIGINT:
        case SIGQUIT: stop(m, (int)info.ssi_signo); break;
        case SIGHUP:
            if (reload_begin(m, "SIGHUP", RELOAD_ANYWAY, NULL, NULL) == -EBUSY)
                log_warn("SIGHUP: no reload: the server is stopping or being upgraded");
            break;
        case SIGUSR1: reopen_logs(m); break;
        case SIGUSR2: upgrade_begin(m); break;
        default: break;
        }
    }
}

/* ---- The loop ---- */

static void do_what_is_due(struct master *m)
{
    int64_t now = clock_mono_ms();

    give_way(m, now);
    recorder_tick(m, now);
    for (int i = 0; i < m->n_slots; i++) {
        struct child *c = &m->worker[i];

        if (c->state == CHILD_STARTING && c->due_ms <= now && m->phase <= MASTER_SERVING)
            reap_late_worker(m, c);
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
    stuck_tick(m, now);
    log_tell_repeats(false);
    if (escrow_is_waiting(m))
        escrow_deliver(m, now);
    if (m->phase == MASTER_STARTING && posts_count_ready(m) == m->cfg->n_workers) {
        phase_enter(m, MASTER_SERVING);
        posts_tick(m, now);
        reload_tick(m, now); /* a signal may have come meanwhile */
    }
    if (m->phase >= MASTER_DRAINING && m->phase_end_ms <= now)
        phase_out_of_patience(m);
    if ((m->phase == MASTER_DRAINING || m->phase == MASTER_FORCING) &&
        phase_count_workers(m) == 0 && !(m->is_succeeded && escrow_is_waiting(m)))
        phase_enter(m, MASTER_FLUSHING);
    if (m->phase == MASTER_FLUSHING && !child_is_alive(&m->recorder) &&
        !child_is_alive(&m->admin_child) && !child_is_alive(&m->exporter))
        phase_enter(m, MASTER_ENDED);
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
    if (follow_next_ms(m) < at_ms)
        at_ms = follow_next_ms(m);
    if (helper_next_ms(&m->recorder) < at_ms)
        at_ms = helper_next_ms(&m->recorder);
    if (helper_next_ms(&m->admin_child) < at_ms)
        at_ms = helper_next_ms(&m->admin_child);
    if (upgrade_next_ms(m) < at_ms)
        at_ms = upgrade_next_ms(m);
    if (admin_keys_next_ms(m) < at_ms)
        at_ms = admin_keys_next_ms(m);
    if (helper_next_ms(&m->exporter) < at_ms)
        at_ms = helper_next_ms(&m->exporter);
    left_ms = at_ms == INT64_MAX ? 60000 : at_ms - clock_mono_ms();
    if (escrow_is_waiting(m) && left_ms > ESCROW_RETRY_MS)
        left_ms = ESCROW_RETRY_MS;
    if ((m->reload.state != RELOAD_IDLE || m->reload.is_taking) && left_ms > RELOAD_TICK_MS)
        left_ms = RELOAD_TICK_MS;
    return left_ms < 0 ? 0 : left_ms > 60000 ? 60000 : (int)left_ms;
}

static void loop(struct master *m)
{
    static pid_t self; /* not in a register, nor on the stack */
    struct epoll_event event[16];

    self = getpid();
    for (;;) {
        bool has_signals = false;
        int n;

        if (getpid() !=
            self) /* a worker: a plugin's longjmp() threw it back to where it was forked */
            _exit(MASTER_FAILED);
        do_what_is_due(m);
        followers_push(m);
        admin_tell_news(m);
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
                has_signals = true;
            }
        }
        if (has_signals) /* last: it may have to fork, and connections on their way come first */
            read_signals(m);
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
    recorder_start(m);
    if (!posts_start(m))
        phase_fail_start(m);
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
    m->beats = beats_create(); /* without it nobody looks */
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
    beats_destroy(&m->beats);
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
    tzset(); /* or the first Date of each worker does, and reads a file */
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
