#include "admin/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "admin/internal.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/urgency.h"
#include "conf/config.h"
#include "ipc/beat.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "tls/apart.h"
#include "tls/set.h"

#define TICK_MS  500
#define LAST_MS  3000 /* for what is about to be answered when we end */
#define FRESH_MS 500  /* for who has connected, and may be about to ask */

enum { EVENT_LISTEN, EVENT_HTTP, EVENT_VISITORS, EVENT_MASTER, EVENT_SIGNAL };

/* It talks to strangers: what it need not be able to do, it can't. Not even with a fault in it should a
 * stray write reach the workers; nor may others of its user look into it. What it counts lies behind the rest. */
static void harden(const struct shm *shm)
{
    const struct rlimit no_core = {0, 0};

    log_count_in(NULL); /* it could not write there */
    mprotect((void *)(uintptr_t)shm, (size_t)((const char *)shm->admin - (const char *)shm),
             PROT_READ);
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    setrlimit(RLIMIT_CORE, &no_core);
}

static int take_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
        return -errno;
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int watch(const struct admin *a, int fd, uint32_t what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = what};

    return epoll_ctl(a->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Of the bundle that the master has made, and has had looked at. */
static int open_tls(struct admin *a, const struct admin_seat *seat)
{
    struct config_listener listener = a->cfg->admin.listener;
    struct config only = apart_config(a->cfg, &listener);
    int fd = seat->keys_fd, r;

    if (!listener.tls.is_on)
        return 0;
    r = tls_set_load(&only, fd, NULL, NULL, &a->tls);
    fd_close(&fd);
    if (listener.tls.hsts.max_age_ms > 0) /* RFC 6797 6.1 */
        snprintf(a->hsts, sizeof a->hsts, "max-age=%llu%s%s",
                 (unsigned long long)(listener.tls.hsts.max_age_ms / 1000),
                 listener.tls.hsts.subdomains ? "; includeSubDomains" : "",
                 listener.tls.hsts.preload ? "; preload" : "");
    return r;
}

static int open_all(struct admin *a, const struct admin_seat *seat)
{
    int r = auth_create(a->view, seat, &a->auth);

    a->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    a->signal_fd = take_signals();
    if (r == 0 && (a->epoll_fd < 0 || a->signal_fd < 0))
        r = -errno;
    if (r == 0)
        r = open_tls(a, seat);
    if (r == 0)
        r = visitors_open(a, seat->listen_fd);
    if (r == 0)
        r = http_open(a);
    if (r == 0)
        r = watch(a, a->relay_fd, EVENT_VISITORS);
    if (r == 0)
        r = watch(a, seat->listen_fd, EVENT_LISTEN);
    if (r == 0)
        r = watch(a, http_poll_fd(a), EVENT_HTTP);
    if (r == 0)
        r = watch(a, seat->channel_fd, EVENT_MASTER);
    if (r == 0)
        r = watch(a, a->signal_fd, EVENT_SIGNAL);
    return r;
}

static void read_signals(struct admin *a)
{
    struct signalfd_siginfo si;

    while (read(a->signal_fd, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo == SIGUSR1)
            log_reopen();
        else
            a->is_ending = true;
    }
}

/* What the library has answered lies in its socket pair still, on the way to the client. */
static bool is_over(const struct admin *a, int64_t now_ms, int64_t end_ms)
{
    if (now_ms >= end_ms)
        return true;
    return a->n_open == 0 && !visitors_are_waited_for(a, now_ms < end_ms - LAST_MS + FRESH_MS);
}

static void loop(struct admin *a)
{
    int64_t end_ms = 0, next_tick_ms = 0;
    bool has_room_event = false;

    for (;;) {
        struct epoll_event event[8];
        int64_t now_ms;
        int wait_ms, n;

        beat();
        ask_run(&a->asker);
        if (ask_wants_room(&a->asker) != has_room_event && a->asker.fd >= 0) {
            has_room_event = !has_room_event;
            epoll_ctl(a->epoll_fd, EPOLL_CTL_MOD, a->asker.fd,
                      &(struct epoll_event){.events = EPOLLIN | (has_room_event ? EPOLLOUT : 0u),
                                            .data.u32 = EVENT_MASTER});
        }
        wait_ms = http_run(a);
        now_ms = clock_mono_ms();
        if (now_ms >= next_tick_ms) {
            next_tick_ms = now_ms + TICK_MS;
            visitors_tick(a, now_ms);
            ask_tick(&a->asker, now_ms);
        }
        events_tick(a, now_ms);
        if (a->is_ending && end_ms == 0)
            end_ms = now_ms + LAST_MS;
        if (a->asker.fd < 0) /* without a master there is nobody to serve for */
            return;
        if (end_ms != 0 && is_over(a, now_ms, end_ms))
            return;
        if (a->asker.n_waiting > 0 && a->asker.current == NULL)
            wait_ms = 0;
        if (wait_ms < 0 || wait_ms > next_tick_ms - now_ms)
            wait_ms = (int)(next_tick_ms - now_ms);
        n = epoll_wait(a->epoll_fd, event, 8, wait_ms);
        for (int i = 0; i < n; i++) {
            if (event[i].data.u32 == EVENT_LISTEN && !a->is_ending)
                visitors_accept(a);
            else if (event[i].data.u32 == EVENT_LISTEN)
                epoll_ctl(a->epoll_fd, EPOLL_CTL_DEL, a->listen_fd, NULL);
            else if (event[i].data.u32 == EVENT_VISITORS)
                visitors_run(a);
            else if (event[i].data.u32 == EVENT_SIGNAL)
                read_signals(a);
        }
    }
}

int admin_run(const struct admin_view *view, struct shm *shm, const struct admin_seat *seat)
{
    static struct admin admin; /* large, and one of a kind */
    int r;

    admin = (struct admin){.view = view, .cfg = view->cfg, .shm = shm};
    events_init();
    ask_init(&admin.asker, seat->channel_fd);
    harden(shm);
    r = open_all(&admin, seat);
    if (r < 0) {
        log_error("the admin interface does not start: %s", strerror(-r));
        return 1;
    }
    urgency_be_usual();
    log_debug("the admin interface is ready");
    loop(&admin);
    return 0;
}
