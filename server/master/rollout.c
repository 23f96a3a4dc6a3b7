#include "master/rollout.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "ipc/control.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "master/rollout_internal.h"
#include "obs/log.h"

#define LOOK_MS   100  /* between two looks at the counters */
#define LATE_MS   2000 /* between two tries to take the losing arm out */
#define PLAN_SIZE (1u << 20)

static const char *const phase_names[] = {[ROLLOUT_IDLE] = "idle",
                                          [ROLLOUT_STARTING] = "starting",
                                          [ROLLOUT_STEPPING] = "stepping",
                                          [ROLLOUT_ENDING] = "ending"};

const char *rollout_phase_name(enum rollout_phase phase)
{
    return phase_names[phase];
}

void rollout_init(struct master *m)
{
    m->rollout = (struct rollout_run){.phase = ROLLOUT_IDLE};
    arena_init(&m->rollout.arena, PLAN_SIZE);
}

void rollout_fini(struct master *m)
{
    overlay_variant_fini(&m->rollout.stable);
    overlay_variant_fini(&m->rollout.candidate);
    arena_fini(&m->rollout.arena);
}

/* The one place where the phase changes. */
void rollout_set_phase(struct rollout_run *r, enum rollout_phase phase)
{
    log_debug("rollout of plugin '%s': %s -> %s", r->stable.plugin, phase_names[r->phase],
              phase_names[phase]);
    r->phase = phase;
}

void rollout_tell(struct master *m, enum event_kind kind, const char *fmt, ...)
{
    const struct rollout_run *r = &m->rollout;
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    events_add(&m->events, kind, r->stable.plugin, "%s -> %s: %s", r->stable.version,
               r->candidate.version, text);
    if (kind == EVENT_ROLLED_BACK)
        log_error("plugin '%s': rollout %s -> %s: %s", r->stable.plugin, r->stable.version,
                  r->candidate.version, text);
    else
        log_info("plugin '%s': rollout %s -> %s: %s", r->stable.plugin, r->stable.version,
                 r->candidate.version, text);
}

/* ---- the end ---- */

static void reload_to_end(struct master *m, int64_t now_ms);

void rollout_leave(struct master *m, enum rollout_end end, const char *why)
{
    struct rollout_run *r = &m->rollout;
    bool has_won = end == ROLLOUT_PROMOTED;

    /* The word first: from here on all requests get the winner. */
    rollout_set(&m->shm->rollout, r->number, has_won ? ROLLOUT_CANARY : ROLLOUT_OFF,
                has_won ? ROLLOUT_ALL : 0);
    r->end = end;
    r->ended_ns = clock_real_ns();
    r->is_paused = false;
    snprintf(r->why, sizeof r->why, "%s", why);
    rollout_set_phase(r, ROLLOUT_ENDING);
    if (end == ROLLOUT_ROLLED_BACK)
        reload_ban(m, r->stable.plugin, r->candidate.version, r->candidate.sha256, why);
    rollout_tell(m,
                 has_won                      ? EVENT_PROMOTED
                 : end == ROLLOUT_ROLLED_BACK ? EVENT_ROLLED_BACK
                                              : EVENT_ROLLOUT_ABORTED,
                 "%s: %s", rollout_end_name(end), why);
    r->late_ms = 0;
    reload_to_end(m, clock_mono_ms());
}

static void ended(struct master *m, bool is_done)
{
    struct rollout_run *r = &m->rollout;

    if (is_done) {
        /* The word stays: workers with both arms may serve for a moment more. */
        rollout_set_phase(r, ROLLOUT_IDLE);
        return;
    }
    r->late_ms = clock_mono_ms() + LATE_MS;
    log_warn("plugin '%s': the version that is out cannot be unloaded yet: %s; it gets no request",
             r->stable.plugin, m->reload.why);
}

/* Its object, so that it is there after a restart. */
int rollout_keep(struct master *m, struct overlay_variant *v)
{
    char *path;
    int r = kept_object(m->cfg, v->object, v->sha256, &path);

    if (r < 0) {
        log_error("plugin '%s': version %s cannot be kept in %s: %s (state.dir)", v->plugin,
                  v->version, m->cfg->state.dir, strerror(-r));
        return r;
    }
    free(v->object);
    v->object = path;
    return 0;
}

