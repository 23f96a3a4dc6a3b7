/*
 * host_store_async.c - kv_async(): the store asked now, answered later, whatever its backend.
 *
 * With one on another machine, the question goes there; the answer comes by the loop. While that cannot be
 * had, and always when there is none, this machine's own store answers, in the loop's next turn: a plugin
 * sees no difference but the time.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conf/config.h"
#include "plugin/host.h"
#include "plugin/host_store.h"
#include "plugin/instance.h"
#include "plugin/pending.h"
#include "plugin/recover.h"

struct question {
    uint64_t id; /* pending.h */
    bh_inst *inst;
    struct store_op op; /* points into bytes */
    struct question *next;
    char bytes[]; /* key, value */
};

static struct {
    struct store *own;
    const struct store_remote *remote;
    struct question *first, **last; /* for the own store, in the next turn */
    char *value;                    /* STORE_VALUE_MAX bytes */
} host;

/* ---- answers ---- */

static void tell(const struct question *q, const struct store_answer *a, bool is_local)
{
    const bh_kv_result result = {
        .struct_size = sizeof result,
        .rc = pending_is(q->id) ? host_store_rc(q->inst, a->r) : BH_OK,
        .value = a->r == 0 && a->value != NULL ? bh_sn(a->value, a->n) : bh_sn(NULL, 0),
        .cas = a->version,
        .number = a->number,
        .taken = a->taken,
        .is_local = is_local,
    };

    pending_finish(q->id, &result);
}

/* As many as there are, from cost to most: a look, and a try with what it showed. */
static int take_most(const struct store_ns *ns, const struct store_op *op, struct store_answer *a)
{
    struct store_bucket b = op->bucket;
    int r;

    if (op->most > b.cost) {
        b.cost = 0;
        r = host.own->ops->bucket(host.own, ns, op->key, &b, &a->number);
        if (r < 0)
            return r;
        b.cost = fmax(op->bucket.cost, fmin(op->most, (double)a->number));
    }
    r = host.own->ops->bucket(host.own, ns, op->key, &b, &a->number);
    if (r == 0 && a->number < 0 && b.cost > op->bucket.cost) { /* somebody was faster */
        b.cost = op->bucket.cost;
        r = host.own->ops->bucket(host.own, ns, op->key, &b, &a->number);
    }
    a->taken = r == 0 && a->number >= 0 ? b.cost : 0;
    return r;
}

static void ask_own(const struct store_ns *ns, const struct store_op *op, struct store_answer *a)
{
    const struct store_ops *ops = host.own->ops;

    a->n = STORE_VALUE_MAX;
    switch (op->kind) {
    case STORE_GET:
        a->value = host.value;
        a->r = ops->get(host.own, ns, op->key, host.value, &a->n, &a->version);
        break;
    case STORE_SET:
        a->r = ops->set(host.own, ns, op->key, op->value, op->n, op->ttl_ms, op->version);
        break;
    case STORE_DEL: a->r = ops->del(host.own, ns, op->key); break;
    case STORE_ADD:
        a->r = ops->add(host.own, ns, op->key, op->delta, op->ttl_ms, &a->number);
        break;
    case STORE_BUCKET: a->r = take_most(ns, op, a); break;
    default: a->r = -EINVAL;
    }
}

static void answer_here(struct question *q)
{
    struct store_answer a = {.r = 0};

    if (pending_is(q->id)) { /* else the instance may be gone */
        a.r = host_store_open_ns(q->inst);
        if (a.r == 0)
            ask_own(&q->inst->ns, &q->op, &a);
        tell(q, &a, host.remote != NULL);
    }
    free(q);
}

/* Of the one that is asked later. */
static void answered(void *arg, const struct store_answer *a)
{
    struct question *q = arg;

    if ((a->r == -ENOTCONN || a->r == -ETIMEDOUT) && host.remote->is_local_when_down) {
        answer_here(q);
        return;
    }
    tell(q, a, false);
    free(q);
}

