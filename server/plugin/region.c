#include "plugin/region.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "plugin/recover.h"

#define WISHED ((size_t)256 << 30)
#define LEAST  ((size_t)64 << 20)

struct region region;

/* The lower half is for single slots, which rest after use; the upper for longer pieces. */
static struct {
    pthread_mutex_t lock;
    uint32_t n_single, n_all;
    uint32_t fresh;                            /* single slots from here on were never used */
    uint32_t rest_first, rest_last, n_resting; /* index + 1, first in, first out */
    uint32_t kept[REGION_KEPT], n_kept,
        least_kept; /* first in, last out: their pages are in the caches */
} space = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *map(size_t size, int prot)
{
    void *p = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

int region_init(void)
{
    size_t size = WISHED;
    char *p = NULL;

    if (region.size != 0)
        return 0;
    while (p == NULL && size >= LEAST) {
        p = map(size + REGION_SLOT, PROT_NONE);
        /* Under a limit, a quarter of what would just fit: there are other things to come. */
        if (p == NULL)
            size /= 2;
        else if (size < WISHED && munmap(p, size + REGION_SLOT) == 0)
            p = map(size / 4 + REGION_SLOT, PROT_NONE), size /= 4;
    }
    if (p == NULL)
        return -ENOMEM;
    /* A huge page for a heap of a few KiB is a waste, and to zero it takes longer than a crash. */
    madvise(p, size + REGION_SLOT, MADV_NOHUGEPAGE);
    space.n_all = (uint32_t)(size >> REGION_SLOT_SHIFT);
    space.n_single = space.n_all / 2;
    region.slot = map(space.n_all * sizeof *region.slot, PROT_READ | PROT_WRITE);
    if (region.slot == NULL) {
        munmap(p, size + REGION_SLOT);
        return -ENOMEM;
    }
    region.base = ((uintptr_t)p + REGION_SLOT - 1) & ~(REGION_SLOT - 1);
    region.size = size;
    return 0;
}

/* A fault in here is none of a private heap's: it would be the host's own tables. */
static void lock(void)
{
    recover_critical_enter();
    pthread_mutex_lock(&space.lock);
}

static void unlock(void)
{
    pthread_mutex_unlock(&space.lock);
    recover_critical_leave();
}

static int64_t find_single(void)
{
    struct region_slot *s;
    uint32_t i;

    if (space.fresh < space.n_single && space.n_resting <= REGION_REST)
        return space.fresh++;
    if (space.n_resting == 0)
        return -1;
    i = space.rest_first - 1;
    s = &region.slot[i];
    space.rest_first = s->next;
    if (s->next == 0)
        space.rest_last = 0;
    space.n_resting--;
    return i;
}

/* First fit: over the pieces there are, and the gaps between them. */
static int64_t find_piece(uint32_t n)
{
    uint32_t start = space.n_single;

    for (uint32_t i = start; i < space.n_all;) {
        const struct region_slot *s = &region.slot[i];

        if (atomic_load_explicit(&s->owner, memory_order_relaxed) != NULL) {
            i += s->n;
            start = i;
        } else if (++i - start == n) {
            return start;
        }
    }
    return -1;
}

int64_t region_take(struct heap *owner, uint32_t n, size_t bytes)
{
    bool is_kept;
    int64_t at;

    if (n == 0 || n > space.n_all - space.n_single)
        return -1;
    lock();
    is_kept = n == 1 && bytes == REGION_SLOT - REGION_PAGE && space.n_kept > 0;
    if (is_kept) {
        at = space.kept[--space.n_kept];
        if (space.n_kept < space.least_kept)
            space.least_kept = space.n_kept;
    } else {
        at = n == 1 ? find_single() : find_piece(n);
    }
    for (uint32_t i = 0; at >= 0 && i < n; i++) {
        struct region_slot *s = &region.slot[at + i];

        s->first = (uint32_t)at;
        s->n = n;
        s->next = 0;
        s->rests = s->is_huge = false;
        s->bytes = i == 0 ? bytes : 0;
        atomic_store_explicit(&s->owner, owner, memory_order_relaxed);
    }
    unlock();
    if (at >= 0 && !is_kept &&
        mprotect(region_address((uint32_t)at), bytes, PROT_READ | PROT_WRITE) < 0) {
        region_give((uint32_t)at);
        at = -1;
    }
    return at;
}

void region_give(uint32_t first)
{
    struct region_slot *s = &region.slot[first];
    uint32_t n = s->n;
    size_t size = (size_t)n << REGION_SLOT_SHIFT;

    madvise(region_address(first), size, MADV_DONTNEED);
    mprotect(region_address(first), size, PROT_NONE);
    lock();
    for (uint32_t i = 0; i < n; i++)
        atomic_store_explicit(&s[i].owner, NULL, memory_order_relaxed);
    if (n == 1) {
        s->next = 0;
        s->rests = true;
        if (space.rest_last != 0)
            region.slot[space.rest_last - 1].next = first + 1;
        else
            space.rest_first = first + 1;
        space.rest_last = first + 1;
        space.n_resting++;
    }
    unlock();
}

bool region_keep(uint32_t first)
{
    bool has_room;

    lock();
    has_room = space.n_kept < REGION_KEPT;
    if (has_room) {
        atomic_store_explicit(&region.slot[first].owner, NULL, memory_order_relaxed);
        space.kept[space.n_kept++] = first;
    }
    unlock();
    return has_room;
}

void region_trim(void)
{
    uint32_t surplus[REGION_KEPT], n;

    if (space.n_kept == 0)
        return;
    lock();
    n = space.least_kept < space.n_kept ? space.least_kept : space.n_kept;
    memcpy(surplus, space.kept, n * sizeof surplus[0]); /* at the bottom: the coldest */
    memmove(space.kept, space.kept + n, (space.n_kept - n) * sizeof space.kept[0]);
    space.n_kept -= n;
    space.least_kept = space.n_kept;
    unlock();
    for (uint32_t i = 0; i < n; i++)
        region_give(surplus[i]);
}
