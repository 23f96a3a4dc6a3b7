#include "ipc/quarantine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct breaker_limits limits = {
    .crashes = 3, .window_ms = 60000, .open_ms = 30000, .trials = 1};

enum { T0 = 1000000 };

static struct quarantine q;

static int reset(void **state)
{
    (void)state;
    memset(&q, 0, sizeof q);
    return 0;
}

/* The news in a few words: "route 1 opened, plugin opened". */
static const char *crash(int64_t now, uint32_t route, uint64_t place)
{
    static const char *const names[] = {"same", "opened", "reopened", "trying", "recovered"};
    static char text[128];
    struct quarantine_news news[2];
    int n = quarantine_charge(&q, &limits, now, route, place, news);
    size_t len = 0;

    text[0] = '\0';
    for (int i = 0; i < n; i++) {
        char who[32];

        snprintf(who, sizeof who, news[i].route != 0 ? "route %u" : "plugin", news[i].route);
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s %s", i > 0 ? ", " : "", who,
                                names[news[i].change]);
    }
    return text;
}

static bool may_enter(int64_t now, uint32_t route)
{
    struct quarantine_answer answer;

    return !quarantine_is_on(&q) || quarantine_ask(&q, &limits, now, route, &answer);
}

static void block(int64_t now, uint32_t route)
{
    char expected[32];

    snprintf(expected, sizeof expected, "route %u opened", route);
    assert_string_equal(crash(now, route, 0xabc), "");
    assert_string_equal(crash(now, route, 0xabc), "");
    assert_string_equal(crash(now, route, 0xabc), expected);
}

static void equal_crashes_block_their_route_alone(void **state)
{
    (void)state;
    assert_true(may_enter(T0, 1));
    block(T0, 1);
    assert_true(quarantine_is_on(&q));
    assert_false(may_enter(T0, 1));
    assert_true(may_enter(T0, 2));
    /* They are settled: two others do not open the plugin's breaker. */
    assert_string_equal(crash(T0, 2, 1), "");
    assert_string_equal(crash(T0, 3, 2), "");
    assert_true(may_enter(T0, 2));
    assert_string_equal(crash(T0, 4, 3), "plugin opened");
    assert_false(may_enter(T0, 2));
}

static void crashes_in_different_places_of_a_route_open_the_plugins(void **state)
{
    (void)state;
    assert_string_equal(crash(T0, 1, 1), "");
    assert_string_equal(crash(T0, 1, 2), "");
    assert_string_equal(crash(T0, 1, 3), "plugin opened");
}

static void crashes_outside_of_requests_open_the_plugins(void **state)
{
    (void)state;
    assert_string_equal(crash(T0, 0, 7), "");
    assert_string_equal(crash(T0, 0, 7), "");
    assert_string_equal(crash(T0, 0, 7), "plugin opened");
    assert_false(may_enter(T0, 5));
}

static void the_third_blocked_route_opens_the_plugins(void **state)
{
    (void)state;
    block(T0, 1);
    block(T0, 2);
    assert_true(may_enter(T0, 9));
    crash(T0, 3, 0xabc);
    crash(T0, 3, 0xabc);
    assert_string_equal(crash(T0, 3, 0xabc), "route 3 opened, plugin opened");
    assert_false(may_enter(T0, 9));
}

static void a_blocked_routes_crashes_are_its_own_business(void **state)
{
    (void)state;
    block(T0, 1);
    for (uint64_t place = 0; place < 20; place++) /* requests that were on their way */
        assert_string_equal(crash(T0, 1, place), "");
    assert_true(may_enter(T0, 2));
    assert_true(may_enter(T0 + 30000, 1));
    assert_string_equal(crash(T0 + 30000, 1, 0xabc), "route 1 reopened");
    assert_true(may_enter(T0 + 30000, 2));
    assert_false(may_enter(T0 + 89999, 1));
}

