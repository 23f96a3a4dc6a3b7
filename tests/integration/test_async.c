/*
 * test_async.c - tickets, offloaded work and posted calls: a request that is held goes on exactly
 * once, whatever the plugin, its threads, the client and the clock do.
 */
#include "harness.h"

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
                        "limits: {timeouts: {request: 50s}}\n"
                        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                        "plugins:\n"
                        "  outer: {module: probe, config: {file: @DIR@/trace}}\n"
                        "  p: {module: pause}\n"
                        "  open: {module: pause, on_error: fail_open}\n"
                        "  next: {module: respond, config: {body: next}}\n"
                        "routes:\n"
                        "  - {match: {path: /open}, chain: [outer, open, next]}\n"
                        "  - {match: {path: /two}, chain: [p, open, next]}\n"
                        "  - {match: {path: /**}, chain: [outer, p, next]}\n"
                        "breaker: {crashes: 0}\n"
                        "crash: {dir: @DIR@/crashes, keep: 100}\n");
}

static void expect(struct server *srv, const char *target, int status, const char *body)
{
    struct response *res = server_get(srv, target);

    assert_int_equal(res->status, status);
    if (body != NULL)
        assert_string_equal(res->body, body);
    response_free(&res);
}

/* The worker is alive and the same one as before. */
static void end(struct server *srv, pid_t worker)
{
    pid_t now = 0;

    expect(srv, "/", 200, "next");
    assert_int_equal(server_children(srv, "worker", &now, 1), 1);
    assert_int_equal(now, worker);
    assert_int_equal(server_stop(&srv), 0);
}

static pid_t worker_of(const struct server *srv)
{
    pid_t pid = 0;

    eventually(server_children(srv, "worker", &pid, 1) == 1);
    return pid;
}

/* ---- verdicts ---- */

static void resume_goes_on_with_the_verdict(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=continue", 200, "next");
    expect(srv, "/?do=decline", 200, "next");
    expect(srv, "/?do=done", 200, "set before the pause");
    expect(srv, "/?do=fail", 500, NULL);
    end(srv, worker);
}

static void resume_reply_answers_from_a_thread(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    struct response *res = server_get(srv, "/?do=reply");

    (void)state;
    assert_int_equal(res->status, 201);
    assert_string_equal(res->body, "from a thread");
    assert_string_equal(response_header(res, "Content-Type"), "text/x-thread");
    server_wait_log(srv, "resume_reply answered 0");
    response_free(&res);
    end(srv, worker);
}

static void resume_reply_carries_megabytes(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    struct response *res = server_get(srv, "/?do=big_reply");

    (void)state;
    assert_int_equal(res->status, 200);
    assert_int_equal(res->body_len, 3000000);
    response_free(&res);
    end(srv, worker);
}

static void resume_reply_refuses_nonsense_and_leaves_the_ticket_usable(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=bad_reply", 200, "next");
    server_wait_log(srv, "status 99 answered -3");
    server_wait_log(srv, "CRLF answered -3");
    server_wait_log(srv, "NULL answered -3");
    end(srv, worker);
}

static void an_unknown_verdict_counts_as_a_failure(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    char *log;

    (void)state;
    expect(srv, "/?do=nonsense", 500, NULL);
    expect(srv, "/?do=offload_nonsense", 500, NULL);
    expect(srv, "/?do=offload_pause", 500, NULL);
    log = server_log(srv);
    assert_null(strstr(log, "crash"));
    free(log);
    end(srv, worker);
}

static void done_without_a_reply_is_a_failure(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=done_without_reply", 500, NULL);
    end(srv, worker);
}

static void resume_does_not_take_pause(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=pause", 200, "next");
    server_wait_log(srv, "pause: resume answered -3");
    end(srv, worker);
}

/* ---- a ticket is used once ---- */

static void a_second_resume_finds_nothing(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=twice", 200, "next");
    server_wait_log(srv, "twice: first answered 0");
    server_wait_log(srv, "twice: second answered -2");
    server_wait_log(srv, "twice: cancelled answered 1");
    server_wait_log(srv, "twice: third answered -2");
    end(srv, worker);
}

