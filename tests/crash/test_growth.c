/*
 * test_growth.c - ten thousand crashes in a row, or ten thousand threads that end well: the worker has
 * as much memory, as many threads and descriptors as before.
 *
 * For every fault of the matrix that is recovered in on_request as well: for a third of a second, or
 * 10,000 times each with BULKHEAD_GROWTH=full in the environment, some ten minutes.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "matrix.h"

/* Jobs may be more than threads for a moment: one that crashed is answered before its thread is idle. */
enum { LOOP_AND_WATCHDOG = 2, POOL_MAX = 4 };

/* Mapped: an arena of malloc is 64 MiB, and how many there are depends on chance. */
enum { WARM_UP = 1000, REPEATS = 10000, MAX_GROWTH_KIB = 512, MAX_MAPPED_KIB = 262144 };

static const char config[] = "version: 1\n"
                             "server: {workers: 1}\n"
                             "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                             "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                             "plugins:\n"
                             "  pages: {module: error_pages}\n"
                             "  crash: {module: fault, config: {fault: %s, at: %s}}\n"
                             "  threads: {module: threads}\n"
                             "  hoard: {module: hoard}\n"
                             "routes:\n"
                             "  - {match: {path: /threads}, chain: [threads]}\n"
                             "  - {match: {path: /hoard}, chain: [pages, hoard]}\n"
                             "  - {chain: [pages, crash]}\n"
                             "logs: {error: {level: error}}\n"
                             "crash: {dir: @DIR@/crashes, keep: 100}\n"
                             "breaker: {crashes: 0}\n";

struct usage {
    long rss_kib, size_kib, threads, descriptors;
};

static long status_line(const char *status, const char *name)
{
    const char *line = strstr(status, name);

    assert_non_null(line);
    return strtol(line + strlen(name), NULL, 10);
}

static struct usage usage_of(pid_t pid)
{
    struct usage usage = {0};
    char path[64], *status;
    DIR *dir;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    status = file_read(path);
    assert_non_null(status);
    usage.rss_kib = status_line(status, "\nVmRSS:");
    usage.size_kib = status_line(status, "\nVmSize:");
    usage.threads = status_line(status, "\nThreads:");
    free(status);
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        usage.descriptors++;
    closedir(dir);
    return usage;
}

static void crash(struct conn *conn, int n)
{
    for (int i = 0; i < n; i++) {
        struct response *res = conn_request(conn, "GET", "/", NULL, NULL, 0);

        assert_int_equal(res->status, 500);
        assert_false(res->closed);
        response_free(&res);
    }
}

/* Each has leaked 4 KiB, two texts and a descriptor. */
static void leak_and_crash(struct conn *conn, int n)
{
    for (int i = 0; i < n; i++) {
        struct response *res = conn_request(conn, "GET", "/hoard?leak=4096&text=1&fds=1&crash=1",
                                            NULL, NULL, 0);

        assert_int_equal(res->status, 500);
        response_free(&res);
    }
}

static void run_threads(struct conn *conn, int n)
{
    char target[64], expected[32];

    snprintf(expected, sizeof expected, "%d\n", n / 100);
    for (int done = 0; done < n; done += n / 100) {
        struct response *res;

        snprintf(target, sizeof target, "/threads?n=%d&timers=%d", n / 100 - 1, 1);
        res = conn_request(conn, "GET", target, NULL, NULL, 0);
        assert_int_equal(res->status, 200);
        assert_string_equal(res->body, expected);
        response_free(&res);
    }
}

