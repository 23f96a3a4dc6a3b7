/*
 * test_@NAME@.c - what the plugin promises. bulkhead_test.h stands in for the server.
 */
#include <bulkhead_test.h>

static void greets_the_world_by_default(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "GET", "/hello");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_status(r), 200);
    assert_string_equal(bht_resp_body(r), "Hello, world!\n");
    bht_close(t);
}

static void greets_by_name_as_the_option_says(void **state)
{
    bht *t = bht_open("greeting=Good day", NULL);
    bh_req *r = bht_request(t, "GET", "/hello?name=Eve");

    (void)state;
    bht_run(r);
    assert_string_equal(bht_resp_body(r), "Good day, Eve!\n");
    bht_close(t);
}

static void marks_the_answers_of_others(void **state)
{
    bht *t = bht_open("mark=seen", NULL);
    bh_req *r = bht_request(t, "GET", "/elsewhere");

    (void)state;
    bht_run(r);
    assert_true(bht_passed(r));
    assert_string_equal(bht_resp_header(r, "X-Passed-Through"), "seen");
    bht_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greets_the_world_by_default),
        cmocka_unit_test(greets_by_name_as_the_option_says),
        cmocka_unit_test(marks_the_answers_of_others),
    };

    return cmocka_run_group_tests_name("@NAME@", tests, NULL, NULL);
}
