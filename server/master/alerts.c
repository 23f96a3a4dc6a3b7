/*
 * alerts.c - what the exporter has found, told: `bulkhead alerts`, `bulkhead status`.
 *
 * It stands in shared memory; the texts there are cleaned, the numbers taken as they are.
 */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "ipc/shm.h"
#include "master/internal.h"
#include "obs/sample.h"
#include "obs/timestamp.h"

static const char *const state_names[] = {[ALERT_INACTIVE] = "inactive",
                                          [ALERT_PENDING] = "pending",
                                          [ALERT_FIRING] = "firing",
                                          [ALERT_RESOLVED] = "resolved"};

static json_t *time_json(int64_t ns)
{
    char text[TIMESTAMP_SIZE];

    return ns != 0 ? json_stringn(text, timestamp_format(ns, text)) : json_null();
}

static json_t *clean_json(const char *s)
{
    json_t *json = json_string(s);

    return json != NULL ? json : json_string("?"); /* no UTF-8 */
}

static json_t *labels_json(const struct shm_alert *a)
{
    const char *at = a->labels, *end = at + strlen(at), *name;
    char value[SHM_ALERT_LABELS], key[SHM_ALERT_LABELS];
    json_t *json = json_object();
    size_t n;

    while (sample_next_label(&at, end, &name, &n, value, sizeof value)) {
        memcpy(key, name, n); /* it lies in labels[] */
        key[n] = '\0';
        json_object_set_new(json, key, clean_json(value));
    }
    return json;
}

static const struct config_rule *find_rule(const struct master *m, const char *name)
{
    for (int i = 0; i < m->cfg->alerts.n_rules; i++)
        if (strcmp(m->cfg->alerts.rule[i].name, name) == 0)
            return &m->cfg->alerts.rule[i];
    return NULL;
}

static json_t *receivers_json(const struct config_alerts *cfg, const struct config_rule *rule)
{
    json_t *list = json_array();

    for (int i = 0; i < cfg->n_receivers; i++)
        if ((rule->receivers & 1u << i) != 0)
            json_array_append_new(list, json_string(cfg->receiver[i].name));
    return list;
}

static json_t *rule_json(const struct config_alerts *cfg, const struct config_rule *rule)
{
    return json_pack("{s:s, s:s, s:s, s:f, s:f, s:o}", "name", rule->name, "metric", rule->metric,
                     "when", rule->when, "for_s", rule->for_ms / 1e3, "over_s", rule->over_ms / 1e3,
                     "receivers", receivers_json(cfg, rule));
}

/* By receiver: what it knows of the state that the alert is in. */
static json_t *told_json(const struct master *m, const struct config_rule *rule,
                         const struct shm_alert *a)
{
    static const char *const names[] = {[ALERT_UNTOLD] = "not yet",
                                        [ALERT_ON_ITS_WAY] = "on its way",
                                        [ALERT_ARRIVED] = "arrived",
                                        [ALERT_NOT_ARRIVED] = "not arrived",
                                        [ALERT_SPARED] = "not told"};
    const struct config_alerts *cfg = &m->cfg->alerts;
    json_t *json = json_object();
    struct shm_receiver r;

    if (a->state != ALERT_FIRING && a->state != ALERT_RESOLVED)
        return json;
    for (int i = 0; i < cfg->n_receivers; i++) {
        uint8_t told = ALERT_UNTOLD;

        if ((rule->receivers & 1u << i) == 0)
            continue;
        /* After a reload the exporter before may still be there, with other receivers. */
        if (shm_receiver_read(m->shm, (uint32_t)i, &r) &&
            strcmp(r.name, cfg->receiver[i].name) == 0 && a->told[i] <= ALERT_SPARED)
            told = a->told[i];
        json_object_set_new(json, cfg->receiver[i].name, json_string(names[told]));
    }
    return json;
}

static json_t *alert_json(const struct master *m, const struct config_rule *rule,
                          const struct shm_alert *a)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "rule", rule->name, "state",
                     state_names[a->state], "metric", rule->metric, "when", rule->when, "value",
                     isfinite(a->value) ? json_real(a->value) : json_null(), "labels",
                     labels_json(a), "began", time_json(a->began_ns), "ended",
                     time_json(a->ended_ns), "told", told_json(m, rule, a));
}

static json_t *receiver_json(const struct master *m, int i)
{
    static const char *const types[] = {[CONFIG_WEBHOOK] = "webhook",
                                        [CONFIG_ALERTMANAGER] = "alertmanager",
                                        [CONFIG_WECOM] = "wecom"};
    const struct config_receiver *is = &m->cfg->alerts.receiver[i];
    struct shm_receiver r;

    if (!shm_receiver_read(m->shm, (uint32_t)i, &r) || strcmp(r.name, is->name) != 0)
        r = (struct shm_receiver){0}; /* the exporter has not begun yet */
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o}", "name", is->name, "type",
                     types[is->type], "arrived", (json_int_t)r.arrived, "dropped",
                     (json_int_t)r.dropped, "waiting", (json_int_t)r.waiting, "last_arrived",
                     time_json(r.arrived_ns), "trouble",
                     r.trouble[0] != '\0' ? clean_json(r.trouble) : json_null());
}

