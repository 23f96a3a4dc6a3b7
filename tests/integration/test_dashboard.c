/*
 * test_dashboard.c - the dashboard in a real browser: tests/browser/dashboard.mjs has the story. Skipped
 * where there is no chromium, node, or npm package playwright-core, and no way to get it.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A version of the plugin `app`. */
static void build(const char *dir, const char *name, const char *version, const char *call)
{
    char text[2048];
    char *path;

    snprintf(text, sizeof text,
             "#include <bulkhead.h>\n"
             "__attribute__((noinline)) static bh_rc go_wrong(bh_req *req)\n"
             "{\n"
             "    volatile int *p = 0;\n"
             "    (void)req;\n"
             "    return *p;\n"
             "}\n"
             "static bh_rc be_fine(bh_req *req)\n"
             "{\n"
             "    return bh_reply(req, 200, \"text/plain\", \"fine\\n\");\n"
             "}\n"
             "static bh_rc on_request(void *self, bh_req *req, void *ctx)\n"
             "{\n"
             "    (void)self, (void)ctx, (void)go_wrong, (void)be_fine;\n"
             "    return %s(req);\n"
             "}\n"
             "BH_PLUGIN(\"app\", \"%s\", .summary = \"Answers\", .on_request = on_request)\n",
             call, version);
    path = plugin_build(dir, name, text);
    free(path);
}

/* The folder of the scripts, with what they need; freed by the caller. */
static char *needs_a_browser(void)
{
    char *tests, *out;

    assert_true(asprintf(&tests, "%s/../tests/browser", getenv("BULKHEAD_SDK")) > 0);
    if (run_command(NULL, "command -v node && command -v chromium") != 0) {
        print_message("skipped: there is no node or chromium here\n");
        skip();
    }
    if (run_command(&out, "%s/../scripts/npm.sh %s", getenv("BULKHEAD_SDK"), tests) != 0) {
        print_message("skipped: %s\n", out);
        skip();
    }
    free(out);
    return tests;
}

static void the_dashboard_shows_what_hurts_and_acts_on_it(void **state)
{
    char *dir = tmp_dir(), *tests = needs_a_browser(), *out;
    struct server *srv;
    int status;

    (void)state;
    build(dir, "v1", "1.0.0", "be_fine");
    build(dir, "v2", "2.0.0", "go_wrong");
    assert_int_equal(run_command(NULL, "cp %s/v1.so %s/app.so", dir, dir), 0);
    srv = server_start_in(
        dir,
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@DIR@, @PLUGINS@]}\n"
        "breaker: {crashes: 5, open: 1h}\n"
        "plugins:\n"
        "  pages: {module: error_pages}\n"
        "  ids: {module: request_id}\n"
        "  limit: {module: rate_limit, config: {rate: 10000, burst: 10000}}\n"
        "  app: {module: app}\n"
        "  hello: {module: respond, config: {body: hello}}\n"
        "chains: {front: [pages, ids, limit]}\n"
        "routes:\n"
        "  - {name: main, match: {path: /app}, chain: [front, app]}\n"
        "  - {name: other, chain: [front, hello]}\n"
        "crash: {dir: @DIR@/crashes}\n"
        "alerts:\n"
        "  rules:\n"
        "    - {name: app_crashes, metric: bulkhead_plugin_crashes_total, match: {plugin: app}, over: 1h, when: \"> 0\"}\n"
        "    - {name: slow, metric: bulkhead_request_duration_seconds_p99, when: \"> 3600\", for: 1m}\n"
        "    - {name: no_such, metric: no_such_metric, when: \"> 0\"}\n"
        "  receivers:\n"
        "    - {name: chat, url: \"http://127.0.0.1:@PORT@/\"}\n"
        "    - {name: pager, url: \"http://127.0.0.1:1/\"}\n"
        "admin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token, read_token_file: "
        "read.token}\n");
    server_wait_log(srv, "admin interface on");
    status = run_command(
        &out,
        "timeout 120 node %s/dashboard.mjs http://127.0.0.1:%d http://127.0.0.1:%d "
        "%s $BULKHEAD_PICTURES",
        tests, srv->port[1], srv->port[0], dir);
    if (status != 0 || strstr(out, "ok\n") == NULL)
        harness_fail(__FILE__, __LINE__, "status %d:\n%.4000s", status, out);
    free(out);
    free(tests);
    free(dir);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dashboard_shows_what_hurts_and_acts_on_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
