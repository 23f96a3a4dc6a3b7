#include "plugin/remains.h"

#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <string.h>

#include "conf/config.h"
#include "plugin/eject.h"
#include "plugin/heap.h"
#include "plugin/text.h"

#define STATICS_MAX ((size_t)8 << 20) /* more is not looked through: it counts as naming the heap */

static struct heap *first; /* oldest first */
static uint32_t n_all, n_of[CONFIG_MAX_PLUGINS + 1];

/* ---- who names it ---- */

struct look {
    const struct heap *heap;
    bool only_thread; /* what is the calling thread's */
    bool is_named;
};

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
    if (info->dlpi_addr != l->heap->object_base && !is_cxx(info))
        return 0;
    for (int i = 0; i < info->dlpi_phnum && !l->is_named; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        const char *lo = (const char *)info->dlpi_addr + ph->p_vaddr;

        if (ph->p_type == PT_TLS)
            lo = info->dlpi_tls_data;
        else if (ph->p_type != PT_LOAD || (ph->p_flags & PF_W) == 0 || l->only_thread)
            continue;
        l->is_named = lo != NULL && (ph->p_memsz > STATICS_MAX ||
                                     heap_is_named_in(l->heap, lo, lo + ph->p_memsz));
    }
    return l->is_named;
}

static bool is_specific(const struct heap *h)
{
    for (pthread_key_t key = 0; key < PTHREAD_KEYS_MAX; key++) {
        const void *value = pthread_getspecific(key);

        if (value != NULL && heap_is_named_in(h, &value, &value + 1))
            return true;
    }
    return false;
}

static bool is_named(const struct heap *h)
{
    struct look l = {.heap = h};

    if (is_specific(h))
        return true;
    dl_iterate_phdr(look_at_object, &l);
    return l.is_named || heap_is_named_by_kin(h);
}

void remains_of_thread(struct heap *h)
{
    struct look l = {.heap = h, .only_thread = true};

    if (h == NULL)
        return;
    if (text_has_tls(h->object_base))
        dl_iterate_phdr(look_at_object, &l);
    if (l.is_named || is_specific(h))
        atomic_store(&h->is_kept, true);
}

/* ---- the heaps ---- */

static bool has_older_guests(const struct heap *h)
{
    for (const struct heap *g = first; g != h; g = g->gone_next)
        if (g->plugin == h->plugin && heap_is_pinned(g))
            return true;
    return false;
}

static bool may_go(const struct heap *h)
{
    if (heap_is_pinned(h) || has_older_guests(h))
        return false;
    return *h->object_uses == 0 || (!atomic_load(&h->is_kept) && !is_named(h));
}

void remains_sweep(bool all)
{
    for (struct heap **at = &first; *at != NULL;) {
        struct heap *h = *at;

        if ((!all && h->is_looked_at) || !may_go(h)) {
            h->is_looked_at = true;
            at = &h->gone_next;
            continue;
        }
        *at = h->gone_next;
        n_all--;
        n_of[h->plugin]--;
        heap_destroy(&h);
    }
}

void remains_keep(struct heap *h)
{
    struct heap **at = &first;

    if (h == NULL)
        return;
    while (*at != NULL)
        at = &(*at)->gone_next;
    *at = h;
    h->gone_next = NULL;
    h->is_looked_at = false;
    heap_unpin(h);
    n_all++;
    if (++n_of[h->plugin] <= REMAINS_MAX)
        return;
    remains_sweep(true);
    if (n_of[h->plugin] > REMAINS_MAX)
        eject(h->plugin,
              "the memory of its crashed instances cannot be given back: something of it is "
              "still in use");
}

uint32_t remains_count(void)
{
    return n_all;
}
