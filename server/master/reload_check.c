/*
 * reload_check.c - what a reload would change, and whether that may be.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "master/internal.h"
#include "obs/log.h"
#include "obs/timestamp.h"

/* ---- what differs ---- */

static const char *place_name(const struct config *cfg, int i)
{
    return i < cfg->n_plugins && !cfg->plugin[i].is_removed ? cfg->plugin[i].name : NULL;
}

/* A plugin with a plan: its object and its options take effect step by step. */
static bool is_rolled_out(const struct config *cfg, const char *path)
{
    for (int i = 0; i < cfg->n_plugins && strncmp(path, "plugins.", 8) == 0; i++) {
        const struct config_plugin *p = &cfg->plugin[i];
        const char *name = place_name(cfg, i);
        size_t n = name != NULL ? strlen(name) : 0;

        if (n == 0 || !p->plan.is_on)
            continue;
        if (strncmp(path + 8, name, n) != 0)
            continue;
        if (strcmp(path + 8 + n, " (object)") == 0 || strcmp(path + 8 + n, ".module") == 0 ||
            strncmp(path + 8 + n, ".config", 7) == 0)
            return true;
    }
    return false;
}

void reload_find_changes(struct master *m)
{
    const struct generation *next = m->reload.next;
    struct changes *out = &m->reload.changes;

    config_diff(m->cfg, next->cfg, out);
    for (int i = 0; i < m->cfg->n_plugins; i++) {
        char from[CHANGE_TEXT], to[CHANGE_TEXT], path[160];

        if (place_name(m->cfg, i) == NULL || place_name(next->cfg, i) == NULL)
            continue;
        m->roles->describe(m->setup, i, from, sizeof from);
        m->roles->describe(next->setup, i, to, sizeof to);
        if (strcmp(from, to) == 0)
            continue;
        snprintf(path, sizeof path, "plugins.%s (object)", next->cfg->plugin[i].name);
        changes_add(out, '~', CHANGE_WORKERS, path, from, to);
    }
    for (int i = 0; i < out->n; i++)
        if (out->item[i].how == CHANGE_WORKERS && is_rolled_out(next->cfg, out->item[i].path))
            out->item[i].how = CHANGE_ROLLOUT;
}

const struct change *reload_find_refused(const struct changes *changes)
{
    for (int i = 0; i < changes->n; i++)
        if (changes->item[i].how == CHANGE_RESTART)
            return &changes->item[i];
    return NULL;
}

/* ---- quarantine ---- */

static bool is_current(const struct master *m, const char *sha256)
{
    for (int i = 0; i < m->cfg->n_plugins; i++)
        if (place_name(m->cfg, i) != NULL && strcmp(m->roles->digest(m->setup, i), sha256) == 0)
            return true;
    return false;
}

/* An object that is to be loaded anew. Who wants it all the same takes it out of quarantine. */
bool reload_find_banned(struct master *m, char *text, size_t size)
{
    const struct generation *next = m->reload.next;

    for (int i = 0; i < next->cfg->n_plugins && m->roles->digest != NULL; i++) {
        const char *sha256 = place_name(next->cfg, i) != NULL ? m->roles->digest(next->setup, i)
                                                              : "";
        const struct ban *ban = sha256[0] != '\0' ? bans_find(&m->bans, sha256) : NULL;

        if (ban == NULL || is_current(m, sha256))
            continue;
        if (m->reload.is_brave) {
            if (!m->reload.is_dry)
                bans_lift(m->cfg, &m->bans, sha256);
            continue;
        }
        snprintf(
            text, size,
            "plugin '%s': %s (version %s, sha256 %.12s) is in quarantine since %s: %s. Install "
            "another object, or try this one again with --force",
            config_plugin_name(&next->cfg->plugin[i]), m->roles->object(next->setup, i),
            ban->version, sha256, ban->when, ban->why);
        return true;
    }
    return false;
}

void reload_ban(struct master *m, const char *plugin, const char *version, const char *sha256,
                const char *why)
{
    struct ban ban;

    timestamp_format(clock_real_ns(), ban.when);
    snprintf(ban.sha256, sizeof ban.sha256, "%s", sha256);
    text_printable(ban.plugin, sizeof ban.plugin, plugin);
    text_printable(ban.version, sizeof ban.version, version);
    text_printable(ban.why, sizeof ban.why, why);
    bans_add(m->cfg, &m->bans, &ban);
    log_warn("plugin '%s': version %s (sha256 %.12s) is in quarantine: %s", ban.plugin, ban.version,
             sha256, ban.why);
    events_add(&m->events, EVENT_QUARANTINED, plugin, "version %s, sha256 %.12s: %s", ban.version,
               sha256, ban.why);
}

/* It crashed when it was tried. What runs already cannot be to blame. */
void reload_ban_culprit(struct master *m, const char *culprit, const char *said)
{
    const struct generation *next = m->reload.next;
    struct overlay_variant v;

    for (int i = 0; culprit[0] != '\0' && i < next->cfg->n_plugins; i++) {
        const char *sha256;

        if (place_name(next->cfg, i) == NULL || strcmp(next->cfg->plugin[i].name, culprit) != 0 ||
            m->roles->digest == NULL)
            continue;
        sha256 = m->roles->digest(next->setup, i);
        if (is_current(m, sha256) || m->roles->variant(next->cfg, next->setup, i, &v) < 0)
            continue;
        reload_ban(m, v.plugin, v.version, sha256, said);
        overlay_variant_fini(&v);
    }
}
