#include "exporter/alert_text.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "conf/config.h"
#include "exporter/rule.h"
#include "obs/sample.h"
#include "obs/timestamp.h"
#include "obs/utf8.h"

#define WECOM_MAX 4096 /* bytes of a message, as its documentation says */

/* ---- common ---- */

static json_t *text_json(const char *s, size_t n)
{
    json_t *json = json_stringn(s, n);
    struct buffer b = {0};

    if (json != NULL)
        return json;
    while (n > 0) { /* it is no UTF-8 */
        size_t k = utf8_length(s, n);

        if (k > 0)
            buffer_add(&b, s, k);
        else
            buffer_text(&b, UTF8_REPLACEMENT);
        k += k == 0;
        s += k;
        n -= k;
    }
    json = json_stringn(b.p != NULL ? b.p : "", b.n);
    buffer_fini(&b);
    return json;
}

static json_t *time_json(int64_t ns)
{
    char text[TIMESTAMP_SIZE];

    return json_stringn(text, timestamp_format(ns, text));
}

/* Those of the metric, then of the rule, which win. */
static json_t *labels_json(const struct alert *a, const char *instance)
{
    const char *at = a->is.labels, *end = at + strlen(at), *name;
    json_t *json = json_object();
    char value[512], key[128];
    size_t n;

    if (instance != NULL)
        json_object_set_new(json, "instance", text_json(instance, strlen(instance)));
    while (sample_next_label(&at, end, &name, &n, value, sizeof value)) {
        snprintf(key, sizeof key, "%.*s", (int)n, name);
        json_object_set_new(json, key, text_json(value, strlen(value)));
    }
    for (int i = 0; i < a->rule->n_labels; i++)
        json_object_set_new(json, a->rule->label[i].name,
                            text_json(a->rule->label[i].value, strlen(a->rule->label[i].value)));
    json_object_set_new(json, "alertname", text_json(a->rule->name, strlen(a->rule->name)));
    return json;
}

static void print_value(double v, char *buf, size_t size)
{
    snprintf(buf, size, "%.6g", v);
}

static json_t *annotations_json(const struct alert *a)
{
    json_t *json = json_object();
    char value[32];

    for (int i = 0; i < a->rule->n_annotations; i++)
        json_object_set_new(
            json, a->rule->annotation[i].name,
            text_json(a->rule->annotation[i].value, strlen(a->rule->annotation[i].value)));
    print_value(a->is.value, value, sizeof value);
    if (json_object_get(json, "value") == NULL)
        json_object_set_new(json, "value", json_string(value));
    if (json_object_get(json, "condition") == NULL)
        json_object_set_new(json, "condition",
                            json_sprintf("%s %s", a->rule->metric, a->rule->when));
    return json;
}

static bool is_over(const struct alert *a)
{
    return a->is.state == ALERT_RESOLVED;
}

static char *dump(json_t *json, size_t *n)
{
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    *n = text != NULL ? strlen(text) : 0;
    return text;
}

/* ---- Alertmanager ---- */

/* POST /api/v2/alerts. What goes on gets an end, too: when nobody repeats it, it is over. */
static char *alertmanager_text(const struct alert_message *m, size_t *n)
{
    json_t *list = json_array();

    for (int i = 0; i < m->n; i++) {
        const struct alert *a = m->alert[i];
        int64_t end_ns = is_over(a) ? a->is.ended_ns : m->now_ns + 4 * ALERT_RESEND_MS * 1000000ll;

        json_array_append_new(
            list, json_pack("{s:o, s:o, s:o, s:o}", "labels", labels_json(a, m->instance),
                            "annotations", annotations_json(a), "startsAt",
                            time_json(a->is.began_ns), "endsAt", time_json(end_ns)));
    }
    return dump(list, n);
}

/* ---- a webhook, as Alertmanager calls them: version 4 ---- */

/* FNV-1a. */
static uint64_t fingerprint(const struct alert *a)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (const char *p = a->rule->name; *p != '\0'; p++)
        h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    for (const char *p = a->is.labels; *p != '\0'; p++)
        h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    return h;
}

/* What all of them have alike. */
static json_t *common(const json_t *list, const char *member)
{
    json_t *json = json_deep_copy(json_object_get(json_array_get(list, 0), member));
    const char *key;
    json_t *value;
    void *next;
    size_t i;

    for (i = 1; i < json_array_size(list); i++)
        json_object_foreach_safe(json, next, key, value)
        {
            const json_t *other = json_object_get(json_array_get(list, i), member);

            if (!json_equal(value, json_object_get(other, key)))
                json_object_del(json, key);
        }
    return json != NULL ? json : json_object();
}

