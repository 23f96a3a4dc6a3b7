#include "exporter/traces.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "conf/config.h"
#include "exporter/gzip.h"
#include "exporter/otlp.h"
#include "exporter/outbox.h"
#include "ipc/shm.h"
#include "obs/log.h"

#ifndef BULKHEAD_VERSION
#define BULKHEAD_VERSION "0"
#endif

#define BATCH         512
#define BATCH_BYTES   (4u << 20) /* before compression: what collectors take without being told */
#define LOOK_MS       100        /* between two looks at the rings */
#define TELL_EVERY_MS 10000
#define MAX_AGE_MS    300000
#define PARALLEL      4

static struct {
    const struct config *cfg;
    struct shm *shm;
    struct outbox *outbox;
    struct mailbox *to;
    struct otlp_source source;
    char host[HOST_NAME_MAX + 1], instance[64];
    struct buffer batch;
    uint32_t n;       /* spans in it */
    int64_t since_ms; /* the first of them came */
    int64_t told_ms;
    uint64_t bad; /* records that made no sense */
} traces;

static char record[SHM_LINE_MAX + 1];

/* 200 and a partialSuccess: some were refused. */
static enum outbox_verdict judge(const struct outbox_answer *answer, char *why, size_t size)
{
    enum outbox_verdict verdict = outbox_judge(answer);
    json_t *json, *partial, *n, *message;

    if (verdict == OUTBOX_AGAIN || answer->body_len == 0)
        return verdict;
    json = json_loadb(answer->body, answer->body_len, 0, NULL);
    partial = json_object_get(json, "partialSuccess");
    n = json_object_get(partial, "rejectedSpans"); /* a string, or a number all the same */
    message = json_object_get(verdict == OUTBOX_TAKEN ? partial : json,
                              verdict == OUTBOX_TAKEN ? "errorMessage" : "message");
    if (verdict == OUTBOX_TAKEN &&
        (json_integer_value(n) > 0 || (json_is_string(n) && atoll(json_string_value(n)) > 0))) {
        snprintf(why, size, "it refused some of the spans: %.200s",
                 json_is_string(message) ? json_string_value(message) : "without a reason");
        atomic_fetch_add(
            &traces.shm->traces.refused,
            (uint64_t)(json_is_string(n) ? atoll(json_string_value(n)) : json_integer_value(n)));
    } else if (verdict == OUTBOX_REFUSED && json_is_string(message)) {
        snprintf(why, size, "%.200s", json_string_value(message));
    }
    json_decref(json);
    return verdict;
}

static void settled(void *context, uint32_t tag, bool was_taken)
{
    struct shm_traces *t = &traces.shm->traces;

    (void)context;
    atomic_fetch_add(was_taken ? &t->sent : &t->lost, tag); /* so many spans */
}

int traces_open(const struct config *cfg, struct shm *shm, struct outbox *outbox)
{
    const struct config_tracing *c = &cfg->tracing;
    struct outbox_address address = {.what = "traces",
                                     .url = c->endpoint,
                                     .ca = c->ca,
                                     .content_type = "application/json",
                                     .header = c->header,
                                     .n_headers = c->n_headers,
                                     .is_gzip = !c->is_plain,
                                     .timeout_ms = c->timeout_ms,
                                     .max_age_ms = MAX_AGE_MS,
                                     .parallel = PARALLEL,
                                     .max_bytes = c->queue,
                                     .judge = judge,
                                     .settled = settled};

    traces.cfg = cfg;
    traces.shm = shm;
    traces.outbox = outbox;
    atomic_store(&shm->traces.is_on, 1);
    traces.to = outbox_add(outbox, &address);
    if (traces.to == NULL)
        return -ENOMEM;
    if (gethostname(traces.host, sizeof traces.host - 1) == 0)
        traces.source.host = traces.host;
    /* Of this server, as long as it runs: its reloads and exporters are the same one. */
    snprintf(traces.instance, sizeof traces.instance, "%016" PRIx64 "%08x", shm->tally_key[0],
             (unsigned)getppid());
    traces.source.instance = traces.instance;
    traces.source.version = BULKHEAD_VERSION;
    traces.source.pid = (int)getppid();
    return 0;
}

/* ---- batches ---- */

static void send_batch(void)
{
    size_t n = traces.batch.n;
    char *body = NULL;

    if (traces.n == 0)
        return;
    otlp_end(&traces.batch);
    if (!traces.batch.has_failed && traces.cfg->tracing.is_plain) {
        n = traces.batch.n;
        body = traces.batch.p; /* goes along */
        traces.batch = (struct buffer){0};
    } else if (!traces.batch.has_failed) {
        body = gzip_pack(traces.batch.p, traces.batch.n, &n);
        traces.batch.n = 0;
    } else {
        buffer_fini(&traces.batch);
    }
    outbox_put(traces.outbox, traces.to, body, n, traces.n); /* counted, if there is no memory */
    traces.n = 0;
}

static void add(const char *p, size_t n, int64_t now_ms)
{
    if (traces.n == 0) {
        traces.batch.n = 0;
        otlp_begin(&traces.batch, &traces.cfg->tracing, &traces.source);
        traces.since_ms = now_ms;
    }
    if (otlp_add(&traces.batch, p, n, traces.n) < 0) {
        traces.bad++;
        return;
    }
    traces.n++;
    if (traces.n == BATCH || traces.batch.n > BATCH_BYTES)
        send_batch();
}

/* What does not fit stays in the ring, and then out of it: workers count that. */
static void drain_ring(struct shm_ring *ring, int64_t now_ms)
{
    uint64_t end = atomic_load(&ring->head);
    uint32_t tag;
    ssize_t n;

    while (outbox_has_room(traces.to) && (n = shm_ring_read(ring, &tag, record)) != -EAGAIN) {
        if (n < 0) {
            traces.bad++;
            break;
        }
        add(record, (size_t)n, now_ms);
        if ((int64_t)(end - atomic_load(&ring->tail)) <= 0)
            break;
    }
}

static void tell_dropped(int64_t now_ms)
{
    uint64_t dropped = 0;

    if (now_ms - traces.told_ms < TELL_EVERY_MS)
        return;
    for (uint32_t i = 0; i < traces.shm->n_workers; i++) {
        struct shm_ring *ring = &traces.shm->worker[i].spans;
        uint64_t n = atomic_load(&ring->dropped);

        dropped += n - ring->dropped_told;
        ring->dropped_told = n;
    }
    if (dropped == 0 && traces.bad == 0)
        return;
    traces.told_ms = now_ms;
    if (dropped > 0)
        log_warn("traces: %" PRIu64
                 " spans were dropped: they came faster than the collector takes "
                 "them (tracing.sample)",
                 dropped);
    if (traces.bad > 0)
        log_error("traces: %" PRIu64 " spans made no sense, and were dropped", traces.bad);
    traces.bad = 0;
}

void traces_run(int64_t now_ms, bool is_last)
{
    for (uint32_t i = 0; i < traces.shm->n_workers; i++)
        drain_ring(&traces.shm->worker[i].spans, now_ms);
    if (traces.n > 0 &&
        (is_last || now_ms - traces.since_ms >= (int64_t)traces.cfg->tracing.interval_ms))
        send_batch();
    tell_dropped(now_ms);
}

int traces_wait_ms(int64_t now_ms)
{
    (void)now_ms;
    return LOOK_MS;
}
