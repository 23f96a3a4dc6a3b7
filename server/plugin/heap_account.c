/*
 * heap_account.c - how much memory each plugin may take, and has taken, in all of its heaps.
 */
#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/eject.h"
#include "plugin/heap_internal.h"

/* Refusals in a row, with no success of that size in between: it leaks. */
#define REFUSALS_MAX 16

static struct account {
    _Atomic uint64_t bytes;
    uint64_t limit; /* 0: none */
    const char *name;
    bool is_private;
    _Atomic bool is_told;
} account[CONFIG_MAX_PLUGINS + 1];

static struct shm_worker *shown; /* or NULL */

bool heap_is_private(uint32_t plugin)
{
    return account[plugin].is_private;
}

bool heap_is_limited(const struct heap *h)
{
    return account[h->plugin].limit != 0;
}

static void show(uint32_t plugin, uint64_t bytes)
{
    if (shown != NULL && plugin > 0)
        atomic_store_explicit(&shown->memory[plugin - 1], bytes, memory_order_relaxed);
}

bool heap_charge(struct heap *h, size_t bytes)
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

void heap_discharge(struct heap *h, size_t bytes)
{
    h->bytes -= bytes;
    show(h->plugin, atomic_fetch_sub(&account[h->plugin].bytes, bytes) - bytes);
}

uint64_t heap_plugin_bytes(uint32_t plugin)
{
    return plugin <= CONFIG_MAX_PLUGINS ? atomic_load(&account[plugin].bytes) : 0;
}

/* After the lock was given back. */
void heap_tell_refusal(struct heap *h, uint32_t n_refused)
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

bool heap_is_tight(const struct heap *h)
{
    const struct account *a = &account[h->plugin];

    return a->limit != 0 && atomic_load_explicit(&a->bytes, memory_order_relaxed) > a->limit / 2;
}

bool heap_init_accounts(const struct config *cfg, struct shm_worker *shared)
{
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
    return is_wanted;
}
