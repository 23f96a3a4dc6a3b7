/*
 * trace_time.c - one time for a request that all hops and all logs agree on: its anchor.
 *
 * The client says when it sent the request (X-Trace-Time: seconds with milliseconds), and perhaps
 * how far its clock is off (X-Time-Offset: what time_sync's GET /time let it find out). If that,
 * added up, is near the gateway's time, it is the anchor; if not, or if there is none, the gateway's
 * time is. The anchor goes on to later plugins and upstreams, back to the client, and into the
 * variable "trace_time_anchor", for logs and spans.
 *
 * What a newcomer would get wrong: the skew is not the error of the client's clock alone. The time
 * that the request was on its way is in it, so that it is below zero for a clock that is right.
 */
#include "stamp.h"

#include <stdlib.h>
#include <strings.h>

/* A client's offset larger than this is no offset, but nonsense: a year. */
#define OFFSET_MAX_MS (366LL * 86400 * 1000)

struct config {
    const char *header, *offset_header;
    int64_t tolerance, plausible, window;
    int32_t response;
};

/* The largest of the last one to two windows. */
struct peak {
    int64_t current, previous, ends_ms;
};

struct trace_time {
    bh_inst *inst;
    const struct config *cfg;
    struct peak skew;
    uint32_t skew_max, requests; /* metrics */
};

static int is_token(const char *s)
{
    static const char chars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return *s != '\0' && s[strspn(s, chars)] == '\0';
}

static bh_rc trace_time_validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    bh_rc rc = BH_OK;

    if (!is_token(c->header)) {
        bh_cfg_error(errs, "header", "is not a header name (a token, RFC 9110 5.1)");
        rc = BH_FAIL;
    }
    if (!is_token(c->offset_header)) {
        bh_cfg_error(errs, "offset_header", "is not a header name (a token, RFC 9110 5.1)");
        rc = BH_FAIL;
    }
    if (c->plausible < c->tolerance) {
        bh_cfg_error(errs, "plausible", "is less than tolerance: no time could be both");
        rc = BH_FAIL;
    }
    return rc;
}

static bh_rc trace_time_open(bh_inst *inst, const void *cfg, void **selfp)
{
    static const char *const labels[] = {"source", NULL};
    struct trace_time *self = calloc(1, sizeof *self);

    if (self == NULL)
        return BH_FAIL;
    self->inst = inst;
    self->cfg = cfg;
    /* Without metrics it works as well. */
    (void)bh_metric(inst, BH_M_GAUGE_MAX, "trace_time_skew_ms_max",
                    "Largest |X-Trace-Time - gateway's time| of the window, in ms.", NULL,
                    &self->skew_max);
    (void)bh_metric(inst, BH_M_COUNTER, "trace_time_requests_total",
                    "Requests by whose time the anchor is: client, gateway (it said none), "
                    "corrected (its time was off).",
                    labels, &self->requests);
    *selfp = self;
    return BH_OK;
}

static void trace_time_close(void *self)
{
    free(self);
}

static int64_t peak_note(struct peak *p, int64_t v, int64_t now_ms, int64_t window_ms)
{
    if (now_ms >= p->ends_ms) {
        /* After a longer silence, nothing is left of what was before. */
        p->previous = now_ms - p->ends_ms < window_ms ? p->current : 0;
        p->current = 0;
        p->ends_ms = now_ms + window_ms;
    }
    if (v > p->current)
        p->current = v;
    return p->current > p->previous ? p->current : p->previous;
}

static void note_skew(struct trace_time *self, int64_t skew_ms)
{
    int64_t max = peak_note(&self->skew, skew_ms, bh_now_ns(BH_CLOCK_LOOP) / 1000000,
                            self->cfg->window);

    bh_metric_set(self->inst, self->skew_max, NULL, (double)max);
}

/* So that a peak is forgotten when no requests come. */
static void on_tick(void *self, void *arg)
{
    (void)arg;
    note_skew(self, 0);
}

static bh_rc trace_time_start(void *self_)
{
    struct trace_time *self = self_;
    uint32_t every_ms = (uint32_t)(self->cfg->window / 8);
    bh_rc rc = bh_timer(self->inst, every_ms, every_ms, on_tick, NULL, NULL);

    return rc == BH_OK || rc == BH_ENOSYS ? BH_OK : BH_FAIL;
}

