/* link: -Wl,--undefined=boundary_hook */
/* (recover.c needs the section that boundary.c makes.) */
#include <getopt.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "obs/record_dir.h"

static char dir[] = "/tmp/bulkhead-crashes-XXXXXX";
static char out[100000], err[10000]; /* of the last command */

static void add_record(const char *id, const char *time)
{
    json_t *r = json_pack(
        "{ss ss ss s{ss ss ss} ss s{ss ss} ss ss s{ss si} s{ss ss ss s[[ss]]} s[{ss so sb}] ss si "
        "s{si sn} s[{ss ss ss si sb}] ss}",
        "schema", "bulkhead-crash/1", "id", id, "time", time, "plugin", "instance", "boom",
        "module", "crash", "version", "1.2.3", "hook", "on_request", "signal", "name", "SIGSEGV",
        "code_name", "SEGV_MAPERR", "verdict", "R", "verdict_text", "recovered", "where",
        "function", "explode", "line", 42, "request", "method", "GET", "target", "/x", "protocol",
        "HTTP/1.1", "headers", "Host", "h", "error_path", "plugin", "pages", "verdict",
        json_string("done"), "crashed", 0, "answered_by", "pages", "status", 500, "repeats",
        "count", 3, "last", "backtrace", "pc", "0x10", "function", "explode", "file", "src/crash.c",
        "line", 42, "is_plugin", 1, "message", "free(): \x1b[2J invalid pointer");

    assert_non_null(r);
    json_object_set_new(json_object_get(r, "where"), "file", json_string("src/crash.c"));
    assert_int_equal(record_dir_write(dir, id, r), 0);
    json_decref(r);
}

