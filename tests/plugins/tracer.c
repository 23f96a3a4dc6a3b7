/*
 * tracer.c - a plugin for tests: adds to the trace of its requests, and says what it knows of it.
 *
 * ?pause=MS holds the request in an offloaded job, ?crash=1 crashes within a span of its own.
 */
#include <bulkhead.h>
#include <stdlib.h>
#include <unistd.h>

static int32_t sleep_a_while(void *arg)
{
    usleep((useconds_t)(size_t)arg * 1000);
    return BH_CONTINUE;
}

static void add_spans(bh_req *req, int crashes)
{
    uint64_t outer = bh_span_begin(req, "lookup"), inner;

    bh_span_text(req, outer, "db.system", bh_s("none"));
    bh_span_number(req, outer, "rows", 42);
    bh_span_number(req, outer, "score", 0.5);
    bh_span_text(req, outer, "hostile", bh_sn("a\0\"\xff\n", 5));
    bh_span_event(req, outer, "cache miss");
    inner = bh_span_begin(req, "read");
    if (crashes)
        abort();
    bh_span_end(req, inner);
    bh_span_end(req, outer);
    /* These do nothing. */
    bh_span_end(req, outer);
    bh_span_text(req, outer, "late", bh_s("x"));
    bh_span_text(req, 0, "nowhere", bh_s("x"));
    bh_span_text(req, 12345, "nowhere", bh_s("x"));
    bh_span_text(req, BH_SPAN_CALL, "of.call", bh_s("yes"));
    bh_span_text(req, BH_SPAN_REQUEST, "of.request", bh_s("yes"));
    for (int i = 0; i < 100; i++) { /* more than there is room for */
        char key[16];

        snprintf(key, sizeof key, "k%d", i);
        bh_span_text(req, BH_SPAN_CALL, key, bh_s("v"));
    }
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    bh_str pause = bh_query(req, "pause");

    (void)self;
    (void)ctx;
    bh_var_set(req, "trace_time_anchor", bh_s("1795793494.123"));
    add_spans(req, bh_query(req, "crash").p != NULL);
    return pause.p != NULL ? bh_offload(req, sleep_a_while, (void *)(size_t)atoi(pause.p))
                           : BH_CONTINUE;
}

static void add(char *out, size_t size, const char *name, bh_str v)
{
    size_t n = strlen(out);

    snprintf(out + n, size - n, "%s\"%s\":\"%.*s\"", n > 1 ? "," : "", name, (int)v.n,
             v.p != NULL ? v.p : "");
}

static bh_rc answer(void *self, bh_req *req, void *ctx)
{
    char out[2048] = "{";

    (void)self;
    (void)ctx;
    add(out, sizeof out, "traceparent", bh_header(req, "traceparent"));
    add(out, sizeof out, "tracestate", bh_header(req, "tracestate"));
    add(out, sizeof out, "trace_id", bh_attr(req, "trace_id"));
    add(out, sizeof out, "span_id", bh_attr(req, "span_id"));
    strcat(out, "}");
    return bh_reply(req, 200, "application/json", out);
}

static bh_rc both(void *self, bh_req *req, void *ctx)
{
    bh_rc rc = on_request(self, req, ctx);

    return rc == BH_CONTINUE ? answer(self, req, ctx) : rc;
}

/* After a pause the request goes on with the next one in the chain. */
static bh_rc on_request_body(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end)
{
    (void)chunk;
    return end ? answer(self, req, ctx) : BH_CONTINUE;
}

static bh_rc on_response(void *self, bh_req *req, void *ctx)
{
    (void)self;
    (void)ctx;
    return bh_resp_header(req, "X-Traced", bh_attr(req, "trace_id").p != NULL ? "yes" : "no");
}

BH_PLUGIN("tracer", "1.0.0", .on_request = both, .on_request_body = on_request_body,
          .on_response = on_response)
