/*
 * reload.c - another config, and other plugins, without losing a request.
 *
 * One transaction. The config and its plugins are loaded and tried; workers with them are forked and
 * open all plugins, beside those that serve (PREPARE). Only when every one of them is ready do they
 * take over the posts, all in one turn of the loop, and the old ones hand over what is idle and finish
 * the rest (COMMIT). Whatever goes wrong before that leaves everything as it was.
 *
 * What a newcomer would get wrong: nothing in here waits. The loop goes on turning meanwhile, workers
 * die and are replaced, by such with the config that is current then.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fd.h"
#include "base/urgency.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "master/notify.h"
#include "obs/log.h"

/* ---- the end ---- */

/* The end of the one under way, or of one that got nowhere. stage: NULL, all went well. errors: a line
 * each. */
void reload_finish(struct master *m, const char *state, const char *stage, const char *errors)
{
    struct reload *r = &m->reload;
    char **result = &r->result[r->id % RELOAD_RESULTS];
    reload_ended *ended = r->ended;

    r->has_failed = stage != NULL;
    if (!r->is_dry)
        publish_reload(m, r->has_failed);
    free(*result);
    *result = reload_tell(r, state, stage, m->generation->number, errors, r->why, sizeof r->why);
    r->result_ns = clock_real_ns();
    if (stage != NULL)
        log_error("%s: the reload failed (%s), generation %" PRIu64 " goes on serving: %s",
                  r->reason, stage, m->generation->number,
                  r->why[0] != '\0' ? r->why : "see above");
    if (stage != NULL)
        reload_drop_saved(m);
    changes_fini(&r->changes);
    preflight_end(&r->preflight);
    if (r->listeners.fd != NULL)
        listen_close(&r->listeners);
    admin_abandon(m);
    if (r->next != NULL) {
        struct generation *next = r->next;

        r->next = NULL;
        generation_discard(m, next);
    }
    if (r->state != RELOAD_IDLE)
        notify_systemd("READY=1");
    r->state = RELOAD_IDLE;
    overlay_fini(&r->overlay);
    if (!r->is_dry)
        events_add(&m->events, stage != NULL ? EVENT_RELOAD_FAILED : EVENT_RELOADED, NULL,
                   "%s: %s%s%s (generation %" PRIu64 ")", r->reason, state,
                   stage != NULL ? ": " : "", stage != NULL ? r->why : "", m->generation->number);
    r->ended = NULL;
    if (ended != NULL)
        ended(m, stage == NULL);
}

char *reload_result(const struct master *m, uint32_t id)
{
    const struct reload *r = &m->reload;

    const char *result = r->result[id % RELOAD_RESULTS];

    if (id > r->id || r->id - id >= RELOAD_RESULTS)
        return NULL;
    if (id == r->id && (r->state != RELOAD_IDLE || r->is_taking))
        return strdup("{\"state\":\"running\"}");
    return result != NULL ? strdup(result) : NULL;
}

/* ---- the way to commit ---- */

/* The config file and the objects, as they are now. */
static int load(struct master *m)
{
    struct reload *r = &m->reload;
    bool in_use[CONFIG_MAX_PLACES] = {false};
    struct generation *next = calloc(1, sizeof *next);
    struct diag diag;
    char text[8192];
    int result;

    if (next == NULL) {
        reload_finish(m, "failed", "config", "out of memory");
        return -ENOMEM;
    }
    for (const struct generation *g = m->generation; g != NULL; g = g->older)
        for (int i = 0; i < g->cfg->n_plugins; i++)
            in_use[i] |= !g->cfg->plugin[i].is_removed;
    next->keys.fd = -1;
    diag_init(&diag);
    result = m->roles->load(m->cfg, m->setup, in_use, &r->overlay, r->is_fresh, &diag, &next->cfg,
                            &next->setup);
    diag_format_all(&diag, text, sizeof text);
    diag_fini(&diag);
    if (result < 0) {
        free(next);
        reload_finish(m, "failed", "config", text[0] != '\0' ? text : strerror(-result));
        return result;
    }
    next->number = m->generation->number + 1;
    r->next = next;
    return 0;
}

/* state_fd is taken over; -1: there is nothing to restore. */
static int begin_trial(struct master *m, int state_fd)
{
    struct reload *r = &m->reload;
    int result;

    reload_mark(m, RELOAD_CHECKED);
    result = preflight_start(r->next->cfg, r->next->setup, m->shm, m, m->roles, 0, &m->user,
                             &m->listeners, "nothing was changed", state_fd, &r->preflight);
    fd_close(&state_fd);
    if (result < 0) {
        reload_finish(m, "failed", "preflight", strerror(-result));
        return result;
    }
    r->state = RELOAD_TRYING;
    return 0;
}

