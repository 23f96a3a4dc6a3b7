#include "http/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "conf/config.h"

static const char *get_only[] = {"GET"};
static const char *post_put[] = {"POST", "PUT"};

static struct config_route routes[] = {
    {.name = "exact", .path = "/exact"},
    {.name = "read", .path = "/api/", .is_prefix = true, .methods = get_only, .n_methods = 1},
    {.name = "write", .path = "/api/", .is_prefix = true, .methods = post_put, .n_methods = 2},
    {.name = "host", .host = "a.example", .path = "/", .is_prefix = true},
    {.name = "six", .host = "[::1]", .path = "/", .is_prefix = true},
    {.name = "first", .path = "/twice"},
    {.name = "second", .path = "/twice"},
};
static const struct config config = {.route = routes, .n_routes = sizeof routes / sizeof routes[0]};

/* The name of the route, "405 NAME" or "404". */
static const char *find(const char *host, const char *path, const char *method)
{
    static char text[64];
    const struct config_route *other = (void *)1;
    const struct config_route *r = route_find(&config, host != NULL ? bh_s(host) : bh__none(),
                                              bh_s(path), bh_s(method), &other);

    if (r != NULL)
        return r->name;
    if (other == NULL)
        return "404";
    snprintf(text, sizeof text, "405 %s", other->name);
    return text;
}

static void an_exact_path_matches_only_itself(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/exact", "GET"), "exact");
    assert_string_equal(find(NULL, "/exact/", "GET"), "404");
    assert_string_equal(find(NULL, "/exactly", "GET"), "404");
    assert_string_equal(find(NULL, "/exac", "GET"), "404");
    assert_string_equal(find(NULL, "/Exact", "GET"), "404");
}

static void a_prefix_matches_what_is_below_and_itself(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/api/x", "GET"), "read");
    assert_string_equal(find(NULL, "/api/x/y", "GET"), "read");
    assert_string_equal(find(NULL, "/api/", "GET"), "read");
    assert_string_equal(find(NULL, "/api", "GET"), "read");
    assert_string_equal(find(NULL, "/apis", "GET"), "404");
    assert_string_equal(find(NULL, "/ap", "GET"), "404");
}

static void the_first_route_that_matches_decides(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/twice", "GET"), "first");
}

static void methods_choose_between_routes(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/api/x", "POST"), "write");
    assert_string_equal(find(NULL, "/api/x", "PUT"), "write");
    assert_string_equal(find(NULL, "/api/x", "DELETE"), "405 read");
    assert_string_equal(find(NULL, "/api/x", "get"),
                        "405 read"); /* methods have case, RFC 9110 9.1 */
}

static void get_stands_for_head_too(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/api/x", "HEAD"), "read");
}

static void a_host_matches_in_any_case_with_any_port(void **state)
{
    (void)state;
    assert_string_equal(find("a.example", "/x", "GET"), "host");
    assert_string_equal(find("A.Example", "/x", "GET"), "host");
    assert_string_equal(find("a.example:8080", "/x", "GET"), "host");
    assert_string_equal(find("[::1]:8080", "/x", "GET"), "six");
    assert_string_equal(find("a.example.org", "/x", "GET"), "404");
    assert_string_equal(find("b.a.example", "/x", "GET"), "404");
    assert_string_equal(find("a", "/x", "GET"), "404");
    assert_string_equal(find("", "/x", "GET"), "404");
    assert_string_equal(find(NULL, "/x", "GET"), "404");
}

static void the_asterisk_is_below_nothing(void **state)
{
    (void)state;
    assert_string_equal(find("a.example", "*", "OPTIONS"), "404");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exact_path_matches_only_itself),
        cmocka_unit_test(a_prefix_matches_what_is_below_and_itself),
        cmocka_unit_test(the_first_route_that_matches_decides),
        cmocka_unit_test(methods_choose_between_routes),
        cmocka_unit_test(get_stands_for_head_too),
        cmocka_unit_test(a_host_matches_in_any_case_with_any_port),
        cmocka_unit_test(the_asterisk_is_below_nothing),
    };

    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
