/*
 * figures.c - rates and times in the status: what `bulkhead status` and `bulkhead top` make numbers of.
 *
 * Distributions are told in pairs of a bucket's upper bound in nanoseconds and its count, empty ones
 * left out, so that who asks twice can tell what lay between.
 */
#include <jansson.h>
#include <string.h>

#include "ipc/shm.h"
#include "master/internal.h"
#include "master/status.h"
#include "plugin/hook.h"

struct distribution {
    uint64_t count[HISTOGRAM_NS_SIZE];
};

static void add_histogram(struct distribution *d, const struct histogram_ns *h)
{
    for (int i = 0; i < HISTOGRAM_NS_SIZE; i++)
        d->count[i] += metrics_read(&h->bucket[i]);
}

static json_t *microseconds(const struct distribution *d, double q)
{
    uint64_t ns = histogram_ns_quantile(d->count, q);

    return ns != 0 ? json_real((double)ns / 1000) : json_null();
}

static json_t *distribution_json(const struct distribution *d)
{
    json_t *buckets = json_array();

    for (unsigned i = 0; i < HISTOGRAM_NS_SIZE; i++) {
        uint64_t bound = i < HISTOGRAM_NS_SIZE - 1 ? histogram_ns_bound(i)
                                                   : histogram_ns_bound(i - 1) + 1;

        if (d->count[i] != 0)
            json_array_append_new(buckets,
                                  json_pack("[I, I]", (json_int_t)bound, (json_int_t)d->count[i]));
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "p50_us", microseconds(d, 0.5), "p99_us",
                     microseconds(d, 0.99), "p999_us", microseconds(d, 0.999), "buckets_ns",
                     buckets);
}

static bool is_used(const struct shm_worker *w)
{
    return atomic_load(&w->metrics.is_used) != 0;
}

static json_t *listener_json(const struct master *m, uint32_t i)
{
    uint64_t codes[METRICS_CODES] = {0}, open = 0, in_flight = 0, received = 0, sent = 0;
    const struct metrics_name *name = &m->shm->listener_name[i];
    json_t *requests = json_object();
    struct distribution d = {{0}};

    for (int k = 0; k < m->n_slots; k++) {
        const struct metrics_listener *l = &m->shm->worker[k].metrics.listener[i];

        if (!is_used(&m->shm->worker[k]))
            continue;
        for (int method = 0; method < METRICS_METHODS; method++)
            for (int code = 0; code < METRICS_CODES; code++)
                codes[code] += metrics_read(&l->requests[method][code]);
        open += metrics_read(&l->open);
        in_flight += metrics_read(&l->in_flight);
        received += metrics_read(&l->received);
        sent += metrics_read(&l->sent);
        add_histogram(&d, &l->duration);
    }
    for (int code = 0; code < METRICS_CODES; code++)
        json_object_set_new(requests, metrics_code_name((enum metrics_code)code),
                            json_integer((json_int_t)codes[code]));
    return json_pack("{s:s%, s:o, s:I, s:I, s:I, s:I, s:o}", "name", name->text,
                     strnlen(name->text, sizeof name->text), "requests", requests, "connections",
                     (json_int_t)open, "in_flight", (json_int_t)in_flight, "received_bytes",
                     (json_int_t)received, "sent_bytes", (json_int_t)sent, "duration",
                     distribution_json(&d));
}

json_t *figures_listeners(const struct master *m)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < METRICS_LISTENERS; i++)
        if (atomic_load(&m->shm->listener_name[i].is_ready) != 0)
            json_array_append_new(list, listener_json(m, i));
    return list;
}

void figures_add_calls(const struct master *m, int plugin, json_t *json)
{
    uint64_t calls = 0, timed = 0, timed_ns = 0;
    struct distribution d = {{0}};

    for (int k = 0; k < m->n_slots; k++) {
        const struct metrics_plugin *p = &m->shm->worker[k].metrics_plugin[plugin];

        if (!is_used(&m->shm->worker[k]))
            continue;
        for (int hook = 0; hook < HOOK_N; hook++) {
            calls += metrics_read(&p->calls[hook]);
            timed += metrics_read(&p->timed[hook]);
            timed_ns += metrics_read(&p->timed_ns[hook]);
        }
        add_histogram(&d, &p->duration);
    }
    json_object_set_new(json, "calls", json_integer((json_int_t)calls));
    json_object_set_new(json, "timed_calls", json_integer((json_int_t)timed));
    json_object_set_new(json, "timed_us", json_real((double)timed_ns / 1000));
    json_object_set_new(json, "call_duration", distribution_json(&d));
}
