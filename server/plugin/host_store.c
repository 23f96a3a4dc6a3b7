/*
 * host_store.c - kv_*() and bucket(): what a plugin passes is copied, then the store is called.
 *
 * The store holds a lock that other processes wait for. So nothing of a plugin's is touched while it
 * is held, and the host's critical section stands around it: a crash or a deadline in there is never
 * recovered from, it ends the worker (X), and the lock's next holder repairs what was half done
 * (store/memory_internal.h). A bad pointer faults before or after, and is the plugin's own crash (R).
 */
#include "plugin/host_store.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "conf/config.h"
#include "obs/log.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/recover.h"
#include "store/store.h"

static struct {
    struct store *store;
    pthread_t loop;
    char *scratch; /* the loop thread's, STORE_VALUE_MAX bytes: on other threads it is malloc'd */
} host;

/* The loop's clock costs nothing; other threads have no business with it. */
static int64_t now_mono_ns(void)
{
    return pthread_equal(pthread_self(), host.loop) && host_loop_mono_ns != 0 ? host_loop_mono_ns
                                                                              : clock_mono_ns();
}

static int64_t now_real_ns(void)
{
    return pthread_equal(pthread_self(), host.loop) && host_loop_real_ns != 0 ? host_loop_real_ns
                                                                              : clock_real_ns();
}

bh_rc host_store_rc(bh_inst *inst, int r)
{
    switch (r) {
    case 0: return BH_OK;
    case -ENOENT: return BH_ENOENT;
    case -ESTALE: return BH_ECAS;
    case -ENOSPC:
    case -E2BIG: return BH_ELIMIT;
    case -EINVAL:
    case -EDOM: return BH_EINVAL;
    case -ENOMEM: return BH_ENOMEM;
    case -EAGAIN:
    case -ENOTCONN:
    case -ETIMEDOUT: return BH_EAGAIN; /* whoever connects says why, once */
    default:
        log_warn("plugin '%s': the %s store fails: %s", inst->cfg->name, host.store->ops->name,
                 strerror(-r));
        return BH_EAGAIN;
    }
}

/* ---- what every call begins with ---- */

struct call {
    bh_inst *inst;
    struct store_key key;
    char key_text[STORE_KEY_MAX];
};

int host_store_open_ns(bh_inst *inst)
{
    struct store_ns ns = {.quota = inst->cfg->store.quota};
    int r;

    if (atomic_load_explicit(&inst->is_ns_open, memory_order_acquire) != 0)
        return 0;
    snprintf(ns.name, sizeof ns.name, "%s", inst->cfg->store.ns);
    recover_critical_enter();
    r = host.store->ops->open_ns(host.store, ns.name, &ns);
    if (r == 0) { /* two threads write the same */
        inst->ns = ns;
        atomic_store_explicit(&inst->is_ns_open, 1, memory_order_release);
    }
    recover_critical_leave();
    return r;
}

static bh_rc begin(struct call *c, bh_inst *inst, bh_str key)
{
    if (inst == NULL || inst->magic != INSTANCE_MAGIC || key.p == NULL || key.n == 0 ||
        key.n > STORE_KEY_MAX)
        return BH_EINVAL;
    memcpy(c->key_text, key.p, key.n); /* faults here, if it must */
    c->inst = inst;
    c->key = (struct store_key){c->key_text, key.n};
    return host_store_rc(inst, host_store_open_ns(inst));
}

static char *scratch_take(size_t n)
{
    return pthread_equal(pthread_self(), host.loop) ? host.scratch : malloc(n + 1);
}

static void scratch_give(char *p)
{
    if (p != host.scratch)
        free(p);
}

/* ---- the functions ---- */

