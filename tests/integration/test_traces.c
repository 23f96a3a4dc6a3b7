/*
 * test_traces.c - traces, from the real binary to a collector. What the collector gets is decoded by
 * OpenTelemetry's own packages for JavaScript, from npm; where those cannot be had that test is skipped.
 */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COLLECTOR "endpoint: \"http://127.0.0.1:@PORT1@\", interval: 50ms"

static struct server *start(const char *tracing)
{
    return server_start("version: 1\n"
                        "server: {workers: 2}\n"
                        "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                        "%s\n"
                        "plugins:\n"
                        "  ids: {module: request_id}\n"
                        "  tracer: {module: tracer}\n"
                        "routes:\n"
                        "  - {name: traced, match: {path: /trace/**, methods: [GET, POST]}, "
                        "chain: [ids, tracer]}\n",
                        tracing);
}

static void needs_node(void)
{
    if (run_command(NULL, "command -v node >/dev/null") == 0)
        return;
    print_message("skipped: there is no node here (apt-get install nodejs)\n");
    skip();
}

/* The packages, in the build folder: a path for $OTLP_MODULES. */
static const char *packages(void)
{
    static char path[1024];
    char *out;

    snprintf(path, sizeof path, "%s/../npm/otlp", getenv("BULKHEAD_MODULES"));
    if (run_command(
            &out,
            "mkdir -p %s && cp %s/../tests/clients/otlp/package*.json %s && %s/../scripts/npm.sh %s",
            path, getenv("BULKHEAD_SDK"), path, getenv("BULKHEAD_SDK"), path) != 0) {
        print_message("skipped: the packages cannot be had from npm: %.300s\n", out);
        skip();
    }
    free(out);
    return path;
}

static void run_script(const struct server *srv, const char *mode)
{
    char *out;
    int status = run_command(&out, "node %s/../tests/clients/otlp/traces.mjs %s %d %d %s/crashes",
                             getenv("BULKHEAD_SDK"), mode, srv->port[0], srv->port[1], srv->dir);

    if (status != 0)
        harness_fail(__FILE__, __LINE__, "status %d:\n%.3000s", status, out);
    free(out);
}

static void every_field_is_as_opentelemetry_has_it(void **state)
{
    struct server *srv;

    (void)state;
    needs_node();
    setenv("OTLP_MODULES", packages(), 1);
    setenv("TEST_TOKEN", "s3cret", 1);
    srv = start("tracing: {" COLLECTOR ", headers: {Authorization: \"Bearer ${TEST_TOKEN}\"}, "
                "service: shop, resource: {deployment.environment: test}}");
    run_script(srv, "fields");
    assert_int_equal(server_stop(&srv), 0);
}

static void as_many_are_recorded_as_the_config_says(void **state)
{
    struct server *srv;

    (void)state;
    needs_node();
    srv = start("tracing: {" COLLECTOR ", sample: 10%, parent: trusted}");
    run_script(srv, "sampling");
    assert_int_equal(server_stop(&srv), 0);
}

static void what_was_not_taken_is_sent_again_when_it_may(void **state)
{
    struct server *srv;

    (void)state;
    needs_node();
    srv = start("tracing: {" COLLECTOR "}");
    run_script(srv, "retry");
    server_wait_log(srv, "status 503; tried again in 2 s");
    server_wait_log(srv, "takes them again; 0 requests were dropped");
    assert_int_equal(server_stop(&srv), 0);
}

static void what_is_refused_is_told_and_not_sent_again(void **state)
{
    struct server *srv;

    (void)state;
    needs_node();
    srv = start("tracing: {" COLLECTOR ", headers: {X-Key: s3cret}}");
    run_script(srv, "refusal");
    server_wait_log(srv, "refused with status 400: no such tenant: dropped");
    server_wait_log(srv, "it refused some of the spans: too old");
    {
        char *log = server_log(srv);

        assert_null(strstr(log, "s3cret"));
        free(log);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void without_a_collector_spans_are_dropped_and_nothing_waits(void **state)
{
    struct server *srv = start("tracing: {" COLLECTOR ", queue: 64KiB, compression: none}");
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    for (int i = 0; i < 2000; i++) {
        struct response *res = conn_request(conn, "GET", "/trace", NULL, NULL, 0);

        assert_int_equal(res->status, 200);
        response_free(&res);
    }
    conn_close(&conn);
    server_wait_log(srv, "traces: http://127.0.0.1:");
    server_wait_log(srv, "spans were dropped: they came faster than the collector takes them");
    assert_int_equal(server_stop(&srv), 0);
}

static size_t exporters(const struct server *srv, pid_t *pid)
{
    return server_children(srv, "bh-exporter", pid, 1);
}

static void one_that_is_killed_is_started_again(void **state)
{
    struct server *srv = start("tracing: {" COLLECTOR "}");
    pid_t pid = 0, next = 0;

    (void)state;
    eventually(exporters(srv, &pid) == 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    eventually(exporters(srv, &next) == 1 && next != pid);
    server_wait_log(srv, "the exporter was killed by SIGKILL");
    assert_int_equal(server_stop(&srv), 0);
}

static bool is_traced(struct server *srv)
{
    struct response *res = server_get(srv, "/");
    bool is = strcmp(response_header(res, "X-Traced"), "yes") == 0;

    response_free(&res);
    return is;
}

static void there_is_none_unless_the_config_wants_one(void **state)
{
    static const char config[] = "version: 1\n"
                                 "server: {workers: 1}\n"
                                 "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                                 "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                                 "%s\n"
                                 "plugins: {tracer: {module: tracer}}\n"
                                 "routes: [{chain: [tracer]}]\n";
    struct server *srv = server_start(config, "");
    struct response *res;
    pid_t pid;

    (void)state;
    assert_int_equal(exporters(srv, &pid), 0);
    res = server_request(srv, "GET", "/",
                         "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
                         NULL, 0);
    assert_non_null(strstr(
        res->body, "\"traceparent\":\"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\""));
    assert_string_equal(response_header(res, "X-Traced"), "no");
    response_free(&res);

    server_rewrite_config(srv, config, "tracing: {" COLLECTOR "}");
    assert_int_equal(kill(srv->pid, SIGHUP), 0);
    eventually(exporters(srv, &pid) == 1);
    eventually(is_traced(srv));
    server_rewrite_config(srv, config, "");
    assert_int_equal(kill(srv->pid, SIGHUP), 0);
    eventually(exporters(srv, &pid) == 0);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_as_opentelemetry_has_it),
        cmocka_unit_test(as_many_are_recorded_as_the_config_says),
        cmocka_unit_test(what_was_not_taken_is_sent_again_when_it_may),
        cmocka_unit_test(what_is_refused_is_told_and_not_sent_again),
        cmocka_unit_test(without_a_collector_spans_are_dropped_and_nothing_waits),
        cmocka_unit_test(one_that_is_killed_is_started_again),
        cmocka_unit_test(there_is_none_unless_the_config_wants_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