static int set_up(void **state)
{
    (void)state;
    memset(dir + strlen(dir) - 6, 'X', 6);
    if (mkdtemp(dir) == NULL)
        return -1;
    add_record("20260101T000000-w0-1", "2026-01-01T00:00:00.000Z");
    add_record("20260103T000000-w0-1", "2026-01-03T00:00:00.000Z");
    add_record("20260102T000000-w1-1", "2026-01-02T00:00:00.000Z");
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static int redirect(int fd)
{
    char path[] = "/tmp/bulkhead-out-XXXXXX";
    int file = mkstemp(path), kept = dup(fd);

    assert_true(file >= 0 && kept >= 0);
    unlink(path);
    dup2(file, fd);
    close(file);
    return kept;
}

static void restore(int fd, int kept, char *text, size_t size)
{
    ssize_t n = pread(fd, text, size - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    dup2(kept, fd);
    close(kept);
}

/* `bulkhead crashes ARGUMENTS... --dir DIR` */
static int run(const char *a, const char *b, const char *c)
{
    char *argv[] = {
        (char *)"bulkhead crashes", (char *)"--dir", dir, (char *)a, (char *)b, (char *)c, NULL};
    int argc = 3, kept_out, kept_err, r;

    while (argv[argc] != NULL)
        argc++;
    fflush(NULL);
    kept_out = redirect(STDOUT_FILENO);
    kept_err = redirect(STDERR_FILENO);
    optind = 0;
    r = cli_crashes(argc, argv);
    fflush(NULL);
    restore(STDERR_FILENO, kept_err, err, sizeof err);
    restore(STDOUT_FILENO, kept_out, out, sizeof out);
    return r;
}

static void list_is_a_table_with_the_newest_first(void **state)
{
    const char *a, *b, *c;

    (void)state;
    assert_int_equal(run("list", NULL, NULL), 0);
    a = strstr(out, "20260103T000000-w0-1");
    b = strstr(out, "20260102T000000-w1-1");
    c = strstr(out, "20260101T000000-w0-1");
    assert_memory_equal(out, "TIME ", 5);
    assert_true(a != NULL && b > a && c > b);
    assert_non_null(strstr(out, "boom"));
    assert_non_null(strstr(out, "explode() at crash.c:42"));
}

static void an_empty_folder_is_no_error(void **state)
{
    (void)state;
    tear_down(NULL);
    assert_int_equal(run("list", NULL, NULL), 0);
    assert_non_null(strstr(out, "no crash is recorded"));
    assert_int_equal(run("show", "--last", NULL), 1);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(run("list", "--json", NULL), 0);
    assert_string_equal(out, "[]\n");
}

static void list_as_json_is_a_summary(void **state)
{
    json_t *list;

    (void)state;
    assert_int_equal(run("list", "--json", NULL), 0);
    list = json_loads(out, 0, NULL);
    assert_int_equal(json_array_size(list), 3);
    assert_non_null(json_object_get(json_array_get(list, 0), "where"));
    assert_null(json_object_get(json_array_get(list, 0), "backtrace"));
    json_decref(list);
}

static void show_tells_what_one_wants_to_know_first(void **state)
{
    (void)state;
    assert_int_equal(run("show", "20260102T000000-w1-1", NULL), 0);
    assert_memory_equal(out, "Crash 20260102T000000-w1-1\n", 27);
    assert_non_null(strstr(out, "SIGSEGV in plugin 'boom' (crash 1.2.3), on_request"));
    assert_non_null(strstr(out, "src/crash.c:42"));
    assert_non_null(strstr(out, "GET /x HTTP/1.1"));
    assert_non_null(strstr(out, "Host: h"));
    assert_non_null(strstr(out, "500, by plugin 'pages'"));
    assert_non_null(strstr(out, "3 more at the same place"));
    assert_non_null(strstr(out, "#0  explode at src/crash.c:42"));
    assert_null(strchr(out, '\x1b'));
}

static void show_last_is_the_newest(void **state)
{
    (void)state;
    assert_int_equal(run("show", "--last", NULL), 0);
    assert_memory_equal(out, "Crash 20260103T000000-w0-1\n", 27);
    assert_int_equal(run("show", "--last", "--json"), 0);
    assert_memory_equal(out, "{", 1);
}

static void the_beginning_of_an_id_is_enough_while_it_is_unique(void **state)
{
    (void)state;
    assert_int_equal(run("show", "20260101", NULL), 0);
    assert_memory_equal(out, "Crash 20260101T000000-w0-1\n", 27);
    assert_int_equal(run("show", "2026", NULL), 1);
    assert_non_null(strstr(err, "3 records begin with '2026'"));
    assert_non_null(strstr(err, "20260102T000000-w1-1"));
    assert_string_equal(out, "");
}

static void mistakes_are_told(void **state)
{
    (void)state;
    assert_int_equal(run("show", "1999", NULL), 1);
    assert_non_null(strstr(err, "no record '1999'"));
    assert_int_equal(run("show", NULL, NULL), 2);
    assert_non_null(strstr(err, "--help"));
    assert_int_equal(run("show", "a", "b"), 2);
    assert_int_equal(run("lsit", NULL, NULL), 2);
    assert_int_equal(run("--nonsense", NULL, NULL), 2);
    assert_int_equal(run("--help", NULL, NULL), 0);
    assert_non_null(strstr(out, "usage: bulkhead crashes"));
}

static void what_is_no_record_is_passed_by(void **state)
{
    char path[100];
    FILE *f;

    (void)state;
    snprintf(path, sizeof path, "%s/broken.json", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(run("list", NULL, NULL), 0);
    assert_non_null(strstr(err, "not a crash record"));
    assert_non_null(strstr(out, "20260103T000000-w0-1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(list_is_a_table_with_the_newest_first),
        TEST(an_empty_folder_is_no_error),
        TEST(list_as_json_is_a_summary),
        TEST(show_tells_what_one_wants_to_know_first),
        TEST(show_last_is_the_newest),
        TEST(the_beginning_of_an_id_is_enough_while_it_is_unique),
        TEST(mistakes_are_told),
        TEST(what_is_no_record_is_passed_by),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
