/*
 * test_bodies.c - request and response bodies between socket and plugins.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HEAD                                                       \
    "version: 1\n"                                                 \
    "server: {workers: 1}\n"                                       \
    "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n" \
    "limits: {body: 100000}\n"                                     \
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"                    \
    "crash: {dir: @DIR@/crashes, keep: 100}\n"

/* One worker, limits.body 100,000 bytes, the chain a, b. */
static struct server *start(const char *a, const char *b)
{
    return server_start(HEAD "plugins:\n"
                             "  a: {module: body, config: {%s}}\n"
                             "  b: {module: body, config: {%s}}\n"
                             "routes: [{match: {path: /**}, chain: [a, b]}]\n",
                        a, b);
}

static char *bytes(size_t n)
{
    char *p = malloc(n + 1);

    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + i % 26);
    p[n] = '\0';
    return p;
}

static void expect_post(struct server *srv, size_t n, int status, const char *body)
{
    char *sent = bytes(n);
    struct response *res = server_request(srv, "POST", "/", NULL, sent, n);

    assert_int_equal(res->status, status);
    if (body != NULL)
        assert_string_equal(res->body, body);
    response_free(&res);
    free(sent);
}

/* ---- how a body comes ---- */

static void a_body_with_a_length_is_seen_in_full(void **state)
{
    struct server *srv = start("", "reply: yes");

    (void)state;
    expect_post(srv, 5, 200, "calls=2 bytes=5 body=0 ");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_chunked_body_is_seen_in_full(void **state)
{
    struct server *srv = start("", "mode: buffer, reply: yes");
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    conn_sendf(conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n");
    res = conn_response(conn, "POST");
    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, "calls=1 bytes=11 body=0 hello world");
    assert_false(res->closed);
    assert_true(conn_is_idle(conn));
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_empty_chunked_body_is_one_empty_call(void **state)
{
    struct server *srv = start("", "mode: buffer, reply: yes");
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    conn_sendf(conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    res = conn_response(conn, "POST");
    assert_string_equal(res->body, "calls=1 bytes=0 body=0 ");
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void bytes_that_come_one_by_one_are_put_together(void **state)
{
    static const char request[] =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world";
    struct server *srv = start("", "mode: buffer, reply: yes");
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    for (size_t i = 0; i < sizeof request - 1; i++) {
        conn_send(conn, request + i, 1);
        harness_pause(harness_deadline_ms(1000)); /* apart from each other */
    }
    res = conn_response(conn, "POST");
    assert_string_equal(res->body, "calls=1 bytes=11 body=0 hello world");
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_large_body_is_buffered_whole(void **state)
{
    struct server *srv = start("", "mode: buffer, reply: yes");

    (void)state;
    expect_post(srv, 100000, 200,
                "calls=1 bytes=100000 body=0 "
                "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl");
    assert_int_equal(server_stop(&srv), 0);
}

static void the_last_call_of_a_stream_says_so_with_the_body_whole_for_others(void **state)
{
    struct server *srv = start("mode: buffer", "mode: stream, reply: yes");

    (void)state;
    expect_post(srv, 3, 200, "calls=2 bytes=3 body=0 ");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_plugin_that_wants_no_body_gets_none(void **state)
{
    struct server *srv = start("mode: none", "mode: none, reply: yes");

    (void)state;
    expect_post(srv, 3, 200, "no body");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_replaced_body_is_what_later_plugins_see(void **state)
{
    struct server *srv = start("mode: buffer, replace: other", "mode: buffer, reply: yes");

    (void)state;
    expect_post(srv, 1000, 200, "calls=1 bytes=5 body=0 other");
    assert_int_equal(server_stop(&srv), 0);
}

static void pipelined_bodies_do_not_mix(void **state)
{
    struct server *srv = start("", "mode: buffer, reply: yes");
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    conn_sendf(
        conn,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none"
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        static const char *const expected[] = {"calls=1 bytes=3 body=0 one",
                                               "calls=1 bytes=3 body=0 two", "no body"};
        struct response *res = conn_response(conn, "POST");

        assert_string_equal(res->body, expected[i]);
        response_free(&res);
    }
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- 100-continue ---- */

static void expect_continue_is_answered_before_the_body_comes(void **state)
{
    struct server *srv = start("", "mode: buffer, reply: yes");
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;
    char first[64];
    size_t n = 0;

    (void)state;
    conn_sendf(conn,
               "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    memset(first, 0, sizeof first);
    eventually((n = (size_t)recv(conn_fd(conn), first, sizeof first - 1, MSG_DONTWAIT)) <
               sizeof first);
    assert_int_equal(strncmp(first, "HTTP/1.1 100 ", 13), 0);
    conn_sendf(conn, "hello");
    res = conn_response(conn, "POST");
    assert_string_equal(res->body, "calls=1 bytes=5 body=0 hello");
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_refusal_comes_instead_of_100_continue(void **state)
{
    struct server *srv = start("refuse: yes", "");
    struct conn *conn = conn_open(srv->port[0]);
    char *all;

    (void)state;
    conn_sendf(
        conn,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\nExpect: 100-continue\r\n\r\n");
    all = conn_read_all(conn, NULL);
    assert_int_equal(strncmp(all, "HTTP/1.1 403 ", 13), 0);
    free(all);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- limits ---- */

static void a_length_over_the_limit_is_413_at_once(void **state)
{
    struct server *srv = start("", "reply: yes");
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    conn_sendf(conn,
               "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n"); /* and no body */
    res = conn_response(conn, "POST");
    assert_int_equal(res->status, 413);
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_chunked_body_over_the_limit_is_413(void **state)
{
    struct server *srv = start("", "reply: yes");
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;
    char *chunk = bytes(60000);

    (void)state;
    conn_sendf(conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    conn_sendf(conn, "%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", 60000, chunk, 60000, chunk);
    res = conn_response(conn, "POST");
    assert_int_equal(res->status, 413);
    response_free(&res);
    free(chunk);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_plugins_own_limit_is_413_also_for_chunked_bodies(void **state)
{
    struct server *srv = start("mode: buffer, max: 10", "reply: yes");
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    expect_post(srv, 10, 200, NULL);
    expect_post(srv, 11, 413, NULL);
    conn_sendf(conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "b\r\nhello world\r\n0\r\n\r\n");
    res = conn_response(conn, "POST");
    assert_int_equal(res->status, 413);
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void endless_bytes_after_a_refusal_end_the_connection(void **state)
{
    struct server *srv = start("", "reply: yes, early: yes");
    struct conn *conn = conn_open(srv->port[0]);
    char *chunk = bytes(60000);
    char *all;

    (void)state;
    conn_sendf(conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 20; i++)
        conn_sendf(conn, "%x\r\n%s\r\n", 60000, chunk);
    all = conn_read_all(conn, NULL); /* or the deadline fails the test */
    free(all);
    free(chunk);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_connection_goes_on_after_a_refused_small_body(void **state)
{
    struct server *srv = start("refuse: yes", "");
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct response *res = conn_request(conn, "POST", "/", NULL, "some bytes", 10);

        assert_int_equal(res->status, 403);
        assert_false(res->closed);
        response_free(&res);
    }
    assert_true(conn_is_idle(conn));
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_answer_before_the_end_of_the_body_keeps_the_connection(void **state)
{
    struct server *srv = start("", "reply: yes, early: yes");
    struct conn *conn = conn_open(srv->port[0]);
    char *sent = bytes(50000);

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct response *res = conn_request(conn, "POST", "/", NULL, sent, 50000);

        assert_int_equal(res->status, 200);
        assert_int_equal(strncmp(res->body, "calls=1 ", 8), 0);
        response_free(&res);
    }
    free(sent);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- pauses ---- */

static void a_pause_at_each_chunk_loses_no_byte(void **state)
{
    struct server *srv = start("pause_ms: 1ms", "mode: buffer, reply: yes");

    (void)state;
    expect_post(srv, 40000, 200,
                "calls=1 bytes=40000 body=0 "
                "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_body_is_seen_after_a_pause_in_on_request(void **state)
{
    struct server *srv = start("pause_head: yes", "mode: buffer, reply: yes");

    (void)state;
    expect_post(srv, 11, 200, "calls=1 bytes=11 body=0 abcdefghijk");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_pause_in_on_request_goes_with_expect_continue(void **state)
{
    struct server *srv = start("pause_head: yes", "mode: buffer, reply: yes");
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;
    char first[256];
    ssize_t n = 0;

    (void)state;
    conn_sendf(conn,
               "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    memset(first, 0, sizeof first);
    eventually((n = recv(conn_fd(conn), first, sizeof first - 1, MSG_DONTWAIT)) > 0);
    assert_int_equal(strncmp(first, "HTTP/1.1 100 ", 13), 0);
    conn_sendf(conn, "hello");
    res = conn_response(conn, "POST");
    assert_string_equal(res->body, "calls=1 bytes=5 body=0 hello");
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void pauses_of_two_plugins_follow_each_other(void **state)
{
    struct server *srv = start("pause_head: yes, pause_ms: 1ms", "pause_ms: 1ms, mode: buffer");
    char *sent = bytes(1000);
    struct response *res = server_request(srv, "POST", "/", NULL, sent, 1000);

    (void)state;
    assert_int_equal(res->status, 404); /* nobody answers; nothing hangs */
    response_free(&res);
    free(sent);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- responses ---- */

static void a_filter_may_change_the_length_of_a_reply(void **state)
{
    struct server *srv = start("upper: yes", "reply: yes, grow: yes");
    struct response *res = server_get(srv, "/");

    (void)state;
    assert_string_equal(res->body, "NO BODYNO BODYNO BODY [1]");
    assert_string_equal(response_header(res, "Content-Length"), "25");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static struct server *start_static(const char *a)
{
    char *dir = tmp_dir();
    char path[512];
    char *text = bytes(100000);
    struct server *srv;

    snprintf(path, sizeof path, "%s/file.txt", dir);
    file_write(path, "%s", text);
    free(text);
    srv = server_start_in(dir,
                          HEAD "plugins:\n"
                               "  a: {module: body, config: {%s}}\n"
                               "  s: {module: static, config: {root: @DIR@}}\n"
                               "  t: {module: streamer}\n"
                               "routes:\n"
                               "  - {match: {path: /stream}, chain: [a, t]}\n"
                               "  - {match: {path: /**}, chain: [a, s]}\n",
                          a);
    free(dir);
    return srv;
}

static void a_filter_sees_a_file_in_pieces(void **state)
{
    struct server *srv = start_static("upper: yes");
    struct response *res = server_get(srv, "/file.txt");

    (void)state;
    assert_int_equal(res->status, 200);
    assert_false(res->truncated);
    assert_true(res->body_len > 100000);
    assert_int_equal(strncmp(res->body, "ABCDEFGHIJ", 10), 0);
    assert_int_equal(res->body[99999], 'A' + 99999 % 26);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_growing_filter_of_a_stream_loses_nothing(void **state)
{
    struct server *srv = start_static("grow: yes");
    struct response *res = server_get(srv, "/stream?n=3&size=4");

    (void)state;
    assert_string_equal(res->body, "ddddddddddddccccccccccccbbbbbbbbbbbb");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_buffering_filter_sees_a_stream_once_and_whole(void **state)
{
    struct server *srv = start_static("upper: yes, resp_mode: buffer");
    struct response *res = server_get(srv, "/stream?n=3&size=4");

    (void)state;
    assert_string_equal(res->body, "DDDDCCCCBBBB [1]");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_response_larger_than_a_filter_buffers_fails(void **state)
{
    struct server *srv = start_static("upper: yes, resp_mode: buffer, resp_max: 10");
    struct response *res = server_get(srv, "/stream?n=3&size=4");

    (void)state;
    assert_true(res->status == 500 || res->truncated);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_with_a_length_is_seen_in_full),
        cmocka_unit_test(a_chunked_body_is_seen_in_full),
        cmocka_unit_test(an_empty_chunked_body_is_one_empty_call),
        cmocka_unit_test(bytes_that_come_one_by_one_are_put_together),
        cmocka_unit_test(a_large_body_is_buffered_whole),
        cmocka_unit_test(the_last_call_of_a_stream_says_so_with_the_body_whole_for_others),
        cmocka_unit_test(a_plugin_that_wants_no_body_gets_none),
        cmocka_unit_test(a_replaced_body_is_what_later_plugins_see),
        cmocka_unit_test(pipelined_bodies_do_not_mix),
        cmocka_unit_test(expect_continue_is_answered_before_the_body_comes),
        cmocka_unit_test(a_refusal_comes_instead_of_100_continue),
        cmocka_unit_test(a_length_over_the_limit_is_413_at_once),
        cmocka_unit_test(a_chunked_body_over_the_limit_is_413),
        cmocka_unit_test(a_plugins_own_limit_is_413_also_for_chunked_bodies),
        cmocka_unit_test(endless_bytes_after_a_refusal_end_the_connection),
        cmocka_unit_test(a_connection_goes_on_after_a_refused_small_body),
        cmocka_unit_test(an_answer_before_the_end_of_the_body_keeps_the_connection),
        cmocka_unit_test(a_pause_at_each_chunk_loses_no_byte),
        cmocka_unit_test(a_body_is_seen_after_a_pause_in_on_request),
        cmocka_unit_test(a_pause_in_on_request_goes_with_expect_continue),
        cmocka_unit_test(pauses_of_two_plugins_follow_each_other),
        cmocka_unit_test(a_filter_may_change_the_length_of_a_reply),
        cmocka_unit_test(a_filter_sees_a_file_in_pieces),
        cmocka_unit_test(a_growing_filter_of_a_stream_loses_nothing),
        cmocka_unit_test(a_buffering_filter_sees_a_stream_once_and_whole),
        cmocka_unit_test(a_response_larger_than_a_filter_buffers_fails),
    };

    return cmocka_run_group_tests_name("bodies", tests, NULL, NULL);
}
