/*
 * test_dashboard.c - the dashboard in a real browser: tests/browser/dashboard.mjs has the story. Skipped
 * where there is no chromium, node, or npm package playwright-core, and no way to get it.
 */
#include "browser_scene.h"

#include <stdlib.h>

static void the_dashboard_shows_what_hurts_and_acts_on_it(void **state)
{
    char *dir = tmp_dir();
    struct server *srv;

    (void)state;
    browser_needed();
    browser_build_app(dir, "v1", "1.0.0", "be_fine");
    browser_build_app(dir, "v2", "2.0.0", "go_wrong");
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
    browser_run("dashboard.mjs", "http://127.0.0.1:%d http://127.0.0.1:%d %s $BULKHEAD_PICTURES",
                srv->port[1], srv->port[0], dir);
    free(dir);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_page_says_when_nobody_answers_and_goes_on_when_somebody_does(void **state)
{
    char *dir = tmp_dir();
    struct server *srv;

    (void)state;
    browser_needed();
    srv = server_start_in(dir, "version: 1\n"
                               "server: {workers: 1}\n"
                               "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                               "modules: {path: [@PLUGINS@]}\n"
                               "plugins: {hello: {module: respond}}\n"
                               "routes: [{chain: [hello]}]\n"
                               "crash: {dir: @DIR@/crashes}\n"
                               "admin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token}\n");
    server_wait_log(srv, "admin interface on");
    browser_run("silent.mjs", "http://127.0.0.1:%d http://127.0.0.1:%d %s %d $BULKHEAD_PICTURES",
                srv->port[1], srv->port[0], dir, (int)srv->pid);
    free(dir);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dashboard_shows_what_hurts_and_acts_on_it),
        cmocka_unit_test(a_page_says_when_nobody_answers_and_goes_on_when_somebody_does),
    };

    cmocka_set_test_filter(getenv("ONLY")); /* by hand: ONLY='a_page*' build/tests/... */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
