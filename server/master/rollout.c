#include "master/rollout.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/text.h"
#include "ipc/control.h"
#include "ipc/shm.h"
#include "master/gate.h"
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
static void set_phase(struct rollout_run *r, enum rollout_phase phase)
{
    log_debug("rollout of plugin '%s': %s -> %s", r->stable.plugin, phase_names[r->phase],
              phase_names[phase]);
    r->phase = phase;
}

__attribute__((format(printf, 3, 4))) static void tell(struct master *m, enum event_kind kind,
                                                       const char *fmt, ...)
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
    set_phase(r, ROLLOUT_ENDING);
    if (end == ROLLOUT_ROLLED_BACK)
        reload_ban(m, r->stable.plugin, r->candidate.version, r->candidate.sha256, why);
    tell(m,
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
        set_phase(r, ROLLOUT_IDLE);
        return;
    }
    r->late_ms = clock_mono_ms() + LATE_MS;
    log_warn("plugin '%s': the version that is out cannot be unloaded yet: %s; it gets no request",
             r->stable.plugin, m->reload.why);
}

/* Its object, so that it is there after a restart. */
static int keep(struct master *m, struct overlay_variant *v)
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
        keep(m, &winner);
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

static void begin_step(struct master *m, int step)
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
    r->step_ms = clock_mono_ms();
    /* Each step is judged by itself: with another weight the arms are not to be compared by sums. */
    rollout_clear(&m->shm->rollout);
    rollout_set(&m->shm->rollout, r->number, s->shadow != 0 ? ROLLOUT_SHADOW : ROLLOUT_CANARY,
                s->shadow != 0 ? s->shadow : s->canary);
    describe_step(s, text, sizeof text);
    tell(m, EVENT_ROLLOUT, "step %d of %d: %s", step + 1, r->plan.n_steps, text);
}

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
static const char *find_crash(const struct master *m)
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

        snprintf(why, size,
                 "waiting for requests: %" PRIu64 " of %" PRIu64 " (stable: %" PRIu64 ")",
                 candidate.requests, wanted, stable.requests);
        return GATE_WAITING;
    }
    return GATE_OPEN;
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
    crash = find_crash(m);
    if (crash != NULL) {
        rollout_leave(m, ROLLOUT_ROLLED_BACK, crash);
        return;
    }
    verdict = rollout_judge(m, why, sizeof why);
    if (verdict == GATE_BAD)
        rollout_leave(m, ROLLOUT_ROLLED_BACK, why);
    else if (verdict == GATE_OPEN && !r->is_paused && !r->plan.is_manual &&
             now_ms - r->step_ms >= r->plan.step[r->step].for_ms)
        begin_step(m, r->step + 1);
}

int64_t rollout_next_ms(const struct master *m)
{
    const struct rollout_run *r = &m->rollout;

    if (r->phase == ROLLOUT_STEPPING)
        return r->due_ms;
    return r->phase == ROLLOUT_ENDING && m->reload.state == RELOAD_IDLE ? r->late_ms : INT64_MAX;
}

/* ---- the start ---- */

/* The candidate is loaded beside the stable one, in all workers. */
static void started(struct master *m, bool is_done)
{
    struct rollout_run *r = &m->rollout;
    struct overlay_variant *candidate = &m->overlay.rollout.candidate, now;

    if (!is_done) {
        r->end = ROLLOUT_NOT_STARTED;
        r->ended_ns = clock_real_ns();
        snprintf(r->why, sizeof r->why, "%.*s", (int)sizeof r->why - 1, m->reload.why);
        set_phase(r, ROLLOUT_IDLE);
        kept_save(m, &m->overlay, NULL);
        tell(m, EVENT_ROLLOUT_ABORTED, "not started: %s", r->why);
        return;
    }
    /* From here on it is this very object, whatever the file comes to be. */
    if (m->roles->variant(m->cfg, m->setup, m->cfg->rollout.candidate, &now) == 0) {
        overlay_variant_fini(candidate);
        *candidate = now;
        overlay_variant_fini(&r->candidate);
        if (overlay_variant_copy(candidate, &r->candidate) < 0)
            log_error("rollout: out of memory");
    }
    set_phase(r, ROLLOUT_STEPPING);
    begin_step(m, 0);
}

