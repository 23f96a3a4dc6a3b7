/*
 * metrics_plugins.c - metrics of plugins.
 */
#include <string.h>

#include "obs/log.h"
#include "obs/metrics_tell.h"
#include "plugin/hook.h"

#define NS_PER_S   1e9
#define CALL_FIRST 7 /* 128 ns; 0.54 s */

/* ---- by plugin ---- */

static bool begin_plugin(struct text *t, uint32_t i)
{
    const struct shm_plugin *p = &t->shm->plugin[i];

    t->e.n_labels = 0;
    if (i >= SHM_PLUGINS || atomic_load(&p->is_shown) == 0)
        return false;
    exposition_label_n(&t->e, "plugin", p->name, strnlen(p->name, sizeof p->name));
    return true;
}

void tell_plugin_info(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        const struct shm_plugin *p = &t->shm->plugin[i];

        if (!begin_plugin(t, i))
            continue;
        exposition_label_n(&t->e, "module", p->module, strnlen(p->module, sizeof p->module));
        exposition_uint(&t->e, 1);
    }
    t->e.n_labels = 0;
}

/* Field of struct shm_plugin. */
void tell_plugin(struct text *t, size_t offset)
{
    for (uint32_t i = 0; i < t->shm->n_plugins; i++)
        if (begin_plugin(t, i))
            exposition_uint(&t->e, text_read_at(&t->shm->plugin[i], offset));
    t->e.n_labels = 0;
}

/* The share of requests that get it, where they may get another version. */
void tell_plugin_weight(struct text *t, size_t offset)
{
    uint64_t word = atomic_load(&t->shm->rollout.word);
    double share = rollout_mode(word) == ROLLOUT_CANARY ? (double)rollout_parts(word) / ROLLOUT_ALL
                                                        : 0;

    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        if (!begin_plugin(t, i))
            continue;
        switch (atomic_load(&t->shm->plugin[i].share)) {
        case SHM_SHARE_STABLE: exposition_number(&t->e, 1 - share); break;
        case SHM_SHARE_CANDIDATE: exposition_number(&t->e, share); break;
        default: exposition_number(&t->e, 1); break;
        }
    }
    t->e.n_labels = 0;
}

static void tell_line_count(struct text *t, uint32_t plugin, int level, const char *outcome,
                            uint64_t n)
{
    if (n == 0 || !begin_plugin(t, plugin))
        return;
    exposition_label(&t->e, "level", log_level_name(level));
    exposition_label(&t->e, "outcome", outcome);
    exposition_uint(&t->e, n);
}

/* Those that there were. */
void tell_plugin_log_lines(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++)
        for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
            const struct metrics_log *log = &t->shm->plugin[i].log;

            tell_line_count(t, i, level, "written", metrics_read(&log->written[level]));
            tell_line_count(t, i, level, "suppressed", metrics_read(&log->suppressed[level]));
        }
    t->e.n_labels = 0;
}

void tell_crashes(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++)
        for (int c = 0; c < METRICS_CRASHES && begin_plugin(t, i); c++) {
            exposition_label(&t->e, "kind", metrics_crash_name((enum metrics_crash)c));
            exposition_uint(&t->e, metrics_read(&t->shm->plugin[i].crashes_by[c]));
        }
    t->e.n_labels = 0;
}

void tell_breaker(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        const struct shm_plugin *p = &t->shm->plugin[i];
        struct breaker_limits limits = p->limits;
        struct breaker_view view;

        if (!begin_plugin(t, i))
            continue;
        breaker_look(&p->quarantine.breaker, &limits, t->now_ms, &view);
        for (int s = BREAKER_CLOSED; s <= BREAKER_HALF_OPEN && begin_plugin(t, i); s++) {
            exposition_label(&t->e, "state", breaker_state_name((enum breaker_state)s));
            exposition_uint(&t->e, (int)view.state == s);
        }
    }
    t->e.n_labels = 0;
}

void tell_blocked(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        uint64_t n = 0;

        if (!begin_plugin(t, i))
            continue;
        for (int b = 0; b < QUARANTINE_BLOCKS; b++)
            n += !breaker_is_closed(&t->shm->plugin[i].quarantine.block[b].breaker);
        exposition_uint(&t->e, n);
    }
    t->e.n_labels = 0;
}

