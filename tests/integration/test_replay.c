/*
 * test_replay.c - `bulkhead replay`, and `bulkhead crashes watch`: records of a real server.
 */
#include "harness.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char config[] = "version: 1\n"
                             "server: {workers: 1}\n"
                             "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                             "modules: {path: [@PLUGINS@, @MODULES@, @DIR@]}\n"
                             "breaker: {crashes: 0}\n"
                             "plugins:\n"
                             "  log: {module: access_log, config: {path: @DIR@/access.log}}\n"
                             "  f: {module: fault, deadline: 100ms, config: {from_request: true}}\n"
                             "  own: {module: own}\n"
                             "routes:\n"
                             "  - {match: {path: /own/**}, chain: [log, own]}\n"
                             "  - {chain: [log, f]}\n"
                             "crash: {dir: @DIR@/crashes}\n";

static const char own[] =
    "#include <bulkhead.h>\n"
    "static bh_rc crash(void *self, bh_req *req, void *ctx)\n"
    "{\n"
    "    (void)self; (void)ctx;\n"
    "    if (MENDED) return bh_reply(req, 200, \"text/plain\", \"mended\");\n"
    "    *(volatile int *)16 = 1;\n"
    "    return BH_OK;\n"
    "}\n"
    "BH_PLUGIN(\"own\", \"1.0.0\", .summary = \"crashes\", .on_request = crash)\n";

static void build_own(const char *dir, const char *name, int is_mended)
{
    char *source = NULL;

    assert_true(asprintf(&source, "#define MENDED %d\n%s", is_mended, own) > 0);
    free(plugin_build(dir, name, source));
    free(source);
}

static struct server *start(void)
{
    char *dir = tmp_dir();
    struct server *srv;

    build_own(dir, "own", 0);
    srv = server_start_in(dir, config);
    server_wait_log(srv, "serving on");
    free(dir);
    return srv;
}

static void crash(struct server *srv, const char *target, size_t nth)
{
    struct response *res = server_request(srv, "GET", target, "Authorization: Bearer xyz\r\n", NULL,
                                          0);

    response_free(&res);
    free(server_crash_record(srv, nth));
}

static int replay(const struct server *srv, const char *options, char **out)
{
    return run_command(out, "%s replay -c %s %s 2>&1", getenv("BULKHEAD"), srv->config, options);
}

static void wants(const char *out, const char *text)
{
    if (strstr(out, text) == NULL)
        harness_fail(__FILE__, __LINE__, "no \"%s\" in:\n%.4000s", text, out);
}

static void wants_replay(const struct server *srv, const char *options, int status,
                         const char *text)
{
    char *out;
    int r = replay(srv, options, &out);

    if (r != status)
        harness_fail(__FILE__, __LINE__, "status %d instead of %d:\n%.4000s", r, status, out);
    wants(out, text);
    free(out);
}

static void crash_is_the_same_again(void **state)
{
    static const struct {
        const char *fault, *place;
    } faults[] = {
        {"segv", "the same crash: SIGSEGV, fault_segv_null()"},
        {"abort", "the same crash: SIGABRT, fault_abort()"},
        {"exit", "the same crash: exit, fault_exit()"},
        {"sleep", "the same crash: deadline, fault_sleep()"},
    };
    struct server *srv = start();
    char target[64], *log, path[512];

    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        snprintf(target, sizeof target, "/x?fault=%s", faults[i].fault);
        crash(srv, target, i);
        wants_replay(srv, "--last", 0, faults[i].place);
    }
    wants_replay(srv, "--last", 0, "the same stack in the plugin's code");
    wants_replay(srv, "--last", 0, "note: secrets were redacted");
    /* Neither the server's log nor its records have anything of it. */
    snprintf(path, sizeof path, "%s/access.log", srv->dir);
    log = file_read(path);
    assert_int_equal(server_crash_count(srv), sizeof faults / sizeof faults[0]);
    assert_null(strstr(log, "replay"));
    free(log);
    assert_int_equal(server_stop(&srv), 0);
}

static void mended_object_does_not_crash(void **state)
{
    struct server *srv = start();
    char options[512];

    (void)state;
    crash(srv, "/own/a", 0);
    wants_replay(srv, "--last", 0, "the same crash: SIGSEGV, crash()");
    build_own(srv->dir, "mended", 1);
    snprintf(options, sizeof options, "--last --module %s/mended.so", srv->dir);
    wants_replay(srv, options, 3, "no crash: the request was answered 200");
    wants_replay(srv, "--last --chain", 0, "the same crash");
    assert_int_equal(server_stop(&srv), 0);
}

