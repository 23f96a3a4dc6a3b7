#include "master/gate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { SAMPLES = 500 };

static struct gate_counts stable, candidate;
static uint64_t seed;

static int reset(void **state)
{
    (void)state;
    memset(&stable, 0, sizeof stable);
    memset(&candidate, 0, sizeof candidate);
    seed = 1;
    return 0;
}

/* From 0 to 1, the same each time the test runs. */
static double chance(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(seed >> 11) / (double)(UINT64_C(1) << 53);
}

static void wilsons_bounds_are_those_of_the_book(void **state)
{
    (void)state;
    /* 10 of 100, 95 %: 0.0552 to 0.1744 */
    assert_true(fabs(gate_lower(10, 100, 1.96) - 0.0552) < 0.0001);
    assert_true(fabs(gate_upper(10, 100, 1.96) - 0.1744) < 0.0001);
    assert_true(gate_lower(0, 0, 3) <= 0 && gate_upper(0, 0, 3) >= 1);
    assert_true(gate_lower(0, 500, 3) < 1e-9 && gate_upper(500, 500, 3) > 1 - 1e-9);
}

static void too_few_samples_wait(void **state)
{
    (void)state;
    stable = (struct gate_counts){.requests = 100000};
    candidate = (struct gate_counts){.requests = SAMPLES - 1, .errors = SAMPLES - 1};
    assert_int_equal(gate_errors(&stable, &candidate, SAMPLES), GATE_WAITING);
    candidate.requests = candidate.errors = SAMPLES;
    assert_int_equal(gate_errors(&stable, &candidate, SAMPLES), GATE_BAD);
    stable.requests = SAMPLES - 1;
    assert_int_equal(gate_errors(&stable, &candidate, SAMPLES), GATE_WAITING);
}

/* 1000 requests a second, a look each second; the second of the verdict, or 0 when it was good for ten
 * minutes. outage: in this second and the ten after it everything fails in both arms. */
static int roll_out(double weight, double p_stable, double p_candidate, int outage)
{
    memset(&stable, 0, sizeof stable);
    memset(&candidate, 0, sizeof candidate);
    for (int s = 1; s <= 600; s++) {
        bool is_out = outage != 0 && s >= outage && s < outage + 10;

        for (int i = 0; i < 1000; i++) {
            bool is_new = chance() < weight;
            struct gate_counts *c = is_new ? &candidate : &stable;

            c->requests++;
            c->errors += chance() < (is_out ? 0.9 : is_new ? p_candidate : p_stable);
        }
        if (gate_errors(&stable, &candidate, SAMPLES) == GATE_BAD)
            return s;
    }
    return 0;
}

static void good_releases_are_let_through(void **state)
{
    int n_bad = 0;

    (void)state;
    for (int i = 0; i < 100; i++)
        n_bad += roll_out(0.05, 0.005, 0.005, 0) != 0;
    assert_in_range(n_bad, 0, 1); /* 0.3 % are to be expected */
}

static void four_times_the_errors_are_found_within_a_minute(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        assert_in_range(roll_out(0.05, 0.005, 0.02, 0), 1, 60);
}

static void an_outage_of_both_arms_is_no_reason(void **state)
{
    int n_bad = 0;

    (void)state;
    for (int i = 0; i < 20; i++)
        n_bad += roll_out(0.05, 0.005, 0.005, 30) != 0;
    assert_in_range(n_bad, 0, 1);
}

/* n requests around some ms, one of a hundred ten times as long. */
static void fill(struct gate_counts *c, int n, double ms)
{
    memset(c, 0, sizeof *c);
    for (int i = 0; i < n; i++) {
        double took = ms * (0.8 + 0.4 * chance()) * (chance() < 0.01 ? 10 : 1);

        c->slow[rollout_bucket((int64_t)(took * 1e6))]++;
        c->requests++;
    }
}

static void who_is_as_fast_is_let_through(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        fill(&stable, 10000, 2);
        fill(&candidate, 600, 2);
        assert_int_equal(gate_latency(&stable, &candidate, SAMPLES), GATE_OPEN);
    }
}

static void microseconds_are_no_matter(void **state)
{
    (void)state;
    stable.slow[rollout_bucket(20000)] = stable.requests = 10000;
    candidate.slow[rollout_bucket(160000)] = candidate.requests = 600;
    assert_int_equal(gate_latency(&stable, &candidate, SAMPLES), GATE_OPEN);
}

static void who_is_slow_in_every_tenth_request_is_found(void **state)
{
    (void)state;
    fill(&stable, 10000, 2);
    fill(&candidate, 900, 2);
    for (int i = 0; i < 100; i++) {
        candidate.slow[rollout_bucket(80000000)]++;
        candidate.requests++;
    }
    assert_int_equal(gate_latency(&stable, &candidate, SAMPLES), GATE_BAD);
}

