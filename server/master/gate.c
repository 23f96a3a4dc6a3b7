#include "master/gate.h"

#include <math.h>

/* Looked at each second for ten minutes, at 1000 requests a second of which the candidate gets 5 %, and 0.5 %
 * errors: a good release is rolled back in 0.3 % of cases (0.5 % when it is looked at ten times a second, as
 * it is; z = 3: 3 %), twice the errors are found after 68 s
 * (median), four times after 11 s. tests/unit/master/test_gate.c */
#define Z_CANDIDATE 4.0
#define Z_STABLE    1.0
#define SLOWER      1.5 /* a share of slow requests that is less than so much greater is no matter */
/* Nor is a request that is slower by less. The scheduler's delays come in bursts, and what bursts brings is
 * not independent, as the bounds assume: where requests take microseconds, it is all that is seen. */
#define SLOWER_NS 1000000

static double bound(uint64_t k, uint64_t n, double z, double sign)
{
    double p, nn = (double)n, zz = z * z;

    if (n == 0)
        return sign < 0 ? 0 : 1;
    if (k > n)
        k = n;
    p = (double)k / nn;
    return (p + zz / (2 * nn) + sign * z * sqrt(p * (1 - p) / nn + zz / (4 * nn * nn))) /
           (1 + zz / nn);
}

double gate_lower(uint64_t k, uint64_t n, double z)
{
    return bound(k, n, z, -1);
}

double gate_upper(uint64_t k, uint64_t n, double z)
{
    return bound(k, n, z, 1);
}

enum gate_verdict gate_errors(const struct gate_counts *stable, const struct gate_counts *candidate,
                              uint32_t samples)
{
    if (candidate->requests < samples || stable->requests < samples)
        return GATE_WAITING;
    return gate_lower(candidate->errors, candidate->requests, Z_CANDIDATE) >
                   gate_upper(stable->errors, stable->requests, Z_STABLE)
               ? GATE_BAD
               : GATE_OPEN;
}

static uint64_t count_all(const struct gate_counts *c)
{
    uint64_t n = 0;

    for (int i = 0; i < ROLLOUT_BUCKETS; i++)
        n += c->slow[i];
    return n;
}

static uint64_t count_above(const struct gate_counts *c, int bucket)
{
    uint64_t n = 0;

    for (int i = bucket + 1; i < ROLLOUT_BUCKETS; i++)
        n += c->slow[i];
    return n;
}

enum gate_verdict gate_latency(const struct gate_counts *stable,
                               const struct gate_counts *candidate, uint32_t samples)
{
    uint64_t n_stable = count_all(stable), n_candidate = count_all(candidate);
    int at = ROLLOUT_BUCKETS - 1;

    if (n_candidate < samples || n_stable < samples)
        return GATE_WAITING;
    while (at > 0 && count_above(stable, at - 1) * 100 <= n_stable)
        at--;
    at = rollout_bucket(rollout_bucket_end_ns(at) + SLOWER_NS);
    return gate_lower(count_above(candidate, at), n_candidate, Z_CANDIDATE) >
                   SLOWER * gate_upper(count_above(stable, at), n_stable, Z_STABLE)
               ? GATE_BAD
               : GATE_OPEN;
}

/* What is counted comes as it likes: n events are known to sqrt(n). */
struct gate_metric gate_counter(double gain, uint64_t n)
{
    double nn = n > 0 ? (double)n : 1;

    return (struct gate_metric){gain / nn, n, sqrt(fabs(gain) + 1) / nn};
}

/* The squares are not known: taken for a value that varies as much as it is large, as times do. */
struct gate_metric gate_mean(double sum, uint64_t n)
{
    double nn = n > 0 ? (double)n : 1;

    return (struct gate_metric){sum / nn, n, fabs(sum) / nn / sqrt(nn)};
}

struct gate_metric gate_gauge(double value)
{
    return (struct gate_metric){value, 1, 0};
}

enum gate_verdict gate_metric(const struct gate_metric *stable, const struct gate_metric *candidate,
                              uint32_t improves_by, uint32_t worsens_by, bool lower_is_better)
{
    double gain, base, chance;

    if (stable->n == 0 || candidate->n == 0 || !isfinite(stable->value) ||
        !isfinite(candidate->value))
        return GATE_WAITING;
    base = fabs(stable->value);
    gain = lower_is_better ? stable->value - candidate->value : candidate->value - stable->value;
    chance = Z_CANDIDATE * candidate->error + Z_STABLE * stable->error;
    if (worsens_by != 0 && -gain - chance > base * worsens_by / ROLLOUT_ALL)
        return GATE_BAD;
    /* What floating point takes from 9.2 % must not make it 9.1999 %. */
    if (improves_by != 0 && gain < base * improves_by / ROLLOUT_ALL - base * 1e-9)
        return GATE_WAITING;
    return GATE_OPEN;
}

double gate_quantile_ms(const struct gate_counts *c, unsigned permille)
{
    uint64_t n = count_all(c), seen = 0;

    for (int i = 0; n > 0 && i < ROLLOUT_BUCKETS; i++) {
        seen += c->slow[i];
        if (seen * 1000 >= n * permille)
            return (double)rollout_bucket_end_ns(i) / 1e6;
    }
    return -1;
}
