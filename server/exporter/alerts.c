#include "exporter/alerts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "conf/config.h"
#include "exporter/receivers.h"
#include "exporter/rule.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "obs/metrics_text.h"
#include "obs/sample.h"

#define EVERY_MS         1000
#define QUANTILE_OVER_MS 60000

static struct {
    const struct config_alerts *cfg;
    struct shm *shm;
    struct alert alert[SHM_ALERTS];
    double quantile[CONFIG_MAX_RULES];
    size_t base_n[CONFIG_MAX_RULES];
    struct buffer text;
    int64_t next_ms;
    bool has_told_full;
} alerts;

/* ---- the table in shared memory ---- */

static void publish(uint32_t i)
{
    const struct alert *a = &alerts.alert[i];
    struct shm_alert is = a->is;

    if (a->rule == NULL)
        is.state = ALERT_NONE;
    shm_alert_write(alerts.shm, i, &is);
}

static const struct config_rule *find_rule(const char *name)
{
    for (int i = 0; i < alerts.cfg->n_rules; i++)
        if (strcmp(alerts.cfg->rule[i].name, name) == 0)
            return &alerts.cfg->rule[i];
    return NULL;
}

/* What the one before has left. What it says is checked: another process could have written there. */
static void take_over(int64_t now_ms)
{
    for (uint32_t i = 0; i < SHM_ALERTS; i++) {
        struct alert *a = &alerts.alert[i];

        if (!shm_alert_read(alerts.shm, i, &a->is))
            continue;
        a->rule = find_rule(a->is.rule);
        a->seen_ms = a->met_ms = a->taken_ms = now_ms;
        if (a->is.since_ms > now_ms)
            a->is.since_ms = now_ms;
        if (a->is.told_ms > now_ms)
            a->is.told_ms = now_ms;
        if (a->rule == NULL)
            publish(i); /* its rule is gone: so is it */
    }
}

int alerts_open(const struct config *cfg, struct shm *shm, struct outbox *outbox)
{
    alerts.cfg = &cfg->alerts;
    alerts.shm = shm;
    for (int i = 0; i < cfg->alerts.n_rules; i++)
        alerts.quantile[i] = rule_quantile_of(cfg->alerts.rule[i].metric, &alerts.base_n[i]);
    take_over(clock_mono_ms());
    return receivers_open(&cfg->alerts, shm, outbox, alerts.alert);
}

/* ---- samples ---- */

static void forget(struct alert *a)
{
    window_destroy(&a->window);
    *a = (struct alert){.rule = NULL};
}

/* The alert of that rule for those labels. NULL: there are too many. */
static struct alert *find_alert(const struct config_rule *rule, const char *labels, size_t n,
                                int64_t now_ms)
{
    struct alert *free_one = NULL;

    if (n >= SHM_ALERT_LABELS)
        return NULL; /* cut, it would be another one's */
    for (int i = 0; i < SHM_ALERTS; i++) {
        struct alert *a = &alerts.alert[i];

        if (a->rule == rule && strlen(a->is.labels) == n && memcmp(a->is.labels, labels, n) == 0)
            return a;
        if (a->rule == NULL && free_one == NULL)
            free_one = a;
    }
    if (free_one == NULL)
        return NULL;
    *free_one = (struct alert){
        .rule = rule, .seen_ms = now_ms, .is = {.state = ALERT_INACTIVE, .value = NAN}};
    snprintf(free_one->is.rule, sizeof free_one->is.rule, "%s", rule->name);
    memcpy(free_one->is.labels, labels, n);
    return free_one;
}

/* The labels of a bucket without `le`, which is the last one. */
static size_t without_bound(const struct sample *s)
{
    size_t n = s->labels_n;

    for (size_t i = 0; i + 4 <= n; i++)
        if (memcmp(s->labels + i, "le=\"", 4) == 0 && (i == 0 || s->labels[i - 1] == ','))
            return i > 0 ? i - 1 : 0;
    return n;
}

static void take_sample(int i, const struct sample *s, int64_t now_ms)
{
    const struct config_rule *rule = &alerts.cfg->rule[i];
    bool is_bucket = alerts.quantile[i] > 0 &&
                     rule_wants(rule, alerts.quantile[i], alerts.base_n[i], s);
    char bound[32];
    struct alert *a;

    if (!is_bucket && !rule_wants(rule, 0, 0, s))
        return;
    a = find_alert(rule, s->labels, is_bucket ? without_bound(s) : s->labels_n, now_ms);
    if (a == NULL) {
        if (!alerts.has_told_full)
            log_warn("alerts: more than %d series, or labels longer than %d bytes: some are not "
                     "judged (rule '%s')",
                     SHM_ALERTS, SHM_ALERT_LABELS - 1, rule->name);
        alerts.has_told_full = true;
        return;
    }
    a->has_value = true;
    a->met_ms = now_ms;
    if (!is_bucket) {
        a->read = s->value;
    } else if (a->n_buckets < RULE_BUCKETS &&
               sample_label(s->labels, s->labels_n, "le", bound, sizeof bound)) {
        a->bound[a->n_buckets] = strtod(bound, NULL);
        a->count[a->n_buckets++] = s->value;
    }
}

