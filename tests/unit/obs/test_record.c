#include "obs/record.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/shm.h"
#include "obs/record_dir.h"

static const struct recorder_plugin plugins[] = {
    {.instance = "ids", .module = "request_id", .object = "/p/request_id.so", .version = "1.0.0"},
    {.instance = "boom",
     .module = "crash",
     .object = "/p/crash.so",
     .version = "2.1.0",
     .build_id = "00ff"},
};

static struct shm_crash crash;
static struct record_trace trace;
static char dir[] = "/tmp/bulkhead-record-XXXXXX", sub_dir[64];

static void set_request(const char *text)
{
    crash.request_len = (uint32_t)strlen(text);
    memcpy(crash.request, text, strlen(text));
}

static int make_crash(void **state)
{
    (void)state;
    memset(&crash, 0, sizeof crash);
    memset(&trace, 0, sizeof trace);
    strcpy(crash.id, "20261123T210000-w3-000001");
    crash.time_ns = INT64_C(1795467600123000000);
    crash.pid = 100;
    crash.tid = 101;
    crash.plugin = 2;
    crash.signo = SIGSEGV;
    crash.code = SEGV_MAPERR;
    strcpy(crash.kind, "signal");
    crash.verdict = SHM_RECOVERED;
    strcpy(crash.reason, "fault in plugin code");
    crash.fault_addr = 0x10;
    crash.reg[SHM_RIP] = 0x401000;
    crash.n_modules = 1;
    crash.n_steps = 1;
    crash.step[0] = (struct shm_step){.plugin = 1, .verdict = 1, .had_hook = 1};
    crash.answered_by = 1;
    crash.status = 500;
    set_request("GET /a b HTTP/1.1\nHost: x\nAccept: a: b\n");
    trace.n = 2;
    trace.frame[0] = (struct record_frame){.pc = 0x1,
                                           .is_code = true,
                                           .is_machinery = true,
                                           .module = "libc.so.6",
                                           .function = "abort"};
    trace.frame[1] = (struct record_frame){.pc = 0x401000,
                                           .is_code = true,
                                           .is_plugin = true,
                                           .is_charged = true,
                                           .line = 42,
                                           .offset = 5,
                                           .module = "crash.so",
                                           .function = "on_request",
                                           .file = "plugins/crash/crash.c"};
    return 0;
}

static json_t *to_json(void)
{
    const struct record_source src = {.crash = &crash,
                                      .trace = &trace,
                                      .plugin = plugins,
                                      .n_plugins = 2,
                                      .hook = "on_request",
                                      .worker = 3,
                                      .repeats = 7,
                                      .repeat_ns = INT64_C(1795467601123000000)};
    json_t *record;

    record_clean(&crash, 3, 0);
    record = record_to_json(&src);
    assert_non_null(record);
    return record;
}

static void has_text(const json_t *record, const char *object, const char *member, const char *text)
{
    if (object != NULL)
        record = json_object_get(record, object);
    assert_non_null(json_string_value(json_object_get(record, member)));
    assert_string_equal(json_string_value(json_object_get(record, member)), text);
}

static void has_number(const json_t *record, const char *object, const char *member, int number)
{
    if (object != NULL)
        record = json_object_get(record, object);
    assert_true(json_is_integer(json_object_get(record, member)));
    assert_int_equal(json_integer_value(json_object_get(record, member)), number);
}