static void a_second_ticket_kills_the_first(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=two_tickets", 200, "next");
    server_wait_log(srv, "the first answered -2");
    server_wait_log(srv, "the second answered 0");
    end(srv, worker);
}

static void resume_before_the_hook_returns_counts(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=early", 200, "next");
    server_wait_log(srv, "early: resume answered 0");
    end(srv, worker);
}

static void tickets_are_for_the_request_path_only(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    struct response *res = server_get(srv, "/");

    (void)state;
    assert_null(response_header(res, "X-Ticket"));
    response_free(&res);
    end(srv, worker);
}

/* ---- time ---- */

static void a_ticket_that_nobody_resumes_is_504(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    char trace[512];
    char *text;

    (void)state;
    expect(srv, "/?do=never&timeout=50", 504, NULL);
    snprintf(trace, sizeof trace, "%s/trace", srv->dir);
    text = file_read(trace);
    assert_non_null(strstr(
        text, "outer on_error kind=2 signo=0 plugin=p hook=on_request record=no status=504"));
    free(text);
    end(srv, worker);
}

static void fail_open_goes_on_when_the_time_is_over(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/open?do=never&timeout=50", 200, "next");
    end(srv, worker);
}

static void a_resume_that_comes_too_late_finds_nothing(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=late&timeout=50&delay=300", 504, NULL);
    server_wait_log(srv, "late: resume answered -2");
    end(srv, worker);
}

static void a_resume_at_the_very_end_of_its_time_does_no_harm(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    struct response *res = server_get(srv, "/?do=expired_post&timeout=20");

    (void)state;
    assert_true(res->status == 200 || res->status == 504);
    response_free(&res);
    end(srv, worker);
}

/* ---- tickets that nobody waits for ---- */

static void an_unused_ticket_does_not_touch_the_answer(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=unused&timeout=100", 200,
           "begin end");                                /* its time is over while it streams */
    expect(srv, "/?do=unused_reply", 200, "begin end"); /* a reply comes for it */
    expect(srv, "/?do=unused_continue&timeout=20", 200, "next");
    end(srv, worker);
}

static void an_unused_ticket_is_no_licence_for_the_next_plugin_to_pause(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    /* Both see the query: the first takes a ticket and goes on. */
    expect(srv, "/two?do=unused_continue", 200, "next");
    end(srv, worker);
}

static void a_crash_with_a_ticket_in_hand_is_a_crash(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=crash&timeout=20", 500, NULL);
    expect(srv, "/open?do=crash&timeout=20", 200, "next");
    eventually(server_crash_count(srv) >= 1);
    end(srv, worker);
}

/* ---- connections ---- */

static void a_connection_goes_on_after_pauses(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    for (int i = 0; i < 20; i++) {
        const char *const method = i % 3 == 2 ? "HEAD" : "GET";
        struct response *res = conn_request(
            conn, method, i % 2 ? "/?do=reply&delay=1" : "/?do=continue&delay=1", NULL, NULL, 0);

        assert_int_equal(res->status, i % 2 ? 201 : 200);
        assert_false(res->closed);
        response_free(&res);
    }
    assert_true(conn_is_idle(conn));
    conn_close(&conn);
    end(srv, worker);
}

static void other_requests_are_served_while_one_is_held(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    struct conn *held = conn_open(srv->port[0]);
    struct response *res;
    char go[512];

    (void)state;
    snprintf(go, sizeof go, "%s/go", srv->dir);
    conn_sendf(held, "GET /?do=continue&until=%s HTTP/1.1\r\nHost: a\r\n\r\n", go);
    for (int i = 0; i < 20; i++)
        expect(srv, "/", 200, "next");
    assert_true(conn_is_idle(held)); /* still held */
    file_write(go, "%s", "");
    res = conn_response(held, "GET");
    assert_int_equal(res->status, 200);
    response_free(&res);
    conn_close(&held);
    end(srv, worker);
}

