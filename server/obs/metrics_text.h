/*
 * metrics_text.h - all metrics, as text for a scraper.
 *
 * Made from shared memory alone, whose contents are taken as numbers and bytes that may be anything.
 * docs/metrics.md lists what there is; a test compares the two.
 */
#ifndef OBS_METRICS_TEXT_H
#define OBS_METRICS_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct buffer;
struct family;
struct shm;

enum metrics_format {
    METRICS_OPENMETRICS, /* application/openmetrics-text; version=1.0.0; charset=utf-8 */
    METRICS_PROMETHEUS,  /* text/plain; version=0.0.4; charset=utf-8 */
};

/* What a client that sends this Accept field gets. NULL: it sends none. */
enum metrics_format metrics_format_for(const char *accept);
const char *metrics_content_type(enum metrics_format format);

/* Appends the text. now_ms: clock_mono_ms(), for what breakers are about to do. 0 or -ENOMEM. */
int metrics_text(const struct shm *shm, enum metrics_format format, int64_t now_ms,
                 struct buffer *out);

/* The server's own metrics, in the order of the text; NULL past the last. */
const struct family *metrics_family(size_t i);

#endif