static bh_rc host_kv_get(bh_inst *inst, bh_str key, void *buf, size_t *n, uint64_t *cas)
{
    struct call c;
    size_t room, len;
    uint64_t version = 0;
    char *copy;
    bh_rc rc = begin(&c, inst, key);
    int r;

    if (rc != BH_OK)
        return rc;
    if (n == NULL || (buf == NULL && *n > 0))
        return BH_EINVAL;
    room = *n < STORE_VALUE_MAX ? *n : STORE_VALUE_MAX;
    len = room;
    copy = scratch_take(room);
    if (copy == NULL)
        return BH_ENOMEM;
    recover_critical_enter();
    r = host.store->ops->get(host.store, &inst->ns, c.key, copy, &len, &version);
    recover_critical_leave();
    if (r == 0 && len > 0 && buf != NULL)
        memcpy(buf, copy,
               len); /* a fault here leaves the loop's scratch as it is, and another's leaks */
    scratch_give(copy);
    if (r == 0 || r == -E2BIG)
        *n = len;
    if (r == 0 && cas != NULL)
        *cas = version;
    return host_store_rc(inst, r);
}

static bh_rc host_kv_set(bh_inst *inst, bh_str key, const void *v, size_t n, uint32_t ttl_ms,
                         uint64_t cas)
{
    struct call c;
    char *copy;
    bh_rc rc = begin(&c, inst, key);
    int r;

    if (rc != BH_OK)
        return rc;
    if (n > STORE_VALUE_MAX || (v == NULL && n > 0))
        return BH_EINVAL;
    copy = scratch_take(n);
    if (copy == NULL)
        return BH_ENOMEM;
    if (n > 0)
        memcpy(copy, v, n);
    recover_critical_enter();
    r = host.store->ops->set(host.store, &inst->ns, c.key, copy, n, ttl_ms, cas);
    recover_critical_leave();
    scratch_give(copy);
    return host_store_rc(inst, r);
}

static bh_rc host_kv_del(bh_inst *inst, bh_str key)
{
    struct call c;
    bh_rc rc = begin(&c, inst, key);
    int r;

    if (rc != BH_OK)
        return rc;
    recover_critical_enter();
    r = host.store->ops->del(host.store, &inst->ns, c.key);
    recover_critical_leave();
    return host_store_rc(inst, r);
}

static bh_rc host_kv_add(bh_inst *inst, bh_str key, int64_t delta, uint32_t ttl_ms, int64_t *out)
{
    struct call c;
    int64_t sum = 0;
    bh_rc rc = begin(&c, inst, key);
    int r;

    if (rc != BH_OK)
        return rc;
    if (out != NULL)
        *(volatile int64_t *)out = 0; /* faults here, if it must: not after it was counted */
    recover_critical_enter();
    r = host.store->ops->add(host.store, &inst->ns, c.key, delta, ttl_ms, &sum);
    recover_critical_leave();
    if (r == 0 && out != NULL)
        *out = sum;
    return host_store_rc(inst, r);
}

static int64_t host_bucket(bh_inst *inst, bh_str key, double per_s, double burst, double cost)
{
    const struct store_bucket b = {per_s, burst, cost};
    struct call c;
    int64_t answer = 0;
    bh_rc rc = bucket_check(&b) < 0 ? BH_EINVAL : begin(&c, inst, key);
    int r;

    if (rc != BH_OK)
        return BH_BUCKET_FAILED + rc;
    recover_critical_enter();
    r = host.store->ops->bucket(host.store, &inst->ns, c.key, &b, &answer);
    recover_critical_leave();
    return r == 0 ? answer : BH_BUCKET_FAILED + host_store_rc(inst, r);
}

void host_store_init(bh_host *h, struct store *s, const struct store_remote *remote)
{
    host.store = s;
    host.loop = pthread_self();
    s->now_ns = s->is_real_time ? now_real_ns : now_mono_ns;
    if (host.scratch == NULL)
        host.scratch = malloc(STORE_VALUE_MAX + 1);
    if (host.scratch == NULL)
        return; /* the functions are not there, then */
    host_store_async_init(h, s, remote);
    if (remote != NULL)
        return;
    h->kv_get = host_kv_get;
    h->kv_set = host_kv_set;
    h->kv_del = host_kv_del;
    h->kv_add = host_kv_add;
    h->bucket = host_bucket;
}
