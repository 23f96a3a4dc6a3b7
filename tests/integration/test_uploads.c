/*
 * test_uploads.c - large request bodies: in little memory, no faster than plugins take them, answered
 * before their end, and broken off.
 */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MIB (1u << 20)

static char zeros[MIB];

static struct server *start(void)
{
    return server_start(
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
        "limits: {body: 1GiB, timeouts: {drain: 5s}}\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "plugins:\n"
        "  a: {module: body, config: {mode: stream, trace: yes}}\n"
        "  b: {module: body, config: {mode: stream, reply: yes}}\n"
        "  early: {module: body, config: {mode: stream, reply: yes, early: yes, trace: yes}}\n"
        "  no: {module: body, config: {refuse: yes}}\n"
        "  whole: {module: body, config: {mode: buffer, max: 1MiB, reply: yes}}\n"
        "  slow: {module: pause}\n"
        "  steps: {module: body, config: {pause_ms: 20ms, trace: yes}}\n"
        "routes:\n"
        "  - {match: {path: /early}, chain: [early]}\n"
        "  - {match: {path: /no}, chain: [no]}\n"
        "  - {match: {path: /whole}, chain: [a, whole]}\n"
        "  - {match: {path: /paused}, chain: [slow, b]}\n"
        "  - {match: {path: /steps}, chain: [steps, b]}\n"
        "  - {match: {path: /**}, chain: [a, b]}\n"
        "crash: {dir: @DIR@/crashes, keep: 100}\n");
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

static struct conn *begin(struct server *srv, const char *target, uint64_t length)
{
    struct conn *conn = conn_open(srv->port[0]);

    if (length == 0)
        conn_sendf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                   target);
    else
        conn_sendf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %llu\r\n\r\n", target,
                   (unsigned long long)length);
    return conn;
}

static void send_mibs(struct conn *conn, int n, bool is_chunked)
{
    for (int i = 0; i < n; i++) {
        if (is_chunked)
            conn_sendf(conn, "%x\r\n", MIB);
        conn_send(conn, zeros, MIB);
        if (is_chunked)
            conn_sendf(conn, "\r\n");
    }
}

static void expect_bytes(struct conn **connp, uint64_t n)
{
    struct response *res = conn_response(*connp, "POST");
    char expected[64];

    snprintf(expected, sizeof expected, " bytes=%llu ", (unsigned long long)n);
    assert_int_equal(res->status, 200);
    assert_non_null(strstr(res->body, expected));
    response_free(&res);
    conn_close(connp);
}

static void hundreds_of_mebibytes_pass_a_chain_in_little_memory(void **state)
{
    struct server *srv = start();
    struct conn *conn = begin(srv, "/", MIB);
    long before;

    (void)state;
    send_mibs(conn, 1, false); /* what is there once, and stays */
    expect_bytes(&conn, MIB);
    before = rss_kib(srv);
    conn = begin(srv, "/", 256 * MIB);
    send_mibs(conn, 128, false);
    assert_in_range(rss_kib(srv), 1, before + 1024);
    send_mibs(conn, 128, false);
    expect_bytes(&conn, 256 * MIB);
    conn = begin(srv, "/", 0);
    send_mibs(conn, 128, true);
    assert_in_range(rss_kib(srv), 1, before + 1024);
    conn_sendf(conn, "0\r\n\r\n");
    expect_bytes(&conn, 128 * MIB);
    assert_in_range(rss_kib(srv), 1, before + 1024);
    assert_int_equal(server_stop(&srv), 0);
}

