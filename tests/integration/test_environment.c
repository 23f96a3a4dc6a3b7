/*
 * test_environment.c - what whoever starts the server has set before: limits, a umask. It serves with it, or
 * says what is missing.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define CONFIG                                                                                  \
    "version: 1\n"                                                                              \
    "server: {workers: 2}\n"                                                                    \
    "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"                              \
    "modules: {path: [@PLUGINS@]}\n"                                                            \
    "plugins:\n"                                                                                \
    "  hello: {module: respond, config: {body: hello}}\n"                                       \
    "  crash: {module: fault, config: {from_request: true}}\n"                                  \
    "routes: [{match: {path: /crash}, chain: [crash]}, {match: {path: /**}, chain: [hello]}]\n" \
    "crash: {dir: @DIR@/crashes}\n"

/* `bulkhead run` in a shell that has said that. */
static void run_after(const char *command, char **out)
{
    char *dir = tmp_dir(), path[512];

    snprintf(path, sizeof path, "%s/c.yaml", dir);
    file_write(path,
               "version: 1\n"
               "listeners: [{name: l, address: \"unix:%s/sock\"}]\n"
               "modules: {path: [\"%s\"]}\n"
               "plugins: {p: {module: respond}}\n"
               "routes: [{chain: [p]}]\n",
               dir, getenv("BULKHEAD_PLUGINS"));
    /* By a pipe: a file could not take what is said. */
    run_command(
        out,
        "cd %s && ulimit -c 0 && (%s && timeout 20 \"$BULKHEAD\" run -c c.yaml; echo status $?) 2>&1 | cat",
        dir, command);
    free(dir);
}

static void expect(const char *said, const char *what)
{
    if (strstr(said, what) == NULL)
        harness_fail(__FILE__, __LINE__, "no \"%s\" in:\n%s", what, said);
}

static void too_small_a_stack_is_said_and_not_crashed_on(void **state)
{
    char *said;

    (void)state;
    run_after("ulimit -s 256", &said);
    expect(said, "status 1\n");
    expect(said, "the stack may have 256 KiB here, 1024 are needed: raise the limit (ulimit -s");
    free(said);
}

static void where_no_file_may_be_written_it_says_so(void **state)
{
    char *said;

    (void)state;
    run_after("ulimit -f 0", &said);
    expect(said, "status 1\n");
    expect(said, "File too large");
    free(said);
}

static void too_few_descriptors_to_start_are_named(void **state)
{
    char *said;

    (void)state;
    run_after("ulimit -n 14", &said);
    expect(said, "status 1\n");
    expect(said, "Too many open files");
    expect(said, "ulimit -n");
    free(said);
}

/* A log that has come to its end, not a SIGXFSZ that ends one process after another. */
static void a_file_at_its_limit_ends_nobody(void **state)
{
    struct server *srv = server_start(CONFIG);
    char *log;

    pid_t pids[8];
    size_t n;

    (void)state;
    server_wait_log(srv, "serving on");
    eventually(server_children(srv, NULL, NULL, 0) ==
               4); /* a recorder, and a worker that stands by */
    n = server_children(srv, NULL, pids, 8);
    for (size_t k = 0; k < n; k++)
        run_command(NULL, "prlimit --pid %d --fsize=1:1", (int)pids[k]);
    assert_int_equal(run_command(NULL, "prlimit --pid %d --fsize=1:1", (int)srv->pid), 0);
    for (int i = 0; i < 3; i++) {
        struct response *res = server_get(srv, "/crash?fault=segv");

        assert_int_equal(res->status, 500);
        response_free(&res);
        res = server_get(srv, "/");
        assert_int_equal(res->status, 200);
        response_free(&res);
    }
    log = server_log(srv);
    assert_null(strstr(log, "SIGXFSZ"));
    free(log);
    assert_int_equal(server_stop(&srv), 0);
}

static void the_umask_does_not_lock_the_server_out(void **state)
{
    mode_t before = umask(0777);
    struct server *srv = server_start(CONFIG);
    char path[512], *record;
    struct response *res;
    struct stat st;

    (void)state;
    umask(before);
    res = server_get(srv, "/crash?fault=segv");
    assert_int_equal(res->status, 500);
    response_free(&res);
    record = server_crash_record(srv, 0);
    assert_non_null(record);
    free(record);
    snprintf(path, sizeof path, "%s/crashes", srv->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(server_stop(&srv), 0);
}

/* The last one: a hard limit is for good, in this process. */
static void few_descriptors_are_warned_of(void **state)
{
    struct server *srv;
    struct response *res;

    (void)state;
    if (harness_is_sanitized())
        skip(); /* their runtime has descriptors of its own */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){32, 32}), 0);
    srv = server_start(CONFIG);
    server_wait_log(srv, "a process may have 32 descriptors here, the master needs up to 50");
    server_wait_log(srv, "serving on");
    res = server_get(srv, "/");
    assert_int_equal(res->status, 200);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

#define T cmocka_unit_test

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(too_small_a_stack_is_said_and_not_crashed_on), T(where_no_file_may_be_written_it_says_so),
        T(too_few_descriptors_to_start_are_named),       T(a_file_at_its_limit_ends_nobody),
        T(the_umask_does_not_lock_the_server_out),       T(few_descriptors_are_warned_of),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
