/*
 * rollout.h - how much of the traffic a plugin's candidate gets, and how the two arms fare.
 *
 * While another version of a plugin is rolled out, each worker has two instances of it, the arms. Which
 * one a request gets is decided by one word in shared memory: so a change of the weight, and the way
 * back, are one store, at once in all workers. The master writes it; a worker writes it in one case, when
 * the candidate has crashed: then nobody gets it any more, before the master has heard of that.
 *
 * What a newcomer would get wrong: the word has the number of its rollout in it. Workers of an earlier one
 * may still finish their requests, and must not take this word for theirs.
 */
#ifndef IPC_ROLLOUT_H
#define IPC_ROLLOUT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define ROLLOUT_ALL     1000000u /* parts that make all requests */
#define ROLLOUT_BUCKETS 112      /* of latency: four per octave, from 1 us to some 9 minutes */

enum rollout_mode {
    ROLLOUT_OFF,     /* everybody gets the stable one */
    ROLLOUT_SHADOW,  /* so many get the stable one, and the candidate runs along for show */
    ROLLOUT_CANARY,  /* so many get the candidate */
    ROLLOUT_TRIPPED, /* as OFF: the candidate has crashed */
};

enum rollout_arm { ROLLOUT_STABLE, ROLLOUT_CANDIDATE, ROLLOUT_ARMS };

struct rollout_stats { /* one arm; any worker, atomic adds */
    _Atomic uint64_t requests;
    _Atomic uint64_t errors;     /* answered 5xx, or its hook failed */
    _Atomic uint64_t unfinished; /* shadows that wanted to pause */
    _Atomic uint64_t slow[ROLLOUT_BUCKETS];
};

struct rollout {                        /* zeroed: there is none */
    _Alignas(64) _Atomic uint64_t word; /* a cache line of its own, mostly read */
    _Alignas(64) struct rollout_stats arm[ROLLOUT_ARMS];
};

/* The word: parts in bits 0 to 23, mode in 24 to 31, the number above. */
static inline uint64_t rollout_word(uint32_t number, enum rollout_mode mode, uint32_t parts)
{
    return (uint64_t)number << 32 | (uint64_t)mode << 24 | parts;
}

static inline uint32_t rollout_parts(uint64_t word)
{
    return (uint32_t)word & 0xffffff;
}

static inline enum rollout_mode rollout_mode(uint64_t word)
{
    return (enum rollout_mode)(word >> 24 & 0xff);
}

static inline uint32_t rollout_number(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

/* Is whoever has this hash among so many parts of all? Who is stays so when there are more. */
static inline bool rollout_has(uint32_t parts, uint64_t hash)
{
    return (hash >> 32) * ROLLOUT_ALL >> 32 < parts;
}

/* By the master. */
void rollout_set(struct rollout *r, uint32_t number, enum rollout_mode mode, uint32_t parts);
/* The counters of both arms begin anew. */
void rollout_clear(struct rollout *r);
/* The candidate of rollout `number` has crashed: nobody gets it any more. True for who was first. */
bool rollout_trip(struct rollout *r, uint32_t number);

/* One request has ended in this arm. took_ns < 0: that is not known. */
void rollout_count(struct rollout *r, enum rollout_arm arm, bool is_error, int64_t took_ns);
/* And with it a shadow, which was not finished, or has failed. */
void rollout_count_shadow(struct rollout *r, bool is_error, bool is_unfinished);
/* The bucket of a latency; the latency at which bucket i ends. */
int rollout_bucket(int64_t ns);
int64_t rollout_bucket_end_ns(int i);

#endif
