/*
 * respawn.h - how long to wait before a child that ended is started again.
 *
 * At once, as a rule. More than so many ends within a window, or one before the child was serving:
 * after a delay that doubles with each further end, and is forgotten once the child has served for
 * a whole window. Time is handed in.
 */
#ifndef MASTER_RESPAWN_H
#define MASTER_RESPAWN_H

#include <stdbool.h>
#include <stdint.h>

#define RESPAWN_MIN_MS 100u
#define RESPAWN_MAX_MS 10000u
#define RESPAWN_KEPT   1024 /* ends that are remembered: `restarts` above it counts as this */

struct respawn {
    uint32_t restarts, window_ms;
    int64_t started_ms;
    uint32_t delay_ms; /* the latest; 0: not backing off */
    uint32_t n_ends;   /* not more than restarts matter */
    uint32_t next;     /* in end_ms, a ring of `restarts` entries */
    int64_t end_ms[RESPAWN_KEPT];
};

void respawn_init(struct respawn *r, uint32_t restarts, uint32_t window_ms);
void respawn_started(struct respawn *r, int64_t now_ms);
/* The child ended: milliseconds to wait, 0 for none. */
uint32_t respawn_ended(struct respawn *r, int64_t now_ms, bool was_serving);

#endif
