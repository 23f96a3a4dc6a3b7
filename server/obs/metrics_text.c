#include "obs/metrics_text.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/buffer.h"
#include "obs/metrics_series.h"
#include "obs/metrics_tell.h"

struct metric {
    struct family family;
    tell_fn *tell;
    size_t offset; /* of the field that it tells; see there */
};

#define COUNTER(NAME, UNIT, HELP, TELL, OFFSET)          \
    {                                                    \
        {NAME, FAMILY_COUNTER, UNIT, HELP}, TELL, OFFSET \
    }
#define GAUGE(NAME, UNIT, HELP, TELL, OFFSET)          \
    {                                                  \
        {NAME, FAMILY_GAUGE, UNIT, HELP}, TELL, OFFSET \
    }
#define HISTOGRAM(NAME, UNIT, HELP, TELL, OFFSET)          \
    {                                                      \
        {NAME, FAMILY_HISTOGRAM, UNIT, HELP}, TELL, OFFSET \
    }
#define INFO(NAME, HELP, TELL)                   \
    {                                            \
        {NAME, FAMILY_INFO, NULL, HELP}, TELL, 0 \
    }
#define MASTER(FIELD)   offsetof(struct metrics_master, FIELD)
#define LISTENER(FIELD) offsetof(struct metrics_listener, FIELD)
#define SHARED(FIELD)   offsetof(struct shm_plugin, FIELD)
#define PLUGIN(FIELD)   offsetof(struct metrics_plugin, FIELD)
#define ARM(FIELD)      offsetof(struct rollout_stats, FIELD)

