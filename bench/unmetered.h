/*
 * unmetered.h - the server without its counters: what they cost is the difference.
 *
 * Included ahead of every file of the path of a request (mk/bench.mk), so that the server's own code knows
 * nothing of it. Not for use: limits, alerts and the dashboard would be blind.
 */
#include "base/clock.h"
#include "ipc/histogram.h"
#include "ipc/metrics.h"

#define metrics_add(n, by)      ((void)(n), (void)(by))
#define histogram_ns_add(h, ns) ((void)(h), (void)(ns))
#ifdef UNMETERED_CLOCK /* the one reading per request, at the first byte of its answer */
#define clock_mono_ns() 0
#endif
