#include "http/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "conf/config.h"
#include "plugin/request.h"

static const char *get_only[] = {"GET"};
static const char *post_put[] = {"POST", "PUT"};
static const char *purge[] = {"GET", "PURGE"};
static const char *any[] = {"*"};
static const struct config_condition beta[] = {{"x-beta", "1"}};
static const struct config_condition key_and_kind[] = {{"X-Key", NULL}, {"X-Kind", "a b"}};
static const struct config_condition parameter[] = {{"v", "2 a&b"}, {"debug", NULL}};

static struct config_route routes[] = {
    {.name = "exact", .path = "/exact"},
    {.name = "read", .path = "/api/", .is_prefix = true, .methods = get_only, .n_methods = 1},
    {.name = "write", .path = "/api/", .is_prefix = true, .methods = post_put, .n_methods = 2},
    {.name = "host", .host = "a.example", .path = "/", .is_prefix = true},
    {.name = "six", .host = "[::1]", .path = "/", .is_prefix = true},
    {.name = "port", .host = "p.example", .port = 8080, .path = "/", .is_prefix = true},
    {.name = "port 80", .host = "p.example", .port = 80, .path = "/", .is_prefix = true},
    {.name = "deep", .host = ".x.below.example", .path = "/", .is_prefix = true},
    {.name = "below", .host = ".below.example", .path = "/", .is_prefix = true},
    {.name = "first", .path = "/twice"},
    {.name = "second", .path = "/twice"},
    {.name = "posts", .path = "/users/*/posts", .has_stars = true},
    {.name = "user", .path = "/users/*", .has_stars = true},
    {.name = "all of it", .path = "/all/*/", .is_prefix = true, .has_stars = true},
    {.name = "images", .path = "/img/*.png", .has_stars = true},
    {.name = "middle", .path = "/mid/a*b*c/x", .has_stars = true},
    {.name = "beta", .path = "/h", .header = beta, .n_headers = 1},
    {.name = "keyed", .path = "/h", .header = key_and_kind, .n_headers = 2},
    {.name = "plain", .path = "/h", .methods = post_put, .n_methods = 2},
    {.name = "query", .path = "/q", .query = parameter, .n_queries = 2},
    {.name = "cache", .path = "/cache", .methods = purge, .n_methods = 2},
    {.name = "all methods", .path = "/any", .methods = any, .n_methods = 1, .is_any_method = true},
};
static const struct config config = {.route = routes, .n_routes = sizeof routes / sizeof routes[0]};
static const struct config without_any = {.route = routes,
                                          .n_routes = sizeof routes / sizeof routes[0] - 1};
static struct arena arena;
static struct fields fields;

