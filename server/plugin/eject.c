#include "plugin/eject.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include "conf/config.h"

static struct {
    int wake_fd;
    _Atomic(const char *) why[CONFIG_MAX_PLUGINS + 1]; /* NULL: it is in */
    bool is_taken[CONFIG_MAX_PLUGINS + 1];             /* loop thread */
    _Atomic int n_new;
} out = {.wake_fd = -1};

void eject_init(int wake_fd)
{
    out.wake_fd = wake_fd;
    for (int i = 0; i <= CONFIG_MAX_PLUGINS; i++) {
        atomic_store(&out.why[i], NULL);
        out.is_taken[i] = false;
    }
    atomic_store(&out.n_new, 0);
}

void eject(uint32_t plugin, const char *why)
{
    const char *none = NULL;
    uint64_t one = 1;
    int saved_errno = errno;

    if (plugin > CONFIG_MAX_PLUGINS ||
        !atomic_compare_exchange_strong(&out.why[plugin], &none, why))
        return;
    atomic_fetch_add(&out.n_new, 1);
    if (out.wake_fd >= 0 && write(out.wake_fd, &one, sizeof one) < 0)
        errno = saved_errno; /* the counter is at its limit: the loop is awake already */
}

bool eject_is_out(uint32_t plugin)
{
    return plugin <= CONFIG_MAX_PLUGINS && atomic_load(&out.why[plugin]) != NULL;
}

bool eject_take(uint32_t *plugin, const char **why)
{
    if (atomic_load_explicit(&out.n_new, memory_order_relaxed) == 0)
        return false;
    for (uint32_t i = 0; i <= CONFIG_MAX_PLUGINS; i++) {
        const char *reason = atomic_load(&out.why[i]);

        if (reason == NULL || out.is_taken[i])
            continue;
        out.is_taken[i] = true;
        atomic_fetch_sub(&out.n_new, 1);
        *plugin = i;
        *why = reason;
        return true;
    }
    return false;
}
