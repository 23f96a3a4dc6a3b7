#include "plugin/remains.h"

#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "conf/config.h"
#include "plugin/eject.h"
#include "plugin/heap.h"
#include "plugin/text.h"

#define HASTE_RATE  REGION_REST /* heaps a second, of which... */
#define HASTE_LEAST 8           /* ...so many have been seen */
#define FEW         64 /* of which those that were named are looked at again beside new ones */
#define STATICS_MAX ((size_t)8 << 20) /* more is not looked through: it counts as naming the heap */

static struct heap *first, **last = &first; /* oldest first */
static uint32_t n_all, n_of[CONFIG_MAX_PLUGINS + 1];

bool remains_are_many;
static struct { /* since the last sweep */
    uint32_t n;
    uint64_t bytes;
    int64_t since_ms;
} unseen;

/* ---- who names them ---- */

struct look {
    uintptr_t object_base;
    const struct heap *by_thread; /* this one alone, in what is the calling thread's */
    bool is_named;                /* it is */
    bool is_too_much;
};

static void look_at(struct look *l, const char *lo, size_t size)
{
    if (size > STATICS_MAX)
        l->is_too_much = l->is_named = true;
    else if (l->by_thread == NULL)
        heap_note_named(lo, lo + size);
    else
        l->is_named |= heap_is_named_in(l->by_thread, lo, lo + size);
}

static bool is_cxx(const struct dl_phdr_info *info)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

        if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) != 0)
            return text_is_tenant(info->dlpi_addr + ph->p_vaddr) &&
                   text_owner(info->dlpi_addr + ph->p_vaddr) == 0;
    }
    return false;
}

static int look_at_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct look *l = arg;

    (void)size;
    if (info->dlpi_addr != l->object_base && !is_cxx(info))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

        if (ph->p_type == PT_TLS && info->dlpi_tls_data != NULL)
            look_at(l, info->dlpi_tls_data, ph->p_memsz);
        else if (ph->p_type == PT_LOAD && (ph->p_flags & PF_W) != 0 && l->by_thread == NULL)
            look_at(l, (const char *)info->dlpi_addr + ph->p_vaddr, ph->p_memsz);
    }
    return 0;
}

static void look_at_specifics(struct look *l)
{
    for (pthread_key_t key = 0; key < PTHREAD_KEYS_MAX; key++) {
        const void *value = pthread_getspecific(key);

        if (value != NULL)
            look_at(l, (const char *)&value, sizeof value);
    }
}

void remains_of_thread(struct heap *h)
{
    struct look l = {.by_thread = h};

    if (h == NULL)
        return;
    l.object_base = h->object_base;
    if (text_has_tls(h->object_base))
        dl_iterate_phdr(look_at_object, &l);
    look_at_specifics(&l);
    if (l.is_named)
        atomic_store(&h->is_kept, true);
}

/* ---- the heaps ---- */

/* A guest of an older heap might have been handed something younger. */
static void find_candidates(bool all)
{
    bool has_guests[CONFIG_MAX_PLUGINS + 1] = {false};

    for (struct heap *h = first; h != NULL; h = h->gone.next) {
        has_guests[h->plugin] |= heap_is_pinned(h);
        h->gone.is_candidate = !has_guests[h->plugin] && (all || !h->gone.is_looked_at);
        if (h->gone.is_candidate)
            h->gone.is_looked_at = false;
        h->gone.is_named = atomic_load(&h->is_kept);
    }
}

/* Whatever names it. */
static bool is_disused(const struct heap *h)
{
    return *h->object_uses == 0 || h->slots == 0;
}

/* Which candidates of that object does something name? */
static void look_for(uintptr_t object_base)
{
    struct look l = {.object_base = object_base};

    look_at_specifics(&l);
    dl_iterate_phdr(look_at_object, &l);
    if (!l.is_too_much)
        l.is_too_much = !heap_note_named_by_kin(object_base);
    for (struct heap *h = first; h != NULL; h = h->gone.next)
        if (h->object_base == object_base) {
            h->gone.is_looked_at = true;
            h->gone.is_named |= l.is_too_much;
        }
}

/* So many, so fast, that slots which rest would be taken again in a moment. */
static bool is_hasty(void)
{
    int64_t now_ms = clock_mono_ms();
    bool is = unseen.n >= HASTE_LEAST && (now_ms - unseen.since_ms) * HASTE_RATE < unseen.n * 1000;

    unseen.since_ms = now_ms;
    unseen.n = 0;
    unseen.bytes = 0;
    return is;
}

void remains_sweep(bool all)
{
    struct heap **at = &first;
    bool hastens;

    remains_are_many = false;
    if (!all && unseen.n == 0)
        return;
    hastens = is_hasty();
    find_candidates(all || n_all <= FEW);
    for (struct heap *h = first; h != NULL; h = h->gone.next)
        if (h->gone.is_candidate && !h->gone.is_looked_at && !is_disused(h))
            look_for(h->object_base);
    while (*at != NULL) {
        struct heap *h = *at;

        if (!h->gone.is_candidate || (h->gone.is_named && !is_disused(h))) {
            h->gone.is_looked_at = true;
            h->gone.is_candidate = false;
            at = &h->gone.next;
            continue;
        }
        *at = h->gone.next;
        n_all--;
        n_of[h->plugin]--;
        if (hastens)
            heap_reuse(&h);
        else
            heap_destroy(&h);
    }
    last = at;
    if (all)
        region_trim();
}

void remains_keep(struct heap *h)
{
    uint32_t plugin;

    if (h == NULL)
        return;
    plugin = h->plugin;
    heap_unpin(h);
    if (h->slots == 0 &&
        !heap_is_pinned(h)) { /* there is nothing to be named, or to be handed on */
        heap_destroy(&h);
        return;
    }
    *last = h;
    last = &h->gone.next;
    h->gone.next = NULL;
    h->gone.is_looked_at = false;
    unseen.n++;
    unseen.bytes += h->bytes;
    if (unseen.n >= REMAINS_BATCH || unseen.bytes >= REMAINS_BYTES || heap_is_tight(h))
        remains_are_many = true;
    n_all++;
    if (++n_of[plugin] <= REMAINS_MAX)
        return;
    remains_sweep(true);
    if (n_of[plugin] > REMAINS_MAX)
        eject(plugin,
              "the memory of its crashed instances cannot be given back: something of it is "
              "still in use");
}

uint32_t remains_count(void)
{
    return n_all;
}
