#include "store/redis_store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#if __has_include(<hiredis/hiredis.h>)
#include <hiredis/hiredis.h>

#define PREFIX_MAX 128

enum script { SCRIPT_SET, SCRIPT_ADD, SCRIPT_BUCKET };

/* The key's arguments are what redis_store_ask() passes, in that order. */
const char *const redis_store_scripts[REDIS_SCRIPTS] = {
    /* value, new version, condition ("": none, "new", or a version), ms or 0. 1: set, 0: lost */
    [SCRIPT_SET] =
        "local k = KEYS[1]\n"
        "if ARGV[3] == 'new' then\n"
        "  if redis.call('EXISTS', k) == 1 then return 0 end\n"
        "elseif ARGV[3] ~= '' and redis.call('HGET', k, 'c') ~= ARGV[3] then return 0 end\n"
        "redis.call('DEL', k)\n"
        "redis.call('HSET', k, 'v', ARGV[1], 'c', ARGV[2])\n"
        "if ARGV[4] ~= '0' then redis.call('PEXPIRE', k, ARGV[4]) end\n"
        "return 1",
    /* delta, new version, ms or 0. The sum as text (a number of Lua's has 53 bits); false: not a number */
    [SCRIPT_ADD] = "local k = KEYS[1]\n"
                   "local had = redis.call('EXISTS', k)\n"
                   "if redis.call('HEXISTS', k, 't') == 1 then return false end\n"
                   "local r = redis.pcall('HINCRBY', k, 'v', ARGV[1])\n"
                   "if type(r) == 'table' and r.err then\n"
                   "  if string.find(r.err, '^ERR') then return false end\n"
                   "  return r\n" /* READONLY, OOM: not the value's fault */
                   "end\n"
                   "redis.call('HSET', k, 'c', ARGV[2])\n"
                   "if had == 0 and ARGV[3] ~= '0' then redis.call('PEXPIRE', k, ARGV[3]) end\n"
                   "return redis.call('HGET', k, 'v')",
    /* us for a token, us for all, cost, most. {left or -ms, taken}; false: not a bucket.
     * What a millionth of a token is short of is rounding. */
    [SCRIPT_BUCKET] =
        "local k = KEYS[1]\n"
        "local at = redis.call('HGET', k, 't')\n"
        "if not at and redis.call('EXISTS', k) == 1 then return false end\n"
        "local t = redis.call('TIME')\n"
        "local now = t[1] * 1000000 + t[2]\n"
        "local per, depth = tonumber(ARGV[1]), tonumber(ARGV[2])\n"
        "local cost, most = tonumber(ARGV[3]), tonumber(ARGV[4])\n"
        "local from = math.min(math.max(tonumber(at or 0), now), now + depth)\n"
        "local have = (now + depth - from) / per + 1e-6\n"
        "if have < cost then\n"
        "  return {-math.max(1, math.ceil((cost - have) * per / 1000)), '0'}\n"
        "end\n"
        "local take = math.max(cost, math.min(most, math.floor(have)))\n"
        "if take > 0 then\n"
        "  from = from + take * per\n"
        "  redis.call('HSET', k, 't', string.format('%.3f', from))\n"
        "  redis.call('PEXPIREAT', k, string.format('%.0f', math.ceil(from / 1000)))\n"
        "end\n"
        "return {math.floor((now + depth - from) / per + 1e-6), string.format('%.17g', take)}",
};

struct question {
    enum store_kind kind;
    store_answered *done;
    void *arg;
};

/* ---- answers ---- */

static int take_get(const redisReply *reply, struct store_answer *a)
{
    const redisReply *v, *c;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3)
        return -EIO;
    v = reply->element[0];
    c = reply->element[1];
    if (v->type != REDIS_REPLY_STRING)
        return reply->element[2]->type == REDIS_REPLY_STRING ? -EDOM : -ENOENT;
    a->value = v->str;
    a->n = v->len;
    a->version = c->type == REDIS_REPLY_STRING ? strtoull(c->str, NULL, 10) : 1;
    return 0;
}

static int take_bucket(const redisReply *reply, struct store_answer *a)
{
    if (reply->type == REDIS_REPLY_NIL)
        return -EDOM;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[0]->type != REDIS_REPLY_INTEGER ||
        reply->element[1]->type != REDIS_REPLY_STRING)
        return -EIO;
    a->number = reply->element[0]->integer;
    a->taken = strtod(reply->element[1]->str, NULL);
    return 0;
}

