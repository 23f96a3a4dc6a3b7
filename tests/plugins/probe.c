/*
 * probe.c - writes down each call the host makes, one line in a file, and then does as it is told.
 *
 * A line: NAME HOOK[ DETAIL]. What a test would get wrong: lines are appended by write(2), so those
 * of several instances, requests and workers stand in the order in which the calls were made.
 */
#include <bulkhead.h>

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define ACTS "continue|reply|done|decline|fail|nonsense|pause|segv|abort|exit|unused|status|replace"

enum act {
    ACT_CONTINUE,
    ACT_REPLY,
    ACT_DONE, /* without a reply, but in on_response */
    ACT_DECLINE,
    ACT_FAIL,
    ACT_NONSENSE,
    ACT_PAUSE, /* without a ticket */
    ACT_SEGV,
    ACT_ABORT,
    ACT_EXIT,
    ACT_UNUSED,
    ACT_STATUS, /* 418 instead of what there is */
    ACT_REPLACE /* the body that there is */
};

struct config {
    const char *file;
    uint8_t on_request, on_request_body, on_response, on_response_body, on_error, on_log, defer;
    uint8_t open, start, drain, close;
    bool defers, changes, stream;
};

struct instance {
    const struct config *cfg;
    bh_inst *inst;
    int fd;
    bool has_replied;
};

struct ctx {
    uint32_t calls; /* zeroed by the host; counts this request's hooks */
    struct instance *self;
    bh_req *req;
};

static const bh_opt options[] = {
    BH_STR_REQUIRED(struct config, file, "Where to write"),
    BH_ENUM(struct config, on_request, "continue", ACTS, "What to do in on_request"),
    BH_ENUM(struct config, on_request_body, "continue", ACTS, "What to do in on_request_body"),
    BH_ENUM(struct config, on_response, "continue", ACTS, "What to do in on_response"),
    BH_ENUM(struct config, on_response_body, "continue", ACTS, "What to do in on_response_body"),
    BH_ENUM(struct config, on_error, "continue", ACTS, "What to do in on_error"),
    BH_ENUM(struct config, on_log, "continue", ACTS, "What to do in on_log"),
    BH_ENUM(struct config, defer, "continue", ACTS, "What to do in the first deferred function"),
    BH_ENUM(struct config, open, "continue", ACTS, "What to do in open, but for the first"),
    BH_ENUM(struct config, start, "continue", ACTS, "What to do in start"),
    BH_ENUM(struct config, drain, "continue", ACTS, "What to do in drain"),
    BH_ENUM(struct config, close, "continue", ACTS, "What to do in close"),
    BH_BOOL(struct config, defers, "false", "Register two deferred functions in on_request"),
    BH_BOOL(struct config, changes, "false", "Change headers, variables and path before acting"),
    BH_BOOL(struct config, stream, "false", "Reply with a stream of two chunks"),
    BH_OPT_END,
};

__attribute__((format(printf, 2, 3))) static void note(struct instance *self, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    int n, k;

    n = snprintf(line, sizeof line, "%s ", bh_info(self->inst, "name").p);
    va_start(ap, fmt);
    k = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    if ((size_t)n + (size_t)k > sizeof line - 2)
        k = (int)sizeof line - 2 - n; /* was cut */
    if (k < 0 || write(self->fd, strcat(line, "\n"), (size_t)(n + k) + 1) < 0)
        bh_log(self->inst, BH_LOG_ERROR, "cannot write the trace");
}

static bh_rc reply(struct instance *self, bh_req *req)
{
    const char *name = bh_info(self->inst, "name").p;

    self->has_replied = true;
    if (!self->cfg->stream)
        return bh_reply(req, 200, "text/plain", name);
    if (bh_stream_begin(req, 200, -1) != BH_OK)
        return BH_FAIL;
    bh_stream_write(req, "one ", 4, 0);
    bh_stream_write(req, "two", 3, 1);
    return BH_DONE;
}

static int *volatile nowhere;

static bh_rc act(struct instance *self, bh_req *req, uint8_t what)
{
    switch (what) {
    case ACT_REPLY: return reply(self, req);
    case ACT_DONE: return BH_DONE;
    case ACT_DECLINE: return BH_DECLINE;
    case ACT_FAIL: return BH_FAIL;
    case ACT_NONSENSE: return 1000;
    case ACT_PAUSE: return BH_PAUSE;
    case ACT_SEGV: *nowhere = 1; return BH_CONTINUE;
    case ACT_ABORT: abort();
    case ACT_EXIT: exit(3);
    case ACT_STATUS: bh_status_set(req, 418); return BH_CONTINUE;
    default: return BH_CONTINUE;
    }
}

/* Everything that a crash of this call must take back. */
static void change(struct instance *self, bh_req *req)
{
    const char *name = bh_info(self->inst, "name").p;

    bh_header_add(req, BH_REQ, "X-Changed", bh_s(name));
    bh_header_add(req, BH_RESP, "X-Changed", bh_s(name));
    bh_header_del(req, BH_REQ, "X-Doomed");
    bh_header_set(req, BH_REQ, "X-Kept", bh_s(name));
    bh_var_set(req, "probe.changed", bh_s(name));
    bh_set_path(req, bh_s("/changed"));
}