/* The file may have been spoilt meanwhile, or another reload be under way: later, then. */
static void reload_to_end(struct master *m, int64_t now_ms)
{
    struct rollout_run *r = &m->rollout;
    struct reload_variants variants = {.ended = ended};
    struct overlay_variant winner;
    struct overlay overlay;

    if (m->reload.state != RELOAD_IDLE || now_ms < r->late_ms || m->phase != MASTER_SERVING)
        return;
    r->late_ms = now_ms + LATE_MS;
    if (overlay_copy(&m->overlay, &overlay) < 0)
        return;
    overlay_end_rollout(&overlay);
    if (overlay_variant_copy(r->end == ROLLOUT_PROMOTED ? &r->candidate : &r->stable, &winner) ==
        0) {
        memcpy(winner.signature, r->stable.signature, sizeof winner.signature);
        rollout_keep(m, &winner);
        overlay_put(&overlay, &winner);
        variants.overlay = &overlay;
        reload_begin(m, r->end == ROLLOUT_PROMOTED ? "promotion" : "rollback", RELOAD_ANYWAY,
                     &variants, NULL);
    }
    overlay_variant_fini(&winner);
    overlay_fini(&overlay);
}

/* ---- steps ---- */

static void describe_step(const struct plan_step *s, char *buf, size_t size)
{
    char parts[32];

    plan_print_parts(s->shadow != 0 ? s->shadow : s->canary, parts, sizeof parts);
    snprintf(buf, size, "%s %s", s->shadow != 0 ? "shadow" : "canary", parts);
}

void rollout_begin_step(struct master *m, int step)
{
    struct rollout_run *r = &m->rollout;
    const struct plan_step *s;
    char text[64];

    r->requests += atomic_load(&m->shm->rollout.arm[ROLLOUT_CANDIDATE].requests);
    if (step >= r->plan.n_steps || r->plan.step[step].canary == ROLLOUT_ALL) {
        rollout_leave(m, ROLLOUT_PROMOTED, r->why[0] != '\0' ? r->why : "all steps went well");
        return;
    }
    s = &r->plan.step[step];
    r->step = step;
    rollout_note_metric(m);
    r->step_ms = clock_mono_ms();
    /* Each step is judged by itself: with another weight the arms are not to be compared by sums. */
    rollout_clear(&m->shm->rollout);
    rollout_set(&m->shm->rollout, r->number, s->shadow != 0 ? ROLLOUT_SHADOW : ROLLOUT_CANARY,
                s->shadow != 0 ? s->shadow : s->canary);
    describe_step(s, text, sizeof text);
    rollout_tell(m, EVENT_ROLLOUT, "step %d of %d: %s", step + 1, r->plan.n_steps, text);
}

void rollout_tick(struct master *m, int64_t now_ms)
{
    struct rollout_run *r = &m->rollout;
    enum gate_verdict verdict;
    const char *crash;
    char why[256];

    if (r->phase == ROLLOUT_ENDING)
        reload_to_end(m, now_ms);
    if (r->phase != ROLLOUT_STEPPING || now_ms < r->due_ms || m->phase != MASTER_SERVING)
        return;
    r->due_ms = now_ms + LOOK_MS;
    crash = rollout_find_crash(m);
    if (crash != NULL) {
        rollout_leave(m, ROLLOUT_ROLLED_BACK, crash);
        return;
    }
    verdict = rollout_judge(m, why, sizeof why);
    if (verdict == GATE_BAD)
        rollout_leave(m, ROLLOUT_ROLLED_BACK, why);
    else if (verdict == GATE_OPEN && !r->is_paused && !r->plan.is_manual &&
             now_ms - r->step_ms >= r->plan.step[r->step].for_ms)
        rollout_begin_step(m, r->step + 1);
}

int64_t rollout_next_ms(const struct master *m)
{
    const struct rollout_run *r = &m->rollout;

    if (r->phase == ROLLOUT_STEPPING)
        return r->due_ms;
    return r->phase == ROLLOUT_ENDING && m->reload.state == RELOAD_IDLE ? r->late_ms : INT64_MAX;
}

/* ---- by hand ---- */

char *rollout_refuse(bool is_input, const char *fmt, ...)
{
    char text[1024], clean[sizeof text], *out;
    json_t *json;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    text_printable(clean, sizeof clean, text);
    json = json_pack("{s:s, s:b}", "error", clean, "is_input", is_input);
    out = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return out;
}

