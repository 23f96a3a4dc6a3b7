/*
 * test_host_http.c - the host for plugins' own unit tests: other servers, by a plugin that asks them.
 */
#include "../../../sdk/testing/bulkhead_test.h"

#include "../../plugins/caller.c" /* NOLINT: under test */

static const char *answer(bht *t, const char *target)
{
    bh_req *r = bht_request(t, "GET", target);

    bht_run(r);
    assert_true(bht_wait(r, 1000));
    assert_int_equal(bht_status(r), 200);
    return bht_resp_body(r);
}

static void a_server_answers_what_the_test_says(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    bht_upstream(t, 201, "X-Other: 1\nX-Seen: yes", "hello", BH_OK);
    assert_string_equal(answer(t, "/call?to=http://a:1&path=/x&method=POST&body=b"),
                        "0 201 5 yes hello");
    assert_string_equal(bht_asked(t), "POST http://a:1/x\nX-Asked: by caller\nX-Empty: \n\nb\n");
    bht_close(t);
}

static void one_that_does_not_answer_is_an_error(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    assert_string_equal(answer(t, "/call?to=http://a&path=/"), "-7 0 0 - as the test says");
    bht_upstream(t, 0, NULL, NULL, BH_ETIME);
    assert_string_equal(answer(t, "/call?to=http://a&path=/"), "-11 0 0 - as the test says");
    bht_upstream(t, 200, NULL, "too long", BH_OK);
    assert_string_equal(answer(t, "/call?to=http://a&path=/&max=7"), "-5 0 0 - as the test says");
    bht_close(t);
}

static void what_is_cancelled_is_not_answered(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    bht_upstream(t, 200, NULL, "x", BH_OK);
    assert_string_equal(answer(t, "/call?to=http://a&path=/&do=cancel"), "0 -2");
    bht_close(t);
}

static void what_is_no_request_is_refused(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    assert_string_equal(answer(t, "/call?to=ftp://a&path=/"), "-3 0");
    assert_string_equal(answer(t, "/call?to=http://a&path=x"), "-3 0");
    assert_string_equal(answer(t, "/call?to=http://a&path=/&do=header"), "-3 0");
    assert_string_equal(bht_asked(t), "");
    bht_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_answers_what_the_test_says),
        cmocka_unit_test(one_that_does_not_answer_is_an_error),
        cmocka_unit_test(what_is_cancelled_is_not_answered),
        cmocka_unit_test(what_is_no_request_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
