/*
 * rule.h - a rule of alerts, judged: which samples it is about, whether it holds, since when.
 *
 * Pure: no clock is read and nothing is sent. One rule has one alert for each set of labels that its
 * metric has, as in Prometheus.
 */
#ifndef EXPORTER_RULE_H
#define EXPORTER_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/shm.h"

struct config_rule;
struct sample;

#define RULE_BUCKETS     64
#define RULE_SLOTS       60     /* a window is so many steps */
#define RULE_NO_DATA_MS  30000  /* without a value for so long, what held holds no longer */
#define RULE_REMEMBER_MS 900000 /* what is over is shown for so long */

struct window { /* what a counter, or a histogram's buckets, were */
    int64_t step_ms;
    int n_slots; /* of RULE_SLOTS + 1 */
    int n, next; /* in use; the one to be written */
    int64_t last_ms;
    uint32_t width;             /* values per slot */
    double *slot;               /* [RULE_SLOTS + 1][RULE_BUCKETS], or [..][1] */
    double last[RULE_BUCKETS];  /* as read */
    double total[RULE_BUCKETS]; /* without falling back when a counter begins anew */
};

struct alert {
    const struct config_rule *rule;  /* NULL: free */
    struct shm_alert is;             /* state, times, labels: what outlives this process */
    uint32_t message[SHM_RECEIVERS]; /* the last one that told them; 0: none */
    int64_t taken_ms;                /* from the exporter before this one; 0: it was not */
    int64_t seen_ms;                 /* its metric had a value */
    int64_t met_ms;                  /* its metric was there */
    struct window *window;           /* NULL: the rule needs none */
    double bound[RULE_BUCKETS], count[RULE_BUCKETS]; /* of a histogram, as just read: cumulative */
    uint32_t n_buckets;
    double read; /* of others */
    bool has_value;
};

enum alert_change { ALERT_SAME, ALERT_FIRED, ALERT_ENDED };

/* 0.95 for NAME_p95, and how long NAME is; 0: it is no such name. */
double rule_quantile_of(const char *metric, size_t *base_n);
/* Is the sample one of the rule's metric, with the labels that it wants? As a histogram's bucket, when
 * `quantile` > 0. */
bool rule_wants(const struct config_rule *rule, double quantile, size_t base_n,
                const struct sample *sample);
bool rule_holds(const struct config_rule *rule, double value);

/* As histogram_quantile() of PromQL: linear within a bucket. NaN: nothing was observed. */
double rule_quantile(double q, const double *bound, const double *count, uint32_t n);

/* NULL: no memory. */
struct window *window_create(uint32_t over_ms, uint32_t width);
void window_destroy(struct window **wp);
/* Notes values; what they have grown by within the window goes to out. */
void window_add(struct window *w, int64_t now_ms, const double *value, double *out);

/* One round: value NaN when there is none. */
enum alert_change alert_step(struct alert *a, double value, int64_t now_ms, int64_t now_ns);

#endif
