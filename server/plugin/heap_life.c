/*
 * heap_life.c - a heap begins, is pinned, and goes; all of it at once.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "conf/config.h"
#include "obs/log.h"
#include "plugin/heap_internal.h"
#include "plugin/text.h"

#define KEEP_MAX 32u /* pages of blocks that are zeroed rather than given back */

struct heap_list heap_list = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct heap *unused; /* never given back: a late free() may still look at one */

/* A child must not find a heap's lock taken by a thread that it does not have. */
static void before_fork(void)
{
    pthread_mutex_lock(&heap_list.lock);
    for (struct heap *h = heap_list.first; h != NULL; h = h->next)
        while (!atomic_load(&h->is_dead) && atomic_exchange(&h->lock, 1) != 0)
            sched_yield();
}

static void after_fork(void)
{
    for (struct heap *h = heap_list.first; h != NULL; h = h->next)
        atomic_store(&h->lock, 0);
    pthread_mutex_unlock(&heap_list.lock);
}

void heap_init(const struct config *cfg, struct shm_worker *shared)
{
    static bool is_set_up;

    if (!heap_init_accounts(cfg, shared) || is_set_up)
        return;
    if (region_init() < 0) {
        log_warn("there is no address space for private heaps (ulimit -v): plugins share the "
                 "server's, and plugins.NAME.memory has no effect");
        return;
    }
    heap_init_bins();
    pthread_atfork(before_fork, after_fork, after_fork);
    is_set_up = true;
}

struct heap *heap_create(uint32_t plugin, uintptr_t object_base, const uint32_t *object_uses)
{
    struct heap *h;

    if (region.size == 0 || plugin > CONFIG_MAX_PLUGINS || !heap_is_private(plugin))
        return NULL;
    pthread_mutex_lock(&heap_list.lock);
    h = unused;
    if (h != NULL)
        unused = h->next;
    else
        h = calloc(1, sizeof *h);
    if (h == NULL) {
        pthread_mutex_unlock(&heap_list.lock);
        return NULL;
    }
    h->plugin = plugin;
    h->object_base = object_base;
    h->object_uses = object_uses;
    if (!text_range(object_base, &h->text_lo, &h->text_size))
        h->text_size = 0;
    h->n_refused = 0;
    memset(&h->gone, 0, sizeof h->gone);
    h->roomy = h->spare = NULL;
    memset(h->bin, 0, sizeof h->bin);
    atomic_store(&h->lock, 0);
    atomic_store(&h->pins, 1);
    atomic_store(&h->is_dead, false);
    atomic_store(&h->is_kept, false);
    h->next = heap_list.first;
    h->prev = &heap_list.first;
    if (heap_list.first != NULL)
        heap_list.first->prev = &h->next;
    heap_list.first = h;
    pthread_mutex_unlock(&heap_list.lock);
    return h;
}

void heap_pin(struct heap *h)
{
    if (h != NULL)
        atomic_fetch_add(&h->pins, 1);
}

void heap_unpin(struct heap *h)
{
    if (h != NULL)
        atomic_fetch_sub(&h->pins, 1);
}

bool heap_is_pinned(const struct heap *h)
{
    return atomic_load(&h->pins) != 0;
}

/* False: it is not worth it, or is not to be trusted. */
static bool keep_slot(uint32_t at)
{
    struct heap_chunk *c = (struct heap_chunk *)(void *)region_address(at);
    uint32_t end = region.slot[at].is_huge ? 0 : c->end;

    if (end < HEAP_TABLE_PAGES || end > HEAP_TABLE_PAGES + KEEP_MAX || region.slot[at].n != 1)
        return false;
    memset((void *)heap_span_at(c, HEAP_TABLE_PAGES), 0,
           (end - HEAP_TABLE_PAGES) * sizeof(struct heap_span));
    memset((char *)c + HEAP_TABLE_PAGES * REGION_PAGE, 0, (end - HEAP_TABLE_PAGES) * REGION_PAGE);
    memset(c, 0, sizeof *c);
    return region_keep(at);
}

static void destroy(struct heap *h, bool is_hasty)
{
    bool may_keep = is_hasty && !atomic_load(&h->is_dead);

    atomic_store(&h->is_dead, true);
    for (uint32_t i = h->slots, next; i != 0; i = next) {
        next = region.slot[i - 1].next;
        if (!may_keep || !keep_slot(i - 1))
            region_give(i - 1);
    }
    h->slots = 0;
    heap_discharge(h, h->bytes);
    pthread_mutex_lock(&heap_list.lock);
    *h->prev = h->next;
    if (h->next != NULL)
        h->next->prev = h->prev;
    h->next = unused;
    unused = h;
    pthread_mutex_unlock(&heap_list.lock);
}

/* Follows nothing that lies in the heap itself: it may be what crashed. */
void heap_destroy(struct heap **hp)
{
    struct heap *h = *hp;

    *hp = NULL;
    if (h != NULL)
        destroy(h, false);
}

void heap_reuse(struct heap **hp)
{
    struct heap *h = *hp;

    *hp = NULL;
    if (h != NULL)
        destroy(h, true);
}
