/*
 * gate.h - is the candidate of a rollout worse than the stable version beside it?
 *
 * Pure arithmetic. What a newcomer would get wrong: a fixed limit ("more than 1 % errors") rolls back good
 * releases whenever a backend has a bad minute. Both arms have that minute, so they are compared with each
 * other; and since the candidate gets few requests, what counts is not its rate but what that rate is at
 * least, by Wilson's bound.
 */
#ifndef MASTER_GATE_H
#define MASTER_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/rollout.h"

struct gate_counts { /* one arm, since the step began */
    uint64_t requests, errors, unfinished;
    uint64_t slow[ROLLOUT_BUCKETS];
};

enum gate_verdict {
    GATE_OPEN,    /* nothing speaks against the candidate */
    GATE_WAITING, /* too little is known */
    GATE_BAD,
};

/* Between which bounds the true rate lies when k of n were seen; z: standard deviations. */
double gate_lower(uint64_t k, uint64_t n, double z);
double gate_upper(uint64_t k, uint64_t n, double z);

/* By the share of requests that failed. samples: of each arm at least. */
enum gate_verdict gate_errors(const struct gate_counts *stable, const struct gate_counts *candidate,
                              uint32_t samples);
/* By the share of requests that take longer than 99 of 100 in the stable arm, and a millisecond. */
enum gate_verdict gate_latency(const struct gate_counts *stable,
                               const struct gate_counts *candidate, uint32_t samples);

struct gate_metric { /* a metric's value in one arm; n: of how many observations, 0: not known */
    double value;
    uint64_t n;
    double
        error; /* what chance may have made of it: one standard deviation; 0: it is no estimate */
};
/* Of a counter that n requests have raised by gain; of a mean of n observations that add up to sum; of a
 * gauge. */
struct gate_metric gate_counter(double gain, uint64_t n);
struct gate_metric gate_mean(double sum, uint64_t n);
struct gate_metric gate_gauge(double value);
/* by: parts of ROLLOUT_ALL. GATE_BAD: it has become worse by more than worsens_by (not 0), and not by chance; GATE_OPEN: it
 * is better by at least improves_by (or that is 0). */
enum gate_verdict gate_metric(const struct gate_metric *stable, const struct gate_metric *candidate,
                              uint32_t improves_by, uint32_t worsens_by, bool lower_is_better);

/* The latency that so many of 1000 requests stay below, in ms; negative: there were none. */
double gate_quantile_ms(const struct gate_counts *c, unsigned permille);

#endif
