#include "plugin/heap.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/eject.h"
#include "plugin/recover.h"
#include "plugin/text.h"

#define PAGE         REGION_PAGE
#define PAGES        ((uint32_t)(REGION_SLOT / PAGE)) /* of a slot */
#define TABLE_PAGES  4u                               /* spans of all pages: 64 bytes each */
#define LAST_PAGE    (PAGES - 1)                      /* not accessible: see region.h */
#define BLOCKS_MAX   256u                             /* of one span */
#define SMALL_MAX    8192u
#define LARGE_MAX    (64u * PAGE)       /* beyond: slots of its own */
#define SPANS_LOOKED 32                 /* chunks to look for pages in, before a new one is taken */
#define KEEP_MAX     32u                /* pages of blocks that are zeroed rather than given back */
#define LOOK_MAX     ((size_t)16 << 20) /* at one time: some milliseconds */

/* Refusals in a row, with no success of that size in between: it leaks. */
#define REFUSALS_MAX 16

enum { SPAN_FREE, SPAN_REST, SPAN_SMALL, SPAN_LARGE };

/* A run of pages: blocks of one size, or one block. In the entry of its first page; the others are
 * SPAN_REST. */
struct heap_span {
    uint64_t free[BLOCKS_MAX / 64]; /* bits of blocks */
    struct heap_span *next, *prev;  /* in its bin, while it has free blocks */
    uint16_t n_free;
    uint8_t kind, bin;
    uint8_t pages;
    uint8_t back; /* SPAN_REST: pages to its first one */
    uint16_t spare[5];
};

/* Where the entries of the table's own pages would be. */
struct heap_chunk {
    struct heap *heap;
    struct heap_chunk *next, *prev; /* roomy */
    uint64_t free[PAGES / 64];      /* bits of pages */
    uint32_t n_free;
    uint32_t end; /* pages from here on were never used */
    char *block;  /* if it is huge: one block in slots of its own */
};

_Static_assert(sizeof(struct heap_span) == 64, "one cache line");
_Static_assert(sizeof(struct heap_span) * PAGES == TABLE_PAGES * PAGE, "the table's size");
_Static_assert(sizeof(struct heap_chunk) <= TABLE_PAGES * sizeof(struct heap_span), "its head");

static struct {
    uint32_t size;
    uint32_t inverse; /* n / size == n * inverse >> 32, for n below 2^15 */
    uint16_t blocks;
    uint8_t pages;
} bins[HEAP_BINS];

static struct account {
    _Atomic uint64_t bytes;
    uint64_t limit; /* 0: none */
    const char *name;
    bool is_private;
    _Atomic bool is_told;
} account[CONFIG_MAX_PLUGINS + 1];

static struct shm_worker *shown;  /* or NULL */
static struct heap *all, *unused; /* never given back: a late free() may still look at one */
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- sizes ---- */

static uint32_t bin_of(size_t n)
{
    uint32_t shift;

    if (n <= 128)
        return n == 0 ? 0 : (uint32_t)(n - 1) / 16;
    shift = 60 - (uint32_t)__builtin_clzl(n - 1); /* four sizes from one power of two to the next */
    return 8 + (shift - 4) * 4 + (uint32_t)((n - 1) >> (shift + 1)) - 4;
}

static void init_bins(void)
{
    for (uint32_t i = 0; i < HEAP_BINS; i++) {
        uint32_t pages = 1;

        bins[i].size = i < 8 ? 16 * (i + 1) : (5 + (i - 8) % 4) << (5 + (i - 8) / 4);
        bins[i].inverse = (uint32_t)((((uint64_t)1 << 32) + bins[i].size - 1) / bins[i].size);
        while (pages * PAGE / bins[i].size < 4 || pages * PAGE % bins[i].size > pages * PAGE / 12)
            pages++;
        bins[i].pages = (uint8_t)pages;
        bins[i].blocks = (uint16_t)(pages * PAGE / bins[i].size);
    }
}

/* ---- the lock ---- */

