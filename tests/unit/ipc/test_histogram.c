#include "ipc/histogram.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void a_duration_lies_within_the_bounds_of_its_bucket(void **state)
{
    (void)state;
    for (uint64_t ns = 1; ns < (uint64_t)1 << 44; ns += ns / 7 + 1) {
        unsigned i = histogram_ns_index(ns);

        assert_true(i < HISTOGRAM_NS_SIZE);
        assert_true(ns <= histogram_ns_bound(i));
        assert_true(i == 0 || ns > histogram_ns_bound(i - 1));
    }
    assert_int_equal(histogram_ns_index(0), 0);
    assert_int_equal(histogram_ns_index(UINT64_MAX), HISTOGRAM_NS_SIZE - 1);
}

static void a_power_of_two_ends_an_octave(void **state)
{
    (void)state;
    for (int e = HISTOGRAM_NS_FIRST; e <= HISTOGRAM_NS_LAST; e++) {
        assert_int_equal(histogram_ns_index((uint64_t)1 << e), histogram_ns_octave(e));
        assert_int_equal(histogram_ns_index(((uint64_t)1 << e) + 1), histogram_ns_octave(e) + 1);
    }
    for (int e = HISTOGRAM_X_FIRST; e <= HISTOGRAM_X_LAST; e++) {
        assert_int_equal(histogram_x_index(ldexp(1, e)), histogram_x_octave(e));
        assert_int_equal(histogram_x_index(nextafter(ldexp(1, e), INFINITY)),
                         histogram_x_octave(e) + 1);
    }
}

static void any_number_has_a_bucket(void **state)
{
    static const double numbers[] = {0.0,    -0.0,   -1,      -INFINITY, INFINITY,
                                     1e-320, 1e-308, 1.7e308, 1e300,     -1e-300};

    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        assert_true(histogram_x_index(numbers[i]) < HISTOGRAM_X_SIZE);
    assert_int_equal(histogram_x_index(-5), 0);
    assert_int_equal(histogram_x_index(INFINITY), HISTOGRAM_X_SIZE - 1);
}

static void a_quantile_is_at_most_a_quarter_too_high(void **state)
{
    uint64_t count[HISTOGRAM_NS_SIZE] = {0};
    const double part[] = {0.001, 0.5, 0.9, 0.99, 0.999, 1};

    (void)state;
    for (uint64_t ns = 1000; ns <= 1000000; ns += 1000) /* 1,000 values */
        count[histogram_ns_index(ns)]++;
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        double real = part[i] * 1000000;
        double read = (double)histogram_ns_quantile(count, part[i]);

        assert_true(read >= real && read <= real * 1.25);
    }
}

static void without_values_there_is_no_quantile(void **state)
{
    uint64_t count[HISTOGRAM_NS_SIZE] = {0};

    (void)state;
    assert_int_equal(histogram_ns_quantile(count, 0.5), 0);
    count[HISTOGRAM_NS_SIZE - 1] = 1;
    assert_true(histogram_ns_quantile(count, 0.5) == (uint64_t)1 << HISTOGRAM_NS_LAST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_duration_lies_within_the_bounds_of_its_bucket),
        cmocka_unit_test(a_power_of_two_ends_an_octave),
        cmocka_unit_test(any_number_has_a_bucket),
        cmocka_unit_test(a_quantile_is_at_most_a_quarter_too_high),
        cmocka_unit_test(without_values_there_is_no_quantile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
