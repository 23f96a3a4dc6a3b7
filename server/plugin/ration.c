#include "plugin/ration.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/eject.h"
#include "plugin/recover.h"
#include "plugin/text.h"

#define MAX_FD (1 << 20) /* 2 MiB, of which only what is used becomes memory */

/* Refusals in a row, none of its descriptors having been closed in between. */
#define REFUSALS_MAX 16

static struct {
    const struct config *cfg;
    struct shm_worker *shared;
    _Atomic uint16_t owner[MAX_FD]; /* index + 1 of the plugin; 0: nobody who is counted */
    _Atomic unsigned highest;       /* that was ever anybody's */
    struct {
        _Atomic uint32_t n, n_refused;
        _Atomic bool is_told;
    } of[CONFIG_MAX_PLUGINS + 1];
} ration;

void ration_init(const struct config *cfg, struct shm_worker *shared)
{
    unsigned highest = atomic_exchange(&ration.highest, 0);

    ration.cfg = cfg;
    ration.shared = shared;
    for (unsigned fd = 0; fd <= highest && fd < MAX_FD; fd++)
        atomic_store_explicit(&ration.owner[fd], 0, memory_order_relaxed);
    for (uint32_t i = 0; i <= CONFIG_MAX_PLUGINS; i++) {
        atomic_store(&ration.of[i].n, 0);
        atomic_store(&ration.of[i].n_refused, 0);
        atomic_store(&ration.of[i].is_told, false);
        if (i > 0)
            atomic_store(&shared->descriptors[i - 1], 0);
    }
}

uint32_t ration_taker(const void *caller)
{
    const struct recover_thread *t = &recover_self;
    uint32_t plugin;

    if (ration.cfg == NULL || t->is_child_of_fork)
        return 0;
    /* In a call of its own, or a constructor's; made by the host, it is the host's. */
    if (t->call != NULL && text_system((uintptr_t)caller) != TEXT_HOST &&
        (t->top != NULL || atomic_load(&t->call->hook) == HOOK_LOAD)) {
        plugin = atomic_load(&t->call->plugin);
        if (plugin != 0)
            return plugin <= CONFIG_MAX_PLUGINS ? plugin : 0;
    }
    return text_owner((uintptr_t)caller);
}

bool ration_allows(uint32_t plugin, int n)
{
    const struct config_plugin *p;

    if (plugin == 0 || plugin > (uint32_t)ration.cfg->n_plugins)
        return true;
    p = &ration.cfg->plugin[plugin - 1];
    if (atomic_load(&ration.of[plugin].n) + (uint32_t)n <= p->descriptors)
        return true;
    recover_critical_enter(); /* the log's own doings are not to be left in the middle */
    if (!atomic_exchange(&ration.of[plugin].is_told, true))
        log_warn(
            "plugin '%s' has as many descriptors open as it may, %u: it gets no more (EMFILE); "
            "plugins.%s.descriptors is the limit",
            p->name, p->descriptors, p->name);
    recover_critical_leave();
    if (atomic_fetch_add(&ration.of[plugin].n_refused, 1) + 1 == REFUSALS_MAX)
        eject(plugin, "it opens ever more descriptors, and closes none");
    errno = EMFILE;
    return false;
}

static void show(uint32_t plugin, uint32_t n)
{
    atomic_store_explicit(&ration.shared->descriptors[plugin - 1], n, memory_order_relaxed);
}

int ration_add(uint32_t plugin, int fd)
{
    unsigned highest = atomic_load(&ration.highest);

    if (plugin == 0 || fd < 0 || fd >= MAX_FD)
        return fd;
    ration_remove(fd); /* closed by a raw system call: it would not have that number else */
    while (highest < (unsigned)fd &&
           !atomic_compare_exchange_weak(&ration.highest, &highest, (unsigned)fd))
        ;
    atomic_store(&ration.owner[fd], (uint16_t)plugin);
    show(plugin, atomic_fetch_add(&ration.of[plugin].n, 1) + 1);
    return fd;
}

void ration_remove(int fd)
{
    uint32_t plugin;

    if (fd < 0 || fd >= MAX_FD ||
        atomic_load_explicit(&ration.owner[fd], memory_order_relaxed) == 0)
        return;
    plugin = atomic_exchange(&ration.owner[fd], 0);
    if (plugin == 0)
        return;
    atomic_store(&ration.of[plugin].n_refused, 0);
    show(plugin, atomic_fetch_sub(&ration.of[plugin].n, 1) - 1);
}

void ration_remove_range(unsigned first, unsigned last)
{
    unsigned highest = atomic_load(&ration.highest);

    for (unsigned fd = first; fd <= last && fd <= highest; fd++)
        ration_remove((int)fd);
}

uint32_t ration_count(uint32_t plugin)
{
    return atomic_load(&ration.of[plugin].n);
}

int ration_find(uint32_t plugin)
{
    unsigned highest = atomic_load(&ration.highest);

    for (unsigned fd = 0; fd <= highest && fd < MAX_FD; fd++)
        if (atomic_load(&ration.owner[fd]) == plugin)
            return (int)fd;
    return -1;
}
