/*
 * test_deadlines.c - clients that are slow at every stage: each gets its answer, or its end, in time,
 * and no other client notices.
 */
#include "harness.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LEAST_MS 250 /* every time-out below is longer, and shorter than a second */

static const char template[] =
    "version: 1\n"
    "server: {workers: 1}\n"
    "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
    "limits: {body: 64MiB, body_rate: %s, send_rate: %s,\n"
    "  timeouts: {head: %s, body: %s, send: 300ms, idle: %s, request: %s}}\n"
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"
    "plugins:\n"
    "  log: {module: access_log, config: {path: @DIR@/access.log, format: combined}}\n"
    "  body: {module: body, config: {mode: stream, reply: yes}}\n"
    "  site: {module: static, config: {root: @DIR@}}\n"
    "  hello: {module: respond, config: {status: 200, body: \"hello\\n\"}}\n"
    "routes:\n"
    "  - {match: {path: /upload}, chain: [log, body]}\n"
    "  - {match: {path: /files/**}, chain: [log, site]}\n"
    "  - {match: {path: /**}, chain: [log, hello]}\n"
    "crash: {dir: @DIR@/crashes, keep: 100}\n";

static struct server *start(void)
{
    return server_start(template, "1KiB", "1KiB", "400ms", "300ms", "400ms", "400ms");
}

/* Waits for the end of the connection, which comes LEAST_MS after `begun` at least: a moment before the
 * server's time began to run. What had come by then. */
static char *end_of(struct conn *c, int64_t begun)
{
    size_t n;
    char *text = conn_read_all(c, &n);

    assert_true(harness_now_ms() - begun >= LEAST_MS);
    return text;
}

static void assert_408_and_closed(struct conn *c, int64_t begun)
{
    char *text = end_of(c, begun);

    assert_memory_equal(text, "HTTP/1.1 408 Request Timeout\r\n", 30);
    assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
    assert_non_null(strstr(text, "\"status\":408"));
    assert_null(strstr(text + 1, "HTTP/1.1"));
    free(text);
}

static void a_connection_without_a_request_is_closed_silently(void **state)
{
    struct server *srv = start();
    int64_t begun = harness_now_ms();
    struct conn *c = conn_open(srv->port[0]);
    char *text = end_of(c, begun);

    (void)state;
    assert_string_equal(text, "");
    assert_int_equal(server_limit(srv, "no_request"), 1);
    free(text);
    conn_close(&c);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_head_that_does_not_end_is_answered_408(void **state)
{
    static const char *const parts[] = {"G", "GET / HTTP/1.1\r\n",
                                        "GET / HTTP/1.1\r\nHost: x\r\nA: b"};
    struct server *srv = start();

    (void)state;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        int64_t begun = harness_now_ms();
        struct conn *c = conn_open(srv->port[0]);

        conn_send(c, parts[i], strlen(parts[i]));
        assert_408_and_closed(c, begun);
        conn_close(&c);
    }
    assert_int_equal(server_limit(srv, "head_timeout"), 3);
    assert_int_equal(server_stop(&srv), 0);
}

/* The time runs from the first byte, whatever trickles in after it. */
static void a_head_that_trickles_is_answered_408(void **state)
{
    struct server *srv = start();
    struct conn *c = conn_open(srv->port[0]);
    int64_t begun = harness_now_ms(), end = harness_deadline_ms(HARNESS_WAIT_MS);
    struct pollfd p = {.fd = conn_fd(c), .events = POLLIN};
    char *text;
    size_t n;

    (void)state;
    conn_sendf(c, "GET / HTTP/1.1\r\n");
    while (poll(&p, 1, 50) == 0 && harness_now_ms() < end)
        conn_sendf(c, "X-%lld: y\r\n", (long long)(harness_now_ms() - begun));
    text = conn_read_all(c, &n);
    assert_memory_equal(text, "HTTP/1.1 408 ", 13);
    assert_true(harness_now_ms() - begun >= LEAST_MS);
    free(text);
    conn_close(&c);
    assert_int_equal(server_stop(&srv), 0);
}

