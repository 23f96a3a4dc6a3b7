#include "worker/watchdog.h"

#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/must.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "plugin/park.h"
#include "plugin/recover.h"
#include "plugin/thread.h"
#include "worker/offload.h"

#define ORPHAN_EXTRA_MS 2000 /* beyond limits.drain_ms, which the loop has by itself */

#define TRIES 3 /* signals before what cannot be recovered ends the worker */

struct watched {
    const struct shm_call *call;
    _Atomic int tid; /* 0: nobody yet; set last */
    /* the watchdog's: */
    uint32_t seen;
    int64_t since; /* the number has been that; 0: no call was running */
    int tries;
};

static struct {
    const struct config *cfg;
    struct watched thread[1 + OFFLOAD_THREADS]; /* the loop's is the first */
    _Atomic int n;
    int64_t tick_ns;
    pid_t parent;
    void (*on_signal)(int signo);
} watch;

/* The master is gone, and its last signal comes to a loop that may not turn any more: nobody else
 * would ever end this process. */
static void end_orphan(void)
{
    static int64_t since_ms;

    if (getppid() == watch.parent)
        return;
    if (since_ms == 0)
        since_ms = clock_mono_ms();
    if (clock_mono_ms() - since_ms > (int64_t)watch.cfg->limits.drain_ms + ORPHAN_EXTRA_MS)
        kill(getpid(), SIGKILL);
}

static void look_at(struct watched *w, int tid)
{
    uint32_t seq = atomic_load(&w->call->seq);
    uint32_t plugin = atomic_load(&w->call->plugin);
    uint32_t hook = atomic_load(&w->call->hook);
    int64_t now, deadline;

    if (plugin == 0 || plugin > (uint32_t)watch.cfg->n_plugins || hook >= HOOK_N ||
        seq != w->seen || w->since == 0) {
        w->seen = seq;
        w->since = plugin != 0 ? clock_mono_ns() : 0;
        w->tries = 0;
        return;
    }
    now = clock_mono_ns();
    deadline = (int64_t)watch.cfg->plugin[plugin - 1].deadline_ms[hook] * 1000000;
    if (deadline == 0 || now - w->since < deadline)
        return;
    w->tries++;
    recover_deadline(tid, seq, w->tries >= TRIES);
}

void watchdog_signals(sigset_t *out)
{
    sigemptyset(out);
    sigaddset(out, SIGTERM);
    sigaddset(out, SIGQUIT);
    sigaddset(out, SIGUSR1);
}

static void *serve(void *arg)
{
    struct timespec tick = {watch.tick_ns / 1000000000, watch.tick_ns % 1000000000};
    sigset_t set;
    int signo;

    (void)arg;
    sigemptyset(&set);
    if (watch.on_signal != NULL)
        watchdog_signals(&set);
    for (;;) {
        /* The loop has no signalfd for them: the kernel wakes whoever waits for one with every signal
         * that is sent in this process, and so with every fault of a plugin: a tenth of its cost. */
        signo = sigtimedwait(&set, NULL, &tick);
        if (signo > 0 && watch.on_signal != NULL)
            watch.on_signal(signo);
        end_orphan();
        if (park_is_wanted())
            park(NULL);
        for (int i = 0; i < 1 + OFFLOAD_THREADS; i++) {
            int tid = atomic_load(&watch.thread[i].tid);

            if (tid != 0)
                look_at(&watch.thread[i], tid);
        }
    }
    return NULL;
}

void watchdog_add(const struct shm_call *call)
{
    int i = atomic_fetch_add(&watch.n, 1);

    must(i < 1 + OFFLOAD_THREADS);
    watch.thread[i].call = call;
    atomic_store(&watch.thread[i].tid, gettid());
}

static uint32_t least_but_0(uint32_t a, uint32_t b)
{
    return b != 0 && (a == 0 || b < a) ? b : a;
}

int watchdog_start(const struct config *cfg, const struct shm_call *call,
                   void (*on_signal)(int signo))
{
    uint32_t least_ms = 0;

    for (int i = 0; i < cfg->n_plugins; i++)
        for (int h = 0; h < HOOK_N; h++)
            least_ms = least_but_0(least_ms, cfg->plugin[i].deadline_ms[h]);
    if (least_ms == 0)
        least_ms = 4000; /* it looks after orphans, too */
    watch.cfg = cfg;
    watch.on_signal = on_signal;
    watchdog_add(call);
    watch.parent = getppid();
    watch.tick_ns = (int64_t)least_ms * 250000;
    if (watch.tick_ns < 5000000)
        watch.tick_ns = 5000000;
    return thread_start("watchdog", serve, NULL);
}
