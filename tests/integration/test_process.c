/*
 * test_process.c - master and workers: what is asked of them by signals, and what a death costs.
 *
 * Each load here is a handful of connections at a time, from this process.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What would wait for it does not end before the harness' deadline. */
#define A_LONG_TIME_MS 3600000

/* Returns when all workers serve: the port takes connections before. */
static struct server *start_draining(int workers, int drain_ms)
{
    struct server *srv = server_start(
        "version: 1\n"
        "server: {workers: %d}\n"
        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
        "limits: {timeouts: {request: 10m, drain: %dms}}\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "plugins:\n"
        "  log: {module: access_log, config: {path: @DIR@/access.log, format: json}}\n"
        "  slow: {module: pause}\n"
        "  bad: {module: fault, config: {from_request: true}}\n"
        "  ok: {module: respond, config: {body: ok}}\n"
        "routes:\n"
        "  - {match: {path: /bad}, chain: [log, bad]}\n"
        "  - {match: {path: /**}, chain: [log, slow, ok]}\n"
        "crash: {dir: @DIR@/crashes, keep: 100}\n",
        workers, drain_ms);

    server_wait_log(srv, "serving on");
    return srv;
}

static struct server *start(int workers)
{
    return start_draining(workers, 3000);
}

static void wait_for_workers(const struct server *srv, size_t n, pid_t *pids)
{
    eventually(server_children(srv, "worker", pids, pids != NULL ? n : 0) == n);
}

static char *access_log(const struct server *srv)
{
    char path[512];
    char *text;

    snprintf(path, sizeof path, "%s/access.log", srv->dir);
    text = file_read(path);
    return text != NULL ? text : strdup("");
}

static size_t logged(const struct server *srv, const char *what)
{
    char *text = access_log(srv);
    size_t n = 0;

    for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what))
        n++;
    free(text);
    return n;
}

/* ---- start ---- */

