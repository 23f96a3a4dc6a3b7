#include "worker/health.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fd.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/eject.h"
#include "plugin/remains.h"
#include "worker/internal.h"

#define TICK_MS  1000
#define MAX_SEEN 64

static struct {
    struct shm_worker *shared;
    int64_t next_ms;
    uint64_t memory_max;
    bool is_too_big;
    struct {
        int fd;
        uint64_t data;
    } seen[MAX_SEEN];
    int n_seen;
} health;

void health_init(struct shm_worker *shared, const struct config *cfg)
{
    memset(&health, 0, sizeof health);
    health.shared = shared;
    health.memory_max = cfg->recycle.memory;
}

void health_expect(int fd, uint64_t data)
{
    if (health.n_seen < MAX_SEEN) {
        health.seen[health.n_seen].fd = fd;
        health.seen[health.n_seen++].data = data;
    }
}

void health_forget(int fd)
{
    for (int i = 0; i < health.n_seen; i++)
        if (health.seen[i].fd == fd)
            health.seen[i--] = health.seen[--health.n_seen];
}

/* The kernel knows a registration by descriptor and open file: one that was closed, or is another
 * file by now, is not found. */
static bool is_registered(int fd, uint64_t data)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = data};

    return epoll_ctl(worker.epoll_fd, EPOLL_CTL_MOD, fd, &ev) == 0;
}

/* Bytes of memory that are this process's own; 0: unknown. */
static uint64_t own_memory(void)
{
    unsigned long size, resident, shared;
    FILE *f = fopen("/proc/self/statm", "re");
    uint64_t own = 0;

    if (f == NULL)
        return 0;
    if (fscanf(f, "%lu %lu %lu", &size, &resident, &shared) == 3 && resident > shared)
        own = (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
    fclose(f);
    return own;
}

bool health_tick(int64_t now_ms)
{
    if (now_ms < health.next_ms)
        return true;
    health.next_ms = now_ms + TICK_MS;
    atomic_fetch_add_explicit(&health.shared->beat, 1, memory_order_relaxed);
    remains_sweep(true);
    log_tell_repeats(false);
    for (int i = 0; i < health.n_seen; i++)
        if (!is_registered(health.seen[i].fd, health.seen[i].data))
            return false;
    if (health.memory_max != 0 && !health.is_too_big && own_memory() > health.memory_max) {
        health.is_too_big = true;
        eject(0, "it has reached recycle.memory");
    }
    return true;
}
