#include "recorder/recorder.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/urgency.h"
#include "conf/config.h"
#include "ipc/beat.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "recorder/crashes.h"
#include "recorder/sinks.h"
#include "recorder/symbolise.h"

#define NAP_MS        100  /* between passes while there is something to do: lines gather */
#define TELL_EVERY_MS 1000 /* about dropped lines */
#define LAST_MS       3000 /* for what is left, should somebody still be writing */

static char line[SHM_LINE_MAX];

/* Not more than the ring holds: one busy worker must not starve the others. */
static bool drain_ring(struct shm *shm, uint32_t worker)
{
    struct shm_ring *ring = &shm->worker[worker].ring;
    uint64_t end = atomic_load(&ring->head);
    bool is_busy = false;
    uint32_t sink;
    ssize_t n;

    while ((n = shm_ring_read(ring, &sink, line)) != -EAGAIN) {
        is_busy = true;
        if (n < 0) {
            log_error("the log lines of worker %" PRIu32 " did not make sense; they are lost",
                      worker);
            break;
        }
        sinks_put(shm, sink, line, (size_t)n);
        if ((int64_t)(end - atomic_load(&ring->tail)) <= 0)
            break;
    }
    return is_busy;
}

static void tell_dropped(struct shm *shm)
{
    static int64_t told_ms;
    int64_t now = clock_mono_ms();

    if (now - told_ms < TELL_EVERY_MS)
        return;
    for (uint32_t i = 0; i < shm->n_workers; i++) {
        struct shm_ring *ring = &shm->worker[i].ring;
        uint64_t dropped = atomic_load(&ring->dropped);

        if (dropped == ring->dropped_told)
            continue;
        log_warn("%" PRIu64 " access log lines of worker %" PRIu32
                 " were dropped: they came faster than they could be written",
                 dropped - ring->dropped_told, i);
        ring->dropped_told = dropped;
        told_ms = now;
    }
}

/* Everything that is there now; true when there was something, or will be soon. */
static bool make_pass(struct shm *shm, bool is_last)
{
    bool is_busy = false;

    for (uint32_t i = 0; i < shm->n_workers; i++) {
        is_busy |= drain_ring(shm, i);
        is_busy |= crashes_write(i, is_last);
    }
    sinks_flush();
    tell_dropped(shm);
    return is_busy;
}

/* Signals come through a descriptor; those that a terminal sends to the whole group are the
 * master's business. SIGALRM keeps its default: it ends a recorder that hangs in the symboliser. */
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
    signal(SIGALRM, SIG_DFL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

enum told { TOLD_NOTHING, TOLD_TO_MAKE_ROOM, TOLD_TO_END };

static enum told handle_signals(int fd)
{
    struct signalfd_siginfo si;
    enum told told = TOLD_NOTHING;

    while (read(fd, &si, sizeof si) == (ssize_t)sizeof si) {
        if (si.ssi_signo == SIGTERM)
            told = TOLD_TO_END;
        if (si.ssi_signo == SIGUSR2 && told == TOLD_NOTHING)
            told = TOLD_TO_MAKE_ROOM;
        if (si.ssi_signo == SIGUSR1) {
            sinks_reopen();
            log_reopen();
        }
    }
    return told;
}

int recorder_run(const struct config *cfg, struct shm *shm, const struct recorder_plugin *plugin,
                 int n, int n_older)
{
    int signal_fd = take_signals();
    struct pollfd fds[2] = {{.fd = signal_fd, .events = POLLIN},
                            {.fd = shm->wake_fd, .events = POLLIN}};
    uint64_t kicks;
    int64_t end_ms;
    enum told told = TOLD_NOTHING;
    bool is_busy;

    prctl(PR_SET_NAME, "bh-recorder");
    if (signal_fd < 0) {
        log_error("signalfd: %s", strerror(errno));
        return 1;
    }
    unsetenv("DEBUGINFOD_URLS"); /* debug information is looked for on this machine only */
    crashes_init(cfg, shm, plugin, n, n_older);
    urgency_be_usual();
    do {
        beat();
        atomic_store(&shm->asleep, SHM_AWAKE);
        while (read(shm->wake_fd, &kicks, sizeof kicks) > 0)
            ;
        is_busy = make_pass(shm, false);
        atomic_store(&shm->asleep, is_busy ? SHM_NAPPING : SHM_ASLEEP);
        /* What came before that store saw no sleeper, and did not wake anybody. */
        if (!is_busy && make_pass(shm, false))
            continue;
        if (!is_busy)
            symbolise_rest();
        log_tell_repeats(false);
        poll(fds, 2, is_busy ? NAP_MS : log_next_ms() != INT64_MAX ? TELL_EVERY_MS : BEAT_MS);
        told = handle_signals(signal_fd);
    } while (told == TOLD_NOTHING);

    if (told == TOLD_TO_MAKE_ROOM) { /* all that it knows is in shared memory, or in the files */
        sinks_flush();
        return 0;
    }
    end_ms = clock_mono_ms() + LAST_MS;
    while (make_pass(shm, true) && clock_mono_ms() < end_ms)
        ;
    symbolise_rest();
    log_tell_repeats(true);
    close(signal_fd);
    return 0;
}