static int set_up_group(void **state)
{
    (void)state;
    for (int i = 0; i < config.n_routes; i++) {
        routes[i].path_len = strlen(routes[i].path);
        routes[i].host_len = routes[i].host != NULL ? strlen(routes[i].host) : 0;
    }
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
    fields = (struct fields){0};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static void add_field(const char *name, const char *value)
{
    assert_true(fields_append(&arena, &fields, bh_s(name), bh_s(value)));
}

static struct route_query query_for(const char *host, const char *path, const char *method)
{
    struct route_query q = {
        .path = bh_s(path), .method = bh_s(method), .default_port = 80, .fields = &fields};
    char *mark = path != NULL ? strchr(path, '?') : NULL;

    if (mark != NULL) {
        q.path.n = (size_t)(mark - path);
        q.query = bh_s(mark + 1);
    }
    if (host != NULL)
        assert_true(authority_parse(bh_s(host), &q.host));
    return q;
}

/* The name of the route, "405" or "404". */
static const char *find(const char *host, const char *path, const char *method)
{
    struct route_query q = query_for(host, path, method);
    bool other = true;
    const struct config_route *r = route_find(&config, &q, &other);

    return r != NULL ? r->name : other ? "405" : "404";
}

static const char *allow(const char *host, const char *path)
{
    static char text[256];
    struct route_query q = query_for(host, path, "X");

    size_t n = route_allow(&config, &q, text, sizeof text);

    assert_int_equal(n, strlen(text));
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

static void a_star_stands_for_one_segment(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/users/7/posts", "GET"), "posts");
    assert_string_equal(find(NULL, "/users/7", "GET"), "user");
    assert_string_equal(find(NULL, "/users/*", "GET"), "user");
    assert_string_equal(find(NULL, "/users/", "GET"), "404");
    assert_string_equal(find(NULL, "/users", "GET"), "404");
    assert_string_equal(find(NULL, "/users/7/", "GET"), "404");
    assert_string_equal(find(NULL, "/users/7/posts/1", "GET"), "404");
    assert_string_equal(find(NULL, "/users/7/8/posts", "GET"), "404");
    assert_string_equal(find(NULL, "/users/7/post", "GET"), "404");
}

static void stars_and_a_prefix_go_together(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/all/x", "GET"), "all of it");
    assert_string_equal(find(NULL, "/all/x/", "GET"), "all of it");
    assert_string_equal(find(NULL, "/all/x/y/z", "GET"), "all of it");
    assert_string_equal(find(NULL, "/all/", "GET"), "404");
    assert_string_equal(find(NULL, "/all", "GET"), "404");
}

static void a_star_stands_for_part_of_a_segment(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/img/a.png", "GET"), "images");
    assert_string_equal(find(NULL, "/img/.png", "GET"), "images");
    assert_string_equal(find(NULL, "/img/a.png.png", "GET"), "images");
    assert_string_equal(find(NULL, "/img/a.pngx", "GET"), "404");
    assert_string_equal(find(NULL, "/img/a/b.png", "GET"), "404");
    assert_string_equal(find(NULL, "/mid/abc/x", "GET"), "middle");
    assert_string_equal(find(NULL, "/mid/aXbbYbcZc/x", "GET"), "middle");
    assert_string_equal(find(NULL, "/mid/ab/x", "GET"), "404");
    assert_string_equal(find(NULL, "/mid/acb/x", "GET"), "404");
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
    assert_string_equal(find(NULL, "/api/x", "DELETE"), "405");
    assert_string_equal(find(NULL, "/api/x", "get"), "405"); /* methods have case, RFC 9110 9.1 */
}

static void get_stands_for_head_too(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/api/x", "HEAD"), "read");
}

static void a_route_without_methods_takes_the_standard_ones(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/exact", "DELETE"), "exact");
    assert_string_equal(find(NULL, "/exact", "PATCH"), "exact");
    assert_string_equal(find(NULL, "/exact", "PURGE"), "405");
    assert_string_equal(find(NULL, "/exact", "TRACE"), "405");
    assert_string_equal(find(NULL, "/cache", "PURGE"), "cache");
    assert_string_equal(find(NULL, "/any", "MKCOL"), "all methods");
}

static void a_method_that_no_route_names_is_not_known(void **state)
{
    (void)state;
    assert_true(route_knows_method(&without_any, bh_s("GET")));
    assert_true(route_knows_method(&without_any, bh_s("OPTIONS")));
    assert_true(route_knows_method(&without_any, bh_s("PURGE")));
    assert_false(route_knows_method(&without_any, bh_s("MKCOL")));
    assert_false(route_knows_method(&without_any, bh_s("get")));
    assert_false(route_knows_method(&without_any, bh_s("GETS")));
    assert_true(route_knows_method(&config, bh_s("MKCOL")));
}

static void allow_lists_the_methods_of_all_routes_that_match(void **state)
{
    (void)state;
    assert_string_equal(allow(NULL, "/api/x"), "GET, HEAD, POST, PUT, OPTIONS");
    assert_string_equal(allow(NULL, "/exact"), "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    assert_string_equal(allow(NULL, "/cache"), "GET, HEAD, PURGE, OPTIONS");
    assert_string_equal(allow(NULL, "/none"), "OPTIONS");
    assert_string_equal(allow(NULL, NULL), "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, PURGE");
}

static void allow_is_never_longer_than_its_room(void **state)
{
    struct route_query q = query_for(NULL, "/exact", "X");
    char text[16];

    (void)state;
    for (size_t size = 1; size <= sizeof text; size++) {
        memset(text, 'x', sizeof text);
        assert_true(route_allow(&config, &q, text, size) < size);
        assert_non_null(memchr(text, '\0', size));
    }
}

static void a_host_matches_in_any_case_with_any_port(void **state)
{
    (void)state;
    assert_string_equal(find("a.example", "/x", "GET"), "host");
    assert_string_equal(find("A.Example", "/x", "GET"), "host");
    assert_string_equal(find("a.example:8080", "/x", "GET"), "host");
    assert_string_equal(find("a.example:", "/x", "GET"), "host");
    assert_string_equal(find("a.example.", "/x", "GET"), "host");
    assert_string_equal(find("[::1]:8080", "/x", "GET"), "six");
    assert_string_equal(find("a.example.org", "/x", "GET"), "404");
    assert_string_equal(find("b.a.example", "/x", "GET"), "404");
    assert_string_equal(find("a", "/x", "GET"), "404");
    assert_string_equal(find(NULL, "/x", "GET"), "404");
}

static void a_port_narrows_a_host(void **state)
{
    (void)state;
    assert_string_equal(find("p.example:8080", "/x", "GET"), "port");
    assert_string_equal(find("p.example:80", "/x", "GET"), "port 80");
    assert_string_equal(find("p.example", "/x", "GET"),
                        "port 80"); /* of http, when none is named */
    assert_string_equal(find("p.example:81", "/x", "GET"), "404");
}

static void a_wildcard_host_matches_all_below_it_but_not_itself(void **state)
{
    (void)state;
    assert_string_equal(find("a.below.example", "/x", "GET"), "below");
    assert_string_equal(find("b.a.Below.Example:81", "/x", "GET"), "below");
    assert_string_equal(find("a.x.below.example", "/x", "GET"), "deep");
    assert_string_equal(find("x.below.example", "/x", "GET"), "below");
    assert_string_equal(find("below.example", "/x", "GET"), "404");
    assert_string_equal(find(".below.example", "/x", "GET"), "404");
    assert_string_equal(find("abelow.example", "/x", "GET"), "404");
}

static void fields_narrow_a_route(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/h", "GET"), "405"); /* "plain" is there for others */
    add_field("X-Beta", "2");
    assert_string_equal(find(NULL, "/h", "GET"), "405");
    add_field("x-BETA", "1");
    assert_string_equal(find(NULL, "/h", "GET"), "beta"); /* any of several lines */
}

static void all_fields_must_be_there(void **state)
{
    (void)state;
    add_field("X-Key", "");
    assert_string_equal(find(NULL, "/h", "GET"), "405");
    add_field("X-Kind", "a B");
    assert_string_equal(find(NULL, "/h", "GET"), "405"); /* values have case */
    add_field("X-Kind", "a b");
    assert_string_equal(find(NULL, "/h", "GET"), "keyed");
}

static void parameters_narrow_a_route(void **state)
{
    (void)state;
    assert_string_equal(find(NULL, "/q?v=2+a%26b&debug", "GET"), "query");
    assert_string_equal(find(NULL, "/q?debug=0&x&v=2%20a%26b", "GET"), "query");
    assert_string_equal(find(NULL, "/q?v=1&v=2+a%26b&debug=", "GET"), "query");
    assert_string_equal(find(NULL, "/q?%76=2+a%26b&d%65bug", "GET"), "query");
    assert_string_equal(find(NULL, "/q", "GET"), "404");
    assert_string_equal(find(NULL, "/q?", "GET"), "404");
    assert_string_equal(find(NULL, "/q?v=2+a%26b", "GET"), "404");
    assert_string_equal(find(NULL, "/q?v=2+a&b&debug", "GET"), "404");
    assert_string_equal(find(NULL, "/q?v=2+a%26bc&debug", "GET"), "404");
    assert_string_equal(find(NULL, "/q?v=2+a%26b%00&debug", "GET"), "404");
    assert_string_equal(find(NULL, "/q?V=2+a%26b&debug", "GET"), "404");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(an_exact_path_matches_only_itself),
        TEST(a_prefix_matches_what_is_below_and_itself),
        TEST(a_star_stands_for_one_segment),
        TEST(stars_and_a_prefix_go_together),
        TEST(a_star_stands_for_part_of_a_segment),
        TEST(the_first_route_that_matches_decides),
        TEST(methods_choose_between_routes),
        TEST(get_stands_for_head_too),
        TEST(a_route_without_methods_takes_the_standard_ones),
        TEST(a_method_that_no_route_names_is_not_known),
        TEST(allow_lists_the_methods_of_all_routes_that_match),
        TEST(allow_is_never_longer_than_its_room),
        TEST(a_host_matches_in_any_case_with_any_port),
        TEST(a_port_narrows_a_host),
        TEST(a_wildcard_host_matches_all_below_it_but_not_itself),
        TEST(fields_narrow_a_route),
        TEST(all_fields_must_be_there),
        TEST(parameters_narrow_a_route),
    };

    return cmocka_run_group_tests_name("route", tests, set_up_group, NULL);
}
