/*
 * test_smoke.c - the least that must work: the binary starts, answers, keeps connections, and ends.
 */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char hello[] =
    "version: 1\n"
    "server: {workers: 2}\n"
    "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
    "modules: {path: [@PLUGINS@]}\n"
    "plugins:\n"
    "  hello: {module: respond, config: {status: 200, body: \"hello\\n\"}}\n"
    "chains: {default: [hello]}\n"
    "routes: [{match: {path: /**}, chain: [default]}]\n"
    "crash: {dir: @DIR@/crashes, keep: 100}\n";

static void get_is_answered_by_the_chain(void **state)
{
    struct server *srv = server_start(hello);
    struct response *res = server_get(srv, "/");

    (void)state;
    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, "hello\n");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void head_has_the_headers_of_get_and_no_body(void **state)
{
    struct server *srv = server_start(hello);
    struct response *res = server_request(srv, "HEAD", "/", NULL, NULL, 0);

    (void)state;
    assert_int_equal(res->status, 200);
    assert_string_equal(response_header(res, "content-length"), "6");
    assert_int_equal(res->body_len, 0);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_connection_serves_many_requests(void **state)
{
    struct server *srv = server_start(hello);
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    for (int i = 0; i < 100; i++) {
        struct response *res = conn_request(conn, "GET", "/again", NULL, NULL, 0);

        assert_int_equal(res->status, 200);
        assert_false(res->closed);
        response_free(&res);
    }
    assert_true(conn_is_idle(conn));
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_posted_body_is_taken_and_answered(void **state)
{
    struct server *srv = server_start(hello);
    struct response *res = server_request(srv, "POST", "/", NULL, "some bytes", 10);

    (void)state;
    assert_int_equal(res->status, 200);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_killed_worker_is_replaced(void **state)
{
    struct server *srv = server_start(hello);
    struct response *res;
    pid_t before[8];

    (void)state;
    server_wait_log(srv, "serving on"); /* one that dies before that ends the start */
    eventually(server_children(srv, "worker", before, 8) == 2);
    assert_int_equal(kill(before[0], SIGKILL), 0);
    eventually(kill(before[0], 0) != 0);
    eventually(server_children(srv, "worker", NULL, 0) == 2);
    res = server_get(srv, "/");
    assert_int_equal(res->status, 200);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_config_with_an_error_is_refused(void **state)
{
    char *dir = tmp_dir();
    char config[256];
    char *said;

    (void)state;
    snprintf(config, sizeof config, "%s/bad.yaml", dir);
    file_write(config, "version: 1\nlistners: []\n");
    assert_int_equal(run_command(&said, "\"$BULKHEAD\" check -c %s", config), 2);
    assert_non_null(strstr(said, "bad.yaml:2:1"));
    assert_non_null(strstr(said, "listeners"));
    free(said);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_is_answered_by_the_chain),
        cmocka_unit_test(head_has_the_headers_of_get_and_no_body),
        cmocka_unit_test(a_connection_serves_many_requests),
        cmocka_unit_test(a_posted_body_is_taken_and_answered),
        cmocka_unit_test(a_killed_worker_is_replaced),
        cmocka_unit_test(a_config_with_an_error_is_refused),
    };

    return cmocka_run_group_tests_name("smoke", tests, NULL, NULL);
}
