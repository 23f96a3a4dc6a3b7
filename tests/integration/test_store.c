/*
 * test_store.c - the store of plugins in the real server: shared by workers, and what it outlives.
 */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG                                                           \
    "version: 1\n"                                                       \
    "server: {workers: 2}\n"                                             \
    "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"       \
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"                          \
    "plugins:\n"                                                         \
    "  k: {module: keeper%s}\n"                                          \
    "  peer: {module: keeper, store: {namespace: k}}\n"                  \
    "  other: {module: keeper, store: {quota: 64KiB}}\n"                 \
    "routes:\n"                                                          \
    "  - {match: {path: /**, headers: {X-To: peer}}, chain: [peer]}\n"   \
    "  - {match: {path: /**, headers: {X-To: other}}, chain: [other]}\n" \
    "  - {match: {path: /**}, chain: [k]}\n"                             \
    "breaker: {crashes: 0}\n"                                            \
    "crash: {dir: @DIR@/crashes, keep: 100}\n"

static struct server *start(void)
{
    struct server *srv = server_start(CONFIG, "");

    server_wait_standby(srv);
    return srv;
}

static void expect_from(struct server *srv, const char *to, const char *target, const char *answer)
{
    char header[64] = "";
    struct response *res;

    if (to != NULL)
        snprintf(header, sizeof header, "X-To: %s\r\n", to);
    res = server_request(srv, "GET", target, header, NULL, 0);
    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, answer);
    response_free(&res);
}

static void expect(struct server *srv, const char *target, const char *answer)
{
    expect_from(srv, NULL, target, answer);
}

static pid_t worker_that_answers(struct server *srv)
{
    struct response *res = server_get(srv, "/worker");
    pid_t pid = res->status == 200 ? (pid_t)atol(res->body) : 0;

    response_free(&res);
    return pid;
}

static void workers_and_instances_share_what_their_namespace_has(void **state)
{
    struct server *srv = start();
    pid_t seen[2] = {0};
    char want[32];

    (void)state;
    expect(srv, "/get?k=a", "-2 ");
    expect(srv, "/set?k=a&v=hello", "0");
    expect(srv, "/set?k=a&v=x&new=1", "-8");
    for (int i = 1; i <= 40; i++) { /* each on a connection of its own: both workers get some */
        pid_t pid = worker_that_answers(srv);

        seen[seen[0] != 0 && seen[0] != pid] = pid;
        snprintf(want, sizeof want, "0 %d", i);
        expect(srv, i % 2 ? "/add?k=n" : "/thread?k=n", want);
        expect(srv, "/get?k=a", "0 hello");
    }
    assert_true(seen[0] != 0 && seen[1] != 0);
    expect_from(srv, "peer", "/get?k=a", "0 hello");
    expect_from(srv, "other", "/get?k=a", "-2 ");
    expect(srv, "/del?k=a", "0");
    expect(srv, "/get?k=a", "-2 ");
    expect(srv, "/take?k=b&rate=0", "-4611686018427387907"); /* BH_BUCKET_FAILED + BH_EINVAL */
    expect(srv, "/take?k=b&rate=1&burst=100", "99");
    expect_from(srv, "peer", "/take?k=b&rate=1&burst=100", "98");
    expect_from(srv, "other", "/take?k=b&rate=1&burst=100", "99");
    assert_int_equal(server_stop(&srv), 0);
}

static int count_opened(struct server *srv)
{
    struct response *res = server_get(srv, "/get?k=opened");
    int rc = -1, n = 0;

    assert_int_equal(sscanf(res->body, "%d %d", &rc, &n), 2);
    response_free(&res);
    return n;
}

