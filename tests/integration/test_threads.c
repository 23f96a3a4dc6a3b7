/*
 * test_threads.c - what a plugin's own thread costs others when it crashes: nothing. And what its plugin
 * gets for starting too many.
 *
 * In Go, say, a panic in any goroutine ends the process with all its connections.
 */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { IDLE = 1000 };

static const char config[] = "version: 1\n"
                             "server: {workers: 1}\n"
                             "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                             "limits: {timeouts: {drain: 10s}}\n"
                             "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                             "plugins:\n"
                             "  crash: {module: fault, threads: 8, config: {from_request: true}}\n"
                             "  hold: {module: hold}\n"
                             "routes:\n"
                             "  - {match: {path: /crash}, chain: [crash]}\n"
                             "  - {match: {path: /**}, chain: [hold]}\n"
                             "crash: {dir: @DIR@/crashes}\n";

static void check_get(struct conn *conn, const char *target, int status)
{
    struct response *res = conn_request(conn, "GET", target, NULL, NULL, 0);

    assert_int_equal(res->status, status);
    response_free(&res);
}

static struct server *start(void)
{
    struct server *srv = server_start(config);

    server_wait_standby(srv);
    return srv;
}

static void check_record(struct server *srv, const char *signal)
{
    char *record = server_crash_record(srv, 0);

    assert_non_null(strstr(record, "\"instance\": \"crash\""));
    assert_non_null(strstr(record, "\"hook\": \"thread\""));
    assert_non_null(strstr(record, "\"verdict\": \"Q\""));
    assert_non_null(strstr(record, signal));
    free(record);
}

