#include "master/respawn.h"

void respawn_init(struct respawn *r, uint32_t restarts, uint32_t window_ms)
{
    /* Not the ring: it is written before it is read, and its pages need not be touched. */
    r->restarts = restarts < RESPAWN_KEPT ? restarts : RESPAWN_KEPT;
    r->window_ms = window_ms;
    r->started_ms = 0;
    r->delay_ms = 0;
    r->n_ends = 0;
    r->next = 0;
}

void respawn_started(struct respawn *r, int64_t now_ms)
{
    r->started_ms = now_ms;
}

/* Notes an end; true when the one `restarts` ends ago was within the window, too. */
static bool is_too_many(struct respawn *r, int64_t now_ms)
{
    bool too_many;

    if (r->restarts == 0)
        return true;
    too_many = r->n_ends == r->restarts && now_ms - r->end_ms[r->next] < r->window_ms;
    if (r->n_ends < r->restarts)
        r->n_ends++;
    r->end_ms[r->next] = now_ms;
    r->next = (r->next + 1) % r->restarts;
    return too_many;
}

uint32_t respawn_ended(struct respawn *r, int64_t now_ms, bool was_serving)
{
    bool too_many = is_too_many(r, now_ms);

    if (was_serving && now_ms - r->started_ms >= r->window_ms)
        r->delay_ms = 0;
    if (!too_many && was_serving && r->delay_ms == 0)
        return 0;
    r->delay_ms = r->delay_ms == 0 ? RESPAWN_MIN_MS : r->delay_ms * 2;
    if (r->delay_ms > RESPAWN_MAX_MS)
        r->delay_ms = RESPAWN_MAX_MS;
    return r->delay_ms;
}
