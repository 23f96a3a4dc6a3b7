#include "conf/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/diag.h"

static struct arena arena;
static struct diag diag;
static struct plan plan;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 1u << 20);
    diag_init(&diag);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    diag_fini(&diag);
    return 0;
}

static int parse(const char *text)
{
    return plan_parse(text, "plan", &arena, &diag, &plan);
}

static void refuse(const char *text, const char *said)
{
    assert_int_not_equal(parse(text), 0);
    assert_true(diag.n > 0);
    if (strstr(diag.item[diag.n - 1].what, said) == NULL)
        fail_msg("'%s' does not say '%s'", diag.item[diag.n - 1].what, said);
}

static void without_steps_there_are_the_usual_ones(void **state)
{
    (void)state;
    assert_int_equal(parse(NULL), 0);
    assert_int_equal(plan.n_steps, 2);
    assert_int_equal(plan.step[0].shadow, 1000);
    assert_int_equal(plan.step[1].canary, 50000);
    assert_int_equal(plan.samples, 500);
    assert_true(plan.has_errors && plan.has_latency && !plan.is_manual);
}

static void all_of_it_can_be_said(void **state)
{
    (void)state;
    assert_int_equal(parse("steps: [{shadow: 0.1%, for: 1s}, {canary: 12.5 %, samples: 7}]\n"
                           "key: cookie:sid\n"
                           "latency: off\n"
                           "gate: {metric: hits, improves_by: 9.2%, better: lower}\n"
                           "promote: manual\n"),
                     0);
    assert_int_equal(plan.step[0].for_ms, 1000);
    assert_int_equal(plan.step[1].canary, 125000);
    assert_int_equal(plan.step[1].samples, 7);
    assert_int_equal(plan.key, PLAN_KEY_COOKIE);
    assert_string_equal(plan.key_name, "sid");
    assert_false(plan.has_latency);
    assert_int_equal(plan.gate.improves_by, 92000);
    assert_true(plan.gate.lower_is_better && plan.is_manual);
}

static void json_will_do(void **state)
{
    (void)state;
    assert_int_equal(parse("{\"steps\":[{\"canary\":\"5%\",\"for\":\"10s\",\"samples\":\"3\"}]}"),
                     0);
    assert_int_equal(plan.step[0].samples, 3);
}

static void mistakes_say_what_would_work(void **state)
{
    (void)state;
    refuse("steps: [{canary: 5}]", "expected a percentage such as 5%");
    refuse("steps: [{canary: 101%}]", "at most 100%");
    refuse("steps: [{for: 5s}]", "either shadow or canary");
    refuse("steps: [{canary: 1%, shadow: 1%}]", "not both");
    refuse("steps: [{canary: 1%}, {shadow: 1%}]", "shadow steps come before");
    refuse("steps: [{canary: 5%}, {canary: 1%}]", "must not become smaller");
    refuse("steps: []", "at least 1");
    refuse("key: 'header:'", "header:NAME");
    refuse("key: ip", "header:NAME");
    refuse("gate: {metric: x}", "improves_by or worsens_by");
    refuse("gate: {improves_by: 1%}", "needs a metric");
    refuse("weight: 1%", "unknown key");
    refuse("[1]", "expected a mapping");
}

static void a_copy_outlives_the_first(void **state)
{
    struct arena first;
    struct plan copy;

    (void)state;
    arena_init(&first, 1u << 20);
    assert_int_equal(plan_parse("{key: header:x-user, gate: {metric: m, worsens_by: 1%}}", "plan",
                                &first, &diag, &plan),
                     0);
    assert_int_equal(plan_copy(&plan, &arena, &copy), 0);
    arena_fini(&first);
    assert_string_equal(copy.key_name, "x-user");
    assert_string_equal(copy.gate.metric, "m");
    assert_int_equal(copy.step[1].canary, 50000);
}

static void parts_print_as_they_were_written(void **state)
{
    char text[32];

    (void)state;
    plan_print_parts(1000, text, sizeof text);
    assert_string_equal(text, "0.1%");
    plan_print_parts(1000000, text, sizeof text);
    assert_string_equal(text, "100%");
    plan_print_parts(92000, text, sizeof text);
    assert_string_equal(text, "9.2%");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(without_steps_there_are_the_usual_ones),
        TEST(all_of_it_can_be_said),
        TEST(json_will_do),
        TEST(mistakes_say_what_would_work),
        TEST(a_copy_outlives_the_first),
        TEST(parts_print_as_they_were_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
