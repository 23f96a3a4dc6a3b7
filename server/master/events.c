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
} seen[CONFIG_MAX_PLACES];

void events_note_breaker(int place, bool is_open)
{
    seen[place].is_open = is_open;
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
    }
    alerts_look(m);
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
            list, json_pack("{s:I, s:s, s:s, s:o, s:s}", "number", (json_int_t)at->number, "time",
                            time, "kind", event_name(at->kind), "plugin",
                            at->plugin[0] != '\0' ? json_string(at->plugin) : json_null(), "text",
                            at->text));
    }
    json = json_pack("{s:o, s:I}", "events", list, "last", (json_int_t)e->n);
    text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}
