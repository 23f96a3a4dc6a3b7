/*
 * rollout.h - another version of a plugin, step by step: a few requests, more, all; or back.
 *
 *     STARTING ──(a reload has loaded the candidate beside the stable one)──> STEPPING
 *     STEPPING ──(last step is through, `promote`)──────────────────────────> ENDING
 *     STEPPING ──(it crashed, a gate says so, `abort`, `rollback`)──────────> ENDING
 *     ENDING ────(a reload has taken the losing arm out)────────────────────> IDLE
 *
 * What a newcomer would get wrong: none of this moves requests. The weight does, one word in shared memory
 * (ipc/rollout.h). When a rollout ends the word says so at once; the reload that follows only tidies up,
 * and may be late.
 */
#ifndef MASTER_ROLLOUT_H
#define MASTER_ROLLOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "conf/overlay.h"
#include "conf/plan.h"

struct master;

enum rollout_phase { ROLLOUT_IDLE, ROLLOUT_STARTING, ROLLOUT_STEPPING, ROLLOUT_ENDING };

enum rollout_end {
    ROLLOUT_RUNS, /* or there was none */
    ROLLOUT_NOT_STARTED,
    ROLLOUT_PROMOTED,
    ROLLOUT_ROLLED_BACK,
    ROLLOUT_ABORTED,
};

struct rollout_run { /* the one under way, or the last */
    enum rollout_phase phase;
    enum rollout_end end;
    uint32_t number; /* 0: there was none */
    bool is_paused;
    struct arena arena; /* of the plan */
    struct plan plan;
    struct overlay_variant stable, candidate; /* signature: of the file, at the start */
    char by[64], why[256];
    int step;
    int64_t step_ms;            /* began, monotonic */
    int64_t due_ms;             /* the next look */
    int64_t began_ns, ended_ns; /* real */
    int64_t late_ms;            /* ENDING: when to try again */
    uint64_t requests;          /* in the candidate, in earlier steps */
    struct {                    /* the metric of its gate, as it was when the step began */
        double value;
        uint64_t count;
    } metric[2];
};

void rollout_init(struct master *m);
void rollout_fini(struct master *m);

/*
 * request: {"plugin": NAME, "module": ..., "config": {...}, "set": {...}, "rollout": {as in a config},
 * "by": "..."}; all but the first may be missing. JSON, malloc'd: {"id": of the reload that begins it} or
 * {"error": "...", "is_input": true if the request is wrong}. NULL: no memory.
 */
char *rollout_start(struct master *m, const char *request);
/*
 * A reload has loaded what the file says now. If a plugin with `rollout:` differs from what runs, it is to
 * be rolled out instead: 1, and *overlay, replaced, is what to load; the rollout has begun and wants to be
 * told of the end by *ended. 0: there is none. -errno: that cannot be, as why says.
 */
struct generation;
int rollout_adopt(struct master *m, const struct generation *next, const char *reason,
                  struct overlay *overlay, void (**ended)(struct master *, bool), char *why,
                  size_t size);
/* what: enum control_rollout. */
char *rollout_do(struct master *m, int what, const char *by);
char *rollout_status(const struct master *m);

void rollout_tick(struct master *m, int64_t now_ms);
int64_t rollout_next_ms(const struct master *m);

#endif
