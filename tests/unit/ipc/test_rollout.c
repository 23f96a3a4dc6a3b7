#include "ipc/rollout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct rollout r;

static int reset(void **state)
{
    (void)state;
    memset(&r, 0, sizeof r);
    return 0;
}

static uint64_t nth_hash(uint64_t i)
{
    return i * UINT64_C(0x9e3779b97f4a7c15); /* spread evenly */
}

static void who_is_in_stays_in_as_the_share_grows(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 10000; i++)
        for (uint32_t parts = 1000; parts < ROLLOUT_ALL; parts += 37000)
            if (rollout_has(parts, nth_hash(i)))
                assert_true(rollout_has(parts + 37000, nth_hash(i)));
}

static void a_share_is_what_it_says(void **state)
{
    static const uint32_t shares[] = {1000, 50000, 500000, 990000};

    (void)state;
    for (size_t k = 0; k < sizeof shares / sizeof shares[0]; k++) {
        uint32_t n = 0;

        for (uint64_t i = 0; i < ROLLOUT_ALL; i++)
            n += rollout_has(shares[k], nth_hash(i));
        assert_in_range(n, shares[k] - 50, shares[k] + 50);
    }
}

static void none_is_nobody_and_all_is_everybody(void **state)
{
    (void)state;
    assert_false(rollout_has(0, 0));
    assert_true(rollout_has(ROLLOUT_ALL, UINT64_MAX));
}

static void the_word_holds_all_three(void **state)
{
    uint64_t word = rollout_word(UINT32_MAX, ROLLOUT_CANARY, ROLLOUT_ALL);

    (void)state;
    assert_int_equal(rollout_number(word), UINT32_MAX);
    assert_int_equal(rollout_mode(word), ROLLOUT_CANARY);
    assert_int_equal(rollout_parts(word), ROLLOUT_ALL);
}

static void a_crash_takes_the_candidate_out_once(void **state)
{
    (void)state;
    rollout_set(&r, 7, ROLLOUT_CANARY, 50000);
    assert_true(rollout_trip(&r, 7));
    assert_false(rollout_trip(&r, 7));
    assert_int_equal(rollout_mode(atomic_load(&r.word)), ROLLOUT_TRIPPED);
}

static void a_crash_of_an_earlier_rollout_is_no_matter(void **state)
{
    (void)state;
    rollout_set(&r, 8, ROLLOUT_SHADOW, 1000);
    assert_false(rollout_trip(&r, 7));
    assert_int_equal(rollout_mode(atomic_load(&r.word)), ROLLOUT_SHADOW);
}

static void each_latency_lies_below_the_end_of_its_bucket(void **state)
{
    int last = -1;

    (void)state;
    for (int64_t ns = 0; ns < INT64_C(400000000000); ns = ns * 9 / 8 + 500) {
        int i = rollout_bucket(ns);

        assert_true(i >= last && i < ROLLOUT_BUCKETS);
        assert_true(ns < rollout_bucket_end_ns(i));
        assert_true(i == 0 || ns >= rollout_bucket_end_ns(i - 1));
        last = i;
    }
    assert_int_equal(rollout_bucket(INT64_MAX), ROLLOUT_BUCKETS - 1);
    assert_int_equal(rollout_bucket(-5), 0);
}

static void what_is_counted_is_cleared(void **state)
{
    (void)state;
    rollout_count(&r, ROLLOUT_CANDIDATE, true, 1500000);
    rollout_count(&r, ROLLOUT_CANDIDATE, false, -1);
    assert_int_equal(atomic_load(&r.arm[ROLLOUT_CANDIDATE].requests), 2);
    assert_int_equal(atomic_load(&r.arm[ROLLOUT_CANDIDATE].errors), 1);
    assert_int_equal(atomic_load(&r.arm[ROLLOUT_CANDIDATE].slow[rollout_bucket(1500000)]), 1);
    assert_int_equal(atomic_load(&r.arm[ROLLOUT_STABLE].requests), 0);
    rollout_clear(&r);
    assert_int_equal(atomic_load(&r.arm[ROLLOUT_CANDIDATE].requests), 0);
    assert_int_equal(atomic_load(&r.arm[ROLLOUT_CANDIDATE].slow[rollout_bucket(1500000)]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_in_stays_in_as_the_share_grows),
        cmocka_unit_test(a_share_is_what_it_says),
        cmocka_unit_test(none_is_nobody_and_all_is_everybody),
        cmocka_unit_test(the_word_holds_all_three),
        cmocka_unit_test_setup(a_crash_takes_the_candidate_out_once, reset),
        cmocka_unit_test_setup(a_crash_of_an_earlier_rollout_is_no_matter, reset),
        cmocka_unit_test(each_latency_lies_below_the_end_of_its_bucket),
        cmocka_unit_test_setup(what_is_counted_is_cleared, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