static void json_says_how_it_compares(void **state)
{
    struct server *srv = start();
    json_t *json;
    char *out;

    (void)state;
    crash(srv, "/own/a", 0);
    assert_int_equal(run_command(&out, "%s replay --last -c %s --json 2>/dev/null",
                                 getenv("BULKHEAD"), srv->config),
                     0);
    json = json_loads(out, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "result")), "same");
    assert_int_equal(json_integer_value(json_object_get(json, "status")), 500);
    assert_true(json_is_array(json_object_get(json_object_get(json, "crash"), "backtrace")));
    json_decref(json);
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

static void worker_that_died_leaves_its_request_to_replay(void **state)
{
    struct server *srv;
    char *record;

    (void)state;
    if (harness_is_sanitized()) {
        print_message("skipped: locks of libc are not seen under a sanitizer\n");
        skip();
    }
    srv = start();
    crash(srv, "/x?fault=stdio_lock", 0);
    record = server_crash_record(srv, 0);
    wants(record, "\"/x?fault=stdio_lock\"");
    free(record);
    wants_replay(srv, "--last", 0, "the same crash: SIGSEGV, fault_stdio_lock()");
    assert_int_equal(server_stop(&srv), 0);
}

static void debugger_stops_at_the_crash(void **state)
{
    struct server *srv;

    (void)state;
    if (harness_is_sanitized() || run_command(NULL, "command -v gdb") != 0) {
        print_message("skipped: there is no gdb here (apt-get install gdb), or a sanitizer is\n");
        skip();
    }
    srv = start();
    crash(srv, "/own/a", 0);
    wants_replay(srv, "--last --gdb -- -batch -ex bt </dev/null", 0, "#0  crash (self=");
    crash(srv, "/x?fault=abort", 1);
    wants_replay(srv, "--last --gdb -- -batch -ex bt </dev/null", 0, "fault_abort");
    assert_int_equal(server_stop(&srv), 0);
}

static void mistakes_are_told(void **state)
{
    struct server *srv = start();
    char options[512];

    (void)state;
    wants_replay(srv, "--last", 1, "no crash is recorded");
    crash(srv, "/own/a", 0);
    wants_replay(srv, "1999", 1, "no record '1999'");
    wants_replay(srv, "", 2, "bad arguments");
    wants_replay(srv, "--last --json --gdb", 2, "bad arguments");
    snprintf(options, sizeof options, "%s", srv->config);
    wants_replay(srv, "/nowhere.json", 2, "/nowhere.json");
    server_rewrite_config(srv, "version: 1\nlisteners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                               "plugins: {r: {module: respond}}\nroutes: [{chain: [r]}]\n"
                               "crash: {dir: @DIR@/crashes}\n");
    wants_replay(srv, "--last", 2, "there is no plugin 'own' in it");
    assert_int_equal(server_stop(&srv), 0);
}

static void watch_prints_records_as_they_come(void **state)
{
    const char *bulkhead = getenv("BULKHEAD");
    struct server *srv = start();
    char *out, path[512];
    pid_t pid;

    (void)state;
    snprintf(path, sizeof path, "%s/watched", srv->dir);
    pid = fork();
    if (pid == 0) {
        if (bulkhead == NULL || freopen(path, "w", stdout) == NULL)
            _exit(1);
        execl(bulkhead, "bulkhead", "crashes", "watch", "-c", srv->config, NULL);
        _exit(127);
    }
    /* Waits in its read of inotify. */
    eventually(run_command(NULL, "grep -q inotify /proc/%d/wchan /proc/%d/fdinfo/*", (int)pid,
                           (int)pid) == 0);
    crash(srv, "/own/a", 0);
    eventually((out = file_read(path)) != NULL &&
               (strstr(out, "SIGSEGV in plugin 'own', on_request, crash()") != NULL ||
                (free(out), false)));
    free(out);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void workers_are_listed(void **state)
{
    struct server *srv = start();
    json_t *json;
    char *out;

    (void)state;
    assert_int_equal(run_command(&out, "RUNTIME_DIRECTORY=%s %s worker ls -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    wants(out, "WORKER  PID");
    wants(out, "serving");
    free(out);
    assert_int_equal(run_command(&out, "RUNTIME_DIRECTORY=%s %s worker ls -c %s --json", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    json = json_loads(out, 0, NULL);
    assert_true(json_array_size(json) >= 1);
    json_decref(json);
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_is_the_same_again),
        cmocka_unit_test(mended_object_does_not_crash),
        cmocka_unit_test(json_says_how_it_compares),
        cmocka_unit_test(worker_that_died_leaves_its_request_to_replay),
        cmocka_unit_test(debugger_stops_at_the_crash),
        cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(watch_prints_records_as_they_come),
        cmocka_unit_test(workers_are_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
