#include "obs/metrics_text.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/buffer.h"
#include "ipc/shm.h"
#include "obs/exposition.h"
#include "obs/metrics_series.h"
#include "plugin/hook.h"

#ifndef BULKHEAD_VERSION
#define BULKHEAD_VERSION "0"
#endif

#define NS_PER_S      1e9
#define REQUEST_FIRST 14 /* 16 us; the last one ends at 69 s */
#define CALL_FIRST    7  /* 128 ns; 0.54 s */

struct text { /* what a metric is told from */
    struct exposition e;
    const struct shm *shm;
    int64_t now_ms;
};

typedef void tell_fn(struct text *t, size_t offset);

struct metric {
    struct family family;
    tell_fn *tell;
    size_t offset; /* of the field that it tells; see there */
};

/* ---- reading ---- */

static bool is_used(const struct shm_worker *w)
{
    return atomic_load(&w->metrics.is_used) != 0;
}

static uint64_t read_at(const void *base, size_t offset)
{
    return metrics_read((const _Atomic uint64_t *)(const void *)((const char *)base + offset));
}

/* ---- the server ---- */

static void tell_build(struct text *t, size_t offset)
{
    (void)offset;
    exposition_label(&t->e, "version", BULKHEAD_VERSION);
    exposition_uint(&t->e, 1);
}

/* Field of struct metrics_master. */
static void tell_master(struct text *t, size_t offset)
{
    exposition_uint(&t->e, read_at(&t->shm->master, offset));
}

static void tell_time(struct text *t, size_t offset)
{
    uint64_t ms = read_at(&t->shm->master, offset) / 1000000;

    if (ms != 0)
        exposition_number(&t->e, (double)ms / 1e3);
}

static void tell_reload_worked(struct text *t, size_t offset)
{
    (void)offset;
    exposition_uint(&t->e, atomic_load(&t->shm->master.reload_failed) == 0);
}

static void tell_reloads(struct text *t, size_t offset)
{
    (void)offset;
    exposition_label(&t->e, "result", "done");
    exposition_uint(&t->e, metrics_read(&t->shm->master.reloads_done));
    exposition_label(&t->e, "result", "failed");
    exposition_uint(&t->e, metrics_read(&t->shm->master.reloads_failed));
}

static void tell_escrow(struct text *t, size_t offset)
{
    const struct metrics_master *m = &t->shm->master;
    const struct {
        const char *name;
        const _Atomic uint64_t *n;
    } outcomes[] = {{"adopted", &m->escrow_idle},
                    {"run_again", &m->escrow_replayed},
                    {"refused", &m->escrow_refused},
                    {"cut", &m->escrow_cut}};

    (void)offset;
    for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
        exposition_label(&t->e, "outcome", outcomes[i].name);
        exposition_uint(&t->e, metrics_read(outcomes[i].n));
    }
}

static void tell_dropped_lines(struct text *t, size_t offset)
{
    uint64_t n = 0;

    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_workers; i++)
        if (is_used(&t->shm->worker[i]))
            n += metrics_read(&t->shm->worker[i].ring.dropped);
    exposition_uint(&t->e, n);
}

static void tell_spans(struct text *t, size_t offset)
{
    const struct shm_traces *traces = &t->shm->traces;
    uint64_t n = 0;

    (void)offset;
    if (atomic_load(&traces->is_on) == 0)
        return;
    for (uint32_t i = 0; i < t->shm->n_workers; i++)
        if (is_used(&t->shm->worker[i]))
            n += metrics_read(&t->shm->worker[i].spans.dropped);
    exposition_label(&t->e, "outcome", "sent");
    exposition_uint(&t->e, metrics_read(&traces->sent));
    exposition_label(&t->e, "outcome", "refused");
    exposition_uint(&t->e, metrics_read(&traces->refused));
    exposition_label(&t->e, "outcome", "lost");
    exposition_uint(&t->e, metrics_read(&traces->lost));
    exposition_label(&t->e, "outcome", "dropped");
    exposition_uint(&t->e, n);
}

