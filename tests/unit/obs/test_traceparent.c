#include "obs/traceparent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

static bool parse(const char *s)
{
    struct traceparent t;

    return traceparent_parse(s, strlen(s), &t);
}

static void a_good_one_is_read_and_written(void **state)
{
    static const char text[] = "00-" TRACE "-" PARENT "-01";
    char out[TRACEPARENT_LEN + 1];
    struct traceparent t;

    (void)state;
    assert_true(traceparent_parse(text, strlen(text), &t));
    assert_int_equal(t.trace_id[0], 0x4b);
    assert_int_equal(t.parent[7], 0xb7);
    assert_int_equal(t.flags, TRACEPARENT_SAMPLED);
    traceparent_format(&t, out);
    assert_string_equal(out, text);
}

static void unknown_flags_are_not_passed_on(void **state)
{
    static const char text[] = "00-" TRACE "-" PARENT "-ff";
    struct traceparent t;

    (void)state;
    assert_true(traceparent_parse(text, strlen(text), &t));
    assert_int_equal(t.flags, TRACEPARENT_SAMPLED);
}

static void versions_to_come_are_read_as_far_as_they_are_known(void **state)
{
    (void)state;
    assert_true(parse("cc-" TRACE "-" PARENT "-01"));
    assert_true(parse("cc-" TRACE "-" PARENT "-01-what-is-to-come"));
    assert_false(parse("cc-" TRACE "-" PARENT "-01.what"));
    assert_false(parse("ff-" TRACE "-" PARENT "-01"));
}

static void bad_ones_are_none(void **state)
{
    static const char *const bad[] = {
        "",
        "00",
        "00-" TRACE "-" PARENT,
        "00-" TRACE "-" PARENT "-",
        "00-" TRACE "-" PARENT "-1",
        "00-" TRACE "-" PARENT "-01-",
        "00-" TRACE "-" PARENT "-01-00",
        "00-" TRACE "-" PARENT "-0x",
        "0-" TRACE "-" PARENT "-01",
        "00_" TRACE "_" PARENT "_01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7a-01",
        " 00-" TRACE "-" PARENT "-01",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (parse(bad[i]))
            fail_msg("taken: %s", bad[i]);
}

static bool state_is_valid(const char *s)
{
    int n = 0;

    return tracestate_is_valid(s, strlen(s), &n);
}

static void states_are_checked(void **state)
{
    static const char *const good[] = {
        "",        "foo=1",         "foo=1,bar=2",  "foo=1 , \t bar=2", "foo=1,,bar=2",
        "a*/_-=1", "0tenant@sys=1", "foo= leading", "foo=1,",
    };
    static const char *const bad[] = {
        "foo",
        "foo=",
        "=1",
        "Foo=1",
        "foo=1,foo=2",
        "foo=a=b",
        "0foo=1",
        "foo@=1",
        "@foo=1",
        "foo@bar@baz=1",
        "foo=\x7f",
        "foo bar=1",
        "foo=\xc3\xa9",
        "t@system-longer-than=1",
        "foo=1;bar=2=3",
    };
    char many[64 * 8] = "";
    int n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!state_is_valid(good[i]))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (state_is_valid(bad[i]))
            fail_msg("taken: %s", bad[i]);
    for (int i = 0; i < 33; i++)
        sprintf(many + strlen(many), "%sa%d=1", i > 0 ? "," : "", i);
    assert_false(tracestate_is_valid(many, strlen(many), &n));
    *strrchr(many, ',') = '\0';
    n = 0;
    assert_true(tracestate_is_valid(many, strlen(many), &n));
    assert_int_equal(n, 32);
    assert_false(
        tracestate_is_valid("b=1", 3, &n)); /* a second field: together they are too many */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_one_is_read_and_written),
        cmocka_unit_test(unknown_flags_are_not_passed_on),
        cmocka_unit_test(versions_to_come_are_read_as_far_as_they_are_known),
        cmocka_unit_test(bad_ones_are_none),
        cmocka_unit_test(states_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