/*
 * A plain word, not a futex: to let go of it costs no atomic operation, and it is held for some ten
 * nanoseconds (a new slot: two system calls). Who waits yields; a thread that crashed with it condemns
 * the heap, and nobody waits for that one. False: it is dead.
 */
static bool enter(struct heap *h)
{
    struct recover_thread *t = &recover_self;

    t->in_heap = h;
    atomic_signal_fence(memory_order_seq_cst);
    for (uint32_t n = 0; atomic_exchange_explicit(&h->lock, 1, memory_order_acquire) != 0; n++) {
        if (atomic_load_explicit(&h->is_dead, memory_order_relaxed))
            break;
        if (n < 64)
            __builtin_ia32_pause();
        else
            sched_yield();
    }
    if (__builtin_expect(!atomic_load_explicit(&h->is_dead, memory_order_relaxed), 1))
        return true;
    t->in_heap = NULL; /* the lock is left as it is: nobody needs it any more */
    return false;
}

static void leave(struct heap *h)
{
    atomic_store_explicit(&h->lock, 0, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    recover_self.in_heap = NULL;
}

void heap_condemn(struct heap *h)
{
    const struct shm_call *call = recover_self.call;

    atomic_store(&h->is_dead, true);
    if (call != NULL && atomic_load(&call->plugin) != h->plugin)
        eject(h->plugin, "another plugin's call damaged its memory");
}

/* ---- what it may take ---- */

static void show(uint32_t plugin, uint64_t bytes)
{
    if (shown != NULL && plugin > 0)
        atomic_store_explicit(&shown->memory[plugin - 1], bytes, memory_order_relaxed);
}

static bool charge(struct heap *h, size_t bytes)
{
    struct account *a = &account[h->plugin];
    uint64_t now = atomic_fetch_add(&a->bytes, bytes) + bytes;

    if (a->limit != 0 && now > a->limit) {
        atomic_fetch_sub(&a->bytes, bytes);
        return false;
    }
    h->bytes += bytes;
    show(h->plugin, now);
    return true;
}

static void discharge(struct heap *h, size_t bytes)
{
    h->bytes -= bytes;
    show(h->plugin, atomic_fetch_sub(&account[h->plugin].bytes, bytes) - bytes);
}

uint64_t heap_plugin_bytes(uint32_t plugin)
{
    return plugin <= CONFIG_MAX_PLUGINS ? atomic_load(&account[plugin].bytes) : 0;
}

/* After the lock was given back. */
static void tell_refusal(struct heap *h, uint32_t n_refused)
{
    struct account *a = &account[h->plugin];

    recover_critical_enter(); /* the log's own doings are not to be left in the middle */
    if (!atomic_exchange(&a->is_told, true))
        log_warn("plugin '%s' has as much memory as it may, %llu KiB: it gets no more (malloc() "
                 "returns NULL); plugins.%s.memory is the limit",
                 a->name, (unsigned long long)(a->limit >> 10), a->name);
    recover_critical_leave();
    if (n_refused == REFUSALS_MAX)
        eject(h->plugin, "it asks for ever more memory, and gives none back");
}

/* ---- pages ---- */

static struct heap_chunk *chunk_of(const void *p)
{
    return (struct heap_chunk *)((uintptr_t)p & ~(REGION_SLOT - 1));
}

static struct heap_span *span_at(struct heap_chunk *c, uint32_t page)
{
    return (struct heap_span *)c + page;
}

static uint32_t page_of(const struct heap_span *s)
{
    return (uint32_t)(s - (const struct heap_span *)chunk_of(s));
}

static char *blocks_of(const struct heap_span *s)
{
    return (char *)chunk_of(s) + page_of(s) * PAGE;
}

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
static struct heap_chunk *take_slots(struct heap *h, uint32_t n, size_t bytes, size_t charged)
{
    struct heap_chunk *c;
    int64_t at;

    if (!charge(h, charged))
        return NULL;
    at = region_take(h, n, bytes);
    if (at < 0) {
        discharge(h, charged);
        return NULL;
    }
    region.slot[at].next = h->slots;
    h->slots = (uint32_t)at + 1;
    c = (struct heap_chunk *)(void *)region_address((uint32_t)at);
    c->heap = h;
    return c;
}

static void give_slots(struct heap *h, struct heap_chunk *c, size_t charged)
{
    uint32_t i = region_slot_of(c)->first, *at = &h->slots;

    while (*at != 0 && *at != i + 1)
        at = &region.slot[*at - 1].next;
    if (*at != 0)
        *at = region.slot[i].next;
    region_give(i);
    discharge(h, charged);
}

static struct heap_chunk *new_chunk(struct heap *h)
{
    struct heap_chunk *c = take_slots(h, 1, REGION_SLOT - PAGE, TABLE_PAGES * PAGE);

    if (c == NULL)
        return NULL;
    for (uint32_t page = TABLE_PAGES; page < LAST_PAGE; page++)
        c->free[page / 64] |= UINT64_C(1) << page % 64;
    c->n_free = LAST_PAGE - TABLE_PAGES;
    list_chunk(h, c);
    return c;
}

/* The first page of n free ones in a row; 0: there are none. */
static uint32_t find_pages(const struct heap_chunk *c, uint32_t n)
{
    uint32_t run = 0;

    if (c->n_free < n)
        return 0;
    for (uint32_t page = TABLE_PAGES; page < LAST_PAGE; page++) {
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

static struct heap_span *take_pages(struct heap *h, uint32_t n, uint8_t kind)
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
        page = TABLE_PAGES;
    }
    if (!charge(h, n * PAGE))
        return NULL;
    if (c == h->spare)
        h->spare = NULL;
    s = span_at(c, page);
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

static void give_pages(struct heap *h, struct heap_span *s)
{
    struct heap_chunk *c = chunk_of(s);
    uint32_t page = page_of(s), n = s->pages;

    for (uint32_t i = 0; i < n; i++) {
        c->free[(page + i) / 64] |= UINT64_C(1) << (page + i) % 64;
        s[i].kind = SPAN_FREE;
    }
    if (c->n_free == 0)
        list_chunk(h, c);
    c->n_free += n;
    discharge(h, n * PAGE);
    if (c->n_free < LAST_PAGE - TABLE_PAGES)
        return;
    if (h->spare == NULL) { /* one that is empty is kept for what comes next */
        h->spare = c;
        return;
    }
    unlist_chunk(h, c);
    give_slots(h, c, TABLE_PAGES * PAGE);
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
    struct heap_span *s = take_pages(h, bins[bin].pages, SPAN_SMALL);
    uint32_t n = bins[bin].blocks;

    if (s == NULL)
        return NULL;
    s->bin = (uint8_t)bin;
    s->n_free = (uint16_t)n;
    for (uint32_t w = 0; w<BLOCKS_MAX / 64; w++, n = n> 64 ? n - 64 : 0)
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
    return blocks_of(s) + (size_t)(w * 64 + bit) * bins[bin].size;
}

static void *alloc_huge(struct heap *h, size_t align, size_t n)
{
    size_t head = align > PAGE ? align : PAGE, bytes, size;
    struct heap_chunk *c;

    if (n > region.size || align > region.size)
        return NULL;
    /* The block begins behind the head's page, or where its alignment allows it. */
    bytes = (n + PAGE - 1) & ~(PAGE - 1);
    size = head + bytes;
    c = take_slots(h, (uint32_t)((size + PAGE + REGION_SLOT - 1) >> REGION_SLOT_SHIFT), size,
                   bytes + PAGE);
    if (c == NULL)
        return NULL;
    region_slot_of(c)->is_huge = true;
    c->block = (char *)(((uintptr_t)c + PAGE + align - 1) & ~(align - 1));
    return c->block;
}

static void *alloc(struct heap *h, size_t align, size_t n)
{
    struct heap_span *s;

    if (align <= 16 && n <= SMALL_MAX)
        return alloc_small(h, bin_of(n));
    if (align <= PAGE && n <= SMALL_MAX) {
        /* Spans begin with a page: blocks of a size that the alignment divides are all aligned. */
        for (uint32_t bin = bin_of(n < align ? align : n); bin < HEAP_BINS; bin++)
            if (bins[bin].size % align == 0)
                return alloc_small(h, bin);
    }
    if (align > PAGE || n > LARGE_MAX)
        return alloc_huge(h, align, n);
    s = take_pages(h, (uint32_t)((n + PAGE - 1) / PAGE), SPAN_LARGE);
    return s != NULL ? blocks_of(s) : NULL;
}

void *heap_alloc_aligned(struct heap *h, size_t align, size_t n)
{
    uint32_t n_refused = 0;
    void *p;

    if (!enter(h)) {
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
    leave(h);
    if (__builtin_expect(p == NULL, 0)) {
        if (account[h->plugin].limit != 0)
            tell_refusal(h, n_refused);
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
    uint32_t page = (uint32_t)(((uintptr_t)p - (uintptr_t)c) / PAGE), offset;
    struct heap_span *s;

    *out = (struct block){.heap = h};
    if (slot->is_huge) {
        out->huge = c;
        out->size = (size_t)((char *)c + slot->bytes - c->block);
        return p == c->block ? NULL : not_a_block;
    }
    if (page < TABLE_PAGES || page >= LAST_PAGE)
        return not_a_block;
    s = span_at(c, page);
    if (s->kind == SPAN_FREE)
        return not_in_use;
    if (s->kind == SPAN_REST)
        s -= s->back;
    out->span = s;
    offset = (uint32_t)((char *)p - blocks_of(s));
    if (s->kind == SPAN_LARGE) {
        out->size = s->pages * PAGE;
        return offset == 0 ? NULL : not_a_block;
    }
    if (s->kind != SPAN_SMALL || s->bin >= HEAP_BINS || offset >= s->pages * PAGE)
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
        give_slots(h, b->huge, b->size + PAGE);
        return;
    }
    if (s->kind == SPAN_LARGE) {
        give_pages(h, s);
        return;
    }
    s->free[b->index / 64] |= UINT64_C(1) << b->index % 64;
    if (s->n_free++ == 0)
        list_span(h, s);
    else if (s->n_free == bins[s->bin].blocks && (s->next != NULL || s->prev != NULL)) {
        unlist_span(h, s); /* another one has free blocks of that size */
        give_pages(h, s);
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

static struct heap *owner_of(void *p)
{
    return atomic_load_explicit(&region_slot_of(p)->owner, memory_order_relaxed);
}

void heap_free(void *p)
{
    struct heap *h = owner_of(p);
    int saved_errno = errno;
    struct block b;
    const char *wrong;

    if (h == NULL || !enter(h))
        return;
    wrong = find_block(h, p, &b);
    if (wrong == NULL)
        release(h, &b);
    leave(h);
    errno = saved_errno;
    if (wrong != NULL)
        complain(wrong);
}

size_t heap_usable_size(void *p)
{
    struct heap *h = owner_of(p);
    struct block b = {.size = 0};
    const char *wrong;

    if (h == NULL || !enter(h))
        return 0;
    wrong = find_block(h, p, &b);
    leave(h);
    if (wrong != NULL)
        complain(wrong);
    return b.size;
}

void *heap_realloc(void *p, size_t n)
{
    struct heap *h = owner_of(p);
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

/* ---- its life ---- */

/* A child must not find a heap's lock taken by a thread that it does not have. */
static void before_fork(void)
{
    pthread_mutex_lock(&all_lock);
    for (struct heap *h = all; h != NULL; h = h->next)
        while (!atomic_load(&h->is_dead) && atomic_exchange(&h->lock, 1) != 0)
            sched_yield();
}

static void after_fork(void)
{
    for (struct heap *h = all; h != NULL; h = h->next)
        atomic_store(&h->lock, 0);
    pthread_mutex_unlock(&all_lock);
}

void heap_init(const struct config *cfg, struct shm_worker *shared)
{
    static bool is_set_up;
    bool is_wanted = false;

    shown = shared;
    for (int i = 0; i < cfg->n_plugins; i++) {
        struct account *a = &account[i + 1];

        a->name = cfg->plugin[i].name;
        a->limit = cfg->plugin[i].memory;
        a->is_private = cfg->plugin[i].heap == CONFIG_HEAP_PRIVATE;
        is_wanted |= a->is_private;
        atomic_store(&a->bytes, 0);
        show((uint32_t)i + 1, 0);
    }
    if (!is_wanted || is_set_up)
        return;
    if (region_init() < 0) {
        log_warn("there is no address space for private heaps (ulimit -v): plugins share the "
                 "server's, and plugins.NAME.memory has no effect");
        return;
    }
    init_bins();
    pthread_atfork(before_fork, after_fork, after_fork);
    is_set_up = true;
}

struct heap *heap_create(uint32_t plugin, uintptr_t object_base, const uint32_t *object_uses)
{
    struct heap *h;

    if (region.size == 0 || plugin > CONFIG_MAX_PLUGINS || !account[plugin].is_private)
        return NULL;
    pthread_mutex_lock(&all_lock);
    h = unused;
    if (h != NULL)
        unused = h->next;
    else
        h = calloc(1, sizeof *h);
    if (h == NULL) {
        pthread_mutex_unlock(&all_lock);
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
    h->next = all;
    h->prev = &all;
    if (all != NULL)
        all->prev = &h->next;
    all = h;
    pthread_mutex_unlock(&all_lock);
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

    if (end < TABLE_PAGES || end > TABLE_PAGES + KEEP_MAX || region.slot[at].n != 1)
        return false;
    memset((void *)span_at(c, TABLE_PAGES), 0, (end - TABLE_PAGES) * sizeof(struct heap_span));
    memset((char *)c + TABLE_PAGES * PAGE, 0, (end - TABLE_PAGES) * PAGE);
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
    discharge(h, h->bytes);
    pthread_mutex_lock(&all_lock);
    *h->prev = h->next;
    if (h->next != NULL)
        h->next->prev = h->prev;
    h->next = unused;
    unused = h;
    pthread_mutex_unlock(&all_lock);
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

/* ---- who refers to it ---- */

bool heap_is_tight(const struct heap *h)
{
    const struct account *a = &account[h->plugin];

    return a->limit != 0 && atomic_load_explicit(&a->bytes, memory_order_relaxed) > a->limit / 2;
}

/* Of which heap it is an address; NULL: of none. */
static struct heap *heap_at(uintptr_t word)
{
    return __builtin_expect(!region_has((const void *)word), 1) ? NULL : owner_of((void *)word);
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
    bool is_alive = enter(holder);

    holder->gone.is_followed = true;
    for (uint32_t i = holder->slots; i != 0; i = region.slot[i - 1].next) {
        const char *at = region_address(i - 1);
        const struct heap_chunk *c = (const struct heap_chunk *)(const void *)at;

        if (region.slot[i - 1].is_huge) {
            heap_note_named(at + PAGE, at + region.slot[i - 1].bytes);
            continue;
        }
        for (uint32_t page = TABLE_PAGES; page < LAST_PAGE; page++)
            if ((c->free[page / 64] >> page % 64 & 1) == 0)
                heap_note_named(at + page * PAGE, at + (page + 1) * PAGE);
    }
    if (is_alive)
        leave(holder);
}

bool heap_note_named_by_kin(uintptr_t object_base)
{
    size_t room = LOOK_MAX;
    bool is_done = false;

    pthread_mutex_lock(&all_lock);
    for (struct heap *h = all; h != NULL; h = h->next)
        h->gone.is_followed = false;
    while (!is_done) { /* until nothing more comes to light */
        is_done = true;
        for (struct heap *h = all; h != NULL; h = h->next) {
            if (h->object_base != object_base || h->gone.is_followed ||
                (h->gone.is_candidate && !h->gone.is_named))
                continue;
            if (h->bytes > room) {
                pthread_mutex_unlock(&all_lock);
                return false;
            }
            room -= h->bytes;
            follow(h);
            is_done = false;
        }
    }
    pthread_mutex_unlock(&all_lock);
    return true;
}
