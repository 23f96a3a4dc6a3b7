/*
 * rollout_start.c - how a rollout begins: by a command, or by a reload that meets a plugin with `rollout:`.
 */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/text.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "master/rollout_internal.h"
#include "obs/log.h"

#define PLAN_SIZE (1u << 20)

/* One that somebody asks for. The last one stays as it is, for who wants to go back or to look at it, until
 * it is certain that this one is begun. */
struct draft {
    struct arena arena; /* of the plan */
    struct plan plan;
    struct overlay_variant stable, candidate;
};

static void draft_init(struct draft *d)
{
    *d = (struct draft){.plan.n_steps = 0};
    arena_init(&d->arena, PLAN_SIZE);
}

static void draft_fini(struct draft *d)
{
    overlay_variant_fini(&d->stable);
    overlay_variant_fini(&d->candidate);
    arena_fini(&d->arena);
}

/* It becomes the one under way; nothing of it stays in the draft. */
static void draft_take(struct draft *d, struct rollout_run *r)
{
    overlay_variant_fini(&r->stable);
    overlay_variant_fini(&r->candidate);
    arena_fini(&r->arena);
    r->arena = d->arena;
    r->plan = d->plan;
    r->stable = d->stable;
    r->candidate = d->candidate;
    draft_init(d);
}