const char *rollout_no_variant(int result)
{
    return result == -ENOMEM ? "out of memory"
           : result == -ENOENT
               ? "the config file is not there: what it says of the plugin has to be noted"
               : "the config file has mistakes: try bulkhead check";
}

static char *say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static char *say(const char *fmt, ...)
{
    char text[512], *out;
    json_t *json;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json = json_pack("{s:s}", "says", text);
    out = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return out;
}

/* It was promoted, and is found to be bad after all. Its object was kept for this. */
static char *go_back(struct master *m, const char *who)
{
    struct rollout_run *r = &m->rollout;
    struct overlay_variant now = {.plugin = NULL};
    int place = -1, result;

    for (int i = 0; i < m->cfg->n_plugins; i++)
        if (!m->cfg->plugin[i].is_removed && strcmp(m->cfg->plugin[i].name, r->stable.plugin) == 0)
            place = i;
    if (m->reload.state != RELOAD_IDLE || m->phase != MASTER_SERVING)
        return rollout_refuse(false, "the server reloads, starts or stops just now: try again");
    result = place >= 0 ? m->roles->variant(m->cfg, m->setup, place, &now) : 0;
    if (result < 0)
        return rollout_refuse(false, "%s", rollout_no_variant(result));
    if (place < 0 || strcmp(now.sha256, r->candidate.sha256) != 0) {
        overlay_variant_fini(&now);
        return rollout_refuse(false, "plugin '%s' is not what was promoted any more",
                              r->stable.plugin);
    }
    /* The file may have been changed since, with that very object. */
    memcpy(r->stable.signature, now.signature, sizeof r->stable.signature);
    overlay_variant_fini(&now);
    r->end = ROLLOUT_ROLLED_BACK;
    r->ended_ns = clock_real_ns();
    snprintf(r->why, sizeof r->why, "after the promotion, by %s", who);
    rollout_set_phase(r, ROLLOUT_ENDING);
    reload_ban(m, r->stable.plugin, r->candidate.version, r->candidate.sha256, r->why);
    rollout_tell(m, EVENT_ROLLED_BACK, "%s: %s", rollout_end_name(r->end), r->why);
    r->late_ms = 0;
    reload_to_end(m, clock_mono_ms());
    return say("rolled back: %s comes back", r->stable.version);
}

char *rollout_do(struct master *m, int what, const char *by)
{
    struct rollout_run *r = &m->rollout;
    char who[64], why[128];

    text_printable(who, sizeof who, by[0] != '\0' ? by : "hand");
    if (what < CONTROL_ROLLOUT_PAUSE || what > CONTROL_ROLLOUT_BACK)
        return rollout_refuse(true, "there is no such command");
    if (what == CONTROL_ROLLOUT_BACK && r->phase == ROLLOUT_IDLE && r->end == ROLLOUT_PROMOTED)
        return go_back(m, who);
    if (r->phase != ROLLOUT_STEPPING)
        return rollout_refuse(false, "no rollout is under way%s",
                              r->phase == ROLLOUT_STARTING ? " yet: it is being prepared"
                              : r->phase == ROLLOUT_ENDING ? " any more: it is being tidied up"
                                                           : "");
    snprintf(why, sizeof why, "by %s", who);
    switch (what) {
    case CONTROL_ROLLOUT_PAUSE:
    case CONTROL_ROLLOUT_RESUME:
        if (r->is_paused == (what == CONTROL_ROLLOUT_PAUSE))
            return say("it %s already", r->is_paused ? "is paused" : "goes on");
        r->is_paused = !r->is_paused;
        rollout_tell(m, EVENT_ROLLOUT, "%s %s", r->is_paused ? "paused" : "resumed", why);
        return say("%s",
                   r->is_paused ? "paused: the weight stays, and so do the gates" : "it goes on");
    case CONTROL_ROLLOUT_STEP:
        rollout_begin_step(m, r->step + 1);
        return say("%s",
                   r->phase == ROLLOUT_STEPPING ? "the next step" : "promoted: that was the last");
    case CONTROL_ROLLOUT_PROMOTE: rollout_leave(m, ROLLOUT_PROMOTED, why); break;
    case CONTROL_ROLLOUT_ABORT: rollout_leave(m, ROLLOUT_ABORTED, why); break;
    default: rollout_leave(m, ROLLOUT_ROLLED_BACK, why); break;
    }
    return say("%s: all requests get %s", rollout_end_name(r->end),
               r->end == ROLLOUT_PROMOTED ? r->candidate.version : r->stable.version);
}
