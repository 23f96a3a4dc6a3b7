/*
 * buckets.h - a bounded table of token buckets. No allocation after buckets_create().
 */
#ifndef RATE_LIMIT_BUCKETS_H
#define RATE_LIMIT_BUCKETS_H

#include <stddef.h>
#include <stdint.h>

struct buckets;

/* Room for max_keys, rounded up to 8 times a power of two. seed: random, so that nobody can find
 * keys that push a certain other one out. NULL when out of memory. */
struct buckets *buckets_create(size_t max_keys, double rate, double burst, const uint64_t seed[2]);
void buckets_destroy(struct buckets *b); /* NULL is fine */

/* Never 0. The second one is of the table's own seed. */
uint64_t buckets_hash(const uint64_t seed[2], char kind, const void *p, size_t n);
uint64_t buckets_key(const struct buckets *b, char kind, const void *p, size_t n);

/* Take a token. What is left, 0 or more; or, when there is none, how much is missing, negated. */
double buckets_take(struct buckets *b, uint64_t key, int64_t now_ns);

#endif