static void tell_alerts(struct text *t, size_t offset)
{
    uint64_t n[ALERT_RESOLVED + 1] = {0};
    struct shm_alert a;

    (void)offset;
    for (uint32_t i = 0; i < SHM_ALERTS; i++)
        if (shm_alert_read(t->shm, i, &a))
            n[a.state]++;
    exposition_label(&t->e, "state", "pending");
    exposition_uint(&t->e, n[ALERT_PENDING]);
    exposition_label(&t->e, "state", "firing");
    exposition_uint(&t->e, n[ALERT_FIRING]);
}

static void tell_refusals(struct text *t, size_t offset)
{
    (void)offset;
    for (int r = REFUSAL_NONE + 1; r < REFUSAL_COUNT; r++) {
        uint64_t n = 0;

        for (uint32_t i = 0; i < t->shm->n_workers; i++)
            if (is_used(&t->shm->worker[i]))
                n += metrics_read(&t->shm->worker[i].refused[r]);
        exposition_label(&t->e, "reason", refusal_name((enum http_refusal)r));
        exposition_uint(&t->e, n);
    }
}

static void tell_limits(struct text *t, size_t offset)
{
    (void)offset;
    for (int i = 0; i < SHM_LIMITS; i++) {
        exposition_label(&t->e, "limit", shm_limit_name((enum shm_limit)i));
        exposition_uint(&t->e, metrics_read(&t->shm->limit[i]));
    }
}

/* ---- by listener ---- */

static bool begin_listener(struct text *t, uint32_t i)
{
    const struct metrics_name *name = &t->shm->listener_name[i];

    t->e.n_labels = 0;
    if (atomic_load(&name->is_ready) == 0)
        return false;
    exposition_label_n(&t->e, "listener", name->text, strnlen(name->text, sizeof name->text));
    return true;
}

static uint64_t sum_listener(const struct text *t, uint32_t i, size_t offset)
{
    uint64_t n = 0;

    for (uint32_t k = 0; k < t->shm->n_workers; k++)
        if (is_used(&t->shm->worker[k]))
            n += read_at(&t->shm->worker[k].metrics.listener[i], offset);
    return n;
}

/* Field of struct metrics_listener. */
static void tell_listener(struct text *t, size_t offset)
{
    for (uint32_t i = 0; i < METRICS_LISTENERS; i++)
        if (begin_listener(t, i))
            exposition_uint(&t->e, sum_listener(t, i, offset));
    t->e.n_labels = 0;
}

/* Those that there were: of 40 combinations a listener sees a few. */
static void tell_requests(struct text *t, size_t offset)
{
    for (uint32_t i = 0; i < METRICS_LISTENERS; i++)
        for (int m = 0; m < METRICS_METHODS; m++)
            for (int c = 0; c < METRICS_CODES && begin_listener(t, i); c++) {
                uint64_t n = sum_listener(
                    t, i, offset + sizeof(uint64_t) * (size_t)(m * METRICS_CODES + c));

                exposition_label(&t->e, "method", metrics_method_name((enum metrics_method)m));
                exposition_label(&t->e, "code", metrics_code_name((enum metrics_code)c));
                if (n > 0 || (m == METRICS_GET && c == METRICS_2XX))
                    exposition_uint(&t->e, n);
            }
    t->e.n_labels = 0;
}

static void tell_handshakes(struct text *t, size_t offset)
{
    for (uint32_t i = 0; i < METRICS_LISTENERS; i++)
        for (int h = 0; h < METRICS_HANDSHAKES && begin_listener(t, i); h++) {
            uint64_t n = sum_listener(t, i, offset + sizeof(uint64_t) * (size_t)h);

            exposition_label(&t->e, "result", metrics_handshake_name((enum metrics_handshake)h));
            if (n > 0)
                exposition_uint(&t->e, n);
        }
    t->e.n_labels = 0;
}

static void add_histogram(const struct histogram_ns *h, uint64_t count[HISTOGRAM_NS_SIZE],
                          uint64_t *sum_ns)
{
    for (int b = 0; b < HISTOGRAM_NS_SIZE; b++)
        count[b] += metrics_read(&h->bucket[b]);
    *sum_ns += metrics_read(&h->sum);
}

static void tell_listener_times(struct text *t, size_t offset)
{
    for (uint32_t i = 0; i < METRICS_LISTENERS; i++) {
        uint64_t count[HISTOGRAM_NS_SIZE] = {0}, sum_ns = 0;

        if (!begin_listener(t, i))
            continue;
        for (uint32_t k = 0; k < t->shm->n_workers; k++)
            if (is_used(&t->shm->worker[k]))
                add_histogram(
                    (const void *)((const char *)&t->shm->worker[k].metrics.listener[i] + offset),
                    count, &sum_ns);
        exposition_histogram_ns(&t->e, count, sum_ns, REQUEST_FIRST);
    }
    t->e.n_labels = 0;
}

