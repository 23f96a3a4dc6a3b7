/*
 * checked.c - answers that tell by themselves whether they are right: tests/soak/answer.h.
 *
 * ?key=K&n=N and the last part of the path: text (N bytes at once), stream (in pieces), offload (made
 * in a thread of the pool), sum (POST: length and hash of the body, which is read as it comes).
 * X-Key says which request it is the answer to, X-Worker which process made it.
 */
#include <bulkhead.h>

#include <stdlib.h>
#include <unistd.h>

#include "../soak/answer.h"

#define MOST  (1u << 20)
#define PIECE 4096

struct ctx {
    uint64_t key, hash, seen;
    uint32_t n;
};

/* An offloaded answer: of the request and of the thread that makes it, whichever ends last. */
struct job {
    _Atomic int refs;
    uint64_t key;
    uint32_t n;
    char text[];
};

static uint64_t number(bh_req *req, const char *name)
{
    bh_str text = bh_query(req, name);

    return text.p != NULL ? strtoull(text.p, NULL, 10) : 0;
}

static int ends_with(bh_str s, const char *end)
{
    size_t n = strlen(end);

    return s.n >= n && memcmp(s.p + s.n - n, end, n) == 0;
}

static bh_rc sign(bh_req *req, uint64_t key)
{
    char text[32];

    snprintf(text, sizeof text, "%llu", (unsigned long long)key);
    if (bh_resp_header(req, "X-Key", text) != BH_OK)
        return BH_FAIL;
    snprintf(text, sizeof text, "%d", (int)getpid());
    return bh_resp_header(req, "X-Worker", text);
}

static char *make(bh_req *req, const struct ctx *c)
{
    char *text = bh_alloc(req, c->n + 1);

    if (text != NULL)
        answer_fill(c->key, 0, text, c->n);
    return text;
}

static bh_rc answer_stream(bh_req *req, const struct ctx *c)
{
    char piece[PIECE];

    if (bh_stream_begin(req, 200, c->key % 2 == 0 ? (int64_t)c->n : -1) != BH_OK)
        return BH_FAIL;
    for (uint32_t at = 0, n; at < c->n || at == 0; at += n) {
        n = c->n - at < PIECE ? c->n - at : PIECE;
        answer_fill(c->key, at, piece, n);
        if (bh_stream_write(req, piece, n, at + n == c->n) != BH_OK)
            return BH_FAIL;
        if (n == 0)
            break;
    }
    return BH_DONE;
}

static void put(void *arg)
{
    struct job *job = arg;

    if (--job->refs == 0)
        free(job);
}

static int32_t work(void *arg)
{
    struct job *job = arg;

    answer_fill(job->key, 0, job->text, job->n);
    put(job);
    return BH_DONE;
}

static bh_rc answer_offloaded(bh_req *req, const struct ctx *c)
{
    struct job *job = calloc(1, sizeof *job + c->n + 1);

    if (job == NULL)
        return BH_FAIL;
    job->refs = 2;
    job->key = c->key;
    job->n = c->n;
    if (bh_defer(req, put, job) != BH_OK ||
        bh_reply_ref(req, 200, "application/octet-stream", job->text, c->n) != BH_DONE)
        return BH_FAIL;
    return bh_offload(req, work, job);
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    bh_str path = bh_attr(req, "path");
    struct ctx *c = ctx;
    char *text;

    (void)self;
    c->key = number(req, "key");
    c->n = (uint32_t)number(req, "n");
    c->hash = ANSWER_HASH_START;
    if (c->n > MOST)
        return bh_reply(req, 400, "text/plain", "n is too large\n");
    if (sign(req, c->key) != BH_OK)
        return BH_FAIL;
    if (ends_with(path, "/sum"))
        return BH_CONTINUE; /* on_request_body answers */
    if (ends_with(path, "/stream"))
        return answer_stream(req, c);
    if (ends_with(path, "/offload"))
        return answer_offloaded(req, c);
    text = make(req, c);
    if (text == NULL)
        return BH_FAIL;
    return bh_reply_n(req, 200, "application/octet-stream", text, c->n);
}

static bh_rc on_request_body(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end)
{
    struct ctx *c = ctx;
    char text[96];

    (void)self;
    c->hash = answer_hash(c->hash, chunk.p, chunk.n);
    c->seen += chunk.n;
    if (!end)
        return BH_CONTINUE;
    snprintf(text, sizeof text, "key %llu, %llu bytes, hash %016llx\n", (unsigned long long)c->key,
             (unsigned long long)c->seen, (unsigned long long)c->hash);
    return bh_reply(req, 200, "text/plain", text);
}

BH_PLUGIN("checked", "1.0.0", .summary = "Answers that can be checked",
          .ctx_size = sizeof(struct ctx), .on_request = on_request,
          .on_request_body = on_request_body)
