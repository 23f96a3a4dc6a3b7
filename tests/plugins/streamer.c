/*
 * streamer.c - streamed replies: ?n= chunks of ?size= bytes, ?len= as announced (-1: unknown).
 *
 * Without via=post the chunks are written in on_request, as far as the host takes them; with it,
 * one by one from posted calls, as a source of events would. With via=pull they are written when there
 * is room; ?bad=crash|fail|idle is what that function does in the end.
 */
#include <bulkhead.h>

#include <stdbool.h>
#include <stdlib.h>

struct instance {
    bh_inst *inst;
};

struct stream {
    bh_req *req;
    bh_inst *inst;
    long left, size;
    long refused; /* BH_EAGAIN */
    bool is_gone, keeps_open;
};

static long number(bh_req *req, const char *name, long otherwise)
{
    bh_str s = bh_query(req, name);

    return s.p != NULL && s.n > 0 ? atol(s.p) : otherwise;
}

static bh_rc write_chunk(struct stream *s)
{
    char *chunk = malloc((size_t)s->size + 1);
    bh_rc rc;

    if (chunk == NULL)
        return BH_ENOMEM;
    memset(chunk, 'a' + (int)(s->left % 26), (size_t)s->size);
    rc = bh_stream_write(s->req, chunk, (size_t)s->size, s->left == 1 && !s->keeps_open);
    free(chunk);
    if (rc == BH_OK)
        s->left--;
    return rc;
}

static void step(void *self, void *arg)
{
    struct stream *s = arg;
    bh_rc rc;

    (void)self;
    if (s->is_gone) {
        bh_logf(s->inst, BH_LOG_WARN, "the stream is over, %ld chunks left, refused %s", s->left,
                s->refused > 0 ? "some" : "none");
        free(s);
        return;
    }
    if (s->left > 0) {
        rc = write_chunk(s);
        s->refused += rc == BH_EAGAIN;
    }
    bh_post(s->inst, step, s);
}

static void gone(void *arg)
{
    ((struct stream *)arg)->is_gone = true;
}

/* Writes until the host takes no more, and says how much that was. */
static bh_rc fill(bh_req *req)
{
    static char block[65536];
    char text[64];
    size_t taken = 0;
    bh_rc rc;

    if (bh_stream_begin(req, 200, -1) != BH_OK)
        return BH_FAIL;
    while ((rc = bh_stream_write(req, block, sizeof block, 0)) == BH_OK && taken < 1u << 26)
        taken += sizeof block;
    snprintf(text, sizeof text, "taken %zu, then %d", taken, rc);
    return bh_reply(req, 200, "text/plain", text); /* instead of the stream */
}

static int *volatile nowhere;

static bh_rc pull(void *self_, bh_req *req, void *ctx)
{
    struct stream *s = *(struct stream **)ctx;
    bh_str bad = bh_query(req, "bad");
    char text[32];

    (void)self_;
    if (s->left == 1 && bh_str_eq(bad, "crash"))
        *nowhere = 1;
    if (s->left == 1 && bh_str_eq(bad, "fail"))
        return BH_FAIL;
    if (s->left == 1 && bh_str_eq(bad, "idle")) {
        snprintf(text, sizeof text, "again: %d", bh_stream_on_writable(req, pull));
        return bh_stream_write(req, text, strlen(text), 1) == BH_OK ? BH_CONTINUE : BH_FAIL;
    }
    if (write_chunk(s) != BH_OK)
        return BH_FAIL;
    return s->left == 0 || bh_stream_on_writable(req, pull) == BH_OK ? BH_CONTINUE : BH_FAIL;
}

static bh_rc on_request(void *self_, bh_req *req, void *ctx)
{
    struct instance *self = self_;
    struct stream *s;

    if (bh_query(req, "fill").p != NULL)
        return fill(req);
    if (bh_stream_begin(req, (int32_t)number(req, "status", 200), number(req, "len", -1)) != BH_OK)
        return BH_FAIL;
    bh_resp_header(req, "Content-Type", "text/event-stream");
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return BH_FAIL;
    s->req = req;
    s->inst = self->inst;
    s->left = number(req, "n", 3);
    s->size = number(req, "size", 10);
    s->keeps_open = bh_query(req, "open").p != NULL;
    if (s->left == 0 && !s->keeps_open)
        bh_stream_write(req, "", 0, 1);
    if (bh_str_eq(bh_query(req, "via"), "pull")) {
        *(struct stream **)ctx = s;
        bh_defer(req, free, s);
        return bh_stream_on_writable(req, pull) == BH_OK ? BH_DONE : BH_FAIL;
    }
    if (bh_query(req, "via").p != NULL) {
        bh_defer(req, gone, s);
        bh_post(self->inst, step, s);
        return BH_DONE;
    }
    while (s->left > 0 && write_chunk(s) == BH_OK)
        ;
    if (bh_query(req, "after").p != NULL && bh_stream_write(req, "x", 1, 0) != BH_EPHASE)
        bh_resp_header(req, "X-After", "taken");
    free(s);
    return BH_DONE;
}

static bh_rc open_(bh_inst *inst, const void *cfg, void **out)
{
    struct instance *self = calloc(1, sizeof *self);

    (void)cfg;
    if (self == NULL)
        return BH_FAIL;
    self->inst = inst;
    *out = self;
    return BH_OK;
}

BH_PLUGIN("streamer", "1.0.0", .summary = "Streams", .ctx_size = sizeof(struct stream *),
          .open = open_, .close = free, .on_request = on_request)
