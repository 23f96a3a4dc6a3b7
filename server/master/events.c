#include "master/events.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
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
        [EVENT_BREAKER] = "breaker",
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
