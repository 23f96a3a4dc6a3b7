/*
 * test_jobs.c - offloaded jobs that do not end, or end the worker: the pool goes on, and whose request
 * it was pays. A worker that ends waits for them.
 */
#include "harness.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MORE_THAN_THREADS = 9 };

static struct server *start(void)
{
    struct server *srv = server_start(
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
        "limits: {timeouts: {request: 30s, drain: 1s}}\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "plugins:\n"
        "  f: {module: fault, deadline: {default: 10s, offload: 100ms}, config: {from_request: true}}\n"
        "  patient: {module: fault, deadline: {offload: 0}, config: {from_request: true}}\n"
        "  checked: {module: checked}\n"
        "  hold: {module: hold}\n"
        "routes:\n"
        "  - {match: {path: /f/**}, chain: [f]}\n"
        "  - {match: {path: /patient}, chain: [patient]}\n"
        "  - {match: {path: /checked/**}, chain: [checked]}\n"
        "  - {match: {path: /**}, chain: [hold]}\n"
        "breaker: {crashes: 0}\n"
        "crash: {dir: @DIR@/crashes}\n");

    server_wait_standby(srv);
    return srv;
}

static pid_t worker_of(const struct server *srv)
{
    pid_t pid = 0;

    eventually(server_children(srv, "bh-worker", &pid, 1) == 1);
    return pid;
}

static int status_of(struct server *srv, const char *target)
{
    struct response *res = server_get(srv, target);
    int status = res->status;

    response_free(&res);
    return status;
}

static void many_jobs_past_their_deadline(struct server *srv, const char *target)
{
    struct conn *conn[MORE_THAN_THREADS];

    for (int i = 0; i < MORE_THAN_THREADS; i++) {
        conn[i] = conn_open(srv->port[0]);
        conn_sendf(conn[i], "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
    }
    for (int i = 0; i < MORE_THAN_THREADS; i++) {
        struct response *res = conn_response(conn[i], "GET");

        assert_int_equal(res->status, 504);
        response_free(&res);
        conn_close(&conn[i]);
    }
}

static void jobs_past_their_deadline_leave_the_pool_usable(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    struct response *res;
    char *record;

    (void)state;
    many_jobs_past_their_deadline(srv, "/f/?fault=loop&at=offload");
    many_jobs_past_their_deadline(srv, "/f/?fault=sleep&at=offload");
    for (int i = 0; i < MORE_THAN_THREADS; i++) {
        res = server_get(srv, "/checked/offload?key=1&n=100");
        assert_int_equal(res->status, 200);
        assert_int_equal(res->body_len, 100);
        response_free(&res);
    }
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "\"kind\": \"deadline\""));
    assert_non_null(strstr(record, "\"hook\": \"offload\""));
    assert_non_null(strstr(record, "\"verdict\": \"R\""));
    assert_non_null(strstr(record, "fault_"));
    free(record);
    assert_int_equal(worker_of(srv), worker);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_job_without_a_deadline_may_take_its_time(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    conn_sendf(conn, "GET /patient?fault=sleep&at=offload HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 3; i++) /* three times the other plugin's deadline */
        assert_int_equal(status_of(srv, "/f/?fault=loop&at=offload"), 504);
    assert_true(conn_is_idle(conn)); /* no answer yet */
    conn_close(&conn);
    server_stop(&srv); /* the job is cut */
}

static void a_job_that_waits_for_a_lock_ejects_its_plugin(void **state)
{
    struct server *srv = start();
    pid_t worker = worker_of(srv);
    char *record;

    (void)state;
    assert_int_equal(status_of(srv, "/f/?fault=mutex&at=offload"), 504);
    eventually(worker_of(srv) != worker);
    assert_int_equal(status_of(srv, "/f/"), 200);
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "\"verdict\": \"Q\""));
    free(record);
    assert_int_equal(server_stop(&srv), 0);
}

/* Its request is the one that is answered 500: not run again in the next worker, which it would end as
 * well. The loop's own request of that moment is nobody's fault. */
static void a_job_that_ends_the_worker_is_not_run_again(void **state)
{
    struct server *srv = start();
    struct conn *held = conn_open(srv->port[0]);
    struct response *res;
    char *record;

    (void)state;
    conn_sendf(held, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(status_of(srv, "/held") == 200);
    assert_int_equal(status_of(srv, "/f/?fault=stdio_lock&at=offload"), 500);
    eventually(status_of(srv, "/held") == 200); /* in the successor */
    assert_int_equal(status_of(srv, "/release"), 200);
    res = conn_response(held, "GET");
    assert_int_equal(res->status, 200);
    response_free(&res);
    conn_close(&held);
    eventually(server_crash_count(srv) == 1);
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "\"verdict\": \"X\""));
    assert_non_null(strstr(record, "\"hook\": \"offload\""));
    free(record);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- a worker that ends ---- */

static bool is_there(const struct server *srv, const char *name)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/%s", srv->dir, name);
    return access(path, F_OK) == 0;
}