static void read_samples(int64_t now_ms)
{
    char *line, *rest;

    for (int i = 0; i < SHM_ALERTS; i++) {
        alerts.alert[i].has_value = false;
        alerts.alert[i].n_buckets = 0;
    }
    alerts.text.n = 0;
    if (metrics_text(alerts.shm, METRICS_PROMETHEUS, now_ms, &alerts.text) < 0 ||
        alerts.text.has_failed) {
        log_error("alerts: no memory for the metrics");
        buffer_fini(&alerts.text);
        return;
    }
    for (line = strtok_r(alerts.text.p, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        struct sample s;

        if (!sample_read(line, &s))
            continue;
        for (int i = 0; i < alerts.cfg->n_rules; i++)
            take_sample(i, &s, now_ms);
    }
}

/* A window begins anew with this process: what fires goes on until it is full. */
static bool is_too_early(const struct alert *a, double value, uint32_t over_ms, int64_t now_ms)
{
    return a->is.state == ALERT_FIRING && a->taken_ms != 0 &&
           now_ms - a->taken_ms < (int64_t)over_ms &&
           !(rule_holds(a->rule, value) && !isnan(value));
}

/* What the rule compares: NaN where there is nothing. */
static double value_of(struct alert *a, int64_t now_ms)
{
    int i = (int)(a->rule - alerts.cfg->rule);
    uint32_t over_ms = a->rule->over_ms, width = a->n_buckets > 0 ? RULE_BUCKETS : 1;
    double grown[RULE_BUCKETS], now[RULE_BUCKETS] = {0}, value;

    if (!a->has_value)
        return NAN;
    if (a->n_buckets > 0 && over_ms == 0)
        over_ms = QUANTILE_OVER_MS;
    if (over_ms == 0)
        return a->read;
    if (a->window == NULL)
        a->window = window_create(over_ms, width);
    if (a->window == NULL || a->window->width != width)
        return NAN;
    if (a->n_buckets == 0) {
        window_add(a->window, now_ms, &a->read, grown);
        value = grown[0];
    } else {
        memcpy(now, a->count, a->n_buckets * sizeof now[0]);
        window_add(a->window, now_ms, now, grown);
        value = rule_quantile(alerts.quantile[i], a->bound, grown, a->n_buckets);
    }
    if (is_too_early(a, value, over_ms, now_ms)) {
        a->seen_ms = now_ms;
        return NAN;
    }
    return value;
}

/* ---- rounds ---- */

static void say(const struct alert *a, enum alert_change change)
{
    if (change == ALERT_FIRED)
        log_warn("alert '%s' fires: %s is %.6g (%s)%s%s", a->rule->name, a->rule->metric,
                 a->is.value, a->rule->when, a->is.labels[0] != '\0' ? ", " : "", a->is.labels);
    else
        log_info("alert '%s' is over: %s is %.6g%s%s", a->rule->name, a->rule->metric, a->is.value,
                 a->is.labels[0] != '\0' ? ", " : "", a->is.labels);
}

void alerts_run(int64_t now_ms)
{
    int64_t now_ns = clock_real_ns();

    if (alerts.cfg == NULL || now_ms < alerts.next_ms)
        return;
    alerts.next_ms = now_ms + EVERY_MS;
    read_samples(now_ms);
    for (uint32_t i = 0; i < SHM_ALERTS; i++) {
        struct alert *a = &alerts.alert[i];
        enum alert_change change;

        if (a->rule == NULL)
            continue;
        change = alert_step(a, value_of(a, now_ms), now_ms, now_ns);
        if (change != ALERT_SAME)
            say(a, change);
    }
    receivers_tell(now_ms, now_ns);
    for (uint32_t i = 0; i < SHM_ALERTS; i++) {
        struct alert *a = &alerts.alert[i];

        if (a->rule == NULL)
            continue;
        if (a->is.state == ALERT_INACTIVE && now_ms - a->met_ms >= RULE_NO_DATA_MS)
            forget(a);
        publish(i);
    }
    receivers_publish();
}

int alerts_wait_ms(int64_t now_ms)
{
    if (alerts.cfg == NULL)
        return -1;
    return alerts.next_ms > now_ms ? (int)(alerts.next_ms - now_ms) : 0;
}

void alerts_end(void)
{
    receivers_end();
}
