/*
 * exposition.h - lines of metrics, as OpenMetrics 1.0 or Prometheus' text format 0.0.4 wants them.
 *
 * The two differ in what they call the family of a counter and of an info, in the order and number of
 * the lines before its samples, in what help may contain, and in the last line.
 */
#ifndef OBS_EXPOSITION_H
#define OBS_EXPOSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/histogram.h"
#include "obs/metrics_text.h"

struct buffer;

enum family_type { FAMILY_COUNTER, FAMILY_GAUGE, FAMILY_HISTOGRAM, FAMILY_INFO };

struct family {
    const char *name; /* without _total and _info */
    enum family_type type;
    const char *unit; /* with which the name ends; NULL: none */
    const char *help;
};

#define EXPOSITION_LABELS 8

struct label {
    const char *name; /* sound */
    const char *value;
    size_t n;
};

struct exposition {
    struct buffer *out;
    enum metrics_format format;
    const struct family *family;           /* of the samples to come */
    struct label label[EXPOSITION_LABELS]; /* of the sample to come */
    int n_labels;
};

void exposition_family(struct exposition *e, const struct family *family);
void exposition_end(struct exposition *e);

/* Labels of the sample to come; they stay as long as it takes to write it. value: bytes that need not
 * be UTF-8, and are not copied. */
void exposition_label(struct exposition *e, const char *name, const char *value);
void exposition_label_n(struct exposition *e, const char *name, const char *value, size_t n);

/* One sample, with the suffix that the family's type has, or all of a histogram. */
void exposition_uint(struct exposition *e, uint64_t value);
void exposition_number(struct exposition *e, double value);
/* In seconds; the first of 23 buckets ends at 2^first nanoseconds, each of the others at twice the one
 * before. */
void exposition_histogram_ns(struct exposition *e, const uint64_t count[HISTOGRAM_NS_SIZE],
                             uint64_t sum_ns, int first);
void exposition_histogram_x(struct exposition *e, const uint64_t count[HISTOGRAM_X_SIZE],
                            double sum);

/* May a metric, or a label, have that name? n bytes. */
bool exposition_is_name(const char *p, size_t n);

#endif
