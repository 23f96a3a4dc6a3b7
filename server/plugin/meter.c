#include "plugin/meter.h"

uint32_t meter_left = 1; /* the first one is timed: a server that nobody uses has a figure, too */

/* At random, so that traffic with a rhythm of its own is not seen from one side only. */
static uint32_t draw(void)
{
    static uint32_t state = 0x9e3779b9;

    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return 1 + state % (2 * METRICS_SAMPLE - 1); /* METRICS_SAMPLE on average */
}

bool meter_draw_slow(void)
{
    meter_left = draw();
    return true;
}

void meter_end(const bh_inst *inst, enum hook hook, int64_t began_ns)
{
    int64_t took_ns = clock_mono_ns() - began_ns;
    uint64_t ns = took_ns > 0 ? (uint64_t)took_ns : 0;

    metrics_add(&inst->meter->timed[hook], 1);
    metrics_add(&inst->meter->timed_ns[hook], ns);
    histogram_ns_add(&inst->meter->duration, ns);
}
