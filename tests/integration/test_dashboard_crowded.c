/*
 * test_dashboard_crowded.c - the dashboard when there is a lot to show: tests/browser/crowded.mjs looks at each view
 * on three screens. Skipped where there is no browser.
 */
#include "browser_scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define N_PLUGINS 17
#define N_ROUTES  6
#define N_RECORDS 300
#define LONG      "with_a_name_as_long_as_somebody_may_find_useful"

/* 63 times the letter: the longest name. */
static const char *longest(char letter, char name[64])
{
    memset(name, letter, 63);
    name[63] = '\0';
    return name;
}

/* 20 plugins in one chain, three of them with the longest names: f crashes, h holds requests, W is rolled out. */
static void write_config(FILE *file)
{
    char f[64], h[64], w[64], name[64];

    longest('f', f);
    longest('h', h);
    longest('W', w);
    fprintf(file,
            "version: 1\n"
            "server: {workers: 4}\n"
            "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
            "limits: {timeouts: {drain: 2m, request: 2m}}\n"
            "modules: {path: [@DIR@, @PLUGINS@, @MODULES@]}\n"
            "breaker: {crashes: 4, open: 1h}\n"
            "plugins:\n"
            "  %s: {module: fault, config: {from_request: true, reply: false}}\n"
            "  %s: {module: hold}\n"
            "  %s: {module: app}\n",
            f, h, w);
    for (int i = 0; i < N_PLUGINS; i++)
        fprintf(file, "  a_plugin_" LONG "_%02d: {module: request_id}\n", i);
    fprintf(file, "chains:\n  the_chain_" LONG ": [");
    for (int i = 0; i < N_PLUGINS; i++)
        fprintf(file, "%sa_plugin_" LONG "_%02d", i > 0 ? ", " : "", i);
    fprintf(file,
            "]\n"
            "routes:\n"
            "  - {name: holds, match: {path: /h/**}, chain: [%s]}\n",
            h);
    fprintf(file, "  - {name: %s, match: {path: /crash/**}, chain: [the_chain_" LONG ", %s, %s]}\n",
            longest('r', name), f, w);
    for (int i = 0; i < N_ROUTES; i++)
        fprintf(
            file,
            "  - {name: a_route_" LONG "_%02d, match: {path: "
            "/a/path/that/is/as/long/as/somebody/may/find/useful/of/a/route/that/is/one/of/many/%d/**}, "
            "chain: [the_chain_" LONG ", %s]}\n",
            i, i, i % 2 == 0 ? f : w);
    fprintf(file,
            "  - {chain: [%s]}\n"
            "crash: {dir: @DIR@/crashes, keep: 2000}\n"
            "alerts:\n"
            "  rules:\n"
            "    - {name: %s, metric: bulkhead_plugin_weight, when: \"> 0\"}\n"
            "    - {name: an_alert_" LONG
            ", metric: bulkhead_plugin_crashes_total, over: 1h, when: "
            "\"> 0\"}\n"
            "  receivers:\n"
            "    - {name: a_receiver_" LONG ", url: \"http://127.0.0.1:1/\"}\n"
            "    - {name: %s, url: \"http://127.0.0.1:1/\"}\n"
            "admin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token}\n",
            w, longest('a', name), longest('c', f));
}

/* What crashed long ago, so that there are more than a page shows. */
static void write_records(const char *dir)
{
    char path[600];

    snprintf(path, sizeof path, "%s/crashes", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int i = 0; i < N_RECORDS; i++) {
        snprintf(path, sizeof path, "%s/crashes/20260101T0000%02d-%06d-w0.json", dir, i % 60, i);
        file_write(
            path,
            "{\"schema\": \"bulkhead-crash/1\", \"id\": \"20260101T0000%02d-%06d-w0\", \"time\": "
            "\"2026-01-01T00:00:%02d.000Z\", \"plugin\": {\"instance\": \"a_plugin_" LONG
            "_%02d\"}, \"hook\": \"on_response_body\", \"where\": {\"function\": "
            "\"a_function_" LONG "\", \"file\": \"/usr/src/a/long/way/down/the/tree/of/the/sources/"
            "a_file_" LONG ".c\", \"line\": 1234567}, \"signal\": {\"name\": \"SIGSEGV\"}, "
            "\"request\": {\"method\": \"GET\", \"target\": "
            "\"/a/target/that/is/long/%s\"}, \"verdict\": \"R\", \"status\": 500}",
            i % 60, i, i % 60, i % N_PLUGINS,
            "and/has/no/place/to/break/a_line_where_it_could_be_broken_in_a_good_way_at_all");
    }
}

static void a_bad_night_can_be_read_on_every_screen(void **state)
{
    static const char *const screens[] = {"1280 860", "1920 1080", "390 844"};
    char *dir = tmp_dir(), *text;
    struct server *srv;
    size_t n;
    FILE *file;

    (void)state;
    browser_needed();
    browser_build_app(dir, "v1", "1.0.0", "be_fine");
    browser_build_app(dir, "v2", "2.0.0-a-version-that-has-a-long-name", "be_fine");
    assert_int_equal(run_command(NULL, "cp %s/v1.so %s/app.so", dir, dir), 0);
    write_records(dir);
    file = open_memstream(&text, &n);
    assert_non_null(file);
    write_config(file);
    fclose(file);
    srv = server_start_in(dir, "%s", text);
    server_wait_log(srv, "admin interface on");
    for (size_t i = 0; i < sizeof screens / sizeof screens[0]; i++)
        browser_run("crowded.mjs",
                    "http://127.0.0.1:%d http://127.0.0.1:%d %s %s $BULKHEAD_PICTURES",
                    srv->port[1], srv->port[0], dir, screens[i]);
    free(text);
    free(dir);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_night_can_be_read_on_every_screen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
