/*
 * test_hostile.c - what the host answers to plugins that do not keep to the interface.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pid_t worker;

static struct server *start(void)
{
    struct server *srv = server_start("version: 1\n"
                                      "server: {workers: 1}\n"
                                      "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                                      "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                                      "plugins:\n"
                                      "  h: {module: hostile}\n"
                                      "  ok: {module: respond, config: {body: ok}}\n"
                                      "routes:\n"
                                      "  - {match: {path: /alone}, chain: [h]}\n"
                                      "  - {match: {path: /**}, chain: [h, ok]}\n"
                                      "crash: {dir: @DIR@/crashes, keep: 100}\n");

    eventually(server_children(srv, "worker", &worker, 1) == 1);
    return srv;
}

/* Nothing crashed, nothing was answered that should not have been, the worker still serves. */
static void end(struct server *srv)
{
    struct response *res = server_get(srv, "/");
    pid_t now = 0;
    char *log;

    assert_int_equal(res->status, 200);
    assert_null(response_header(res, "X-Wrong"));
    response_free(&res);
    assert_int_equal(server_children(srv, "worker", &now, 1), 1);
    assert_int_equal(now, worker);
    log = server_log(srv);
    if (strstr(log, "on_log: ") != NULL)
        harness_fail(__FILE__, __LINE__, "a host function answered wrongly in on_log");
    free(log);
    assert_int_equal(server_stop(&srv), 0);
}

static void attempt(const char *what)
{
    struct server *srv = start();
    char target[64], expected[64];

    snprintf(target, sizeof target, "/?try=%s", what);
    snprintf(expected, sizeof expected, "%s: ok", what);
    for (int i = 0; i < 3; i++) { /* what one left behind would trip the next */
        struct response *res = server_get(srv, target);

        assert_int_equal(res->status, 200);
        assert_string_equal(res->body, expected);
        assert_null(response_header(res, "X-Wrong"));
        response_free(&res);
    }
    assert_int_equal(server_crash_count(srv), 0);
    end(srv);
}

static void null_is_refused_everywhere(void **state)
{
    (void)state;
    attempt("null");
}

static void other_objects_are_refused_as_handles(void **state)
{
    (void)state;
    attempt("wrong");
}

static void malformed_values_are_refused(void **state)
{
    (void)state;
    attempt("values");
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    attempt("sizes");
}

static void a_request_gets_16_mebibytes(void **state)
{
    (void)state;
    attempt("memory");
}

static void header_fields_come_to_an_end(void **state)
{
    (void)state;
    attempt("fields");
}

static void ten_thousand_deferred_functions_run(void **state)
{
    (void)state;
    attempt("defers");
}

static void handles_of_a_request_that_is_over_are_refused(void **state)
{
    (void)state;
    attempt("old");
}

static void the_servers_signals_cannot_be_taken(void **state)
{
    (void)state;
    attempt("signals");
}

static void a_plugin_may_fork_and_wait(void **state)
{
    (void)state;
    attempt("fork");
}

static void calls_from_outside_any_hook_do_no_harm(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    conn_sendf(conn, "POST /alone?try=outside HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na");
    for (int i = 0; i < 3; i++) { /* the posted call has run when these are answered */
        res = server_get(srv, "/");
        assert_int_equal(res->status, 200);
        response_free(&res);
    }
    conn_sendf(conn, "b");
    res = conn_response(conn, "POST");
    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, "inside");
    response_free(&res);
    conn_close(&conn);
    end(srv);
}

static void fields_too_large_to_send_are_refused_not_the_request(void **state)
{
    struct server *srv = start();
    char *header = calloc(80, 64);
    struct response *res;

    (void)state;
    for (int i = 0; i < 80; i++) /* the request's own head takes its part of the memory */
        sprintf(header + strlen(header), "Filler: %030d\r\n", i);
    res = server_request(srv, "GET", "/?try=big_head", header, NULL, 0);
    assert_int_equal(res->status, 200);
    assert_null(response_header(res, "X-Big"));
    response_free(&res);
    res = server_get(srv, "/?try=big_head");
    assert_int_equal(res->status, 200);
    assert_int_equal(strlen(response_header(res, "X-Big")), 8000);
    response_free(&res);
    free(header);
    end(srv);
}

static void answers_without_a_body_leave_the_connection_in_order(void **state)
{
    struct server *srv = start();

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct conn *conn = conn_open(srv->port[0]);
        char *all;

        conn_sendf(conn, "GET /?try=%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                   i ? "no_content" : "not_modified");
        all = conn_read_all(conn, NULL);
        assert_int_equal(strncmp(all, i ? "HTTP/1.1 204 " : "HTTP/1.1 304 ", 13), 0);
        assert_string_equal(strstr(all, "\r\n\r\n"), "\r\n\r\n");
        free(all);
        conn_close(&conn);
    }
    end(srv);
}

static void a_field_without_a_value_is_sent(void **state)
{
    struct server *srv = start();
    struct response *res = server_get(srv, "/?try=empty_value");

    (void)state;
    assert_int_equal(res->status, 200);
    assert_non_null(response_header(res, "X-Empty"));
    response_free(&res);
    end(srv);
}

static void a_later_reply_replaces_a_stream(void **state)
{
    struct server *srv = start();
    struct response *res = server_get(srv, "/?try=replace_stream");

    (void)state;
    assert_string_equal(res->body, "kept");
    response_free(&res);
    end(srv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_is_refused_everywhere),
        cmocka_unit_test(other_objects_are_refused_as_handles),
        cmocka_unit_test(malformed_values_are_refused),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(a_request_gets_16_mebibytes),
        cmocka_unit_test(header_fields_come_to_an_end),
        cmocka_unit_test(ten_thousand_deferred_functions_run),
        cmocka_unit_test(handles_of_a_request_that_is_over_are_refused),
        cmocka_unit_test(the_servers_signals_cannot_be_taken),
        cmocka_unit_test(a_plugin_may_fork_and_wait),
        cmocka_unit_test(calls_from_outside_any_hook_do_no_harm),
        cmocka_unit_test(fields_too_large_to_send_are_refused_not_the_request),
        cmocka_unit_test(answers_without_a_body_leave_the_connection_in_order),
        cmocka_unit_test(a_field_without_a_value_is_sent),
        cmocka_unit_test(a_later_reply_replaces_a_stream),
    };

    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
