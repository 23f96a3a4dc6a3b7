/*
 * heap_internal.h - a heap's tables and its lock, for the files that it is made of.
 *
 *   heap.c          blocks: allocates, frees; what is wrong with an address
 *   heap_pages.c    runs of pages, and the slots they lie in
 *   heap_account.c  how much each plugin may take, and has taken
 *   heap_life.c     begins and ends
 *   heap_refs.c     which heaps a piece of memory refers to
 */
#ifndef PLUGIN_HEAP_INTERNAL_H
#define PLUGIN_HEAP_INTERNAL_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plugin/heap.h"
#include "plugin/recover.h"

#define HEAP_PAGES       ((uint32_t)(REGION_SLOT / REGION_PAGE)) /* of a slot */
#define HEAP_TABLE_PAGES 4u               /* spans of all pages: 64 bytes each */
#define HEAP_LAST_PAGE   (HEAP_PAGES - 1) /* not accessible: see region.h */
#define HEAP_BLOCKS_MAX  256u             /* of one span */

enum { SPAN_FREE, SPAN_REST, SPAN_SMALL, SPAN_LARGE };

/* A run of pages: blocks of one size, or one block. In the entry of its first page; the others are
 * SPAN_REST. */
struct heap_span {
    uint64_t free[HEAP_BLOCKS_MAX / 64]; /* bits of blocks */
    struct heap_span *next, *prev;       /* in its bin, while it has free blocks */
    uint16_t n_free;
    uint8_t kind, bin;
    uint8_t pages;
    uint8_t back; /* SPAN_REST: pages to its first one */
    uint16_t spare[5];
};

/* Where the entries of the table's own pages would be. */
struct heap_chunk {
    struct heap *heap;
    struct heap_chunk *next, *prev; /* roomy */
    uint64_t free[HEAP_PAGES / 64]; /* bits of pages */
    uint32_t n_free;
    uint32_t end; /* pages from here on were never used */
    char *block;  /* if it is huge: one block in slots of its own */
};

_Static_assert(sizeof(struct heap_span) == 64, "one cache line");
_Static_assert(sizeof(struct heap_span) * HEAP_PAGES == HEAP_TABLE_PAGES * REGION_PAGE,
               "the table's size");
_Static_assert(sizeof(struct heap_chunk) <= HEAP_TABLE_PAGES * sizeof(struct heap_span),
               "its head");

static inline struct heap_chunk *heap_chunk_of(const void *p)
{
    return (struct heap_chunk *)((uintptr_t)p & ~(REGION_SLOT - 1));
}

static inline struct heap_span *heap_span_at(struct heap_chunk *c, uint32_t page)
{
    return (struct heap_span *)c + page;
}

static inline uint32_t heap_page_of(const struct heap_span *s)
{
    return (uint32_t)(s - (const struct heap_span *)heap_chunk_of(s));
}

static inline char *heap_blocks_of(const struct heap_span *s)
{
    return (char *)heap_chunk_of(s) + heap_page_of(s) * REGION_PAGE;
}

/* Whose an address of the region is; NULL: nobody's any more. */
static inline struct heap *heap_owner_of(void *p)
{
    return atomic_load_explicit(&region_slot_of(p)->owner, memory_order_relaxed);
}

/* ---- the lock ---- */

/*
 * A plain word, not a futex: to let go of it costs no atomic operation, and it is held for some ten
 * nanoseconds (a new slot: two system calls). Who waits yields; a thread that crashed with it condemns
 * the heap, and nobody waits for that one. False: it is dead.
 */
static inline bool heap_enter(struct heap *h)
{
    struct recover_thread *t = &recover_self;

    t->in_heap = h;
    atomic_signal_fence(memory_order_seq_cst);
    for (uint32_t n = 0; atomic_exchange_explicit(&h->lock, 1, memory_order_acquire) != 0; n++) {
        if (atomic_load_explicit(&h->is_dead, memory_order_relaxed))
            break;
        if (n < 64)
            __builtin_ia32_pause();
        else
            sched_yield();
    }
    if (__builtin_expect(!atomic_load_explicit(&h->is_dead, memory_order_relaxed), 1))
        return true;
    t->in_heap = NULL; /* the lock is left as it is: nobody needs it any more */
    return false;
}

static inline void heap_leave(struct heap *h)
{
    atomic_store_explicit(&h->lock, 0, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    recover_self.in_heap = NULL;
}

/* ---- heap_pages.c: with the lock ---- */

/* n pages in a row, as a span of that kind; NULL: beyond the limit, or there is no memory. */
struct heap_span *heap_take_pages(struct heap *h, uint32_t n, uint8_t kind);
void heap_give_pages(struct heap *h, struct heap_span *s);
/* n slots in a row, of which `bytes` are accessible, with the head of a chunk; NULL: as above. charged:
 * bytes that count. */
struct heap_chunk *heap_take_slots(struct heap *h, uint32_t n, size_t bytes, size_t charged);
void heap_give_slots(struct heap *h, struct heap_chunk *c, size_t charged);

/* ---- heap_account.c ---- */

/* Has its plugin a heap of its own? */
bool heap_is_private(uint32_t plugin);
bool heap_is_limited(const struct heap *h);
/* False: that is beyond the limit. */
bool heap_charge(struct heap *h, size_t bytes);
void heap_discharge(struct heap *h, size_t bytes);
/* malloc() has returned NULL, so many times in a row. Without the lock. */
void heap_tell_refusal(struct heap *h, uint32_t n_refused);
/* Limits and names; true: a plugin has a heap of its own. */
bool heap_init_accounts(const struct config *cfg, struct shm_worker *shared);

/* ---- heap_life.c ---- */

extern struct heap_list { /* of this process */
    pthread_mutex_t lock;
    struct heap *first;
} heap_list;

/* ---- heap.c ---- */

void heap_init_bins(void);

#endif
