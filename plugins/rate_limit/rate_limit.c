/*
 * rate_limit.c - at most so many requests per second for each client, or each value of a header.
 *
 * Keys, limits and answers are here. Whose requests count together says `scope`: with `worker`, a
 * bounded table of token buckets in each of them (buckets.c); with `machine`, the server's store, and
 * that table for what the store has no room for; with `cluster`, the store that machines share, by way
 * of leases (cluster.c).
 */
#include "buckets.h"
#include "cluster.h"

#include <arpa/inet.h>
#include <bulkhead.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char problem[] = "{\"type\":\"about:blank\",\"title\":\"Too Many Requests\","
                              "\"status\":429,\"detail\":\"The rate limit has been reached.\"}\n";

struct config {
    const char *key;
    double rate, burst;
    int64_t max_keys;
    bh_cidrlist exempt;
    int32_t headers;
    int32_t scope;
    int64_t lease; /* ms */
};

enum scope { SCOPE_WORKER, SCOPE_MACHINE, SCOPE_CLUSTER };

struct rate_limit {
    bh_inst *inst;
    const struct config *cfg;
    struct buckets *buckets;
    struct cluster *cluster; /* NULL: another scope */
    const char *header;      /* NULL: by client address */
    bh_str policy;           /* RateLimit-Policy */
    char policy_text[80];
};

/* Whom a request is charged to, in bytes. The first one keeps kinds of keys apart: a header's value is
 * no address. */
#define KEY_MAX 200

struct key {
    char p[1 + KEY_MAX];
    size_t n;
};

struct ctx { /* of a request that waits, or waited; all zero: of any other */
    struct waiter waiter;
    struct key key;
};

static const char *header_of(const char *key)
{
    return strncasecmp(key, "header:", 7) == 0 ? key + 7 : NULL;
}

static int is_token(const char *s)
{
    static const char chars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return *s != '\0' && s[strspn(s, chars)] == '\0';
}

static bh_rc rate_limit_validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    const char *header = header_of(c->key);

    if (strcmp(c->key, "client") != 0 && (header == NULL || !is_token(header))) {
        bh_cfg_error(errs, "key", "is neither \"client\" nor \"header:NAME\"");
        return BH_FAIL;
    }
    return BH_OK;
}

static void rate_limit_close(void *self)
{
    struct rate_limit *l = self;

    cluster_destroy(l->cluster);
    buckets_destroy(l->buckets);
    free(l);
}

/* ---- requests that have waited (cluster.h) ---- */

static void decided(struct waiter *w)
{
    if (w->left >= 0)
        bh_resume(w->ticket, BH_CONTINUE);
    else /* the headers come in on_response */
        bh_resume_reply(w->ticket, 429, "application/problem+json", problem, sizeof problem - 1);
}

static void failed(struct waiter *w)
{
    bh_resume(w->ticket, BH_FAIL);
}

static void leave(void *arg)
{
    cluster_leave(arg);
}

static bh_rc rate_limit_open(bh_inst *inst, const void *cfg, void **self)
{
    const struct config *c = cfg;
    struct rate_limit *l = calloc(1, sizeof *l);
    uint64_t seed[2];
    double window = ceil(c->burst / c->rate);

    if (l == NULL || bh_random(seed, sizeof seed) != BH_OK) {
        free(l);
        bh_log(inst, BH_LOG_ERROR, "no memory, or no random numbers");
        return BH_FAIL;
    }
    l->inst = inst;
    l->cfg = c;
    l->header = header_of(c->key);
    l->policy = bh_sn(l->policy_text, (size_t)snprintf(l->policy_text, sizeof l->policy_text,
                                                       "\"default\";q=%.0f;w=%.0f", floor(c->burst),
                                                       window < 1 ? 1 : window));
    l->buckets = buckets_create((size_t)c->max_keys, c->rate, c->burst, seed);
    if (l->buckets == NULL) {
        bh_log(inst, BH_LOG_ERROR, "no memory for max_keys buckets");
        free(l);
        return BH_FAIL;
    }
    if (c->scope == SCOPE_CLUSTER) {
        double lease = c->rate * (double)c->lease / 1000;

        lease = fmax(1, floor(fmin(lease, c->burst / 4)));
        l->cluster = cluster_create(inst, (size_t)c->max_keys, c->rate, c->burst, lease, decided,
                                    failed);
        if (l->cluster == NULL) {
            bh_log(inst, BH_LOG_ERROR, "no memory for max_keys leases");
            rate_limit_close(l);
            return BH_FAIL;
        }
    }
    *self = l;
    return BH_OK;
}

