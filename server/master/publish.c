/*
 * publish.c - what the master alone knows, for those who read metrics in shared memory.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "ipc/shm.h"
#include "master/internal.h"

static enum shm_share share_of(const struct config *cfg, const struct config_plugin *p)
{
    if (p->candidate_of != NULL)
        return SHM_SHARE_CANDIDATE;
    for (int i = 0; i < cfg->n_plugins; i++)
        if (!cfg->plugin[i].is_removed && cfg->plugin[i].candidate_of != NULL &&
            strcmp(cfg->plugin[i].candidate_of, p->name) == 0)
            return SHM_SHARE_STABLE;
    return SHM_SHARE_ALL;
}

/* Each reload loads all objects anew; what tells a version from the next is its bytes. */
static void publish_object(struct master *m, int i)
{
    static char digest[CONFIG_MAX_PLACES][DIGEST_TEXT];
    const char *is = m->roles->digest != NULL ? m->roles->digest(m->setup, i) : "";
    struct shm_plugin *s = &m->shm->plugin[i];

    if (strcmp(digest[i], is) == 0 && atomic_load(&s->generation) != 0)
        return;
    snprintf(digest[i], sizeof digest[i], "%s", is);
    atomic_store(&s->generation, m->generation->number);
}

void publish_generation(struct master *m)
{
    struct metrics_master *out = &m->shm->master;

    for (int i = 0; i < CONFIG_MAX_PLACES; i++) {
        struct shm_plugin *s = &m->shm->plugin[i];
        const struct config_plugin *p = i < m->cfg->n_plugins ? &m->cfg->plugin[i] : NULL;

        atomic_store(&s->is_shown, 0);
        if (p == NULL || p->is_removed)
            continue;
        snprintf(s->name, sizeof s->name, "%s", p->name);
        snprintf(s->module, sizeof s->module, "%s", p->module);
        s->limits = (struct breaker_limits){.crashes = p->breaker.crashes,
                                            .window_ms = p->breaker.window_ms,
                                            .open_ms = p->breaker.open_ms,
                                            .trials = p->breaker.trials};
        publish_object(m, i);
        atomic_store(&s->share, share_of(m->cfg, p));
        atomic_store(&s->is_shown, 1);
    }
    atomic_store(&out->started_real_ns, m->history.started_real_ns);
    atomic_store(&out->reloaded_real_ns, clock_real_ns());
    atomic_store(&out->generation, m->generation->number);
    atomic_store(&out->workers, (uint64_t)m->cfg->n_workers);
}

void publish_reload(struct master *m, bool has_failed)
{
    struct metrics_master *out = &m->shm->master;

    metrics_add(has_failed ? &out->reloads_failed : &out->reloads_done, 1);
    atomic_store(&out->reload_failed, has_failed);
}

void publish_haul(struct master *m, const struct haul *haul)
{
    struct metrics_master *out = &m->shm->master;

    metrics_add(&out->escrow_idle, (uint64_t)haul->n_idle);
    metrics_add(&out->escrow_replayed, (uint64_t)haul->n_replayed);
    metrics_add(&out->escrow_refused, (uint64_t)haul->n_refused);
    metrics_add(&out->escrow_cut, (uint64_t)haul->n_cut);
}

void publish_workers(struct master *m)
{
    atomic_store_explicit(&m->shm->master.workers_ready, (uint64_t)posts_count_ready(m),
                          memory_order_relaxed);
}
