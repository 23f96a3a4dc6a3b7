/*
 * memory.c - the memory store's operations. memory_internal.h has the layout and why it is sound.
 *
 * Entries whose time is over go when somebody meets them: the sweep looks at a few chains with every
 * change, and at a whole shard when there is no room, at most every SWEEP_MS.
 */
#include "store/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/must.h"
#include "base/siphash.h"
#include "store/memory_internal.h"

#define SWEEP_CHAINS 2
#define SWEEP_MS     100

struct memory_store {
    struct store store; /* first */
    struct segment *seg;
};

static struct segment *segment_of(struct store *s)
{
    return ((struct memory_store *)(void *)s)->seg;
}

/* ---- locks ---- */

/* 0, or -EIO: a lock that is none any more, since somebody wrote over it. */
static int lock_shard(struct view *v)
{
    int r = pthread_mutex_lock(&v->shard->lock);

    if (r == EOWNERDEAD) {
        shard_repair(v); /* killed in here, the next one begins it anew */
        pthread_mutex_consistent(&v->shard->lock);
        atomic_fetch_add(&v->seg->repaired, 1);
        r = 0;
    }
    return r == 0 ? 0 : -EIO;
}

static void unlock_shard(struct view *v)
{
    pthread_mutex_unlock(&v->shard->lock);
}

/* ---- finding ---- */

struct place_of { /* where an entry is, or would be */
    struct view v;
    _Atomic uint32_t *link; /* leads to it; of the chain's end: NOWHERE */
    struct entry *e;        /* NULL: there is none */
    uint32_t place, hash;
};

static void remove_at(struct view *v, _Atomic uint32_t *link, struct entry *e, uint32_t place)
{
    uint64_t size = (uint64_t)CELL << entry_order(e);
    uint32_t order = entry_order(e), ns = e->ns;

    /* From here on it is gone; the rest is derived. */
    atomic_store_explicit(link, atomic_load_explicit(&e->next, memory_order_relaxed),
                          memory_order_release);
    v->shard->used[ns] -= size;
    v->shard->used_all -= size;
    v->shard->n_entries--;
    block_give(v, place, order);
}

static bool is_over(const struct entry *e, int64_t now_ns)
{
    int64_t until = atomic_load_explicit(&e->until_ns, memory_order_relaxed);

    return until != 0 && until <= now_ns;
}

static void expire(struct view *v, _Atomic uint32_t *link, struct entry *e, uint32_t place)
{
    remove_at(v, link, e, place);
    atomic_fetch_add_explicit(&v->seg->expired, 1, memory_order_relaxed);
}

static struct entry *entry_at(const struct view *v, uint32_t place)
{
    must(place <=
         v->n_cells); /* only a stray write does that: the end of this worker, then a repair */
    return cell_at(v, place);
}

static void sweep(struct view *v, uint32_t n_chains, int64_t now_ns)
{
    for (uint32_t i = 0; i < n_chains; i++) {
        _Atomic uint32_t *link = &v->chain[v->shard->sweep_at % v->n_chains];
        uint32_t place;

        v->shard->sweep_at = (v->shard->sweep_at + 1) % v->n_chains;
        while ((place = atomic_load_explicit(link, memory_order_relaxed)) != NOWHERE) {
            struct entry *e = entry_at(v, place);

            if (is_over(e, now_ns))
                expire(v, link, e, place);
            else
                link = &e->next;
        }
    }
}

/* Something may have come of it. */
static bool sweep_all(struct view *v, int64_t now_ns)
{
    if (v->shard->swept_ns != 0 && now_ns - v->shard->swept_ns < SWEEP_MS * 1000000ll)
        return false;
    v->shard->swept_ns = now_ns;
    sweep(v, v->n_chains, now_ns);
    return true;
}

static uint64_t hash_of(const struct segment *seg, uint32_t ns, struct store_key key)
{
    char text[sizeof ns + STORE_KEY_MAX];

    memcpy(text, &ns, sizeof ns);
    memcpy(text + sizeof ns, key.p, key.n);
    return siphash13(seg->key, text, sizeof ns + key.n);
}

/* Locks the key's shard and finds it there. On 0 the caller unlocks. */
static int find(struct store *s, const struct store_ns *ns, struct store_key key, int64_t now_ns,
                struct place_of *out)
{
    struct segment *seg = segment_of(s);
    uint64_t hash;
    int r;

    must(key.n > 0 && key.n <= STORE_KEY_MAX && ns->id < MEMORY_NS);
    hash = hash_of(seg, ns->id, key);
    out->v = shard_view(seg, (uint32_t)(hash >> 32) % MEMORY_SHARDS);
    out->hash = (uint32_t)hash;
    out->e = NULL;
    r = lock_shard(&out->v);
    if (r < 0)
        return r;
    out->link = &out->v.chain[out->hash % out->v.n_chains];
    while ((out->place = atomic_load_explicit(out->link, memory_order_relaxed)) != NOWHERE) {
        struct entry *e = entry_at(&out->v, out->place);

        if (is_over(e, now_ns)) {
            expire(&out->v, out->link, e, out->place);
            continue;
        }
        if (e->hash == out->hash && e->ns == ns->id && e->key_n == key.n &&
            memcmp(e->bytes, key.p, key.n) == 0) {
            out->e = e;
            return 0;
        }
        out->link = &e->next;
    }
    return 0;
}

