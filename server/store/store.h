/*
 * store.h - state that plugins share: values, counters and token buckets, in namespaces with quotas.
 *
 * One interface, a file per backend: memory.c (a shared segment of this server's), lmdb.c (a file),
 * and, apart from these because it cannot answer at once, redis.c. What a newcomer would get wrong:
 * nothing in here knows of plugins or the recovery boundary. plugin/host_store.c copies what a plugin
 * passes, and calls with the host's critical section around it, because a lock is held in here.
 *
 * Errors: -ENOENT no such key (or its time is over); -ESTALE compare-and-set lost; -ENOSPC the
 * namespace's quota or the store is full; -E2BIG the value does not fit the caller's buffer; -EDOM not
 * a number, or a sum that is none; -EIO the store is damaged or cannot be reached.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct diag;
struct store;

#define STORE_KEY_MAX   250   /* bytes */
#define STORE_VALUE_MAX 63000 /* bytes: with its key it fits the largest block of memory.c */
#define STORE_NS_NAME   64    /* with the NUL */
#define STORE_NEW       UINT64_MAX

struct store_ns {
    uint32_t id;    /* the backend's */
    uint64_t quota; /* bytes, as the backend counts them; 0: no limit */
    char name[STORE_NS_NAME];
};

struct store_key {
    const char *p;
    size_t n; /* 1 to STORE_KEY_MAX */
};

/* A token bucket, as it is asked for. */
struct store_bucket {
    double per_s, burst, cost; /* per_s, burst > 0; 0 <= cost <= burst */
};

struct store_ops {
    const char *name;
    /* The namespace of that name, made when it is new. -ENOSPC: too many. */
    int (*open_ns)(struct store *s, const char *name, struct store_ns *ns);
    /* *n: room in buf, then the value's length (also with -E2BIG). *version: for set(); both may differ
     * from what they were although the value is the same, never the other way round. */
    int (*get)(struct store *s, const struct store_ns *ns, struct store_key key, void *buf,
               size_t *n, uint64_t *version);
    /* version: 0: whatever is there; STORE_NEW: only when there is nothing; else only when it is still
     * that. ttl_ms 0: for ever. */
    int (*set)(struct store *s, const struct store_ns *ns, struct store_key key, const void *p,
               size_t n, uint32_t ttl_ms, uint64_t version);
    int (*del)(struct store *s, const struct store_ns *ns, struct store_key key);
    /* A new key begins at 0 and lives for ttl_ms; one that exists keeps its time. */
    int (*add)(struct store *s, const struct store_ns *ns, struct store_key key, int64_t delta,
               uint32_t ttl_ms, int64_t *out);
    /* *out: whole tokens that are left after taking `cost`, or, negated, ms until they can be had. */
    int (*bucket)(struct store *s, const struct store_ns *ns, struct store_key key,
                  const struct store_bucket *b, int64_t *out);
    void (*close)(struct store *s);
};

/* What every backend's struct begins with. */
struct store {
    const struct store_ops *ops;
    bool
        is_real_time; /* what now_ns() has to be: since 1970, for what outlives the machine's run; else
                          monotonic */
    int64_t (*now_ns)(
        void); /* one that reads the clock; whoever has a cheaper one may put it here */
};

void store_close(struct store **sp);

/* ---- asked now, answered later: what a store on another machine offers ---- */

enum store_kind { STORE_GET, STORE_SET, STORE_DEL, STORE_ADD, STORE_BUCKET };

struct store_op {
    enum store_kind kind;
    const char *ns;
    struct store_key key;
    const void *value; /* SET */
    size_t n;
    uint64_t version; /* SET: as store_ops.set() has it */
    int64_t delta;    /* ADD */
    uint32_t ttl_ms;
    struct store_bucket bucket;
    double
        most; /* BUCKET: as many tokens as there are, from bucket.cost to this; 0: just bucket.cost */
};

struct store_answer {
    int r; /* 0 or -errno as in store.h; -ENOTCONN, -ETIMEDOUT: it is not known whether it was done */
    const char *value; /* GET; valid in the call */
    size_t n;
    uint64_t version;
    int64_t number; /* ADD: the sum. BUCKET: tokens left, or ms to wait, negated */
    double taken;   /* BUCKET */
};

typedef void store_answered(void *arg, const struct store_answer *a);

/* ---- shared by the backends ---- */

/*
 * A bucket's whole state is one number, the time at which it will be full again (the "theoretical
 * arrival time" of GCRA): one word, changed by one store. It also is the time at which it can be
 * forgotten, since a full bucket is as good as none.
 *
 * Takes `cost` at now_ns from a bucket whose number is *full_ns (0, or past: full). Returns what
 * store_ops.bucket() answers; *full_ns changes only when the tokens were taken.
 */
int64_t bucket_take(const struct store_bucket *b, int64_t now_ns, int64_t *full_ns);

/* 0, or -EINVAL: numbers out of range. */
int bucket_check(const struct store_bucket *b);

/* A value as a counter: decimal text, as get() shows one. 0 or -EDOM. */
int counter_parse(const char *p, size_t n, int64_t *out);

#endif