void host_store_run(void)
{
    struct question *q = host.first, *next;

    host.first = NULL;
    host.last = &host.first;
    for (; q != NULL; q = next) {
        next = q->next;
        answer_here(q);
    }
}

bool host_store_has_answers(void)
{
    return host.first != NULL;
}

/* ---- questions ---- */

static int ask(struct question *q)
{
    int r = -ENOTCONN;

    if (host.remote != NULL)
        r = host.remote->ask(&q->op, answered, q);
    if (r == -ENOTCONN && (host.remote == NULL || host.remote->is_local_when_down)) {
        *host.last = q;
        host.last = &q->next;
        r = 0;
    }
    return r;
}

static bool is_sound(const bh_kv_op *op)
{
    const struct store_bucket b = {op->per_s, op->burst, op->cost};

    if (op->key.p == NULL || op->key.n == 0 || op->key.n > STORE_KEY_MAX || op->op < BH_KV_GET ||
        op->op > BH_KV_TAKE)
        return false;
    if (op->op == BH_KV_SET)
        return op->value.n <= STORE_VALUE_MAX && (op->value.p != NULL || op->value.n == 0);
    return op->op != BH_KV_TAKE ||
           (bucket_check(&b) == 0 && op->most >= 0 && op->most <= op->burst);
}

static struct question *copy(bh_inst *inst, const bh_kv_op *op)
{
    size_t n = op->op == BH_KV_SET ? op->value.n : 0;
    struct question *q = malloc(sizeof *q + op->key.n + n);

    if (q == NULL)
        return NULL;
    *q = (struct question){.inst = inst};
    memcpy(q->bytes, op->key.p, op->key.n); /* faults here, if it must: then it leaks */
    if (n > 0)
        memcpy(q->bytes + op->key.n, op->value.p, n);
    q->op = (struct store_op){.kind = (enum store_kind)(op->op - BH_KV_GET),
                              .ns = inst->cfg->store.ns,
                              .key = {q->bytes, op->key.n},
                              .value = q->bytes + op->key.n,
                              .n = n,
                              .version = op->cas,
                              .delta = op->delta,
                              .ttl_ms = op->ttl_ms,
                              .bucket = {op->per_s, op->burst, op->cost},
                              .most = op->most};
    return q;
}

static bh_rc host_kv_async(bh_inst *inst, const bh_kv_op *op,
                           void (*done)(void *self, const bh_kv_result *result, void *arg),
                           void *arg, uint64_t *id)
{
    struct question *q;
    bh_kv_op own;
    uint64_t number = 0;
    bh_rc rc;
    int r;

    if (inst == NULL || inst->magic != INSTANCE_MAGIC || op == NULL || done == NULL ||
        op->struct_size < sizeof own)
        return BH_EINVAL;
    own = *op;
    if (!is_sound(&own))
        return BH_EINVAL;
    if (id != NULL)
        *(volatile uint64_t *)id = 0; /* faults here, if it must */
    if (!host_is_loop())
        return BH_EPHASE;
    q = copy(inst, &own);
    if (q == NULL)
        return BH_ENOMEM;
    rc = pending_add(inst, (pending_fn *)done, arg, NULL, NULL, &number);
    if (rc != BH_OK) {
        free(q);
        return rc;
    }
    q->id = number;
    recover_critical_enter();
    r = ask(q);
    recover_critical_leave();
    if (r < 0) {
        pending_cancel(inst, number);
        free(q);
        return host_store_rc(inst, r);
    }
    if (id != NULL)
        *id = number;
    return BH_OK;
}

static bh_rc host_kv_cancel(bh_inst *inst, uint64_t id)
{
    return inst == NULL || inst->magic != INSTANCE_MAGIC ? BH_EINVAL : pending_cancel(inst, id);
}

void host_store_async_init(bh_host *h, struct store *s, const struct store_remote *remote)
{
    host.own = s;
    host.remote = remote;
    host.last = &host.first;
    if (host.value == NULL)
        host.value = malloc(STORE_VALUE_MAX);
    if (host.value == NULL)
        return;
    h->kv_async = host_kv_async;
    h->kv_cancel = host_kv_cancel;
}
