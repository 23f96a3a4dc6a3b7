/*
 * metrics_server.c - metrics of the server as a whole: the master, logs, traces, alerts, the rollout.
 */
#include <string.h>

#include "obs/log.h"
#include "obs/metrics_tell.h"

#ifndef BULKHEAD_VERSION
#define BULKHEAD_VERSION "0"
#endif

/* ---- the server ---- */

void tell_build(struct text *t, size_t offset)
{
    (void)offset;
    exposition_label(&t->e, "version", BULKHEAD_VERSION);
    exposition_uint(&t->e, 1);
}

/* Field of struct metrics_master. */
void tell_master(struct text *t, size_t offset)
{
    exposition_uint(&t->e, text_read_at(&t->shm->master, offset));
}

void tell_time(struct text *t, size_t offset)
{
    uint64_t ms = text_read_at(&t->shm->master, offset) / 1000000;

    if (ms != 0)
        exposition_number(&t->e, (double)ms / 1e3);
}

void tell_reload_worked(struct text *t, size_t offset)
{
    (void)offset;
    exposition_uint(&t->e, atomic_load(&t->shm->master.reload_failed) == 0);
}

void tell_reloads(struct text *t, size_t offset)
{
    (void)offset;
    exposition_label(&t->e, "result", "done");
    exposition_uint(&t->e, metrics_read(&t->shm->master.reloads_done));
    exposition_label(&t->e, "result", "failed");
    exposition_uint(&t->e, metrics_read(&t->shm->master.reloads_failed));
}

void tell_escrow(struct text *t, size_t offset)
{
    const struct metrics_master *m = &t->shm->master;
    const struct {
        const char *name;
        const _Atomic uint64_t *n;
    } outcomes[] = {{"adopted", &m->escrow_idle},
                    {"run_again", &m->escrow_replayed},
                    {"refused", &m->escrow_refused},
                    {"cut", &m->escrow_cut}};

    (void)offset;
    for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
        exposition_label(&t->e, "outcome", outcomes[i].name);
        exposition_uint(&t->e, metrics_read(outcomes[i].n));
    }
}

void tell_dropped_lines(struct text *t, size_t offset)
{
    uint64_t n = 0;

    (void)offset;
    for (uint32_t i = 0; i < t->shm->n_workers; i++)
        if (worker_is_used(&t->shm->worker[i]))
            n += metrics_read(&t->shm->worker[i].ring.dropped);
    exposition_uint(&t->e, n);
}

void tell_spans(struct text *t, size_t offset)
{
    const struct shm_traces *traces = &t->shm->traces;
    uint64_t n = 0;

    (void)offset;
    if (atomic_load(&traces->is_on) == 0)
        return;
    for (uint32_t i = 0; i < t->shm->n_workers; i++)
        if (worker_is_used(&t->shm->worker[i]))
            n += metrics_read(&t->shm->worker[i].spans.dropped);
    exposition_label(&t->e, "outcome", "sent");
    exposition_uint(&t->e, metrics_read(&traces->sent));
    exposition_label(&t->e, "outcome", "refused");
    exposition_uint(&t->e, metrics_read(&traces->refused));
    exposition_label(&t->e, "outcome", "lost");
    exposition_uint(&t->e, metrics_read(&traces->lost));
    exposition_label(&t->e, "outcome", "dropped");
    exposition_uint(&t->e, n);
}

void tell_alerts(struct text *t, size_t offset)
{
    uint64_t n[ALERT_RESOLVED + 1] = {0};
    struct shm_alert a;

    (void)offset;
    for (uint32_t i = 0; i < SHM_ALERTS; i++)
        if (shm_alert_read(t->shm, i, &a))
            n[a.state]++;
    exposition_label(&t->e, "state", "pending");
    exposition_uint(&t->e, n[ALERT_PENDING]);
    exposition_label(&t->e, "state", "firing");
    exposition_uint(&t->e, n[ALERT_FIRING]);
}