/* ---- by plugin ---- */

static bool begin_plugin(struct text *t, uint32_t i)
{
    const struct shm_plugin *p = &t->shm->plugin[i];

    t->e.n_labels = 0;
    if (i >= SHM_PLUGINS || atomic_load(&p->is_shown) == 0)
        return false;
    exposition_label_n(&t->e, "plugin", p->name, strnlen(p->name, sizeof p->name));
    return true;
}

static void tell_plugin_info(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        const struct shm_plugin *p = &t->shm->plugin[i];

        if (!begin_plugin(t, i))
            continue;
        exposition_label_n(&t->e, "module", p->module, strnlen(p->module, sizeof p->module));
        exposition_uint(&t->e, 1);
    }
    t->e.n_labels = 0;
}

/* Field of struct shm_plugin. */
static void tell_plugin(struct text *t, size_t offset)
{
    for (uint32_t i = 0; i < t->shm->n_plugins; i++)
        if (begin_plugin(t, i))
            exposition_uint(&t->e, read_at(&t->shm->plugin[i], offset));
    t->e.n_labels = 0;
}

static void tell_crashes(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++)
        for (int c = 0; c < METRICS_CRASHES && begin_plugin(t, i); c++) {
            exposition_label(&t->e, "kind", metrics_crash_name((enum metrics_crash)c));
            exposition_uint(&t->e, metrics_read(&t->shm->plugin[i].crashes_by[c]));
        }
    t->e.n_labels = 0;
}

static void tell_breaker(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        const struct shm_plugin *p = &t->shm->plugin[i];
        struct breaker_limits limits = p->limits;
        struct breaker_view view;

        if (!begin_plugin(t, i))
            continue;
        breaker_look(&p->quarantine.breaker, &limits, t->now_ms, &view);
        for (int s = BREAKER_CLOSED; s <= BREAKER_HALF_OPEN && begin_plugin(t, i); s++) {
            exposition_label(&t->e, "state", breaker_state_name((enum breaker_state)s));
            exposition_uint(&t->e, (int)view.state == s);
        }
    }
    t->e.n_labels = 0;
}

static void tell_blocked(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        uint64_t n = 0;

        if (!begin_plugin(t, i))
            continue;
        for (int b = 0; b < QUARANTINE_BLOCKS; b++)
            n += !breaker_is_closed(&t->shm->plugin[i].quarantine.block[b].breaker);
        exposition_uint(&t->e, n);
    }
    t->e.n_labels = 0;
}

static void tell_memory(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        uint64_t n = 0;

        if (!begin_plugin(t, i))
            continue;
        for (uint32_t k = 0; k < t->shm->n_workers; k++)
            if (is_used(&t->shm->worker[k]) && atomic_load(&t->shm->worker[k].pid) != 0)
                n += metrics_read(&t->shm->worker[k].memory[i]);
        exposition_uint(&t->e, n);
    }
    t->e.n_labels = 0;
}

static void tell_descriptors(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        uint64_t n = 0;

        if (!begin_plugin(t, i))
            continue;
        for (uint32_t k = 0; k < t->shm->n_workers; k++)
            if (is_used(&t->shm->worker[k]) && atomic_load(&t->shm->worker[k].pid) != 0)
                n += atomic_load(&t->shm->worker[k].descriptors[i]);
        exposition_uint(&t->e, n);
    }
    t->e.n_labels = 0;
}

static void tell_threads(struct text *t, size_t offset)
{
    uint32_t n[SHM_PLUGINS + 1] = {0};

    (void)offset;
    for (uint32_t k = 0; k < t->shm->n_workers; k++)
        for (int i = 0; i < SHM_THREADS && is_used(&t->shm->worker[k]); i++) {
            const struct shm_thread *th = &t->shm->worker[k].thread[i];
            uint32_t plugin = atomic_load(&th->plugin);

            if (atomic_load(&th->tid) != 0 && plugin <= SHM_PLUGINS)
                n[plugin]++;
        }
    for (uint32_t i = 0; i < t->shm->n_plugins; i++)
        if (begin_plugin(t, i))
            exposition_uint(&t->e, n[i + 1]);
    t->e.n_labels = 0;
}

