#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fd.h"
#include "conf/config.h"
#include "http/exchange.h"
#include "http/front.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/chain.h"
#include "plugin/eject.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/recover.h"
#include "worker/async.h"
#include "worker/offload.h"
#include "worker/plugins.h"
#include "worker/sinks.h"
#include "worker/watchdog.h"

#define EXIT_NOT_READY 3 /* WORKER_NOT_READY of master.h */
#define EXIT_REPLACE   4 /* WORKER_REPLACE */
#define EVENTS 64

/* What an epoll event is about: small numbers, or a pointer to a paused exchange. */
enum source { SOURCE_SIGNAL, SOURCE_WAKE, SOURCE_LISTENER };

static struct worker {
    const struct config *cfg;
    struct shm_worker *shared;
    struct plugins plugins;
    struct front *front;
    int epoll_fd, signal_fd, wake_fd;
    bool is_draining, must_stop, wants_successor;
    int64_t drain_until_ms;
} worker;

/* ---- what the front asks ---- */

static void watch(int fd, struct exchange *x)
{
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = x};

    epoll_ctl(worker.epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

static void unwatch(int fd)
{
    epoll_ctl(worker.epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- set-up ---- */

static int add_source(int fd, enum source source, int index)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uint64_t)source | (uint64_t)index << 8};

    return epoll_ctl(worker.epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static int open_descriptors(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGUSR1);
    signal(SIGUSR1, SIG_DFL); /* the master ignores it: an ignored signal does not reach a signalfd */
    sigprocmask(SIG_BLOCK, &set, NULL);
    worker.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    worker.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker.epoll_fd < 0 || worker.signal_fd < 0 || worker.wake_fd < 0)
        return -errno;
    if (add_source(worker.signal_fd, SOURCE_SIGNAL, 0) < 0)
        return -errno;
    return add_source(worker.wake_fd, SOURCE_WAKE, 0);
}

static int start(const struct config *cfg, const struct setup *setup, struct shm *shm, int index,
                 const int *listen_fds, struct diag *diag)
{
    static struct front_ops ops = {.on_end = async_forget, .watch = watch, .unwatch = unwatch};
    int r;

    r = open_descriptors();
    if (r == 0)
        r = recover_init(shm, index);
    if (r < 0)
        return r;
    eject_init(worker.wake_fd);
    async_init(host_table(), worker.wake_fd, cfg->limits.request_ms);
    offload_init(host_table());
    sinks_init(host_table(), shm, worker.shared);
    r = watchdog_start(cfg, &worker.shared->call); /* open() may take too long, too */
    if (r < 0)
        return r;
    r = plugins_load(cfg, setup, shm, index, NULL, NULL, diag, &worker.plugins);
    for (int i = 0; r == 0 && i < worker.plugins.n; i++)
        r = instance_open(worker.plugins.inst[i], diag);
    if (r < 0)
        return r;
    ops.instance = worker.plugins.inst;
    r = front_create(cfg, &ops, listen_fds, worker.shared, &worker.front);
    for (int i = 0; r == 0 && i < front_count(worker.front); i++)
        r = add_source(front_poll_fd(worker.front, i), SOURCE_LISTENER, i);
    if (r == 0)
        for (int i = 0; i < worker.plugins.n; i++)
            instance_start(worker.plugins.inst[i]);
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

static void begin_drain(void)
{
    if (worker.is_draining)
        return;
    worker.is_draining = true;
    worker.drain_until_ms = clock_mono_ms() + worker.cfg->limits.drain_ms;
    for (int i = 0; i < worker.plugins.n; i++)
        instance_drain(worker.plugins.inst[i]);
    front_drain(worker.front);
}

/* Outcome Q: without the plugin, until a successor is there. */
static void take_ejected(void)
{
    uint32_t plugin;
    const char *why;

    while (eject_take(&plugin, &why)) {
        if (plugin > 0 && plugin <= (uint32_t)worker.plugins.n)
            instance_eject(worker.plugins.inst[plugin - 1], why);
        else
            log_warn("this worker asks to be replaced: %s", why);
        worker.wants_successor = true;
        begin_drain();
    }
}

static void take_signals(void)
{
    struct signalfd_siginfo si;

    while (read(worker.signal_fd, &si, sizeof si) == sizeof si) {
        if (si.ssi_signo == SIGUSR1)
            log_reopen();
        else if (si.ssi_signo == SIGTERM)
            begin_drain();
        else
            worker.must_stop = true;
    }
}

static void take_wake(void)
{
    uint64_t n;

    if (read(worker.wake_fd, &n, sizeof n) < 0)
        return; /* another wake-up has taken it */
}

static int wait_ms(void)
{
    int ms = front_timeout_ms(worker.front), tickets = async_timeout_ms();

    if (tickets >= 0 && (ms < 0 || tickets < ms))
        ms = tickets;
    if (worker.is_draining && (ms < 0 || ms > 50))
        ms = 50;
    return ms;
}

static void read_clocks(void)
{
    host_loop_mono_ns = clock_mono_ns();
    host_loop_real_ns = clock_real_ns();
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
            case SOURCE_SIGNAL:
                if (ev[i].data.u64 >> 8 == 0) {
                    take_signals();
                    continue;
                }
                break;
            case SOURCE_WAKE:
                if (ev[i].data.u64 >> 8 == 0) {
                    take_wake();
                    continue;
                }
                break;
            case SOURCE_LISTENER:
                if (ev[i].data.u64 >> 8 < 32) {
                    listeners |= 1u << (ev[i].data.u64 >> 8);
                    continue;
                }
                break;
            default:
                break;
            }
            exchange_abort(ev[i].data.ptr);
        }
        async_run();
        async_expire();
        front_run(worker.front, listeners);
        take_ejected();
        if (recover_is_armed()) /* no call runs here: one was left by longjmp() */
            recover_out_of_order(NULL);
        if (worker.is_draining &&
            (front_is_drained(worker.front) || clock_mono_ms() >= worker.drain_until_ms))
            break;
    }
    return 0;
}

int worker_run(const struct config *cfg, const struct setup *setup, struct shm *shm, int index,
               const int *listen_fds, int ready_fd)
{
    char name[16];
    struct diag diag;
    int r;

    snprintf(name, sizeof name, "bh-worker %d", index);
    prctl(PR_SET_NAME, name);
    worker.cfg = cfg;
    worker.shared = &shm->worker[index];
    diag_init(&diag);
    r = start(cfg, setup, shm, index, listen_fds, &diag);
    if (r < 0) {
        report(ready_fd, &diag, r);
        return EXIT_NOT_READY;
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
    }
    /* Connections that outlived the drain are cut by the end of the process; MHD_stop_daemon()
     * would abort on suspended ones. What plugins hold is given back in order all the same. */
    if (r == 0 && front_is_drained(worker.front)) {
        front_destroy(&worker.front);
        plugins_unload(&worker.plugins);
    }
    return r < 0 ? 1 : worker.wants_successor ? EXIT_REPLACE : 0;
}
