#include "exporter/exporter.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/urgency.h"
#include "conf/config.h"
#include "exporter/alerts.h"
#include "exporter/outbox.h"
#include "exporter/traces.h"
#include "ipc/beat.h"
#include "obs/log.h"

#define LAST_MS 3000 /* for what is left, at the end */
#define ROOM_MS 1000 /* and when another one goes on */

bool exporter_is_wanted(const struct config *cfg)
{
    return cfg->tracing.endpoint != NULL || cfg->alerts.n_rules > 0;
}

/* Signals come through a descriptor; those that a terminal sends to the whole group are the master's
 * business. */
static int take_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
        return -errno;
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* How long it has from now on; -1: no end. */
static int handle_signals(int fd)
{
    struct signalfd_siginfo si;
    int patience_ms = -1;

    while (read(fd, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo == SIGTERM)
            patience_ms = LAST_MS;
        if (si.ssi_signo == SIGUSR2 && patience_ms < 0)
            patience_ms = ROOM_MS;
        if (si.ssi_signo == SIGUSR1)
            log_reopen();
    }
    return patience_ms;
}

static int wait_ms(const struct config *cfg)
{
    int64_t now_ms = clock_mono_ms();
    int traces = cfg->tracing.endpoint != NULL ? traces_wait_ms(now_ms) : -1;
    int alerts = alerts_wait_ms(now_ms);

    if (traces < 0 || (alerts >= 0 && alerts < traces))
        return alerts;
    return traces;
}

static void turn(const struct config *cfg, struct outbox *outbox, bool is_last)
{
    int64_t now_ms = clock_mono_ms();

    beat();
    if (cfg->tracing.endpoint != NULL)
        traces_run(now_ms, is_last);
    if (!is_last)
        alerts_run(now_ms);
    outbox_run(outbox, now_ms);
    log_tell_repeats(false);
}

int exporter_run(const struct config *cfg, struct shm *shm)
{
    struct pollfd fds[1] = {{.fd = take_signals(), .events = POLLIN}};
    struct outbox *outbox = NULL;
    int64_t end_ms = 0;
    char why[256];
    int ms, r;

    prctl(PR_SET_NAME, "bh-exporter");
    r = fds[0].fd < 0 ? -errno : outbox_open(&outbox, why, sizeof why);
    if (r < 0) {
        log_error("neither traces nor alerts are sent: %s", fds[0].fd < 0 ? strerror(-r) : why);
        return 1;
    }
    if ((cfg->tracing.endpoint != NULL && traces_open(cfg, shm, outbox) < 0) ||
        (cfg->alerts.n_rules > 0 && alerts_open(cfg, shm, outbox) < 0)) {
        log_error("out of memory");
        return 1;
    }
    urgency_be_usual();
    while (end_ms == 0) {
        turn(cfg, outbox, false);
        outbox_wait(outbox, fds, 1, wait_ms(cfg), clock_mono_ms());
        ms = handle_signals(fds[0].fd);
        if (ms >= 0)
            end_ms = clock_mono_ms() + ms;
    }
    do {
        turn(cfg, outbox, true);
        if (outbox_is_empty(outbox))
            break;
        outbox_wait(outbox, NULL, 0, 50, clock_mono_ms());
    } while (clock_mono_ms() < end_ms);
    alerts_end();
    outbox_close(&outbox);
    log_tell_repeats(true);
    return 0;
}
