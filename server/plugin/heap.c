#include "plugin/heap.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/shm.h"
#include "plugin/eject.h"
#include "plugin/heap_internal.h"

#define SMALL_MAX 8192u
#define LARGE_MAX (64u * REGION_PAGE) /* beyond: slots of its own */

static struct {
    uint32_t size;
    uint32_t inverse; /* n / size == n * inverse >> 32, for n below 2^15 */
    uint16_t blocks;
    uint8_t pages;
} bins[HEAP_BINS];

/* ---- sizes ---- */

static uint32_t bin_of(size_t n)
{
    uint32_t shift;

    if (n <= 128)
        return n == 0 ? 0 : (uint32_t)(n - 1) / 16;
    shift = 60 - (uint32_t)__builtin_clzl(n - 1); /* four sizes from one power of two to the next */
    return 8 + (shift - 4) * 4 + (uint32_t)((n - 1) >> (shift + 1)) - 4;
}

void heap_init_bins(void)
{
    for (uint32_t i = 0; i < HEAP_BINS; i++) {
        uint32_t pages = 1;

        bins[i].size = i < 8 ? 16 * (i + 1) : (5 + (i - 8) % 4) << (5 + (i - 8) / 4);
        bins[i].inverse = (uint32_t)((((uint64_t)1 << 32) + bins[i].size - 1) / bins[i].size);
        while (pages * REGION_PAGE / bins[i].size < 4 ||
               pages * REGION_PAGE % bins[i].size > pages * REGION_PAGE / 12)
            pages++;
        bins[i].pages = (uint8_t)pages;
        bins[i].blocks = (uint16_t)(pages * REGION_PAGE / bins[i].size);
    }
}

/* ---- blocks ---- */

static void list_span(struct heap *h, struct heap_span *s)
{
    s->prev = NULL;
    s->next = h->bin[s->bin];
    if (s->next != NULL)
        s->next->prev = s;
    h->bin[s->bin] = s;
}

static void unlist_span(struct heap *h, struct heap_span *s)
{
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        h->bin[s->bin] = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
}

static struct heap_span *new_span(struct heap *h, uint32_t bin)
{
    struct heap_span *s = heap_take_pages(h, bins[bin].pages, SPAN_SMALL);
    uint32_t n = bins[bin].blocks;

    if (s == NULL)
        return NULL;
    s->bin = (uint8_t)bin;
    s->n_free = (uint16_t)n;
    for (uint32_t w = 0; w<HEAP_BLOCKS_MAX / 64; w++, n = n> 64 ? n - 64 : 0)
        s->free[w] = n >= 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1;
    list_span(h, s);
    return s;
}

static void *alloc_small(struct heap *h, uint32_t bin)
{
    struct heap_span *s = h->bin[bin];
    uint32_t w = 0, bit;

    if (__builtin_expect(s == NULL, 0)) {
        s = new_span(h, bin);
        if (s == NULL)
            return NULL;
    }
    while (s->free[w] == 0)
        w++; /* n_free is not 0; overwritten, this ends in a fault inside this heap */
    bit = (uint32_t)__builtin_ctzl(s->free[w]);
    s->free[w] &= s->free[w] - 1;
    if (--s->n_free == 0)
        unlist_span(h, s);
    return heap_blocks_of(s) + (size_t)(w * 64 + bit) * bins[bin].size;
}

static void *alloc_huge(struct heap *h, size_t align, size_t n)
{
    size_t head = align > REGION_PAGE ? align : REGION_PAGE, bytes, size;
    struct heap_chunk *c;

    if (n > region.size || align > region.size)
        return NULL;
    /* The block begins behind the head's page, or where its alignment allows it. */
    bytes = (n + REGION_PAGE - 1) & ~(REGION_PAGE - 1);
    size = head + bytes;
    c = heap_take_slots(h, (uint32_t)((size + REGION_PAGE + REGION_SLOT - 1) >> REGION_SLOT_SHIFT),
                        size, bytes + REGION_PAGE);
    if (c == NULL)
        return NULL;
    region_slot_of(c)->is_huge = true;
    c->block = (char *)(((uintptr_t)c + REGION_PAGE + align - 1) & ~(align - 1));
    return c->block;
}

static void *alloc(struct heap *h, size_t align, size_t n)
{
    struct heap_span *s;

    if (align <= 16 && n <= SMALL_MAX)
        return alloc_small(h, bin_of(n));
    if (align <= REGION_PAGE && n <= SMALL_MAX) {
        /* Spans begin with a page: blocks of a size that the alignment divides are all aligned. */
        for (uint32_t bin = bin_of(n < align ? align : n); bin < HEAP_BINS; bin++)
            if (bins[bin].size % align == 0)
                return alloc_small(h, bin);
    }
    if (align > REGION_PAGE || n > LARGE_MAX)
        return alloc_huge(h, align, n);
    s = heap_take_pages(h, (uint32_t)((n + REGION_PAGE - 1) / REGION_PAGE), SPAN_LARGE);
    return s != NULL ? heap_blocks_of(s) : NULL;
}

