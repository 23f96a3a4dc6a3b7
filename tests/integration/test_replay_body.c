/*
 * test_replay_body.c - what `bulkhead replay` knows of a request: its body, where crash.record_body keeps
 * it, and the headers of one that took its worker along.
 */
#include "harness.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char config[] = "version: 1\n"
                             "server: {workers: 1}\n"
                             "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                             "modules: {path: [@PLUGINS@, @DIR@]}\n"
                             "breaker: {crashes: 0}\n"
                             "plugins:\n"
                             "  picky: {module: picky}\n"
                             "  f: {module: fault, config: {from_request: true}}\n"
                             "routes:\n"
                             "  - {match: {path: /fault}, chain: [f]}\n"
                             "  - {chain: [picky]}\n"
                             "crash: {dir: @DIR@/crashes%s}\n";

/* Crashes over a body with "boom" in it; with X-Lock: yes while it holds a lock of libc's, which takes
 * the worker along; with X-Spoil: yes after it has destroyed what the host knows of the request. */
static const char picky[] =
    "#include <bulkhead.h>\n"
    "#include <stdio.h>\n"
    "#include <string.h>\n"
    "static int has(bh_req *req, const char *name)\n"
    "{\n"
    "    return bh_header(req, name).n > 0;\n"
    "}\n"
    "__attribute__((noinline)) static void explode(void) { *(volatile int *)16 = 1; }\n"
    "static bh_rc head(void *self, bh_req *req, void *ctx)\n"
    "{\n"
    "    (void)self; (void)ctx;\n"
    "    if (has(req, \"X-Whole\")) bh_body_want(req, BH_REQ, BH_BODY_BUFFER, 0);\n"
    "    if (!has(req, \"X-Spoil\")) return BH_CONTINUE;\n"
    "    memset((char *)req + 16, 0x41, 256);\n"
    "    flockfile(stderr);\n"
    "    explode();\n"
    "    return BH_CONTINUE;\n"
    "}\n"
    "static bh_rc body(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end)\n"
    "{\n"
    "    (void)self; (void)ctx;\n"
    "    if (memmem(chunk.p, chunk.n, \"boom\", 4) != NULL) {\n"
    "        if (has(req, \"X-Lock\")) {\n"
    "            bh_header_set(req, BH_REQ, \"X-Lock\", bh_s(\"half done\"));\n"
    "            flockfile(stderr);\n"
    "        }\n"
    "        explode();\n"
    "    }\n"
    "    return end ? bh_reply(req, 200, \"text/plain\", \"fine\") : BH_CONTINUE;\n"
    "}\n"
    "BH_PLUGIN(\"picky\", \"1.0.0\", .summary = \"crashes over bodies\", .on_request = head,\n"
    "          .on_request_body = body)\n";

static struct server *start(const char *record_body)
{
    char *dir = tmp_dir(), *source = NULL;
    struct server *srv;

    assert_true(asprintf(&source, "#define _GNU_SOURCE\n%s", picky) > 0);
    free(plugin_build(dir, "picky", source));
    srv = server_start_in(dir, config, record_body);
    server_wait_log(srv, "serving on");
    free(source);
    free(dir);
    return srv;
}

static void post(struct server *srv, const char *headers, const char *body, int status)
{
    struct response *res = server_request(srv, "POST", "/upload?token=s3cret", headers, body,
                                          strlen(body));

    assert_int_equal(res->status, status);
    response_free(&res);
}

static void wants(const char *out, const char *text)
{
    if (strstr(out, text) == NULL)
        harness_fail(__FILE__, __LINE__, "no \"%s\" in:\n%.4000s", text, out);
}

static void lacks(const char *out, const char *text)
{
    if (strstr(out, text) != NULL)
        harness_fail(__FILE__, __LINE__, "\"%s\" in:\n%.4000s", text, out);
}

/* What `bulkhead COMMAND --last OPTIONS` says. */
static char *say(const struct server *srv, const char *command, int status)
{
    char *out;
    int r = run_command(&out, "%s %s -c %s 2>&1", getenv("BULKHEAD"), command, srv->config);

    if (r != status)
        harness_fail(__FILE__, __LINE__, "%s: status %d instead of %d:\n%.4000s", command, r,
                     status, out);
    return out;
}

/* The id of the nth record, and a path beside it. */
static char *beside(struct server *srv, size_t nth, const char *suffix)
{
    char *text = server_crash_record(srv, nth), *path = NULL;
    json_t *record = json_loads(text, 0, NULL);

    assert_non_null(record);
    assert_true(asprintf(&path, "%s/crashes/%s%s", srv->dir,
                         json_string_value(json_object_get(record, "id")), suffix) > 0);
    json_decref(record);
    free(text);
    return path;
}

static void crash_over_a_body_comes_again_with_the_recorded_one(void **state)
{
    struct server *srv = start(", record_body: 4KiB");
    char *out;

    (void)state;
    post(srv, NULL, "password=hunter2&x=boom", 500);
    free(server_crash_record(srv, 0));
    out = say(srv, "replay --last", 0);
    wants(out, "the same crash: SIGSEGV, explode()");
    wants(out, "the same stack in the plugin's code");
    lacks(out, "bytes \"x\"");
    free(out);
    out = say(srv, "replay --last --body /etc/hostname", 3);
    wants(out, "no crash: the request was answered 200");
    free(out);

    post(srv, "X-Whole: yes\r\n", "again: boom", 500);
    free(server_crash_record(srv, 1));
    free(say(srv, "replay --last", 0));
    assert_int_equal(server_stop(&srv), 0);
}