static uint64_t sum_hook(const struct text *t, uint32_t i, size_t offset)
{
    uint64_t n = 0;

    for (uint32_t k = 0; k < t->shm->n_workers; k++)
        if (is_used(&t->shm->worker[k]))
            n += read_at(&t->shm->worker[k].metrics_plugin[i], offset);
    return n;
}

/* Array in struct metrics_plugin, by hook: those that were called. is_time: nanoseconds. */
static void tell_hooks(struct text *t, size_t offset, bool is_time)
{
    for (uint32_t i = 0; i < t->shm->n_plugins; i++)
        for (unsigned h = 0; h < HOOK_N && begin_plugin(t, i); h++) {
            uint64_t n = sum_hook(t, i, offset + h * sizeof(uint64_t));

            exposition_label(&t->e, "hook", hook_name(h));
            if (n > 0 && is_time)
                exposition_number(&t->e, (double)n / NS_PER_S);
            else if (n > 0)
                exposition_uint(&t->e, n);
        }
    t->e.n_labels = 0;
}

static void tell_calls(struct text *t, size_t offset)
{
    tell_hooks(t, offset, false);
}

static void tell_call_times(struct text *t, size_t offset)
{
    tell_hooks(t, offset, true);
}

static void tell_plugin_times(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        uint64_t count[HISTOGRAM_NS_SIZE] = {0}, sum_ns = 0;

        if (!begin_plugin(t, i))
            continue;
        for (uint32_t k = 0; k < t->shm->n_workers; k++)
            if (is_used(&t->shm->worker[k]))
                add_histogram(&t->shm->worker[k].metrics_plugin[i].duration, count, &sum_ns);
        exposition_histogram_ns(&t->e, count, sum_ns, CALL_FIRST);
    }
    t->e.n_labels = 0;
}

static void tell_series(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++)
        if (begin_plugin(t, i))
            exposition_uint(&t->e, atomic_load(&t->shm->plugin[i].series.n_series));
    t->e.n_labels = 0;
}

/* ---- the rollout ---- */

static void tell_rollout_state(struct text *t, size_t offset)
{
    static const char *const names[] = {[ROLLOUT_OFF] = "off",
                                        [ROLLOUT_SHADOW] = "shadow",
                                        [ROLLOUT_CANARY] = "canary",
                                        [ROLLOUT_TRIPPED] = "tripped"};
    enum rollout_mode mode = rollout_mode(atomic_load(&t->shm->rollout.word));

    (void)offset;
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        exposition_label(&t->e, "state", names[i]);
        exposition_uint(&t->e, (unsigned)mode == i);
    }
}

static void tell_rollout_share(struct text *t, size_t offset)
{
    uint64_t word = atomic_load(&t->shm->rollout.word);
    bool is_on = rollout_mode(word) == ROLLOUT_SHADOW || rollout_mode(word) == ROLLOUT_CANARY;

    (void)offset;
    exposition_number(&t->e, is_on ? (double)rollout_parts(word) / ROLLOUT_ALL : 0);
}

/* Field of struct rollout_stats. */
static void tell_arms(struct text *t, size_t offset)
{
    static const char *const names[ROLLOUT_ARMS] = {
        [ROLLOUT_STABLE] = "stable", [ROLLOUT_CANDIDATE] = "candidate"};

    for (int i = 0; i < ROLLOUT_ARMS; i++) {
        exposition_label(&t->e, "arm", names[i]);
        exposition_uint(&t->e, read_at(&t->shm->rollout.arm[i], offset));
    }
}

/* ---- all of them ---- */

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
    GAUGE("bulkhead_alerts", NULL, "Alerts whose rule holds, by their state.", tell_alerts, 0),

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
    COUNTER("bulkhead_wire_refusals", NULL,
            "Requests that the wire guard refused, malformed or too large, by reason.",
            tell_refusals, 0),
    COUNTER("bulkhead_limit_hits", NULL,
            "Connections and requests that were refused or ended, by the limit.", tell_limits, 0),

    INFO("bulkhead_plugin", "Plugins of the config, and their modules.", tell_plugin_info),
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
