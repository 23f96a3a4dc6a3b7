/*
 * test_streaming.c - replies that come bit by bit: framing, back-pressure, and clients that leave.
 */
#include "harness.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct server *start(void)
{
    return server_start("version: 1\n"
                        "server: {workers: 1}\n"
                        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                        "limits: {timeouts: {drain: 5s}}\n"
                        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                        "plugins:\n"
                        "  log: {module: probe, config: {file: @DIR@/trace}}\n"
                        "  s: {module: streamer}\n"
                        "routes:\n"
                        "  - {match: {path: /plain}, chain: [s]}\n"
                        "  - {match: {path: /**}, chain: [log, s]}\n"
                        "crash: {dir: @DIR@/crashes, keep: 100}\n");
}

static void an_unknown_length_is_chunked(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct response *res = conn_request(conn, "GET", "/plain?n=3&size=4", NULL, NULL, 0);

        assert_int_equal(res->status, 200);
        assert_string_equal(response_header(res, "Transfer-Encoding"), "chunked");
        assert_null(response_header(res, "Content-Length"));
        assert_string_equal(res->body, "ddddccccbbbb");
        assert_false(res->closed);
        response_free(&res);
    }
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_known_length_is_announced(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res = conn_request(conn, "GET", "/plain?n=3&size=4&len=12", NULL, NULL, 0);

    (void)state;
    assert_string_equal(response_header(res, "Content-Length"), "12");
    assert_null(response_header(res, "Transfer-Encoding"));
    assert_string_equal(res->body, "ddddccccbbbb");
    response_free(&res);
    res = conn_request(conn, "GET", "/plain?n=0&len=0", NULL, NULL, 0);
    assert_int_equal(res->status, 200);
    assert_string_equal(response_header(res, "Content-Length"), "0");
    response_free(&res);
    assert_true(conn_is_idle(conn));
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_empty_stream_is_an_empty_body(void **state)
{
    struct server *srv = start();
    struct response *res = server_get(srv, "/plain?n=0");

    (void)state;
    assert_int_equal(res->status, 200);
    assert_int_equal(res->body_len, 0);
    assert_false(res->truncated);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void for_http_1_0_the_connection_ends_the_stream(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    char *all;

    (void)state;
    conn_sendf(conn, "GET /plain?n=3&size=4 HTTP/1.0\r\nHost: a\r\n\r\n");
    all = conn_read_all(conn, NULL);
    assert_null(strstr(all, "chunked"));
    assert_non_null(strstr(all, "\r\n\r\nddddccccbbbb"));
    assert_string_equal(strstr(all, "\r\n\r\n") + 4, "ddddccccbbbb");
    free(all);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void for_http_1_0_the_connection_ends_an_empty_stream_too(void **state)
{
    static const char *const targets[] = {"/plain?n=0", "/plain?n=0&via=post"};
    struct server *srv = start();

    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct conn *conn = conn_open(srv->port[0]);
        char *all;

        conn_sendf(conn, "GET %s HTTP/1.0\r\nHost: a\r\n\r\n", targets[i]);
        all = conn_read_all(conn, NULL);
        assert_string_equal(strstr(all, "\r\n\r\n"), "\r\n\r\n");
        free(all);
        conn_close(&conn);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void head_gets_no_byte_of_a_stream(void **state)
{
    static const char *const targets[] = {"/plain?n=3", "/?n=3&via=post",
                                          "/plain?n=3&size=4&len=12"};
    struct server *srv = start();

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct conn *conn = conn_open(srv->port[0]);
        char *all;

        conn_sendf(conn, "HEAD %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", targets[i]);
        all = conn_read_all(conn, NULL);
        assert_int_equal(strncmp(all, "HTTP/1.1 200 ", 13), 0);
        assert_string_equal(strstr(all, "\r\n\r\n"), "\r\n\r\n"); /* not so much as a last chunk */
        free(all);
        conn_close(&conn);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void expect_failures(const struct server *srv, int n)
{
    char expected[32], *out = NULL;

    snprintf(expected, sizeof expected, "\"failures\":%d", n);
    run_command(&out, "RUNTIME_DIRECTORY=%s %s status --json -c %s 2>/dev/null | tr -d ' \\n'",
                srv->dir, getenv("BULKHEAD"), srv->config);
    assert_non_null(strstr(out, expected));
    free(out);
}

/* The head is out when it goes wrong: the client must not take what it got for all of it. */
static void expect_cut(struct server *srv, const char *target, size_t at_most)
{
    struct response *res = server_get(srv, target);

    assert_int_equal(res->status, 200);
    assert_true(res->truncated);
    assert_true(res->body_len <= at_most);
    response_free(&res);
}

static void a_stream_that_is_not_as_long_as_announced_is_cut(void **state)
{
    struct server *srv = start();

    (void)state;
    expect_cut(srv, "/plain?n=2&size=4&len=100&via=post", 8);
    server_wait_log(srv, "plugin 's': it streams other than the 100 bytes that it announced");
    expect_cut(srv, "/plain?n=3&size=4&len=6&via=post", 6);
    server_wait_log(srv, "plugin 's': it streams more than the 6 bytes that it announced");
    expect_failures(srv, 2);
    assert_int_equal(server_crash_count(srv), 0);
    assert_int_equal(server_stop(&srv), 0);
}

static int count_descriptors(pid_t pid)
{
    const struct dirent *entry;
    char path[64];
    DIR *dir;
    int n = 0;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* The worker stands still until the requests are there: it answers them without ever having waited
 * for an event on their connections. */
static void a_connection_that_is_cut_before_it_had_to_wait_is_closed(void **state)
{
    enum { N = 8 };
    struct server *srv = start();
    struct conn *conn[N];
    pid_t worker = 0;
    int before;

    (void)state;
    eventually(server_children(srv, "bh-worker", &worker, 1) == 1);
    expect_cut(srv, "/plain?n=1&size=4&via=pull&bad=fail", 0); /* what is made only once */
    before = count_descriptors(worker);
    kill(worker, SIGSTOP);
    for (int i = 0; i < N; i++) {
        conn[i] = conn_open(srv->port[0]);
        conn_sendf(conn[i], "GET /plain?n=1&size=4&via=pull&bad=fail HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    kill(worker, SIGCONT);
    for (int i = 0; i < N; i++) {
        free(conn_read_all(conn[i], NULL));
        conn_close(&conn[i]);
    }
    eventually(count_descriptors(worker) <= before);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_length_that_is_wrong_from_the_start_is_500(void **state)
{
    static const char *const targets[] = {"/plain?n=2&size=4&len=100", "/plain?n=3&size=4&len=6"};
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct response *res = conn_request(conn, "GET", targets[i], NULL, NULL, 0);

        assert_int_equal(res->status, 500);
        assert_false(res->closed);
        response_free(&res);
    }
    expect_failures(srv, 2);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void nothing_is_taken_after_the_end(void **state)
{
    struct server *srv = start();
    struct response *res = server_get(srv, "/plain?n=1&size=3&after=yes");

    (void)state;
    assert_null(response_header(res, "X-After"));
    assert_string_equal(res->body, "bbb");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void chunks_of_posted_calls_arrive_as_they_are_written(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    char got[512];
    ssize_t n = 0;
    struct response *res;

    (void)state;
    /* The stream stays open, so whatever arrives has been flushed. */
    conn_sendf(conn, "GET /plain?n=2&size=4&via=post&open=yes HTTP/1.1\r\nHost: a\r\n\r\n");
    memset(got, 0, sizeof got);
    eventually((n = recv(conn_fd(conn), got, sizeof got - 1, MSG_PEEK | MSG_DONTWAIT)) > 0 &&
               strstr(got, "bbbb") != NULL);
    conn_close(&conn);
    res = server_get(srv, "/plain?n=100&size=100&via=post");
    assert_int_equal(res->body_len, 10000);
    assert_false(res->truncated);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void writing_stops_at_one_mebibyte(void **state)
{
    struct server *srv = start();
    struct response *res = server_get(srv, "/plain?fill=yes");

    (void)state;
    assert_string_equal(res->body, "taken 1048576, then -7");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_slow_reader_gets_every_byte(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    conn_sendf(conn, "GET /plain?n=200&size=60000&via=post HTTP/1.1\r\nHost: a\r\n\r\n");
    /* Other requests run while 12 MB wait for a client that does not read. */
    for (int i = 0; i < 20; i++) {
        res = server_get(srv, "/plain?n=1&size=1");
        assert_string_equal(res->body, "b");
        response_free(&res);
    }
    res = conn_response(conn, "GET");
    assert_int_equal(res->body_len, 200 * 60000);
    assert_false(res->truncated);
    for (size_t i = 0; i < 200; i++) {
        assert_int_equal(res->body[i * 60000], 'a' + (int)((200 - i) % 26));
        assert_int_equal(res->body[i * 60000 + 59999], 'a' + (int)((200 - i) % 26));
    }
    response_free(&res);
    conn_close(&conn);
    server_wait_log(srv, "the stream is over, 0 chunks left, refused some");
    assert_int_equal(server_stop(&srv), 0);
}

static long rss_kib(const struct server *srv)
{
    char path[64];
    char *text;
    long kib;
    pid_t pid = 0;

    eventually(server_children(srv, "worker", &pid, 1) == 1);
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    text = file_read(path);
    kib = atol(strstr(text, "VmRSS:") + 6);
    free(text);
    return kib;
}

/* 256 MiB, at the client's pace. */
static void a_plugin_that_is_told_of_room_streams_any_size_in_little_memory(void **state)
{
    enum { N = 4096, SIZE = 65536 };
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    static char buf[1 << 20];
    uint64_t got = 0;
    long before, after;
    char target[128];

    (void)state;
    snprintf(target, sizeof target, "/plain?n=%d&size=%d&len=%d&via=pull", N, SIZE, N * SIZE);
    before = rss_kib(srv);
    conn_sendf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", target);
    for (ssize_t n; (n = recv(conn_fd(conn), buf, sizeof buf, 0)) > 0; got += (uint64_t)n)
        ;
    assert_in_range(got, (uint64_t)N * SIZE + 50, (uint64_t)N * SIZE + 500);
    after = rss_kib(srv);
    assert_true(after < before + 4096 || harness_is_sanitized());
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_function_that_is_told_of_room_is_a_hook(void **state)
{
    struct server *srv = start();
    struct response *res = server_get(srv, "/?n=3&size=4&via=pull");
    char *record;

    (void)state;
    assert_string_equal(res->body, "ddddccccbbbb");
    assert_false(res->truncated);
    response_free(&res);
    res = server_get(srv, "/?n=3&size=4&via=pull&bad=idle");
    assert_string_equal(res->body, "ddddccccagain: -3"); /* it would go round in circles */
    response_free(&res);
    expect_cut(srv, "/?n=3&size=4&via=pull&bad=fail", 8);
    expect_failures(srv, 1);
    expect_cut(srv, "/?n=3&size=4&via=pull&bad=crash", 8);
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "\"on_writable\""));
    assert_non_null(strstr(record, "truncated:"));
    free(record);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_client_that_leaves_ends_the_stream(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    char trace[512];
    char got[64];
    char *text;
    bool is_logged;

    (void)state;
    snprintf(trace, sizeof trace, "%s/trace", srv->dir);
    conn_sendf(conn, "GET /?n=100000&size=1000&via=post HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(recv(conn_fd(conn), got, sizeof got, MSG_DONTWAIT) > 0);
    conn_close(&conn);
    server_wait_log(srv, "the stream is over");
    /* Which is said by a deferred function: before on_log. */
    eventually((text = file_read(trace), is_logged = strstr(text, "log on_log") != NULL, free(text),
                is_logged));
    assert_int_equal(server_crash_count(srv), 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_client_that_leaves_an_idle_stream_is_noticed(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    char got[64];

    (void)state;
    conn_sendf(conn, "GET /?n=1&size=10&via=post&open=yes HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(recv(conn_fd(conn), got, sizeof got, MSG_DONTWAIT) > 0);
    conn_close(&conn);
    server_wait_log(srv, "the stream is over");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_drain_lets_a_stream_finish(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    conn_sendf(conn, "GET /plain?n=100&size=60000&via=post HTTP/1.1\r\nHost: a\r\n\r\n");
    res = server_get(srv, "/plain?n=1&size=1");
    response_free(&res);
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    res = conn_response(conn, "GET");
    assert_int_equal(res->body_len, 100 * 60000);
    assert_false(res->truncated);
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_wait_exit(srv), 0);
    server_stop(&srv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unknown_length_is_chunked),
        cmocka_unit_test(a_known_length_is_announced),
        cmocka_unit_test(an_empty_stream_is_an_empty_body),
        cmocka_unit_test(for_http_1_0_the_connection_ends_the_stream),
        cmocka_unit_test(for_http_1_0_the_connection_ends_an_empty_stream_too),
        cmocka_unit_test(head_gets_no_byte_of_a_stream),
        cmocka_unit_test(a_stream_that_is_not_as_long_as_announced_is_cut),
        cmocka_unit_test(a_connection_that_is_cut_before_it_had_to_wait_is_closed),
        cmocka_unit_test(a_length_that_is_wrong_from_the_start_is_500),
        cmocka_unit_test(nothing_is_taken_after_the_end),
        cmocka_unit_test(chunks_of_posted_calls_arrive_as_they_are_written),
        cmocka_unit_test(writing_stops_at_one_mebibyte),
        cmocka_unit_test(a_slow_reader_gets_every_byte),
        cmocka_unit_test(a_plugin_that_is_told_of_room_streams_any_size_in_little_memory),
        cmocka_unit_test(a_function_that_is_told_of_room_is_a_hook),
        cmocka_unit_test(a_client_that_leaves_ends_the_stream),
        cmocka_unit_test(a_client_that_leaves_an_idle_stream_is_noticed),
        cmocka_unit_test(a_drain_lets_a_stream_finish),
    };

    return cmocka_run_group_tests_name("streaming", tests, NULL, NULL);
}