static void after_a_request_the_idle_time_holds_and_then_that_of_the_next_head(void **state)
{
    struct server *srv = server_start(template, "1KiB", "1KiB", "300ms", "300ms", "20s", "20s");
    struct conn *c = conn_open(srv->port[0]);
    struct response *res = conn_request(c, "GET", "/", NULL, NULL, 0);
    struct pollfd p = {.fd = conn_fd(c), .events = POLLIN};
    int64_t begun;

    (void)state;
    assert_int_equal(res->status, 200);
    response_free(&res);
    assert_int_equal(poll(&p, 1, 700), 0); /* longer than a head may take */
    begun = harness_now_ms();
    conn_sendf(c, "GET / HTTP/1.1\r\nHost: x\r\n");
    assert_408_and_closed(c, begun);
    conn_close(&c);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_idle_connection_is_closed_silently(void **state)
{
    struct server *srv = server_start(template, "1KiB", "1KiB", "20s", "300ms", "300ms", "20s");
    struct conn *c = conn_open(srv->port[0]);
    int64_t begun = harness_now_ms();
    struct response *res = conn_request(c, "GET", "/", NULL, NULL, 0);
    char *text;

    (void)state;
    response_free(&res);
    conn_send(c, "\r\n", 2); /* blank lines make no request */
    text = end_of(c, begun);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(server_limit(srv, "idle"), 1);
    conn_close(&c);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_body_that_stops_is_answered_408(void **state)
{
    struct server *srv = start();
    struct conn *c = conn_open(srv->port[0]);
    int64_t begun = harness_now_ms();
    char *log = NULL, *path;

    (void)state;
    conn_sendf(c, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc");
    assert_408_and_closed(c, begun);
    conn_close(&c);
    c = conn_open(srv->port[0]);
    begun = harness_now_ms();
    conn_sendf(c, "POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc");
    assert_408_and_closed(c, begun);
    conn_close(&c);
    assert_int_equal(server_limit(srv, "body_too_slow"), 2);
    assert_true(asprintf(&path, "%s/access.log", srv->dir) > 0);
    eventually((free(log), log = file_read(path)) != NULL && strstr(log, "\" 408 ") != NULL);
    free(log);
    free(path);
    assert_int_equal(server_stop(&srv), 0);
}

/* 10 bytes each 20 ms are too little at 64 KiB/s, and enough when any progress will do. Ends when it is
 * answered: on a busy machine the server may get to look much later than it wanted. */
static struct response *trickle_body(struct server *srv, int n)
{
    struct conn *c = conn_open(srv->port[0]);
    struct pollfd p = {.fd = conn_fd(c), .events = POLLIN};
    struct response *res;

    conn_sendf(c, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 10 * n);
    for (int i = 0; i < n && poll(&p, 1, 20) == 0; i++)
        conn_send(c, "0123456789", 10);
    res = conn_response(c, "POST");
    conn_close(&c);
    return res;
}

static void a_body_has_to_keep_its_rate(void **state)
{
    struct server *srv = server_start(template, "64KiB", "0", "400ms", "300ms", "400ms", "20s");
    struct response *res = trickle_body(srv, 500);

    (void)state;
    assert_int_equal(res->status, 408);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);

    srv = server_start(template, "0", "0", "400ms", "1s", "400ms", "20s");
    res = trickle_body(
        srv, 100); /* twice as long; each pause is shorter, though a busy machine lengthens it */
    assert_int_equal(res->status, 200);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void make_big(const char *dir)
{
    char *path;

    assert_true(asprintf(&path, "%s/files/big", dir) > 0);
    assert_int_equal(
        run_command(NULL, "mkdir -p %s/files && head -c 33554432 /dev/zero > %s", dir, path), 0);
    free(path);
}

static void a_client_that_does_not_read_is_cut(void **state)
{
    char *dir = tmp_dir();
    struct server *srv;
    struct conn *c;

    (void)state;
    make_big(dir);
    srv = server_start_in(dir, template, "1KiB", "1KiB", "20s", "300ms", "20s", "20s");
    c = conn_open(srv->port[0]);
    conn_sendf(c, "GET /files/big HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(server_limit(srv, "reader_too_slow") == 1);
    conn_close(&c);
    free(dir);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_client_that_reads_slowly_but_fast_enough_gets_all(void **state)
{
    char *dir = tmp_dir(), *junk = malloc(1 << 20);
    struct server *srv;
    struct conn *c;
    size_t sum = 0;
    ssize_t n;

    (void)state;
    make_big(dir);
    srv = server_start_in(dir, template, "1KiB", "1KiB", "20s", "300ms", "300ms", "20s");
    c = conn_open(srv->port[0]);
    conn_sendf(c, "GET /files/big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    while ((n = recv(conn_fd(c), junk, 1 << 20, 0)) > 0) {
        sum += (size_t)n;
        poll(NULL, 0, 20); /* the pace of the client; takes longer than two intervals */
    }
    assert_true(sum > 33554432);
    conn_close(&c);
    free(junk);
    free(dir);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_without_a_request_is_closed_silently),
        cmocka_unit_test(a_head_that_does_not_end_is_answered_408),
        cmocka_unit_test(a_head_that_trickles_is_answered_408),
        cmocka_unit_test(after_a_request_the_idle_time_holds_and_then_that_of_the_next_head),
        cmocka_unit_test(an_idle_connection_is_closed_silently),
        cmocka_unit_test(a_body_that_stops_is_answered_408),
        cmocka_unit_test(a_body_has_to_keep_its_rate),
        cmocka_unit_test(a_client_that_does_not_read_is_cut),
        cmocka_unit_test(a_client_that_reads_slowly_but_fast_enough_gets_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