static void body_is_in_a_file_of_its_own_and_shown_nowhere(void **state)
{
    struct server *srv = start(", record_body: 4KiB");
    char *body, *record, *out, *log;
    struct stat a, b;

    (void)state;
    post(srv, "X-Api-Key: s3cret\r\n", "password=hunter2&x=boom", 500);
    body = beside(srv, 0, ".body");
    record = beside(srv, 0, ".json");
    out = file_read(body);
    assert_string_equal(out, "password=hunter2&x=boom");
    free(out);
    assert_int_equal(stat(body, &a), 0);
    assert_int_equal(stat(record, &b), 0);
    assert_int_equal(a.st_mode, b.st_mode);
    assert_int_equal(a.st_mode & 07777, 0640);

    out = file_read(record);
    lacks(out, "hunter2");
    lacks(out, "s3cret");
    free(out);
    out = say(srv, "crashes show --last", 0);
    wants(out, "23 bytes had come, all are on record");
    lacks(out, "hunter2");
    lacks(out, "s3cret");
    free(out);
    out = say(srv, "crashes show --last --json", 0);
    wants(out, "\"received\": 23");
    lacks(out, "hunter2");
    free(out);
    log = server_log(srv);
    lacks(log, "hunter2");
    free(log);
    free(body);
    free(record);
    assert_int_equal(server_stop(&srv), 0);
}

static void cut_body_is_told(void **state)
{
    struct server *srv = start(", record_body: 16");
    char *out;

    (void)state;
    post(srv, NULL, "boom at the beginning of it", 500);
    free(server_crash_record(srv, 0));
    out = say(srv, "replay --last", 0);
    wants(out, "the body was cut for the record: its first 16 of 27 bytes are sent, then 11 bytes");
    free(out);
    out = say(srv, "crashes show --last", 0);
    wants(out, "27 bytes had come, the first 16 are on record");
    free(out);

    post(srv, NULL, "further behind in it: boom", 500);
    free(server_crash_record(srv, 1));
    out = say(srv, "replay --last", 3);
    wants(out, "its first 16 of 26 bytes");
    wants(out, "no crash");
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

static void no_body_is_recorded_unless_asked_for(void **state)
{
    struct server *srv = start("");
    char *out, *body;

    (void)state;
    post(srv, NULL, "boom", 500);
    body = beside(srv, 0, ".body");
    out = file_read(body);
    assert_null(out);
    out = say(srv, "replay --last", 3);
    wants(out, "the body is not on record (crash.record_body): 4 bytes \"x\" are sent");
    free(out);
    free(body);
    assert_int_equal(server_stop(&srv), 0);
}

static void skip_sanitized(void)
{
    if (harness_is_sanitized()) {
        print_message("skipped: locks of libc are not seen under a sanitizer\n");
        skip();
    }
}

static void request_that_took_its_worker_along_has_headers_and_body(void **state)
{
    struct server *srv;
    char *record, *out;

    (void)state;
    skip_sanitized();
    srv = start(", record_body: 1KiB");
    post(srv, "X-Lock: yes\r\nAuthorization: Bearer s3cret\r\n", "hunter2 boom", 500);
    record = server_crash_record(srv, 0);
    wants(record, "\"verdict\": \"X\"");
    wants(record, "/upload?token=[redacted 6 bytes]");
    wants(record, "\"HTTP/1.1\"");
    wants(record, "[redacted 13 bytes]");
    wants(record, "\"X-Lock\"");
    lacks(record, "half done"); /* by the call that died */
    lacks(record, "s3cret");
    lacks(record, "hunter2");
    free(record);
    out = say(srv, "replay --last", 0);
    wants(out, "the same crash: SIGSEGV, explode()");
    wants(out, "the same stack in the plugin's code");
    wants(out, "worker died");
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

static void damaged_request_leaves_its_label_and_idle_connections(void **state)
{
    struct server *srv;
    struct response *res;
    struct conn *idle;
    char *record, *out;

    (void)state;
    skip_sanitized();
    srv = start(", record_body: 1KiB");
    idle = conn_open(srv->port[0]);
    res = conn_request(idle, "POST", "/", NULL, "quiet", 5);
    assert_int_equal(res->status, 200);
    response_free(&res);
    post(srv, "X-Spoil: yes\r\n", "loud", 500);
    record = server_crash_record(srv, 0);
    wants(record, "\"verdict\": \"X\"");
    wants(record, "\"target\": \"/upload\"");
    lacks(record, "AAAA");
    free(record);
    res = conn_request(idle, "POST", "/", NULL, "quiet", 5);
    assert_int_equal(res->status, 200);
    response_free(&res);
    conn_close(&idle);
    out = say(srv, "replay --last", 3);
    wants(out, "only method and path are on record");
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

static void killed_worker_leaves_method_and_path(void **state)
{
    struct server *srv = start("");
    struct response *res = server_get(srv, "/fault?fault=exit_group");
    char *out;

    (void)state;
    response_free(&res);
    free(server_crash_record(srv, 0));
    out = say(srv, "replay --last", 3);
    wants(out, "only method and path are on record");
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_over_a_body_comes_again_with_the_recorded_one),
        cmocka_unit_test(body_is_in_a_file_of_its_own_and_shown_nowhere),
        cmocka_unit_test(cut_body_is_told),
        cmocka_unit_test(no_body_is_recorded_unless_asked_for),
        cmocka_unit_test(request_that_took_its_worker_along_has_headers_and_body),
        cmocka_unit_test(damaged_request_leaves_its_label_and_idle_connections),
        cmocka_unit_test(killed_worker_leaves_method_and_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