static int take(enum store_kind kind, const redisReply *reply, struct store_answer *a)
{
    if (reply->type == REDIS_REPLY_ERROR) /* "OOM command not allowed ...": maxmemory */
        return strncmp(reply->str, "OOM", 3) == 0         ? -ENOSPC
               : strncmp(reply->str, "WRONGTYPE", 9) == 0 ? -EDOM
                                                          : -EIO;
    switch (kind) {
    case STORE_GET: return take_get(reply, a);
    case STORE_SET: return reply->integer == 1 ? 0 : -ESTALE;
    case STORE_DEL: return reply->integer == 1 ? 0 : -ENOENT;
    case STORE_ADD:
        return reply->type == REDIS_REPLY_STRING ? counter_parse(reply->str, reply->len, &a->number)
                                                 : -EDOM;
    case STORE_BUCKET: return take_bucket(reply, a);
    default: return -EIO;
    }
}

static void answered(void *arg, int r, const struct redisReply *reply)
{
    struct question *q = arg;
    struct store_answer a = {.r = r};

    if (r == 0)
        a.r = take(q->kind, reply, &a);
    q->done(q->arg, &a);
    free(q);
}

/* ---- questions ---- */

static struct redis_arg text(const char *p)
{
    return (struct redis_arg){p, strlen(p)};
}

static void new_version(char *buf, size_t size)
{
    uint64_t v = 0;

    while (v == 0 || v == STORE_NEW)
        if (getrandom(&v, sizeof v, 0) != (ssize_t)sizeof v)
            v = 0;
    snprintf(buf, size, "%" PRIu64, v);
}

static int ask(struct redis *r, const struct store_op *op, struct redis_arg key, struct question *q,
               int64_t now_ns)
{
    char version[24], condition[24] = "", ttl[16], number[4][40];
    struct redis_arg a[8];
    double per_us;

    snprintf(ttl, sizeof ttl, "%u", op->ttl_ms);
    switch (op->kind) {
    case STORE_GET:
        a[0] = text("HMGET"), a[1] = key, a[2] = text("v"), a[3] = text("c"), a[4] = text("t");
        return redis_send(r, a, 5, answered, q, now_ns);
    case STORE_DEL: a[0] = text("DEL"), a[1] = key; return redis_send(r, a, 2, answered, q, now_ns);
    case STORE_SET:
        new_version(version, sizeof version);
        if (op->version == STORE_NEW)
            snprintf(condition, sizeof condition, "new");
        else if (op->version != 0)
            snprintf(condition, sizeof condition, "%" PRIu64, op->version);
        a[0] = key, a[1] = (struct redis_arg){op->value, op->n}, a[2] = text(version);
        a[3] = text(condition), a[4] = text(ttl);
        return redis_eval(r, SCRIPT_SET, a, 5, answered, q, now_ns);
    case STORE_ADD:
        new_version(version, sizeof version);
        snprintf(number[0], sizeof number[0], "%" PRId64, op->delta);
        a[0] = key, a[1] = text(number[0]), a[2] = text(version), a[3] = text(ttl);
        return redis_eval(r, SCRIPT_ADD, a, 4, answered, q, now_ns);
    case STORE_BUCKET:
        per_us = 1e6 / op->bucket.per_s;
        snprintf(number[0], sizeof number[0], "%.17g", per_us);
        snprintf(number[1], sizeof number[1], "%.17g", op->bucket.burst * per_us);
        snprintf(number[2], sizeof number[2], "%.17g", op->bucket.cost);
        snprintf(number[3], sizeof number[3], "%.17g",
                 op->most > op->bucket.cost ? op->most : op->bucket.cost);
        a[0] = key;
        for (int i = 0; i < 4; i++)
            a[i + 1] = text(number[i]);
        return redis_eval(r, SCRIPT_BUCKET, a, 5, answered, q, now_ns);
    default: return -EINVAL;
    }
}

int redis_store_ask(struct redis *r, const char *prefix, const struct store_op *op,
                    store_answered *done, void *arg, int64_t now_ns)
{
    char key[PREFIX_MAX + STORE_NS_NAME + 1 + STORE_KEY_MAX];
    struct question *q = malloc(sizeof *q);
    size_t n;
    int e;

    if (q == NULL)
        return -ENOMEM;
    *q = (struct question){op->kind, done, arg};
    n = (size_t)snprintf(key, sizeof key, "%.*s%s:", PREFIX_MAX - 1, prefix, op->ns);
    memcpy(key + n, op->key.p, op->key.n);
    e = ask(r, op, (struct redis_arg){key, n + op->key.n}, q, now_ns);
    if (e < 0)
        free(q);
    return e;
}

#else

const char *const redis_store_scripts[REDIS_SCRIPTS];

int redis_store_ask(struct redis *r, const char *prefix, const struct store_op *op,
                    store_answered *done, void *arg, int64_t now_ns)
{
    (void)r, (void)prefix, (void)op, (void)done, (void)arg, (void)now_ns;
    return -ENOSYS;
}

#endif
