/*
 * test_experiments.c - trace_time and ab_test in the real server, seen by another plugin.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct server *start(void)
{
    return server_start(
        "version: 1\n"
        "server: {workers: 2}\n"
        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@]}\n"
        "plugins:\n"
        "  log: {module: access_log, config: {format: json, path: access.log,\n"
        "        vars: [trace_time_anchor, trace_time.source, ab.colour]}}\n"
        "  time: {module: trace_time, config: {tolerance: 5s}}\n" /* machines are busy */
        "  colour: {module: ab_test, config: {name: colour, id: \"header:X-User\",\n"
        "           tolerance: 5s,\n"
        "           groups: {low: 300, high: 700}, testers: [127.0.0.0/8]}}\n"
        "  shape: {module: ab_test, config: {name: shape, id: \"header:X-User\",\n"
        "          groups: {round: 1}}}\n"
        "  site: {module: respond, config: {body: hello}}\n"
        "routes: [{match: {path: /**}, chain: [log, time, colour, shape, site]}]\n");
}

static struct response *get(struct server *srv, const char *target, const char *user,
                            int64_t off_ms)
{
    struct timespec now;
    char headers[200];
    int64_t ms;

    clock_gettime(CLOCK_REALTIME, &now);
    ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + off_ms;
    snprintf(headers, sizeof headers, "X-User: %s\r\nX-Trace-Time: %lld.%03d\r\n", user,
             (long long)(ms / 1000), (int)(ms % 1000));
    return server_request(srv, "GET", target, headers, NULL, 0);
}

static bool log_has(struct server *srv, const char *a, const char *b)
{
    char path[512], *text, *line;
    bool found = false;

    snprintf(path, sizeof path, "%s/access.log", srv->dir);
    text = file_read(path);
    for (line = text != NULL ? strtok(text, "\n") : NULL; line != NULL; line = strtok(NULL, "\n"))
        found = found || (strstr(line, a) != NULL && strstr(line, b) != NULL);
    free(text);
    return found;
}

/* Does `bulkhead metrics` have a line with all of that? */
static bool metric_is(struct server *srv, const char *name, const char *labels, const char *value)
{
    char *text = NULL, *line;
    bool found = false;

    assert_int_equal(run_command(&text, "RUNTIME_DIRECTORY=%s %s metrics -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    for (line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
        found = found || (strncmp(line, name, strlen(name)) == 0 && strstr(line, labels) != NULL &&
                          strcmp(line + strlen(line) - strlen(value), value) == 0);
    free(text);
    return found;
}

static void another_plugin_sees_the_group_and_the_anchor(void **state)
{
    struct server *srv = start();
    struct response *res = get(srv, "/seen", "4711", 0);
    char anchor[100];

    (void)state;
    assert_int_equal(res->status, 200);
    snprintf(anchor, sizeof anchor, "\"trace_time_anchor\":\"%s\"",
             response_header(res, "X-Trace-Time"));
    eventually(log_has(srv, "\"target\":\"/seen\"", anchor));
    assert_true(log_has(srv, "\"target\":\"/seen\"", "\"trace_time.source\":\"client\""));
    assert_true(log_has(srv, "\"target\":\"/seen\"",
                        strstr(response_header(res, "X-Experiment"), "low")
                            ? "\"ab.colour\":\"low\""
                            : "\"ab.colour\":\"high\""));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void all_workers_agree_about_a_group(void **state)
{
    struct server *srv = start();
    char first[64] = "", user[16];

    (void)state;
    for (int i = 0; i < 60; i++) {
        struct response *res;

        snprintf(user, sizeof user, "u%d", i / 20);
        res = get(srv, "/", user, 0); /* each on a connection of its own: any worker */
        if (i % 20 == 0)
            snprintf(first, sizeof first, "%s", response_header(res, "X-Experiment"));
        assert_string_equal(response_header(res, "X-Experiment"), first);
        response_free(&res);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static bool has_event(const struct server *srv, const char *text)
{
    char *out;
    bool is_there;

    run_command(&out, "RUNTIME_DIRECTORY=%s %s events --json -c %s", srv->dir, getenv("BULKHEAD"),
                srv->config);
    is_there = strstr(out, text) != NULL;
    free(out);
    return is_there;
}

static void a_clock_that_is_wrong_is_split_by_session_id(void **state)
{
    static const char *const cases[][2] = {{"1299", "colour=low"},
                                           {"1300", "colour=high"},
                                           {"5000", "colour=low"},
                                           {"5999", "colour=high"}};
    struct server *srv = start();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct response *res = get(srv, "/off", cases[i][0], -3600000);

        assert_string_equal(response_header(res, "X-Experiment"), cases[i][1]);
        response_free(&res);
    }
    server_wait_log(srv, "split by session id: ");
    eventually(
        has_event(srv, "\"name\":\"ab_fallback\",\"text\":\"experiment 'colour': 1 request "));
    eventually(log_has(srv, "\"target\":\"/off\"", "\"trace_time.source\":\"gateway\""));
    eventually(metric_is(srv, "ab_fallbacks_total{", "experiment=\"colour\"", " 4"));
    eventually(metric_is(srv, "ab_fallback_rate{", "experiment=\"colour\"", " 1"));
    eventually(metric_is(srv, "trace_time_skew_ms_max{", "36", ""));
    assert_int_equal(server_stop(&srv), 0);
}

static void a_tester_sees_either_group(void **state)
{
    struct server *srv = start();
    struct response *res = get(srv, "/?ab_colour=low", "1", 0);

    (void)state;
    assert_string_equal(response_header(res, "X-Experiment"), "colour=low");
    response_free(&res);
    res = get(srv, "/?ab_colour=high", "1", 0);
    assert_string_equal(response_header(res, "X-Experiment"), "colour=high");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_plugin_sees_the_group_and_the_anchor),
        cmocka_unit_test(all_workers_agree_about_a_group),
        cmocka_unit_test(a_clock_that_is_wrong_is_split_by_session_id),
        cmocka_unit_test(a_tester_sees_either_group),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
