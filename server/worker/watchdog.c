#include "worker/watchdog.h"

#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "plugin/park.h"
#include "plugin/recover.h"
#include "plugin/thread.h"

#define ORPHAN_EXTRA_MS 2000 /* beyond limits.drain_ms, which the loop has by itself */

#define TRIES 3 /* signals before what cannot be recovered ends the worker */

static struct {
    const struct config *cfg;
    const struct shm_call *call;
    int tid;
    int64_t tick_ns;
    pid_t parent;
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

static void *serve(void *arg)
{
    struct timespec tick = {watch.tick_ns / 1000000000, watch.tick_ns % 1000000000};
    uint32_t seen = 0;
    int64_t since = 0;
    int tries = 0;

    (void)arg;
    for (;;) {
        uint32_t seq, plugin, hook;
        int64_t now, deadline;

        nanosleep(&tick, NULL);
        end_orphan();
        if (park_is_wanted())
            park();
        seq = atomic_load(&watch.call->seq);
        plugin = atomic_load(&watch.call->plugin);
        hook = atomic_load(&watch.call->hook);
        if (plugin == 0 || plugin > (uint32_t)watch.cfg->n_plugins || hook >= HOOK_N ||
            seq != seen || since == 0) {
            seen = seq;
            since = plugin != 0 ? clock_mono_ns() : 0;
            tries = 0;
            continue;
        }
        now = clock_mono_ns();
        deadline = (int64_t)watch.cfg->plugin[plugin - 1].deadline_ms[hook] * 1000000;
        if (deadline == 0 || now - since < deadline)
            continue;
        tries++;
        recover_deadline(watch.tid, seq, tries >= TRIES);
    }
    return NULL;
}

static uint32_t least_but_0(uint32_t a, uint32_t b)
{
    return b != 0 && (a == 0 || b < a) ? b : a;
}

int watchdog_start(const struct config *cfg, const struct shm_call *call)
{
    uint32_t least_ms = 0;
    for (int i = 0; i < cfg->n_plugins; i++)
        for (int h = 0; h < HOOK_N; h++)
            least_ms = least_but_0(least_ms, cfg->plugin[i].deadline_ms[h]);
    if (least_ms == 0)
        least_ms = 4000; /* it looks after orphans, too */
    watch.cfg = cfg;
    watch.call = call;
    watch.tid = gettid();
    watch.parent = getppid();
    watch.tick_ns = (int64_t)least_ms * 250000;
    if (watch.tick_ns < 5000000)
        watch.tick_ns = 5000000;
    return thread_start("watchdog", serve, NULL);
}