void *heap_alloc_aligned(struct heap *h, size_t align, size_t n)
{
    uint32_t n_refused = 0;
    void *p;

    if (!heap_enter(h)) {
        errno = ENOMEM;
        return NULL;
    }
    p = alloc(h, align, n);
    if (__builtin_expect(p == NULL, 0)) {
        if (h->n_refused++ == 0 || n < h->refused)
            h->refused = n;
        n_refused = h->n_refused;
    } else if (__builtin_expect(h->n_refused != 0, 0) && n >= h->refused) {
        h->n_refused = 0;
    }
    heap_leave(h);
    if (__builtin_expect(p == NULL, 0)) {
        if (heap_is_limited(h))
            heap_tell_refusal(h, n_refused);
        errno = ENOMEM;
    }
    return p;
}

void *heap_alloc(struct heap *h, size_t n)
{
    return heap_alloc_aligned(h, 16, n);
}

/* ---- any address ---- */

/* A block that is in use. */
struct block {
    struct heap *heap;
    struct heap_chunk *huge; /* or: */
    struct heap_span *span;
    uint32_t index;
    size_t size;
};

static const char not_a_block[] = "free(): invalid pointer in the plugin's heap";
static const char not_in_use[] = "free(): double free detected in the plugin's heap";

/* With the lock. NULL, or what is wrong with p. */
static const char *find_block(struct heap *h, void *p, struct block *out)
{
    uint32_t first = region_slot_of(p)->first;
    const struct region_slot *slot = &region.slot[first];
    struct heap_chunk *c = (struct heap_chunk *)(void *)region_address(first);
    uint32_t page = (uint32_t)(((uintptr_t)p - (uintptr_t)c) / REGION_PAGE), offset;
    struct heap_span *s;

    *out = (struct block){.heap = h};
    if (slot->is_huge) {
        out->huge = c;
        out->size = (size_t)((char *)c + slot->bytes - c->block);
        return p == c->block ? NULL : not_a_block;
    }
    if (page < HEAP_TABLE_PAGES || page >= HEAP_LAST_PAGE)
        return not_a_block;
    s = heap_span_at(c, page);
    if (s->kind == SPAN_FREE)
        return not_in_use;
    if (s->kind == SPAN_REST)
        s -= s->back;
    out->span = s;
    offset = (uint32_t)((char *)p - heap_blocks_of(s));
    if (s->kind == SPAN_LARGE) {
        out->size = s->pages * REGION_PAGE;
        return offset == 0 ? NULL : not_a_block;
    }
    if (s->kind != SPAN_SMALL || s->bin >= HEAP_BINS || offset >= s->pages * REGION_PAGE)
        return not_a_block;
    out->size = bins[s->bin].size;
    out->index = (uint32_t)((uint64_t)offset * bins[s->bin].inverse >> 32);
    if (out->index * out->size != offset || out->index >= bins[s->bin].blocks)
        return not_a_block;
    return (s->free[out->index / 64] >> out->index % 64 & 1) == 0 ? NULL : not_in_use;
}

static void release(struct heap *h, const struct block *b)
{
    struct heap_span *s = b->span;

    if (b->huge != NULL) {
        heap_give_slots(h, b->huge, b->size + REGION_PAGE);
        return;
    }
    if (s->kind == SPAN_LARGE) {
        heap_give_pages(h, s);
        return;
    }
    s->free[b->index / 64] |= UINT64_C(1) << b->index % 64;
    if (s->n_free++ == 0)
        list_span(h, s);
    else if (s->n_free == bins[s->bin].blocks && (s->next != NULL || s->prev != NULL)) {
        unlist_span(h, s); /* another one has free blocks of that size */
        heap_give_pages(h, s);
    }
}

/* As glibc's abort() for the same: of the call, if there is one. */
static void complain(const char *what)
{
    if (recover_is_armed()) {
        snprintf(recover_self.message, sizeof recover_self.message, "%s", what);
        recover_raise("free", SIGABRT);
    }
    if (write(2, what, strlen(what)) < 0 || write(2, "\n", 1) < 0)
        errno = 0; /* stderr is gone */
    abort();
}

void heap_free(void *p)
{
    struct heap *h = heap_owner_of(p);
    int saved_errno = errno;
    struct block b;
    const char *wrong;

    if (h == NULL || !heap_enter(h))
        return;
    wrong = find_block(h, p, &b);
    if (wrong == NULL)
        release(h, &b);
    heap_leave(h);
    errno = saved_errno;
    if (wrong != NULL)
        complain(wrong);
}

size_t heap_usable_size(void *p)
{
    struct heap *h = heap_owner_of(p);
    struct block b = {.size = 0};
    const char *wrong;

    if (h == NULL || !heap_enter(h))
        return 0;
    wrong = find_block(h, p, &b);
    heap_leave(h);
    if (wrong != NULL)
        complain(wrong);
    return b.size;
}

void *heap_realloc(void *p, size_t n)
{
    struct heap *h = heap_owner_of(p);
    size_t old = heap_usable_size(p);
    void *more;

    if (old == 0) { /* it has gone, or is dead */
        errno = ENOMEM;
        return NULL;
    }
    if (n <= old && n >= old / 2)
        return p;
    more = heap_alloc(h, n);
    if (more == NULL)
        return NULL;
    memcpy(more, p, n < old ? n : old);
    heap_free(p);
    return more;
}

void heap_condemn(struct heap *h)
{
    const struct shm_call *call = recover_self.call;

    atomic_store(&h->is_dead, true);
    if (call != NULL && atomic_load(&call->plugin) != h->plugin)
        eject(h->plugin, "another plugin's call damaged its memory");
}
