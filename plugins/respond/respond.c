/*
 * respond.c - answers every request with the same status, headers and body.
 *
 * Usually the last of a chain. Nothing is copied per request: the body is sent from the options
 * (bh_reply_ref), which live as long as the instance does, and requests never outlive that.
 */
#include <bulkhead.h>

struct config {
    int status;
    bh_str body;
    const char *content_type;
    bh_map headers;
};

static const bh_opt options[] = {
    BH_INT(struct config, status, "200", 200, 599, "Status of the answer"),
    BH_STR(struct config, body, "", "Body of the answer"),
    BH_STR(struct config, content_type, "text/plain; charset=utf-8",
           "Content-Type; empty: none is sent"),
    BH_MAP(struct config, headers, "Further headers of the answer"),
    BH_OPT_END,
};

/* RFC 9110 5.6.2: what a header's name is made of. */
static int is_token(bh_str s)
{
    static const char extra[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (!(c >= '0' && c <= '9') && !((c | 32) >= 'a' && (c | 32) <= 'z') &&
            memchr(extra, c, sizeof extra - 1) == NULL)
            return 0;
    }
    return s.n > 0;
}

static int is_value(bh_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == '\0')
            return 0;
    }
    return 1;
}

static bh_rc validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    bh_rc rc = BH_OK;

    for (size_t i = 0; i < c->headers.n; i++) {
        if (!is_token(c->headers.v[i].k) || !is_value(c->headers.v[i].v)) {
            bh_cfg_error(errs, "headers", "a header's name is a token, its value one line");
            rc = BH_FAIL;
        }
    }
    if ((c->status == 204 || c->status == 304) && c->body.n > 0) {
        bh_cfg_error(errs, "body", "an answer with status 204 or 304 has no body (RFC 9110 15)");
        rc = BH_FAIL;
    }
    return rc;
}

static bh_rc open_instance(bh_inst *inst, const void *cfg, void **self)
{
    (void)inst;
    *self = (void *)(uintptr_t)cfg;
    return BH_OK;
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    const struct config *c = self;
    const char *type = c->content_type && c->content_type[0] ? c->content_type : NULL;

    (void)ctx;
    for (size_t i = 0; i < c->headers.n; i++) {
        if (bh_header_set(req, BH_RESP, c->headers.v[i].k.p, c->headers.v[i].v) != BH_OK) {
            bh_logf(bh_instance(req), BH_LOG_ERROR, "cannot set the header %s: the host owns it",
                    c->headers.v[i].k.p);
            return BH_FAIL;
        }
    }
    return bh_reply_ref(req, c->status, type, c->body.p ? c->body.p : "", c->body.n);
}

BH_PLUGIN("respond", "1.0.0", .summary = "Answers every request with the same reply",
          .options = options, .cfg_size = sizeof(struct config), .validate = validate,
          .open = open_instance, .on_request = on_request)