static void many_held_requests_all_end(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    struct conn *conn[50];

    (void)state;
    for (int i = 0; i < 50; i++) {
        conn[i] = conn_open(srv->port[0]);
        /* Who gets a reply has the time of a request: on a busy machine forty threads take long to begin. */
        conn_sendf(conn[i], "GET /?do=%s&delay=%d HTTP/1.1\r\nHost: a\r\n\r\n",
                   i % 5 == 0 ? "never&timeout=150" : "reply", 1 + i % 7);
    }
    for (int i = 0; i < 50; i++) {
        struct response *res = conn_response(conn[i], "GET");

        assert_int_equal(res->status, i % 5 == 0 ? 504 : 201);
        response_free(&res);
        conn_close(&conn[i]);
    }
    end(srv, worker);
}

/* Not so soon after the request that it could be one who has only said that it sends no more. */
static void give_up(struct conn **connp)
{
    int64_t until = harness_now_ms() + 170;

    while (harness_now_ms() < until)
        harness_pause(harness_deadline_ms(1000));
    conn_close(connp);
}

static void a_client_that_sends_no_more_gets_its_answer(void **state)
{
    static const char *const requests[] = {
        "GET /?do=continue&delay=300 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /?do=continue&delay=300 HTTP/1.0\r\n\r\n",
        "GET /?do=reply&delay=300 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /?do=continue&delay=300 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        ("POST /?do=continue&delay=300 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
         "5\r\nhello\r\n0\r\n\r\n")};
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct conn *conn = conn_open(srv->port[0]);
        struct response *res;
        char *rest;

        conn_sendf(conn, "%s", requests[i]);
        conn_shutdown(conn);
        res = conn_response(conn, "GET");
        assert_true(res->status == 200 || res->status == 201);
        assert_false(res->truncated);
        rest = conn_read_all(conn,
                             NULL); /* or its deadline fails: it is not kept open for nothing */
        assert_string_equal(rest, "");
        free(rest);
        response_free(&res);
        conn_close(&conn);
    }
    end(srv, worker);
}

static void a_client_that_leaves_cancels_the_ticket(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    conn_sendf(conn, "GET /?do=cancelled HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(srv, "/", 200, "next"); /* by now the other request has been read, most likely */
    give_up(&conn);
    server_wait_log(srv, "cancelled: cancelled answered 1");
    server_wait_log(srv, "cancelled: resume answered -2");
    server_wait_log(srv, "over: /?do=cancelled");
    end(srv, worker);
}

/* ---- offloaded work ---- */

static void offloaded_work_resumes_with_its_verdict(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=offload_ok", 200, "offloaded");
    end(srv, worker);
}

static void a_crash_in_offloaded_work_costs_one_request(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    char *record;

    (void)state;
    expect(srv, "/?do=offload_crash", 500, NULL);
    expect(srv, "/?do=offload_abort", 500, NULL);
    expect(srv, "/?do=offload_exit", 500, NULL);
    expect(srv, "/open?do=offload_crash", 200, "next");
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "work_crash"));
    assert_non_null(strstr(record, "offload"));
    free(record);
    end(srv, worker);
}

