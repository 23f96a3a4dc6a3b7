#include "master/events.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "obs/timestamp.h"

const char *event_name(enum event_kind kind)
{
    static const char *const names[EVENT_KINDS] = {
        [EVENT_STARTED] = "started",
        [EVENT_RELOADED] = "reloaded",
        [EVENT_RELOAD_FAILED] = "reload_failed",
        [EVENT_ROLLOUT] = "rollout",
        [EVENT_PROMOTED] = "rollout_promoted",
        [EVENT_ROLLED_BACK] = "rollout_rolled_back",
        [EVENT_ROLLOUT_ABORTED] = "rollout_aborted",
        [EVENT_QUARANTINED] = "quarantined",
        [EVENT_WORKER_ENDED] = "worker_ended",
        [EVENT_CRASHED] = "crashed",
        [EVENT_BREAKER] = "breaker",
        [EVENT_ALERT_FIRED] = "alert_firing",
        [EVENT_ALERT_ENDED] = "alert_resolved",
        [EVENT_PLUGIN] = "plugin",
    };

    return names[kind];
}

void events_add(struct events *e, enum event_kind kind, const char *plugin, const char *fmt, ...)
{
    struct event *at = &e->kept[e->n % EVENTS_KEPT];
    char text[sizeof at->text];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    *at = (struct event){.number = ++e->n, .time_ns = clock_real_ns(), .kind = kind};
    text_printable(at->plugin, sizeof at->plugin, plugin != NULL ? plugin : "");
    text_printable(at->text, sizeof at->text, text);
}

/* Of each plugin, when last looked at. */
static struct {
    uint64_t crashes;
    bool is_open;
    uint32_t blocked[QUARANTINE_BLOCKS]; /* routes; 0: none */
} seen[CONFIG_MAX_PLACES];

void events_note_breaker(int place, bool is_open)
{
    seen[place].is_open = is_open;
    if (!is_open)
        memset(seen[place].blocked, 0, sizeof seen[place].blocked);
}

static void look_at_routes(struct master *m, int place)
{
    const struct quarantine *q = &m->shm->plugin[place].quarantine;
    const char *plugin = m->cfg->plugin[place].name;

    for (int i = 0; i < QUARANTINE_BLOCKS; i++) {
        uint32_t *was = &seen[place].blocked[i], route = quarantine_route_of(&q->block[i]);

        if (route != 0 && breaker_is_closed(&q->block[i].breaker))
            route = 0;
        if (*was != 0 && *was != route)
            events_add(&m->events, EVENT_BREAKER, plugin, "route '%s' is let in again",
                       config_route_name(m->cfg, *was));
        if (route != 0 && *was != route)
            events_add(
                &m->events, EVENT_BREAKER, plugin,
                "route '%s' is blocked: it crashes there again and again; other routes go on",
                config_route_name(m->cfg, route));
        *was = route;
    }
}

/* Of one worker, so many a second at most: others' events shall not be pushed out by a plugin's that has
 * gone mad. */
#define TOLD_AT_ONCE 16

static void look_at_notices(struct master *m, uint32_t slot)
{
    static struct {
        const struct shm *of;
        uint32_t seen[CONFIG_MAX_WORKERS * 2];
    } known;
    const struct notices *from = &m->shm->worker[slot].notices;
    uint32_t lost, skipped = 0;
    struct notice got;

    if (known.of != m->shm) {
        memset(&known, 0, sizeof known);
        known.of = m->shm;
    }
    if (slot >= sizeof known.seen / sizeof known.seen[0])
        return;
    for (int told = 0; notice_read(from, &known.seen[slot], &got, &lost);) {
        const char *plugin = got.plugin > 0 && got.plugin <= (uint32_t)m->cfg->n_plugins
                                 ? m->cfg->plugin[got.plugin - 1].name
                                 : NULL;
        struct event *e;

        skipped += lost;
        if (plugin == NULL || told == TOLD_AT_ONCE) {
            skipped++;
            continue;
        }
        if (skipped > 0)
            events_add(&m->events, EVENT_PLUGIN, plugin, "%s (and %u more of this worker)",
                       got.text, skipped);
        else
            events_add(&m->events, EVENT_PLUGIN, plugin, "%s", got.text);
        e = &m->events.kept[(m->events.n - 1) % EVENTS_KEPT];
        text_printable(e->name, sizeof e->name, got.name);
        e->time_ns = got.time_ns;
        skipped = 0;
        told++;
    }
}

void events_look(struct master *m, int64_t now_ms)
{
    static int64_t next_ms;

    if (now_ms < next_ms || m->phase != MASTER_SERVING)
        return;
    next_ms = now_ms + 1000;
    for (int i = 0; i < m->cfg->n_plugins && i < CONFIG_MAX_PLACES; i++) {
        const struct shm_plugin *s = &m->shm->plugin[i];
        uint64_t crashes = atomic_load(&s->crashes);
        bool is_open = !breaker_is_closed(&s->quarantine.breaker);
        const char *name = m->cfg->plugin[i].name;

        if (crashes > seen[i].crashes)
            events_add(&m->events, EVENT_CRASHED, name, "%llu crash%s",
                       (unsigned long long)(crashes - seen[i].crashes),
                       crashes - seen[i].crashes == 1 ? "" : "es");
        if (is_open != seen[i].is_open)
            events_add(&m->events, EVENT_BREAKER, name, "its breaker %s",
                       is_open ? "is open: it is not called" : "is closed again");
        seen[i].crashes = crashes;
        seen[i].is_open = is_open;
        look_at_routes(m, i);
    }
    alerts_look(m);
    for (uint32_t i = 0; i < m->shm->n_workers; i++)
        look_at_notices(m, i);
}

char *events_json(const struct events *e, uint32_t after)
{
    json_t *list = json_array(), *json;
    uint32_t first = e->n > EVENTS_KEPT ? e->n - EVENTS_KEPT : 0;
    char *text;

    if (after > e->n)
        after = 0; /* of a server that was here before */
    for (uint32_t i = after > first ? after : first; i < e->n; i++) {
        const struct event *at = &e->kept[i % EVENTS_KEPT];
        char time[TIMESTAMP_SIZE];

        timestamp_format(at->time_ns, time);
        json_array_append_new(
            list, json_pack("{s:I, s:s, s:s, s:o, s:s*, s:s}", "number", (json_int_t)at->number,
                            "time", time, "kind", event_name(at->kind), "plugin",
                            at->plugin[0] != '\0' ? json_string(at->plugin) : json_null(), "name",
                            at->name[0] != '\0' ? at->name : NULL, "text", at->text));
    }
    json = json_pack("{s:o, s:I}", "events", list, "last", (json_int_t)e->n);
    text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}
