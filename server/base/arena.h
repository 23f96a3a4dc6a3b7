/*
 * arena.h - memory that is given back all at once.
 *
 * The first chunk stays with the arena over arena_reset(), so that a request of usual size costs
 * no malloc at all. Not thread-safe.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunk; /* newest first */
    char *free, *end;          /* of the newest chunk */
    size_t total;              /* bytes of all chunks */
    size_t limit;              /* allocations past it answer NULL */
};

/* No memory is taken before the first allocation. */
void arena_init(struct arena *a, size_t limit);
void arena_fini(struct arena *a);
/* Forgets all allocations; keeps one chunk of the usual size. */
void arena_reset(struct arena *a);

void *arena_alloc_slow(struct arena *a, size_t n, size_t align);

/* Uninitialised; NULL when out of memory or past the limit. align: a power of two. */
static inline void *arena_alloc_aligned(struct arena *a, size_t n, size_t align)
{
    size_t pad = -(size_t)a->free & (align - 1);

    if (a->free == NULL || n > (size_t)(a->end - a->free) || pad > (size_t)(a->end - a->free) - n)
        return arena_alloc_slow(a, n, align);
    char *p = a->free + pad;
    a->free = p + n;
    return p;
}

static inline void *arena_alloc(struct arena *a, size_t n)
{
    return arena_alloc_aligned(a, n, 16);
}

void *arena_zalloc(struct arena *a, size_t n);
/* A NUL-terminated copy. */
char *arena_strndup(struct arena *a, const char *p, size_t n);
__attribute__((format(printf, 2, 3))) char *arena_printf(struct arena *a, const char *fmt, ...);

#endif
