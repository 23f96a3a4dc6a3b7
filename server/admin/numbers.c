/*
 * numbers.c - metrics: all of them for a scraper, and a few, as they are just now, for the dashboard.
 *
 * The few are differences between two looks at shared memory, a second apart. Plugin calls are timed in
 * one request of METRICS_SAMPLE only, so what is known of their times fades instead of being dropped after
 * each second. What a newcomer would get wrong: memory that was never written to must not be read, since
 * that takes it; so histograms are looked at where counts say that there is something.
 */
#include <stdlib.h>
#include <string.h>

#include "admin/internal.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "conf/config.h"
#include "ipc/histogram.h"
#include "ipc/shm.h"
#include "obs/metrics_text.h"

#define FADE 0.9 /* of what is known of a plugin's times, each second */

/* ---- for scrapers ---- */

void get_metrics(struct request *req)
{
    enum metrics_format format = metrics_format_for(request_header(req, "Accept"));
    struct buffer out = {0};

    if (metrics_text(req->admin->shm, format, clock_mono_ms(), &out) < 0) {
        buffer_fini(&out);
        return; /* no memory */
    }
    reply_text(req, 200, metrics_content_type(format), out.p, out.n);
}

/* ---- for the dashboard ---- */

struct plugin_numbers {
    uint64_t calls[METRICS_HOOKS];
    uint64_t count[HISTOGRAM_NS_SIZE];
};

static struct {
    int64_t at_ms; /* 0: never yet */
    uint64_t requests[METRICS_CODES];
    uint64_t count[HISTOGRAM_NS_SIZE]; /* of requests' durations */
    struct plugin_numbers *plugin;     /* as cfg->plugin */
    double (*faded)[HISTOGRAM_NS_SIZE];
} before;

static void add_histogram(const struct histogram_ns *h, uint64_t *count)
{
    for (int i = 0; i < HISTOGRAM_NS_SIZE; i++)
        count[i] += metrics_read(&h->bucket[i]);
}

static void add_listener(const struct metrics_listener *l, uint64_t *requests, uint64_t *count)
{
    uint64_t n = 0;

    for (int method = 0; method < METRICS_METHODS; method++) {
        for (int code = 0; code < METRICS_CODES; code++) {
            uint64_t v = metrics_read(&l->requests[method][code]);

            requests[code] += v;
            n += v;
        }
    }
    if (n > 0)
        add_histogram(&l->duration, count);
}

static void read_requests(const struct shm *shm, uint64_t *requests, uint64_t *count)
{
    for (uint32_t k = 0; k < shm->n_workers; k++) {
        const struct metrics_slot *slot = &shm->worker[k].metrics;

        for (int i = 0; atomic_load(&slot->is_used) != 0 && i < METRICS_LISTENERS; i++)
            if (atomic_load(&shm->listener_name[i].is_ready) != 0)
                add_listener(&slot->listener[i], requests, count);
    }
}

static void read_plugin(const struct shm *shm, int place, struct plugin_numbers *out)
{
    memset(out, 0, sizeof *out);
    for (uint32_t k = 0; k < shm->n_workers; k++) {
        const struct metrics_plugin *p = &shm->worker[k].metrics_plugin[place];
        uint64_t timed = 0;

        if (atomic_load(&shm->worker[k].metrics.is_used) == 0)
            continue;
        for (int hook = 0; hook < METRICS_HOOKS; hook++) {
            out->calls[hook] += metrics_read(&p->calls[hook]);
            timed += metrics_read(&p->timed[hook]);
        }
        if (timed > 0)
            add_histogram(&p->duration, out->count);
    }
}

static json_t *quantile_us(const uint64_t *count, double q)
{
    uint64_t ns = histogram_ns_quantile(count, q);

    return ns == 0 || ns == UINT64_MAX ? json_null() : json_real((double)ns / 1000);
}

/* Counters of a place that was given to another plugin begin anew. */
static uint64_t since(uint64_t now, uint64_t then)
{
    return now >= then ? now - then : now;
}

static json_t *plugin_json(const struct shm *shm, int place, double seconds)
{
    struct plugin_numbers now, *then = &before.plugin[place];
    uint64_t count[HISTOGRAM_NS_SIZE], most = 0;

    read_plugin(shm, place, &now);
    for (int hook = 0; hook < METRICS_HOOKS; hook++) {
        uint64_t n = since(now.calls[hook], then->calls[hook]);

        most = n > most ? n : most;
    }
    for (int i = 0; i < HISTOGRAM_NS_SIZE; i++) {
        double *faded = &before.faded[place][i];

        *faded = *faded * FADE + (double)since(now.count[i], then->count[i]);
        count[i] = (uint64_t)(*faded * 1000);
    }
    *then = now;
    return json_pack("{s:f, s:o}", "calls", (double)most / seconds, "p99_us",
                     quantile_us(count, 0.99));
}

static bool prepare(const struct config *cfg)
{
    size_t n = (size_t)cfg->n_plugins + 1;

    if (before.plugin == NULL)
        before.plugin = calloc(n, sizeof before.plugin[0]);
    if (before.faded == NULL)
        before.faded = calloc(n, sizeof before.faded[0]);
    return before.plugin != NULL && before.faded != NULL;
}

char *numbers_text(struct admin *a, int64_t now_ms)
{
    uint64_t requests[METRICS_CODES] = {0}, count[HISTOGRAM_NS_SIZE] = {0}, n = 0;
    bool is_first = before.at_ms == 0;
    double seconds = is_first ? 1 : (double)(now_ms - before.at_ms) / 1000;
    json_t *plugins = json_object(), *json;
    char *text = NULL;

    if (!prepare(a->cfg) || seconds <= 0) {
        json_decref(plugins);
        return NULL;
    }
    read_requests(a->shm, requests, count);
    for (int i = 0; i < a->cfg->n_plugins; i++) {
        json_t *p = plugin_json(a->shm, i, seconds);

        if (a->cfg->plugin[i].is_removed)
            json_decref(p);
        else
            json_object_set_new(plugins, a->cfg->plugin[i].name, p);
    }
    for (int i = 0; i < METRICS_CODES; i++)
        n += since(requests[i], before.requests[i]);
    for (int i = 0; i < HISTOGRAM_NS_SIZE; i++) {
        uint64_t total = count[i];

        count[i] = since(total, before.count[i]);
        before.count[i] = total;
    }
    if (!is_first) { /* since the start of the server is not just now */
        json = json_pack(
            "{s:f, s:f, s:o, s:o, s:O}", "requests", (double)n / seconds, "errors",
            (double)since(requests[METRICS_5XX], before.requests[METRICS_5XX]) / seconds, "p50_us",
            quantile_us(count, 0.5), "p99_us", quantile_us(count, 0.99), "plugins", plugins);
        text = json != NULL ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
        json_decref(json);
    } else { /* nor are its times */
        memset(before.faded, 0, ((size_t)a->cfg->n_plugins + 1) * sizeof before.faded[0]);
    }
    memcpy(before.requests, requests, sizeof before.requests);
    before.at_ms = now_ms;
    json_decref(plugins);
    return text;
}
