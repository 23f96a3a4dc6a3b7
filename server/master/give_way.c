/*
 * give_way.c - when the master leaves the CPU to those that serve.
 *
 * What a reload takes of it, to read and check, to fork, and to collect what has ended, is more than
 * any request takes, and a request that comes meanwhile would wait for it. So as long as nobody but
 * the reload wants anything of the master it has less of the CPU than who serves. Not while a post is
 * vacant, or connections are on their way: those wait for the master.
 */
#include "base/urgency.h"
#include "master/internal.h"

#define PATIENCE_MS 500 /* where others leave it so little, a reload is done all the same */
#define SETTLE_MS   300 /* after it, for what follows: recorder, standby, the ends of processes */

static bool is_vacant(const struct master *m)
{
    for (int i = 0; i < m->cfg->n_workers; i++)
        if (m->post[i].holder < 0)
            return true;
    return false;
}

static bool is_reloading(const struct master *m, int64_t now_ms)
{
    const struct reload *r = &m->reload;

    if (r->state != RELOAD_IDLE)
        return now_ms - r->began_ms < PATIENCE_MS;
    return !r->is_taking && m->follow.commit_ms != 0 && now_ms - m->follow.commit_ms < SETTLE_MS;
}

void give_way(const struct master *m, int64_t now_ms)
{
    if (m->phase == MASTER_SERVING && is_reloading(m, now_ms) && !is_vacant(m) &&
        !escrow_is_waiting(m))
        urgency_be_modest();
    else
        urgency_be_usual();
}
