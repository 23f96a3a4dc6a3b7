/*
 * metrics_tell.h - what tells one metric each, for the table in metrics_text.c.
 *
 * A function of these writes the samples of one family, whose head has been written. `offset` says which
 * field it tells, where one function tells several. What a newcomer would get wrong: labels are set for the
 * sample to come only; begin_...() of each file sets the first one anew.
 */
#ifndef OBS_METRICS_TELL_H
#define OBS_METRICS_TELL_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/shm.h"
#include "obs/exposition.h"

struct text { /* what a metric is told from */
    struct exposition e;
    const struct shm *shm;
    int64_t now_ms;
};

typedef void tell_fn(struct text *t, size_t offset);

/* Somebody has had that slot: its counters may be looked at. */
static inline bool worker_is_used(const struct shm_worker *w)
{
    return atomic_load(&w->metrics.is_used) != 0;
}

static inline uint64_t text_read_at(const void *base, size_t offset)
{
    return metrics_read((const _Atomic uint64_t *)(const void *)((const char *)base + offset));
}

static inline void text_add_histogram(const struct histogram_ns *h,
                                      uint64_t count[HISTOGRAM_NS_SIZE], uint64_t *sum_ns)
{
    for (int b = 0; b < HISTOGRAM_NS_SIZE; b++)
        count[b] += metrics_read(&h->bucket[b]);
    *sum_ns += metrics_read(&h->sum);
}

/* metrics_server.c: the master, logs, alerts, the rollout */
tell_fn tell_build, tell_master, tell_time, tell_reload_worked, tell_reloads, tell_escrow,
    tell_dropped_lines, tell_spans, tell_alerts, tell_refusals, tell_admin_refusals, tell_limits,
    tell_rollout_state, tell_rollout_share, tell_arms, tell_alert_messages, tell_log_lines;

/* metrics_requests.c: by listener and by route */
tell_fn tell_listener, tell_requests, tell_handshakes, tell_listener_times, tell_route_requests,
    tell_route_times;

/* metrics_plugins.c: by plugin */
tell_fn tell_plugin_info, tell_plugin, tell_crashes, tell_breaker, tell_blocked, tell_memory,
    tell_descriptors, tell_threads, tell_calls, tell_call_times, tell_plugin_times, tell_series,
    tell_plugin_weight, tell_plugin_log_lines;

#endif
