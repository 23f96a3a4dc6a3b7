/*
 * test_error_pages.c - what plugins/error_pages promises.
 */
#include <bulkhead_test.h>

static const bh_error crash = {.struct_size = sizeof crash,
                               .kind = BH_E_CRASH,
                               .signo = 11,
                               .plugin = "billing",
                               .hook = "on_request",
                               .record_id = "20261123-0007"};

static bh_req *failing(bht *t, int32_t kind, const char *accept)
{
    static bh_error err;
    bh_req *r = bht_request(t, "GET", "/a/%3Cscript%3E?q=1");

    err = crash;
    err.kind = kind;
    if (accept != NULL)
        bht_header(r, "Accept", accept);
    bht_next_error(r, &err);
    bht_run(r);
    return r;
}

static void each_kind_of_failure_has_its_status(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    assert_int_equal(bht_status(failing(t, BH_E_CRASH, NULL)), 500);
    assert_int_equal(bht_status(failing(t, BH_E_DEADLINE, NULL)), 504);
    assert_int_equal(bht_status(failing(t, BH_E_FAIL, NULL)), 500);
    assert_int_equal(bht_status(failing(t, BH_E_QUARANTINED, NULL)), 503);
    assert_int_equal(bht_status(failing(t, BH_E_LIMIT, NULL)), 413);
    assert_int_equal(bht_status(failing(t, 99, NULL)), 500);
    bht_close(t);
}

static void only_a_503_says_when_to_come_back(void **state)
{
    bht *t = bht_open("retry_after=90s", NULL);

    (void)state;
    assert_string_equal(bht_resp_header(failing(t, BH_E_QUARANTINED, NULL), "Retry-After"), "90");
    assert_null(bht_resp_header(failing(t, BH_E_CRASH, NULL), "Retry-After"));
    bht_close(t);
}

static void error_pages_are_never_cached(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = failing(t, BH_E_CRASH, NULL);

    (void)state;
    assert_string_equal(bht_resp_header(r, "Cache-Control"), "no-store");
    assert_string_equal(bht_resp_header(r, "Vary"), "Accept");
    bht_close(t);
}

static void tells_the_record_and_nothing_else_of_the_inside(void **state)
{
    bht *t = bht_open(NULL);
    static const char *const accepts[] = {"text/html", "application/json"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *body = bht_resp_body(failing(t, BH_E_CRASH, accepts[i]));

        assert_non_null(strstr(body, "20261123-0007"));
        assert_null(strstr(body, "billing"));
        assert_null(strstr(body, "on_request"));
        assert_null(strstr(body, "SIG"));
    }
    bht_close(t);
}

static void withholds_the_record_when_told_to(void **state)
{
    bht *t = bht_open("show_id=false", NULL);

    (void)state;
    assert_null(strstr(bht_resp_body(failing(t, BH_E_CRASH, "text/html")), "20261123"));
    assert_null(strstr(bht_resp_body(failing(t, BH_E_CRASH, "application/json")), "20261123"));
    bht_close(t);
}

static void a_problem_document_has_the_members_of_rfc_9457(void **state)
{
    bht *t = bht_open("format=json", NULL);
    bh_req *r = failing(t, BH_E_DEADLINE, "text/html");

    (void)state;
    assert_string_equal(bht_resp_header(r, "Content-Type"), "application/problem+json");
    assert_string_equal(bht_resp_body(r),
                        "{\"type\":\"about:blank\",\"title\":\"Gateway Timeout\",\"status\":504,"
                        "\"detail\":\"Handling this request took too long, and it was stopped.\","
                        "\"id\":\"20261123-0007\"}\n");
    assert_null(bht_resp_header(r, "Vary"));
    bht_close(t);
}