/* What it has in all workers that live: `of` one of them. */
static void tell_held(struct text *t, uint64_t (*of)(const struct shm_worker *w, uint32_t plugin))
{
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        uint64_t n = 0;

        if (!begin_plugin(t, i))
            continue;
        for (uint32_t k = 0; k < t->shm->n_workers; k++)
            if (worker_is_used(&t->shm->worker[k]) && atomic_load(&t->shm->worker[k].pid) != 0)
                n += of(&t->shm->worker[k], i);
        exposition_uint(&t->e, n);
    }
    t->e.n_labels = 0;
}

static uint64_t memory_of(const struct shm_worker *w, uint32_t plugin)
{
    return metrics_read(&w->memory[plugin]);
}

static uint64_t descriptors_of(const struct shm_worker *w, uint32_t plugin)
{
    return atomic_load(&w->descriptors[plugin]);
}

void tell_memory(struct text *t, size_t offset)
{
    (void)offset;
    tell_held(t, memory_of);
}

void tell_descriptors(struct text *t, size_t offset)
{
    (void)offset;
    tell_held(t, descriptors_of);
}

void tell_threads(struct text *t, size_t offset)
{
    uint32_t n[SHM_PLUGINS + 1] = {0};

    (void)offset;
    for (uint32_t k = 0; k < t->shm->n_workers; k++)
        for (int i = 0; i < SHM_THREADS && worker_is_used(&t->shm->worker[k]); i++) {
            const struct shm_thread *th = &t->shm->worker[k].thread[i];
            uint32_t plugin = atomic_load(&th->plugin);

            if (atomic_load(&th->tid) != 0 && plugin <= SHM_PLUGINS)
                n[plugin]++;
        }
    for (uint32_t i = 0; i < t->shm->n_plugins; i++)
        if (begin_plugin(t, i))
            exposition_uint(&t->e, n[i + 1]);
    t->e.n_labels = 0;
}

static uint64_t sum_hook(const struct text *t, uint32_t i, size_t offset)
{
    uint64_t n = 0;

    for (uint32_t k = 0; k < t->shm->n_workers; k++)
        if (worker_is_used(&t->shm->worker[k]))
            n += text_read_at(&t->shm->worker[k].metrics_plugin[i], offset);
    return n;
}

/* Array in struct metrics_plugin, by hook: those that were called. is_time: nanoseconds. */
static void tell_hooks(struct text *t, size_t offset, bool is_time)
{
    for (uint32_t i = 0; i < t->shm->n_plugins; i++)
        for (unsigned h = 0; h < HOOK_N && begin_plugin(t, i); h++) {
            uint64_t n = sum_hook(t, i, offset + h * sizeof(uint64_t));

            exposition_label(&t->e, "hook", hook_name(h));
            if (n > 0 && is_time)
                exposition_number(&t->e, (double)n / NS_PER_S);
            else if (n > 0)
                exposition_uint(&t->e, n);
        }
    t->e.n_labels = 0;
}

void tell_calls(struct text *t, size_t offset)
{
    tell_hooks(t, offset, false);
}

void tell_call_times(struct text *t, size_t offset)
{
    tell_hooks(t, offset, true);
}

void tell_plugin_times(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++) {
        uint64_t count[HISTOGRAM_NS_SIZE] = {0}, sum_ns = 0;

        if (!begin_plugin(t, i))
            continue;
        for (uint32_t k = 0; k < t->shm->n_workers; k++)
            if (worker_is_used(&t->shm->worker[k]))
                text_add_histogram(&t->shm->worker[k].metrics_plugin[i].duration, count, &sum_ns);
        exposition_histogram_ns(&t->e, count, sum_ns, CALL_FIRST);
    }
    t->e.n_labels = 0;
}

void tell_series(struct text *t, size_t offset)
{
    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_plugins; i++)
        if (begin_plugin(t, i))
            exposition_uint(&t->e, atomic_load(&t->shm->plugin[i].series.n_series));
    t->e.n_labels = 0;
}
