/*
 * cluster.h - limits that several machines share: tokens are fetched from the store in small leases.
 *
 * For each key a worker holds a few tokens that it has taken from the common bucket, and asks for more
 * when it has none; requests that come meanwhile wait. So the store is not asked for each request, and
 * nothing passes that the bucket did not give: a lease is taken before it is used, and forgotten after
 * LEASE_LIFE_MS, so that tokens of a quiet minute cannot be spent on top of a full bucket later.
 *
 * What a newcomer would get wrong: "none" is remembered as well, for as long as the store said. A client
 * that is over its limit costs one question whenever a token may have come, not one a request.
 */
#ifndef RATE_LIMIT_CLUSTER_H
#define RATE_LIMIT_CLUSTER_H

#include <bulkhead.h>
#include <stddef.h>
#include <stdint.h>

#define LEASE_LIFE_MS 1000

struct cluster;
struct lease;

/* A request that waits for an answer. All zero before; owned by the request. */
struct waiter {
    struct waiter *next, **prev; /* prev NULL: it does not wait */
    struct lease *lease;         /* of its key */
    bh_str key;                  /* lives as long as the request */
    bh_ticket *ticket;
    int is_decided;
    double left; /* then; as buckets_take() has it */
};

/* decided(w): the answer for a request that waited is in w->left; failed: there is none. Both on the
 * loop, after the waiter was taken out. lease: tokens at a time, 1 or more. */
struct cluster *cluster_create(bh_inst *inst, size_t max_keys, double rate, double burst,
                               double lease, void (*decided)(struct waiter *w),
                               void (*failed)(struct waiter *w));
void cluster_destroy(struct cluster *c); /* NULL is fine */

/* 1 and *left, when it can be said at once; 0: cluster_wait(). hash: of the key, not 0. */
int cluster_take(struct cluster *c, uint64_t hash, int64_t now_ns, double *left);
/* Puts w, which has its key and ticket, in the queue of that key, and asks unless somebody has; BH_OK, or why not. */
bh_rc cluster_wait(struct cluster *c, uint64_t hash, int64_t now_ns, struct waiter *w);
/* It waits no longer. */
void cluster_leave(struct waiter *w);

#endif