static void the_accept_header_chooses_between_html_and_json(void **state)
{
    static const struct {
        const char *accept;
        bool json;
    } rows[] = {
        {NULL, false},
        {"", false},
        {"*/*", false},
        {"text/html", false},
        {"application/json", true},
        {"APPLICATION/JSON", true},
        {"application/problem+json", true},
        {"application/vnd.api+json", true},
        {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false},
        {"text/html;q=0.5, application/json", true},
        {"text/html;q=0.5,application/json;q=0.4", false},
        {"text/html;level=1;q=0.1, application/json ; q=0.2", true},
        {"application/json;q=0, */*", false},
        {"text/html;q=0, */*;q=0.1", true},
        {"text/*;q=0.3, application/*;q=0.301", true},
        {"application/json, text/html", false},
        {"image/png", false},
        {",,;;q=,application/json;q=x", true},
    };
    bht *t = bht_open(NULL);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bh_req *r = failing(t, BH_E_CRASH, rows[i].accept);
        bool json = strstr(bht_resp_header(r, "Content-Type"), "json") != NULL;

        if (json != rows[i].json)
            fail_msg("Accept: %s", rows[i].accept ? rows[i].accept : "(none)");
    }
    bht_close(t);
}

static void several_accept_lines_count_as_one(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_header(r, "Accept", "text/html;q=0.1");
    bht_header(r, "Accept", "application/json");
    bht_next_error(r, &crash);
    bht_run(r);
    assert_string_equal(bht_resp_header(r, "Content-Type"), "application/problem+json");
    bht_close(t);
}

static void an_own_page_gets_its_placeholders_filled_and_escaped(void **state)
{
    static const char page[] = "{{status}}|{{title}}|{{id}}|{{path}}|{{other}}|{{{status}}}|{{";
    bht *t;
    bh_req *r;

    (void)state;
    bht_file("error/500.html", page, sizeof page - 1);
    t = bht_open("crash=error/500.html", NULL);
    r = failing(t, BH_E_CRASH, "text/html");
    assert_string_equal(bht_resp_body(r),
                        "500|Internal Server Error|20261123-0007|/a/&lt;script&gt;|{{other}}|"
                        "{500}|{{");
    /* The other kinds keep the built-in page. */
    assert_non_null(strstr(bht_resp_body(failing(t, BH_E_FAIL, "text/html")), "<!doctype html>"));
    bht_close(t);
}

static void a_page_that_cannot_be_read_is_refused_at_open(void **state)
{
    bht *t = bht_try("deadline=nowhere.html", NULL);

    (void)state;
    assert_int_equal(bht_rc(t), BH_FAIL);
    assert_non_null(strstr(bht_log_text(t), "nowhere.html: No such file"));
    bht_close(t);

    t = bht_try("deadline=.", NULL);
    assert_int_equal(bht_rc(t), BH_FAIL);
    bht_close(t);
}

static void leaves_answers_alone_that_did_not_fail(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_next(r, 404, "text/plain", "not here\n");
    bht_run(r);
    assert_int_equal(bht_status(r), 404);
    assert_string_equal(bht_resp_body(r), "not here\n");
    bht_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_failure_has_its_status),
        cmocka_unit_test(only_a_503_says_when_to_come_back),
        cmocka_unit_test(error_pages_are_never_cached),
        cmocka_unit_test(tells_the_record_and_nothing_else_of_the_inside),
        cmocka_unit_test(withholds_the_record_when_told_to),
        cmocka_unit_test(a_problem_document_has_the_members_of_rfc_9457),
        cmocka_unit_test(the_accept_header_chooses_between_html_and_json),
        cmocka_unit_test(several_accept_lines_count_as_one),
        cmocka_unit_test(an_own_page_gets_its_placeholders_filled_and_escaped),
        cmocka_unit_test(a_page_that_cannot_be_read_is_refused_at_open),
        cmocka_unit_test(leaves_answers_alone_that_did_not_fail),
    };

    return cmocka_run_group_tests_name("error_pages", tests, NULL, NULL);
}