/* Of a signal, or a file that changed, which nobody waits for an answer to. */
static void come_again(struct reload *r, const char *reason, unsigned flags)
{
    r->is_wanted_again = true;
    r->flags_again |= flags;
    r->reason_again = reason;
}

/* Workers of earlier generations that finish what they have begun take up places, of which there are
 * so many: what a signal or a file asks for comes when there is room again, and who can be told is. */
static bool has_room(struct master *m, unsigned flags, bool can_wait)
{
    struct reload *r = &m->reload;
    char text[256];
    int n = 0;

    if (posts_count_free(m) >= m->cfg->n_workers)
        return true;
    for (int i = 0; i < m->n_slots; i++)
        n += child_is_alive(&m->worker[i]) && m->worker[i].gen != m->generation;
    snprintf(text, sizeof text,
             "%d workers of earlier reloads still finish their requests, and there is no place for "
             "more: try again in a moment (limits.timeouts.drain is %u ms)",
             n, m->cfg->limits.drain_ms);
    if (!can_wait) {
        reload_finish(m, "failed", "prepare", text);
    } else {
        come_again(r, r->reason, flags);
        log_warn("%s: put off: %s", r->reason, text);
    }
    return false;
}

int reload_begin(struct master *m, const char *reason, unsigned flags,
                 const struct reload_variants *variants, uint32_t *id)
{
    bool is_dry = (flags & RELOAD_DRY) != 0, is_forced = (flags & RELOAD_ANYWAY) != 0;
    struct reload *r = &m->reload;
    const struct change *refused;
    char text[1024];
    int result;

    if (m->phase > MASTER_SERVING || m->roles->load == NULL || m->upgrade.pid != 0)
        return -EBUSY;
    /* What the start has read of the file may be what it was before. */
    if (m->phase == MASTER_STARTING || r->state != RELOAD_IDLE) {
        if (id != NULL)
            return -EBUSY;
        come_again(r, reason, flags);
        return 0;
    }
    urgency_be_modest();
    reload_times_end(m); /* of the last one */
    memset(r->mark_ns, 0, sizeof r->mark_ns);
    reload_mark(m, RELOAD_BEGUN);
    r->id++;
    if (id != NULL)
        *id = r->id;
    r->reason = reason;
    r->is_dry = is_dry;
    r->began_ms = clock_mono_ms();
    r->ended = variants != NULL ? variants->ended : NULL;
    if (!is_dry && !has_room(m, flags, id == NULL && variants == NULL))
        return -EAGAIN;
    result = overlay_copy(variants != NULL ? variants->overlay : &m->overlay, &r->overlay);
    if (result < 0) {
        reload_finish(m, "failed", "config", strerror(-result));
        return result;
    }
    r->is_brave = (flags & RELOAD_FORCE) != 0;
    if (r->is_brave)
        overlay_drop_all(&r->overlay);
    log_debug("%s: %s", reason, is_dry ? "what would change?" : "loading the config anew");
    result = load(m);
    if (result < 0)
        return result;
    if (variants == NULL && !is_dry && !r->is_brave) {
        result = rollout_adopt(m, r->next, reason, &r->overlay, &r->ended, text, sizeof text);
        if (result < 0) {
            reload_finish(m, "failed", "rollout", text);
            return result;
        }
        if (result > 0) { /* once more, with both versions */
            struct generation *next = r->next;

            r->next = NULL;
            generation_discard(m, next);
            result = load(m);
            if (result < 0)
                return result;
        }
    }
    reload_find_changes(m);
    if (variants != NULL && variants->check != NULL) {
        const char *why = variants->check(m, r->next);

        if (why != NULL) {
            reload_finish(m, "failed", "rollout", why);
            return -EINVAL;
        }
    }
    if (reload_find_banned(m, text, sizeof text)) {
        reload_finish(m, "failed", "quarantine", text);
        return -EPERM;
    }
    if (r->changes.n == 0 && !is_forced && !is_dry) {
        log_debug("%s: nothing has changed", reason);
        reload_finish(m, "unchanged", NULL, NULL);
        return 0;
    }
    refused = reload_find_refused(&r->changes);
    if (refused != NULL) {
        snprintf(text, sizeof text,
                 "%s: %s cannot be changed by a reload: put it back, or restart the server%s",
                 m->cfg->path, refused->path,
                 strncmp(refused->path, "control", 7) == 0 ? "" : " (or upgrade it: SIGUSR2)");
        reload_finish(m, "failed", "config", text);
        return -EPERM;
    }
    if (!is_dry)
        notify_reloading();
    if (reload_ask_for_state(m)) {
        r->state = RELOAD_ASKING;
        return 0;
    }
    return begin_trial(m, -1);
}

