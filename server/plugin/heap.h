/*
 * heap.h - the private heap of one incarnation: what its plugin allocates comes from here, and goes
 * all at once when nothing refers to it any more.
 *
 * Why an allocator of our own. A fault inside an allocator can be recovered only if all that the
 * faulting thread may have held or left half done belongs to what is thrown away: no lock, cache or
 * tree that other heaps share. Of a heap here the lock and the tables are its own; what it shares
 * (region.h) is entered for whole slots alone, and counts as the host's. jemalloc's arenas share their
 * radix tree, base memory and per-thread caches; mspaces keep links between the user's bytes.
 *
 * The tables lie at the start of each slot, apart from the blocks: sizes and free bits are never read
 * from what the user wrote. So a block that was freed twice, or never allocated, is found right there.
 *
 * What a newcomer would get wrong: which heap serves malloc() is decided by who calls (interpose_alloc.c),
 * but whose a block is, by its address alone (region.h). Any thread may free anything.
 */
#ifndef PLUGIN_HEAP_H
#define PLUGIN_HEAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plugin/region.h"

struct config;
struct shm_worker;

#define HEAP_BINS 32

struct heap_span; /* heap.c */
struct heap_chunk;

struct heap {
    _Atomic uint32_t lock;
    uint32_t n_refused;               /* in a row; with the lock */
    size_t refused;                   /* the least of them, bytes */
    struct heap_span *bin[HEAP_BINS]; /* with free blocks, by size */
    struct heap_chunk *roomy;         /* with free pages */
    struct heap_chunk *spare;         /* one of them that is empty, or NULL */
    uint32_t slots;                   /* all it has: index + 1, through region_slot.next */
    uint64_t bytes;                   /* as charged to the plugin */

    uintptr_t text_lo, text_size; /* of the object whose calls it serves; a hint */
    uintptr_t object_base;        /* as text_object() tells it */
    const uint32_t *object_uses;  /* not 0: its code may be called again */
    uint32_t plugin;              /* index + 1 */
    _Atomic bool is_dead;         /* a thread crashed inside: allocates nothing, frees nothing */
    _Atomic uint32_t pins;        /* see heap_pin() */
    _Atomic bool is_kept;         /* as long as its object is used */
    struct {                      /* remains.h; the loop thread's */
        struct heap *next;        /* of those whose incarnation is closed */
        bool is_looked_at;        /* and something named it then */
        bool is_candidate;        /* goes, unless something names it */
        bool is_named, is_followed;
    } gone;
    struct heap *next, **prev; /* among all of this process */
};

/* Once per process, before plugins are loaded: limits, and where memory is shown. */
void heap_init(const struct config *cfg, struct shm_worker *shared);

/* A heap with one pin; NULL: that plugin shares libc's, or there is no memory for one. It takes none
 * itself before something is allocated. object_base: of the object whose calls it serves, as
 * text_object() tells it. */
struct heap *heap_create(uint32_t plugin, uintptr_t object_base, const uint32_t *object_uses);

/* Whoever may still use what is in it pins it: the incarnation, its threads, jobs, posted calls and
 * timers. NULL is fine. Any thread. heap_unpin() throws nothing away: remains.h does. */
void heap_pin(struct heap *h);
void heap_unpin(struct heap *h);
bool heap_is_pinned(const struct heap *h);

/* All its memory goes. Nobody may have it pinned. */
void heap_destroy(struct heap **hp);
/* The same, in a hurry: what is small of it stays accessible, for the next heaps (region_keep()). */
void heap_reuse(struct heap **hp);

/* As malloc() and memalign(): NULL with ENOMEM when it is beyond the plugin's limit. */
void *heap_alloc(struct heap *h, size_t n);
void *heap_alloc_aligned(struct heap *h, size_t align, size_t n);

/* For any address that region_has(). Those that name no block are a crash of the plugin that is
 * running (SIGABRT), or else of this process; but after the heap has gone they do nothing. */
void heap_free(void *p);
void *heap_realloc(void *p, size_t n);
size_t heap_usable_size(void *p);

/* Bytes that it has taken; of all heaps of that plugin in this process. */
uint64_t heap_plugin_bytes(uint32_t plugin);

/* Of what they have taken, is more than half of the limit gone? */
bool heap_is_tight(const struct heap *h);

/* Does an aligned word in [lo, hi) point into h? The memory must be readable. Any thread. */
bool heap_is_named_in(const struct heap *h, const void *lo, const void *hi);

/* Notes in gone.is_named of which heaps an aligned word in [lo, hi) is an address. Loop thread. */
void heap_note_named(const void *lo, const void *hi);
/* The same of all words in the heaps of that object: of those that are no candidates to go, and of
 * candidates that are named themselves. False: that is too much to look through. Loop thread: other
 * threads may be changing what is looked at, and what they do with candidates is up to pins. */
bool heap_note_named_by_kin(uintptr_t object_base);

/* The thread that is inside h does not come back: async-signal-safe. */
void heap_condemn(struct heap *h);

#endif
