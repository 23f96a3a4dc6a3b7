/*
 * test_breaker.c - a plugin that crashes again and again: routes blocked, breakers opened and closed,
 * fresh copies of its object.
 */
#include "harness.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long what is open stays so in tests that ask once meanwhile: a busy machine lets them wait. */
#define A_WHILE "3s"

/* Routes /a, /b, /c and the rest lead through f, which crashes as the query says. */
static struct server *start(const char *breaker, const char *policy)
{
    struct server *srv = server_start(
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "breaker: {%s}\n"
        "respawn: {restarts: 1000}\n"
        "plugins:\n"
        "  f: {module: fault, on_error: %s, config: {from_request: true, reply: "
        "false}}\n"
        "  ok: {module: respond, config: {body: ok}}\n"
        "routes:\n"
        "  - {name: a, match: {path: /a}, chain: [f, ok]}\n"
        "  - {name: b, match: {path: /b}, chain: [f, ok]}\n"
        "  - {name: c, match: {path: /c}, chain: [f, ok]}\n"
        "  - {match: {path: /without}, chain: [ok]}\n"
        "  - {name: rest, chain: [f, ok]}\n"
        "crash: {dir: @DIR@/crashes}\n",
        breaker, policy);

    /* A worker that dies before the master has seen that it is ready ends the start. */
    server_wait_log(srv, "serving on");
    return srv;
}

static int status_of(struct server *srv, const char *target)
{
    struct response *res = server_get(srv, target);
    int status = res->status;

    response_free(&res);
    return status;
}

static void crash(struct server *srv, const char *target, int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(status_of(srv, target), 500);
}

static int retry_after(struct server *srv, const char *target)
{
    struct response *res = server_get(srv, target);
    const char *seconds = response_header(res, "Retry-After");
    int n;

    assert_int_equal(res->status, 503);
    assert_non_null(seconds);
    n = atoi(seconds);
    response_free(&res);
    return n;
}

static bool log_has(const struct server *srv, const char *text)
{
    char *log = server_log(srv);
    bool has = strstr(log, text) != NULL;

    free(log);
    return has;
}

static pid_t worker_of(struct server *srv)
{
    pid_t pid = 0;

    eventually(server_children(srv, "bh-worker", &pid, 1) == 1);
    return pid;
}

static void equal_crashes_block_their_route_and_no_other(void **state)
{
    struct server *srv = start("crashes: 5", "fail_closed");

    (void)state;
    crash(srv, "/a?fault=segv", 5);
    assert_in_range(retry_after(srv, "/a"), 25, 30);
    assert_int_equal(status_of(srv, "/b"), 200);
    assert_int_equal(status_of(srv, "/x"), 200);
    assert_int_equal(status_of(srv, "/without"), 200);
    server_wait_log(srv,
                    "plugin 'f': route 'a' is blocked: 5 equal crashes within 60 s; its requests "
                    "are answered 503 for 30 s, then 3 are let in on trial; other routes go on");
    /* Those are settled: four others do not open the breaker of the plugin. */
    crash(srv, "/b?fault=fpe", 2);
    crash(srv, "/c?fault=fpe", 2);
    assert_int_equal(status_of(srv, "/b"), 200);
    assert_int_equal(server_stop(&srv), 0);
}

static void three_blocked_routes_are_enough(void **state)
{
    struct server *srv = start("crashes: 2", "fail_closed");

    (void)state;
    crash(srv, "/a?fault=segv", 2);
    crash(srv, "/b?fault=segv", 2);
    assert_int_equal(status_of(srv, "/x"), 200);
    crash(srv, "/c?fault=segv", 2);
    assert_int_equal(status_of(srv, "/x"), 503);
    server_wait_log(srv, "plugin 'f': the breaker opens: 3 of its routes are blocked;");
    assert_int_equal(server_stop(&srv), 0);
}