static void reopen_log(const struct master *m)
{
    int r = log_open(m->cfg->log.path, m->cfg->log.level, (enum log_format)m->cfg->log.format);

    if (r < 0)
        log_error("cannot open the error log %s: %s; it stays where it was", m->cfg->log.path,
                  strerror(-r));
    log_tell_repeats(true);
    log_set_role("master");
    log_limit_repeats(m->cfg->log.repeats);
}

static void commit(struct master *m)
{
    struct reload *r = &m->reload;
    struct generation *next = r->next;
    struct listen_set old = m->listeners;
    const struct config *before = m->cfg;
    int n = r->changes.n;

    reload_mark(m, RELOAD_COMMITTED);
    next->older = m->generation;
    m->generation = next;
    m->cfg = next->cfg;
    m->setup = next->setup;
    escrow_change_config(m, before);
    overlay_fini(&m->overlay);
    m->overlay = r->overlay;
    r->overlay = (struct overlay){.n = 0};
    if (m->overlay.rollout.number == 0)
        kept_save(m, &m->overlay, NULL);
    m->listeners = r->listeners;
    r->listeners = (struct listen_set){0};
    r->next = NULL;
    listen_shut_door(&old, &m->listeners);
    urgency_be_usual();
    posts_change_generation(m); /* before all that can wait: who is on the way waits for it */
    urgency_be_modest();
    reopen_log(m);
    listen_share_paths(&old, &m->listeners);
    listen_close(&old);
    publish_generation(m);
    admin_commit(m);
    exporter_commit(m);
    follow_commit(m);
    reload_finish(m, "done", NULL, NULL);
    reload_times_begin(m, n);
}

static void end_trial(struct master *m, int result)
{
    struct reload *r = &m->reload;

    if (result == -ENOEXEC) {
        char said[8192];

        snprintf(said, sizeof said, "%s", preflight_said(r->preflight));
        if (!r->is_dry)
            reload_ban_culprit(m, preflight_culprit(r->preflight), "it crashed when it was tried");
        reload_finish(m, "failed", "preflight", said);
    } else if (result < 0) {
        reload_finish(m, "failed", "preflight", strerror(-result));
    } else if (r->is_dry) {
        reload_finish(m, "dry run", NULL, NULL);
    } else {
        preflight_end(&r->preflight);
        reload_mark(m, RELOAD_TRIED);
        reload_prepare(m);
    }
}

void reload_tick(struct master *m, int64_t now_ms)
{
    struct reload *r = &m->reload;
    int result;

    reload_times_tick(m);
    if (r->state == RELOAD_PREPARING && r->mark_ns[RELOAD_PREPARED] == 0 && reload_is_prepared(m))
        reload_mark(m, RELOAD_PREPARED);
    if (r->state == RELOAD_ASKING) {
        int state_fd;

        if (reload_is_answered(m, now_ms, &state_fd))
            begin_trial(m, state_fd);
    } else if (r->state == RELOAD_TRYING && (result = preflight_step(r->preflight)) != -EAGAIN)
        end_trial(m, result);
    else if (r->state == RELOAD_PREPARING && reload_is_prepared(m) &&
             m->roles->moves_state != NULL && m->roles->moves_state(m->setup, r->next->setup))
        reload_begin_saving(m, now_ms);
    else if ((r->state == RELOAD_PREPARING && reload_is_prepared(m)) ||
             (r->state == RELOAD_SAVING && reload_is_saved(m, now_ms)))
        commit(m);
    follow_tick(m, now_ms);
    if (m->generation->older == NULL && !r->is_wanted_again)
        return;
    reload_sweep(m);
    if (r->is_wanted_again && r->state == RELOAD_IDLE && m->phase == MASTER_SERVING &&
        posts_count_free(m) >= m->cfg->n_workers) {
        unsigned flags = r->flags_again;

        r->is_wanted_again = false;
        r->flags_again = 0;
        reload_begin(m, r->reason_again, flags, NULL, NULL);
    }
}

void reload_abandon(struct master *m, const char *why)
{
    reload_times_end(m);
    m->reload.is_wanted_again = false;
    if (m->reload.state >= RELOAD_PREPARING)
        reload_fail_prepare(m, why);
    else if (m->reload.state != RELOAD_IDLE)
        reload_finish(m, "failed", "preflight", why);
}

void reload_fini(struct master *m)
{
    while (m->generation != NULL) {
        struct generation *g = m->generation;

        m->generation = g->older;
        fd_close(&g->keys.fd);
        if (g->is_borrowed)
            free(g); /* the files go with their folder */
        else
            generation_discard(m, g);
    }
    for (int i = 0; i < RELOAD_RESULTS; i++) {
        free(m->reload.result[i]);
        m->reload.result[i] = NULL;
    }
    overlay_fini(&m->reload.overlay);
    overlay_fini(&m->overlay);
    free(m->kept);
    m->kept = NULL;
}
