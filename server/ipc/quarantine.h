/*
 * quarantine.h - the breakers of one plugin: one for all of it, and one for each route that it
 * crashes on again and again in the same place.
 *
 * Equal crashes block their route first: the plugin goes on serving the others. Crashes of several
 * kinds, crashes outside of requests, and too many blocked routes open the breaker of the whole
 * plugin. It lies in shared memory, next to the plugin's counters: any worker may change it, and so
 * may the master, for a worker that died.
 *
 * What a newcomer would get wrong: `guard` is all that a request looks at as long as all is well.
 * It may be set for no reason, but is never clear while a breaker is not closed (or until the next
 * crash, if a worker dies between two particular stores).
 */
#ifndef IPC_QUARANTINE_H
#define IPC_QUARANTINE_H

#include <stddef.h>

#include "ipc/breaker.h"

#define QUARANTINE_BLOCKS 16 /* kinds of crashes that are told apart, per plugin */
#define QUARANTINE_ROUTES 3  /* so many blocked at once: the plugin's own breaker opens */
#define QUARANTINE_TRIALS 4  /* that one request can be at once */

struct quarantine_block {
    _Atomic uint64_t key; /* route and place; 0: free */
    struct breaker breaker;
};

struct quarantine {                      /* zeroed: all closed */
    _Alignas(64) _Atomic uint32_t guard; /* 0: all closed. A cache line of its own, mostly read */
    _Alignas(64) struct breaker breaker;
    struct quarantine_block block[QUARANTINE_BLOCKS];
};

/* What a breaker did, for the log. route: number of the route (index + 1) whose block it is about;
 * 0: the whole plugin. */
struct quarantine_news {
    enum breaker_change change;
    uint32_t route;
    uint32_t wait_ms;  /* OPENED, REOPENED: until trials begin */
    bool is_by_routes; /* OPENED: because that many routes are blocked */
};

/* The plugin crashed, was ejected, or killed its worker. route: as above; 0: not in a request. place:
 * tells equal crashes from others. At most two pieces of news; their number is returned. */
int quarantine_charge(struct quarantine *q, const struct breaker_limits *limits, int64_t now_ms,
                      uint32_t route, uint64_t place, struct quarantine_news news[2]);

/* By an operator: breaker_hold() of the whole plugin; breaker_reset() of all that there is. */
bool quarantine_hold(struct quarantine *q, const struct breaker_limits *limits, int64_t now_ms);
void quarantine_reset(struct quarantine *q);

struct quarantine_trial {
    struct breaker *breaker;
    uint32_t route;
    int64_t token;
};

struct quarantine_answer {
    uint32_t retry_ms; /* refused: when it is worth asking again */
    int n_trials;
    struct quarantine_trial trial[QUARANTINE_TRIALS];
    int n_news;
    struct quarantine_news news[QUARANTINE_TRIALS];
};

static inline bool quarantine_is_on(const struct quarantine *q)
{
    return atomic_load_explicit(&q->guard, memory_order_relaxed) != 0;
}

/* May a request of this route enter the plugin? To be asked when quarantine_is_on(). */
bool quarantine_ask(struct quarantine *q, const struct breaker_limits *limits, int64_t now_ms,
                    uint32_t route, struct quarantine_answer *out);
/* The request has ended; passed: the plugin neither crashed nor failed in it. The news of one. */
struct quarantine_news quarantine_trial_ended(struct quarantine *q,
                                              const struct breaker_limits *limits,
                                              const struct quarantine_trial *trial, bool passed);

/* The route that block i is about, or 0: the block is not in use. */
uint32_t quarantine_route_of(const struct quarantine_block *block);

/* "breaker open: 5 crashes within 60 s; ..." route: its name, NULL for news of the plugin. what: what
 * requests get meanwhile, "answered 503", say. */
void quarantine_tell(const struct quarantine_news *news, const struct breaker_limits *limits,
                     const char *route, const char *what, char *buf, size_t size);

#endif