static bool has_closed(const struct server *srv, pid_t worker)
{
    char name[32];

    snprintf(name, sizeof name, "closed-%d", (int)worker);
    return is_there(srv, name);
}

static struct server *start_with_outlive(const char *drain, bool lock)
{
    return server_start(
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
        "limits: {timeouts: {request: 30s, drain: %s}}\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "plugins:\n"
        "  outlive: {module: outlive, deadline: {offload: 0}, config: {dir: @DIR@, lock: %s}}\n"
        "  checked: {module: checked}\n"
        "routes:\n"
        "  - {match: {path: /checked/**}, chain: [checked]}\n"
        "  - {match: {path: /**}, chain: [outlive]}\n"
        "breaker: {crashes: 0}\n"
        "crash: {dir: @DIR@/crashes}\n",
        drain, lock ? "yes" : "no");
}

static int count_connections(const struct server *srv)
{
    const json_t *worker;
    json_t *json;
    size_t i;
    char *out;
    int n = 0;

    run_command(&out, "RUNTIME_DIRECTORY=%s %s status -c %s --json 2>/dev/null", srv->dir,
                getenv("BULKHEAD"), srv->config);
    json = json_loads(out, 0, NULL);
    json_array_foreach(json_object_get(json, "workers"), i, worker)
        n += (int)json_integer_value(json_object_get(worker, "connections"));
    json_decref(json);
    free(out);
    return n;
}

/* Its job runs when the client leaves. */
static void ask_and_leave(struct server *srv)
{
    struct conn *conn = conn_open(srv->port[0]);
    struct linger none = {.l_onoff = 1}; /* a reset: with no doubt it has gone */

    conn_sendf(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(is_there(srv, "running"));
    setsockopt(conn_fd(conn), SOL_SOCKET, SO_LINGER, &none, sizeof none);
    conn_close(&conn);
    eventually(count_connections(srv) == 0);
}

/* Then the server is told to stop. The worker's process id. */
static pid_t leave_a_job_behind(struct server *srv)
{
    pid_t worker = worker_of(srv);

    ask_and_leave(srv);
    kill(srv->pid, SIGTERM);
    return worker;
}

static void let_the_job_go(const struct server *srv)
{
    char go[4096];

    snprintf(go, sizeof go, "%s/go", srv->dir);
    file_write(go, "%s", "");
}

static void a_plugin_is_closed_after_the_last_of_its_jobs(void **state)
{
    struct server *srv = start_with_outlive("60s", false);
    char *record, *log;
    pid_t worker;

    (void)state;
    worker = leave_a_job_behind(srv);
    server_wait_log(srv, "SIGTERM: stopping");
    for (int64_t end = harness_now_ms() + 300; harness_pause(end);) /* it has no request any more */
        assert_false(has_closed(srv, worker));
    let_the_job_go(srv);
    assert_int_equal(server_wait_exit(srv), 0);
    assert_true(has_closed(srv, worker));
    assert_int_equal(server_crash_count(srv), 1);
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "\"hook\": \"offload\""));
    assert_non_null(strstr(record, "\"verdict\": \"R\""));
    free(record);
    log = server_log(srv);
    assert_null(strstr(log, "is not closed"));
    free(log);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_job_that_goes_on_past_the_drain_keeps_its_plugin_open(void **state)
{
    struct server *srv = start_with_outlive("100ms", false);
    pid_t worker;

    (void)state;
    worker = leave_a_job_behind(srv);
    assert_int_equal(server_wait_exit(srv), 0);
    assert_false(has_closed(srv, worker));
    assert_int_equal(server_crash_count(srv), 0);
    server_wait_log(srv, "plugin 'outlive' is not closed: 1 offloaded call of it goes on");
    assert_int_equal(server_stop(&srv), 0);
}

static void check_answered(struct conn *conn)
{
    struct response *res = conn_request(conn, "GET", "/checked/text?key=1&n=10", NULL, NULL, 0);

    assert_int_equal(res->status, 200);
    response_free(&res);
}

/* The next client has the descriptor of the one that left. */
static void a_job_without_a_client_is_blamed_on_no_other_client(void **state)
{
    struct server *srv = start_with_outlive("1s", true);
    struct conn *conn;
    pid_t worker = worker_of(srv);

    (void)state;
    server_wait_standby(srv);
    ask_and_leave(srv);
    conn = conn_open(srv->port[0]);
    check_answered(conn);
    let_the_job_go(srv);
    eventually(worker_of(srv) != worker);
    server_wait_log(srv, "1 idle connections move");
    check_answered(conn);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_past_their_deadline_leave_the_pool_usable),
        cmocka_unit_test(a_job_without_a_deadline_may_take_its_time),
        cmocka_unit_test(a_job_that_waits_for_a_lock_ejects_its_plugin),
        cmocka_unit_test(a_job_that_ends_the_worker_is_not_run_again),
        cmocka_unit_test(a_plugin_is_closed_after_the_last_of_its_jobs),
        cmocka_unit_test(a_job_that_goes_on_past_the_drain_keeps_its_plugin_open),
        cmocka_unit_test(a_job_without_a_client_is_blamed_on_no_other_client),
    };

    return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
