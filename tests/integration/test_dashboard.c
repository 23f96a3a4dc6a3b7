/*
 * test_dashboard.c - the dashboard in a real browser: tests/browser/dashboard.mjs has the story. Skipped
 * where there is no chromium, node, or npm package playwright-core, and no way to get it.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

#define N_PLUGINS 20
#define N_RECORDS 1000

/* Its parts have 60 characters a name. */
static char *crowded_config(void)
{
    char *text = calloc(1, 16384), *chain = calloc(1, 4096);

    strcat(text, "version: 1\nserver: {workers: 1}\n"
                 "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                 "modules: {path: [@PLUGINS@]}\nplugins:\n  hello: {module: respond}\n");
    for (int i = 0; i < N_PLUGINS; i++) {
        char name[80], line[160];

        snprintf(name, sizeof name, "a_plugin_with_a_name_as_long_as_somebody_may_find_useful_%02d",
                 i);
        snprintf(line, sizeof line, "  %s: {module: request_id}\n", name);
        strcat(text, line);
        strcat(chain, name);
        strcat(chain, ", ");
    }
    strcat(text,
           "routes: [{name: a_route_with_a_name_as_long_as_somebody_may_find_useful_00, chain: [");
    strcat(text, chain);
    strcat(text,
           "hello]}]\ncrash: {dir: @DIR@/crashes, keep: 2000}\n"
           "alerts:\n  rules: [{name: an_alert_with_a_name_as_long_as_somebody_may_find_useful, "
           "metric: bulkhead_plugin_weight, when: \"> 0\"}]\n"
           "  receivers: [{name: a_receiver_with_a_name_as_long_as_somebody_may_find, url: "
           "\"http://127.0.0.1:1/\"}]\n"
           "admin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token}\n");
    free(chain);
    return text;
}

static void write_records(const char *dir)
{
    char path[600], text[400];

    snprintf(path, sizeof path, "%s/crashes", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int i = 0; i < N_RECORDS; i++) {
        snprintf(path, sizeof path, "%s/crashes/20260101T0000%02d-%06d-w0.json", dir, i % 60, i);
        snprintf(
            text, sizeof text,
            "{\"schema\": \"bulkhead-crash/1\", \"id\": \"20260101T0000%02d-%06d-w0\", \"time\": "
            "\"2026-01-01T00:00:%02d.000Z\", \"plugin\": {\"instance\": "
            "\"a_plugin_with_a_name_as_long_as_somebody_may_find_useful_00\"}, \"hook\": "
            "\"on_request\", \"signal\": {\"name\": \"SIGSEGV\"}, \"verdict\": \"R\"}",
            i % 60, i, i % 60);
        file_write(path, "%s", text);
    }
}

static void a_bad_night_can_be_read(void **state)
{
    char *dir = tmp_dir(), *tests = needs_a_browser(), *text = crowded_config(), *out;
    struct server *srv;
    int status;

    (void)state;
    write_records(dir);
    srv = server_start_in(dir, "%s", text);
    server_wait_log(srv, "admin interface on");
    status = run_command(
        &out, "timeout 120 node %s/crowded.mjs http://127.0.0.1:%d %s %d $BULKHEAD_PICTURES", tests,
        srv->port[1], dir, (int)srv->pid);
    if (status != 0 || strstr(out, "ok\n") == NULL)
        harness_fail(__FILE__, __LINE__, "status %d:\n%.4000s", status, out);
    free(out);
    free(text);
    free(tests);
    free(dir);
    server_stop(&srv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dashboard_shows_what_hurts_and_acts_on_it),
        cmocka_unit_test(a_bad_night_can_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
