/*
 * meter.h - how often plugins are called, and how long that takes.
 *
 * Calls are counted one by one. Their time is taken for one request in METRICS_SAMPLE, chosen at
 * random, and then for all its hooks: two readings of the clock for each call would cost more than the
 * boundary does.
 */
#ifndef PLUGIN_METER_H
#define PLUGIN_METER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "ipc/metrics.h"
#include "plugin/hook.h"
#include "plugin/instance.h"

_Static_assert(HOOK_N <= METRICS_HOOKS, "a row has a place for every hook");

/* Is this request, or call outside of one, to be timed? Loop thread. */
bool meter_draw_slow(void);
extern uint32_t meter_left;

static inline bool meter_draw(void)
{
    if (__builtin_expect(--meter_left != 0, 1))
        return false;
    return meter_draw_slow();
}

/* Before each call. */
static inline void meter_count(const bh_inst *inst, enum hook hook)
{
    metrics_add(&inst->meter->calls[hook], 1);
}

/* Before and after one that is timed. Apart, so that the others do not pay for it. */
static inline int64_t meter_begin(void)
{
    return clock_mono_ns();
}

void meter_end(const bh_inst *inst, enum hook hook, int64_t began_ns);

#endif
