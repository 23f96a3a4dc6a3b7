/*
 * tally.h - how many connections each client address has, over all workers.
 *
 * A table of fixed size in shared memory, without locks: a worker may be killed between any two of its
 * instructions. So an entry is one 64-bit word, what is left of the address' hash and the count, and
 * each change is one compare-and-swap. A connection's seat is the number of its entry plus one; it is
 * kept in the table of connections (struct shm_conn), so that whoever clears up after a dead worker can
 * give it back.
 *
 * What a newcomer would get wrong: where all places for an address are taken by others, it is not
 * counted, and not refused: whoever commands that many addresses is not held by a limit for each.
 */
#ifndef IPC_TALLY_H
#define IPC_TALLY_H

#include <stdatomic.h>
#include <stdint.h>

struct address;

#define TALLY_SETS 8192
#define TALLY_WAYS 8 /* a cache line */

struct tally {
    _Alignas(64) _Atomic uint64_t word[TALLY_SETS * TALLY_WAYS];
};

/* One more connection of a, with limit at most; of an IPv6 address the first ipv6_prefix bits count.
 * Its seat; 0: it is not counted, since there is no room or it is no IP address; -EAGAIN: it has that many. */
int64_t tally_add(struct tally *t, const uint64_t key[2], const struct address *a,
                  uint32_t ipv6_prefix, uint32_t limit);
/* One less. seat may be anything. */
void tally_drop(struct tally *t, uint32_t seat);
/* How many there are at that seat. */
uint32_t tally_count(const struct tally *t, uint32_t seat);

#endif