static void a_record_says_all(void **state)
{
    json_t *r = to_json(), *step, *headers;

    (void)state;
    has_text(r, NULL, "schema", "bulkhead-crash/1");
    has_text(r, NULL, "id", "20261123T210000-w3-000001");
    has_text(r, NULL, "time", "2026-11-23T21:00:00.123Z");
    has_number(r, "worker", "index", 3);
    has_number(r, "worker", "tid", 101);
    has_text(r, "plugin", "instance", "boom");
    has_text(r, "plugin", "version", "2.1.0");
    has_text(r, "plugin", "build_id", "00ff");
    has_text(r, NULL, "hook", "on_request");
    has_number(r, "signal", "number", SIGSEGV);
    has_text(r, "signal", "name", "SIGSEGV");
    has_text(r, "signal", "code_name", "SEGV_MAPERR");
    has_text(r, NULL, "verdict", "R");
    has_text(r, NULL, "fault_address", "0x10");
    has_text(r, "registers", "rip", "0x401000");
    has_text(r, "where", "function", "on_request");
    has_number(r, "where", "line", 42);
    has_number(r, "repeats", "count", 7);
    has_text(r, NULL, "answered_by", "ids");
    has_number(r, NULL, "status", 500);
    step = json_array_get(json_object_get(r, "error_path"), 0);
    has_text(step, NULL, "plugin", "ids");
    has_text(step, NULL, "verdict", "done");
    assert_int_equal(json_array_size(json_object_get(r, "backtrace")), 2);
    has_text(r, "request", "method", "GET");
    has_text(r, "request", "target", "/a b");
    has_text(r, "request", "protocol", "HTTP/1.1");
    headers = json_object_get(json_object_get(r, "request"), "headers");
    assert_int_equal(json_array_size(headers), 2);
    assert_string_equal(json_string_value(json_array_get(json_array_get(headers, 1), 1)), "a: b");
    json_decref(r);
}

static void without_a_signal_the_kind_remains(void **state)
{
    json_t *r;

    (void)state;
    crash.signo = 0;
    strcpy(crash.kind, "exit");
    crash.plugin = 0;
    r = to_json();
    assert_true(json_is_null(json_object_get(r, "signal")));
    assert_true(json_is_null(json_object_get(r, "plugin")));
    assert_true(json_is_null(json_object_get(r, "fault_address")));
    has_text(r, NULL, "kind", "exit");
    json_decref(r);
}

