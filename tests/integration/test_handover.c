/*
 * test_handover.c - a worker ends, its connections do not: after a fault that cannot be recovered,
 * when a successor takes over in order, and when another executable does.
 *
 * The fault strikes with a stack pointer past the boundary's frame (tests/plugins/inside.c): outcome
 * X, in sanitized builds, too.
 */
#include "harness.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FATAL "/fatal?at=gone"

enum { IDLE = 1000 };

static const char *the_binary;

static struct server *start_in(const char *dir, int workers, const char *more, const char *modules)
{
    struct server *srv = server_start_in(
        dir,
        "version: 1\n"
        "server: {workers: %d%s}\n"
        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
        "limits: {timeouts: {drain: 10s}}\n"
        "modules: {path: [%s]}\n"
        "plugins:\n"
        "  fatal: {module: inside}\n"
        "  hold: {module: hold}\n"
        "  fault: {module: fault, config: {from_request: true}}\n"
        "routes:\n"
        "  - {match: {path: /fault}, chain: [fault]}\n"
        "  - {match: {path: /fatal}, chain: [fatal]}\n"
        "  - {match: {path: /**}, chain: [hold]}\n"
        "breaker: {crashes: 0}\n"
        "respawn: {restarts: 1000}\n"
        "crash: {dir: @DIR@/crashes, keep: 100}\n",
        workers, more, modules);

    server_wait_log(srv, "serving on");
    server_wait_standby(srv);
    return srv;
}

static struct server *start(int workers, const char *more)
{
    char *dir = tmp_dir();
    struct server *srv = start_in(dir, workers, more, "@PLUGINS@, @MODULES@");

    free(dir);
    return srv;
}

static void check_get(struct conn *conn, const char *target, int status)
{
    struct response *res = conn_request(conn, "GET", target, NULL, NULL, 0);

    assert_int_equal(res->status, status);
    response_free(&res);
}

static int get_status(struct conn *conn, const char *target)
{
    struct response *res = conn_request(conn, "GET", target, NULL, NULL, 0);
    int status = res->status;

    response_free(&res);
    return status;
}

static void open_idle(struct server *srv, struct conn **conn, int n)
{
    for (int i = 0; i < n; i++) {
        conn[i] = conn_open(srv->port[0]);
        check_get(conn[i], "/", 200);
    }
}

/* All of them answer, twice: the successor keeps them. */
static void check_usable(struct conn **conn, int n)
{
    for (int i = 0; i < n; i++)
        assert_true(conn_is_idle(conn[i]));
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < n; i++)
            check_get(conn[i], "/", 200);
}

static void close_all(struct conn **conn, int n)
{
    for (int i = 0; i < n; i++)
        conn_close(&conn[i]);
}

static pid_t the_worker(const struct server *srv)
{
    pid_t pid = 0;

    eventually(server_children(srv, "bh-worker", &pid, 1) == 1);
    return pid;
}

/* ---- outcome X ---- */

static void lose_none_of_a_thousand_of(struct server *srv, const char *log)
{
    static struct conn *conn[IDLE];
    pid_t before = the_worker(srv);
    struct conn *culprit;
    struct response *res;

    open_idle(srv, conn, IDLE);
    culprit = conn_open(srv->port[0]);
    res = conn_request(culprit, "GET", FATAL, NULL, NULL, 0);
    assert_int_equal(res->status, 500);
    assert_non_null(strstr(res->head, "Connection: close"));
    response_free(&res);
    conn_close(&culprit);
    check_usable(conn, IDLE);
    eventually(kill(before, 0) < 0);
    eventually(server_crash_count(srv) == 1);
    server_wait_log(srv, log);
    close_all(conn, IDLE);
    assert_int_equal(server_stop(&srv), 0);
}

static void lose_none_of_a_thousand(const char *user, const char *log)
{
    lose_none_of_a_thousand_of(start(1, user), log);
}

