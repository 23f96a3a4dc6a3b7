/*
 * memory_internal.h - the layout of the memory store's segment.
 *
 * The segment is cut into shards, each with a lock, an index (chains of entries by hash) and a buddy
 * allocator of its own. Two ways for a process to stop in the middle have to be survived: SIGKILL
 * between any two instructions, and a crash in here (the host's critical section makes that the
 * worker's end, never a recovered call).
 *
 * Why that is sound. The lock is a robust mutex: whoever comes next is told that its holder has died.
 * The chains are the only truth, and every change of them is one store of one word:
 *   - set: the entry is written whole into memory that nothing points to, and then the one word that
 *     made the chain lead to its predecessor (or to nothing) is made to lead to it;
 *   - del: that word is made to lead to the entry's successor;
 *   - add, bucket: the number in the entry is one word, stored in place.
 * A store by a process that dies afterwards has happened (only a loss of power could undo it, and the
 * memory with it), and the compiler is kept from moving it before what it publishes by `release`. So at
 * each instant every key has its old value or its new one, whole.
 * Everything else (free lists, states of cells, sums by namespace) follows from the chains, may be half
 * changed, and is made anew by shard_repair() when a holder has died; that also checks every word it
 * walks over, so that a stray write of a plugin's costs the entries that it hit, not the server.
 *
 * An undo log would do as well; it would have to be written for every change, this one costs nothing
 * until somebody dies.
 */
#ifndef STORE_MEMORY_INTERNAL_H
#define STORE_MEMORY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

#define MEMORY_MAGIC  0x62686b7673746f72ull
#define MEMORY_LAYOUT 1 /* of everything below: an upgraded server takes over no other */
#define MEMORY_SHARDS 16
#define MEMORY_NS     1024
#define CELL          64u
#define ORDER_MAX     10 /* of a block: 64 << 10 = 64 KiB */
#define BLOCK_MAX     (CELL << ORDER_MAX)
#define NOWHERE       0u /* a place is the number of a cell plus 1 */

enum entry_kind { ENTRY_BYTES, ENTRY_NUMBER, ENTRY_BUCKET, ENTRY_KINDS };

struct entry {
    _Atomic uint32_t next; /* place; NOWHERE: the last of the chain */
    uint32_t hash;
    uint64_t version;
    _Atomic int64_t until_ns; /* 0: for ever. Of a bucket: its state */
    _Atomic int64_t number;   /* of ENTRY_NUMBER */
    uint32_t n;               /* bytes of the value */
    uint16_t ns;
    uint8_t key_n;
    uint8_t order_kind; /* order << 4 | kind */
    char bytes[];       /* key, value */
};

struct free_block { /* in a free one's first bytes */
    uint32_t next, prev;
};

/* States of cells, one byte each; derived. */
#define CELL_INNER 0x00 /* not the first of its block */
#define CELL_FREE  0x40 /* | order */
#define CELL_USED  0x80 /* | order */

struct shard {
    pthread_mutex_t lock;
    uint64_t version;         /* the last one given */
    uint64_t used[MEMORY_NS]; /* bytes of blocks, by namespace; derived */
    uint64_t used_all, n_entries;
    uint32_t free_list[ORDER_MAX + 1]; /* places; derived */
    uint32_t fresh; /* cells from here on were never used, and their pages never touched; derived */
    uint32_t sweep_at; /* chain */
    int64_t swept_ns;
};

struct memory_ns {
    _Atomic uint32_t is_ready;
    char name[STORE_NS_NAME];
};

struct segment { /* the mapping's first bytes */
    uint64_t magic;
    uint32_t layout, n_cells, n_chains; /* of a shard */
    uint64_t size, shard_size, key[2];
    uint64_t asked; /* the size as configured */
    pthread_mutex_t ns_lock;
    _Atomic uint64_t expired, refused, repaired;
    struct memory_ns ns[MEMORY_NS];
};

struct store_memory { /* of this process */
    struct segment *seg;
    int fd;
};

struct view { /* pointers into a shard */
    struct segment *seg;
    struct shard *shard;
    _Atomic uint32_t *chain;
    uint8_t *state;
    char *cells;
    uint32_t n_cells, n_chains;
};

struct view shard_view(struct segment *seg, uint32_t i);

static inline void *cell_at(const struct view *v, uint32_t place)
{
    return v->cells + (uint64_t)(place - 1) * CELL;
}

static inline uint32_t entry_order(const struct entry *e)
{
    return e->order_kind >> 4;
}

static inline enum entry_kind entry_kind(const struct entry *e)
{
    return (enum entry_kind)(e->order_kind & 15);
}

/* ---- memory_block.c; the shard's lock is held ---- */

/* The order of the smallest block for n bytes; ORDER_MAX + 1: there is none. */
uint32_t block_order(uint64_t n);
/* A block's place, or NOWHERE. */
uint32_t block_take(struct view *v, uint32_t order);
void block_give(struct view *v, uint32_t place, uint32_t order);
/* Lists and sums made anew from the chains; entries that cannot be are cut off. */
void shard_repair(struct view *v);

#endif