static char *webhook_text(const struct alert_message *m, size_t *n)
{
    json_t *list = json_array(), *json;
    bool is_firing = false;

    for (int i = 0; i < m->n; i++) {
        const struct alert *a = m->alert[i];

        is_firing |= !is_over(a);
        json_array_append_new(
            list,
            json_pack("{s:s, s:o, s:o, s:o, s:o, s:s, s:o, s:f}", "status",
                      is_over(a) ? "resolved" : "firing", "labels", labels_json(a, m->instance),
                      "annotations", annotations_json(a), "startsAt", time_json(a->is.began_ns),
                      "endsAt",
                      is_over(a) ? time_json(a->is.ended_ns) : json_string("0001-01-01T00:00:00Z"),
                      "generatorURL", "", "fingerprint",
                      json_sprintf("%016" PRIx64, fingerprint(a)), "value", a->is.value));
    }
    json = json_pack("{s:s, s:s, s:i, s:s, s:s, s:{}, s:o, s:o, s:s, s:o}", "version", "4",
                     "groupKey", "bulkhead", "truncatedAlerts", 0, "status",
                     is_firing ? "firing" : "resolved", "receiver", m->to->name, "groupLabels",
                     "commonLabels", common(list, "labels"), "commonAnnotations",
                     common(list, "annotations"), "externalURL", "", "alerts", list);
    return dump(json, n);
}

/* ---- a robot of WeCom ---- */

/* Markdown of its kind: no markup comes from a value, no line either. */
static void put_plain(struct buffer *b, const char *s)
{
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        char plain = c == '<' || c == '['               ? '('
                     : c == '>' || c == ']'             ? ')'
                     : c < ' ' || c == 0x7f || c == '`' ? ' '
                                                        : (char)c;

        buffer_add(b, &plain, 1);
    }
}

static void put_line(struct buffer *b, const char *name, const char *value)
{
    buffer_text(b, "\n> ");
    put_plain(b, name);
    buffer_text(b, ": ");
    put_plain(b, value);
}

static void put_alert(struct buffer *b, const struct alert *a, const char *instance)
{
    char value[32], stamp[TIMESTAMP_SIZE];
    json_t *labels = labels_json(a, instance), *label;
    const char *name;

    buffer_text(b, is_over(a) ? "<font color=\"info\">RESOLVED</font> **"
                              : "<font color=\"warning\">FIRING</font> **");
    put_plain(b, a->rule->name);
    buffer_text(b, "**: ");
    put_plain(b, a->rule->metric);
    print_value(a->is.value, value, sizeof value);
    buffer_printf(b, " is %s (alert when ", value);
    buffer_text(b, a->rule->when); /* an operator and a number */
    if (a->rule->for_ms > 0)
        buffer_printf(b, " for %" PRIu32 " s", a->rule->for_ms / 1000);
    buffer_text(b, ")");
    json_object_foreach(labels, name, label)
    {
        if (strcmp(name, "alertname") != 0)
            put_line(b, name, json_string_value(label));
    }
    json_decref(labels);
    for (int i = 0; i < a->rule->n_annotations; i++)
        put_line(b, a->rule->annotation[i].name, a->rule->annotation[i].value);
    timestamp_format(is_over(a) ? a->is.ended_ns : a->is.began_ns, stamp);
    put_line(b, is_over(a) ? "over since" : "since", stamp);
    buffer_text(b, "\n");
}

static char *wecom_text(const struct alert_message *m, size_t *n)
{
    struct buffer b = {0};
    json_t *content;
    int i;

    for (i = 0; i < m->n; i++) {
        size_t before = b.n;

        put_alert(&b, m->alert[i], m->instance);
        if (b.n > WECOM_MAX - 64) {
            b.n = before;
            break;
        }
    }
    if (i < m->n)
        buffer_printf(&b, "... and %d more: `bulkhead alerts`\n", m->n - i);
    content = text_json(b.p != NULL ? b.p : "", b.n);
    buffer_fini(&b);
    return dump(json_pack("{s:s, s:{s:o}}", "msgtype", "markdown", "markdown", "content", content),
                n);
}

char *alert_text(const struct alert_message *m, size_t *n)
{
    switch (m->to->type) {
    case CONFIG_ALERTMANAGER: return alertmanager_text(m, n);
    case CONFIG_WECOM: return wecom_text(m, n);
    default: return webhook_text(m, n);
    }
}
