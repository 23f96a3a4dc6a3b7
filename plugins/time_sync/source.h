/*
 * source.h - one server that is asked for the time: SNTP, or TIME over UDP or TCP.
 */
#ifndef TIME_SYNC_SOURCE_H
#define TIME_SYNC_SOURCE_H

#include "rules.h"

#define SOURCE_WHY 160 /* bytes for a reason */

enum source_kind { SOURCE_NTP, SOURCE_TIME_UDP, SOURCE_TIME_TCP };

struct source {
    enum source_kind kind;
    char host[256], port[8];
    int64_t not_before_ns; /* monotonic: a kiss of death; INT64_MAX: never again */
    int64_t pause_ns;      /* grows with each RATE */
};

/* "host", "ntp://host:123", "time+udp://host", "time+tcp://[::1]:37". NULL, or what is wrong with it:
 * static text. */
const char *source_parse(const char *text, struct source *out);

/*
 * Asks once, and waits at most timeout_ms, or until stop_fd can be read. 0 and *out; else a negative
 * errno and the reason in why. -EAGAIN: it asked us not to, not yet.
 */
int source_ask(struct source *s, int stop_fd, int timeout_ms, int64_t max_distance_ns,
               int64_t interval_ns, struct answer *out, char why[SOURCE_WHY]);

#endif