/* ---- making ---- */

/* Exact, but for what other workers add in other shards in the same moment. */
static uint64_t used_by(struct segment *seg, uint32_t ns)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < MEMORY_SHARDS; i++)
        sum += shard_view(seg, i).shard->used[ns];
    return sum;
}

static bool has_quota(const struct place_of *at, const struct store_ns *ns, uint32_t order)
{
    uint64_t had = at->e != NULL ? (uint64_t)CELL << entry_order(at->e) : 0;
    uint64_t wants = (uint64_t)CELL << order;

    return ns->quota == 0 || wants <= had || used_by(at->v.seg, ns->id) + wants - had <= ns->quota;
}

/* A whole entry in the place of at->e, or new. until_ns of 0: for ever. -ENOSPC or 0. */
static int put(struct place_of *at, const struct store_ns *ns, struct store_key key,
               enum entry_kind kind, const void *p, size_t n, int64_t number, int64_t until_ns,
               int64_t now_ns)
{
    struct view *v = &at->v;
    uint32_t order = block_order(sizeof(struct entry) + key.n + n), place;
    struct entry *e, *old = at->e;

    must(order <= ORDER_MAX);
    /* at->link stays true: what is swept before it was looked at by find() just now, and is not over. */
    if (!has_quota(at, ns, order) && (!sweep_all(v, now_ns) || !has_quota(at, ns, order)))
        goto full;
    place = block_take(v, order);
    if (place == NOWHERE && sweep_all(v, now_ns))
        place = block_take(v, order);
    if (place == NOWHERE)
        goto full;
    e = cell_at(v, place);
    *e = (struct entry){.hash = at->hash,
                        .version = v->shard->version + 1,
                        .n = (uint32_t)n,
                        .ns = (uint16_t)ns->id,
                        .key_n = (uint8_t)key.n,
                        .order_kind = (uint8_t)(order << 4 | kind)};
    v->shard->version++;
    atomic_store_explicit(&e->until_ns, until_ns, memory_order_relaxed);
    atomic_store_explicit(&e->number, number, memory_order_relaxed);
    memcpy(e->bytes, key.p, key.n);
    if (n > 0)
        memcpy(e->bytes + key.n, p, n);
    atomic_store_explicit(
        &e->next, old != NULL ? atomic_load_explicit(&old->next, memory_order_relaxed) : NOWHERE,
        memory_order_relaxed);
    /* It is there; whatever follows is derived. */
    atomic_store_explicit(at->link, place, memory_order_release);
    v->shard->used[ns->id] += (uint64_t)CELL << order;
    v->shard->used_all += (uint64_t)CELL << order;
    v->shard->n_entries++;
    if (old != NULL) {
        uint64_t size = (uint64_t)CELL << entry_order(old);

        v->shard->used[ns->id] -= size;
        v->shard->used_all -= size;
        v->shard->n_entries--;
        block_give(v, at->place, entry_order(old));
    }
    sweep(v, SWEEP_CHAINS, now_ns);
    return 0;

full:
    atomic_fetch_add_explicit(&v->seg->refused, 1, memory_order_relaxed);
    return -ENOSPC;
}

static int64_t until(int64_t now_ns, uint32_t ttl_ms)
{
    return ttl_ms == 0 ? 0 : now_ns + (int64_t)ttl_ms * 1000000;
}

/* ---- the operations ---- */

static int memory_open_ns(struct store *s, const char *name, struct store_ns *ns)
{
    struct segment *seg = segment_of(s);
    int r = pthread_mutex_lock(&seg->ns_lock);

    if (r == EOWNERDEAD) /* a name is there when is_ready says so */
        r = pthread_mutex_consistent(&seg->ns_lock);
    if (r != 0)
        return -EIO;
    r = -ENOSPC;
    for (uint32_t i = 0; i < MEMORY_NS; i++) {
        struct memory_ns *at = &seg->ns[i];

        if (atomic_load(&at->is_ready) == 0) {
            snprintf(at->name, sizeof at->name, "%s", name);
            atomic_store(&at->is_ready, 1);
        }
        if (strncmp(at->name, name, sizeof at->name) == 0) {
            ns->id = i;
            r = 0;
            break;
        }
    }
    pthread_mutex_unlock(&seg->ns_lock);
    return r;
}