static void a_thousand_idle_connections_outlive_their_worker(void **state)
{
    (void)state;
    lose_none_of_a_thousand("", "1000 idle connections move");
}

static void they_do_so_when_workers_run_as_another_user(void **state)
{
    (void)state;
    if (geteuid() != 0 || getpwnam("nobody") == NULL)
        skip();
    lose_none_of_a_thousand(", user: nobody", "1000 idle connections move");
}

/* Not root, nor ever was: the master has no more rights over a worker than over any other process of that
 * user. Executable and modules are copied to where he can read them. */
static void they_do_so_in_the_server_of_an_ordinary_user(void **state)
{
    char *dir = tmp_dir(), *binary = strdup(the_binary), *modules = getenv("BULKHEAD_MODULES");
    const struct passwd *nobody = getpwnam("nobody");
    char wrapper[4200];

    (void)state;
    if (geteuid() != 0 || nobody == NULL) {
        free(binary);
        skip();
        return; /* skip() does not come back, which a linter does not know */
    }
    assert_int_equal(run_command(NULL, "cp '%s' '%s/inside.so' '%s/hold.so' '%s/fault.so' '%s'",
                                 binary, modules, modules, getenv("BULKHEAD_PLUGINS"), dir),
                     0);
    snprintf(wrapper, sizeof wrapper, "%s/as-nobody", dir);
    file_write(wrapper,
               "#!/bin/sh\n"
               "export TMPDIR='%s'\n"
               "exec setpriv --reuid %u --regid %u --clear-groups '%s/bulkhead' \"$@\"\n",
               dir, (unsigned)nobody->pw_uid, (unsigned)nobody->pw_gid, dir);
    assert_int_equal(chmod(wrapper, 0755), 0);
    assert_int_equal(chown(dir, nobody->pw_uid, nobody->pw_gid), 0);
    setenv("BULKHEAD", wrapper, 1);
    lose_none_of_a_thousand_of(start_in(dir, 1, "", "@DIR@"), "1000 idle connections move");
    free(binary);
    free(dir);
}

static int use_the_binary_again(void **state)
{
    (void)state;
    return setenv("BULKHEAD", the_binary, 1);
}

/* The last test of all: it takes the capability from this process, too. */
static void they_do_so_where_the_master_may_not_take_descriptors(void **state)
{
    (void)state;
    if (geteuid() != 0 || getpwnam("nobody") == NULL)
        skip();
    assert_int_equal(prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE), 0);
    lose_none_of_a_thousand(", user: nobody", "the master may not take over the connections");
}

static void they_do_so_again_and_again(void **state)
{
    static struct conn *conn[50];
    struct server *srv = start(1, "");

    (void)state;
    open_idle(srv, conn, 50);
    for (int i = 0; i < 10; i++) {
        pid_t before = the_worker(srv);
        struct response *res = server_get(srv, FATAL);

        assert_int_equal(res->status, 500);
        response_free(&res);
        check_usable(conn, 50);
        eventually(kill(before, 0) < 0);
        server_wait_standby(srv);
    }
    close_all(conn, 50);
    assert_int_equal(server_stop(&srv), 0);
}

static void requests_in_flight_are_run_again_or_told_to_come_again(void **state)
{
    struct server *srv = start(1, "");
    struct conn *held = conn_open(srv->port[0]), *half = conn_open(srv->port[0]),
                *post = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    conn_sendf(half, "GET /half HTTP/1.1\r\nHost: a\r\nX-Half: ");
    conn_sendf(post, "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
    conn_sendf(held, "GET /a/hold?q=1 HTTP/1.1\r\nHost: a\r\nX-Mine: 1\r\n\r\n");
    for (int ok = 0; !ok;) {
        res = server_get(srv, "/held");
        ok = res->status == 200;
        response_free(&res);
    }
    res = server_get(srv, FATAL);
    assert_int_equal(res->status, 500);
    response_free(&res);

    res = conn_response(post, "POST");
    assert_int_equal(res->status, 503);
    assert_string_equal(response_header(res, "Retry-After"), "1");
    response_free(&res);
    res = conn_response(half, "GET");
    assert_int_equal(res->status, 503);
    response_free(&res);
    /* It waits again, in the new worker. */
    for (int ok = 0; !ok;) {
        res = server_get(srv, "/release");
        ok = res->status == 200;
        response_free(&res);
    }
    res = conn_response(held, "GET");
    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, "held\n");
    response_free(&res);
    check_get(held, "/", 200);
    conn_close(&held);
    conn_close(&half);
    conn_close(&post);
    assert_int_equal(server_stop(&srv), 0);
}