static void repeat(const char *fault, const char *at, void (*run)(struct conn *conn, int n))
{
    struct server *srv = server_start(config, fault, at);
    struct conn *conn = conn_open(srv->port[0]);
    struct usage before, after;
    pid_t worker = 0, same = 0;
    long most;

    eventually(server_children(srv, "bh-worker", &worker, 1) == 1);
    run(conn, WARM_UP);
    before = usage_of(worker);
    most = strcmp(at, "offload") == 0 ? LOOP_AND_WATCHDOG + POOL_MAX : before.threads;
    run(conn, REPEATS);
    after = usage_of(worker);
    for (int64_t end = harness_deadline_ms(HARNESS_WAIT_MS);
         (after.threads > most || after.descriptors > before.descriptors) && harness_pause(end);)
        after = usage_of(worker); /* the last one's thread, or what it leaked, is on its way out */
    server_children(srv, "bh-worker", &same, 1);
    print_message("%s in %s: VmRSS %ld -> %ld KiB, VmSize %ld -> %ld KiB, threads %ld -> %ld, "
                  "descriptors %ld -> %ld\n",
                  fault, at, before.rss_kib, after.rss_kib, before.size_kib, after.size_kib,
                  before.threads, after.threads, before.descriptors, after.descriptors);
    assert_int_equal(same, worker);
    assert_in_range(after.rss_kib, 0, before.rss_kib + MAX_GROWTH_KIB);
    assert_in_range(after.size_kib, 0, before.size_kib + MAX_MAPPED_KIB);
    /* Fewer are no growth: one may have been on its way out before. */
    assert_in_range(after.threads, 0, most);
    assert_in_range(after.descriptors, 0, before.descriptors);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void ten_thousand_segmentation_faults_grow_nothing(void **state)
{
    (void)state;
    repeat("segv", "on_request", crash);
}

static void ten_thousand_aborts_grow_nothing(void **state)
{
    (void)state;
    repeat("abort", "on_request", crash);
}

static void ten_thousand_exits_grow_nothing(void **state)
{
    (void)state;
    repeat("exit", "on_request", crash);
}

static void ten_thousand_crashes_of_offloaded_jobs_grow_nothing(void **state)
{
    (void)state;
    repeat("segv", "offload", crash);
}

static void ten_thousand_crashes_that_each_leaked_grow_nothing(void **state)
{
    (void)state;
    repeat("none", "on_request", leak_and_crash);
}

static void ten_thousand_threads_grow_nothing(void **state)
{
    (void)state;
    repeat("none", "thread", run_threads);
}

/* ---- every fault of the matrix ---- */

enum { FEW = 50, FULL = 10000, A_WHILE_MS = 300 };

static const char all_faults[] =
    "version: 1\n"
    "server: {workers: 1}\n"
    "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"
    "plugins:\n"
    "  f: {module: fault, config: {from_request: true}}\n"
    "  d: {module: fault, deadline: 20ms, config: {from_request: true}}\n"
    "routes:\n"
    "  - {match: {path: /f}, chain: [f]}\n"
    "  - {match: {path: /d}, chain: [d]}\n"
    "logs: {error: {level: error}}\n"
    "crash: {dir: @DIR@/crashes, keep: 100}\n"
    "breaker: {crashes: 0}\n";

static struct conn *ask(struct conn *conn, int port, const char *target)
{
    struct response *res;

    if (conn == NULL)
        conn = conn_open(port);
    res = conn_request(conn, "GET", target, NULL, NULL, 0);
    assert_true(res->status >= 200);
    if (res->closed)
        conn_close(&conn);
    response_free(&res);
    return conn;
}

/* In one worker, all the time. */
static bool grows_nothing(struct server *srv, const struct matrix_fault *f)
{
    bool is_full = getenv("BULKHEAD_GROWTH") != NULL;
    int64_t end;
    struct usage before, after;
    struct conn *conn = NULL;
    pid_t worker = 0, same = 0;
    char target[96];
    int n = 0;

    snprintf(target, sizeof target, "/%c?fault=%s&at=on_request",
             f->cause != NULL && strcmp(f->cause, "deadline") == 0 ? 'd' : 'f', f->name);
    eventually(server_children(srv, "bh-worker", &worker, 1) == 1);
    for (int i = 0; i < (is_full ? WARM_UP : FEW); i++)
        conn = ask(conn, srv->port[0], target);
    before = usage_of(worker);
    end = harness_now_ms() + A_WHILE_MS;
    for (; n < FULL && (is_full || harness_now_ms() < end); n++)
        conn = ask(conn, srv->port[0], target);
    after = usage_of(worker);
    server_children(srv, "bh-worker", &same, 1);
    if (conn != NULL)
        conn_close(&conn);
    print_message(
        "%-18s %5d times: VmRSS %ld -> %ld KiB, threads %ld -> %ld, descriptors %ld -> %ld\n",
        f->name, n, before.rss_kib, after.rss_kib, before.threads, after.threads,
        before.descriptors, after.descriptors);
    return same == worker && after.rss_kib <= before.rss_kib + MAX_GROWTH_KIB &&
           after.threads <= before.threads && after.descriptors <= before.descriptors;
}

static void no_fault_that_is_recovered_grows_anything(void **state)
{
    struct server *srv = server_start(all_faults);
    int n_bad = 0;

    (void)state;
    server_wait_log(srv, "serving on");
    for (int row = 0; row < MATRIX_ROWS; row++)
        for (const struct matrix_fault *f = matrix[row].fault; f->name != NULL; f++)
            if (strchr(f->columns, 'a') != NULL && strchr(f->name, ':') == NULL &&
                matrix_expected(row, f, 'a') == 'R' && !grows_nothing(srv, f)) {
                print_message("row %d, %s: it grows, or the worker was replaced\n", row + 1,
                              f->name);
                n_bad++;
            }
    assert_int_equal(n_bad, 0);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_segmentation_faults_grow_nothing),
        cmocka_unit_test(ten_thousand_aborts_grow_nothing),
        cmocka_unit_test(ten_thousand_exits_grow_nothing),
        cmocka_unit_test(ten_thousand_crashes_of_offloaded_jobs_grow_nothing),
        cmocka_unit_test(ten_thousand_crashes_that_each_leaked_grow_nothing),
        cmocka_unit_test(ten_thousand_threads_grow_nothing),
        cmocka_unit_test(no_fault_that_is_recovered_grows_anything),
    };

    return cmocka_run_group_tests_name("growth", tests, NULL, NULL);
}
