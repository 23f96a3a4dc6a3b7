/*
 * test_redirect.c - what redirect promises.
 */
#include <bulkhead_test.h>

static void goes_to(const char *to, const char *target, const char *location)
{
    char option[256];
    bht *t;
    bh_req *r;

    snprintf(option, sizeof option, "to=%s", to);
    t = bht_open(option, NULL);
    r = bht_request(t, "GET", target);
    bht_run(r);
    assert_int_equal(bht_status(r), 302);
    assert_string_equal(bht_resp_header(r, "Location"), location);
    bht_close(t);
}

static void fills_the_template(void **state)
{
    (void)state;
    goes_to("https://{host}{path}", "/a/b", "https://example.com/a/b");
    goes_to("{scheme}://www.{host}/x{path}", "/a", "http://www.example.com/x/a");
    goes_to("/new", "/old", "/new");
    goes_to("https://example.org/{rest}", "/a/b", "https://example.org/a/b");
}

static void a_query_is_kept_and_its_question_mark_goes_without_one(void **state)
{
    (void)state;
    goes_to("/n?{query}", "/o?a=1&b=%20x", "/n?a=1&b=%20x");
    goes_to("/n?{query}", "/o", "/n");
    goes_to("/n?x=1&{query}", "/o", "/n?x=1");
}

static void what_the_client_sent_is_encoded(void **state)
{
    (void)state;
    goes_to("{path}", "/a%0d%0aSet-Cookie:%20x=1", "/a%0D%0ASet-Cookie:%20x=1");
    goes_to("{path}", "/%3Cb%3E%22%3f%23", "/%3Cb%3E%22%3F%23");
    goes_to("{path}", "/caf%C3%A9", "/caf%C3%A9");
}

static void no_path_leads_to_another_host(void **state)
{
    (void)state;
    goes_to("{path}", "//evil.example/x", "/evil.example/x");
    goes_to("{path}", "/%2Fevil.example", "/evil.example");
    goes_to("{path}", "/%5Cevil.example", "/%5Cevil.example");
    goes_to("/{rest}", "///evil.example", "/evil.example");
    goes_to("/{path}", "//evil.example", "/evil.example");
    goes_to("https://example.org{path}", "//evil.example", "https://example.org/evil.example");
}

static void refuses(const char *option, const char *about)
{
    bht *t = bht_try(option, strncmp(option, "to=", 3) == 0 ? NULL : "to=/x", NULL);

    assert_int_not_equal(bht_rc(t), BH_OK);
    assert_non_null(strstr(bht_errors(t), about));
    bht_close(t);
}

static void templates_that_let_the_client_choose_the_host_are_refused(void **state)
{
    (void)state;
    refuses("to={rest}", "to: must begin with");
    refuses("to=//example.org", "to: begins with //");
    refuses("to=https://example.org{rest}", "to: lets the client choose the host");
    refuses("to=https://{query}/", "to: lets the client choose the host");
    refuses("to=https://{path}", "to: has no host");
    refuses("to=javascript:{path}", "to: must begin with");
}

static void unsound_options_are_refused(void **state)
{
    (void)state;
    refuses("to=/a{user}", "knows {path}");
    refuses("to=/a b", "not allowed in a URL");
    refuses("to=/a\r\nX: y", "not allowed in a URL");
    refuses("status=304", "status: ");
    refuses("status=200", "status: ");
    refuses("from=old", "from: ");
    refuses("from=/a*b", "from: ");
}

static void every_status_can_be_given(void **state)
{
    static const char *const all[] = {"301", "302", "303", "307", "308"};
    char option[16];

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        bht *t;
        bh_req *r;

        snprintf(option, sizeof option, "status=%s", all[i]);
        t = bht_open("to=/x", option, NULL);
        r = bht_request(t, "POST", "/");
        bht_run(r);
        assert_int_equal(bht_status(r), atoi(all[i]));
        bht_close(t);
    }
}

static const char *from(const char *patterns, const char *target)
{
    static char location[256];
    char option[128];
    bht *t;
    bh_req *r;

    snprintf(option, sizeof option, "from=%s", patterns);
    t = bht_open("to=/new/{rest}", option, NULL);
    r = bht_request(t, "GET", target);
    bht_run(r);
    snprintf(location, sizeof location, "%s",
             bht_passed(r) ? "passed" : bht_resp_header(r, "Location"));
    bht_close(t);
    return location;
}

static void only_paths_in_from_are_redirected(void **state)
{
    (void)state;
    assert_string_equal(from("/old/**", "/old/a/b"), "/new/a/b");
    assert_string_equal(from("/old/**", "/old/"), "/new/");
    assert_string_equal(from("/old/**", "/old"), "/new/");
    assert_string_equal(from("/old/**", "/older"), "passed");
    assert_string_equal(from("/one,/two", "/two"), "/new/two");
    assert_string_equal(from("/one,/two", "/two/"), "passed");
    assert_string_equal(from("/**", "/x"), "/new/x");
}

static void a_strange_host_is_a_bad_request(void **state)
{
    bht *t = bht_open("to=https://{host}/", NULL);
    static const char *const strange[] = {"evil.example/@x", "a b", "", NULL};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        bh_req *r = bht_request(t, "GET", "/");

        bht_attr(r, "host", strange[i]);
        bht_run(r);
        assert_int_equal(bht_status(r), 400);
    }
    bht_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_the_template),
        cmocka_unit_test(a_query_is_kept_and_its_question_mark_goes_without_one),
        cmocka_unit_test(what_the_client_sent_is_encoded),
        cmocka_unit_test(no_path_leads_to_another_host),
        cmocka_unit_test(templates_that_let_the_client_choose_the_host_are_refused),
        cmocka_unit_test(unsound_options_are_refused),
        cmocka_unit_test(every_status_can_be_given),
        cmocka_unit_test(only_paths_in_from_are_redirected),
        cmocka_unit_test(a_strange_host_is_a_bad_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
