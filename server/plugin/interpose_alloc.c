/*
 * interpose_alloc.c - which heap an allocation comes from, and whose a block is.
 *
 * In a plugin's call, what the plugin's own code asks for (or the C++ library on its behalf) comes from
 * the heap of its incarnation (heap.h). All else is libc's: what the host, the loader, libc itself and
 * other libraries ask for, as they may keep it for longer than the plugin lives. Who asks says the
 * return address. What libc makes to be the caller's (strdup() and the like) is in interpose_string.c.
 *
 * Whose a block is says its address alone, so anybody may free or resize anything; realloc() stays in
 * the block's heap.
 *
 * A fault inside libc's allocator cannot be jumped out of: an arena's lock may stay held for ever. So
 * each of its functions adds to this thread's counter, and subtracts.
 *
 * Not under sanitizers, which have their own allocator.
 */
#ifndef BULKHEAD_SANITIZE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin/heap.h"
#include "plugin/interpose.h"
#include "plugin/interpose_alloc.h"
#include "plugin/recover.h"
#include "plugin/text.h"

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);
extern void __libc_free(void *p);

#define CALLER __builtin_return_address(0)

#define IN_LIBC(TYPE, CALL)             \
    do {                                \
        TYPE result;                    \
        interpose_enter(RECOVER_ALLOC); \
        result = (CALL);                \
        interpose_leave(RECOVER_ALLOC); \
        return result;                  \
    } while (0)

static inline struct heap *heap_of(const void *caller)
{
    const struct recover_thread *t = &recover_self;
    struct heap *h = t->heap;

    if (t->top == NULL || h == NULL)
        return NULL;
    if ((uintptr_t)caller - h->text_lo < h->text_size)
        return h;
    return text_is_tenant((uintptr_t)caller) ? h : NULL;
}

struct heap *interpose_heap(const void *caller)
{
    return heap_of(caller);
}

void *malloc(size_t n)
{
    struct heap *h = heap_of(CALLER);

    if (h != NULL)
        return heap_alloc(h, n);
    IN_LIBC(void *, __libc_malloc(n));
}

void *calloc(size_t n, size_t size)
{
    struct heap *h = heap_of(CALLER);

    if (h != NULL) {
        size_t bytes;
        void *p;

        if (__builtin_mul_overflow(n, size, &bytes)) {
            errno = ENOMEM;
            return NULL;
        }
        p = heap_alloc(h, bytes);
        return p != NULL ? memset(p, 0, bytes) : NULL;
    }
    IN_LIBC(void *, __libc_calloc(n, size));
}

static void *resize(struct heap *h, void *p, size_t n)
{
    if (p != NULL && region_has(p)) {
        if (n != 0)
            return heap_realloc(p, n);
        heap_free(p); /* as in glibc */
        return NULL;
    }
    if (p == NULL && h != NULL)
        return heap_alloc(h, n);
    IN_LIBC(void *, __libc_realloc(p, n));
}

void *realloc(void *p, size_t n)
{
    return resize(p == NULL ? heap_of(CALLER) : NULL, p, n);
}

void *reallocarray(void *p, size_t n, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return resize(p == NULL ? heap_of(CALLER) : NULL, p, bytes);
}

void free(void *p)
{
    if (__builtin_expect(region_has(p), 0)) {
        heap_free(p);
        return;
    }
    interpose_enter(RECOVER_ALLOC);
    __libc_free(p);
    interpose_leave(RECOVER_ALLOC);
}

size_t malloc_usable_size(void *p)
{
    if (region_has(p))
        return heap_usable_size(p);
    {
        INTERPOSE_REAL(malloc_usable_size);
        return real(p);
    }
}

static void *aligned(struct heap *h, size_t align, size_t n)
{
    if (h != NULL)
        return heap_alloc_aligned(h, align < 16 ? 16 : align, n);
    IN_LIBC(void *, __libc_memalign(align, n));
}

static size_t power_above(size_t align)
{
    return align <= 16 || align > SIZE_MAX / 2 ? 16 : (size_t)1 << (64 - __builtin_clzl(align - 1));
}

void *memalign(size_t align, size_t n)
{
    return aligned(heap_of(CALLER), power_above(align), n);
}

void *aligned_alloc(size_t align, size_t n)
{
    return aligned(heap_of(CALLER), power_above(align), n);
}

void *valloc(size_t n)
{
    return aligned(heap_of(CALLER), (size_t)sysconf(_SC_PAGESIZE), n);
}

void *pvalloc(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return aligned(heap_of(CALLER), page, (n + page - 1) & ~(page - 1));
}

int posix_memalign(void **out, size_t align, size_t n)
{
    int saved_errno = errno;
    void *p;

    if (align % sizeof(void *) != 0 || (align & (align - 1)) != 0 || align == 0)
        return EINVAL;
    p = aligned(heap_of(CALLER), align, n);
    errno = saved_errno;
    if (p == NULL)
        return ENOMEM;
    *out = p;
    return 0;
}
#endif