static int memory_get(struct store *s, const struct store_ns *ns, struct store_key key, void *buf,
                      size_t *n, uint64_t *version)
{
    struct place_of at;
    char text[24];
    const char *from = text;
    size_t len = 0;
    int r = find(s, ns, key, s->now_ns(), &at);

    if (r < 0)
        return r;
    if (at.e == NULL) {
        r = -ENOENT;
        goto out;
    }
    switch (entry_kind(at.e)) {
    case ENTRY_BYTES:
        from = at.e->bytes + at.e->key_n;
        len = at.e->n;
        break;
    case ENTRY_NUMBER:
        len = (size_t)snprintf(text, sizeof text, "%" PRId64, atomic_load(&at.e->number));
        break;
    default: r = -EDOM; goto out;
    }
    if (len > *n)
        r = -E2BIG;
    else if (len > 0)
        memcpy(buf, from, len);
    *n = len;
    *version = at.e->version;
out:
    unlock_shard(&at.v);
    return r;
}

static int memory_set(struct store *s, const struct store_ns *ns, struct store_key key,
                      const void *p, size_t n, uint32_t ttl_ms, uint64_t version)
{
    int64_t now_ns = s->now_ns();
    struct place_of at;
    int r;

    must(n <= STORE_VALUE_MAX);
    r = find(s, ns, key, now_ns, &at);
    if (r < 0)
        return r;
    if (version == STORE_NEW ? at.e != NULL
                             : version != 0 && (at.e == NULL || at.e->version != version))
        r = -ESTALE;
    else
        r = put(&at, ns, key, ENTRY_BYTES, p, n, 0, until(now_ns, ttl_ms), now_ns);
    unlock_shard(&at.v);
    return r;
}

static int memory_del(struct store *s, const struct store_ns *ns, struct store_key key)
{
    struct place_of at;
    int r = find(s, ns, key, s->now_ns(), &at);

    if (r < 0)
        return r;
    if (at.e != NULL)
        remove_at(&at.v, at.link, at.e, at.place);
    else
        r = -ENOENT;
    unlock_shard(&at.v);
    return r;
}

static int memory_add(struct store *s, const struct store_ns *ns, struct store_key key,
                      int64_t delta, uint32_t ttl_ms, int64_t *out)
{
    int64_t now_ns = s->now_ns(), sum = delta;
    struct place_of at;
    int r = find(s, ns, key, now_ns, &at);

    if (r < 0)
        return r;
    if (at.e == NULL) {
        r = put(&at, ns, key, ENTRY_NUMBER, NULL, 0, delta, until(now_ns, ttl_ms), now_ns);
    } else if (entry_kind(at.e) == ENTRY_NUMBER) {
        if (__builtin_add_overflow(atomic_load(&at.e->number), delta, &sum)) {
            r = -EDOM;
        } else {
            /* The version first: whoever dies in between has made a compare-and-set lose for nothing. */
            at.e->version = ++at.v.shard->version;
            atomic_store_explicit(&at.e->number, sum, memory_order_release);
        }
    } else if (entry_kind(at.e) == ENTRY_BYTES) { /* a number that was set as text becomes one */
        r = counter_parse(at.e->bytes + at.e->key_n, at.e->n, &sum);
        if (r == 0 && __builtin_add_overflow(sum, delta, &sum))
            r = -EDOM;
        if (r == 0)
            r = put(&at, ns, key, ENTRY_NUMBER, NULL, 0, sum, atomic_load(&at.e->until_ns), now_ns);
    } else {
        r = -EDOM;
    }
    unlock_shard(&at.v);
    if (r == 0)
        *out = sum;
    return r;
}

static int memory_bucket(struct store *s, const struct store_ns *ns, struct store_key key,
                         const struct store_bucket *b, int64_t *out)
{
    int64_t now_ns = s->now_ns(), full_ns = 0, answer;
    struct place_of at;
    int r = find(s, ns, key, now_ns, &at);

    if (r < 0)
        return r;
    if (at.e != NULL && entry_kind(at.e) != ENTRY_BUCKET) {
        unlock_shard(&at.v);
        return -EDOM;
    }
    if (at.e != NULL)
        full_ns = atomic_load(&at.e->until_ns);
    answer = bucket_take(b, now_ns, &full_ns);
    if (answer >= 0 && b->cost > 0) {
        if (at.e != NULL)
            atomic_store_explicit(&at.e->until_ns, full_ns, memory_order_release);
        else
            r = put(&at, ns, key, ENTRY_BUCKET, NULL, 0, 0, full_ns, now_ns);
    }
    unlock_shard(&at.v);
    if (r == 0)
        *out = answer;
    return r;
}

static void memory_close(struct store *s)
{
    free(s);
}

int store_memory_open(struct store_memory *m, struct store **out)
{
    static const struct store_ops ops = {.name = "memory",
                                         .open_ns = memory_open_ns,
                                         .get = memory_get,
                                         .set = memory_set,
                                         .del = memory_del,
                                         .add = memory_add,
                                         .bucket = memory_bucket,
                                         .close = memory_close};
    struct memory_store *s = calloc(1, sizeof *s);

    if (s == NULL)
        return -ENOMEM;
    s->store.ops = &ops;
    s->store.now_ns = clock_mono_ns;
    s->seg = m->seg;
    *out = &s->store;
    return 0;
}
