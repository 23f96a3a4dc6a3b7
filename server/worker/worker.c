#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fd.h"
#include "base/urgency.h"
#include "conf/config.h"
#include "http/exchange.h"
#include "http/front.h"
#include "ipc/seat.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/alarm.h"
#include "plugin/chain.h"
#include "plugin/eject.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/landing.h"
#include "plugin/park.h"
#include "plugin/recover.h"
#include "plugin/remains.h"
#include "plugin/thread.h"
#include "plugin/trace.h"
#include "tls/set.h"
#include "worker/async.h"
#include "worker/health.h"
#include "worker/internal.h"
#include "worker/offload.h"
#include "worker/outbound.h"
#include "worker/sinks.h"
#include "worker/store.h"
#include "worker/succession.h"
#include "worker/warm.h"
#include "worker/watchdog.h"

#define EVENTS        64
#define TICK_MS       1000 /* health.h */
#define LEAVE_POLL_MS 25
#define CUT_MS        1000 /* less than what the master adds to the time for a drain */

struct worker worker;

/* ---- what the front asks ---- */

static void watch(int fd, struct exchange *x, bool is_half_closed)
{
    struct epoll_event ev = {.events = (is_half_closed ? 0 : EPOLLRDHUP) | EPOLLONESHOT,
                             .data.ptr = x};

    if (epoll_ctl(worker.epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 && errno == EEXIST)
        epoll_ctl(worker.epoll_fd, EPOLL_CTL_MOD, fd, &ev);
}

static void unwatch(int fd)
{
    epoll_ctl(worker.epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- set-up ---- */

int worker_add_source(int fd, enum source source, int index)
{
    struct epoll_event ev = {.events = EPOLLIN,
                             .data.u64 = (uint64_t)source | (uint64_t)index << 8};

    health_expect(fd, ev.data.u64);
    return epoll_ctl(worker.epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

/* In the watchdog's thread, which waits for them: all threads block them. As a handler only in the first
 * instructions of a thread that libc makes for a timer, which would die of SIGTERM. */
static void pass_on(int signo)
{
    static const uint64_t one = 1;
    int saved_errno = errno;

    atomic_fetch_or(&worker.signals, UINT64_C(1) << signo);
    if (write(worker.wake_fd, &one, sizeof one) < 0)
        errno = 0; /* it is awake already */
    errno = saved_errno;
}

static void handle(const sigset_t *set)
{
    struct sigaction sa = {.sa_handler = pass_on, .sa_flags = SA_RESTART | SA_ONSTACK};

    sigfillset(&sa.sa_mask);
    for (int signo = 1; signo < NSIG; signo++)
        if (sigismember(set, signo) == 1)
            sigaction(signo, &sa, NULL);
}

static int open_descriptors(void)
{
    sigset_t set;

    watchdog_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    worker.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker.epoll_fd < 0 || worker.wake_fd < 0)
        return -errno;
    handle(&set); /* the master ignores SIGUSR1: nobody would be told of an ignored signal */
    if (worker_add_source(worker.wake_fd, SOURCE_WAKE, 0) < 0)
        return -errno;
    return worker.channel_fd < 0 ? 0 : worker_add_source(worker.channel_fd, SOURCE_CHANNEL, 0);
}

/* In a fault handler. */
static void note_for_master(void)
{
    const struct shm_call *call = recover_self.call;

    /* The loop stands still, and whatever it was doing is not to blame. */
    if (call != NULL && call != &worker.shared->call)
        atomic_store(&worker.shared->call.fd, atomic_load(&call->fd));
    if (worker.front != NULL)
        front_note_replays(worker.front, worker.shm, (uint32_t)worker.seat->slot);
}

int worker_prepare(int post)
{
    static struct front_ops ops = {.on_end = async_forget, .watch = watch, .unwatch = unwatch};
    const struct worker_seat *seat = worker.seat;
    int n = worker.cfg->n_listeners;

    for (int i = 0; i < seat->n_posts * n;
         i++) /* one of them open here would keep the port alive */
        if (i / n != post && seat->listen_fds[i] >= 0)
            close(seat->listen_fds[i]);
    ops.instance = worker.plugins.inst;
    return front_create(worker.cfg, &ops, seat->listen_fds + post * n, worker.shm,
                        (uint32_t)seat->slot, &worker.next_front);
}

int worker_serve(int post)
{
    char name[16];
    int r = 0;

    snprintf(name, sizeof name, "bh-worker %d", worker.seat->slot);
    prctl(PR_SET_NAME, name); /* until now it was "bh-standby" */
    if (worker.next_front == NULL)
        r = worker_prepare(post);
    if (r < 0)
        return r;
    worker.front = worker.next_front;
    worker.next_front = NULL;
    front_use_tls(worker.front, worker.tls);
    for (int i = 0; r == 0 && i < front_count(worker.front); i++)
        r = worker_add_source(front_poll_fd(worker.front, i), SOURCE_LISTENER, i);
    atomic_store(&worker.shared->metrics.is_serving, 1);
    atomic_store(&worker.shared->serving_ns, clock_mono_ns());
    if (r == 0)
        for (int i = 0; i < worker.plugins.n; i++)
            if (worker.plugins.inst[i] != NULL)
                instance_start(worker.plugins.inst[i]);
    return r;
}

int worker_load_keys(int fd, struct diag *diag)
{
    struct tls_set *set;
    int r = tls_set_load(worker.cfg, fd, diag, NULL, &set);

    if (r < 0)
        return r;
    tls_set_put(&worker.tls);
    worker.tls = set;
    if (worker.front != NULL)
        front_use_tls(worker.front, set);
    return 0;
}

static int start(const struct setup *setup, struct diag *diag)
{
    const struct config *cfg = worker.cfg;
    int r;

    r = open_descriptors();
    if (r == 0)
        r = recover_init(worker.shm, worker.seat->slot);
    if (r < 0)
        return r;
    park_init(worker.shm, (uint32_t)worker.seat->slot, worker.channel_fd, note_for_master,
              recover_stop_signal());
    eject_init(worker.wake_fd);
    thread_init(cfg, worker.shared);
    trace_init(cfg, worker.shared);
    async_init(host_table(), worker.wake_fd, cfg->limits.request_ms);
    offload_init(host_table(), &worker.shared->call);
    sinks_init(host_table(), worker.shm, worker.shared);
    outbound_init(host_table());
    r = store_open(host_table(), cfg, worker.seat->store, diag);
    if (r < 0)
        return r;
    if (worker.seat->keys_fd >= 0) {
        r = worker_load_keys(worker.seat->keys_fd, diag);
        close(worker.seat->keys_fd); /* plugins have no business with it */
    }
    if (r < 0)
        return r;
    r = watchdog_start(cfg, &worker.shared->call, pass_on); /* open() may take too long, too */
    if (r < 0)
        return r;
    r = plugins_load(cfg, setup, worker.shm, worker.seat->slot, NULL, NULL, diag, &worker.plugins);
    for (int i = 0; r == 0 && i < worker.plugins.n; i++)
        if (worker.plugins.inst[i] != NULL)
            r = instance_open(worker.plugins.inst[i], diag);
    if (r < 0)
        return r;
    if (!worker.seat->stands_by) {
        urgency_wake_first();
        return worker_serve(worker.seat->post);
    }
    if (worker.seat->post >= 0)
        r = worker_prepare(worker.seat->post);
    if (r == 0)
        warm_up(cfg, worker.shm, (uint32_t)worker.seat->slot);
    /* Sooner than the master is told: its order is to be obeyed at once. */
    thread_restore_urgency();
    urgency_wake_first();
    return r;
}

static void report(int ready_fd, const struct diag *diag, int r)
{
    char text[1024];

    if (diag->n > 0)
        diag_format(diag, 0, text, sizeof text);
    else
        snprintf(text, sizeof text, "error: cannot start: %s", strerror(-r));
    fd_write_all(ready_fd, text, strlen(text));
}

/* ---- the loop ---- */

void worker_begin_drain(void)
{
    if (worker.is_draining)
        return;
    worker.is_draining = true;
    if (!worker.is_leaving)
        worker_prepare_to_leave();
    if (worker.front == NULL)
        worker.must_stop = true; /* it only stood by */
    else
        front_drain(worker.front);
}

void worker_prepare_to_leave(void)
{
    worker.leave_until_ms = clock_mono_ms() + worker.cfg->limits.drain_ms;
    for (int i = 0; i < worker.plugins.n; i++)
        if (worker.plugins.inst[i] != NULL)
            instance_drain(worker.plugins.inst[i]);
}

/* Outcome Q: without the plugin, until a successor is there. */
static void take_ejected(void)
{
    uint32_t plugin;
    const char *why;

    while (eject_take(&plugin, &why)) {
        if (plugin > 0 && plugin <= (uint32_t)worker.plugins.n &&
            worker.plugins.inst[plugin - 1] != NULL)
            instance_eject(worker.plugins.inst[plugin - 1], why);
        else
            log_warn("this worker asks to be replaced: %s", why);
        succession_ask(plugin, why);
    }
}

static void take_wake(void)
{
    uint64_t n, signals;

    if (read(worker.wake_fd, &n, sizeof n) < 0)
        return; /* another wake-up has taken it */
    signals = atomic_exchange(&worker.signals, 0);
    if ((signals >> SIGUSR1 & 1) != 0)
        log_reopen();
    if ((signals >> SIGTERM & 1) != 0)
        worker_begin_drain();
    if ((signals >> SIGQUIT & 1) != 0)
        worker.must_stop = true;
}

static int wait_ms(void)
{
    int ms = worker.front != NULL ? front_timeout_ms(worker.front) : -1;
    int tickets = async_timeout_ms(), alarms = alarm_timeout_ms();
    int store = store_timeout_ms(), outbound = outbound_timeout_ms();
    int most = worker.gives_on                           ? 1
               : worker.is_draining || worker.is_leaving ? LEAVE_POLL_MS
                                                         : TICK_MS;

    if (tickets >= 0 && (ms < 0 || tickets < ms))
        ms = tickets;
    if (alarms >= 0 && (ms < 0 || alarms < ms))
        ms = alarms;
    if (store >= 0 && (ms < 0 || store < ms))
        ms = store;
    if (outbound >= 0 && (ms < 0 || outbound < ms))
        ms = outbound;
    return ms < 0 || ms > most ? most : ms;
}

static void read_clocks(void)
{
    host_loop_mono_ns = clock_mono_ns();
    host_loop_real_ns = clock_real_ns();
}

/* Plugins are closed after the last of their calls, as after their last request. */
static bool is_drained(void)
{
    return front_is_drained(worker.front) && plugins_jobs(&worker.plugins) == 0;
}

/* A drain goes on. When its time is over what is left is cut, and gets a moment to end in order. */
static bool may_linger(void)
{
    int n;

    if (clock_mono_ms() < worker.leave_until_ms)
        return true;
    if (worker.has_cut || front_is_drained(worker.front))
        return false; /* jobs that go on are left behind: to close the others takes time, too */
    worker.has_cut = true;
    worker.leave_until_ms = clock_mono_ms() + CUT_MS;
    n = front_cut(worker.front);
    if (n > 0)
        log_warn("%d request%s had not ended within limits.timeouts.drain, and %s cut", n,
                 n == 1 ? "" : "s", n == 1 ? "was" : "were");
    return true;
}

/* 0 when it was told to stop, -errno when the loop cannot go on. */
static int serve(void)
{
    struct epoll_event ev[EVENTS];

    read_clocks();
    while (!worker.must_stop) {
        int n = epoll_wait(worker.epoll_fd, ev, EVENTS, wait_ms());
        unsigned listeners = 0;

        if (n < 0 && errno != EINTR)
            return -errno; /* a plugin has closed our descriptor */
        read_clocks();
        for (int i = 0; i < n; i++) {
            switch (ev[i].data.u64 & 0xff) {
            case SOURCE_WAKE:
                if (ev[i].data.u64 >> 8 == 0) {
                    take_wake();
                    continue;
                }
                break;
            case SOURCE_CHANNEL:
                if (ev[i].data.u64 >> 8 == 0) {
                    succession_read();
                    continue;
                }
                break;
            case SOURCE_STORE:
                if (ev[i].data.u64 >> 8 == 0) {
                    store_wake();
                    continue;
                }
                break;
            case SOURCE_OUTBOUND:
                outbound_event((int)(ev[i].data.u64 >> 8), ev[i].events);
                continue;
            case SOURCE_LISTENER:
                if (ev[i].data.u64 >> 8 < 32) {
                    listeners |= 1u << (ev[i].data.u64 >> 8);
                    continue;
                }
                break;
            default: break;
            }
            exchange_hang_up(ev[i].data.ptr, (ev[i].events & (EPOLLHUP | EPOLLERR)) != 0);
        }
        store_read(); /* first: what it brings may resume requests, in this turn */
        async_run();
        async_expire();
        alarm_run();
        if (worker.front != NULL)
            front_run(worker.front, listeners);
        store_turn();
        outbound_turn();
        landing_settle();
        remains_settle();
        take_ejected();
        if (!health_tick(host_loop_mono_ns / 1000000))
            return -EBADF;
        if (recover_is_armed()) /* no call runs here: one was left by longjmp() */
            recover_out_of_order(NULL);
        if (worker.is_leaving && !worker.is_draining)
            succession_give();
        if ((worker.is_draining || worker.is_leaving) && worker.front != NULL &&
            (is_drained() || !may_linger()))
            break;
    }
    return 0;
}

int worker_run(const struct config *cfg, const struct setup *setup, struct shm *shm,
               const struct worker_seat *seat)
{
    int ready_fd = seat->ready_fd;
    struct diag diag;
    int r;

    worker.cfg = cfg;
    worker.shm = shm;
    worker.seat = seat;
    worker.channel_fd = seat->channel_fd;
    worker.shared = &shm->worker[seat->slot];
    diag_init(&diag);
    metrics_begin(shm, (uint32_t)seat->slot);
    health_init(worker.shared, cfg);
    r = start(setup, &diag);
    if (r < 0) {
        report(ready_fd, &diag, r);
        return WORKER_NOT_READY;
    }
    diag_fini(&diag);
    if (fd_write_all(ready_fd, "1", 1) < 0)
        log_warn("the master does not listen");
    close(ready_fd);

    r = serve();
    if (r < 0) {
        log_error("the event loop cannot go on: %s (a descriptor closed behind its back?)",
                  strerror(-r));
        chain_blame_last();
        park(NULL);
    }
    /* Connections that outlived the drain are cut by the end of the process; MHD_stop_daemon()
     * would abort on suspended ones. What plugins hold is given back in order all the same. */
    urgency_wake_last();
    if (r == 0 && (worker.front == NULL || front_is_drained(worker.front))) {
        if (worker.front != NULL)
            front_destroy(&worker.front);
        plugins_unload(&worker.plugins);
    }
    log_tell_repeats(true);
    return r < 0 ? 1 : worker.wants_successor ? WORKER_REPLACE : WORKER_STOPPED;
}
