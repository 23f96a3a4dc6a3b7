/*
 * test_events.c - server-sent events from a plugin's timer: what an hour of them does, in seconds.
 */
#include "harness.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct server *start(const char *options)
{
    return server_start("version: 1\n"
                        "server: {workers: 1}\n"
                        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                        "limits: {timeouts: {drain: 1500ms}}\n"
                        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                        "plugins: {e: {module: events, config: {%s}}}\n"
                        "routes: [{match: {path: /**}, chain: [e]}]\n"
                        "crash: {dir: @DIR@/crashes, keep: 100}\n",
                        options);
}

struct stats {
    unsigned clients;
    uint64_t ticks, missed, writes;
};

static struct stats stats(struct server *srv)
{
    struct response *res = server_get(srv, "/stats");
    struct stats s;

    assert_int_equal(sscanf(res->body,
                            "clients=%u ticks=%" SCNu64 " missed=%" SCNu64 " writes=%" SCNu64,
                            &s.clients, &s.ticks, &s.missed, &s.writes),
                     4);
    response_free(&res);
    return s;
}

static struct conn *subscribe(struct server *srv, const char *query)
{
    struct conn *conn = conn_open(srv->port[0]);

    conn_sendf(conn, "GET /events%s HTTP/1.1\r\nHost: a\r\n\r\n", query);
    return conn;
}

static pid_t worker_of(const struct server *srv)
{
    pid_t pid = 0;

    eventually(server_children(srv, "worker", &pid, 1) == 1);
    return pid;
}

static long rss_kib(pid_t pid)
{
    char path[64];
    char *text, *at;
    long kib;

    snprintf(path, sizeof path, "/proc/%d/status", pid);
    text = file_read(path);
    assert_non_null(text);
    at = strstr(text, "VmRSS:");
    assert_non_null(at);
    kib = atol(at + 6);
    free(text);
    return kib;
}

static bool has_grown_no_more_than(pid_t pid, long before_kib, long most_kib)
{
    return harness_is_sanitized() || rss_kib(pid) <= before_kib + most_kib;
}

/* Every event that a stream has brought, each number one more than the one before. */
static uint64_t check(const char *body)
{
    uint64_t n = 0, last = 0;

    for (const char *at = body; (at = strstr(at, "id: ")) != NULL; at++) {
        uint64_t id = strtoull(at + 4, NULL, 10);

        assert_true(n == 0 || id == last + 1);
        last = id;
        n++;
    }
    return n;
}