/* An address as 16 bytes, IPv4 as ::ffff:a.b.c.d. 0 when it is none (a Unix socket). */
static int parse_client(bh_str client, uint8_t out[16])
{
    char text[INET6_ADDRSTRLEN];
    size_t n = client.p ? strcspn(client.p, "%") : 0; /* fe80::1%eth0 */

    if (n == 0 || n >= sizeof text)
        return 0;
    memcpy(text, client.p, n);
    text[n] = '\0';
    memset(out, 0, 16);
    out[10] = out[11] = 0xff;
    return inet_pton(AF_INET, text, out + 12) == 1 || inet_pton(AF_INET6, text, out) == 1;
}

static int is_exempt(const bh_cidrlist *list, const uint8_t addr[16])
{
    for (size_t i = 0; i < list->n; i++) {
        size_t whole = list->v[i].bits / 8, bits = list->v[i].bits % 8;

        if (memcmp(list->v[i].addr, addr, whole) == 0 &&
            (bits == 0 || (list->v[i].addr[whole] ^ addr[whole]) >> (8 - bits) == 0))
            return 1;
    }
    return 0;
}

static int is_v4(const uint8_t addr[16])
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    return memcmp(addr, prefix, sizeof prefix) == 0;
}

static bh_rc tell(const struct rate_limit *l, bh_req *req, double left)
{
    char now[80];
    double full_s = ceil((l->cfg->burst - left) / l->cfg->rate);
    int n;

    n = snprintf(now, sizeof now, "\"default\";r=%.0f;t=%.0f", left > 0 ? floor(left) : 0, full_s);
    if (bh_header_set(req, BH_RESP, "RateLimit-Policy", l->policy) != BH_OK)
        return BH_FAIL;
    return bh_header_set(req, BH_RESP, "RateLimit", bh_sn(now, (size_t)n));
}

/* ---- keys and tokens ---- */

static void set_key(struct key *key, char kind, const void *p, size_t n)
{
    key->p[0] = kind;
    memcpy(key->p + 1, p, n);
    key->n = n + 1;
}

/* A value that is too long for a key counts by its begin, its end and its hash: the same in all
 * workers, so without a secret. Who makes two that agree in all three shares a bucket with himself. */
static void set_long_key(struct key *key, const char *p, size_t n)
{
    static const uint64_t no_seed[2];
    uint64_t hash = buckets_hash(no_seed, 'H', p, n);

    set_key(key, 'H', p, KEY_MAX);
    memcpy(key->p + 1 + KEY_MAX / 2, p + n - KEY_MAX / 2, KEY_MAX / 2 - sizeof hash);
    memcpy(key->p + 1 + KEY_MAX - sizeof hash, &hash, sizeof hash);
}

static void find_key(const struct rate_limit *l, bh_req *req, const uint8_t *addr, struct key *key)
{
    bh_str value = l->header ? bh_header(req, l->header) : bh_s(NULL);

    if (value.p != NULL && value.n <= KEY_MAX)
        set_key(key, 'h', value.p, value.n);
    else if (value.p != NULL)
        set_long_key(key, value.p, value.n);
    else if (addr == NULL)
        set_key(key, 'u', "", 0);
    else if (is_v4(addr))
        set_key(key, '4', addr + 12, 4);
    else
        set_key(key, '6', addr, 8); /* a /64 is one customer */
}

/* What is left after one more request, 0 or more; or how much is missing, negated. */
static double take(struct rate_limit *l, const struct key *key)
{
    int64_t left = 0;
    bh_rc rc = BH_ELIMIT;

    if (l->cfg->scope == SCOPE_MACHINE) {
        left = bh_bucket_take(l->inst, bh_sn(key->p, key->n), l->cfg->rate, l->cfg->burst, 1);
        rc = bh_bucket_rc(left);
    }
    if (rc == BH_OK)
        return left >= 0 ? (double)left : (double)left / 1000 * l->cfg->rate;
    /* The store is full, or cannot be had: each worker for itself is better than no limit. */
    return buckets_take(l->buckets, buckets_key(l->buckets, key->p[0], key->p + 1, key->n - 1),
                        bh_now_ns(BH_CLOCK_LOOP));
}

