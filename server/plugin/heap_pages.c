/*
 * heap_pages.c - runs of pages for a heap, and the slots they lie in.
 */
#include "plugin/heap_internal.h"

#define SPANS_LOOKED 32 /* chunks to look for pages in, before a new one is taken */

static void list_chunk(struct heap *h, struct heap_chunk *c)
{
    c->prev = NULL;
    c->next = h->roomy;
    if (h->roomy != NULL)
        h->roomy->prev = c;
    h->roomy = c;
}

static void unlist_chunk(struct heap *h, struct heap_chunk *c)
{
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        h->roomy = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
}

/* A piece of the region, with its head. */
struct heap_chunk *heap_take_slots(struct heap *h, uint32_t n, size_t bytes, size_t charged)
{
    struct heap_chunk *c;
    int64_t at;

    if (!heap_charge(h, charged))
        return NULL;
    at = region_take(h, n, bytes);
    if (at < 0) {
        heap_discharge(h, charged);
        return NULL;
    }
    region.slot[at].next = h->slots;
    h->slots = (uint32_t)at + 1;
    c = (struct heap_chunk *)(void *)region_address((uint32_t)at);
    c->heap = h;
    return c;
}

void heap_give_slots(struct heap *h, struct heap_chunk *c, size_t charged)
{
    uint32_t i = region_slot_of(c)->first, *at = &h->slots;

    while (*at != 0 && *at != i + 1)
        at = &region.slot[*at - 1].next;
    if (*at != 0)
        *at = region.slot[i].next;
    region_give(i);
    heap_discharge(h, charged);
}

static struct heap_chunk *new_chunk(struct heap *h)
{
    struct heap_chunk *c = heap_take_slots(h, 1, REGION_SLOT - REGION_PAGE,
                                           HEAP_TABLE_PAGES * REGION_PAGE);

    if (c == NULL)
        return NULL;
    for (uint32_t page = HEAP_TABLE_PAGES; page < HEAP_LAST_PAGE; page++)
        c->free[page / 64] |= UINT64_C(1) << page % 64;
    c->n_free = HEAP_LAST_PAGE - HEAP_TABLE_PAGES;
    list_chunk(h, c);
    return c;
}

/* The first page of n free ones in a row; 0: there are none. */
static uint32_t find_pages(const struct heap_chunk *c, uint32_t n)
{
    uint32_t run = 0;

    if (c->n_free < n)
        return 0;
    for (uint32_t page = HEAP_TABLE_PAGES; page < HEAP_LAST_PAGE; page++) {
        if (c->free[page / 64] == 0) {
            run = 0;
            page |= 63;
        } else if ((c->free[page / 64] >> page % 64 & 1) == 0) {
            run = 0;
        } else if (++run == n) {
            return page - n + 1;
        }
    }
    return 0;
}

struct heap_span *heap_take_pages(struct heap *h, uint32_t n, uint8_t kind)
{
    struct heap_chunk *c = h->roomy;
    struct heap_span *s;
    uint32_t page = 0;

    for (int i = 0; c != NULL && i < SPANS_LOOKED; i++, c = c->next) {
        page = find_pages(c, n);
        if (page != 0)
            break;
    }
    if (page == 0) {
        c = new_chunk(h);
        if (c == NULL)
            return NULL;
        page = HEAP_TABLE_PAGES;
    }
    if (!heap_charge(h, n * REGION_PAGE))
        return NULL;
    if (c == h->spare)
        h->spare = NULL;
    s = heap_span_at(c, page);
    if (page + n > c->end)
        c->end = page + n;
    for (uint32_t i = 0; i < n; i++) {
        c->free[(page + i) / 64] &= ~(UINT64_C(1) << (page + i) % 64);
        s[i].kind = SPAN_REST;
        s[i].back = (uint8_t)i;
    }
    c->n_free -= n;
    if (c->n_free == 0)
        unlist_chunk(h, c);
    s->kind = kind;
    s->pages = (uint8_t)n;
    return s;
}

void heap_give_pages(struct heap *h, struct heap_span *s)
{
    struct heap_chunk *c = heap_chunk_of(s);
    uint32_t page = heap_page_of(s), n = s->pages;

    for (uint32_t i = 0; i < n; i++) {
        c->free[(page + i) / 64] |= UINT64_C(1) << (page + i) % 64;
        s[i].kind = SPAN_FREE;
    }
    if (c->n_free == 0)
        list_chunk(h, c);
    c->n_free += n;
    heap_discharge(h, n * REGION_PAGE);
    if (c->n_free < HEAP_LAST_PAGE - HEAP_TABLE_PAGES)
        return;
    if (h->spare == NULL) { /* one that is empty is kept for what comes next */
        h->spare = c;
        return;
    }
    unlist_chunk(h, c);
    heap_give_slots(h, c, HEAP_TABLE_PAGES * REGION_PAGE);
}
