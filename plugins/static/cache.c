/*
 * cache.c - a bounded store of small files, least recently used out first.
 *
 * The keys are paths of existing files, so a client cannot choose them freely; the hash is seeded
 * all the same, as path spellings and folders full of names can be many.
 */
#include "cache.h"

#include <stdlib.h>

#define SLOTS 4096 /* a power of two */

struct cache {
    size_t max_bytes, bytes;
    uint64_t seed;
    struct cache_entry *newest, *oldest;
    struct cache_entry *slot[SLOTS];
};

struct cache *cache_create(size_t max_bytes)
{
    struct cache *c = calloc(1, sizeof *c);

    if (c == NULL || bh_random(&c->seed, sizeof c->seed) != BH_OK) {
        free(c);
        return NULL;
    }
    c->max_bytes = max_bytes;
    return c;
}

void cache_destroy(struct cache *c)
{
    if (c == NULL)
        return;
    while (c->oldest != NULL)
        cache_drop(c, c->oldest);
    free(c);
}

/* Eight bytes at a time: multiply, fold. */
static uint64_t hash_of(const struct cache *c, bh_str key)
{
    uint64_t h = c->seed ^ key.n, w;

    for (size_t i = 0; i < key.n; i += 8) {
        size_t n = key.n - i < 8 ? key.n - i : 8;

        w = 0;
        memcpy(&w, key.p + i, n);
        h = (h ^ w) * 0x9e3779b97f4a7c15;
        h ^= h >> 32;
    }
    return h ^ h >> 29;
}

static void lru_unlink(struct cache *c, struct cache_entry *e)
{
    if (e->newer != NULL)
        e->newer->older = e->older;
    else
        c->newest = e->older;
    if (e->older != NULL)
        e->older->newer = e->newer;
    else
        c->oldest = e->newer;
}

static void lru_push(struct cache *c, struct cache_entry *e)
{
    e->newer = NULL;
    e->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

static struct cache_entry *look_up(struct cache *c, bh_str key, uint64_t hash)
{
    struct cache_entry *e = c->slot[hash & (SLOTS - 1)];

    while (e != NULL &&
           (e->hash != hash || e->key_len != key.n || memcmp(e->key, key.p, key.n) != 0))
        e = e->hash_next;
    return e;
}

struct cache_entry *cache_find(struct cache *c, bh_str key)
{
    struct cache_entry *e = look_up(c, key, hash_of(c, key));

    if (e != NULL && e != c->newest) {
        lru_unlink(c, e);
        lru_push(c, e);
    }
    return e;
}

struct cache_entry *cache_entry_create(struct cache *c, bh_str key, const struct file_info *i)
{
    size_t cost = sizeof(struct cache_entry) + key.n + 1 + (size_t)i->size;
    struct cache_entry *e;

    if (cost > c->max_bytes || (e = malloc(cost)) == NULL)
        return NULL;
    memset(e, 0, sizeof *e);
    e->refs = 1;
    e->cost = cost;
    e->key_len = key.n;
    memcpy(e->key, key.p, key.n);
    e->key[key.n] = '\0';
    e->body = e->key + key.n + 1;
    e->info = *i;
    return e;
}

void cache_add(struct cache *c, struct cache_entry *e)
{
    bh_str key = bh_sn(e->key, e->key_len);
    struct cache_entry *old, **slot;

    e->hash = hash_of(c, key);
    old = look_up(c, key, e->hash);
    if (old != NULL)
        cache_drop(c, old);
    /* The analyzer does not see that cache_drop() takes an entry out of both lists first. */
    while (c->oldest != NULL && c->bytes + e->cost > c->max_bytes)
        cache_drop(c, c->oldest); /* NOLINT(clang-analyzer-unix.Malloc) */

    slot = &c->slot[e->hash & (SLOTS - 1)];
    e->hash_next = *slot;
    *slot = e;
    lru_push(c, e);
    c->bytes += e->cost;
    cache_entry_get(e);
}

void cache_drop(struct cache *c, struct cache_entry *e)
{
    struct cache_entry **at = &c->slot[e->hash & (SLOTS - 1)];

    while (*at != e)
        at = &(*at)->hash_next;
    *at = e->hash_next;
    lru_unlink(c, e);
    c->bytes -= e->cost;
    cache_entry_put(e);
}

struct cache_entry *cache_entry_get(struct cache_entry *e)
{
    e->refs++;
    return e;
}

void cache_entry_put(void *arg)
{
    struct cache_entry *e = arg;

    if (e != NULL && --e->refs == 0)
        free(e);
}

size_t cache_bytes(const struct cache *c)
{
    return c->bytes;
}