static void a_threads_crash_loses_none_of_a_thousand_connections(void **state)
{
    static struct conn *idle[IDLE];
    struct rlimit limit;
    struct server *srv;
    struct conn *half, *crashing, *fresh;
    struct response *res;
    pid_t before = 0, after = 0;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    srv = start();
    eventually(server_children(srv, "bh-worker", &before, 1) == 1);
    for (int i = 0; i < IDLE; i++) {
        idle[i] = conn_open(srv->port[0]);
        check_get(idle[i], "/", 200);
    }
    half = conn_open(srv->port[0]);
    conn_sendf(half, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf");
    crashing = conn_open(srv->port[0]);
    check_get(crashing, "/crash?fault=segv&at=thread", 200);

    for (int i = 0; i < 50; i++) { /* nobody new is turned away meanwhile */
        fresh = conn_open(srv->port[0]);
        check_get(fresh, "/", 200);
        conn_close(&fresh);
    }
    conn_send(half, "done", 4);
    res = conn_response(half, "POST");
    assert_int_equal(res->status, 200);
    response_free(&res);
    conn_close(&half);
    conn_close(&crashing);
    eventually(server_children(srv, "bh-worker", &after, 1) == 1 && after != before);
    for (int i = 0; i < IDLE; i++)
        assert_true(conn_is_idle(idle[i]));
    for (int i = 0; i < IDLE; i++) {
        check_get(idle[i], "/", 200);
        conn_close(&idle[i]);
    }
    check_record(srv, "SIGSEGV");
    assert_int_equal(server_stop(&srv), 0);
}

/* No request of it is accepted by the worker that knows. */
static void a_plugin_whose_timer_crashes_is_replaced_with_its_worker(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    pid_t before = 0, after = 0;

    (void)state;
    eventually(server_children(srv, "bh-worker", &before, 1) == 1);
    check_get(conn, "/crash?fault=abort&at=timer", 200);
    eventually(server_children(srv, "bh-worker", &after, 1) == 1 && after != before);
    check_get(conn, "/crash", 200);
    conn_close(&conn);
    check_record(srv, "SIGABRT");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_plugin_that_leaks_threads_is_replaced_with_its_worker(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    pid_t before = 0, after = 0;

    (void)state;
    eventually(server_children(srv, "bh-worker", &before, 1) == 1);
    for (int i = 0; i < 8 + 15; i++)
        check_get(conn, "/crash?fault=leak_thread", 200);
    server_children(srv, "bh-worker", &after, 1);
    assert_int_equal(after, before);
    check_get(conn, "/crash?fault=leak_thread", 200);
    eventually(server_children(srv, "bh-worker", &after, 1) == 1 && after != before);
    server_wait_log(srv, "it starts ever more threads");
    check_get(conn, "/crash", 200);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

/* Is unloaded last, as it is loaded first, and takes its time. */
static const char lingers[] =
    "#include <bulkhead.h>\n"
    "#include <unistd.h>\n"
    "__attribute__((destructor)) static void linger(void) { usleep(300000); }\n"
    "BH_PLUGIN(\"lingers\", \"1.0.0\", .summary = \"\")\n";

/* Its code must stay where it is. */
static void outlive(int n_crashes)
{
    char *dir = tmp_dir(), *plugin = plugin_build(dir, "lingers", lingers);
    struct server *srv = server_start("version: 1\n"
                                      "server: {workers: 1}\n"
                                      "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                                      "modules: {path: [@PLUGINS@]}\n"
                                      "plugins:\n"
                                      "  lingers: {module: %s}\n"
                                      "  crash: {module: fault, config: {from_request: true}}\n"
                                      "routes: [{chain: [lingers, crash]}]\n"
                                      "crash: {dir: @DIR@/crashes}\n",
                                      plugin);
    struct response *res;
    size_t n;

    free(plugin);
    free(dir);
    for (int i = 0; i < n_crashes; i++) {
        res = server_get(srv, "/crash?fault=segv");
        assert_int_equal(res->status, 500);
        response_free(&res);
    }
    if (n_crashes > 1)
        server_wait_log(srv, "goes on with a fresh copy");
    res = server_get(srv, "/crash?fault=loop&at=thread");
    assert_int_equal(res->status, 200);
    response_free(&res);
    kill(srv->pid, SIGTERM);
    assert_int_equal(server_wait_exit(srv), 0);
    n = server_crash_count(srv);
    assert_int_equal(server_stop(&srv), 0);
    assert_int_equal(n, n_crashes);
}

static void a_thread_that_outlives_its_plugin_does_no_harm(void **state)
{
    (void)state;
    outlive(0);
}

/* The copy that a plugin gets which crashed more than once. */
static void nor_does_a_thread_of_a_fresh_copy(void **state)
{
    (void)state;
    outlive(2);
}

static const char crashes_at_once[] =
    "#include <bulkhead.h>\n"
    "#include <pthread.h>\n"
    "static void *crash(void *arg) { *(volatile int *)arg = 1; return 0; }\n"
    "static bh_rc open_(bh_inst *inst, const void *cfg, void **self)\n"
    "{\n"
    "    pthread_t t;\n"
    "    if (pthread_create(&t, 0, crash, 0) == 0)\n"
    "        pthread_join(t, 0);\n"
    "    return BH_OK;\n"
    "}\n"
    "BH_PLUGIN(\"early\", \"1.0.0\", .summary = \"\", .open = open_)\n";

static void a_plugin_whose_thread_crashes_in_the_trial_run_is_refused(void **state)
{
    char *dir = tmp_dir(), *plugin = plugin_build(dir, "early", crashes_at_once), *out = NULL;
    char path[256];

    (void)state;
    snprintf(path, sizeof path, "%s/c.yaml", dir);
    file_write(path,
               "version: 1\n"
               "listeners: [{name: a, address: \"unix:%s/sock\"}]\n"
               "plugins: {early: {module: %s}}\n"
               "routes: [{chain: [early]}]\n",
               dir, plugin);
    assert_int_not_equal(run_command(&out, "%s run -c %s", getenv("BULKHEAD"), path), 0);
    if (strstr(out, "plugin 'early': a thread of its own crashed with SIGSEGV") == NULL)
        fail_msg("it says: %s", out);
    free(out);
    free(plugin);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_threads_crash_loses_none_of_a_thousand_connections),
        cmocka_unit_test(a_plugin_whose_timer_crashes_is_replaced_with_its_worker),
        cmocka_unit_test(a_plugin_that_leaks_threads_is_replaced_with_its_worker),
        cmocka_unit_test(a_thread_that_outlives_its_plugin_does_no_harm),
        cmocka_unit_test(nor_does_a_thread_of_a_fresh_copy),
        cmocka_unit_test(a_plugin_whose_thread_crashes_in_the_trial_run_is_refused),
    };

    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
