/*
 * test_respond.c - what plugins/respond promises.
 */
#include <bulkhead_test.h>

static void answers_200_with_an_empty_text_by_default(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "GET", "/anything");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_status(r), 200);
    assert_string_equal(bht_resp_body(r), "");
    assert_string_equal(bht_resp_header(r, "Content-Type"), "text/plain; charset=utf-8");
    assert_false(bht_passed(r));
    bht_close(t);
}

static void answers_as_configured_without_copying_the_body(void **state)
{
    bht *t = bht_open("status=503", "body={\"up\": false}", "content_type=application/json",
                      "headers.Retry-After=30", "headers.X-Frame-Options=DENY", NULL);
    bh_req *r = bht_request(t, "POST", "/");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_status(r), 503);
    assert_int_equal(bht_kind(r), BHT_REF);
    assert_string_equal(bht_resp_body(r), "{\"up\": false}");
    assert_string_equal(bht_resp_header(r, "Content-Type"), "application/json");
    assert_string_equal(bht_resp_header(r, "Retry-After"), "30");
    assert_string_equal(bht_resp_header(r, "X-Frame-Options"), "DENY");
    bht_close(t);
}

static void an_empty_content_type_sends_none(void **state)
{
    bht *t = bht_open("content_type=", "status=204", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_status(r), 204);
    assert_null(bht_resp_header(r, "Content-Type"));
    bht_close(t);
}

static void refuses_a_status_out_of_range(void **state)
{
    bht *t = bht_try("status=99", NULL);

    (void)state;
    assert_string_equal(bht_errors(t), "status: out of range\n");
    bht_close(t);
}

static void refuses_a_header_that_would_split_the_answer(void **state)
{
    bht *t = bht_try("headers.X-A=1\r\nSet-Cookie: a=b", NULL);

    (void)state;
    assert_int_equal(bht_rc(t), BH_FAIL);
    assert_non_null(strstr(bht_errors(t), "headers: "));
    bht_close(t);
}

static void refuses_a_body_where_the_status_allows_none(void **state)
{
    bht *t = bht_try("status=304", "body=x", NULL);

    (void)state;
    assert_int_equal(bht_rc(t), BH_FAIL);
    assert_non_null(strstr(bht_errors(t), "body: "));
    bht_close(t);
}

static void fails_the_request_when_the_host_owns_a_header(void **state)
{
    bht *t = bht_open("headers.Content-Length=3", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_verdict(r), BH_FAIL);
    assert_non_null(strstr(bht_log_text(t), "Content-Length"));
    bht_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_200_with_an_empty_text_by_default),
        cmocka_unit_test(answers_as_configured_without_copying_the_body),
        cmocka_unit_test(an_empty_content_type_sends_none),
        cmocka_unit_test(refuses_a_status_out_of_range),
        cmocka_unit_test(refuses_a_header_that_would_split_the_answer),
        cmocka_unit_test(refuses_a_body_where_the_status_allows_none),
        cmocka_unit_test(fails_the_request_when_the_host_owns_a_header),
    };

    return cmocka_run_group_tests_name("respond", tests, NULL, NULL);
}