void tell_alert_messages(struct text *t, size_t offset)
{
    struct shm_receiver r;

    (void)offset;
    for (uint32_t i = 0; i < SHM_RECEIVERS; i++) {
        if (!shm_receiver_read(t->shm, i, &r))
            continue;
        exposition_label(&t->e, "receiver", r.name);
        exposition_label(&t->e, "outcome", "arrived");
        exposition_uint(&t->e, r.arrived);
        exposition_label(&t->e, "receiver", r.name);
        exposition_label(&t->e, "outcome", "dropped");
        exposition_uint(&t->e, r.dropped);
    }
}

void tell_log_lines(struct text *t, size_t offset)
{
    (void)offset;
    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        exposition_label(&t->e, "level", log_level_name(level));
        exposition_label(&t->e, "outcome", "written");
        exposition_uint(&t->e, metrics_read(&t->shm->log.written[level]));
        exposition_label(&t->e, "level", log_level_name(level));
        exposition_label(&t->e, "outcome", "suppressed");
        exposition_uint(&t->e, metrics_read(&t->shm->log.suppressed[level]));
    }
}

void tell_refusals(struct text *t, size_t offset)
{
    (void)offset;
    for (int r = REFUSAL_NONE + 1; r < REFUSAL_COUNT; r++) {
        uint64_t n = 0;

        for (uint32_t i = 0; i < t->shm->n_workers; i++)
            if (worker_is_used(&t->shm->worker[i]))
                n += metrics_read(&t->shm->worker[i].refused[r]);
        exposition_label(&t->e, "reason", refusal_name((enum http_refusal)r));
        exposition_uint(&t->e, n);
    }
}

void tell_admin_refusals(struct text *t, size_t offset)
{
    (void)offset;
    for (int r = REFUSAL_NONE + 1; r < REFUSAL_COUNT; r++) {
        exposition_label(&t->e, "reason", refusal_name((enum http_refusal)r));
        exposition_uint(&t->e, metrics_read(&t->shm->admin->refused[r]));
    }
}

void tell_limits(struct text *t, size_t offset)
{
    (void)offset;
    for (int i = 0; i < SHM_LIMITS; i++) {
        exposition_label(&t->e, "limit", shm_limit_name((enum shm_limit)i));
        exposition_uint(&t->e, metrics_read(&t->shm->limit[i]));
    }
}

/* ---- the rollout ---- */

void tell_rollout_state(struct text *t, size_t offset)
{
    static const char *const names[] = {[ROLLOUT_OFF] = "off",
                                        [ROLLOUT_SHADOW] = "shadow",
                                        [ROLLOUT_CANARY] = "canary",
                                        [ROLLOUT_TRIPPED] = "tripped"};
    enum rollout_mode mode = rollout_mode(atomic_load(&t->shm->rollout.word));

    (void)offset;
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        exposition_label(&t->e, "state", names[i]);
        exposition_uint(&t->e, (unsigned)mode == i);
    }
}

void tell_rollout_share(struct text *t, size_t offset)
{
    uint64_t word = atomic_load(&t->shm->rollout.word);
    bool is_on = rollout_mode(word) == ROLLOUT_SHADOW || rollout_mode(word) == ROLLOUT_CANARY;

    (void)offset;
    exposition_number(&t->e, is_on ? (double)rollout_parts(word) / ROLLOUT_ALL : 0);
}

/* Field of struct rollout_stats. */
void tell_arms(struct text *t, size_t offset)
{
    static const char *const names[ROLLOUT_ARMS] = {
        [ROLLOUT_STABLE] = "stable", [ROLLOUT_CANDIDATE] = "candidate"};

    for (int i = 0; i < ROLLOUT_ARMS; i++) {
        exposition_label(&t->e, "arm", names[i]);
        exposition_uint(&t->e, text_read_at(&t->shm->rollout.arm[i], offset));
    }
}
