/*
 * region.h - the address space that private heaps lie in, in slots of 1 MiB.
 *
 * Reserved once, as one piece, before plugins are loaded. So one comparison tells whether an address
 * is any private heap's, and one load whose: that is how free() decides. What a newcomer would get
 * wrong: a slot that is given back is inaccessible, and comes back only after REGION_REST others, so
 * that a stale pointer into it is a fault in the code that kept it, and not somebody else's data. The
 * last page of what region_take() gives is always inaccessible.
 */
#ifndef PLUGIN_REGION_H
#define PLUGIN_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap;

#define REGION_SLOT_SHIFT 20
#define REGION_SLOT       ((size_t)1 << REGION_SLOT_SHIFT)
#define REGION_PAGE       ((size_t)4096)
#define REGION_REST       256

struct region_slot {
    _Atomic(struct heap *) owner; /* NULL: nobody's just now */
    uint32_t first;               /* slot of the piece that it belongs to */
    uint32_t n;                   /* in the first slot of a piece: slots in it */
    uint32_t next;                /* in a list, index + 1; 0: the last */
    bool rests;
    bool is_huge; /* in the first slot, the heap's: one block, from the second page on */
    size_t bytes; /* in the first slot: accessible */
};

extern struct region {
    uintptr_t base;
    size_t size; /* 0: there is none */
    struct region_slot *slot;
} region;

/* Reserves it, if it is not there yet; less than wished where RLIMIT_AS is in the way. 0 or -errno. */
int region_init(void);

static inline bool region_has(const void *p)
{
    return (uintptr_t)p - region.base < region.size;
}

static inline struct region_slot *region_slot_of(const void *p)
{
    return &region.slot[((uintptr_t)p - region.base) >> REGION_SLOT_SHIFT];
}

static inline char *region_address(uint32_t slot)
{
    return (char *)region.base + ((size_t)slot << REGION_SLOT_SHIFT);
}

/* So many single slots are kept accessible for the next takers, if they are clean: region_keep(). */
#define REGION_KEPT 64

/* A piece of n slots for that heap, its first `bytes` accessible and zero. The number of its first
 * slot, or -1: no room, no memory. */
int64_t region_take(struct heap *owner, uint32_t n, size_t bytes);
void region_give(uint32_t first);

/* As region_give(), of a single slot that region_take() gave with all but its last page: with zeros in
 * all of it. It stays accessible, and is taken before others, so that no system call is needed and no
 * page is missing. For heaps that come and go so fast that REGION_REST others would be a moment anyway.
 * False: enough are kept. */
bool region_keep(uint32_t first);

/* Gives back those that nobody has wanted since the last call. */
void region_trim(void);

#endif
