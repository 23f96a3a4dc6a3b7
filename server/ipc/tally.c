#include "ipc/tally.h"

#include <errno.h>
#include <string.h>

#include "base/address.h"
#include "base/siphash.h"

#define COUNT_BITS 24
#define COUNT_MASK ((1ull << COUNT_BITS) - 1)

static uint64_t hash_of(const uint64_t key[2], const struct address *a, uint32_t ipv6_prefix)
{
    uint8_t ip[16] = {0};

    if (a->family == AF_INET || ipv6_prefix >= 128) {
        memcpy(ip, a->ip, 16);
    } else {
        memcpy(ip, a->ip, ipv6_prefix / 8);
        if (ipv6_prefix % 8 != 0)
            ip[ipv6_prefix / 8] = (uint8_t)(a->ip[ipv6_prefix / 8] & 0xff00 >> ipv6_prefix % 8);
    }
    return siphash13(key, ip, sizeof ip);
}

/* Adds to a word whose count is not 0 and whose tag is that. 1; 0: it has become another one's;
 * -EAGAIN: at the limit. */
static int add_to(_Atomic uint64_t *word, uint64_t tag, uint32_t limit)
{
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);

    while ((old & COUNT_MASK) != 0 && old >> COUNT_BITS == tag) {
        if ((old & COUNT_MASK) >= limit || (old & COUNT_MASK) == COUNT_MASK)
            return -EAGAIN;
        if (atomic_compare_exchange_weak(word, &old, old + 1))
            return 1;
    }
    return 0;
}

/* Two workers that see the address for the first time at the same moment try the same free word first,
 * and the one that loses looks again. */
int64_t tally_add(struct tally *t, const uint64_t key[2], const struct address *a,
                  uint32_t ipv6_prefix, uint32_t limit)
{
    uint64_t hash, tag;
    uint32_t first;

    if ((a->family != AF_INET && a->family != AF_INET6) || limit == 0)
        return 0;
    hash = hash_of(key, a, ipv6_prefix);
    tag = hash >> COUNT_BITS;
    first = (uint32_t)(hash % TALLY_SETS) * TALLY_WAYS;
    for (int tries = 0; tries < TALLY_WAYS; tries++) {
        uint32_t seat = 0;
        uint64_t none = 0;

        for (uint32_t i = first; i < first + TALLY_WAYS; i++) {
            int r = add_to(&t->word[i], tag, limit);

            if (r < 0)
                return r;
            if (r > 0)
                return i + 1;
            if (seat == 0 &&
                (atomic_load_explicit(&t->word[i], memory_order_relaxed) & COUNT_MASK) == 0)
                seat = i + 1;
        }
        if (seat == 0)
            return 0;
        none = atomic_load_explicit(&t->word[seat - 1], memory_order_relaxed);
        if ((none & COUNT_MASK) == 0 &&
            atomic_compare_exchange_strong(&t->word[seat - 1], &none, tag << COUNT_BITS | 1))
            return seat;
    }
    return 0;
}

void tally_drop(struct tally *t, uint32_t seat)
{
    uint64_t old;

    if (seat == 0 || seat > TALLY_SETS * TALLY_WAYS)
        return;
    old = atomic_load_explicit(&t->word[seat - 1], memory_order_relaxed);
    while ((old & COUNT_MASK) != 0)
        if (atomic_compare_exchange_weak(&t->word[seat - 1], &old, old - 1))
            return;
}

uint32_t tally_count(const struct tally *t, uint32_t seat)
{
    if (seat == 0 || seat > TALLY_SETS * TALLY_WAYS)
        return 0;
    return (uint32_t)(atomic_load_explicit(&t->word[seat - 1], memory_order_relaxed) & COUNT_MASK);
}