static void work_for_a_client_that_left_is_no_trouble(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    conn_sendf(conn, "GET /?do=offload_long_crash HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(srv, "/", 200, "next");
    give_up(&conn);
    server_wait_log(srv, "over: /?do=offload_long_crash");
    eventually(server_crash_count(srv) == 1); /* the crash is on record all the same */
    end(srv, worker);
}

static void more_jobs_than_threads_wait_their_turn(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    struct conn *conn[64];

    (void)state;
    for (int i = 0; i < 64; i++) {
        conn[i] = conn_open(srv->port[0]);
        conn_sendf(conn[i], "GET /?do=offload_%s HTTP/1.1\r\nHost: a\r\n\r\n",
                   i % 8 ? "ok" : "crash");
    }
    for (int i = 0; i < 64; i++) {
        struct response *res = conn_response(conn[i], "GET");

        assert_int_equal(res->status, i % 8 ? 200 : 500);
        response_free(&res);
        conn_close(&conn[i]);
    }
    end(srv, worker);
}

static void a_stop_waits_for_offloaded_work(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;
    char *log;

    (void)state;
    conn_sendf(conn, "GET /?do=offload_long HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(srv, "/", 200, "next");
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    res = conn_response(conn, "GET");
    assert_int_equal(res->status, 200);
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_wait_exit(srv), 0);
    log = server_log(srv);
    assert_null(strstr(log, "crash"));
    free(log);
    server_stop(&srv);
}

static void a_stop_with_abandoned_work_is_clean(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    char *log;

    (void)state;
    conn_sendf(conn, "GET /?do=offload_long HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(srv, "/", 200, "next");
    conn_close(&conn);
    server_wait_log(srv, "over: /?do=offload_long");
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    assert_int_equal(server_wait_exit(srv), 0);
    log = server_log(srv);
    assert_null(strstr(log, "crash"));
    assert_null(strstr(log, "SIGSEGV"));
    free(log);
    server_stop(&srv);
}

/* ---- posted calls ---- */

static void posted_calls_run_on_the_loop(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=post", 200, "next");
    expect(srv, "/?do=post", 200, "next");
    expect(srv, "/?do=posted", 200, "2");
    end(srv, worker);
}

static void a_crash_in_a_posted_call_is_the_plugins(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    char *record;

    (void)state;
    expect(srv, "/?do=post_crash", 200, "next");
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "posted_crash"));
    free(record);
    end(srv, worker);
}

static void only_so_many_posted_calls_wait(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);

    (void)state;
    expect(srv, "/?do=flood", 200, "4096 taken, 904 not");
    expect(srv, "/?do=flood", 200, "4096 taken, 904 not");
    end(srv, worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resume_goes_on_with_the_verdict),
        cmocka_unit_test(resume_reply_answers_from_a_thread),
        cmocka_unit_test(resume_reply_carries_megabytes),
        cmocka_unit_test(resume_reply_refuses_nonsense_and_leaves_the_ticket_usable),
        cmocka_unit_test(an_unknown_verdict_counts_as_a_failure),
        cmocka_unit_test(done_without_a_reply_is_a_failure),
        cmocka_unit_test(resume_does_not_take_pause),
        cmocka_unit_test(a_second_resume_finds_nothing),
        cmocka_unit_test(a_second_ticket_kills_the_first),
        cmocka_unit_test(resume_before_the_hook_returns_counts),
        cmocka_unit_test(tickets_are_for_the_request_path_only),
        cmocka_unit_test(a_ticket_that_nobody_resumes_is_504),
        cmocka_unit_test(fail_open_goes_on_when_the_time_is_over),
        cmocka_unit_test(a_resume_that_comes_too_late_finds_nothing),
        cmocka_unit_test(a_resume_at_the_very_end_of_its_time_does_no_harm),
        cmocka_unit_test(an_unused_ticket_does_not_touch_the_answer),
        cmocka_unit_test(an_unused_ticket_is_no_licence_for_the_next_plugin_to_pause),
        cmocka_unit_test(a_crash_with_a_ticket_in_hand_is_a_crash),
        cmocka_unit_test(a_connection_goes_on_after_pauses),
        cmocka_unit_test(other_requests_are_served_while_one_is_held),
        cmocka_unit_test(many_held_requests_all_end),
        cmocka_unit_test(a_client_that_sends_no_more_gets_its_answer),
        cmocka_unit_test(a_client_that_leaves_cancels_the_ticket),
        cmocka_unit_test(offloaded_work_resumes_with_its_verdict),
        cmocka_unit_test(a_crash_in_offloaded_work_costs_one_request),
        cmocka_unit_test(work_for_a_client_that_left_is_no_trouble),
        cmocka_unit_test(more_jobs_than_threads_wait_their_turn),
        cmocka_unit_test(a_stop_waits_for_offloaded_work),
        cmocka_unit_test(a_stop_with_abandoned_work_is_clean),
        cmocka_unit_test(posted_calls_run_on_the_loop),
        cmocka_unit_test(a_crash_in_a_posted_call_is_the_plugins),
        cmocka_unit_test(only_so_many_posted_calls_wait),
    };

    return cmocka_run_group_tests_name("async", tests, NULL, NULL);
}
