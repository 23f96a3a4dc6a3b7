#include "plugin/park.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "ipc/surrender.h"
#include "plugin/capture.h"
#include "plugin/evidence.h"
#include "plugin/recover.h"

#define LOOP_STOP_MS 50   /* for the loop thread to stand still */
#define END_MS       5000 /* for the master to end us */

enum stage { ON_ITS_WAY, WITNESSING, STOPPING, NOTING, TELLING, WAITING, SURRENDERING };

static struct {
    struct shm *shm;
    uint32_t slot;
    int channel_fd, loop_tid, stop_signal;
    pid_t pid;
    void (*note)(void);
    struct shm_crash *record;
    _Atomic int tid; /* of the thread that parks; 0: none */
    int stage;       /* that thread's */
    _Atomic int has_loop_stopped;
} lot = {.channel_fd = -1};

void park_init(struct shm *shm, uint32_t slot, int channel_fd, void (*note)(void), int stop_signal)
{
    lot.shm = shm;
    lot.slot = slot;
    lot.channel_fd = channel_fd;
    lot.note = note;
    lot.stop_signal = stop_signal;
    lot.pid = getpid();
    lot.loop_tid = gettid();
}

bool park_has_begun(void)
{
    return atomic_load(&lot.tid) != 0;
}

bool park_is_wanted(void)
{
    return lot.shm != NULL && atomic_load(&lot.shm->worker[lot.slot].give_up) != 0;
}

bool park_is_mine(void)
{
    return park_has_begun() && atomic_load(&lot.tid) == (int)syscall(SYS_gettid);
}

/* libc's nanosleep() is a cancellation point, and this thread may be cancelled. */
static void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    syscall(SYS_nanosleep, &t, NULL);
}

void park_stand_still(void)
{
    if ((int)syscall(SYS_gettid) == lot.loop_tid)
        atomic_store(&lot.has_loop_stopped, 1);
    for (int ms = 0; ms < 2 * END_MS; ms += 100)
        sleep_ms(100);
}

/* What the table of connections says must not change under the master's hands. */
static void stop_loop(int self)
{
    if (self == lot.loop_tid)
        return;
    syscall(SYS_tgkill, lot.pid, lot.loop_tid, lot.stop_signal);
    for (int ms = 0; ms < LOOP_STOP_MS && !atomic_load(&lot.has_loop_stopped); ms++)
        sleep_ms(1);
}

/* A fault in a handler of the same signal would end the process at once. */
static void let_faults_in(void)
{
    uint64_t none = 0;

    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}

static int tell(void)
{
    struct channel_message m = {.kind = CHANNEL_PARKED};
    int r = -EAGAIN;

    /* Full: it holds idle connections, and the master is reading. */
    for (int ms = 0; ms < END_MS && r == -EAGAIN; ms++) {
        if (ms > 0)
            sleep_ms(1);
        r = channel_send(lot.channel_fd, &m, NULL, NULL);
    }
    return r;
}

/* For the master to end us, or to ask for the connections; true then. */
static bool wait_for_master(void)
{
    struct timespec patience = {0, 100000000};
    int64_t n_waits = END_MS / 100;

    while (!park_is_wanted() && n_waits-- > 0)
        syscall(SYS_futex, &lot.shm->worker[lot.slot].give_up, FUTEX_WAIT, 0, &patience, NULL, 0);
    return park_is_wanted();
}

static void give_record(struct shm_crash *record)
{
    if (record == NULL)
        return;
    capture_label(record);
    recover_record_done(record);
}

void park(struct shm_crash *record)
{
    int none = 0, self = (int)syscall(SYS_gettid);

    if (lot.channel_fd < 0 || getpid() != lot.pid) {
        give_record(record);
        return;
    }
    if (!atomic_compare_exchange_strong(&lot.tid, &none, self) && none != self) {
        give_record(record);
        park_stand_still();
        return;
    }
    /* Each step is tried once: after a fault in one of them we are here again. */
    if (lot.stage < WITNESSING) {
        lot.stage = WITNESSING;
        lot.record = record;
        let_faults_in();
        if (record != NULL && self == lot.loop_tid)
            evidence_write_last(record);
    }
    if (lot.stage < STOPPING) {
        lot.stage = STOPPING;
        give_record(lot.record);
        stop_loop(self);
    }
    if (lot.stage < NOTING) {
        lot.stage = NOTING;
        if (lot.note != NULL)
            lot.note();
    }
    if (lot.stage < TELLING) {
        lot.stage = TELLING;
        if (tell() < 0)
            return; /* nobody hears: the channel is closed, too */
    }
    if (lot.stage < WAITING) {
        lot.stage = WAITING;
        if (!wait_for_master())
            return;
    }
    if (lot.stage < SURRENDERING) {
        lot.stage = SURRENDERING;
        (void)surrender(lot.shm, lot.slot, lot.channel_fd, END_MS); /* the master waits no longer */
    }
    for (int ms = 0; ms < END_MS; ms += 100)
        sleep_ms(100);
}