static const struct metric metrics[] = {
    INFO("bulkhead_build", "Version of the server.", tell_build),
    GAUGE("process_start_time_seconds", "seconds",
          "When the master was started, in seconds since 1970-01-01 UTC.", tell_time,
          MASTER(started_real_ns)),
    GAUGE("bulkhead_generation", NULL,
          "Number of the config that serves; each reload makes one more.", tell_master,
          MASTER(generation)),
    COUNTER("bulkhead_reloads", NULL, "Reloads, by what came of them.", tell_reloads, 0),
    GAUGE("bulkhead_last_reload_successful", NULL, "0 when the last reload failed, else 1.",
          tell_reload_worked, 0),
    GAUGE("bulkhead_last_reload_success_timestamp_seconds", "seconds",
          "When the config that serves was loaded, in seconds since 1970-01-01 UTC.", tell_time,
          MASTER(reloaded_real_ns)),
    GAUGE("bulkhead_workers", NULL, "Workers that the config wants.", tell_master, MASTER(workers)),
    GAUGE("bulkhead_workers_ready", NULL, "Workers that serve.", tell_master,
          MASTER(workers_ready)),
    COUNTER("bulkhead_worker_starts", NULL, "Worker processes that were started.", tell_master,
            MASTER(workers_started)),
    COUNTER("bulkhead_worker_losses", NULL,
            "Workers that died, or could not go on and were replaced.", tell_master,
            MASTER(workers_lost)),
    COUNTER("bulkhead_recorder_starts", NULL,
            "Starts of the process that writes crash records and log files.", tell_master,
            MASTER(recorders_started)),
    COUNTER("bulkhead_escrow_connections", NULL,
            "Connections of workers that could not go on, by what became of them.", tell_escrow, 0),
    COUNTER("bulkhead_log_lines_dropped", NULL,
            "Lines for log files that found no room in the ring of their worker.",
            tell_dropped_lines, 0),
    COUNTER("bulkhead_trace_spans", NULL, "Spans of traces, by what became of them.", tell_spans,
            0),
    COUNTER("bulkhead_log_lines", NULL,
            "Lines of the error log, but for those of plugins, by level. Suppressed: equal lines "
            "that were counted instead of written.",
            tell_log_lines, 0),
    GAUGE("bulkhead_alerts", NULL, "Alerts whose rule holds, by their state.", tell_alerts, 0),
    COUNTER("bulkhead_alert_messages", NULL,
            "Messages to receivers of alerts, by what became of them, since the exporter began.",
            tell_alert_messages, 0),

    COUNTER("bulkhead_requests", NULL,
            "Requests that have ended, by listener, method and class of the status. Aborted: the "
            "answer was not sent whole.",
            tell_requests, LISTENER(requests)),
    GAUGE("bulkhead_requests_in_flight", NULL, "Requests whose answer has not ended yet.",
          tell_listener, LISTENER(in_flight)),
    HISTOGRAM("bulkhead_request_duration_seconds", "seconds",
              "Time from the head of a request to the end of its answer.", tell_listener_times,
              LISTENER(duration)),
    HISTOGRAM("bulkhead_request_first_byte_seconds", "seconds",
              "Time from the head of a request to the first byte of its answer.",
              tell_listener_times, LISTENER(first_byte)),
    COUNTER("bulkhead_received_bytes", "bytes",
            "Bytes received from clients; with TLS those of the plain text.", tell_listener,
            LISTENER(received)),
    COUNTER("bulkhead_sent_bytes", "bytes",
            "Bytes sent to clients; with TLS those of the plain text.", tell_listener,
            LISTENER(sent)),
    GAUGE("bulkhead_connections", NULL, "Connections that are open.", tell_listener,
          LISTENER(open)),
    COUNTER("bulkhead_connections_accepted", NULL, "Connections that were accepted.", tell_listener,
            LISTENER(accepted)),
    COUNTER("bulkhead_connections_adopted", NULL,
            "Connections that a worker took over from another process.", tell_listener,
            LISTENER(adopted)),
    COUNTER("bulkhead_tls_handshakes", NULL, "Handshakes of TLS that have ended, by how.",
            tell_handshakes, LISTENER(handshakes)),
    COUNTER("bulkhead_route_requests", NULL,
            "Requests that have ended, by route of the config and class of the status.",
            tell_route_requests, 0),
    HISTOGRAM("bulkhead_route_duration_seconds", "seconds",
              "Time from the head of a request to the end of its answer, by route.",
              tell_route_times, 0),
    COUNTER("bulkhead_wire_refusals", NULL,
            "Requests that the wire guard refused, malformed or too large, by reason.",
            tell_refusals, 0),
    COUNTER("bulkhead_admin_wire_refusals", NULL,
            "Requests that the wire guard before the admin interface refused, by reason.",
            tell_admin_refusals, 0),
    COUNTER("bulkhead_limit_hits", NULL,
            "Connections and requests that were refused or ended, by the limit.", tell_limits, 0),

    INFO("bulkhead_plugin", "Plugins of the config, and their modules.", tell_plugin_info),
    GAUGE("bulkhead_plugin_generation", NULL,
          "Number of the config that brought the object which the plugin runs.", tell_plugin,
          SHARED(generation)),
    GAUGE("bulkhead_plugin_weight", NULL,
          "Share of its requests, from 0 to 1, that get this version of the plugin; 1 without a "
          "rollout.",
          tell_plugin_weight, 0),
    COUNTER("bulkhead_plugin_log_lines", NULL,
            "Lines that the plugin wrote to the error log, by level. Suppressed: equal lines that "
            "were counted instead of written.",
            tell_plugin_log_lines, 0),
    COUNTER("bulkhead_plugin_calls", NULL, "Calls into a plugin, by hook.", tell_calls,
            PLUGIN(calls)),
    COUNTER("bulkhead_plugin_timed_calls", NULL,
            "Calls of which the time was taken: those of one request in 64, chosen at random.",
            tell_calls, PLUGIN(timed)),
    COUNTER("bulkhead_plugin_timed_seconds", "seconds",
            "Time that those calls took together. Divide by "
            "bulkhead_plugin_timed_calls_total for the mean.",
            tell_call_times, PLUGIN(timed_ns)),
    HISTOGRAM("bulkhead_plugin_call_duration_seconds", "seconds",
              "Time of the calls of which it was taken, whatever the hook.", tell_plugin_times, 0),
    COUNTER("bulkhead_plugin_crashes", NULL,
            "Crashes of a plugin, by signal; exit: it called exit() or the like.", tell_crashes, 0),
    COUNTER("bulkhead_plugin_deadlines", NULL, "Calls that ran past their deadline.", tell_plugin,
            SHARED(deadlines)),
    COUNTER("bulkhead_plugin_failures", NULL, "Hooks that returned BH_FAIL.", tell_plugin,
            SHARED(failures)),
    COUNTER("bulkhead_plugin_worker_deaths", NULL, "Workers that the plugin took along.",
            tell_plugin, SHARED(worker_deaths)),
    COUNTER("bulkhead_plugin_ejections", NULL, "Times it was taken out of a worker for good.",
            tell_plugin, SHARED(ejections)),
    COUNTER("bulkhead_plugin_renewals", NULL, "Fresh instances after a crash.", tell_plugin,
            SHARED(renewals)),
    COUNTER("bulkhead_plugin_copies", NULL, "Fresh copies of its object after repeated crashes.",
            tell_plugin, SHARED(copies)),
    GAUGE("bulkhead_plugin_breaker_state", NULL, "1 for the state in which the breaker is.",
          tell_breaker, 0),
    COUNTER("bulkhead_plugin_breaker_opens", NULL, "Times the breaker has opened.", tell_plugin,
            SHARED(quarantine.breaker.n_opened)),
    COUNTER("bulkhead_plugin_breaker_refusals", NULL,
            "Requests that did not enter the plugin because its breaker was open.", tell_plugin,
            SHARED(quarantine.breaker.n_refused)),
    GAUGE("bulkhead_plugin_blocked_routes", NULL, "Routes for which the plugin is not called.",
          tell_blocked, 0),
    GAUGE("bulkhead_plugin_memory_bytes", "bytes",
          "Memory of its private heaps, in all workers; 0 with heap: shared.", tell_memory, 0),
    GAUGE("bulkhead_plugin_descriptors", NULL, "Descriptors that it has open, in all workers.",
          tell_descriptors, 0),
    GAUGE("bulkhead_plugin_threads", NULL, "Threads that it has started, in all workers.",
          tell_threads, 0),
    GAUGE("bulkhead_plugin_series", NULL, "Series of the metrics that it has defined itself.",
          tell_series, 0),
    COUNTER("bulkhead_plugin_series_overflows", NULL,
            "Updates of its metrics that were counted under the label value _overflow, for want of "
            "room.",
            tell_plugin, SHARED(series.n_overflowed)),
    COUNTER("bulkhead_plugin_series_drops", NULL,
            "Updates of its metrics that were lost: no room, or not a number.", tell_plugin,
            SHARED(series.n_dropped)),

    GAUGE("bulkhead_rollout_state", NULL, "1 for the state in which the rollout of a plugin is.",
          tell_rollout_state, 0),
    GAUGE("bulkhead_rollout_share", NULL,
          "Share of the requests, from 0 to 1, that the candidate gets, or runs along with.",
          tell_rollout_share, 0),
    COUNTER("bulkhead_rollout_requests", NULL,
            "Requests that have ended in each arm of the rollout; begins anew when the rollout "
            "clears its counts.",
            tell_arms, ARM(requests)),
    COUNTER("bulkhead_rollout_errors", NULL, "Those of them that failed, or were answered 5xx.",
            tell_arms, ARM(errors)),
    COUNTER("bulkhead_rollout_unfinished", NULL,
            "Runs of the candidate as a shadow that ended because it wanted to pause.", tell_arms,
            ARM(unfinished)),
};

const struct family *metrics_family(size_t i)
{
    return i < sizeof metrics / sizeof metrics[0] ? &metrics[i].family : NULL;
}

enum metrics_format metrics_format_for(const char *accept)
{
    return accept != NULL && strcasestr(accept, "application/openmetrics-text") != NULL
               ? METRICS_OPENMETRICS
               : METRICS_PROMETHEUS;
}

const char *metrics_content_type(enum metrics_format format)
{
    return format == METRICS_OPENMETRICS
               ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
               : "text/plain; version=0.0.4; charset=utf-8";
}

int metrics_text(const struct shm *shm, enum metrics_format format, int64_t now_ms,
                 struct buffer *out)
{
    struct text t = {.e = {.out = out, .format = format}, .shm = shm, .now_ms = now_ms};
    int r;

    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        exposition_family(&t.e, &metrics[i].family);
        metrics[i].tell(&t, metrics[i].offset);
    }
    r = metrics_series_text(shm, &t.e);
    exposition_end(&t.e);
    return r < 0 || out->has_failed ? -ENOMEM : 0;
}
