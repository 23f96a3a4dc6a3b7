/*
 * rollout_judge.c - may a rollout go on? Crashes, gates, samples.
 */
#include <inttypes.h>
#include <stdio.h>

#include "ipc/series.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "master/rollout_internal.h"

/* ---- the metric of its gate ---- */

static int place_of(const struct master *m, enum rollout_arm arm)
{
    return arm == ROLLOUT_STABLE ? m->cfg->rollout.stable : m->cfg->rollout.candidate;
}

/* A counter counts by request, since the arms do not have as many; of a histogram it is the mean; both since
 * the step began. A gauge is what it is. n == 0: there is no value. */
static struct gate_metric read_metric(const struct master *m, enum rollout_arm arm)
{
    const struct rollout_run *r = &m->rollout;
    uint64_t requests = atomic_load(&m->shm->rollout.arm[arm].requests);
    struct series_reading now;
    double gain;

    if (series_read(m->shm, (uint32_t)place_of(m, arm), r->plan.gate.metric, &now) < 0)
        return (struct gate_metric){.n = 0};
    gain = now.value - r->metric[arm].value;
    switch (now.type) {
    case SERIES_COUNTER: return gate_counter(gain, requests);
    case SERIES_HISTOGRAM:
        now.count -= now.count >= r->metric[arm].count ? r->metric[arm].count : now.count;
        return gate_mean(gain, now.count);
    default: return gate_gauge(now.value);
    }
}

void rollout_note_metric(struct master *m)
{
    struct rollout_run *r = &m->rollout;

    for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
        struct series_reading now = {.value = 0};

        if (r->plan.gate.metric != NULL)
            series_read(m->shm, (uint32_t)place_of(m, arm), r->plan.gate.metric, &now);
        r->metric[arm].value = now.value;
        r->metric[arm].count = now.count;
    }
}

/* That it is better is asked for before the promotion, which is the end of the last step. */
static enum gate_verdict judge_metric(const struct master *m, char *why, size_t size)
{
    const struct rollout_run *r = &m->rollout;
    const struct plan_gate *g = &r->plan.gate;
    struct gate_metric stable = read_metric(m, ROLLOUT_STABLE);
    struct gate_metric candidate = read_metric(m, ROLLOUT_CANDIDATE);
    bool is_last = r->step + 1 >= r->plan.n_steps ||
                   r->plan.step[r->step + 1].canary == ROLLOUT_ALL;
    enum gate_verdict verdict = gate_metric(&stable, &candidate, is_last ? g->improves_by : 0,
                                            g->worsens_by, g->lower_is_better != 0);
    char by[32];

    plan_print_parts(verdict == GATE_BAD ? g->worsens_by : g->improves_by, by, sizeof by);
    if (stable.n == 0 || candidate.n == 0) {
        if (!is_last)
            return GATE_OPEN; /* a shadow may never come to where it is measured */
        snprintf(why, size, "waiting for the metric %s of the %s version", g->metric,
                 stable.n == 0 ? "stable" : "new");
        return GATE_WAITING;
    }
    if (verdict == GATE_BAD)
        snprintf(why, size, "its metric %s is worse by more than %s: %.6g, the stable one's %.6g",
                 g->metric, by, candidate.value, stable.value);
    else if (verdict == GATE_WAITING)
        snprintf(why, size,
                 "waiting for the metric %s to be better by %s: it is %.6g, the stable one's %.6g",
                 g->metric, by, candidate.value, stable.value);
    return verdict;
}

/* ---- all of it ---- */

void rollout_read(const struct master *m, enum rollout_arm arm, struct gate_counts *out)
{
    const struct rollout_stats *s = &m->shm->rollout.arm[arm];

    out->requests = atomic_load(&s->requests);
    out->errors = atomic_load(&s->errors);
    out->unfinished = atomic_load(&s->unfinished);
    for (int i = 0; i < ROLLOUT_BUCKETS; i++)
        out->slow[i] = atomic_load(&s->slow[i]);
}

/* What the candidate has done that ends a rollout at once; NULL: nothing. */
const char *rollout_find_crash(const struct master *m)
{
    const struct shm_plugin *s = &m->shm->plugin[m->cfg->rollout.candidate];

    if (atomic_load(&s->worker_deaths) > 0)
        return "it killed a worker";
    if (atomic_load(&s->deadlines) > 0)
        return "a call of it ran past its deadline";
    if (atomic_load(&s->crashes) > 0)
        return "it crashed";
    if (atomic_load(&s->ejections) > 0)
        return "it was ejected from a worker";
    if (rollout_mode(atomic_load(&m->shm->rollout.word)) == ROLLOUT_TRIPPED)
        return "it crashed or ran past its deadline";
    return NULL;
}

enum gate_verdict rollout_judge(const struct master *m, char *why, size_t size)
{
    const struct rollout_run *r = &m->rollout;
    const struct plan_step *s = &r->plan.step[r->step];
    enum gate_verdict errors = GATE_OPEN, latency = GATE_OPEN;
    struct gate_counts stable, candidate;

    rollout_read(m, ROLLOUT_STABLE, &stable);
    rollout_read(m, ROLLOUT_CANDIDATE, &candidate);
    if (r->plan.has_errors)
        errors = gate_errors(&stable, &candidate, r->plan.samples);
    /* A shadow's time is that of its hooks alone: not to be compared. */
    if (r->plan.has_latency && s->canary != 0)
        latency = gate_latency(&stable, &candidate, r->plan.samples);
    if (errors == GATE_BAD) {
        snprintf(why, size,
                 "it fails more often: %" PRIu64 " of %" PRIu64 " requests, the stable one %" PRIu64
                 " of %" PRIu64,
                 candidate.errors, candidate.requests, stable.errors, stable.requests);
        return GATE_BAD;
    }
    if (latency == GATE_BAD) {
        snprintf(why, size, "it is slow more often: p99 %.3g ms, the stable one %.3g ms",
                 gate_quantile_ms(&candidate, 990), gate_quantile_ms(&stable, 990));
        return GATE_BAD;
    }
    if (errors == GATE_WAITING || latency == GATE_WAITING || candidate.requests < s->samples) {
        uint64_t wanted = s->samples > r->plan.samples ||
                                  (!r->plan.has_errors && !r->plan.has_latency)
                              ? s->samples
                              : r->plan.samples;

        snprintf(
            why, size, "waiting for requests: %" PRIu64 " of %" PRIu64 " (stable: %" PRIu64 ")%s",
            candidate.requests, wanted, stable.requests,
            wanted > s->samples ? "; errors and times are judged after so many in each version "
                                  "(the rollout's samples)"
                                : "");
        return GATE_WAITING;
    }
    return r->plan.gate.metric != NULL ? judge_metric(m, why, size) : GATE_OPEN;
}
