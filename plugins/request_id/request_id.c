/*
 * request_id.c - every request has an id: the client's when it is sound, else a new UUIDv7.
 *
 * It is set as a request header (for later plugins and upstreams), as the variable "request_id"
 * and, already in on_request, as a response header, so that error pages carry it as well.
 *
 * UUIDv7 as in RFC 9562 5.7, with rand_a as a counter (6.2, method 1): ids of one worker sort in
 * the order of their making although many are made within one reading of the loop's clock.
 */
#include <bulkhead.h>
#include <stdlib.h>

#define ID_MIN   8
#define ID_MAX   128
#define UUID_LEN 36

/* Random bits are fetched for so many ids at once: one system call in 256 requests. */
#define BATCH       256
#define COUNTER_MAX 0xfffu

struct config {
    const char *header;
    int32_t trust;
};

/* What one id takes out of the generator. */
struct entropy {
    uint64_t tail;    /* rand_b: 62 bits of it are used */
    uint16_t counter; /* where the counter starts in a new millisecond: 11 bits of it */
};

struct request_id {
    const struct config *cfg;
    uint64_t last_ms;
    uint32_t counter;
    size_t left; /* in pool */
    struct entropy pool[BATCH];
};

static int is_token(const char *s)
{
    static const char chars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return *s != '\0' && s[strspn(s, chars)] == '\0';
}

static int is_sound(bh_str id)
{
    if (id.p == NULL || id.n < ID_MIN || id.n > ID_MAX)
        return 0;
    for (size_t i = 0; i < id.n; i++) {
        char c = id.p[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              c == '.' || c == '_' || c == '-'))
            return 0;
    }
    return 1;
}

static bh_rc request_id_validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;

    if (!is_token(c->header)) {
        bh_cfg_error(errs, "header", "is not a header name (a token, RFC 9110 5.1)");
        return BH_FAIL;
    }
    return BH_OK;
}

static bh_rc request_id_open(bh_inst *inst, const void *cfg, void **self)
{
    struct request_id *ids = calloc(1, sizeof *ids);

    if (ids == NULL) {
        bh_log(inst, BH_LOG_ERROR, "out of memory");
        return BH_FAIL;
    }
    ids->cfg = cfg;
    *self = ids;
    return BH_OK;
}

static void request_id_close(void *self)
{
    free(self);
}

static void hex(char *out, uint64_t v, int digits)
{
    while (digits-- > 0) {
        out[digits] = "0123456789abcdef"[v & 15];
        v >>= 4;
    }
}

/* The clock may stand still or go back (it is stepped, or another id borrowed from the future):
 * then the old millisecond is counted on, and when its counter is used up the next one begins
 * early, as RFC 9562 6.2 allows. */
static bh_rc make_id(struct request_id *ids, char out[UUID_LEN])
{
    uint64_t now_ms = (uint64_t)bh_now_ns(BH_CLOCK_LOOP_REAL) / 1000000;
    const struct entropy *e;

    if (ids->left == 0) {
        if (bh_random(ids->pool, sizeof ids->pool) != BH_OK)
            return BH_FAIL;
        ids->left = BATCH;
    }
    e = &ids->pool[--ids->left];

    if (now_ms <= ids->last_ms && ids->counter < COUNTER_MAX) {
        ids->counter++;
    } else {
        ids->last_ms = now_ms > ids->last_ms ? now_ms : ids->last_ms + 1;
        ids->counter = e->counter & (COUNTER_MAX >> 1); /* room for 2,048 at least */
    }

    hex(out, ids->last_ms >> 16, 8);
    out[8] = '-';
    hex(out + 9, ids->last_ms & 0xffff, 4);
    out[13] = '-';
    hex(out + 14, 0x7000 | ids->counter, 4);
    out[18] = '-';
    hex(out + 19, 0x8000 | (e->tail >> 48 & 0x3fff), 4);
    out[23] = '-';
    hex(out + 24, e->tail & 0xffffffffffff, 12);
    return BH_OK;
}

static bh_rc request_id_on_request(void *self, bh_req *req, void *ctx)
{
    struct request_id *ids = self;
    const char *header = ids->cfg->header;
    char made[UUID_LEN];
    bh_str id = ids->cfg->trust ? bh_header(req, header) : bh_s(NULL);

    (void)ctx;
    /* Two of them: nobody knows which one the others will believe. */
    if (!is_sound(id) || bh_header_nth(req, BH_REQ, header, 1).p != NULL) {
        if (make_id(ids, made) != BH_OK) {
            bh_log(bh_instance(req), BH_LOG_ERROR, "no random numbers for an id");
            return BH_FAIL;
        }
        id = bh_sn(made, sizeof made);
        if (bh_header_set(req, BH_REQ, header, id) != BH_OK)
            return BH_FAIL;
    }
    if (bh_header_set(req, BH_RESP, header, id) != BH_OK ||
        bh_var_set(req, "request_id", id) != BH_OK)
        return BH_FAIL;
    return BH_CONTINUE;
}

static const bh_opt request_id_options[] = {
    BH_STR(struct config, header, "X-Request-Id", "header that carries the id, both ways"),
    BH_BOOL(struct config, trust, "true", "keep an id that the client sends, if it is well formed"),
    BH_OPT_END,
};

BH_PLUGIN("request_id", "1.0.0", .summary = "gives every request an id (UUIDv7)",
          .options = request_id_options, .cfg_size = sizeof(struct config),
          .validate = request_id_validate, .open = request_id_open, .close = request_id_close,
          .on_request = request_id_on_request)
