/*
 * test_headers.c - what headers promises.
 */
#include <bulkhead_test.h>

static void request_changes_are_seen_by_later_plugins(void **state)
{
    bht *t = bht_open("request_remove=Cookie", "request_set.X-Env=prod", "request_add.Via=1.1 bh",
                      NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_header(r, "cookie", "a=b");
    bht_header(r, "X-Env", "evil");
    bht_header(r, "Via", "1.0 proxy");
    bht_run(r);
    assert_true(bht_passed(r));
    assert_null(bht_req_header(r, "Cookie"));
    assert_string_equal(bht_req_header(r, "X-Env"), "prod");
    assert_string_equal(bht_req_header(r, "Via"), "1.0 proxy, 1.1 bh");
    bht_close(t);
}

static void response_changes_win_over_the_handlers(void **state)
{
    bht *t = bht_open("response_remove=X-Powered-By", "response_set.X-Frame-Options=DENY",
                      "response_add.Vary=Accept", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_next_header(r, "X-Powered-By", "php");
    bht_next_header(r, "X-Frame-Options", "SAMEORIGIN");
    bht_next_header(r, "Vary", "Origin");
    bht_run(r);
    assert_null(bht_resp_header(r, "X-Powered-By"));
    assert_string_equal(bht_resp_header(r, "X-Frame-Options"), "DENY");
    assert_string_equal(bht_resp_header(r, "Vary"), "Origin, Accept");
    bht_close(t);
}

static void error_answers_have_the_headers_too(void **state)
{
    bht *t = bht_open("response_set.X-Frame-Options=DENY", NULL);
    bh_req *r = bht_request(t, "GET", "/");
    bh_error e = {.struct_size = sizeof e, .kind = BH_E_FAIL, .plugin = "x"};

    (void)state;
    bht_next_error(r, &e);
    bht_run(r);
    assert_int_equal(bht_status(r), 500);
    assert_string_equal(bht_resp_header(r, "X-Frame-Options"), "DENY");
    bht_close(t);
}

static void removing_what_is_not_there_is_no_failure(void **state)
{
    bht *t = bht_open("request_remove=X-None", "response_remove=X-None", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_status(r), 200);
    bht_close(t);
}

static void without_options_nothing_changes(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_status(r), 200);
    bht_close(t);
}

static void refuses(const char *option, const char *about)
{
    bht *t = bht_try(option, NULL);

    assert_int_not_equal(bht_rc(t), BH_OK);
    assert_non_null(strstr(bht_errors(t), about));
    bht_close(t);
}

static void bad_names_and_values_are_refused_at_once(void **state)
{
    (void)state;
    refuses("request_set.X Env=prod", "request_set: \"X Env\" is not a header name");
    refuses("response_set.X-A=one\r\nX-B: two", "response_set: \"X-A\" has a control character");
    refuses("response_add.X-A= blank", "has a blank before or after");
    refuses("response_set.content-length=5", "only the server sets");
    refuses("request_remove=Transfer-Encoding", "request_remove: ");
}

static void every_fault_is_reported(void **state)
{
    bht *t = bht_try("request_set.A B=1", "response_set.C D=2", NULL);

    (void)state;
    assert_non_null(strstr(bht_errors(t), "A B"));
    assert_non_null(strstr(bht_errors(t), "C D"));
    bht_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_changes_are_seen_by_later_plugins),
        cmocka_unit_test(response_changes_win_over_the_handlers),
        cmocka_unit_test(error_answers_have_the_headers_too),
        cmocka_unit_test(removing_what_is_not_there_is_no_failure),
        cmocka_unit_test(without_options_nothing_changes),
        cmocka_unit_test(bad_names_and_values_are_refused_at_once),
        cmocka_unit_test(every_fault_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