/* time_sync's, when it is in the chain before this plugin; else this machine's. */
static int64_t gateway_ms(bh_req *req)
{
    int64_t ms;

    if (stamp_parse(bh_var(req, "time_sync.now"), &ms))
        return ms;
    return bh_now_ns(BH_CLOCK_LOOP_REAL) / 1000000;
}

/* When the client says that it sent this, by a right clock. 0: it does not say, or nonsense. */
static int client_ms(const struct config *cfg, bh_req *req, int64_t gateway, int64_t *ms)
{
    int64_t offset;

    if (!stamp_parse(bh_header(req, cfg->header), ms))
        return 0;
    if (stamp_parse_offset(bh_header(req, cfg->offset_header), &offset) &&
        llabs(offset) <= OFFSET_MAX_MS)
        *ms += offset;
    return *ms >= 0 && llabs(*ms - gateway) <= cfg->plausible;
}

static bh_rc set_var(bh_req *req, const char *name, int64_t ms)
{
    char buf[STAMP_SIZE];

    return bh_var_set(req, name, stamp_print(ms, buf));
}

/* Variables for the plugins that follow; nothing of it is of use by halves. */
static bh_rc tell_plugins(bh_req *req, int64_t gateway, int has_client, int64_t client,
                          const char *source)
{
    char skew[24];

    if (has_client) {
        snprintf(skew, sizeof skew, "%lld", (long long)(client - gateway));
        if (set_var(req, "trace_time.client", client) != BH_OK ||
            bh_var_set(req, "trace_time.skew_ms", bh_s(skew)) != BH_OK)
            return BH_FAIL;
    }
    if (set_var(req, "trace_time.gateway", gateway) != BH_OK)
        return BH_FAIL;
    return bh_var_set(req, "trace_time.source", bh_s(source));
}

static bh_rc trace_time_on_request(void *self_, bh_req *req, void *ctx)
{
    struct trace_time *self = self_;
    const struct config *cfg = self->cfg;
    int64_t gateway = gateway_ms(req), client = 0, anchor = gateway;
    int has_client = client_ms(cfg, req, gateway, &client);
    const char *source = "gateway";
    bh_str text, counted = bh_s(source);
    char buf[STAMP_SIZE];

    (void)ctx;
    if (has_client) {
        int64_t skew = llabs(client - gateway);

        note_skew(self, skew);
        counted = bh_s("corrected");
        if (skew <= cfg->tolerance) {
            anchor = client;
            source = "client";
            counted = bh_s(source);
        }
    }
    bh_metric_add(self->inst, self->requests, &counted, 1);
    text = stamp_print(anchor, buf);
    if (tell_plugins(req, gateway, has_client, client, source) != BH_OK ||
        bh_var_set(req, "trace_time_anchor", text) != BH_OK ||
        bh_header_set(req, BH_REQ, cfg->header, text) != BH_OK)
        return BH_FAIL;
    /* The anchor is by the gateway's time now: who applied the client's offset again would be wrong. */
    if (bh_header(req, cfg->offset_header).p != NULL &&
        bh_header_del(req, BH_REQ, cfg->offset_header) != BH_OK)
        return BH_FAIL;
    return cfg->response ? bh_header_set(req, BH_RESP, cfg->header, text) : BH_CONTINUE;
}

static const bh_opt trace_time_options[] = {
    BH_STR(struct config, header, "X-Trace-Time", "header with the time, in, on, and back"),
    BH_STR(struct config, offset_header, "X-Time-Offset",
           "request header with the client's clock offset, in ms"),
    BH_DURATION(struct config, tolerance, "200ms", 1, 60000,
                "a client's time that is off by more does not become the anchor"),
    BH_DURATION(struct config, plausible, "1d", 1, 3.1536e10,
                "one that is off by more is nonsense, and counted nowhere"),
    BH_DURATION(struct config, window, "60s", 1000, 3600000,
                "trace_time_skew_ms_max: the largest skew in so much time"),
    BH_BOOL(struct config, response, "true", "tell the client the anchor"),
    BH_OPT_END,
};

BH_PLUGIN("trace_time", "1.0.0", .summary = "gives each request a time that all hops agree on",
          .options = trace_time_options, .cfg_size = sizeof(struct config),
          .validate = trace_time_validate, .open = trace_time_open, .start = trace_time_start,
          .close = trace_time_close, .on_request = trace_time_on_request)
