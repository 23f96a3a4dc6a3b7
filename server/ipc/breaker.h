/*
 * breaker.h - closed, open, half-open: whether somebody who crashed again and again is called.
 *
 *     CLOSED ──(so many crashes within the window)──> OPEN ──(its time is over)──> HALF_OPEN
 *        ^                                              ^                              │
 *        │                                              └────── (one crash) ───────────┤
 *        └──────────────────────── (all trials ended well) ────────────────────────────┘
 *
 * It lies in shared memory and outlives the workers, any of which may change it. What a newcomer
 * would get wrong: the whole state is one word, changed by compare-and-swap, since a worker may be
 * killed between any two stores. Whoever changes the state is told so, and logs it.
 *
 * Knows nothing of plugins. Time is handed in: monotonic milliseconds, the same in all processes.
 */
#ifndef IPC_BREAKER_H
#define IPC_BREAKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BREAKER_CRASHES_MAX 64          /* of limits.crashes */
#define BREAKER_TRIALS_MAX  100         /* of limits.trials */
#define BREAKER_HELD        0x646c6568u /* not what a stray write would leave */
#define BREAKER_BACKOFF     10 /* the open time doubles with every failed trial, up to this factor */

struct breaker_limits {
    uint32_t crashes; /* within window_ms: it opens; 0: never */
    uint32_t window_ms;
    uint32_t open_ms; /* the first time; see BREAKER_BACKOFF */
    uint32_t trials;  /* that have to end well */
};

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker {           /* zeroed: closed */
    _Atomic uint64_t word; /* breaker.c; 0: closed */
    _Atomic uint64_t n_opened;
    _Atomic uint64_t n_refused;
    _Atomic uint32_t held;                       /* BREAKER_HELD: open until breaker_reset() */
    _Atomic uint32_t next;                       /* in crash[] */
    _Atomic uint64_t crash[BREAKER_CRASHES_MAX]; /* the last ones: time and tag; 0: none */
};

enum breaker_change {
    BREAKER_SAME,
    BREAKER_OPENED,
    BREAKER_REOPENED, /* a trial crashed */
    BREAKER_TRYING,   /* from open to half-open */
    BREAKER_RECOVERED,
};

static inline bool breaker_is_closed(const struct breaker *b)
{
    return (atomic_load(&b->word) & 3) == BREAKER_CLOSED;
}

/* A crash. tag (1 to 255): for breaker_forget(); 0: none. */
enum breaker_change breaker_crash(struct breaker *b, const struct breaker_limits *limits,
                                  int64_t now_ms, unsigned tag);
/* The crashes with this tag are somebody else's business. */
void breaker_forget(struct breaker *b, unsigned tag);
/* Opens it if it is closed, for a reason of the caller's. */
enum breaker_change breaker_trip(struct breaker *b, const struct breaker_limits *limits,
                                 int64_t now_ms);

/* By an operator: opens it, and it stays open, without trials, until it is reset. False: it is off. */
bool breaker_hold(struct breaker *b, const struct breaker_limits *limits, int64_t now_ms);
/* By an operator: closed, and what led to it is forgotten. */
void breaker_reset(struct breaker *b);

struct breaker_answer {
    int64_t token;     /* not 0: this is a trial, to be ended with breaker_trial_ended() */
    uint32_t retry_ms; /* refused: when it is worth asking again */
    enum breaker_change change;
};

/* May a call be made? A trial that is never ended (its process died) is given up after a while, and
 * another one let through in its place. */
bool breaker_ask(struct breaker *b, const struct breaker_limits *limits, int64_t now_ms,
                 struct breaker_answer *out);
/* passed: it ended well. Otherwise it showed nothing, and another one may try; that it crashed is
 * what breaker_crash() tells. */
enum breaker_change breaker_trial_ended(struct breaker *b, const struct breaker_limits *limits,
                                        int64_t token, bool passed);

struct breaker_view { /* for people */
    enum breaker_state state;
    uint32_t left_ms;           /* OPEN: to the first trial; HALF_OPEN: until trials are given up */
    uint32_t n_crashes;         /* within the window */
    uint32_t n_given, n_passed; /* trials */
    bool is_held;               /* OPEN, by an operator: there will be no trials */
};

void breaker_look(const struct breaker *b, const struct breaker_limits *limits, int64_t now_ms,
                  struct breaker_view *out);
const char *breaker_state_name(enum breaker_state state); /* "closed", "open", "half-open" */

#endif