static void different_crashes_open_the_breaker_and_trials_close_it(void **state)
{
    struct server *srv = start("crashes: 3, open: " A_WHILE ", trials: 2", "fail_closed");

    (void)state;
    crash(srv, "/a?fault=segv", 1);
    crash(srv, "/b?fault=abort", 1);
    crash(srv, "/c?fault=fpe", 1);
    assert_in_range(retry_after(srv, "/x"), 1, 3);
    assert_int_equal(status_of(srv, "/without"), 200);
    eventually(status_of(srv, "/x") == 200);
    server_wait_log(srv, "plugin 'f': the breaker is half-open: 2 requests are let in on trial");
    eventually(status_of(srv, "/x") == 200);
    server_wait_log(srv, "plugin 'f': the breaker closes: 2 trials ended well");
    crash(srv, "/a?fault=segv", 2); /* what was before is forgotten */
    assert_int_equal(status_of(srv, "/x"), 200);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_trial_that_crashes_opens_it_for_longer(void **state)
{
    struct server *srv = start("crashes: 2, open: 1500ms, trials: 3", "fail_closed");
    int status = 0;

    (void)state;
    crash(srv, "/a?fault=segv", 1);
    crash(srv, "/b?fault=abort", 1);
    eventually((status = status_of(srv, "/x?fault=segv")) != 503);
    assert_int_equal(status, 500);
    assert_int_equal(status_of(srv, "/x"), 503);
    server_wait_log(srv,
                    "plugin 'f': the breaker opens again: a trial crashed; the next ones in 3 s");
    eventually(status_of(srv, "/x") == 200);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_blocked_route_is_freed_by_trials(void **state)
{
    struct server *srv = start("crashes: 2, open: " A_WHILE ", trials: 1", "fail_closed");

    (void)state;
    crash(srv, "/a?fault=segv", 2);
    assert_int_equal(status_of(srv, "/a"), 503);
    eventually(status_of(srv, "/a") == 200);
    server_wait_log(srv, "plugin 'f': route 'a' is free again: 1 trial ended well");
    assert_int_equal(server_stop(&srv), 0);
}

static void fail_open_goes_on_without_the_plugin(void **state)
{
    struct server *srv = start("crashes: 2", "fail_open");

    (void)state;
    assert_int_equal(status_of(srv, "/a?fault=segv"), 200);
    assert_int_equal(status_of(srv, "/b?fault=abort"), 200);
    server_wait_log(srv, "its requests are served without it for 30 s");
    for (int i = 0; i < 10; i++)
        assert_int_equal(status_of(srv, "/x?fault=segv"), 200);
    eventually(server_crash_count(srv) == 2); /* it was not called */
    assert_int_equal(server_stop(&srv), 0);
}

static void the_state_outlives_the_worker(void **state)
{
    struct server *srv = start("crashes: 2", "fail_closed");
    pid_t worker = worker_of(srv), now = 0;

    (void)state;
    crash(srv, "/a?fault=segv", 2);
    assert_int_equal(kill(worker, SIGKILL), 0);
    eventually(server_children(srv, "bh-worker", &now, 1) == 1 && now != worker);
    assert_int_equal(status_of(srv, "/a"), 503);
    assert_int_equal(status_of(srv, "/b"), 200);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_route_that_kills_workers_is_blocked(void **state)
{
    struct server *srv = start("crashes: 3", "fail_closed");

    (void)state;
    for (int i = 0; i < 3; i++) {
        pid_t worker = worker_of(srv), now = 0;

        assert_int_equal(status_of(srv, "/a?fault=sigkill"), 0);
        eventually(server_children(srv, "bh-worker", &now, 1) == 1 && now != worker);
    }
    assert_int_equal(status_of(srv, "/a?fault=sigkill"), 503);
    assert_int_equal(status_of(srv, "/b"), 200);
    assert_int_equal(server_stop(&srv), 0);
}

/* The requests of a worker that dies in a trial do not hold the breaker for ever. */
static void a_trial_whose_worker_is_killed_is_given_up(void **state)
{
    struct server *srv = server_start(
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "breaker: {crashes: 1, open: 300ms, trials: 1}\n"
        "plugins:\n"
        "  f: {module: fault, config: {from_request: true, reply: false}}\n"
        "  hold: {module: hold}\n"
        "routes: [{chain: [f, hold]}]\n"
        "crash: {dir: @DIR@/crashes}\n");
    pid_t worker = worker_of(srv), now = 0;
    struct conn *held;

    (void)state;
    crash(srv, "/?fault=segv", 1);
    server_wait_log(srv, "is blocked");
    held = conn_open(srv->port[0]);
    for (bool is_held = false; !is_held;) { /* until it is the trial */
        conn_sendf(held, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually(!conn_is_idle(held) || (is_held = log_has(srv, "half-open")));
        if (!is_held) {
            struct response *res = conn_response(held, "GET");

            assert_int_equal(res->status, 503);
            response_free(&res);
        }
    }
    assert_int_equal(status_of(srv, "/ok"), 503);
    assert_int_equal(kill(worker, SIGKILL), 0);
    eventually(server_children(srv, "bh-worker", &now, 1) == 1 && now != worker);
    eventually(status_of(srv, "/ok") == 200);
    server_wait_log(srv, "is free again");
    conn_close(&held);
    assert_int_equal(server_stop(&srv), 0);
}

static void on_error_is_told_and_retry_after_is_added(void **state)
{
    struct server *srv = server_start("version: 1\n"
                                      "server: {workers: 1}\n"
                                      "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                                      "modules: {path: [@PLUGINS@]}\n"
                                      "breaker: {crashes: 1, open: 1m}\n"
                                      "plugins:\n"
                                      "  pages: {module: error_pages}\n"
                                      "  f: {module: fault, config: {fault: segv}}\n"
                                      "routes: [{chain: [pages, f]}]\n"
                                      "crash: {dir: @DIR@/crashes}\n");

    (void)state;
    crash(srv, "/", 1);
    assert_in_range(retry_after(srv, "/"), 50, 60);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- fresh copies ---- */

static char *temporary; /* the servers' TMPDIR */

static struct server *start_statics(const char *breaker)
{
    struct server *srv;

    free(temporary);
    temporary = tmp_dir();
    setenv("TMPDIR", temporary, 1);
    srv = server_start("version: 1\n"
                       "server: {workers: 1}\n"
                       "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                       "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                       "breaker: {%s}\n"
                       "plugins:\n"
                       "  s: {module: statics, config: {file: @DIR@/go}}\n"
                       "  other: {module: statics, config: {file: @DIR@/go}}\n"
                       "  ok: {module: respond, config: {body: ok}}\n"
                       "routes:\n"
                       "  - {match: {path: /other}, chain: [other, ok]}\n"
                       "  - {chain: [s, ok]}\n"
                       "crash: {dir: @DIR@/crashes}\n",
                       breaker);
    unsetenv("TMPDIR");
    return srv;
}

static void expect_state(struct response *res, const char *header, const char *value)
{
    const char *has = response_header(res, header);

    assert_int_equal(res->status, 200);
    assert_non_null(has);
    assert_string_equal(has, value);
    response_free(&res);
}

static void let_go(const struct server *srv)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/go", srv->dir);
    file_write(path, "go\n");
}

/* Files in the folder that workers put fresh copies in. */
static int count_copies(char *folder, size_t size)
{
    char *found = NULL;
    int n;

    run_command(&found, "ls -d %s/*/fresh", temporary);
    snprintf(folder, size, "%.*s", (int)strcspn(found, "\n"), found);
    free(found);
    run_command(&found, "ls %s | wc -l", folder);
    n = atoi(found);
    free(found);
    return n;
}

static void statics_are_fresh_after_the_second_crash(void **state)
{
    struct server *srv = start_statics("crashes: 10");
    pid_t worker = worker_of(srv);
    char folder[4096];
    struct stat st;

    (void)state;
    expect_state(server_get(srv, "/"), "X-State", "clean");
    crash(srv, "/boom", 1);
    expect_state(server_get(srv, "/"), "X-State", "spoilt");
    crash(srv, "/boom", 1);
    expect_state(server_get(srv, "/"), "X-State", "clean");
    expect_state(server_get(srv, "/other"), "X-State",
                 "spoilt"); /* keeps what they had in common */
    server_wait_log(srv, "plugin 's' goes on with a fresh copy of");
    crash(srv, "/boom", 3); /* one copy a window is enough */
    expect_state(server_get(srv, "/"), "X-State", "spoilt");
    assert_int_equal(count_copies(folder, sizeof folder), 1);
    assert_int_equal(stat(folder, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(worker_of(srv), worker);
    assert_int_equal(server_stop(&srv), 0);
    assert_int_equal(access(folder, F_OK), -1);
}

static void the_records_of_a_fresh_copy_have_names(void **state)
{
    struct server *srv = start_statics("crashes: 10");
    char *record;

    (void)state;
    crash(srv, "/boom", 3);
    record = server_crash_record(srv, 2);
    assert_non_null(strstr(record, "\"on_request\""));
    assert_non_null(strstr(record, "statics.c"));
    assert_non_null(strstr(record, "\"s\""));
    free(record);
    assert_int_equal(server_stop(&srv), 0);
}

static void requests_stay_with_the_copy_they_entered(void **state)
{
    struct server *srv = start_statics("crashes: 10");
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    conn_sendf(conn, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_state(server_get(srv, "/"), "X-State", "clean"); /* the other one has entered */
    crash(srv, "/boom", 2);
    expect_state(server_get(srv, "/"), "X-State", "clean");
    let_go(srv);
    expect_state(conn_response(conn, "GET"), "X-State", "spoilt");
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static bool has_posted(struct server *srv)
{
    struct response *res = server_get(srv, "/");
    bool has = strcmp(response_header(res, "X-Posted"), "some") == 0;

    response_free(&res);
    return has;
}

static void what_a_crashed_copy_posts_is_dropped(void **state)
{
    struct server *srv = start_statics("crashes: 10");

    (void)state;
    assert_int_equal(status_of(srv, "/post"), 200); /* from a thread of the first copy, later */
    crash(srv, "/boom", 2);
    assert_int_equal(status_of(srv, "/post"), 200); /* and one of the second */
    let_go(srv);
    /* Posted calls of the fresh copy do run. */
    eventually(has_posted(srv));
    expect_state(server_get(srv, "/other"), "X-Posted", "none"); /* it has the first copy */
    assert_int_equal(server_stop(&srv), 0);
}

static void too_many_copies_ask_for_a_fresh_worker(void **state)
{
    struct server *srv = start_statics("crashes: 60, window: 100ms");
    pid_t worker = worker_of(srv), now = worker;

    (void)state;
    eventually({
        server_children(srv, "bh-worker", &now, 1);
        if (now == worker)
            status_of(srv, "/boom");
        now != worker &&now != 0;
    });
    server_wait_log(srv, "copies of crashed objects are in memory");
    eventually(server_children(srv, "bh-worker", &now, 1) == 1);
    assert_int_equal(status_of(srv, "/"), 200);
    assert_int_equal(server_stop(&srv), 0);
}

static void without_room_for_a_copy_the_instance_alone_is_fresh(void **state)
{
    struct server *srv = start_statics("crashes: 10");
    char folder[4096];

    (void)state;
    count_copies(folder, sizeof folder);
    assert_int_equal(rmdir(folder), 0);
    crash(srv, "/boom", 2);
    expect_state(server_get(srv, "/"), "X-State", "spoilt");
    server_wait_log(srv, "plugin 's' goes on with what is left of its static variables: ");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_trial_begins_on_a_fresh_copy(void **state)
{
    struct server *srv = start_statics("crashes: 1, open: 300ms, trials: 1");

    (void)state;
    crash(srv, "/boom", 1);
    eventually(status_of(srv, "/") == 200);
    expect_state(server_get(srv, "/"), "X-State", "clean");
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_crashes_block_their_route_and_no_other),
        cmocka_unit_test(three_blocked_routes_are_enough),
        cmocka_unit_test(different_crashes_open_the_breaker_and_trials_close_it),
        cmocka_unit_test(a_trial_that_crashes_opens_it_for_longer),
        cmocka_unit_test(a_blocked_route_is_freed_by_trials),
        cmocka_unit_test(fail_open_goes_on_without_the_plugin),
        cmocka_unit_test(the_state_outlives_the_worker),
        cmocka_unit_test(a_route_that_kills_workers_is_blocked),
        cmocka_unit_test(a_trial_whose_worker_is_killed_is_given_up),
        cmocka_unit_test(on_error_is_told_and_retry_after_is_added),
        cmocka_unit_test(statics_are_fresh_after_the_second_crash),
        cmocka_unit_test(the_records_of_a_fresh_copy_have_names),
        cmocka_unit_test(requests_stay_with_the_copy_they_entered),
        cmocka_unit_test(what_a_crashed_copy_posts_is_dropped),
        cmocka_unit_test(too_many_copies_ask_for_a_fresh_worker),
        cmocka_unit_test(without_room_for_a_copy_the_instance_alone_is_fresh),
        cmocka_unit_test(a_trial_begins_on_a_fresh_copy),
    };

    return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}