static const char *or_none(bh_str s)
{
    return s.p != NULL ? s.p : "-";
}

static void first_deferred(void *arg)
{
    struct ctx *c = arg;

    note(c->self, "defer 1");
    act(c->self, c->req, c->self->cfg->defer);
}

static void second_deferred(void *arg)
{
    note(((struct ctx *)arg)->self, "defer 2");
}

/* ---- the life of an instance ---- */

static bh_rc open_(bh_inst *inst, const void *cfg, void **out)
{
    static const void *seen[16]; /* the config struct tells instances apart */
    struct instance *self = calloc(1, sizeof *self);
    int i = 0;

    if (self == NULL)
        return BH_FAIL;
    self->cfg = cfg;
    self->inst = inst;
    self->fd = open(self->cfg->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (self->fd < 0)
        return BH_FAIL;
    note(self, "open");
    while (i < 15 && seen[i] != NULL && seen[i] != cfg)
        i++;
    if (seen[i] == cfg && act(self, NULL, self->cfg->open) != BH_OK) {
        close(self->fd);
        free(self);
        return BH_FAIL;
    }
    seen[i] = cfg;
    *out = self;
    return BH_OK;
}

static bh_rc start(void *self_)
{
    struct instance *self = self_;

    note(self, "start");
    return act(self, NULL, self->cfg->start);
}

static bh_rc drain(void *self_)
{
    struct instance *self = self_;

    note(self, "drain");
    return act(self, NULL, self->cfg->drain);
}

static void close_(void *self_)
{
    struct instance *self = self_;

    note(self, "close");
    act(self, NULL, self->cfg->close);
    close(self->fd);
    free(self);
}

/* ---- hooks ---- */

static bh_rc on_request(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;
    struct ctx *c = ctx;
    bh_str changed = bh_header(req, "X-Changed");

    c->calls++;
    c->self = self;
    c->req = req;
    note(self, "on_request %s changed=%s kept=%s doomed=%s var=%s", bh_attr(req, "path").p,
         or_none(changed), or_none(bh_header(req, "X-Kept")), or_none(bh_header(req, "X-Doomed")),
         or_none(bh_var(req, "probe.changed")));
    if (self->cfg->defers) {
        bh_defer(req, first_deferred, c);
        bh_defer(req, second_deferred, c);
    }
    if (self->cfg->changes)
        change(self, req);
    return act(self, req, self->cfg->on_request);
}

static bh_rc on_request_body(void *self_, bh_req *req, void *ctx, bh_str chunk, int32_t end)
{
    struct instance *self = self_;

    ((struct ctx *)ctx)->calls++;
    note(self, "on_request_body %zu%s", chunk.n, end ? " end" : "");
    return act(self, req, self->cfg->on_request_body);
}

static bh_rc on_response(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;

    ((struct ctx *)ctx)->calls++;
    note(self, "on_response %d", bh_status(req));
    if (self->cfg->on_response == ACT_REPLACE) {
        bh_body_set(req, BH_RESP, "replaced", 8);
        return BH_CONTINUE;
    }
    return act(self, req, self->cfg->on_response);
}

static bh_rc on_response_body(void *self_, bh_req *req, void *ctx, bh_str chunk, int32_t end)
{
    struct instance *self = self_;

    ((struct ctx *)ctx)->calls++;
    note(self, "on_response_body %.*s%s", (int)chunk.n, chunk.p, end ? " end" : "");
    if (self->cfg->on_response_body == ACT_REPLACE) {
        bh_body_set(req, BH_RESP, "replaced", 8);
        return BH_CONTINUE;
    }
    return act(self, req, self->cfg->on_response_body);
}

static bh_rc on_error(void *self_, bh_req *req, void *ctx, const bh_error *err)
{
    struct instance *self = self_;

    ((struct ctx *)ctx)->calls++;
    note(self, "on_error kind=%d signo=%d plugin=%s hook=%s record=%s status=%d", err->kind,
         err->signo, err->plugin, err->hook, err->record_id != NULL ? "yes" : "no", bh_status(req));
    return act(self, req, self->cfg->on_error);
}

static void on_log(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;
    struct ctx *c = ctx;

    c->calls++;
    note(self, "on_log status=%d bytes=%s calls=%u", bh_status(req), or_none(bh_attr(req, "bytes")),
         c->calls);
    act(self, req, self->cfg->on_log);
}

BH_PLUGIN("probe", "1.0.0", .summary = "Writes down what the host calls", .options = options,
          .cfg_size = sizeof(struct config), .ctx_size = sizeof(struct ctx), .open = open_,
          .start = start, .drain = drain, .close = close_, .on_request = on_request,
          .on_request_body = on_request_body, .on_response = on_response,
          .on_response_body = on_response_body, .on_error = on_error, .on_log = on_log)
