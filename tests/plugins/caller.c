/*
 * caller.c - asks another server, and answers with what that says.
 *
 *     GET /call?to=UPSTREAM&path=P[&method=M][&body=B][&timeout=MS][&max=BYTES][&do=WHAT]
 *         "ERR STATUS BODY-LENGTH X-Seen: ..." and the body; WHAT: crash (in the answer's function),
 *         cancel, bad (a pointer to nowhere), header (one with a line break)
 *     GET /many?to=UPSTREAM&n=N   how many of N at once are taken
 */
#include <bulkhead.h>

#include <stdlib.h>

struct instance {
    bh_inst *inst;
};

static bh_rc open_it(bh_inst *inst, const void *cfg, void **self)
{
    struct instance *i = calloc(1, sizeof *i);

    (void)cfg;
    i->inst = inst;
    *self = i;
    return BH_OK;
}

static void close_it(void *self)
{
    free(self);
}

static bh_str field(const bh_http_resp *rs, const char *name)
{
    for (size_t i = 0; i < rs->nhdr; i++)
        if (bh_str_eq(rs->hdr_kv[2 * i], name))
            return rs->hdr_kv[2 * i + 1];
    return bh_s("-");
}

static void answered(void *self, bh_ticket *t, const bh_http_resp *rs, void *arg)
{
    static char text[4096];
    bh_str seen = field(rs, "X-Seen");
    int n;

    (void)self, (void)arg;
    n = snprintf(text, sizeof text, "%d %d %zu %.*s %.*s%.*s", rs->err, rs->status, rs->body.n,
                 (int)seen.n, seen.p, rs->body.n < 2000 ? (int)rs->body.n : 0, rs->body.p,
                 (int)rs->why.n, rs->why.p != NULL ? rs->why.p : "");
    bh_resume_reply(t, 200, "text/plain", text, (size_t)n);
}

static void crash(void *self, bh_ticket *t, const bh_http_resp *rs, void *arg)
{
    int *volatile nowhere = NULL;

    (void)self, (void)t, (void)rs, (void)arg;
    /* cppcheck-suppress nullPointer ; wrong on purpose: a crash in an answer's function */
    *(volatile int *)nowhere = 1;
}

static uint32_t number(bh_req *req, const char *name, uint32_t def)
{
    bh_str s = bh_query(req, name);

    return s.p != NULL ? (uint32_t)strtoul(s.p, NULL, 10) : def;
}

static bh_rc say(bh_req *req, int a, int b)
{
    char text[64];

    snprintf(text, sizeof text, "%d %d", a, b);
    return bh_reply(req, 200, "text/plain", text);
}

static bh_rc call(struct instance *self, bh_req *req)
{
    bh_str what = bh_query(req, "do");
    bh_str kv[4] = {bh_s("X-Asked"), bh_s("by caller"), bh_s("X-Empty"), bh_s("")};
    bh_http_req rq = {.struct_size = sizeof rq,
                      .timeout_ms = number(req, "timeout", 0),
                      .upstream = bh_query(req, "to"),
                      .method = bh_query(req, "method"),
                      .path = bh_query(req, "path"),
                      .body = bh_query(req, "body"),
                      .hdr_kv = kv,
                      .nhdr = 2,
                      .max_body = number(req, "max", 0)};
    bh_ticket *t = bh_ticket_take(req, 3000);
    uint64_t id = 0;
    bh_rc rc;

    if (bh_str_eq(what, "bad"))
        rq.body = bh_sn((const char *)16, 10);
    if (bh_str_eq(what, "header"))
        kv[1] = bh_s("x\r\nX-Smuggled: y");
    rc = bh_http(self->inst, t, &rq, bh_str_eq(what, "crash") ? crash : answered, NULL, &id);
    if (bh_str_eq(what, "cancel")) {
        rc = bh_http_cancel(self->inst, id);
        return say(req, rc, bh_http_cancel(self->inst, id));
    }
    return rc == BH_OK ? BH_PAUSE : say(req, rc, 0);
}

static void ignore(void *self, bh_ticket *t, const bh_http_resp *rs, void *arg)
{
    (void)self, (void)t, (void)rs, (void)arg;
}

static bh_rc on_request(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;
    bh_str path = bh_attr(req, "path");
    int taken = 0;

    (void)ctx;
    if (bh_str_eq(path, "/call"))
        return call(self, req);
    if (bh_str_eq(path, "/many")) {
        bh_http_req rq = {.struct_size = sizeof rq,
                          .timeout_ms = 1500,
                          .upstream = bh_query(req, "to"),
                          .path = bh_s("/")};

        for (uint32_t n = number(req, "n", 1); n > 0; n--)
            taken += bh_http(self->inst, NULL, &rq, ignore, NULL, NULL) == BH_OK;
        return say(req, taken, 0);
    }
    return BH_CONTINUE;
}

BH_PLUGIN("caller", "1.0.0", .open = open_it, .close = close_it, .on_request = on_request)
