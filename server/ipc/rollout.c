#include "ipc/rollout.h"

void rollout_set(struct rollout *r, uint32_t number, enum rollout_mode mode, uint32_t parts)
{
    atomic_store(&r->word, rollout_word(number, mode, parts));
}

void rollout_clear(struct rollout *r)
{
    for (int a = 0; a < ROLLOUT_ARMS; a++) {
        struct rollout_stats *s = &r->arm[a];

        atomic_store(&s->requests, 0);
        atomic_store(&s->errors, 0);
        atomic_store(&s->unfinished, 0);
        for (int i = 0; i < ROLLOUT_BUCKETS; i++)
            atomic_store(&s->slow[i], 0);
    }
}

bool rollout_trip(struct rollout *r, uint32_t number)
{
    uint64_t word = atomic_load(&r->word);

    while (rollout_number(word) == number &&
           (rollout_mode(word) == ROLLOUT_SHADOW || rollout_mode(word) == ROLLOUT_CANARY))
        if (atomic_compare_exchange_weak(&r->word, &word, rollout_word(number, ROLLOUT_TRIPPED, 0)))
            return true;
    return false;
}

int rollout_bucket(int64_t ns)
{
    uint64_t us = ns > 0 ? (uint64_t)ns / 1000 : 0;
    int octave, i;

    if (us < 4)
        return (int)us;
    octave = 63 - __builtin_clzll(us);
    i = (octave - 1) * 4 + (int)(us >> (octave - 2) & 3);
    return i < ROLLOUT_BUCKETS ? i : ROLLOUT_BUCKETS - 1;
}

int64_t rollout_bucket_end_ns(int i)
{
    int octave = i / 4 + 1;

    return i < 4 ? (i + 1) * INT64_C(1000) : (INT64_C(5) + i % 4) * 1000 << (octave - 2);
}

void rollout_count(struct rollout *r, enum rollout_arm arm, bool is_error, int64_t took_ns)
{
    struct rollout_stats *s = &r->arm[arm];

    if (took_ns >= 0)
        atomic_fetch_add_explicit(&s->slow[rollout_bucket(took_ns)], 1, memory_order_relaxed);
    if (is_error)
        atomic_fetch_add_explicit(&s->errors, 1, memory_order_relaxed);
    /* Last: whoever reads it sees at least as many requests as what is said of them. */
    atomic_fetch_add_explicit(&s->requests, 1, memory_order_release);
}

void rollout_count_shadow(struct rollout *r, bool is_error, bool is_unfinished)
{
    if (is_unfinished)
        atomic_fetch_add_explicit(&r->arm[ROLLOUT_CANDIDATE].unfinished, 1, memory_order_relaxed);
    else
        rollout_count(r, ROLLOUT_CANDIDATE, is_error, -1);
}