static bh_rc tell_wait(const struct rate_limit *l, bh_req *req, double left)
{
    char wait[32];

    snprintf(wait, sizeof wait, "%.0f", fmax(1, ceil(-left / l->cfg->rate)));
    return bh_resp_header(req, "Retry-After", wait);
}

static bh_rc decide(const struct rate_limit *l, bh_req *req, double left)
{
    if (l->cfg->headers && tell(l, req, left) != BH_OK)
        return BH_FAIL;
    if (left >= 0)
        return BH_CONTINUE;
    if (tell_wait(l, req, left) != BH_OK)
        return BH_FAIL;
    return bh_reply_n(req, 429, "application/problem+json", problem, sizeof problem - 1);
}

static bh_rc ask_cluster(struct rate_limit *l, bh_req *req, const struct key *key, struct ctx *ctx)
{
    uint64_t hash = buckets_key(l->buckets, key->p[0], key->p + 1, key->n - 1);
    int64_t now_ns = bh_now_ns(BH_CLOCK_LOOP);
    struct waiter *w = &ctx->waiter;
    double left;

    if (cluster_take(l->cluster, hash, now_ns, &left))
        return decide(l, req, left);
    ctx->key = *key;
    w->key = bh_sn(ctx->key.p, ctx->key.n);
    w->ticket = bh_ticket_take(req, 0);
    if (w->ticket == NULL || bh_defer(req, leave, w) != BH_OK)
        return BH_FAIL;
    return cluster_wait(l->cluster, hash, now_ns, w) == BH_OK ? BH_PAUSE : BH_FAIL;
}

static bh_rc rate_limit_on_request(void *self, bh_req *req, void *ctx)
{
    struct rate_limit *l = self;
    bh_str client = bh_attr(req, "client");
    uint8_t addr[16];
    int has_addr = parse_client(client, addr);
    struct key key;

    if (has_addr && is_exempt(&l->cfg->exempt, addr))
        return BH_CONTINUE;
    find_key(l, req, has_addr ? addr : NULL, &key);
    return l->cluster != NULL ? ask_cluster(l, req, &key, ctx) : decide(l, req, take(l, &key));
}

/* What a request that has waited is to be told. */
static bh_rc rate_limit_on_response(void *self, bh_req *req, void *ctx)
{
    const struct rate_limit *l = self;
    const struct waiter *w = &((const struct ctx *)ctx)->waiter;

    if (!w->is_decided)
        return BH_CONTINUE;
    if ((l->cfg->headers && tell(l, req, w->left) != BH_OK) ||
        (w->left < 0 && tell_wait(l, req, w->left) != BH_OK))
        return BH_FAIL;
    return BH_CONTINUE;
}

static const bh_opt rate_limit_options[] = {
    BH_STR(struct config, key, "client", "client (IPv4 address or IPv6 /64), or header:NAME"),
    BH_DOUBLE(struct config, rate, "100", 0.001, 1e9, "requests per second, in the long run"),
    BH_DOUBLE(struct config, burst, "200", 1, 1e9, "requests at once, after a pause"),
    BH_INT(struct config, max_keys, "65536", 8, 1 << 24,
           "keys remembered in each worker; 24 bytes each"),
    BH_CIDRLIST(struct config, exempt, "client networks without a limit"),
    BH_ENUM(struct config, scope, "machine", "worker|machine|cluster",
            "whose requests count together: of each worker, of all, of all who share a store"),
    BH_DURATION(struct config, lease, "20ms", 1, 10000,
                "cluster: a worker takes tokens for so long at a time"),
    BH_BOOL(struct config, headers, "true", "tell clients with RateLimit and RateLimit-Policy"),
    BH_OPT_END,
};

BH_PLUGIN("rate_limit", "1.0.0", .summary = "limits requests per client or header",
          .options = rate_limit_options, .cfg_size = sizeof(struct config),
          .validate = rate_limit_validate, .open = rate_limit_open, .close = rate_limit_close,
          .ctx_size = sizeof(struct ctx), .on_request = rate_limit_on_request,
          .on_response = rate_limit_on_response)
