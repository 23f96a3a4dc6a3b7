/*
 * metrics.h - the server's own counters, in shared memory.
 *
 * One struct metrics_slot per worker slot: written by the loop thread of whoever has the slot, with
 * plain loads and stores, and kept when that worker ends, so that counters go on over its successors.
 * Gauges (METRICS_GAUGES below) are set back by each worker as it begins. Readers sum over the slots.
 *
 * What a newcomer would get wrong: memory that nobody has written to yet must not be read in passing,
 * since reading a page of shared memory takes it. So a reader looks at `is_used`, at the names, and at
 * the counts before it looks at rows and histograms.
 */
#ifndef IPC_METRICS_H
#define IPC_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/histogram.h"

struct shm;

#define METRICS_LISTENERS 32  /* names; the last place is for all that came too late */
#define METRICS_ROUTES    128 /* as above */
#define METRICS_NAME      64
#define METRICS_HOOKS     24 /* more than there are: plugin/hook.h */
#define METRICS_SAMPLE    64 /* one request in so many has its plugin calls timed, on average */

enum metrics_method {
    METRICS_GET,
    METRICS_HEAD,
    METRICS_POST,
    METRICS_PUT,
    METRICS_DELETE,
    METRICS_PATCH,
    METRICS_OPTIONS,
    METRICS_OTHER,
    METRICS_METHODS
};

/* What became of it: the class of its status, or that it was not answered whole. */
enum metrics_code {
    METRICS_ABORTED,
    METRICS_2XX,
    METRICS_3XX,
    METRICS_4XX,
    METRICS_5XX,
    METRICS_CODES
};

enum metrics_handshake {
    METRICS_HANDSHAKE_FULL,
    METRICS_HANDSHAKE_RESUMED,
    METRICS_HANDSHAKE_FAILED,
    METRICS_HANDSHAKES
};

/* By what a crash was: names by metrics_crash_name(). */
enum metrics_crash {
    METRICS_SEGV,
    METRICS_BUS,
    METRICS_FPE,
    METRICS_ILL,
    METRICS_TRAP,
    METRICS_ABRT,
    METRICS_OTHER_SIGNAL,
    METRICS_ENDING, /* exit(), pthread_exit(), ... */
    METRICS_CRASHES
};

struct metrics_listener { /* in one slot */
    _Atomic uint64_t requests[METRICS_METHODS][METRICS_CODES];
    _Atomic uint64_t accepted;       /* connections */
    _Atomic uint64_t adopted;        /* connections of another process that were taken over */
    _Atomic uint64_t received, sent; /* bytes, as the socket has them but for TLS: of plain text */
    _Atomic uint64_t handshakes[METRICS_HANDSHAKES];
    _Atomic uint64_t in_flight, open; /* gauges: requests, connections */
    struct histogram_ns duration;     /* from the head of the request to the end of its answer */
    struct histogram_ns first_byte;   /* to the first byte of it */
};

struct metrics_plugin {                    /* in one slot, of one plugin */
    _Atomic uint64_t calls[METRICS_HOOKS]; /* all of them; of any thread */
    /* Of those that were timed: */
    _Atomic uint64_t timed[METRICS_HOOKS], timed_ns[METRICS_HOOKS];
    struct histogram_ns duration; /* whatever the hook */
};

struct metrics_route { /* in one slot */
    _Atomic uint64_t requests[METRICS_CODES];
    struct histogram_ns duration;
};

#define METRICS_LOG_LEVELS 5 /* by enum log_level, which begins at 1 */

struct metrics_log { /* lines of the error log; of any process and thread */
    _Atomic uint64_t written[METRICS_LOG_LEVELS];
    _Atomic uint64_t suppressed[METRICS_LOG_LEVELS]; /* counted instead: obs/log_repeat.h */
};

struct metrics_slot {
    _Atomic uint32_t is_used;
    _Atomic uint32_t is_serving; /* gauge: has begun to serve, and not ended */
    struct metrics_listener listener[METRICS_LISTENERS];
    struct metrics_route route[METRICS_ROUTES];
};

/* What the master alone writes. */
struct metrics_master {
    _Atomic int64_t started_real_ns;
    _Atomic uint64_t generation;
    _Atomic uint64_t workers, workers_ready; /* wanted; that hold a post and are ready */
    _Atomic uint64_t reloads_done, reloads_failed;
    _Atomic int64_t reloaded_real_ns; /* the config that serves was loaded */
    _Atomic uint32_t reload_failed;   /* the last one did */
    _Atomic uint64_t workers_started;
    _Atomic uint64_t workers_lost; /* died, or had to be ended, before their time */
    _Atomic uint64_t recorders_started;
    _Atomic uint64_t escrow_idle, escrow_replayed, escrow_refused, escrow_cut; /* connections */
};

struct metrics_name {
    _Atomic uint64_t key; /* digest of the name; 0: free */
    _Atomic uint32_t is_ready;
    char text[METRICS_NAME];
};

/* One writer. */
static inline void metrics_add(_Atomic uint64_t *n, uint64_t by)
{
    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

/* Several. */
static inline void metrics_add_shared(_Atomic uint64_t *n, uint64_t by)
{
    atomic_fetch_add_explicit(n, by, memory_order_relaxed);
}

static inline uint64_t metrics_read(const _Atomic uint64_t *n)
{
    return atomic_load_explicit(n, memory_order_relaxed);
}

/* The place of a listener of that name in all slots, for as long as the server runs. Any process. */
uint32_t metrics_listener_place(struct shm *shm, const char *name);
/* As above, of a route. */
uint32_t metrics_route_place(struct shm *shm, const char *name);

/* A worker begins in that slot: what its predecessor had set as gauges is gone, of plugins too. */
void metrics_begin(struct shm *shm, uint32_t slot);
/* It has ended, or is about to: as above. */
void metrics_end(struct shm *shm, uint32_t slot);

/* The master: the place of a plugin has another one from here on. Counters that any worker writes for
 * it, and metrics that it defined, begin anew. No worker that knows it is left. */
void metrics_forget_plugin(struct shm *shm, uint32_t plugin);

enum metrics_method metrics_method_of(const char *method, size_t n);
enum metrics_crash metrics_crash_of(int signo);

const char *metrics_method_name(enum metrics_method method);
const char *metrics_code_name(enum metrics_code code);
const char *metrics_handshake_name(enum metrics_handshake what);
const char *metrics_crash_name(enum metrics_crash what);

#endif