static void any_bytes_become_valid_json(void **state)
{
    char *text;
    json_t *r;

    (void)state;
    strcpy(crash.message, "a\xff\xc3\xa9\x1b\xed\xa0\x80");
    crash.request_len = 200;
    memset(crash.request, 0x80, 200);
    memcpy(crash.request, "GET \0\xff HTTP/1.1\nA\xff: \xf5\n", 22);
    r = to_json();
    has_text(r, NULL, "message", "a\xef\xbf\xbd\xc3\xa9\x1b\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    text = json_dumps(r, 0);
    assert_non_null(text);
    free(text);
    json_decref(r);
}

static void every_request_text_is_survived(void **state)
{
    static const char alphabet[] = "GET / \n\n: \xff";

    (void)state;
    srand(1);
    for (int i = 0; i < 3000; i++) {
        json_t *r;

        make_crash(NULL);
        crash.request_len = (uint32_t)(rand() % 60);
        for (uint32_t k = 0; k < crash.request_len; k++)
            crash.request[k] = alphabet[(size_t)rand() % sizeof alphabet];
        r = to_json();
        assert_non_null(json_object_get(r, "request"));
        json_decref(r);
    }
}

static void nonsense_is_bounded(void **state)
{
    json_t *r;

    (void)state;
    memset(&crash, 0xff, sizeof crash);
    r = to_json();
    assert_true(record_id_is_valid(crash.id));
    assert_true(crash.stack_len <= SHM_STACK_COPY);
    assert_int_equal(crash.n_modules, SHM_MODULES);
    assert_int_equal(crash.n_steps, SHM_PATH_STEPS);
    assert_int_equal(crash.request_len, SHM_REQUEST_TEXT);
    assert_int_equal(strlen(crash.kind), sizeof crash.kind - 1);
    json_decref(r);
}

static void body_is_told_by_its_length(void **state)
{
    json_t *r = to_json();

    (void)state;
    assert_true(json_is_null(json_object_get(r, "body")));
    json_decref(r);
    crash.has_body = 1;
    crash.body_len = 5;
    crash.body_seen = 9;
    r = to_json();
    has_number(r, "body", "recorded", 5);
    has_number(r, "body", "received", 9);
    assert_true(json_is_true(json_object_get(json_object_get(r, "body"), "cut")));
    json_decref(r);
    crash.body_len = UINT32_MAX;
    record_clean(&crash, 0, 0);
    assert_int_equal(crash.body_len, SHM_BODY_COPY);
    assert_int_equal(crash.body_seen, SHM_BODY_COPY);
    crash.has_body = 0;
    record_clean(&crash, 0, 0);
    assert_int_equal(crash.body_len, 0);
}

static void ids_are_safe_file_names(void **state)
{
    static const char *const bad[] = {"", "../x", "a/b", "-x", "a.json", "a b", "\xc3\xa9"};
    char text[64];

    (void)state;
    assert_true(record_id_is_valid("20261123T210000-w3-000001"));
    assert_true(record_id_is_valid("a"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "%s", bad[i]);
        assert_false(record_id_is_valid(text));
    }
    memset(text, 'a', sizeof text);
    text[40] = '\0';
    assert_false(record_id_is_valid(text));
    text[39] = '\0';
    assert_true(record_id_is_valid(text));
}

static void where_prefers_the_charged_plugin(void **state)
{
    (void)state;
    trace.n = 4;
    trace.frame[0] = (struct record_frame){.is_code = false, .is_plugin = true, .is_charged = true};
    trace.frame[1] = (struct record_frame){.is_code = true, .function = "memcpy"};
    trace.frame[2] = (struct record_frame){.is_code = true, .is_plugin = true};
    trace.frame[3] = (struct record_frame){.is_code = true, .is_plugin = true, .is_charged = true};
    assert_ptr_equal(record_where(&trace), &trace.frame[3]);
    trace.frame[3].is_machinery = true;
    assert_ptr_equal(record_where(&trace), &trace.frame[2]);
    trace.n = 2;
    assert_ptr_equal(record_where(&trace), &trace.frame[1]);
    trace.n = 1;
    assert_null(record_where(&trace));
    assert_null(record_where(NULL));
}

/* ---- the folder ---- */

static int make_folder(void **state)
{
    memset(dir + strlen(dir) - 6, 'X', 6);
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(sub_dir, sizeof sub_dir, "%s/a/crashes", dir);
    return make_crash(state);
}

static int drop_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static void write_record(const char *id, int64_t mtime_s)
{
    struct timespec times[2] = {{.tv_sec = mtime_s}, {.tv_sec = mtime_s}};
    char path[200];
    json_t *r;

    snprintf(crash.id, sizeof crash.id, "%s", id);
    r = to_json();
    assert_int_equal(record_dir_write(sub_dir, id, r), 0);
    json_decref(r);
    snprintf(path, sizeof path, "%s/%s.json", sub_dir, id);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void the_folder_is_made_with_its_parents_and_is_private(void **state)
{
    struct stat st;
    char path[200];

    (void)state;
    umask(0);
    assert_int_equal(record_dir_open(sub_dir), 0);
    assert_int_equal(stat(sub_dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0750);
    write_record("a", 1);
    snprintf(path, sizeof path, "%s/a.json", sub_dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    umask(022);
}

static void what_is_written_can_be_read(void **state)
{
    json_t *a = to_json(), *b = NULL;

    (void)state;
    assert_int_equal(record_dir_open(sub_dir), 0);
    assert_int_equal(record_dir_write(sub_dir, crash.id, a), 0);
    assert_int_equal(record_dir_read(sub_dir, crash.id, &b), 0);
    assert_true(json_equal(a, b));
    json_decref(b);
    assert_int_equal(record_dir_read(sub_dir, "other", &b), -ENOENT);
    assert_int_equal(record_dir_read(sub_dir, "../x", &b), -ENOENT);
    assert_int_equal(record_dir_write(sub_dir, "../x", a), -EINVAL);
    json_decref(a);
}

static void repeats_are_counted_in_the_record(void **state)
{
    json_t *r;

    (void)state;
    assert_int_equal(record_dir_open(sub_dir), 0);
    write_record("a", 1);
    assert_int_equal(record_dir_set_repeats(sub_dir, "a", 1000, INT64_C(1795467609000000000)), 0);
    assert_int_equal(record_dir_read(sub_dir, "a", &r), 0);
    has_number(r, "repeats", "count", 1000);
    has_text(r, "repeats", "last", "2026-11-23T21:00:09.000Z");
    has_text(r, NULL, "hook", "on_request");
    json_decref(r);
    assert_int_equal(record_dir_set_repeats(sub_dir, "none", 1, 1), -ENOENT);
}

static void the_oldest_records_make_room(void **state)
{
    struct record_file *list = NULL;
    char path[200];

    (void)state;
    assert_int_equal(record_dir_open(sub_dir), 0);
    write_record("b", 2);
    write_record("d", 4);
    write_record("a", 1);
    write_record("c", 3);
    snprintf(path, sizeof path, "%s/notes.txt", sub_dir);
    assert_int_equal(close(creat(path, 0600)), 0);
    assert_int_equal(record_dir_prune(sub_dir, 0), 0);
    assert_int_equal(record_dir_prune(sub_dir, 2), 2);
    assert_int_equal(record_dir_list(sub_dir, &list), 2);
    assert_string_equal(list[0].id, "d");
    assert_string_equal(list[1].id, "c");
    assert_int_equal(access(path, F_OK), 0);
    free(list);
}

static bool has_body(const char *id)
{
    char path[200];

    snprintf(path, sizeof path, "%s/%s.body", sub_dir, id);
    return access(path, F_OK) == 0;
}

static void bodies_go_with_their_records(void **state)
{
    char *text;
    size_t n;

    (void)state;
    assert_int_equal(record_dir_open(sub_dir), 0);
    for (const char *id = "a"; id != NULL; id = *id == 'a' ? "b" : *id == 'b' ? "c" : NULL)
        assert_int_equal(record_dir_write_body(sub_dir, id, "x\0y", 3), 0);
    write_record("a", 1);
    write_record("b", 2);
    assert_int_equal(record_dir_read_body(sub_dir, "b", &text, &n), 0);
    assert_int_equal(n, 3);
    assert_memory_equal(text, "x\0y", 3);
    free(text);
    assert_int_equal(record_dir_prune(sub_dir, 1), 1);
    assert_false(has_body("a"));
    assert_true(has_body("b") && has_body("c"));
    assert_int_equal(record_dir_open(sub_dir), 0); /* "c" never had one */
    assert_true(has_body("b"));
    assert_false(has_body("c"));
    assert_int_equal(record_dir_write_body(sub_dir, "../x", "x", 1), -EINVAL);
    assert_int_equal(record_dir_read_body(sub_dir, "../x", &text, &n), -ENOENT);
}

static void halves_of_a_dead_recorder_go(void **state)
{
    char path[200];

    (void)state;
    assert_int_equal(record_dir_open(sub_dir), 0);
    snprintf(path, sizeof path, "%s/a.json.tmp", sub_dir);
    assert_int_equal(close(creat(path, 0600)), 0);
    assert_int_equal(record_dir_open(sub_dir), 0);
    assert_int_equal(access(path, F_OK), -1);
}

static void a_damaged_record_is_told_apart(void **state)
{
    char path[200];
    json_t *r;
    FILE *f;

    (void)state;
    assert_int_equal(record_dir_open(sub_dir), 0);
    snprintf(path, sizeof path, "%s/a.json", sub_dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"id\": \"a", f);
    fclose(f);
    assert_int_equal(record_dir_read(sub_dir, "a", &r), -EBADMSG);
    assert_int_equal(record_dir_set_repeats(sub_dir, "a", 1, 1), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f)   cmocka_unit_test_setup(f, make_crash)
#define FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, drop_folder)
        TEST(a_record_says_all),
        TEST(without_a_signal_the_kind_remains),
        TEST(any_bytes_become_valid_json),
        TEST(every_request_text_is_survived),
        TEST(nonsense_is_bounded),
        TEST(body_is_told_by_its_length),
        TEST(ids_are_safe_file_names),
        TEST(where_prefers_the_charged_plugin),
        FOLDER(the_folder_is_made_with_its_parents_and_is_private),
        FOLDER(what_is_written_can_be_read),
        FOLDER(repeats_are_counted_in_the_record),
        FOLDER(the_oldest_records_make_room),
        FOLDER(bodies_go_with_their_records),
        FOLDER(halves_of_a_dead_recorder_go),
        FOLDER(a_damaged_record_is_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
