/*
 * test_cors.c - what cors promises.
 */
#include <bulkhead_test.h>

static bh_req *get(bht *t, const char *origin)
{
    bh_req *r = bht_request(t, "GET", "/");

    if (origin != NULL)
        bht_header(r, "Origin", origin);
    bht_run(r);
    assert_true(bht_passed(r));
    return r;
}

static bh_req *preflight(bht *t, const char *origin)
{
    bh_req *r = bht_request(t, "OPTIONS", "/");

    bht_header(r, "Origin", origin);
    bht_header(r, "Access-Control-Request-Method", "PUT");
    bht_run(r);
    assert_int_equal(bht_status(r), 204);
    assert_int_equal(bht_resp_len(r), 0);
    return r;
}

static const char *allowed(bh_req *r)
{
    const char *s = bht_resp_header(r, "Access-Control-Allow-Origin");

    return s ? s : "";
}

static void a_request_without_origin_passes_untouched(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = get(t, NULL);

    (void)state;
    assert_string_equal(allowed(r), "");
    assert_null(bht_resp_header(r, "Vary"));
    bht_close(t);
}

static void every_origin_is_a_star_by_default(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    assert_string_equal(allowed(get(t, "https://a.example")), "*");
    bht_close(t);
}

static void only_named_origins_are_allowed(void **state)
{
    bht *t = bht_open("origins=https://a.example,http://b.example:8080", NULL);

    (void)state;
    assert_string_equal(allowed(get(t, "https://a.example")), "https://a.example");
    assert_string_equal(allowed(get(t, "http://b.example:8080")), "http://b.example:8080");
    assert_string_equal(allowed(get(t, "http://a.example")), "");
    assert_string_equal(allowed(get(t, "https://a.example.evil")), "");
    assert_string_equal(allowed(get(t, "null")), "");
    bht_close(t);
}

static void a_pattern_stands_for_subdomains_only(void **state)
{
    bht *t = bht_open("origins=https://*.example.org", NULL);

    (void)state;
    assert_string_equal(allowed(get(t, "https://a.example.org")), "https://a.example.org");
    assert_string_equal(allowed(get(t, "https://a.b.example.org")), "https://a.b.example.org");
    assert_string_equal(allowed(get(t, "https://example.org")), "");
    assert_string_equal(allowed(get(t, "https://.example.org")), "");
    assert_string_equal(allowed(get(t, "https://evilexample.org")), "");
    assert_string_equal(allowed(get(t, "https://evil.test/.example.org")), "");
    assert_string_equal(allowed(get(t, "https://evil.test:1@a.example.org")), "");
    assert_string_equal(allowed(get(t, "http://a.example.org")), "");
    assert_string_equal(allowed(get(t, "https://a.example.org:444")), "");
    bht_close(t);
}

static void answers_vary_by_origin_unless_all_are_alike(void **state)
{
    bht *t = bht_open("origins=https://a.example", NULL);

    (void)state;
    assert_string_equal(bht_resp_header(get(t, NULL), "Vary"), "Origin");
    assert_string_equal(bht_resp_header(get(t, "https://other.example"), "Vary"), "Origin");
    assert_string_equal(bht_resp_header(get(t, "https://a.example"), "Vary"), "Origin");
    bht_close(t);
}

static void a_preflight_is_answered_here(void **state)
{
    bht *t = bht_open("origins=https://a.example", "methods=GET,PUT", "headers=X-A,X-B",
                      "max_age=1h", "expose=X-C", "credentials=true", NULL);
    bh_req *r = preflight(t, "https://a.example");

    (void)state;
    assert_false(bht_passed(r));
    assert_string_equal(allowed(r), "https://a.example");
    assert_string_equal(bht_resp_header(r, "Access-Control-Allow-Methods"), "GET, PUT");
    assert_string_equal(bht_resp_header(r, "Access-Control-Allow-Headers"), "X-A, X-B");
    assert_string_equal(bht_resp_header(r, "Access-Control-Max-Age"), "3600");
    assert_string_equal(bht_resp_header(r, "Access-Control-Allow-Credentials"), "true");
    assert_null(bht_resp_header(r, "Access-Control-Expose-Headers"));
    bht_close(t);
}

static void a_stranger_learns_nothing_from_a_preflight(void **state)
{
    bht *t = bht_open("origins=https://a.example", NULL);
    bh_req *r = preflight(t, "https://evil.example");

    (void)state;
    assert_string_equal(allowed(r), "");
    assert_null(bht_resp_header(r, "Access-Control-Allow-Methods"));
    bht_close(t);
}

static void options_without_a_request_method_is_no_preflight(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "OPTIONS", "/");

    (void)state;
    bht_header(r, "Origin", "https://a.example");
    bht_run(r);
    assert_true(bht_passed(r));
    bht_close(t);
}

static void pages_can_read_error_answers(void **state)
{
    bht *t = bht_open("expose=X-Request-Id", NULL);
    bh_req *r = bht_request(t, "GET", "/");
    bh_error e = {.struct_size = sizeof e, .kind = BH_E_CRASH, .plugin = "x"};

    (void)state;
    bht_header(r, "Origin", "https://a.example");
    bht_next_error(r, &e);
    bht_run(r);
    assert_int_equal(bht_status(r), 500);
    assert_string_equal(allowed(r), "*");
    assert_string_equal(bht_resp_header(r, "Access-Control-Expose-Headers"), "X-Request-Id");
    bht_close(t);
}

static void refuses(const char *a, const char *b, const char *about)
{
    bht *t = b ? bht_try(a, b, NULL) : bht_try(a, NULL);

    assert_int_not_equal(bht_rc(t), BH_OK);
    assert_non_null(strstr(bht_errors(t), about));
    bht_close(t);
}

static void credentials_for_everybody_are_refused(void **state)
{
    (void)state;
    refuses("credentials=true", NULL, "origins: must be named");
    refuses("credentials=true", "origins=*", "origins: must be named");
    refuses("credentials=true", "headers=*", "headers: cannot be \"*\"");
}

static void what_is_not_an_origin_is_refused(void **state)
{
    (void)state;
    refuses("origins=example.org", NULL, "not an origin");
    refuses("origins=https://example.org/", NULL, "not an origin");
    refuses("origins=https://*", NULL, "not an origin");
    refuses("origins=https://a*.example.org", NULL, "not an origin");
    refuses("origins=https://Example.org", NULL, "not an origin");
    refuses("methods=GET POST", NULL, "not a token");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_without_origin_passes_untouched),
        cmocka_unit_test(every_origin_is_a_star_by_default),
        cmocka_unit_test(only_named_origins_are_allowed),
        cmocka_unit_test(a_pattern_stands_for_subdomains_only),
        cmocka_unit_test(answers_vary_by_origin_unless_all_are_alike),
        cmocka_unit_test(a_preflight_is_answered_here),
        cmocka_unit_test(a_stranger_learns_nothing_from_a_preflight),
        cmocka_unit_test(options_without_a_request_method_is_no_preflight),
        cmocka_unit_test(pages_can_read_error_answers),
        cmocka_unit_test(credentials_for_everybody_are_refused),
        cmocka_unit_test(what_is_not_an_origin_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