static void who_is_twice_as_slow_is_found(void **state)
{
    (void)state;
    fill(&stable, 10000, 2);
    fill(&candidate, 600, 20);
    assert_int_equal(gate_latency(&stable, &candidate, SAMPLES), GATE_BAD);
}

static void a_metric_waits_until_it_has_improved_enough(void **state)
{
    const struct gate_metric base = gate_gauge(0.87);
    struct gate_metric now = gate_gauge(0.87 * 1.0919);

    (void)state;
    assert_int_equal(gate_metric(&base, &now, 92000, 0, false), GATE_WAITING);
    now.value = 0.87 * 1.092;
    assert_int_equal(gate_metric(&base, &now, 92000, 0, false), GATE_OPEN);
    now.n = 0;
    assert_int_equal(gate_metric(&base, &now, 92000, 0, false), GATE_WAITING);
}

static void a_metric_that_worsens_is_bad(void **state)
{
    const struct gate_metric base = gate_gauge(100);
    struct gate_metric now = gate_gauge(111);

    (void)state;
    assert_int_equal(gate_metric(&base, &now, 0, 100000, true), GATE_BAD);
    assert_int_equal(gate_metric(&base, &now, 0, 100000, false), GATE_OPEN);
    now.value = 109;
    assert_int_equal(gate_metric(&base, &now, 0, 100000, true), GATE_OPEN);
    now.value = NAN;
    assert_int_equal(gate_metric(&base, &now, 0, 100000, true), GATE_WAITING);
}

/* As roll_out(), by a counter of the plugin's own. */
static int roll_out_by_counter(double p_stable, double p_candidate)
{
    double hits[2] = {0, 0};
    uint64_t n[2] = {0, 0};

    for (int s = 1; s <= 600; s++) {
        struct gate_metric was, is;

        for (int i = 0; i < 1000; i++) {
            int arm = chance() < 0.05;

            n[arm]++;
            hits[arm] += chance() < (arm == 1 ? p_candidate : p_stable);
        }
        was = gate_counter(hits[0], n[0]);
        is = gate_counter(hits[1], n[1]);
        if (n[1] >= SAMPLES && gate_metric(&was, &is, 0, 200000, true) == GATE_BAD)
            return s;
    }
    return 0;
}

static void a_counter_is_not_worse_by_chance(void **state)
{
    int n_bad = 0;

    (void)state;
    for (int i = 0; i < 100; i++)
        n_bad += roll_out_by_counter(0.005, 0.005) != 0;
    assert_in_range(n_bad, 0, 1);
    for (int i = 0; i < 20; i++)
        assert_in_range(roll_out_by_counter(0.005, 0.02), 1, 120);
    /* The first of its kind is no trend. */
    assert_int_equal(
        gate_metric(&(struct gate_metric){.n = 9500, .error = 1.0 / 9500},
                    &(struct gate_metric){.value = 1.0 / 500, .n = 500, .error = 1.4 / 500}, 0,
                    200000, true),
        GATE_OPEN);
}

static void a_mean_is_not_worse_by_chance(void **state)
{
    struct gate_metric was = gate_mean(9500 * 2.0, 9500), is = gate_mean(500 * 2.5, 500);

    (void)state;
    assert_int_equal(gate_metric(&was, &is, 0, 200000, true), GATE_OPEN);
    is = gate_mean(500 * 5.0, 500);
    assert_int_equal(gate_metric(&was, &is, 0, 200000, true), GATE_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wilsons_bounds_are_those_of_the_book),
        cmocka_unit_test_setup(too_few_samples_wait, reset),
        cmocka_unit_test_setup(good_releases_are_let_through, reset),
        cmocka_unit_test_setup(four_times_the_errors_are_found_within_a_minute, reset),
        cmocka_unit_test_setup(an_outage_of_both_arms_is_no_reason, reset),
        cmocka_unit_test_setup(who_is_as_fast_is_let_through, reset),
        cmocka_unit_test_setup(microseconds_are_no_matter, reset),
        cmocka_unit_test_setup(who_is_slow_in_every_tenth_request_is_found, reset),
        cmocka_unit_test_setup(who_is_twice_as_slow_is_found, reset),
        cmocka_unit_test(a_metric_waits_until_it_has_improved_enough),
        cmocka_unit_test(a_metric_that_worsens_is_bad),
        cmocka_unit_test(a_counter_is_not_worse_by_chance),
        cmocka_unit_test(a_mean_is_not_worse_by_chance),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