/* The candidate is loaded beside the stable one, in all workers. */
static void started(struct master *m, bool is_done)
{
    struct rollout_run *r = &m->rollout;
    struct overlay_variant *candidate = &m->overlay.rollout.candidate, now;

    if (!is_done) {
        r->end = ROLLOUT_NOT_STARTED;
        r->ended_ns = clock_real_ns();
        snprintf(r->why, sizeof r->why, "%.*s", (int)sizeof r->why - 1, m->reload.why);
        rollout_set_phase(r, ROLLOUT_IDLE);
        kept_save(m, &m->overlay, NULL);
        rollout_tell(m, EVENT_ROLLOUT_ABORTED, "not started: %s", r->why);
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
    rollout_set_phase(r, ROLLOUT_STEPPING);
    rollout_begin_step(m, 0);
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

static int read_plan(const struct master *m, const json_t *request, int place, struct draft *d,
                     char *why, size_t size)
{
    json_t *rollout = json_object_get(request, "rollout");
    char *text = rollout != NULL ? json_dumps(rollout, JSON_COMPACT) : NULL;
    struct diag diag;
    int result = 0;

    if (text == NULL && m->cfg->plugin[place].plan.is_on) {
        /* It lies in the config's arena, which ends with its generation. */
        result = plan_copy(&m->cfg->plugin[place].plan, &d->arena, &d->plan);
        snprintf(why, size, "%s", "out of memory");
        return result;
    }
    diag_init(&diag);
    result = plan_parse(text, "rollout", &d->arena, &diag, &d->plan);
    if (result < 0 && diag.n > 0)
        snprintf(why, size, "%s%s%s", diag.item[0].what, diag.item[0].hint != NULL ? "; " : "",
                 diag.item[0].hint != NULL ? diag.item[0].hint : "");
    else if (result < 0)
        snprintf(why, size, "%s", strerror(-result));
    diag_fini(&diag);
    free(text);
    return result;
}

static int make_overlay(struct master *m, const struct draft *d, struct overlay *out)
{
    struct overlay_variant stable;
    int result = overlay_copy(&m->overlay, out);

    if (result < 0)
        return result;
    result = overlay_variant_copy(&d->stable, &stable);
    if (result == 0) {
        result = overlay_put(out, &stable);
        overlay_variant_fini(&stable);
    }
    if (result == 0)
        result = overlay_variant_copy(&d->candidate, &out->rollout.candidate);
    if (result == 0 && d->plan.key_name != NULL &&
        (out->rollout.key_name = strdup(d->plan.key_name)) == NULL)
        result = -ENOMEM;
    out->rollout.number = m->rollout.number + 1;
    out->rollout.key = d->plan.key;
    if (result == 0 && getrandom(out->rollout.salt, sizeof out->rollout.salt, 0) !=
                           (ssize_t)sizeof out->rollout.salt)
        result = -EIO;
    if (result < 0)
        overlay_fini(out);
    return result;
}

/* What is to be rolled out is known: notes what serves, and what is to be loaded. */
static int prepare(struct master *m, struct draft *d, const char *by, struct overlay *overlay,
                   char *why, size_t size)
{
    struct rollout_run *r = &m->rollout;
    pid_t other = 0;
    int result = kept_claim(m, &other);

    if (result == -EBUSY) {
        snprintf(
            why, size,
            "another server, pid %d, runs with this config and has its state in %s: give one of "
            "them another state.dir",
            (int)other, m->cfg->state.dir);
        return result;
    }
    if (result == 0)
        result = rollout_keep(m, &d->stable);

    if (result < 0) {
        snprintf(why, size,
                 "the version that serves cannot be kept in %s, for the case that this server is "
                 "killed: %s (state.dir in the config)",
                 m->cfg->state.dir, strerror(-result));
        return result;
    }
    result = make_overlay(m, d, overlay);
    if (result < 0) {
        snprintf(why, size, "%s",
                 result == -ENOSPC ? "too many plugins run in another version than the file's"
                                   : strerror(-result));
        return result;
    }
    result = kept_save(m, overlay, d->stable.plugin);
    if (result < 0) {
        overlay_fini(overlay);
        snprintf(why, size, "what serves cannot be noted in %s: %s (state.dir in the config)",
                 m->cfg->state.dir, strerror(-result));
        return result;
    }
    draft_take(d, r);
    r->number++;
    text_printable(r->by, sizeof r->by, by);
    r->end = ROLLOUT_RUNS;
    r->why[0] = '\0';
    r->is_paused = false;
    r->step = 0;
    r->requests = 0;
    r->began_ns = clock_real_ns();
    r->ended_ns = 0;
    rollout_clear(&m->shm->rollout);
    rollout_set_phase(r, ROLLOUT_STARTING);
    return 0;
}

/* JSON as of rollout_start(). */
static char *begin(struct master *m, struct draft *d, const char *by, bool is_brave)
{
    struct reload_variants variants = {.ended = started, .check = check};
    struct overlay overlay;
    uint32_t id = 0;
    char why[512], *text;

    if (prepare(m, d, by, &overlay, why, sizeof why) < 0)
        return rollout_refuse(false, "%s", why);
    variants.overlay = &overlay;
    reload_begin(m, "rollout", RELOAD_ANYWAY | (is_brave ? RELOAD_FORCE : 0), &variants, &id);
    overlay_fini(&overlay);
    return asprintf(&text, "{\"id\":%u}", (unsigned)id) < 0 ? NULL : text;
}

char *rollout_start(struct master *m, const char *request)
{
    const struct rollout_run *r = &m->rollout;
    json_t *json = json_loads(request, JSON_REJECT_DUPLICATES, NULL);
    const char *name = json_string_value(json_object_get(json, "plugin"));
    const char *by = json_string_value(json_object_get(json, "by"));
    int place = find_place(m->cfg, name), result;
    char why[512], *answer;
    struct draft draft;

    draft_init(&draft);
    if (m->phase != MASTER_SERVING || m->reload.state != RELOAD_IDLE || m->upgrade.pid != 0) {
        answer = rollout_refuse(
            false, "the server is starting, stopping, being upgraded, or reloads just now");
        goto out;
    }
    if (r->phase != ROLLOUT_IDLE) {
        answer = rollout_refuse(
            false,
            "a rollout of plugin '%s' is under way, and there is one at a time: wait, or "
            "end it with: bulkhead rollout abort",
            r->stable.plugin);
        goto out;
    }
    if (place < 0) {
        answer = rollout_refuse(true, "%s%s%s",
                                name != NULL ? "there is no plugin '" : "no plugin is named",
                                name != NULL ? name : "",
                                name != NULL ? "' in the config; bulkhead status lists them" : "");
        goto out;
    }
    result = read_plan(m, json, place, &draft, why, sizeof why);
    if (result < 0) {
        answer = rollout_refuse(true, "%s", why);
        goto out;
    }
    result = m->roles->variant(m->cfg, m->setup, place, &draft.stable);
    if (result == 0)
        result = make_candidate(json, &draft.stable, &draft.candidate);
    if (result < 0) {
        answer = rollout_refuse(result == -EINVAL, "%s", rollout_no_variant(result));
        goto out;
    }
    answer = begin(m, &draft, by != NULL ? by : "?", json_is_true(json_object_get(json, "force")));

out:
    draft_fini(&draft);
    json_decref(json);
    return answer;
}

/* ---- by a reload ---- */

/* Plugin i has a plan, and is another now. */
static bool is_another(struct master *m, const struct generation *next, int i)
{
    struct overlay_variant before, now;
    bool is = false;

    if (i >= m->cfg->n_plugins || m->cfg->plugin[i].is_removed || next->cfg->plugin[i].is_removed ||
        !next->cfg->plugin[i].plan.is_on || next->cfg->plugin[i].candidate_of != NULL ||
        m->roles->variant == NULL || m->roles->variant(m->cfg, m->setup, i, &before) < 0)
        return false;
    if (m->roles->variant(next->cfg, next->setup, i, &now) == 0) {
        is = strcmp(before.sha256, now.sha256) != 0 || !text_is_same(before.options, now.options);
        overlay_variant_fini(&now);
    }
    overlay_variant_fini(&before);
    return is;
}

/* What is to be rolled out is what the file says. */
static int take_from_file(struct master *m, const struct generation *next, int place,
                          struct draft *d)
{
    int result = plan_copy(&next->cfg->plugin[place].plan, &d->arena, &d->plan);

    if (result == 0)
        result = m->roles->variant(m->cfg, m->setup, place, &d->stable);
    if (result < 0)
        return result;
    d->candidate = (struct overlay_variant){.plugin = strdup(d->stable.plugin), .version = "new"};
    return d->candidate.plugin != NULL ? 0 : -ENOMEM;
}

int rollout_adopt(struct master *m, const struct generation *next, const char *reason,
                  struct overlay *overlay, void (**ended)(struct master *, bool), char *why,
                  size_t size)
{
    const struct rollout_run *r = &m->rollout;
    struct overlay out;
    struct draft draft;
    int place = -1, result;

    for (int i = 0; i < next->cfg->n_plugins; i++) {
        if (!is_another(m, next, i))
            continue;
        if (place >= 0 || r->phase != ROLLOUT_IDLE) {
            snprintf(
                why, size,
                "plugin '%s' is to be rolled out (it has `rollout:`), but so is '%s', and there "
                "is one rollout at a time: put one of them back for now, or take both at once "
                "with bulkhead reload --force",
                next->cfg->plugin[i].name,
                place >= 0 ? next->cfg->plugin[place].name : r->stable.plugin);
            return -EINVAL;
        }
        place = i;
    }
    if (place < 0)
        return 0;
    draft_init(&draft);
    result = take_from_file(m, next, place, &draft);
    if (result < 0)
        snprintf(why, size, "%s", strerror(-result));
    else
        result = prepare(m, &draft, reason, &out, why, size);
    draft_fini(&draft);
    if (result < 0)
        return result;
    overlay_fini(overlay);
    *overlay = out;
    *ended = started;
    return 1;
}
