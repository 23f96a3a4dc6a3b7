/*
 * rollout_json.c - how the rollout goes, as JSON.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "master/rollout_internal.h"
#include "obs/timestamp.h"

const char *rollout_end_name(enum rollout_end end)
{
    static const char *const names[] = {[ROLLOUT_RUNS] = "running",
                                        [ROLLOUT_NOT_STARTED] = "not started",
                                        [ROLLOUT_PROMOTED] = "promoted",
                                        [ROLLOUT_ROLLED_BACK] = "rolled back",
                                        [ROLLOUT_ABORTED] = "aborted"};

    return names[end];
}

static json_t *time_json(int64_t real_ns)
{
    char text[TIMESTAMP_SIZE];

    if (real_ns == 0)
        return json_null();
    timestamp_format(real_ns, text);
    return json_string(text);
}

static json_t *variant_json(const struct overlay_variant *v)
{
    return json_pack("{s:s, s:s, s:s}", "version", v->version, "module",
                     v->module != NULL ? v->module : "", "sha256", v->sha256);
}

static json_t *quantile_json(const struct gate_counts *c, unsigned permille)
{
    double ms = gate_quantile_ms(c, permille);

    return ms < 0 ? json_null() : json_real(ms);
}

static json_t *arm_json(const struct master *m, enum rollout_arm arm,
                        const struct overlay_variant *v)
{
    json_t *json = variant_json(v);
    struct gate_counts c;

    rollout_read(m, arm, &c);
    json_object_set_new(json, "requests", json_integer((json_int_t)c.requests));
    json_object_set_new(json, "errors", json_integer((json_int_t)c.errors));
    json_object_set_new(json, "unfinished", json_integer((json_int_t)c.unfinished));
    json_object_set_new(json, "p50_ms", quantile_json(&c, 500));
    json_object_set_new(json, "p99_ms", quantile_json(&c, 990));
    return json;
}

static json_t *steps_json(const struct plan *plan)
{
    json_t *list = json_array();

    for (int i = 0; i < plan->n_steps; i++) {
        const struct plan_step *s = &plan->step[i];
        char parts[32];

        plan_print_parts(s->shadow != 0 ? s->shadow : s->canary, parts, sizeof parts);
        json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I}", "mode",
                                              s->shadow != 0 ? "shadow" : "canary", "weight", parts,
                                              "for_ms", (json_int_t)s->for_ms, "samples",
                                              (json_int_t)s->samples));
    }
    return list;
}

char *rollout_status(const struct master *m)
{
    const struct rollout_run *r = &m->rollout;
    uint64_t word = r->phase != ROLLOUT_IDLE ? atomic_load(&m->shm->rollout.word) : 0;
    char parts[32], hold[256] = "", *text;
    json_t *json;

    if (r->number == 0)
        return strdup("null");
    plan_print_parts(rollout_mode(word) == ROLLOUT_SHADOW || rollout_mode(word) == ROLLOUT_CANARY
                         ? rollout_parts(word)
                         : 0,
                     parts, sizeof parts);
    if (r->phase == ROLLOUT_STEPPING)
        rollout_judge(m, hold, sizeof hold);
    json = json_pack(
        "{s:I, s:s, s:s, s:s, s:s, s:b, s:b, s:s, s:o, s:o, s:i, s:o, s:s, s:s, s:I}", "number",
        (json_int_t)r->number, "plugin", r->stable.plugin, "phase", rollout_phase_name(r->phase),
        "result", rollout_end_name(r->end), "why", r->why, "paused", r->is_paused, "manual",
        r->plan.is_manual != 0, "by", r->by, "began", time_json(r->began_ns), "ended",
        time_json(r->ended_ns), "step", r->phase == ROLLOUT_STEPPING ? r->step + 1 : 0, "steps",
        steps_json(&r->plan), "weight", parts, "mode",
        rollout_mode(word) == ROLLOUT_SHADOW   ? "shadow"
        : rollout_mode(word) == ROLLOUT_CANARY ? "canary"
                                               : "off",
        "step_ms", (json_int_t)(r->phase == ROLLOUT_STEPPING ? clock_mono_ms() - r->step_ms : 0));
    json_object_set_new(json, "waits_for", hold[0] != '\0' ? json_string(hold) : json_null());
    json_object_set_new(json, "stable", arm_json(m, ROLLOUT_STABLE, &r->stable));
    json_object_set_new(json, "candidate", arm_json(m, ROLLOUT_CANDIDATE, &r->candidate));
    text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}