static void as_many_workers_as_configured_serve(void **state)
{
    struct server *srv = start(3);

    (void)state;
    wait_for_workers(srv, 3, NULL);
    for (int i = 0; i < 10; i++) {
        struct response *res = server_get(srv, "/");

        assert_int_equal(res->status, 200);
        response_free(&res);
    }
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- the death of a worker ---- */

enum { LOAD = 400, AT_ONCE = 8 };

/*
 * LOAD connections, AT_ONCE at a time, one request each; `victim` is killed after a quarter of them.
 * No connection may be refused. What was cut by the death is counted.
 */
static int load_with_a_death(struct server *srv, pid_t victim)
{
    struct conn *conn[AT_ONCE];
    int cut = 0;

    for (int done = 0; done < LOAD; done += AT_ONCE) {
        for (int i = 0; i < AT_ONCE; i++) {
            conn[i] = conn_open(srv->port[0]); /* fails the test when refused */
            conn_sendf(conn[i], "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        }
        if (done == LOAD / 4 / AT_ONCE * AT_ONCE)
            assert_int_equal(kill(victim, SIGKILL), 0);
        for (int i = 0; i < AT_ONCE; i++) {
            struct response *res = conn_response(conn[i], "GET");

            assert_true(res->status == 200 || res->status == 0);
            cut += res->status == 0;
            response_free(&res);
            conn_close(&conn[i]);
        }
    }
    return cut;
}

static void a_killed_worker_refuses_no_connection(void **state)
{
    struct server *srv = start(2);
    pid_t before[2];
    int cut;

    (void)state;
    wait_for_workers(srv, 2, before);
    cut = load_with_a_death(srv, before[0]);
    assert_true(cut <= AT_ONCE); /* those it had accepted */
    server_wait_log(srv, "SIGKILL");
    wait_for_workers(srv, 2, NULL);
    assert_int_equal(server_stop(&srv), 0);
}

static void the_only_worker_killed_refuses_no_connection(void **state)
{
    struct server *srv = start(1);
    pid_t before[1];
    int cut;

    (void)state;
    wait_for_workers(srv, 1, before);
    cut = load_with_a_death(srv, before[0]);
    assert_true(cut <= AT_ONCE);
    assert_int_equal(server_stop(&srv), 0);
}

static void the_master_names_the_dead_worker(void **state)
{
    struct server *srv = start(1);
    char says[64];
    pid_t before[1];

    (void)state;
    wait_for_workers(srv, 1, before);
    assert_int_equal(kill(before[0], SIGKILL), 0);
    snprintf(says, sizeof says, "(pid %d) was killed by SIGKILL", (int)before[0]);
    server_wait_log(srv, says);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_plugin_that_kills_the_worker_is_charged(void **state)
{
    struct server *srv = start(1);
    struct response *res = server_get(srv, "/bad?fault=sigkill");
    char *record;

    (void)state;
    assert_int_equal(res->status, 0);
    response_free(&res);
    server_wait_log(srv, "in plugin 'bad', on_request, at GET /bad");
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "\"bad\""));
    assert_non_null(strstr(record, "on_request"));
    free(record);
    res = server_get(srv, "/");
    assert_int_equal(res->status, 200);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void access_log_lines_of_a_killed_worker_are_not_lost(void **state)
{
    struct server *srv = start(1);
    struct conn *conn = conn_open(srv->port[0]);
    pid_t before[1];

    (void)state;
    wait_for_workers(srv, 1, before);
    for (int i = 0; i < 500; i++) {
        struct response *res = conn_request(conn, "GET", "/logged", NULL, NULL, 0);

        assert_int_equal(res->status, 200);
        response_free(&res);
    }
    assert_int_equal(kill(before[0], SIGKILL), 0);
    eventually(logged(srv, "/logged") >= 499);
    /* The last answer may have been on its way when the line was not yet written. */
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

/* Stopped as one is that gets no processor: longer than the master waits for the others. */
static void the_last_record_is_waited_for_though_its_writer_is_slow(void **state)
{
    struct server *srv = start(1);
    struct response *res;
    pid_t recorder = 0;
    int64_t until_ms;

    (void)state;
    eventually(server_children(srv, "bh-recorder", &recorder, 1) == 1);
    assert_int_equal(kill(recorder, SIGSTOP), 0);
    res = server_get(srv, "/bad?fault=segv");
    assert_int_equal(res->status, 500);
    response_free(&res);
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    eventually(server_children(srv, "bh-worker", NULL, 0) == 0);
    until_ms = harness_now_ms() + 6000;
    while (harness_now_ms() < until_ms)
        harness_pause(until_ms + 1000);
    kill(recorder, SIGCONT);
    assert_int_equal(server_wait_exit(srv), 0);
    assert_int_equal(server_crash_count(srv), 1);
    server_stop(&srv);
}

/* ---- SIGTERM, SIGINT, SIGQUIT ---- */

static void sigterm_lets_a_slow_request_finish(void **state)
{
    struct server *srv = start_draining(2, A_LONG_TIME_MS);
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    conn_sendf(conn, "GET /?do=reply&delay=1000 HTTP/1.1\r\nHost: a\r\n\r\n");
    res = server_get(srv, "/");
    response_free(&res);
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    res = conn_response(conn, "GET");
    assert_int_equal(res->status, 201);
    assert_string_equal(res->body, "from a thread");
    assert_true(res->closed);
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_wait_exit(srv), 0);
    server_stop(&srv);
}

static void what_was_sent_before_sigterm_is_answered(void **state)
{
    struct server *srv = start_draining(1, A_LONG_TIME_MS);
    struct conn *conn[60];

    (void)state;
    /* The first keeps the loop busy for 100 ms, so that the others wait to be accepted. */
    for (int i = 0; i < 60; i++) {
        conn[i] = conn_open(srv->port[0]);
        conn_sendf(conn[i], "GET /%s HTTP/1.1\r\nHost: a\r\n\r\n",
                   i == 0 ? "?do=expired_post" : "");
    }
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    for (int i = 0; i < 60; i++) {
        struct response *res = conn_response(conn[i], "GET");

        assert_int_equal(res->status, 200);
        response_free(&res);
        conn_close(&conn[i]);
    }
    assert_int_equal(server_wait_exit(srv), 0);
    server_stop(&srv);
}

static void sigterm_closes_idle_connections_at_once(void **state)
{
    struct server *srv = start_draining(1, A_LONG_TIME_MS);
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res = conn_request(conn, "GET", "/", NULL, NULL, 0);
    char *rest;

    (void)state;
    response_free(&res);
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    rest = conn_read_all(conn, NULL); /* not at the end of the drain: its deadline is sooner */
    assert_string_equal(rest, "");
    free(rest);
    conn_close(&conn);
    assert_int_equal(server_wait_exit(srv), 0);
    server_stop(&srv);
}

static void sigint_is_like_sigterm(void **state)
{
    struct server *srv = start(1);

    (void)state;
    assert_int_equal(kill(srv->pid, SIGINT), 0);
    assert_int_equal(server_wait_exit(srv), 0);
    server_stop(&srv);
}

static bool is_refused(int port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool refused = connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0 && errno == ECONNREFUSED;

    close(fd);
    return refused;
}

static void after_sigterm_new_connections_are_refused_and_old_ones_served(void **state)
{
    struct server *srv = start_draining(1, A_LONG_TIME_MS);
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    conn_sendf(conn, "GET /?do=reply&delay=1500 HTTP/1.1\r\nHost: a\r\n\r\n");
    res = server_get(srv, "/");
    response_free(&res);
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    eventually(is_refused(srv->port[0]));
    res = conn_response(conn, "GET");
    assert_int_equal(res->status, 201);
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_wait_exit(srv), 0);
    server_stop(&srv);
}

/* A request that takes ten minutes, and has begun: one that came after it is answered. */
static struct conn *ask_what_does_not_end(struct server *srv)
{
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    conn_sendf(conn, "GET /?do=never HTTP/1.1\r\nHost: a\r\n\r\n");
    res = server_get(srv, "/");
    response_free(&res);
    return conn;
}

static void sigquit_does_not_wait(void **state)
{
    struct server *srv = start_draining(2, A_LONG_TIME_MS);
    struct conn *conn = ask_what_does_not_end(srv);

    (void)state;
    assert_int_equal(kill(srv->pid, SIGQUIT), 0);
    assert_int_equal(server_wait_exit(srv), 0);
    conn_close(&conn);
    server_stop(&srv);
}

static void a_second_sigterm_does_not_wait(void **state)
{
    struct server *srv = start_draining(2, A_LONG_TIME_MS);
    struct conn *conn = ask_what_does_not_end(srv);

    (void)state;
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    server_wait_log(srv, "SIGTERM: stopping");
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    assert_int_equal(server_wait_exit(srv), 0);
    conn_close(&conn);
    server_stop(&srv);
}

static void a_drain_has_an_end(void **state)
{
    struct server *srv = start_draining(1, 500);
    struct conn *conn = ask_what_does_not_end(srv);

    (void)state;
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    assert_int_equal(server_wait_exit(srv), 0); /* long before, or the harness says no */
    conn_close(&conn);
    server_stop(&srv);
}

/* As `timeout`, or an init that signals all of a service's processes, ends it. */
static void a_sigterm_for_all_of_its_processes_is_no_error(void **state)
{
    struct server *srv = start_draining(1, A_LONG_TIME_MS);
    struct conn *conn = ask_what_does_not_end(srv);
    pid_t recorder;
    char *log;

    (void)state;
    eventually(server_children(srv, "bh-recorder", &recorder, 1) == 1);
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    server_wait_log(srv, "SIGTERM: stopping");
    assert_int_equal(kill(recorder, SIGTERM), 0);
    server_wait_log(srv, "the recorder is started again");
    log = server_log(srv);
    assert_null(strstr(log, " error "));
    free(log);
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    assert_int_equal(server_wait_exit(srv), 0);
    conn_close(&conn);
    server_stop(&srv);
}

static void nothing_is_left_behind(void **state)
{
    struct server *srv = start(2);
    pid_t pids[16];
    size_t n;

    (void)state;
    wait_for_workers(srv, 2, NULL);
    n = server_children(srv, NULL, pids, 16);
    assert_in_range(n, 2, 16);
    assert_int_equal(server_stop(&srv), 0);
    for (size_t i = 0; i < n; i++)
        assert_true(kill(pids[i], 0) < 0 && errno == ESRCH);
}

static void workers_do_not_outlive_a_killed_master(void **state)
{
    struct server *srv = start(2);
    pid_t pids[2];

    (void)state;
    wait_for_workers(srv, 2, pids);
    assert_int_equal(kill(srv->pid, SIGKILL), 0);
    assert_int_equal(server_wait_exit(srv), 128 + SIGKILL);
    eventually(kill(pids[0], 0) != 0 && kill(pids[1], 0) != 0);
    server_stop(&srv);
}

static void the_next_start_removes_what_a_killed_master_left(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = tmp_dir(), *before = strdup(tmp != NULL ? tmp : "/tmp");
    struct server *killed, *living, *next;
    char copies[2][256];

    (void)state;
    setenv("TMPDIR", dir, 1);
    killed = start(1);
    living = start(1);
    snprintf(copies[0], sizeof copies[0], "test -d %s/bulkhead-%d-*", dir, (int)killed->pid);
    snprintf(copies[1], sizeof copies[1], "test -d %s/bulkhead-%d-*", dir, (int)living->pid);
    assert_int_equal(kill(killed->pid, SIGKILL), 0);
    assert_int_equal(server_wait_exit(killed), 128 + SIGKILL);
    assert_int_equal(run_command(NULL, "%s", copies[0]), 0); /* it could not */
    /* Its children end a moment later, and hold the folder until then. */
    for (int64_t end_ms = harness_deadline_ms(HARNESS_WAIT_MS);;) {
        next = start(1);
        assert_int_equal(server_stop(&next), 0);
        if (run_command(NULL, "%s", copies[0]) != 0)
            break;
        assert_true(harness_pause(end_ms));
    }
    assert_int_equal(run_command(NULL, "%s", copies[1]), 0);
    server_stop(&killed);
    assert_int_equal(server_stop(&living), 0);
    setenv("TMPDIR", before, 1);
    free(before);
    free(dir);
}

static void lines_written_before_sigterm_are_in_the_access_log(void **state)
{
    struct server *srv = start(2);
    char *dir = strdup(srv->dir);
    char path[512];
    char *text;
    int n = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        struct response *res = server_get(srv, "/counted");

        response_free(&res);
    }
    assert_int_equal(server_stop(&srv), 0);
    snprintf(path, sizeof path, "%s/access.log", dir);
    text = file_read(path);
    for (const char *p = text; (p = strstr(p, "/counted")) != NULL; p++)
        n++;
    assert_int_equal(n, 100);
    free(text);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_workers_as_configured_serve),
        cmocka_unit_test(a_killed_worker_refuses_no_connection),
        cmocka_unit_test(the_only_worker_killed_refuses_no_connection),
        cmocka_unit_test(the_master_names_the_dead_worker),
        cmocka_unit_test(a_plugin_that_kills_the_worker_is_charged),
        cmocka_unit_test(access_log_lines_of_a_killed_worker_are_not_lost),
        cmocka_unit_test(the_last_record_is_waited_for_though_its_writer_is_slow),
        cmocka_unit_test(sigterm_lets_a_slow_request_finish),
        cmocka_unit_test(what_was_sent_before_sigterm_is_answered),
        cmocka_unit_test(sigterm_closes_idle_connections_at_once),
        cmocka_unit_test(sigint_is_like_sigterm),
        cmocka_unit_test(after_sigterm_new_connections_are_refused_and_old_ones_served),
        cmocka_unit_test(sigquit_does_not_wait),
        cmocka_unit_test(a_second_sigterm_does_not_wait),
        cmocka_unit_test(a_drain_has_an_end),
        cmocka_unit_test(a_sigterm_for_all_of_its_processes_is_no_error),
        cmocka_unit_test(nothing_is_left_behind),
        cmocka_unit_test(workers_do_not_outlive_a_killed_master),
        cmocka_unit_test(the_next_start_removes_what_a_killed_master_left),
        cmocka_unit_test(lines_written_before_sigterm_are_in_the_access_log),
    };

    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
