/*
 * cache.h - a bounded store of small files, least recently used out first.
 *
 * An entry is counted: the cache holds one reference while it lists it, every request that sends
 * its bytes another. It is never changed once it is listed, but for checked_ns.
 */
#ifndef STATIC_CACHE_H
#define STATIC_CACHE_H

#include "httpdate.h"

#include <bulkhead.h>
#include <stdbool.h>

#define ETAG_SIZE 56 /* three 64-bit numbers in hex, two dashes, quotes, NUL */

/* What is known of a file; strings are ready to be sent. */
struct file_info {
    const char *type;
    uint64_t size, ino;
    int64_t mtime_ns;
    char etag[ETAG_SIZE];
    char modified[HTTPDATE_SIZE];
};

struct cache;

struct cache_entry {
    struct cache_entry *hash_next, *newer, *older;
    uint64_t hash;
    size_t refs, key_len, cost;
    int64_t checked_ns; /* LOOP clock: when the file was last seen to be as it is here */
    bool is_fresh;      /* it changed so shortly before it was read that its time cannot tell a
                           further change: not to be believed at the next check */
    struct file_info info;
    char *body; /* info.size bytes */
    char key[]; /* NUL-terminated, then the body */
};

struct cache *cache_create(size_t max_bytes); /* NULL when out of memory */
void cache_destroy(struct cache *cache);      /* NULL is fine */

/* Borrowed, and now the most recently used; or NULL. */
struct cache_entry *cache_find(struct cache *cache, bh_str key);
/* A new entry, not listed, with one reference, which is the caller's; body to be filled in. NULL
 * when out of memory or larger than the cache. */
struct cache_entry *cache_entry_create(struct cache *cache, bh_str key, const struct file_info *i);
/* List it. Replaces one of the same key, and drops the least recently used until all fit. */
void cache_add(struct cache *cache, struct cache_entry *e);
void cache_drop(struct cache *cache, struct cache_entry *e);

struct cache_entry *cache_entry_get(struct cache_entry *e);
void cache_entry_put(void *e); /* a void * to suit bh_defer() */

size_t cache_bytes(const struct cache *cache);

#endif
