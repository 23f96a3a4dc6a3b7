/*
 * heap_refs.c - which heaps a piece of memory refers to: every aligned word may be an address.
 */
#include <pthread.h>

#include "plugin/heap_internal.h"

#define LOOK_MAX ((size_t)16 << 20) /* at one time: some milliseconds */

/* Of which heap it is an address; NULL: of none. */
static struct heap *heap_at(uintptr_t word)
{
    return __builtin_expect(!region_has((const void *)word), 1) ? NULL
                                                                : heap_owner_of((void *)word);
}

static const uintptr_t *first_word(const void *lo)
{
    return (const uintptr_t *)(((uintptr_t)lo + 7) & ~(uintptr_t)7);
}

bool heap_is_named_in(const struct heap *h, const void *lo, const void *hi)
{
    for (const uintptr_t *word = first_word(lo); word + 1 <= (const uintptr_t *)hi; word++)
        if (heap_at(*word) == h)
            return true;
    return false;
}

void heap_note_named(const void *lo, const void *hi)
{
    for (const uintptr_t *word = first_word(lo); word + 1 <= (const uintptr_t *)hi; word++) {
        struct heap *h = heap_at(*word);

        if (h != NULL)
            h->gone.is_named = true;
    }
}

/* What in there is in use. What the heap's own tables say of it may be what a crash has left: it is
 * accessible whatever they say. With the lock, or a thread might give back what is being read; a heap
 * that is dead gives nothing back. */
static void follow(struct heap *holder)
{
    bool is_alive = heap_enter(holder);

    holder->gone.is_followed = true;
    for (uint32_t i = holder->slots; i != 0; i = region.slot[i - 1].next) {
        const char *at = region_address(i - 1);
        const struct heap_chunk *c = (const struct heap_chunk *)(const void *)at;

        if (region.slot[i - 1].is_huge) {
            heap_note_named(at + REGION_PAGE, at + region.slot[i - 1].bytes);
            continue;
        }
        for (uint32_t page = HEAP_TABLE_PAGES; page < HEAP_LAST_PAGE; page++)
            if ((c->free[page / 64] >> page % 64 & 1) == 0)
                heap_note_named(at + page * REGION_PAGE, at + (page + 1) * REGION_PAGE);
    }
    if (is_alive)
        heap_leave(holder);
}

bool heap_note_named_by_kin(uintptr_t object_base)
{
    size_t room = LOOK_MAX;
    bool is_done = false;

    pthread_mutex_lock(&heap_list.lock);
    for (struct heap *h = heap_list.first; h != NULL; h = h->next)
        h->gone.is_followed = false;
    while (!is_done) { /* until nothing more comes to light */
        is_done = true;
        for (struct heap *h = heap_list.first; h != NULL; h = h->next) {
            if (h->object_base != object_base || h->gone.is_followed ||
                (h->gone.is_candidate && !h->gone.is_named))
                continue;
            if (h->bytes > room) {
                pthread_mutex_unlock(&heap_list.lock);
                return false;
            }
            room -= h->bytes;
            follow(h);
            is_done = false;
        }
    }
    pthread_mutex_unlock(&heap_list.lock);
    return true;
}
