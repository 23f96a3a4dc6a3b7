#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "master/respawn.h"

static struct respawn r;

static int fresh(void **state)
{
    (void)state;
    respawn_init(&r, 3, 10000);
    return 0;
}

/* The child lives for ms, then ends; *now moves on by that and by the delay. */
static uint32_t live(int64_t *now, int64_t ms)
{
    uint32_t delay_ms;

    respawn_started(&r, *now);
    *now += ms;
    delay_ms = respawn_ended(&r, *now, true);
    *now += delay_ms;
    return delay_ms;
}

static void few_ends_are_answered_at_once(void **state)
{
    int64_t now = 1000;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(live(&now, 1), 0);
}

static void too_many_ends_in_the_window_are_answered_later(void **state)
{
    int64_t now = 1000;

    (void)state;
    for (int i = 0; i < 3; i++)
        live(&now, 1);
    assert_int_equal(live(&now, 1), RESPAWN_MIN_MS);
}

static void ends_far_apart_are_always_answered_at_once(void **state)
{
    int64_t now = 1000;

    (void)state;
    for (int i = 0; i < 5000; i++)
        assert_int_equal(live(&now, 3334), 0);
}

static void delay_doubles_up_to_its_limit(void **state)
{
    static const uint32_t expected[] = {100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};
    int64_t now = 1000;

    (void)state;
    for (int i = 0; i < 3; i++)
        live(&now, 0);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_int_equal(live(&now, 0), expected[i]);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(live(&now, 0), RESPAWN_MAX_MS);
}

/* Long delays thin the ends out; that alone is no sign of health. */
static void delay_stays_while_the_child_keeps_ending_early(void **state)
{
    int64_t now = 1000;

    (void)state;
    for (int i = 0; i < 20; i++)
        live(&now, 1);
    assert_int_equal(live(&now, 9999), RESPAWN_MAX_MS);
}

static void delay_is_forgotten_after_a_window_of_service(void **state)
{
    int64_t now = 1000;

    (void)state;
    for (int i = 0; i < 20; i++)
        live(&now, 1);
    assert_int_equal(live(&now, 10000), 0);
    assert_int_equal(live(&now, 1), 0);
}

static void child_that_never_served_always_waits(void **state)
{
    int64_t now = 1000;

    (void)state;
    respawn_started(&r, now);
    assert_int_equal(respawn_ended(&r, now + 60000, false), 100);
    assert_int_equal(respawn_ended(&r, now + 120000, false), 200);
}

static void no_restarts_at_once_when_none_are_allowed(void **state)
{
    int64_t now = 1000;

    (void)state;
    respawn_init(&r, 0, 10000);
    assert_int_equal(live(&now, 1), 100);
    assert_int_equal(live(&now, 1), 200);
}

static void more_restarts_than_are_remembered_are_bounded(void **state)
{
    int64_t now = 1000;

    (void)state;
    respawn_init(&r, UINT32_MAX, 10000);
    for (int i = 0; i < RESPAWN_KEPT; i++)
        assert_int_equal(live(&now, 1), 0);
    assert_int_equal(live(&now, 1), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(few_ends_are_answered_at_once, fresh),
        cmocka_unit_test_setup(too_many_ends_in_the_window_are_answered_later, fresh),
        cmocka_unit_test_setup(ends_far_apart_are_always_answered_at_once, fresh),
        cmocka_unit_test_setup(delay_doubles_up_to_its_limit, fresh),
        cmocka_unit_test_setup(delay_stays_while_the_child_keeps_ending_early, fresh),
        cmocka_unit_test_setup(delay_is_forgotten_after_a_window_of_service, fresh),
        cmocka_unit_test_setup(child_that_never_served_always_waits, fresh),
        cmocka_unit_test_setup(no_restarts_at_once_when_none_are_allowed, fresh),
        cmocka_unit_test_setup(more_restarts_than_are_remembered_are_bounded, fresh),
    };

    return cmocka_run_group_tests_name("respawn", tests, NULL, NULL);
}
