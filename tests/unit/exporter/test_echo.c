/*
 * test_echo.c - an answer that repeats a key is known by it; one that speaks of other things is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "exporter/echo.h"

static void keys_in_the_path_and_the_query_are_found(void **state)
{
    (void)state;
    assert_true(echo_has_url("no hook T024BE7LD here", "https://h/services/T024BE7LD"));
    assert_true(echo_has_url("bad key: s3cret", "https://h/send?key=s3cret"));
    assert_true(echo_has_url("bad key: s3cret", "https://h/send?a=b&key=s3cret#x"));
    assert_true(echo_has_url("what is s3cret", "https://h?s3cret"));
}

static void other_answers_are_shown(void **state)
{
    (void)state;
    assert_false(echo_has_url("no traces: key", "https://h.example/v1/traces?key=s3cret"));
    assert_false(echo_has_url("h.example.org is down", "https://h.example.org/"));
    assert_false(echo_has_url("invalid webhook url", "https://h/cgi-bin/webhook/send?key=s3cret"));
    assert_false(echo_has_url("", "https://h/?&=&"));
}

static void words_of_a_header_are_found(void **state)
{
    (void)state;
    assert_true(
        echo_has_header("token abcdefgh12 has expired", "Authorization: Bearer abcdefgh12"));
    assert_false(echo_has_header("Bearer is missing", "Authorization: Bearer abcdefgh12"));
    assert_false(echo_has_header("anything", "Expect:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_in_the_path_and_the_query_are_found),
        cmocka_unit_test(other_answers_are_shown),
        cmocka_unit_test(words_of_a_header_are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