/* As much as the kernel takes, without waiting. */
static size_t send_what_fits(struct conn *conn, size_t most)
{
    size_t sum = 0;

    while (sum < most) {
        struct pollfd p = {.fd = conn_fd(conn), .events = POLLOUT};
        ssize_t n;

        if (poll(&p, 1, 100) == 0)
            break; /* nobody reads */
        n = send(conn_fd(conn), zeros, most - sum < MIB ? most - sum : MIB,
                 MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            sum += (size_t)n;
        else if (errno != EAGAIN)
            break;
    }
    return sum;
}

static void what_a_plugin_has_paused_is_not_read(void **state)
{
    enum { ALL = 64 * MIB };
    struct server *srv = start();
    char go[512], paused[600];
    struct conn *conn;

    (void)state;
    snprintf(go, sizeof go, "%s/go", srv->dir);
    snprintf(paused, sizeof paused, "/paused?do=continue&until=%s", go);
    /* A worker's first request touches a megabyte of code and data. */
    file_write(go, "%s", "");
    conn = begin(srv, paused, MIB);
    conn_send(conn, zeros, MIB);
    expect_bytes(&conn, MIB);
    unlink(go);
    for (int i = 0; i < 2; i++) {
        long before = rss_kib(srv);
        size_t sent;

        conn = begin(srv, i == 0 ? paused : "/steps", ALL);
        sent = send_what_fits(conn, ALL);

        assert_in_range(sent, 1, ALL / 2); /* in sockets' buffers */
        assert_in_range(rss_kib(srv), 1, before + 1024);
        if (i == 0) {
            file_write(go, "%s", "");
            for (size_t rest = ALL - sent; rest > 0; rest -= rest < MIB ? rest : MIB)
                conn_send(conn, zeros, rest < MIB ? rest : MIB);
            expect_bytes(&conn, ALL);
        } else {
            conn_close(&conn); /* it would take minutes */
            server_wait_log(srv, "plugin steps: over: aborted yes, status 499");
        }
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void a_body_beyond_what_a_plugin_buffers_is_413_at_once(void **state)
{
    struct server *srv = start();

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct conn *conn = begin(srv, "/whole", i == 0 ? 64 * MIB : 0);
        struct response *res;

        send_mibs(conn, 2, i == 1); /* and no more: the answer does not wait for it */
        res = conn_response(conn, "POST");
        assert_int_equal(res->status, 413);
        assert_string_equal(response_header(res, "Content-Type"), "application/problem+json");
        assert_string_equal(response_header(res, "Connection"), "close");
        assert_non_null(response_header(res, "Date"));
        assert_false(res->truncated);
        response_free(&res);
        conn_close(&conn);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void an_answer_does_not_wait_for_the_rest_of_the_body(void **state)
{
    struct server *srv = start();

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct conn *conn = begin(srv, "/early", i == 0 ? 64 * MIB : 0);
        struct response *res;

        send_mibs(conn, 1, i == 1);
        res = conn_response(conn, "POST");
        assert_int_equal(res->status, 200);
        assert_int_equal(strncmp(res->body, "calls=1 ", 8), 0);
        assert_string_equal(response_header(res, "Connection"), "close");
        response_free(&res);
        conn_close(&conn);
        server_wait_log(srv, "plugin early: over: aborted no, status 200");
    }
    assert_int_equal(server_stop(&srv), 0);
}

/* It does not look for an answer before it has sent all. Without lingering it would be reset. */
static void a_client_that_only_sends_gets_an_early_answer_all_the_same(void **state)
{
    static const char *const targets[] = {"/early", "/no", "/whole"};
    static const int statuses[] = {200, 403, 413};
    struct server *srv = start();

    (void)state;
    for (int i = 0; i < 6; i++) {
        struct conn *conn = begin(srv, targets[i / 2], i % 2 == 0 ? 4 * MIB : 0);
        struct response *res;

        for (int k = 0; k < 4; k++) {
            send_mibs(conn, 1, i % 2 == 1);
            harness_pause(harness_deadline_ms(1000));
        }
        if (i % 2 == 1)
            conn_sendf(conn, "0\r\n\r\n");
        res = conn_response(conn, "POST");
        assert_int_equal(res->status, statuses[i / 2]);
        assert_false(res->truncated);
        response_free(&res);
        conn_close(&conn);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void an_upload_that_is_broken_off_ends_once_and_in_order(void **state)
{
    struct server *srv = start();
    char *log, *first;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct conn *conn = begin(srv, "/", i == 0 ? 64 * MIB : 0);

        send_mibs(conn, 2, i == 1);
        conn_close(&conn);
    }
    eventually((log = server_log(srv), first = strstr(log, "over: aborted yes, status 499"),
                first = first != NULL ? strstr(first + 1, "over: aborted yes, status 499") : NULL,
                free(log), first != NULL));
    log = server_log(srv);
    first = strstr(log, "cleaned up");
    assert_non_null(first);
    assert_true(first < strstr(log, "over: aborted yes"));
    assert_null(strstr(log, "aborted no"));
    free(log);
    assert_int_equal(server_crash_count(srv), 0);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hundreds_of_mebibytes_pass_a_chain_in_little_memory),
        cmocka_unit_test(what_a_plugin_has_paused_is_not_read),
        cmocka_unit_test(a_body_beyond_what_a_plugin_buffers_is_413_at_once),
        cmocka_unit_test(an_answer_does_not_wait_for_the_rest_of_the_body),
        cmocka_unit_test(a_client_that_only_sends_gets_an_early_answer_all_the_same),
        cmocka_unit_test(an_upload_that_is_broken_off_ends_once_and_in_order),
    };

    return cmocka_run_group_tests_name("uploads", tests, NULL, NULL);
}
