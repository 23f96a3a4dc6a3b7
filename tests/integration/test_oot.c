/*
 * test_oot.c - plugins built out of tree, with the one command of the documentation.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The example in the header of bulkhead.h, word for word. */
static const char from_the_header[] =
    "#include <bulkhead.h>\n"
    "static bh_rc hello(void *self, bh_req *req, void *ctx)\n"
    "{\n"
    "    (void)self; (void)ctx;\n"
    "    return bh_reply(req, 200, \"text/plain\", \"hello\\n\");\n"
    "}\n"
    "BH_PLUGIN(\"hello\", \"1.0.0\", .on_request = hello)\n";

static struct server *serve(const char *dir)
{
    return server_start_in(dir, "version: 1\n"
                                "server: {workers: 1}\n"
                                "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                                "modules: {path: [.]}\n"
                                "plugins: {p: {module: x}}\n"
                                "routes: [{match: {path: /**}, chain: [p]}]\n"
                                "crash: {dir: @DIR@/crashes, keep: 100}\n");
}

static void expect_hello(const char *dir)
{
    struct server *srv = serve(dir);
    struct response *res = server_get(srv, "/");

    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, "hello\n");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

/* $BULKHEAD lies beside bulkhead.pc. */
#define ONE_LINER \
    "cd %s && cc -shared -fPIC %s $(PKG_CONFIG_PATH=\"${BULKHEAD%%/*}\" pkg-config --cflags bulkhead) x.c -o x.so"

static void build(const char *dir, const char *flags, const char *source)
{
    char path[512];
    char *said;

    snprintf(path, sizeof path, "%s/x.c", dir);
    file_write(path, "%s", source);
    if (run_command(&said, ONE_LINER, dir, flags) != 0)
        harness_fail(__FILE__, __LINE__, "it does not build:\n%s", said);
    assert_string_equal(said, ""); /* nor is there a warning */
    free(said);
}

static void the_documented_command_builds_a_plugin_that_runs(void **state)
{
    char *dir = tmp_dir();

    (void)state;
    build(dir, "", from_the_header);
    expect_hello(dir);
    free(dir);
}

static void the_header_is_clean_with_strict_flags(void **state)
{
    static const char *const flags[] = {"-std=c11 -Wall -Wextra -Wpedantic -Werror",
                                        "-std=gnu17 -Wall -Wextra -Werror -O2",
                                        "-std=c11 -Wall -Wextra -Werror -O0 -fstack-protector-all"};
    char *dir = tmp_dir();

    (void)state;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        build(dir, flags[i], from_the_header);
    expect_hello(dir);
    free(dir);
}

static void a_plugin_of_two_sources_shares_the_host(void **state)
{
    char *dir = tmp_dir();
    char path[512];
    char *said;

    (void)state;
    snprintf(path, sizeof path, "%s/a.c", dir);
    file_write(path, "%s",
               "#include <bulkhead.h>\n"
               "bh_rc say(bh_req *req);\n"
               "static bh_rc on(void *s, bh_req *r, void *c) { (void)s; (void)c; return say(r); }\n"
               "BH_PLUGIN(\"two\", \"1\", .on_request = on)\n");
    snprintf(path, sizeof path, "%s/b.c", dir);
    file_write(path, "%s",
               "#include <bulkhead.h>\n"
               "bh_rc say(bh_req *req);\n"
               "bh_rc say(bh_req *req) { return bh_reply(req, 200, NULL, \"hello\\n\"); }\n");
    assert_int_equal(run_command(&said,
                                 "cd %s && cc -shared -fPIC $(PKG_CONFIG_PATH=\"${BULKHEAD%%/*}\" "
                                 "pkg-config --cflags bulkhead) a.c b.c -o x.so",
                                 dir),
                     0);
    free(said);
    expect_hello(dir);
    free(dir);
}

static void a_cxx_plugin_builds_and_runs(void **state)
{
    char *dir = tmp_dir();
    char path[512];
    char *said;

    (void)state;
    snprintf(path, sizeof path, "%s/x.cc", dir);
    file_write(
        path, "%s",
        "#include <bulkhead.h>\n"
        "#include <string>\n"
        "static bh_rc hello(void *, bh_req *req, void *)\n"
        "{ std::string s = \"hello\\n\"; return bh_reply(req, 200, \"text/plain\", s.c_str()); }\n"
        "BH_PLUGIN(\"hello\", \"1.0.0\", .on_request = hello)\n");
    if (run_command(
            &said,
            "cd %s && c++ -std=c++20 -Wall -Wextra -Werror -shared -fPIC "
            "$(PKG_CONFIG_PATH=\"${BULKHEAD%%/*}\" pkg-config --cflags bulkhead) x.cc -o x.so",
            dir) != 0)
        harness_fail(__FILE__, __LINE__, "it does not build:\n%s", said);
    free(said);
    expect_hello(dir);
    free(dir);
}

static void cxx_objects_own_and_an_uncaught_exception_costs_one_request(void **state)
{
    struct server *srv = server_start("version: 1\n"
                                      "server: {workers: 1}\n"
                                      "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                                      "modules: {path: [@MODULES@]}\n"
                                      "plugins: {p: {module: cxx}}\n"
                                      "routes: [{match: {path: /**}, chain: [p]}]\n"
                                      "crash: {dir: @DIR@/crashes, keep: 100}\n");
    static const struct {
        const char *target, *body;
    } rows[] = {{"/b", "none /b"},
                {"/a?caught=yes", "caught /a /b"},
                {"/x?throw", NULL},
                {"/c", "none /c"}, /* a fresh instance */
                {"/a?caught=yes", "caught /a /c"}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct response *res = server_get(srv, rows[i].target);

        assert_int_equal(res->status, rows[i].body != NULL ? 200 : 500);
        if (rows[i].body != NULL)
            assert_string_equal(res->body, rows[i].body);
        response_free(&res);
    }
    eventually(server_crash_count(srv) == 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void stripped_objects_run_too(void **state)
{
    char *dir = tmp_dir();

    (void)state;
    build(dir, "-s -O2 -Wl,--gc-sections -ffunction-sections -fdata-sections", from_the_header);
    expect_hello(dir);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_documented_command_builds_a_plugin_that_runs),
        cmocka_unit_test(the_header_is_clean_with_strict_flags),
        cmocka_unit_test(a_plugin_of_two_sources_shares_the_host),
        cmocka_unit_test(a_cxx_plugin_builds_and_runs),
        cmocka_unit_test(cxx_objects_own_and_an_uncaught_exception_costs_one_request),
        cmocka_unit_test(stripped_objects_run_too),
    };

    return cmocka_run_group_tests_name("oot", tests, NULL, NULL);
}
