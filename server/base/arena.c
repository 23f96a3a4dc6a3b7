#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE 4096 /* with its header; what a usual request needs */

struct arena_chunk {
    struct arena_chunk *next;
    size_t size; /* with this header */
};

void arena_init(struct arena *a, size_t limit)
{
    memset(a, 0, sizeof *a);
    a->limit = limit;
}

static void free_chunks(struct arena_chunk *c)
{
    while (c != NULL) {
        struct arena_chunk *next = c->next;

        free(c);
        c = next;
    }
}

void arena_fini(struct arena *a)
{
    free_chunks(a->chunk);
    arena_init(a, a->limit);
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *keep = NULL, *c, *next;

    for (c = a->chunk; c != NULL; c = next) {
        next = c->next;
        if (keep == NULL && c->size == CHUNK_SIZE)
            keep = c;
        else
            free(c);
    }
    arena_init(a, a->limit);
    if (keep != NULL) {
        keep->next = NULL;
        a->chunk = keep;
        a->free = (char *)(keep + 1);
        a->end = (char *)keep + keep->size;
        a->total = keep->size;
    }
}

void *arena_alloc_slow(struct arena *a, size_t n, size_t align)
{
    struct arena_chunk *c;
    size_t size;

    if (n > a->limit || align > 4096)
        return NULL;
    size = sizeof *c + n + align;
    if (size < CHUNK_SIZE)
        size = CHUNK_SIZE;
    if (size > a->limit - a->total || a->total > a->limit)
        return NULL;
    c = malloc(size);
    if (c == NULL)
        return NULL;
    c->size = size;
    c->next = a->chunk;
    a->chunk = c;
    a->total += size;
    a->free = (char *)(c + 1);
    a->end = (char *)c + size;
    return arena_alloc_aligned(a, n, align);
}

void *arena_zalloc(struct arena *a, size_t n)
{
    void *p = arena_alloc(a, n);

    return p != NULL ? memset(p, 0, n) : NULL;
}

char *arena_strndup(struct arena *a, const char *p, size_t n)
{
    char *s = n == SIZE_MAX ? NULL : arena_alloc_aligned(a, n + 1, 1);

    if (s == NULL)
        return NULL;
    memcpy(s, p, n);
    s[n] = '\0';
    return s;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    char *s;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || (s = arena_alloc_aligned(a, (size_t)n + 1, 1)) == NULL)
        return NULL;
    va_start(ap, fmt);
    vsnprintf(s, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return s;
}