static void open_in_the_trial_before_the_start_leaves_no_trace(void **state)
{
    struct server *srv = start();

    (void)state;
    eventually(count_opened(srv) >= 6);  /* the one that stands by may be at it still */
    expect(srv, "/get?k=opened", "0 6"); /* two instances share it, in two workers and a standby */
    expect_from(srv, "other", "/get?k=opened", "0 3");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_quota_holds_for_its_namespace_alone(void **state)
{
    struct server *srv = start();
    char target[4200], *at = target + sprintf(target, "/set?k=00&v=");

    (void)state;
    memset(at, 'v', 4000);
    at[4000] = '\0';
    for (int i = 0; i < 16; i++) {
        target[7] = (char)('a' + i);
        expect_from(srv, "other", target, i < 15 ? "0" : "-5"); /* "opened" takes some of it */
    }
    expect(srv, target, "0");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_worker_that_is_killed_takes_nothing_along(void **state)
{
    struct server *srv = start();

    (void)state;
    expect(srv, "/set?k=a&v=hello", "0");
    for (int i = 0; i < 4; i++) {
        pid_t pid[2];

        eventually(server_children(srv, "bh-worker", pid, 2) == 2 &&
                   server_children(srv, "bh-standby", NULL, 0) == 1);
        kill(pid[i % 2], SIGKILL);
        eventually(kill(pid[i % 2], 0) < 0);
    }
    eventually(server_children(srv, "bh-worker", NULL, 0) == 2 && worker_that_answers(srv) != 0);
    expect(srv, "/get?k=a", "0 hello");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_reload_and_an_upgrade_keep_it(void **state)
{
    struct server *srv = start();
    char *log;
    pid_t pid = 0;

    (void)state;
    expect(srv, "/set?k=a&v=hello", "0");
    server_rewrite_config(srv, CONFIG, ", log_level: debug");
    assert_int_equal(run_command(NULL, "RUNTIME_DIRECTORY=%s %s reload --wait -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    expect(srv, "/get?k=a", "0 hello");
    expect(srv, "/add?k=n", "0 1");
    kill(srv->pid, SIGUSR2);
    server_wait_log(srv, "this one lets its workers finish");
    log = server_log(srv);
    pid = atoi(strstr(log, "the new master (pid ") + strlen("the new master (pid "));
    free(log);
    assert_int_equal(server_wait_exit(srv), 0);
    expect(srv, "/get?k=a", "0 hello");
    expect(srv, "/add?k=n", "0 2");
    kill(pid, SIGTERM);
    eventually(kill(pid, 0) < 0);
    server_stop(&srv);
}

static void a_bad_pointer_costs_one_request(void **state)
{
    static const char *const how[] = {"key", "value", "buf", "out"};
    struct server *srv = start();
    pid_t pids[2], after[2];

    (void)state;
    eventually(server_children(srv, "bh-worker", pids, 2) == 2);
    for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
        char target[64];
        struct response *res;

        snprintf(target, sizeof target, "/bad?how=%s", how[i]);
        res = server_get(srv, target);
        assert_int_equal(res->status, 500);
        response_free(&res);
    }
    expect(srv, "/get?k=counted", "-2 "); /* it faulted before it was counted */
    expect(srv, "/set?k=k&v=on", "0");
    expect(srv, "/get?k=k", "0 on");
    assert_int_equal(server_children(srv, "bh-worker", after, 2), 2);
    assert_memory_equal(pids, after, sizeof pids);
    assert_int_equal(server_stop(&srv), 0);
}

/* The rule of the boundary: not recovered, and not waited for by others. */
static void a_fault_with_the_stores_lock_held_ends_that_worker_alone(void **state)
{
    struct server *srv = start();
    struct response *res;
    char *record, *out;

    (void)state;
    expect(srv, "/set?k=a&v=hello", "0");
    res = server_get(srv, "/forbid");
    assert_int_equal(res->status, 500);
    response_free(&res);
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "\"verdict\": \"X\""));
    assert_non_null(strstr(record, "critical section"));
    free(record);
    eventually(server_children(srv, "bh-worker", NULL, 0) == 2 &&
               server_children(srv, "bh-standby", NULL, 0) == 1);
    for (int i = 0; i < 20; i++)
        expect(srv, "/get?k=a", "0 hello");
    for (int i = 0; i < 200; i++) { /* through all shards: the lock that it held, too */
        char target[64];

        snprintf(target, sizeof target, "/set?k=%d&v=x", i);
        expect(srv, target, "0");
    }
    assert_int_equal(run_command(&out, "RUNTIME_DIRECTORY=%s %s status --json -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    assert_non_null(strstr(out, "\"repaired\": 1"));
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

static void with_lmdb_it_outlives_the_server(void **state)
{
    static const char config[] = CONFIG "store: {backend: lmdb, path: %s/store.lmdb}\n";
    char *dir = tmp_dir();
    struct server *srv;
    pid_t pid[2];

    (void)state;
    if (run_command(NULL, "grep -q ' mdb_strerror' %s || ldconfig -p | grep -q liblmdb.so.0",
                    getenv("BULKHEAD")) != 0)
        skip();
    assert_int_equal(run_command(NULL, "chmod 777 %s", dir), 0);
    srv = server_start(config, "", dir);
    expect(srv, "/set?k=a&v=hello", "0");
    for (int i = 1; i <= 20; i++) {
        char want[16];

        snprintf(want, sizeof want, "0 %d", i);
        expect(srv, i % 2 ? "/add?k=n" : "/thread?k=n", want);
    }
    for (int i = 0; i < 60; i++) { /* a minute until it is full again, and gone */
        struct response *res = server_get(srv, "/take?k=b&rate=1&burst=100");

        assert_int_equal(res->status, 200);
        response_free(&res);
    }
    eventually(server_children(srv, "bh-worker", pid, 2) == 2);
    kill(pid[0], SIGKILL);
    kill(pid[1], SIGKILL);
    eventually(worker_that_answers(srv) != 0);
    expect(srv, "/add?k=n", "0 21");
    assert_int_equal(server_stop(&srv), 0);
    srv = server_start(config, "", dir);
    expect(srv, "/get?k=a", "0 hello");
    expect(srv, "/add?k=n", "0 22");
    expect(srv, "/get?k=b", "-3 "); /* it is a bucket, and not full again */
    assert_int_equal(server_stop(&srv), 0);
    free(dir);
}

static void a_library_that_is_not_there_is_told_by_check(void **state)
{
    char *dir = tmp_dir(), path[500], *out = NULL;
    int code;

    (void)state;
    snprintf(path, sizeof path, "%s/liblmdb.so.0", dir);
    file_write(path, "no library\n");
    snprintf(path, sizeof path, "%s/c.yaml", dir);
    file_write(path,
               "version: 1\n"
               "listeners: [{name: a, address: \"127.0.0.1:1\"}]\n"
               "modules: {path: [%s]}\n"
               "plugins: {site: {module: respond}}\n"
               "routes: [{chain: [site]}]\n"
               "store: {backend: lmdb, path: %s/store.lmdb}\n",
               getenv("BULKHEAD_PLUGINS"), dir);
    code = run_command(&out, "LD_LIBRARY_PATH=%s %s check -c %s 2>&1", dir, getenv("BULKHEAD"),
                       path);
    assert_int_equal(code, 2);
    /* Either this build knows no LMDB, or it cannot load it. */
    assert_non_null(strstr(out, "store.backend: "));
    assert_non_null(strstr(out, "install"));
    free(out);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_and_instances_share_what_their_namespace_has),
        cmocka_unit_test(open_in_the_trial_before_the_start_leaves_no_trace),
        cmocka_unit_test(a_quota_holds_for_its_namespace_alone),
        cmocka_unit_test(a_worker_that_is_killed_takes_nothing_along),
        cmocka_unit_test(a_reload_and_an_upgrade_keep_it),
        cmocka_unit_test(a_bad_pointer_costs_one_request),
        cmocka_unit_test(with_lmdb_it_outlives_the_server),
        cmocka_unit_test(a_library_that_is_not_there_is_told_by_check),
        cmocka_unit_test(a_fault_with_the_stores_lock_held_ends_that_worker_alone),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