char *alerts_text(const struct master *m)
{
    const struct config_alerts *cfg = &m->cfg->alerts;
    json_t *rules = json_array(), *receivers = json_array(), *alerts = json_array(), *json;
    struct shm_alert a;
    char *text;

    for (int i = 0; i < cfg->n_rules; i++)
        json_array_append_new(rules, rule_json(cfg, &cfg->rule[i]));
    for (int i = 0; i < cfg->n_receivers; i++)
        json_array_append_new(receivers, receiver_json(m, i));
    for (uint32_t i = 0; i < SHM_ALERTS; i++) {
        const struct config_rule *rule = shm_alert_read(m->shm, i, &a) ? find_rule(m, a.rule)
                                                                       : NULL;

        if (rule != NULL)
            json_array_append_new(alerts, alert_json(m, rule, &a));
    }
    json = json_pack("{s:b, s:o, s:o, s:o}", "running", child_is_alive(&m->exporter), "rules",
                     rules, "receivers", receivers, "alerts", alerts);
    text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}

json_t *alerts_count_json(const struct master *m)
{
    int n[ALERT_RESOLVED + 1] = {0};
    struct shm_alert a;

    for (uint32_t i = 0; i < SHM_ALERTS; i++)
        if (shm_alert_read(m->shm, i, &a) && find_rule(m, a.rule) != NULL)
            n[a.state]++;
    return json_pack("{s:i, s:i, s:i}", "rules", m->cfg->alerts.n_rules, "pending",
                     n[ALERT_PENDING], "firing", n[ALERT_FIRING]);
}

void alerts_add_problems(const struct master *m, json_t *list)
{
    int n_firing[CONFIG_MAX_RULES] = {0};
    struct shm_alert a;

    for (uint32_t i = 0; i < SHM_ALERTS; i++) {
        const struct config_rule *rule = shm_alert_read(m->shm, i, &a) ? find_rule(m, a.rule)
                                                                       : NULL;

        if (rule != NULL && a.state == ALERT_FIRING)
            n_firing[rule - m->cfg->alerts.rule]++;
    }
    for (int i = 0; i < m->cfg->alerts.n_rules; i++) { /* a line each, however many labels it has */
        const char *name = m->cfg->alerts.rule[i].name;

        if (n_firing[i] == 1)
            json_array_append_new(list, json_sprintf("alert '%s' is firing", name));
        else if (n_firing[i] > 1)
            json_array_append_new(list, json_sprintf("alert '%s' is firing, for %d sets of labels",
                                                     name, n_firing[i]));
    }
    for (int i = 0; i < m->cfg->alerts.n_receivers; i++) {
        const char *name = m->cfg->alerts.receiver[i].name;
        struct shm_receiver r;
        json_t *trouble;

        if (!shm_receiver_read(m->shm, (uint32_t)i, &r) || strcmp(r.name, name) != 0 ||
            r.trouble[0] == '\0')
            continue;
        trouble = clean_json(r.trouble);
        json_array_append_new(
            list, json_sprintf("alerts do not reach '%s': %s", name, json_string_value(trouble)));
        json_decref(trouble);
    }
}

/* ---- events ---- */

static void add_event(struct master *m, enum event_kind kind, const struct config_rule *rule,
                      const struct shm_alert *a)
{
    const char *comma = a->labels[0] != '\0' ? ", " : "";
    char plugin[64];

    if (!sample_label(a->labels, strlen(a->labels), "plugin", plugin, sizeof plugin))
        plugin[0] = '\0';
    /* Without the value: by the time of the look it may be another one. */
    events_add(&m->events, kind, plugin, "alert '%s' %s: %s %s%s%s", rule->name,
               kind == EVENT_ALERT_FIRED ? "fires" : "is over", rule->metric, rule->when, comma,
               a->labels);
}

void alerts_look(struct master *m)
{
    static struct {
        int64_t began_ns, ended_ns;
    } seen[SHM_ALERTS];
    struct shm_alert a;

    for (uint32_t i = 0; i < SHM_ALERTS; i++) {
        const struct config_rule *rule = shm_alert_read(m->shm, i, &a) ? find_rule(m, a.rule)
                                                                       : NULL;

        if (rule == NULL)
            continue;
        /* By its times and not by its state, so that what came and went in between is told, too. */
        if (a.began_ns != 0 && a.began_ns != seen[i].began_ns)
            add_event(m, EVENT_ALERT_FIRED, rule, &a);
        if (a.ended_ns != 0 && a.ended_ns != seen[i].ended_ns)
            add_event(m, EVENT_ALERT_ENDED, rule, &a);
        seen[i].began_ns = a.began_ns;
        seen[i].ended_ns = a.ended_ns;
    }
}
