/*
 * warm.c - page faults that a fresh worker takes before it serves.
 *
 * A forked process has its parent's memory in name only: it takes a fault at the first touch of each
 * page that it writes. After a reload all connections come to a fresh worker at once, and each wants a
 * pool of libmicrohttpd (16 KiB and more), so that those who ask first waited for 80 faults. It is the
 * same work before, but then nobody waits.
 */
#include "worker/warm.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "http/front.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define LEAST_CONNS 16
#define MOST_CONNS  128
#define PIECE       ((size_t)65536) /* malloc() takes larger ones from elsewhere than small ones */

/* All pages that have a part of it. */
static void populate(void *p, size_t size)
{
    uintptr_t mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    uintptr_t from = (uintptr_t)p & ~mask, to = ((uintptr_t)p + size + mask) & ~mask;

    (void)madvise((void *)from, to - from, MADV_POPULATE_WRITE);
}

static uint64_t expected_conns(struct shm *shm)
{
    uint64_t n = LEAST_CONNS;

    for (uint32_t i = 0; i < shm->n_workers; i++) {
        uint64_t open = atomic_load_explicit(&shm->worker[i].connections, memory_order_relaxed);

        n = open > n ? open : n;
    }
    return n < MOST_CONNS ? n : MOST_CONNS;
}

/* What is given back at the end of the heap would go back to the kernel: the last piece stays. */
static void warm_heap(size_t size)
{
    size_t n = size / PIECE + 2;
    void **piece = calloc(n, sizeof piece[0]);

    if (piece == NULL)
        return;
    for (size_t i = 0; i < n; i++)
        piece[i] = malloc(PIECE);
    for (size_t i = 0; i < n - 1; i++) {
        if (piece[i] != NULL)
            populate(piece[i], PIECE);
        free(piece[i]);
    }
    free(piece);
}

void warm_up(const struct config *cfg, struct shm *shm, uint32_t slot)
{
    struct shm_worker *own = &shm->worker[slot];

    warm_heap(expected_conns(shm) * front_conn_memory(cfg));
    populate(own->metrics_plugin, sizeof own->metrics_plugin[0] * (size_t)cfg->n_plugins);
}