static const char *check(struct master *m, const struct generation *next)
{
    const struct rollout_run *r = &m->rollout;
    static char why[512];
    struct overlay_variant v;
    bool is_same;

    why[0] = '\0';
    if (m->roles->variant(next->cfg, next->setup, next->cfg->rollout.candidate, &v) < 0)
        return "out of memory, or the config file has mistakes: try bulkhead check";
    is_same = strcmp(v.sha256, r->stable.sha256) == 0 && text_is_same(v.options, r->stable.options);
    if (is_same)
        snprintf(why, sizeof why,
                 "nothing to roll out: %s is the same object with the same options as plugin '%s', "
                 "%s; install the new one first, or name it with --module",
                 v.module, v.plugin, v.version);
    overlay_variant_fini(&v);
    return why[0] != '\0' ? why : NULL;
}

static int find_place(const struct config *cfg, const char *name)
{
    for (int i = 0; name != NULL && i < cfg->n_plugins; i++)
        if (!cfg->plugin[i].is_removed && cfg->plugin[i].candidate_of == NULL &&
            strcmp(cfg->plugin[i].name, name) == 0)
            return i;
    return -1;
}

static char *refuse(bool is_input, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static char *refuse(bool is_input, const char *fmt, ...)
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

/* As somebody asks for it: options that are given, or some of them. */
static int make_candidate(const json_t *request, const struct overlay_variant *stable,
                          struct overlay_variant *out)
{
    const char *module = json_string_value(json_object_get(request, "module"));
    json_t *options = json_object_get(request, "config"), *set = json_object_get(request, "set");

    *out = (struct overlay_variant){.plugin = strdup(stable->plugin), .version = "new"};
    if (out->plugin == NULL)
        return -ENOMEM;
    if (module != NULL && (out->module = strdup(module)) == NULL)
        return -ENOMEM;
    json_incref(options);
    if (options == NULL && json_is_object(set))
        options = json_loads(stable->options, 0, NULL);
    if (options != NULL && json_is_object(set))
        json_object_update(options, set);
    if (json_is_object(options))
        out->options = json_dumps(options, JSON_COMPACT);
    json_decref(options);
    return 0;
}

static int read_plan(struct master *m, const json_t *request, int place, char *why, size_t size)
{
    struct rollout_run *r = &m->rollout;
    json_t *rollout = json_object_get(request, "rollout");
    char *text = rollout != NULL ? json_dumps(rollout, JSON_COMPACT) : NULL;
    struct diag diag;
    int result = 0;

    arena_fini(&r->arena);
    arena_init(&r->arena, PLAN_SIZE);
    if (text == NULL && m->cfg->plugin[place].plan.is_on) {
        /* It lies in the config's arena, which ends with its generation. */
        result = plan_copy(&m->cfg->plugin[place].plan, &r->arena, &r->plan);
        snprintf(why, size, "%s", "out of memory");
        return result;
    }
    diag_init(&diag);
    result = plan_parse(text, "rollout", &r->arena, &diag, &r->plan);
    if (result < 0 && diag.n > 0)
        snprintf(why, size, "%s%s%s", diag.item[0].what, diag.item[0].hint != NULL ? "; " : "",
                 diag.item[0].hint != NULL ? diag.item[0].hint : "");
    else if (result < 0)
        snprintf(why, size, "%s", strerror(-result));
    diag_fini(&diag);
    free(text);
    return result;
}

static int make_overlay(struct master *m, struct overlay *out)
{
    const struct rollout_run *r = &m->rollout;
    struct overlay_variant stable;
    int result = overlay_copy(&m->overlay, out);

    if (result < 0)
        return result;
    result = overlay_variant_copy(&r->stable, &stable);
    if (result == 0) {
        result = overlay_put(out, &stable);
        overlay_variant_fini(&stable);
    }
    if (result == 0)
        result = overlay_variant_copy(&r->candidate, &out->rollout.candidate);
    if (result == 0 && r->plan.key_name != NULL &&
        (out->rollout.key_name = strdup(r->plan.key_name)) == NULL)
        result = -ENOMEM;
    out->rollout.number = r->number;
    out->rollout.key = r->plan.key;
    if (result == 0 && getrandom(out->rollout.salt, sizeof out->rollout.salt, 0) !=
                           (ssize_t)sizeof out->rollout.salt)
        result = -EIO;
    if (result < 0)
        overlay_fini(out);
    return result;
}

/* What is to be rolled out is known. JSON as of rollout_start(). */
static char *begin(struct master *m, const char *by, uint32_t number, bool is_brave)
{
    struct rollout_run *r = &m->rollout;
    struct reload_variants variants = {.ended = started, .check = check};
    struct overlay overlay;
    uint32_t id = 0;
    char *text;
    int result;

    r->number = number;
    result = keep(m, &r->stable);
    if (result < 0)
        return refuse(
            false,
            "the version that serves cannot be kept in %s, for the case that this server is "
            "killed: %s (state.dir in the config)",
            m->cfg->state.dir, strerror(-result));
    result = make_overlay(m, &overlay);
    if (result < 0)
        return refuse(false, "%s",
                      result == -ENOSPC ? "too many plugins run in another version than the file's"
                                        : strerror(-result));
    result = kept_save(m, &overlay, r->stable.plugin);
    if (result < 0) {
        overlay_fini(&overlay);
        return refuse(false, "what serves cannot be noted in %s: %s (state.dir in the config)",
                      m->cfg->state.dir, strerror(-result));
    }
    text_printable(r->by, sizeof r->by, by);
    r->end = ROLLOUT_RUNS;
    r->why[0] = '\0';
    r->is_paused = false;
    r->step = 0;
    r->requests = 0;
    r->began_ns = clock_real_ns();
    r->ended_ns = 0;
    rollout_clear(&m->shm->rollout);
    set_phase(r, ROLLOUT_STARTING);
    variants.overlay = &overlay;
    reload_begin(m, "rollout", RELOAD_ANYWAY | (is_brave ? RELOAD_FORCE : 0), &variants, &id);
    overlay_fini(&overlay);
    return asprintf(&text, "{\"id\":%u}", (unsigned)id) < 0 ? NULL : text;
}

char *rollout_start(struct master *m, const char *request)
{
    struct rollout_run *r = &m->rollout;
    json_t *json = json_loads(request, JSON_REJECT_DUPLICATES, NULL);
    const char *name = json_string_value(json_object_get(json, "plugin"));
    const char *by = json_string_value(json_object_get(json, "by"));
    int place = find_place(m->cfg, name), result;
    char why[512], *answer;

    if (m->phase != MASTER_SERVING || m->reload.state != RELOAD_IDLE || m->upgrade.pid != 0) {
        answer = refuse(false,
                        "the server is starting, stopping, being upgraded, or reloads just now");
        goto out;
    }
    if (r->phase != ROLLOUT_IDLE) {
        answer = refuse(
            false,
            "a rollout of plugin '%s' is under way, and there is one at a time: wait, or "
            "end it with: bulkhead rollout abort",
            r->stable.plugin);
        goto out;
    }
    if (place < 0) {
        answer = refuse(true, "%s%s%s",
                        name != NULL ? "there is no plugin '" : "no plugin is named",
                        name != NULL ? name : "",
                        name != NULL ? "' in the config; bulkhead status lists them" : "");
        goto out;
    }
    result = read_plan(m, json, place, why, sizeof why);
    if (result < 0) {
        answer = refuse(true, "%s", why);
        goto out;
    }
    overlay_variant_fini(&r->stable);
    overlay_variant_fini(&r->candidate);
    result = m->roles->variant(m->cfg, m->setup, place, &r->stable);
    if (result == 0)
        result = make_candidate(json, &r->stable, &r->candidate);
    if (result < 0) {
        answer = refuse(result == -EINVAL, "%s",
                        result == -EINVAL ? "the config file has mistakes: try bulkhead check"
                                          : strerror(-result));
        goto out;
    }
    answer = begin(m, by != NULL ? by : "?", r->number + 1,
                   json_is_true(json_object_get(json, "force")));

out:
    json_decref(json);
    return answer;
}

/* ---- by hand ---- */

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

char *rollout_do(struct master *m, int what, const char *by)
{
    struct rollout_run *r = &m->rollout;
    char who[64], why[128];

    text_printable(who, sizeof who, by[0] != '\0' ? by : "hand");
    if (what < CONTROL_ROLLOUT_PAUSE || what > CONTROL_ROLLOUT_BACK)
        return refuse(true, "there is no such command");
    if (r->phase != ROLLOUT_STEPPING)
        return refuse(false, "no rollout is under way%s",
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
        tell(m, EVENT_ROLLOUT, "%s %s", r->is_paused ? "paused" : "resumed", why);
        return say("%s",
                   r->is_paused ? "paused: the weight stays, and so do the gates" : "it goes on");
    case CONTROL_ROLLOUT_STEP:
        begin_step(m, r->step + 1);
        return say("%s",
                   r->phase == ROLLOUT_STEPPING ? "the next step" : "promoted: that was the last");
    case CONTROL_ROLLOUT_PROMOTE: rollout_leave(m, ROLLOUT_PROMOTED, why); break;
    case CONTROL_ROLLOUT_ABORT: rollout_leave(m, ROLLOUT_ABORTED, why); break;
    default: rollout_leave(m, ROLLOUT_ROLLED_BACK, why); break;
    }
    return say("%s: all requests get %s", rollout_end_name(r->end),
               r->end == ROLLOUT_PROMOTED ? r->candidate.version : r->stable.version);
}
