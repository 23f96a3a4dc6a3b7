/*
 * generation.c - the end of generations that no worker has any more.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "master/internal.h"
#include "obs/log.h"

static bool has_workers(const struct master *m, const struct generation *g)
{
    if ((child_is_alive(&m->recorder) && m->recorder.gen == g) ||
        (child_is_alive(&m->admin_child) && m->admin_child.gen == g) ||
        (child_is_alive(&m->exporter) && m->exporter.gen == g))
        return true;
    for (int i = 0; i < m->n_slots; i++)
        if (child_is_alive(&m->worker[i]) && m->worker[i].gen == g)
            return true;
    return false;
}

void generation_discard(struct master *m, struct generation *g)
{
    const struct setup *others[64];
    int n = 0;

    for (const struct generation *o = m->generation; o != NULL && n < 62; o = o->older)
        if (o != g && o->setup != NULL)
            others[n++] = o->setup;
    if (m->reload.next != NULL && m->reload.next != g)
        others[n++] = m->reload.next->setup;
    fd_close(&g->keys.fd);
    if (m->roles->unload != NULL && g->setup != NULL)
        m->roles->unload(g->cfg, g->setup, others, n, g->is_borrowed);
    free(g);
}

void reload_sweep(struct master *m)
{
    struct generation **at = &m->generation->older;

    while (*at != NULL) {
        struct generation *g = *at;

        if (has_workers(m, g)) {
            at = &g->older;
            continue;
        }
        *at = g->older;
        log_debug("generation %" PRIu64 " is gone", g->number);
        generation_discard(m, g);
    }
}

int generation_map_listener(const struct config *old, const struct config *now, int i)
{
    if (i < 0 || i >= old->n_listeners)
        return -1;
    if (old == now)
        return i;
    for (int k = 0; k < now->n_listeners; k++)
        if (strcmp(now->listener[k].address, old->listener[i].address) == 0 &&
            now->listener[k].tls.is_on == old->listener[i].tls.is_on)
            return k;
    return -1;
}

int reload_map_listener(const struct master *m, const struct child *c, int i)
{
    return generation_map_listener(c->gen->cfg, m->cfg, i);
}
