/*
 * buckets.c - a bounded table of token buckets.
 *
 * Eight buckets make a set, and a key can only be in the one set its hash names: a look-up touches
 * three cache lines whatever the table holds. A key that finds its set full takes the place of the
 * bucket with the most tokens. A full bucket says nothing that a new one would not; so a flood of
 * new keys displaces the idle, and whoever is being held back stays held back.
 */
#include "buckets.h"

#include <stdlib.h>
#include <string.h>

#define WAYS 8

struct bucket {
    uint64_t key; /* 0: free */
    double tokens;
    int64_t at_ns; /* when tokens was right */
};

struct buckets {
    double rate_ns, burst; /* tokens per nanosecond */
    uint64_t seed[2];
    size_t mask; /* number of sets, minus 1 */
    struct bucket set[][WAYS];
};

struct buckets *buckets_create(size_t max_keys, double rate, double burst, const uint64_t seed[2])
{
    size_t sets = 1;
    struct buckets *b;

    while (sets * WAYS < max_keys)
        sets *= 2;
    b = calloc(1, sizeof *b + sets * sizeof b->set[0]);
    if (b == NULL)
        return NULL;
    b->rate_ns = rate / 1e9;
    b->burst = burst;
    memcpy(b->seed, seed, sizeof b->seed);
    b->mask = sets - 1;
    return b;
}

void buckets_destroy(struct buckets *b)
{
    free(b);
}

#define ROTL(x, n) ((x) << (n) | (x) >> (64 - (n)))

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = ROTL(v[1], 13) ^ v[0];
    v[3] = ROTL(v[3], 16) ^ v[2];
    v[0] = ROTL(v[0], 32) + v[3];
    v[2] += v[1];
    v[3] = ROTL(v[3], 21) ^ v[0];
    v[1] = ROTL(v[1], 17) ^ v[2];
    v[2] = ROTL(v[2], 32);
}

/* SipHash-1-3: keyed, so that a client cannot aim for another one's set. kind takes the place of
 * the length in the last block, and the length goes into the first round. */
uint64_t buckets_hash(const uint64_t seed[2], char kind, const void *p, size_t n)
{
    const uint8_t *s = p;
    uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575, seed[1] ^ 0x646f72616e646f6d,
                     seed[0] ^ 0x6c7967656e657261, seed[1] ^ 0x7465646279746573 ^ n};
    uint64_t m, hash;

    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&m, s, 8);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    m = (uint64_t)(uint8_t)kind << 56;
    memcpy(&m, s, n);
    v[3] ^= m;
    sip_round(v);
    v[0] ^= m;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    hash = v[0] ^ v[1] ^ v[2] ^ v[3];
    return hash ? hash : 1;
}

uint64_t buckets_key(const struct buckets *b, char kind, const void *p, size_t n)
{
    return buckets_hash(b->seed, kind, p, n);
}

/* The loop's clock never goes back. */
static double tokens_at(const struct buckets *b, const struct bucket *k, int64_t now_ns)
{
    double tokens = k->tokens + (double)(now_ns - k->at_ns) * b->rate_ns;

    return tokens < b->burst ? tokens : b->burst;
}

double buckets_take(struct buckets *b, uint64_t key, int64_t now_ns)
{
    struct bucket *set = b->set[key & b->mask], *k = NULL;
    double most = -1;

    for (size_t i = 0; i < WAYS && (k == NULL || k->key != key); i++) {
        double tokens = set[i].key != 0 ? tokens_at(b, &set[i], now_ns) : 2 * b->burst;

        if (set[i].key == key || tokens > most) {
            most = tokens;
            k = &set[i];
        }
    }
    if (k->key != key) {
        k->key = key;
        k->tokens = b->burst;
        k->at_ns = now_ns;
    }
    k->tokens = tokens_at(b, k, now_ns);
    k->at_ns = now_ns;
    if (k->tokens < 1)
        return k->tokens - 1;
    k->tokens -= 1;
    return k->tokens;
}
