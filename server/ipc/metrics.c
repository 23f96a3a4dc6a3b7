#include "ipc/metrics.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/must.h"
#include "base/siphash.h"
#include "ipc/series.h"
#include "ipc/shm.h"

/* Async-signal-safe, and so is all of this file. */
static uint64_t digest(const struct shm *shm, const void *p, size_t n)
{
    uint64_t key = siphash13(shm->tally_key, p, n);

    return key > 1 ? key : 2;
}

/* The last place is for all that came too late: it is not claimed, and has a name of its own. */
static uint32_t place_of(struct shm *shm, struct metrics_name *n, uint32_t n_places,
                         const char *name)
{
    uint64_t key = digest(shm, name, strlen(name));
    uint32_t i;

    for (i = 0; i < n_places - 1; i++) {
        uint64_t found = 0;

        if (atomic_compare_exchange_strong(&n[i].key, &found, key) || found == key)
            break;
    }
    /* Whoever finds it not filled in, since its first finder is about to, or died, writes the same. */
    if (atomic_load(&n[i].is_ready) == 0) {
        snprintf(n[i].text, sizeof n[i].text, "%s", i == n_places - 1 ? SERIES_OVERFLOW : name);
        atomic_store(&n[i].is_ready, 1);
    }
    return i;
}

uint32_t metrics_listener_place(struct shm *shm, const char *name)
{
    return place_of(shm, shm->listener_name, METRICS_LISTENERS, name);
}

uint32_t metrics_route_place(struct shm *shm, const char *name)
{
    return place_of(shm, shm->route_name, METRICS_ROUTES, name);
}

static void reset_gauges(struct shm *shm, uint32_t slot)
{
    struct metrics_slot *s = &shm->worker[slot].metrics;

    for (uint32_t i = 0; i < METRICS_LISTENERS && atomic_load(&s->is_used) != 0; i++) {
        if (atomic_load(&shm->listener_name[i].is_ready) == 0)
            continue;
        atomic_store(&s->listener[i].in_flight, 0);
        atomic_store(&s->listener[i].open, 0);
    }
    series_begin(shm, slot);
}

void metrics_begin(struct shm *shm, uint32_t slot)
{
    must(slot < shm->n_workers);
    reset_gauges(shm, slot);
    atomic_store(&shm->worker[slot].metrics.is_used, 1);
}

void metrics_end(struct shm *shm, uint32_t slot)
{
    must(slot < shm->n_workers);
    if (atomic_load(&shm->worker[slot].metrics.is_used) != 0)
        reset_gauges(shm, slot);
    atomic_store(&shm->worker[slot].metrics.is_serving, 0);
}

void metrics_forget_plugin(struct shm *shm, uint32_t plugin)
{
    must(plugin < shm->n_plugins);
    series_forget(shm, plugin);
    for (uint32_t i = 0; i < shm->n_workers && plugin < SHM_PLUGINS; i++)
        if (atomic_load(&shm->worker[i].metrics.is_used) != 0)
            memset((void *)&shm->worker[i].metrics_plugin[plugin], 0,
                   sizeof shm->worker[i].metrics_plugin[plugin]);
}

/* By length and text: comparisons of a known length cost an instruction or two each, and this is done
 * for every request. */
enum metrics_method metrics_method_of(const char *method, size_t n)
{
    switch (n) {
    case 3:
        return memcmp(method, "GET", 3) == 0   ? METRICS_GET
               : memcmp(method, "PUT", 3) == 0 ? METRICS_PUT
                                               : METRICS_OTHER;
    case 4:
        return memcmp(method, "POST", 4) == 0   ? METRICS_POST
               : memcmp(method, "HEAD", 4) == 0 ? METRICS_HEAD
                                                : METRICS_OTHER;
    case 5: return memcmp(method, "PATCH", 5) == 0 ? METRICS_PATCH : METRICS_OTHER;
    case 6: return memcmp(method, "DELETE", 6) == 0 ? METRICS_DELETE : METRICS_OTHER;
    case 7: return memcmp(method, "OPTIONS", 7) == 0 ? METRICS_OPTIONS : METRICS_OTHER;
    default: return METRICS_OTHER;
    }
}

enum metrics_crash metrics_crash_of(int signo)
{
    switch (signo) {
    case 0: return METRICS_ENDING;
    case SIGSEGV: return METRICS_SEGV;
    case SIGBUS: return METRICS_BUS;
    case SIGFPE: return METRICS_FPE;
    case SIGILL: return METRICS_ILL;
    case SIGTRAP: return METRICS_TRAP;
    case SIGABRT: return METRICS_ABRT;
    default: return METRICS_OTHER_SIGNAL;
    }
}

const char *metrics_method_name(enum metrics_method method)
{
    static const char *const names[METRICS_METHODS] = {"GET",    "HEAD",  "POST",    "PUT",
                                                       "DELETE", "PATCH", "OPTIONS", "other"};

    must(method < METRICS_METHODS);
    return names[method];
}

const char *metrics_code_name(enum metrics_code code)
{
    static const char *const names[METRICS_CODES] = {"aborted", "2xx", "3xx", "4xx", "5xx"};

    must(code < METRICS_CODES);
    return names[code];
}

const char *metrics_handshake_name(enum metrics_handshake what)
{
    static const char *const names[METRICS_HANDSHAKES] = {"full", "resumed", "failed"};

    must(what < METRICS_HANDSHAKES);
    return names[what];
}

const char *metrics_crash_name(enum metrics_crash what)
{
    static const char *const names[METRICS_CRASHES] = {"SIGSEGV", "SIGBUS",  "SIGFPE", "SIGILL",
                                                       "SIGTRAP", "SIGABRT", "other",  "exit"};

    must(what < METRICS_CRASHES);
    return names[what];
}