static void the_guard_falls_with_the_last_block(void **state)
{
    struct quarantine_answer one, two;

    (void)state;
    block(T0, 1);
    block(T0, 2);
    assert_true(quarantine_ask(&q, &limits, T0 + 30000, 1, &one));
    assert_int_equal(one.n_trials, 1);
    assert_int_equal(one.n_news, 1);
    assert_true(quarantine_ask(&q, &limits, T0 + 30000, 2, &two));
    assert_int_equal(quarantine_trial_ended(&q, &limits, &one.trial[0], true).change,
                     BREAKER_RECOVERED);
    assert_true(quarantine_is_on(&q));
    assert_int_equal(quarantine_trial_ended(&q, &limits, &two.trial[0], true).change,
                     BREAKER_RECOVERED);
    assert_false(quarantine_is_on(&q));
}

/* A worker may die between two stores. */
static void a_guard_that_was_left_behind_is_set_right(void **state)
{
    struct quarantine_answer answer;

    (void)state;
    atomic_store(&q.guard, 1);
    assert_true(quarantine_ask(&q, &limits, T0, 1, &answer));
    assert_false(quarantine_is_on(&q));
    block(T0, 1);
    atomic_store(&q.guard, 0);
    crash(T0, 1, 0xabc);
    assert_true(quarantine_is_on(&q));
}

static void a_route_that_is_refused_gives_the_plugins_trial_back(void **state)
{
    struct quarantine_answer answer;

    (void)state;
    block(T0 + 20000, 1);
    for (uint64_t i = 0; i < limits.crashes; i++)
        crash(T0, 0, i);
    assert_false(quarantine_ask(&q, &limits, T0 + 30000, 1, &answer)); /* blocked until 50000 */
    assert_int_equal(answer.retry_ms, 20000);
    assert_true(quarantine_ask(&q, &limits, T0 + 30000, 2, &answer)); /* the plugin's one trial */
    assert_int_equal(answer.n_trials, 1);
}

static void kinds_beyond_the_table_count_for_the_plugin(void **state)
{
    struct breaker_limits many = limits;
    struct quarantine_news news[2];

    (void)state;
    many.crashes = 64;
    for (uint64_t place = 0; place < 63; place++)
        assert_int_equal(quarantine_charge(&q, &many, T0, 1, place, news), 0);
    assert_int_equal(quarantine_charge(&q, &many, T0, 1, 63, news), 1);
    assert_int_equal(news[0].change, BREAKER_OPENED);
    assert_int_equal(news[0].route, 0);
}

static void places_of_long_ago_make_room(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 10 * QUARANTINE_BLOCKS; i++)
        assert_string_equal(crash(T0 + (int64_t)i * 50000, 1, i), "");
    block(T0 + 100000000, 7);
}

static void tells_what_happened_in_a_sentence(void **state)
{
    struct quarantine_news news = {.change = BREAKER_OPENED, .route = 1, .wait_ms = 30000};
    char text[512];

    (void)state;
    quarantine_tell(&news, &limits, "api", "answered 503", text, sizeof text);
    assert_string_equal(text,
                        "route 'api' is blocked: 3 equal crashes within 60 s; its requests are "
                        "answered 503 for 30 s, then 1 is let in on trial; other routes go on");
    news.is_by_routes = true;
    quarantine_tell(&news, &limits, NULL, "answered 503", text, sizeof text);
    assert_non_null(strstr(text, "the breaker opens: 3 of its routes are blocked;"));
}

#define TEST(NAME) cmocka_unit_test_setup(NAME, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(equal_crashes_block_their_route_alone),
        TEST(crashes_in_different_places_of_a_route_open_the_plugins),
        TEST(crashes_outside_of_requests_open_the_plugins),
        TEST(the_third_blocked_route_opens_the_plugins),
        TEST(a_blocked_routes_crashes_are_its_own_business),
        TEST(the_guard_falls_with_the_last_block),
        TEST(a_guard_that_was_left_behind_is_set_right),
        TEST(a_route_that_is_refused_gives_the_plugins_trial_back),
        TEST(kinds_beyond_the_table_count_for_the_plugin),
        TEST(places_of_long_ago_make_room),
        TEST(tells_what_happened_in_a_sentence),
    };

    return cmocka_run_group_tests_name("quarantine", tests, NULL, NULL);
}