/* A request that arrives while nobody has the connection waits in the kernel, and is answered. */
static void a_request_sent_meanwhile_is_answered_by_the_successor(void **state)
{
    static struct conn *conn[200];
    struct server *srv = start(1, "");
    struct conn *culprit = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    open_idle(srv, conn, 200);
    conn_sendf(culprit, "GET " FATAL " HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 200; i++)
        conn_sendf(conn[i], "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i);
    for (int i = 0; i < 200; i++) {
        res = conn_response(conn[i], "GET");
        assert_int_equal(res->status, 200);
        response_free(&res);
    }
    res = conn_response(culprit, "GET");
    assert_int_equal(res->status, 500);
    response_free(&res);
    conn_close(&culprit);
    close_all(conn, 200);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- without a master ---- */

static unsigned long ticks_of(pid_t pid)
{
    unsigned long user = 0;
    char path[64], *stat;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    stat = file_read(path);
    if (stat != NULL && strrchr(stat, ')') != NULL &&
        sscanf(strrchr(stat, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu", &user) != 1)
        user = 0;
    free(stat);
    return user;
}

/* It has said that the connection ends; nobody else may take it for idle. */
static void a_connection_that_was_to_end_ends_with_its_worker(void **state)
{
    struct server *srv = start(1, "");
    struct conn *conn = conn_open(srv->port[0]);
    char *text;
    size_t n;

    (void)state;
    conn_sendf(conn, "GET /fault?fault=stdio_lock&at=on_log HTTP/1.1\r\nHost: a\r\n"
                     "Connection: close\r\n\r\n");
    text = conn_read_all(conn, &n);
    assert_memory_equal(text, "HTTP/1.1 200 ", 13);
    assert_null(strstr(text + 1, "HTTP/1.1"));
    free(text);
    conn_close(&conn);
    server_wait_log(srv, "on_log");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_worker_that_hangs_does_not_outlive_its_master(void **state)
{
    struct server *srv = server_start(
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
        "limits: {timeouts: {drain: 100ms}}\n"
        "modules: {path: [@PLUGINS@]}\n"
        "plugins: {f: {module: fault, deadline: 0, config: {fault: loop}}}\n"
        "routes: [{chain: [f]}]\n"
        "crash: {dir: @DIR@/crashes}\n");
    struct conn *conn = conn_open(srv->port[0]);
    pid_t worker = the_worker(srv);

    (void)state;
    conn_sendf(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(ticks_of(worker) > 10); /* it is in there */
    kill(srv->pid, SIGKILL);
    eventually(kill(worker, 0) < 0);
    conn_close(&conn);
    server_wait_exit(srv);
    server_stop(&srv);
}

/* ---- another executable, another config ---- */

static int times_serving(const struct server *srv)
{
    char *log = server_log(srv);
    int n = 0;

    for (const char *p = log; (p = strstr(p, "serving on")) != NULL; p++)
        n++;
    free(log);
    return n;
}

static void wait_for_heir(const struct server *srv, int n)
{
    eventually(times_serving(srv) == n);
}

/* The new master is no child of ours: found by its word in the log. */
static pid_t heir(const struct server *srv)
{
    char *log = server_log(srv), *at = log;
    pid_t pid = 0;

    while ((at = strstr(at, "the new master (pid ")) != NULL) {
        at += strlen("the new master (pid ");
        pid = (pid_t)strtol(at, NULL, 10);
    }
    free(log);
    return pid;
}

static void an_upgrade_loses_no_connection(void **state)
{
    static struct conn *conn[100];
    struct server *srv = start(2, "");
    struct conn *held = conn_open(srv->port[0]);
    struct response *res;
    pid_t pid;

    (void)state;
    open_idle(srv, conn, 100);
    conn_sendf(held, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n12");
    kill(srv->pid, SIGUSR2);
    wait_for_heir(srv, 2);
    server_wait_log(srv, "this one lets its workers finish");
    pid = heir(srv);
    assert_true(pid > 0 && pid != srv->pid);
    conn_sendf(held, "34"); /* begun in the old worker, ended in it */
    res = conn_response(held, "POST");
    assert_int_equal(res->status, 200);
    response_free(&res);
    check_usable(conn, 100);
    assert_int_equal(server_wait_exit(srv), 0);
    check_usable(conn, 100);
    for (int i = 0; i < 50; i++) { /* new ones, too */
        res = server_get(srv, "/");
        assert_int_equal(res->status, 200);
        response_free(&res);
    }
    close_all(conn, 100);
    conn_close(&held);
    kill(pid, SIGTERM);
    eventually(kill(pid, 0) < 0);
    server_stop(&srv);
}

static void an_upgrade_that_fails_changes_nothing(void **state)
{
    struct server *srv = start(1, "");
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    check_get(conn, "/", 200);
    server_rewrite_config(srv, "version: 1\nno such key: 1\n");
    kill(srv->pid, SIGUSR2);
    server_wait_log(srv, "This one goes on serving");
    check_get(conn, "/", 200);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_upgrade_brings_the_new_config(void **state)
{
    struct server *srv = start(1, "");
    struct conn *conn = conn_open(srv->port[0]);
    pid_t pid;

    (void)state;
    check_get(conn, "/", 200);
    server_rewrite_config(srv, "version: 1\n"
                               "server: {workers: 2}\n"
                               "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                               "modules: {path: [@PLUGINS@]}\n"
                               "plugins: {r: {module: respond, config: {status: 201, body: new}}}\n"
                               "routes: [{chain: [r]}]\n"
                               "crash: {dir: @DIR@/crashes}\n");
    kill(srv->pid, SIGUSR2);
    wait_for_heir(srv, 2);
    server_wait_log(srv, "this one lets its workers finish");
    pid = heir(srv);
    eventually(get_status(conn, "/") == 201);
    conn_close(&conn);
    assert_int_equal(server_wait_exit(srv), 0);
    kill(pid, SIGTERM);
    eventually(kill(pid, 0) < 0);
    server_stop(&srv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_idle_connections_outlive_their_worker),
        cmocka_unit_test(they_do_so_when_workers_run_as_another_user),
        cmocka_unit_test_teardown(they_do_so_in_the_server_of_an_ordinary_user,
                                  use_the_binary_again),
        cmocka_unit_test(they_do_so_again_and_again),
        cmocka_unit_test(requests_in_flight_are_run_again_or_told_to_come_again),
        cmocka_unit_test(a_request_sent_meanwhile_is_answered_by_the_successor),
        cmocka_unit_test(a_connection_that_was_to_end_ends_with_its_worker),
        cmocka_unit_test(a_worker_that_hangs_does_not_outlive_its_master),
        cmocka_unit_test(an_upgrade_loses_no_connection),
        cmocka_unit_test(an_upgrade_that_fails_changes_nothing),
        cmocka_unit_test(an_upgrade_brings_the_new_config),
        cmocka_unit_test(they_do_so_where_the_master_may_not_take_descriptors),
    };
    const char *given = getenv("BULKHEAD");

    the_binary = strdup(given != NULL ? given : "build/bulkhead");
    return cmocka_run_group_tests_name("handover", tests, NULL, NULL);
}
