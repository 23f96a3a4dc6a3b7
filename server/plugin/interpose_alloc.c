/*
 * interpose_alloc.c - counts how deep a thread is in glibc's allocator.
 *
 * A fault there cannot be jumped out of: an arena's lock may stay held for ever. Each wrapper adds
 * to this thread's counter, calls the real function, and subtracts.
 *
 * Not under sanitizers, which have their own allocator.
 */
#ifndef BULKHEAD_SANITIZE
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "plugin/recover.h"

static inline void enter(void)
{
    recover_self.depth += RECOVER_ALLOC;
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void leave(void)
{
    atomic_signal_fence(memory_order_seq_cst);
    recover_self.depth -= RECOVER_ALLOC;
}

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);
extern void __libc_free(void *p);

#define IN_ALLOCATOR(TYPE, CALL) \
    do {                         \
        TYPE result;             \
        enter();                 \
        result = (CALL);         \
        leave();                 \
        return result;           \
    } while (0)

void *malloc(size_t n)
{
    IN_ALLOCATOR(void *, __libc_malloc(n));
}

void *calloc(size_t n, size_t size)
{
    IN_ALLOCATOR(void *, __libc_calloc(n, size));
}

void *realloc(void *p, size_t n)
{
    IN_ALLOCATOR(void *, __libc_realloc(p, n));
}

void free(void *p)
{
    enter();
    __libc_free(p);
    leave();
}

void *memalign(size_t align, size_t n)
{
    IN_ALLOCATOR(void *, __libc_memalign(align, n));
}

void *aligned_alloc(size_t align, size_t n)
{
    IN_ALLOCATOR(void *, __libc_memalign(align, n));
}

int posix_memalign(void **out, size_t align, size_t n)
{
    void *p;

    if (align % sizeof(void *) != 0 || (align & (align - 1)) != 0 || align == 0)
        return EINVAL;
    p = memalign(align, n);
    if (p == NULL)
        return ENOMEM;
    *out = p;
    return 0;
}
#endif
