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

char *alerts_text(const struct master *m)
{
    const struct config_alerts *cfg = &m->cfg->alerts;
    json_t *rules = json_array(), *alerts = json_array(), *json;
    struct shm_alert a;
    char *text;

    for (int i = 0; i < cfg->n_rules; i++)
        json_array_append_new(rules, rule_json(cfg, &cfg->rule[i]));
    for (uint32_t i = 0; i < SHM_ALERTS; i++) {
        const struct config_rule *rule = shm_alert_read(m->shm, i, &a) ? find_rule(m, a.rule)
                                                                       : NULL;

        if (rule == NULL)
            continue;
        json = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "rule", rule->name, "state",
                         state_names[a.state], "metric", rule->metric, "when", rule->when, "value",
                         isfinite(a.value) ? json_real(a.value) : json_null(), "labels",
                         labels_json(&a), "began", time_json(a.began_ns), "ended",
                         time_json(a.ended_ns));
        json_array_append_new(alerts, json);
    }
    json = json_pack("{s:b, s:o, s:o}", "running", child_is_alive(&m->exporter), "rules", rules,
                     "alerts", alerts);
    text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}

void alerts_add_problems(const struct master *m, json_t *list)
{
    struct shm_alert a;

    for (uint32_t i = 0; i < SHM_ALERTS; i++)
        if (shm_alert_read(m->shm, i, &a) && a.state == ALERT_FIRING &&
            find_rule(m, a.rule) != NULL)
            json_array_append_new(list, json_sprintf("alert '%s' is firing", a.rule));
}
