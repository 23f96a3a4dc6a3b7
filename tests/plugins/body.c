/*
 * body.c - looks at request and response bodies in every way there is, and says what it saw.
 *
 * The reply to a request with a body: "calls=N bytes=N body=RC BYTES", where RC is what bh_body()
 * answered in the last call and BYTES are those of that call's chunk (the first 64).
 */
#include <bulkhead.h>

#include <ctype.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

struct config {
    uint8_t mode, resp_mode;
    uint32_t max, resp_max, pause_ms;
    const char *replace;
    bool reply, early, pause_head, refuse, upper, grow, trace;
};

struct instance {
    const struct config *cfg;
    bh_inst *inst;
};

struct ctx {
    uint32_t calls, resp_calls;
    size_t bytes;
    bool has_paused;
};

static const bh_opt options[] = {
    BH_ENUM(struct config, mode, "default", "none|stream|buffer|default", "The request body"),
    BH_ENUM(struct config, resp_mode, "default", "none|stream|buffer|default", "The response body"),
    BH_SIZE(struct config, max, "0", 0, 0, "For mode: buffer"),
    BH_SIZE(struct config, resp_max, "0", 0, 0, "For resp_mode: buffer"),
    BH_DURATION(struct config, pause_ms, "0", 0, 0, "Pause at each call of on_request_body"),
    BH_STR(struct config, replace, NULL, "Replace the buffered request body by this"),
    BH_BOOL(struct config, reply, "false", "Answer"),
    BH_BOOL(struct config, early, "false", "Answer at the first chunk"),
    BH_BOOL(struct config, refuse, "false", "Answer 403 in on_request"),
    BH_BOOL(struct config, pause_head, "false", "Pause in on_request, too"),
    BH_BOOL(struct config, upper, "false", "Response bodies in upper case, with calls counted"),
    BH_BOOL(struct config, grow, "false", "Response chunks tripled"),
    BH_BOOL(struct config, trace, "false", "Log how requests end"),
    BH_OPT_END,
};

static bh_rc open_(bh_inst *inst, const void *cfg, void **out)
{
    struct instance *self = calloc(1, sizeof *self);

    if (self == NULL)
        return BH_FAIL;
    self->cfg = cfg;
    self->inst = inst;
    *out = self;
    return BH_OK;
}

static void *resume_later(void *ticket)
{
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    bh_resume(ticket, BH_CONTINUE);
    return NULL;
}

static bh_rc pause_here(bh_req *req)
{
    bh_ticket *t = bh_ticket_take(req, 5000);
    pthread_t thread;

    if (t == NULL || pthread_create(&thread, NULL, resume_later, t) != 0)
        return BH_FAIL;
    pthread_detach(thread);
    return BH_PAUSE;
}

static void clean_up(void *self)
{
    bh_logf(((struct instance *)self)->inst, BH_LOG_WARN, "cleaned up");
}

static void on_log(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;

    if (self->cfg->trace)
        bh_logf(self->inst, BH_LOG_WARN, "over: aborted %s, status %d, %zu bytes of body",
                bh_attr(req, "aborted").p != NULL ? "yes" : "no", bh_status(req),
                ((struct ctx *)ctx)->bytes);
}

static bh_rc on_request(void *self_, bh_req *req, void *ctx)
{
    const struct config *cfg = ((struct instance *)self_)->cfg;

    (void)ctx;
    if (cfg->trace && bh_defer(req, clean_up, self_) != BH_OK)
        return BH_FAIL;
    if (cfg->mode != 3 && bh_body_want(req, BH_REQ, cfg->mode, cfg->max) != BH_OK)
        return BH_FAIL;
    if (cfg->resp_mode != 3 && bh_body_want(req, BH_RESP, cfg->resp_mode, cfg->resp_max) != BH_OK)
        return BH_FAIL;
    if (cfg->refuse)
        return bh_reply(req, 403, "text/plain", "refused");
    if (cfg->pause_head)
        return pause_here(req);
    if (cfg->reply &&
        (cfg->mode == BH_BODY_NONE || (bh_header(req, "Transfer-Encoding").p == NULL &&
                                       (bh_header(req, "Content-Length").p == NULL ||
                                        bh_str_eq(bh_header(req, "Content-Length"), "0")))))
        return bh_reply(req, 200, "text/plain", "no body");
    return BH_CONTINUE;
}

static bh_rc answer(bh_req *req, const struct ctx *c, bh_str chunk)
{
    char text[256];
    bh_str whole;
    bh_rc rc = bh_body(req, BH_REQ, &whole);
    int n = snprintf(text, sizeof text, "calls=%u bytes=%zu body=%d %.64s", c->calls, c->bytes, rc,
                     chunk.p);

    return bh_reply_n(req, 200, "text/plain", text, (size_t)n);
}

static bh_rc on_request_body(void *self_, bh_req *req, void *ctx, bh_str chunk, int32_t end)
{
    const struct config *cfg = ((struct instance *)self_)->cfg;
    struct ctx *c = ctx;

    c->calls++;
    c->bytes += chunk.n;
    if (cfg->replace != NULL && end &&
        bh_body_set(req, BH_REQ, cfg->replace, strlen(cfg->replace)) != BH_OK)
        return BH_FAIL;
    if (cfg->reply && (end || cfg->early))
        return answer(req, c, chunk);
    if (cfg->pause_ms > 0)
        return pause_here(req);
    return BH_CONTINUE;
}

static bh_rc on_response_body(void *self_, bh_req *req, void *ctx, bh_str chunk, int32_t end)
{
    const struct config *cfg = ((struct instance *)self_)->cfg;
    struct ctx *c = ctx;
    char *text;

    (void)end;
    c->resp_calls++;
    if (cfg->grow) {
        text = malloc(chunk.n * 3 + 1);
        if (text == NULL)
            return BH_FAIL;
        for (int i = 0; i < 3; i++)
            memcpy(text + (size_t)i * chunk.n, chunk.p, chunk.n);
        bh_body_set(req, BH_RESP, text, chunk.n * 3);
        free(text);
    }
    if (cfg->upper) {
        text = malloc(chunk.n + 32);
        if (text == NULL)
            return BH_FAIL;
        for (size_t i = 0; i < chunk.n; i++)
            text[i] = (char)toupper((unsigned char)chunk.p[i]);
        bh_body_set(req, BH_RESP, text,
                    chunk.n + (end ? (size_t)sprintf(text + chunk.n, " [%u]", c->resp_calls) : 0));
        free(text);
    }
    return BH_CONTINUE;
}

BH_PLUGIN("body", "1.0.0", .summary = "Looks at bodies", .options = options,
          .cfg_size = sizeof(struct config), .ctx_size = sizeof(struct ctx), .open = open_,
          .close = free, .on_request = on_request, .on_request_body = on_request_body,
          .on_response_body = on_response_body, .on_log = on_log)
