/*
 * histogram.h - distributions in buckets that are fine enough for p50, p99, p99.9.
 *
 * Log-linear: each octave (factor of two) has four buckets of equal width, so that a quantile read
 * from them is at most 25 % too high, whatever the scale. A bucket takes values over its lower bound
 * up to its upper bound, that included, as Prometheus has it. Two kinds: durations in nanoseconds, and
 * any number that a plugin observes.
 */
#ifndef IPC_HISTOGRAM_H
#define IPC_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define HISTOGRAM_SUB 4 /* buckets per octave */

/* Nanoseconds: up to 2^6 (64 ns), ..., up to 2^40 (18 min), over that. */
#define HISTOGRAM_NS_FIRST 6
#define HISTOGRAM_NS_LAST  40
#define HISTOGRAM_NS_SIZE  ((HISTOGRAM_NS_LAST - HISTOGRAM_NS_FIRST) * HISTOGRAM_SUB + 2)

/* Numbers: up to 2^-20 (negative ones and 0 too), ..., up to 2^44, over that. */
#define HISTOGRAM_X_FIRST (-20)
#define HISTOGRAM_X_LAST  44
#define HISTOGRAM_X_SIZE  ((HISTOGRAM_X_LAST - HISTOGRAM_X_FIRST) * HISTOGRAM_SUB + 2)

struct histogram_ns { /* one writer */
    _Atomic uint64_t sum;
    _Atomic uint64_t bucket[HISTOGRAM_NS_SIZE];
};

struct histogram_x {      /* any thread of a worker */
    _Atomic uint64_t sum; /* a double's bits */
    _Atomic uint64_t bucket[HISTOGRAM_X_SIZE];
};

static inline unsigned histogram_ns_index(uint64_t ns)
{
    unsigned octave;

    if (ns <= 1u << HISTOGRAM_NS_FIRST)
        return 0;
    ns--;
    octave = 63 - (unsigned)__builtin_clzll(ns);
    if (octave >= HISTOGRAM_NS_LAST)
        return HISTOGRAM_NS_SIZE - 1;
    return (octave - HISTOGRAM_NS_FIRST) * HISTOGRAM_SUB + ((ns >> (octave - 2)) & 3) + 1;
}

/* The upper bound of a bucket; of the last one, which has none, UINT64_MAX. */
static inline uint64_t histogram_ns_bound(unsigned i)
{
    if (i >= HISTOGRAM_NS_SIZE - 1)
        return UINT64_MAX;
    if (i == 0)
        return 1u << HISTOGRAM_NS_FIRST;
    i--;
    return (uint64_t)(HISTOGRAM_SUB + i % HISTOGRAM_SUB + 1)
           << (HISTOGRAM_NS_FIRST + i / HISTOGRAM_SUB - 2);
}

/* v is not NaN. */
static inline unsigned histogram_x_index(double v)
{
    uint64_t bits;
    int64_t i;

    if (!(v > 0))
        return 0;
    memcpy(&bits, &v, sizeof bits);
    /* Exponent and the first two bits of the fraction, of the number just below. */
    i = (int64_t)((bits - 1) >> 50) - ((int64_t)(1023 + HISTOGRAM_X_FIRST) << 2) + 1;
    return i < 0 ? 0 : i > (int64_t)HISTOGRAM_X_SIZE - 1 ? HISTOGRAM_X_SIZE - 1 : (unsigned)i;
}

/* Where the octave ends whose upper bound is 2^e: buckets up to and including this one are at most
 * that. */
static inline unsigned histogram_x_octave(int e)
{
    return (unsigned)(e - HISTOGRAM_X_FIRST) * HISTOGRAM_SUB;
}

static inline unsigned histogram_ns_octave(int e)
{
    return (unsigned)(e - HISTOGRAM_NS_FIRST) * HISTOGRAM_SUB;
}

/* By the one writer. */
static inline void histogram_ns_add(struct histogram_ns *h, uint64_t ns)
{
    _Atomic uint64_t *n = &h->bucket[histogram_ns_index(ns)];

    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&h->sum, atomic_load_explicit(&h->sum, memory_order_relaxed) + ns,
                          memory_order_relaxed);
}

/* Of counts that were summed up: the upper bound of the bucket in which the q-th part (0 to 1) of all
 * values ends, in nanoseconds; 0 when there are none. */
uint64_t histogram_ns_quantile(const uint64_t count[HISTOGRAM_NS_SIZE], double q);

#endif
