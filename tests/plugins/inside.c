/*
 * inside.c - commits the faults of plugins/fault where libc holds a lock: in a callback of
 * dl_iterate_phdr(), under the lock of stderr, in the allocator.
 *
 * ?fault=NAME&at=loader, stdio or allocator. Columns i and j of the crash matrix. And ?at=gone, a
 * fault with the stack pointer past the boundary's frame, which cannot be recovered in any build. A plugin cannot
 * make the allocator divide by zero: it can only bend what the allocator reads, so that column has
 * faults of its own. Also row 8 of column f: INSIDE_CONSTRUCTOR=throw makes the constructor throw.
 */
#include "../../plugins/fault/kinds.c"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

/* ---- the allocator ---- */

/* A private heap keeps nothing in its blocks. The tables of all are at the start of their slot: this one
 * is said to be full, and to be followed by that page (struct heap_chunk, plugin/heap.c). */
__attribute__((noinline)) static void inside_bend_tables(void **head, void *page)
{
    head[1] = page;
    memset(head + 3, 0, 40);
    sink = (uintptr_t)malloc(100000);
}

__attribute__((noinline)) static void inside_bend(void *page)
{
    uintptr_t *volatile a = malloc(72);
    uintptr_t *volatile b = malloc(72);

    free(a);
    free(b);
    *(volatile uintptr_t *)b = ((uintptr_t)b >> 12) ^ (uintptr_t)page; /* NOLINT */
    for (int i = 0; i < 3; i++)
        sink = (uintptr_t)malloc(72);
    inside_bend_tables((void **)((uintptr_t)b & ~(uintptr_t)0xfffff), page);
}

/* Too large for the thread's cache: glibc finds out with the arena's lock held. */
__attribute__((noinline)) static void inside_free_twice(void)
{
    char *volatile a = malloc(4000);
    char *volatile b = malloc(4000);
    char *volatile again = a;

    free(a);
    free(again); /* NOLINT */
    free(b);
    STAY;
}

/* Its own frames are small, malloc's are not: it is malloc that finds no more stack. */
__attribute__((noinline)) static size_t inside_malloc_deeper(size_t depth)
{
    char *volatile p = malloc(200000);

    free(p);
    return zero ? depth : inside_malloc_deeper(depth + 1) + (size_t)zero;
}

static void in_allocator(const char *name)
{
    if (strcmp(name, "segv") == 0)
        inside_bend(fault_unmapped_page());
    else if (strcmp(name, "bus") == 0)
        inside_bend(fault_truncated_page());
    else if (strcmp(name, "overflow") == 0)
        sink = inside_malloc_deeper(0);
    else
        inside_free_twice();
}

/* ---- an exception, without C++ ---- */

__attribute__((noinline)) static void inside_throw(void)
{
    void *lib = dlopen("libstdc++.so.6", RTLD_NOW);
    void *(*allocate)(size_t) = lib ? (void *(*)(size_t))dlsym(lib, "__cxa_allocate_exception")
                                    : NULL;
    void (*throw)(void *, void *, void (*)(void *)) =
        lib ? (void (*)(void *, void *, void (*)(void *)))dlsym(lib, "__cxa_throw") : NULL;

    if (allocate != NULL && throw != NULL)
        throw(allocate(sizeof(int)), dlsym(lib, "_ZTIi"), NULL);
    STAY;
}

static void commit_throw(const struct fault_site *site)
{
    (void)site;
    inside_throw();
}

static const struct fault_kind throw_kind = {"throw", 8, "throws an int", commit_throw};

/* ---- under a lock ---- */

static int in_loader(struct dl_phdr_info *info, size_t n, void *arg)
{
    (void)info, (void)n;
    ((const struct fault_kind *)arg)->commit(&(struct fault_site){NULL, NULL});
    return 1;
}

static void in_stdio(const struct fault_kind *kind)
{
    flockfile(stderr);
    kind->commit(&(struct fault_site){NULL, NULL});
    funlockfile(stderr);
}

/* The signal is taken on the alternate stack: no frame of the host's is written to. */
static void in_no_frame(void)
{
    pthread_attr_t attr;
    void *lo;
    size_t size;

    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return;
    if (pthread_attr_getstack(&attr, &lo, &size) == 0)
        __asm__ volatile("mov %0, %%rsp\n\tud2" : : "r"((char *)lo + size - 64) : "memory");
    pthread_attr_destroy(&attr);
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    bh_str fault = bh_query(req, "fault"), at = bh_query(req, "at");
    const struct fault_kind *kind = fault.p != NULL ? fault_kind_find(fault.p, fault.n) : NULL;

    (void)self, (void)ctx;
    if (bh_str_eq(fault, "throw"))
        kind = &throw_kind;
    if (bh_str_eq(at, "allocator"))
        in_allocator(fault.p);
    else if (bh_str_eq(at, "gone"))
        in_no_frame();
    else if (kind != NULL && bh_str_eq(at, "loader"))
        dl_iterate_phdr(in_loader, (void *)(uintptr_t)kind);
    else if (kind != NULL && bh_str_eq(at, "stdio"))
        in_stdio(kind);
    else
        return bh_reply(req, 400, "text/plain", "no such fault or place\n");
    return bh_reply(req, 200, "text/plain", "ok\n");
}

__attribute__((constructor)) static void construct(void)
{
    const char *what = getenv("INSIDE_CONSTRUCTOR");

    if (what != NULL && strcmp(what, "throw") == 0)
        inside_throw();
}

BH_PLUGIN("inside", "1.0.0", .summary = "Faults where libc holds a lock", .on_request = on_request)