static void clients_get_every_event_and_memory_stays_as_it_is(void **state)
{
    struct server *srv = start("every: 1ms, heartbeat: 5ms");
    pid_t worker = worker_of(srv);
    struct conn *conn[8], *leaver = subscribe(srv, "");
    struct response *res;
    long before;

    (void)state;
    for (int i = 0; i < 8; i++)
        conn[i] = subscribe(srv, "?n=2000");
    eventually(stats(srv).clients == 9 && stats(srv).ticks > 200);
    before = rss_kib(worker);
    conn_close(&leaver);
    eventually(stats(srv).clients == 8);
    server_wait_log(srv, "a client left after");
    for (int i = 0; i < 8; i++) {
        res = conn_response(conn[i], "GET");
        assert_string_equal(response_header(res, "Content-Type"), "text/event-stream");
        assert_int_equal(check(res->body), 2000);
        assert_non_null(strstr(res->body, "\n\n:\n\n")); /* heartbeats */
        assert_false(res->truncated);
        response_free(&res);
        conn_close(&conn[i]);
    }
    assert_true(has_grown_no_more_than(worker, before, 512));
    eventually(stats(srv).clients == 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_slow_client_misses_events_and_is_told(void **state)
{
    /* 6 MB/s: the fast one shall keep up on a busy machine, and with a sanitizer. */
    struct server *srv = start("every: 10ms, size: 60000");
    pid_t worker = worker_of(srv);
    struct conn *slow = subscribe(srv, ""), *fast;
    struct response *res;
    uint64_t missed;
    char *text;
    size_t n = 0;
    long before;

    (void)state;
    eventually(stats(srv).missed > 20);
    before = rss_kib(worker);
    fast = subscribe(srv, "?n=100");
    res = conn_response(fast, "GET"); /* it pays nothing for the other */
    assert_int_equal(check(res->body), 100);
    response_free(&res);
    conn_close(&fast);
    missed = stats(srv).missed;
    eventually(stats(srv).missed > missed + 50);
    assert_true(has_grown_no_more_than(worker, before, 4096));
    /* It reads again, and hears of it, and of what comes now. */
    text = calloc(1, 64u << 20);
    eventually((recv(conn_fd(slow), text + n, (63u << 20) - n, MSG_DONTWAIT) > 0
                    ? n += strlen(text + n)
                    : 0,
                strstr(text, "event: missed\ndata: ") != NULL));
    free(text);
    conn_close(&slow);
    eventually(stats(srv).clients == 0);
    assert_int_equal(server_stop(&srv), 0);
}

/* Nothing is written to it: only its end tells. */
static void a_client_that_leaves_between_two_events_is_noticed(void **state)
{
    struct server *srv = start("every: 1h, heartbeat: 1h");
    struct conn *conn[3];
    int64_t until;

    (void)state;
    for (int i = 0; i < 3; i++)
        conn[i] = subscribe(srv, "");
    eventually(stats(srv).clients == 3);
    until = harness_now_ms() + 200;
    while (harness_now_ms() < until)
        harness_pause(harness_deadline_ms(1000));
    for (int i = 0; i < 3; i++) {
        struct response *res;

        shutdown(conn_fd(conn[i]), SHUT_WR); /* a FIN, and no more */
        eventually(stats(srv).clients == (unsigned)(2 - i));
        res = conn_response(conn[i], "GET");
        assert_true(res->truncated);
        response_free(&res);
        conn_close(&conn[i]);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void a_client_that_sends_no_more_goes_on_reading(void **state)
{
    struct server *srv = start("every: 150ms");
    struct conn *conn = subscribe(srv, "?n=4");
    struct response *res;

    (void)state;
    conn_shutdown(conn);
    res = conn_response(conn, "GET");
    assert_int_equal(check(res->body), 4);
    assert_false(res->truncated);
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_crash_in_the_timer_ends_the_streams_that_it_fed(void **state)
{
    struct server *srv = start("every: 1ms");
    pid_t worker = worker_of(srv), after = 0;
    struct conn *conn[3];
    struct response *res;
    char *record;

    (void)state;
    for (int i = 0; i < 3; i++)
        conn[i] = subscribe(srv, "");
    eventually(stats(srv).clients == 3 && stats(srv).writes > 100);
    res = server_get(srv, "/crash");
    response_free(&res);
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "\"timer\""));
    assert_non_null(strstr(record, "tick"));
    free(record);
    for (int i = 0; i < 3; i++) {
        res = conn_response(conn[i], "GET");
        assert_true(res->truncated);
        response_free(&res);
        conn_close(&conn[i]);
    }
    eventually(stats(srv).ticks > 10); /* the fresh instance has timers of its own */
    assert_int_equal(stats(srv).clients, 0);
    conn[0] = subscribe(srv, "?n=10");
    res = conn_response(conn[0], "GET");
    assert_int_equal(check(res->body), 10);
    response_free(&res);
    conn_close(&conn[0]);
    eventually(server_children(srv, "worker", &after, 1) == 1);
    assert_int_equal(worker, after);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_get_every_event_and_memory_stays_as_it_is),
        cmocka_unit_test(a_slow_client_misses_events_and_is_told),
        cmocka_unit_test(a_client_that_leaves_between_two_events_is_noticed),
        cmocka_unit_test(a_client_that_sends_no_more_goes_on_reading),
        cmocka_unit_test(a_crash_in_the_timer_ends_the_streams_that_it_fed),
    };

    return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
