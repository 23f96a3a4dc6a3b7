#include "exporter/rule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conf/config.h"
#include "obs/sample.h"

double rule_quantile_of(const char *metric, size_t *base_n)
{
    static const struct {
        const char *end;
        double q;
    } ends[] = {{"_p50", 0.5}, {"_p90", 0.9}, {"_p95", 0.95}, {"_p99", 0.99}, {"_p999", 0.999}};
    size_t n = strlen(metric);

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t k = strlen(ends[i].end);

        if (n > k && strcmp(metric + n - k, ends[i].end) == 0) {
            *base_n = n - k;
            return ends[i].q;
        }
    }
    return 0;
}

static bool has_labels(const struct config_rule *rule, const struct sample *sample)
{
    char value[512];

    for (int i = 0; i < rule->n_matches; i++)
        if (!sample_label(sample->labels, sample->labels_n, rule->match[i].name, value,
                          sizeof value) ||
            strcmp(value, rule->match[i].value) != 0)
            return false;
    return true;
}

bool rule_wants(const struct config_rule *rule, double quantile, size_t base_n,
                const struct sample *sample)
{
    static const char bucket[] = "_bucket";

    if (quantile > 0)
        return sample->name_n == base_n + sizeof bucket - 1 &&
               memcmp(sample->name, rule->metric, base_n) == 0 &&
               memcmp(sample->name + base_n, bucket, sizeof bucket - 1) == 0 &&
               has_labels(rule, sample);
    return strlen(rule->metric) == sample->name_n &&
           memcmp(sample->name, rule->metric, sample->name_n) == 0 && has_labels(rule, sample);
}

bool rule_holds(const struct config_rule *rule, double value)
{
    switch (rule->compare) {
    case CONFIG_ABOVE: return value > rule->threshold;
    case CONFIG_AT_LEAST: return value >= rule->threshold;
    case CONFIG_BELOW: return value < rule->threshold;
    case CONFIG_AT_MOST: return value <= rule->threshold;
    case CONFIG_EQUAL: return !(value < rule->threshold) && !(value > rule->threshold);
    case CONFIG_NOT_EQUAL: return value < rule->threshold || value > rule->threshold;
    }
    return false;
}

double rule_quantile(double q, const double *bound, const double *count, uint32_t n)
{
    double all = n > 0 ? count[n - 1] : 0, rank = q * all, low, under;
    uint32_t i = 0;

    if (!(all > 0))
        return NAN;
    while (i < n - 1 && count[i] < rank)
        i++;
    if (isinf(bound[i])) /* beyond all bounds: the last of them is all that is known */
        return i > 0 ? bound[i - 1] : NAN;
    low = i > 0 ? bound[i - 1] : bound[0] > 0 ? 0 : bound[0];
    under = i > 0 ? count[i - 1] : 0;
    return count[i] > under ? low + (bound[i] - low) * (rank - under) / (count[i] - under)
                            : bound[i];
}

/* ---- windows ---- */

struct window *window_create(uint32_t over_ms, uint32_t width)
{
    struct window *w = calloc(1, sizeof *w);

    if (w == NULL)
        return NULL;
    w->n_slots = over_ms >= RULE_SLOTS * 1000 ? RULE_SLOTS
                 : over_ms >= 1000            ? (int)(over_ms / 1000)
                                              : 1;
    w->step_ms = over_ms / w->n_slots;
    w->width = width;
    w->slot = calloc((size_t)(w->n_slots + 1) * width, sizeof *w->slot);
    if (w->slot == NULL)
        window_destroy(&w);
    return w;
}

void window_destroy(struct window **wp)
{
    if (*wp != NULL)
        free((*wp)->slot);
    free(*wp);
    *wp = NULL;
}

void window_add(struct window *w, int64_t now_ms, const double *value, double *out)
{
    int oldest;

    for (uint32_t i = 0; i < w->width; i++) {
        double v = value[i];

        if (w->n > 0)
            w->total[i] += v >= w->last[i] ? v - w->last[i] : v; /* it has begun anew */
        w->last[i] = v;
    }
    if (w->n == 0 || now_ms - w->last_ms >= w->step_ms) {
        memcpy(w->slot + (size_t)w->next * w->width, w->total, w->width * sizeof *w->slot);
        w->next = (w->next + 1) % (w->n_slots + 1);
        w->n += w->n <= w->n_slots;
        w->last_ms = now_ms;
    }
    oldest = w->n <= w->n_slots ? 0 : w->next;
    for (uint32_t i = 0; i < w->width; i++)
        out[i] = w->total[i] - w->slot[(size_t)oldest * w->width + i];
}

/* ---- the state ---- */

static void set_state(struct alert *a, enum alert_state state, int64_t now_ms)
{
    a->is.state = state;
    a->is.since_ms = now_ms;
    a->is.told_ms = 0;
    memset(a->is.told, ALERT_UNTOLD, sizeof a->is.told);
    memset(a->message, 0, sizeof a->message); /* what is under way is about the state before */
}

enum alert_change alert_step(struct alert *a, double value, int64_t now_ms, int64_t now_ns)
{
    bool holds;

    if (isnan(value)) {
        if (now_ms - a->seen_ms < RULE_NO_DATA_MS)
            return ALERT_SAME; /* a worker was replaced, a plugin reloaded */
        a->is.value = NAN;
        holds = false;
    } else {
        a->seen_ms = now_ms;
        a->is.value = value;
        holds = rule_holds(a->rule, value);
    }
    switch (a->is.state) {
    case ALERT_NONE:
    case ALERT_INACTIVE:
    case ALERT_RESOLVED:
        if (!holds) {
            if (a->is.state == ALERT_RESOLVED && now_ms - a->is.since_ms >= RULE_REMEMBER_MS)
                set_state(a, ALERT_INACTIVE, now_ms);
            return ALERT_SAME;
        }
        set_state(a, ALERT_PENDING, now_ms);
        __attribute__((fallthrough));
    case ALERT_PENDING:
        if (!holds)
            set_state(a, ALERT_INACTIVE, now_ms);
        if (!holds || now_ms - a->is.since_ms < (int64_t)a->rule->for_ms)
            return ALERT_SAME;
        set_state(a, ALERT_FIRING, now_ms);
        a->is.began_ns = now_ns;
        a->is.ended_ns = 0;
        return ALERT_FIRED;
    default:
        if (holds)
            return ALERT_SAME;
        set_state(a, ALERT_RESOLVED, now_ms);
        a->is.ended_ns = now_ns;
        return ALERT_ENDED;
    }
}
