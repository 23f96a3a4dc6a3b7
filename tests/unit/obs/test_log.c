#include "obs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "ipc/metrics.h"
#include "obs/timestamp.h"

#define STAMP_LEN 24

static char path[] = "/tmp/bulkhead-log-XXXXXX";
static char text[1 << 20];

static int make_file(void **state)
{
    int fd;

    (void)state;
    memset(path + strlen(path) - 6, 'X', 6);
    fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int drop_file(void **state)
{
    (void)state;
    log_open("-", LOG_INFO, false);
    log_set_role("");
    return unlink(path);
}

static size_t read_log(void)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);

    close(fd);
    assert_true(n >= 0);
    text[n] = '\0';
    return (size_t)n;
}

/* What the only line says after its time stamp. */
static const char *said(void)
{
    assert_true(read_log() > STAMP_LEN);
    return text + STAMP_LEN;
}

static void a_line_says_when_how_bad_who_and_what(void **state)
{
    int ms;
    struct tm tm;

    (void)state;
    assert_int_equal(log_open(path, LOG_INFO, false), 0);
    log_set_role("worker 0");
    log_error("%d of %s", 3, "four");
    assert_string_equal(said(), " error worker 0: 3 of four\n");
    assert_int_equal(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &tm.tm_year, &tm.tm_mon,
                            &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &ms),
                     7);
}

/* Logs more than fits into what stderr is now, then reads that, and logs once more. */
static void fill_stderr(int from)
{
    int64_t begin = clock_mono_ms();
    ssize_t n;

    assert_int_equal(log_open("-", LOG_INFO, LOG_TEXT), 0);
    for (int i = 0; i < 20000; i++)
        log_error("line %d", i);
    assert_in_range(clock_mono_ms() - begin, 0, 5000);
    fcntl(from, F_SETFL, O_NONBLOCK);
    while (read(from, text, sizeof text - 1) > 0)
        continue;
    log_error("the reader is back");
    n = read(from, text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
}

static void a_reader_who_does_not_read_holds_up_nobody(void **state)
{
    int before = dup(STDERR_FILENO), pipes[2], sockets[2];

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    dup2(pipes[1], STDERR_FILENO);
    fill_stderr(pipes[0]);
    assert_int_equal(fcntl(pipes[1], F_GETFL) & O_NONBLOCK, 0); /* others have it, too */
    dup2(before, STDERR_FILENO);
    assert_non_null(strstr(text, "the reader is back\n"));
    assert_non_null(strstr(text, " lines of this log were lost"));

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    dup2(sockets[1], STDERR_FILENO);
    fill_stderr(sockets[0]);
    dup2(before, STDERR_FILENO);
    assert_non_null(strstr(text, "the reader is back\n"));
    assert_non_null(strstr(text, " lines of this log were lost"));

    log_open("-", LOG_INFO, LOG_TEXT);
    for (int i = 0; i < 2; i++) {
        close(pipes[i]);
        close(sockets[i]);
    }
    close(before);
}

static void a_fifo_without_a_reader_is_an_error_and_no_wait(void **state)
{
    (void)state;
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(log_open(path, LOG_INFO, LOG_TEXT), -ENXIO);
}

static void less_severe_lines_are_left_out(void **state)
{
    (void)state;
    assert_int_equal(log_open(path, LOG_WARN, false), 0);
    log_info("no");
    log_debug("no");
    assert_false(log_is_on(LOG_INFO));
    assert_int_equal(read_log(), 0);
    log_warn("yes");
    assert_string_equal(said(), " warn: yes\n");
}

static void a_plugins_line_names_the_instance(void **state)
{
    (void)state;
    assert_int_equal(log_open(path, LOG_INFO, false), 0);
    log_plugin(LOG_INFO, "limit", NULL, NULL, "bucket\nempty\n", 13);
    assert_string_equal(said(), " info: plugin limit: bucket\\nempty\n");
}

static void nothing_in_a_message_can_forge_a_line(void **state)
{
    (void)state;
    assert_int_equal(log_open(path, LOG_INFO, false), 0);
    log_info("a\r\n2026 error: b\033[2J\x7f\xff\tc \xc3\xa9 \xc2\x9b");
    assert_string_equal(said(),
                        " info: a\\x0d\\n2026 error: b\\x1b[2J\\x7f\\xff\\tc \xc3\xa9 \\x9b\n");
}

static void json_lines_are_json(void **state)
{
    json_t *json;

    (void)state;
    assert_int_equal(log_open(path, LOG_INFO, true), 0);
    log_set_role("worker 1");
    log_plugin(LOG_ERROR, "a\"b", NULL, NULL, "q\"\\\001\xff\n.", 7);
    read_log();
    json = json_loads(text, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "level")), "error");
    assert_string_equal(json_string_value(json_object_get(json, "role")), "worker 1");
    assert_string_equal(json_string_value(json_object_get(json, "plugin")), "a\"b");
    assert_string_equal(json_string_value(json_object_get(json, "message")),
                        "q\"\\\001\xef\xbf\xbd\n.");
    json_decref(json);
}

static void a_line_about_a_request_names_it(void **state)
{
    const struct log_subject both = {.id = {"7f3a", 4}, .trace_time = {"1795474800.123", 14}};
    const struct log_subject timed = {.trace_time = {"1795474800.123", 14}};
    json_t *json;

    (void)state;
    assert_int_equal(log_open(path, LOG_INFO, LOG_TEXT), 0);
    log_plugin(LOG_INFO, "auth", NULL, &both, "no", 2);
    assert_string_equal(said(), " info: plugin auth [id 7f3a, trace time 1795474800.123]: no\n");
    drop_file(state);
    make_file(state);
    assert_int_equal(log_open(path, LOG_INFO, LOG_TEXT), 0);
    log_write_about(LOG_WARN, &timed, "late by %d", 3);
    assert_string_equal(said(), " warn: [trace time 1795474800.123]: late by 3\n");
    drop_file(state);
    make_file(state);
    assert_int_equal(log_open(path, LOG_INFO, LOG_JSON), 0);
    log_plugin(LOG_INFO, "auth", NULL, &both, "no", 2);
    read_log();
    json = json_loads(text, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "id")), "7f3a");
    assert_string_equal(json_string_value(json_object_get(json, "trace_time_anchor")),
                        "1795474800.123");
    json_decref(json);
}

/* A client may have chosen its id. */
static void a_requests_id_can_forge_nothing(void **state)
{
    static const char bad[] = "x]: all is well\n{\"a\":\"[";
    const struct log_subject about = {.id = {bad, sizeof bad - 1}};
    char large[5000];
    const struct log_subject huge = {.id = {large, sizeof large}};

    (void)state;
    assert_int_equal(log_open(path, LOG_INFO, LOG_TEXT), 0);
    log_plugin(LOG_INFO, "p", NULL, &about, "no", 2);
    assert_string_equal(said(),
                        " info: plugin p [id x\\x5d:\\x20all\\x20is\\x20well\\x0a{\"a\":\"\\x5b]: "
                        "no\n");
    drop_file(state);
    for (int is_json = 0; is_json < 2; is_json++) {
        make_file(state);
        memset(large, '\001', sizeof large);
        assert_int_equal(log_open(path, LOG_INFO, is_json ? LOG_JSON : LOG_TEXT), 0);
        log_plugin(LOG_INFO, "p", NULL, &huge, "what matters", 12);
        assert_true(read_log() < 2000);
        assert_non_null(strstr(text, "what matters"));
        if (is_json == 0)
            drop_file(state);
    }
}

static void a_long_line_is_cut_and_stays_whole(void **state)
{
    static char message[10000];

    (void)state;
    for (int is_json = 0; is_json < 2; is_json++) {
        json_t *json;

        assert_int_equal(log_open(path, LOG_INFO, is_json), 0);
        for (int unit = 0; unit < 2; unit++) {
            size_t n;

            /* An escape that is as long as possible, and must not be cut in two. */
            memset(message, unit == 0 ? 'x' : '\002', sizeof message);
            log_plugin(LOG_INFO, "p", NULL, NULL, message, sizeof message);
            n = read_log();
            assert_true(n > 4000 && n <= 4096);
            assert_int_equal(text[n - 1], '\n');
            assert_non_null(strstr(text, "..."));
            assert_null(memchr(text, '\n', n - 1));
            json = json_loads(text, 0, NULL);
            assert_true(!is_json || json != NULL);
            json_decref(json);
            assert_int_equal(truncate(path, 0), 0);
        }
    }
}

static void *write_many(void *arg)
{
    for (int i = 0; i < 500; i++)
        log_info("thread %d %0200d", i, 7);
    return arg;
}

static void lines_of_threads_do_not_mix(void **state)
{
    pthread_t thread[4];
    int n = 0;

    (void)state;
    assert_int_equal(log_open(path, LOG_INFO, false), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, write_many, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    read_log();
    for (char *p = text, *eol; (eol = strchr(p, '\n')) != NULL; p = eol + 1, n++) {
        assert_memory_equal(p + STAMP_LEN, " info: thread ", 14);
        assert_memory_equal(eol - 4, "0007", 4);
        assert_true(eol - p >= STAMP_LEN + 14 + 2 + 200 && eol - p <= STAMP_LEN + 14 + 4 + 200);
    }
    assert_int_equal(n, 2000);
}

static void reopening_follows_a_rotation(void **state)
{
    char old[sizeof path + 4];

    (void)state;
    snprintf(old, sizeof old, "%s.1", path);
    assert_int_equal(log_open(path, LOG_INFO, false), 0);
    log_info("before");
    assert_int_equal(rename(path, old), 0);
    assert_int_equal(log_reopen(), 0);
    log_info("after");
    assert_string_equal(said(), " info: after\n");
    unlink(old);
}

static int count_lines(const char *what)
{
    int n = 0;

    read_log();
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

static void equal_lines_are_written_a_few_times_and_counted(void **state)
{
    (void)state;
    for (int is_json = 0; is_json < 2; is_json++) {
        assert_int_equal(truncate(path, 0), 0);
        assert_int_equal(log_open(path, LOG_INFO, is_json), 0);
        log_set_role("");
        log_limit_repeats(2);
        for (int i = 0; i < 10; i++) {
            log_info("same");
            log_plugin(LOG_INFO, "p", NULL, NULL, "same",
                       4); /* another line: somebody else says it */
            log_info("number %d", i);
        }
        assert_int_equal(count_lines(is_json ? "\"message\":\"same\"" : " same\n"), 4);
        assert_int_equal(count_lines("number "), 10);
        log_tell_repeats(false); /* their time is not over */
        assert_int_equal(count_lines("repeated"), 0);
        assert_true(log_next_ms() != INT64_MAX);
        log_tell_repeats(true);
        assert_int_equal(count_lines(is_json ? "\"repeated\":8" : "(repeated 8 times) "), 2);
        log_tell_repeats(true);
        assert_int_equal(count_lines("repeated"), 2);
        assert_true(log_next_ms() == INT64_MAX);
    }
    log_limit_repeats(0);
}

static void lines_are_counted_by_level_also_those_that_are_not_written(void **state)
{
    static struct metrics_log own, plugin;

    (void)state;
    assert_int_equal(log_open(path, LOG_INFO, LOG_TEXT), 0);
    log_limit_repeats(2);
    log_count_in(&own);
    for (int i = 0; i < 5; i++) {
        log_warn("equal lines");
        log_debug("below the level");
        log_plugin(LOG_ERROR, "p", &plugin, NULL, "of a plugin", 11);
    }
    assert_int_equal(own.written[LOG_WARN], 2);
    assert_int_equal(own.suppressed[LOG_WARN], 3);
    assert_int_equal(own.written[LOG_DEBUG] + own.suppressed[LOG_DEBUG], 0);
    assert_int_equal(own.written[LOG_ERROR], 0);
    assert_int_equal(plugin.written[LOG_ERROR], 2);
    assert_int_equal(plugin.suppressed[LOG_ERROR], 3);
    log_count_in(NULL);
    log_limit_repeats(0);
    log_tell_repeats(true);
}

static void the_level_in_shared_memory_overrules(void **state)
{
    static _Atomic uint32_t level;

    (void)state;
    assert_int_equal(log_open(path, LOG_WARN, LOG_TEXT), 0);
    log_follow(&level);
    assert_false(log_is_on(LOG_INFO));
    level = LOG_DEBUG;
    assert_true(log_is_on(LOG_DEBUG));
    level = LOG_ERROR;
    assert_false(log_is_on(LOG_WARN));
    level = 77; /* a plugin has written there */
    assert_true(log_is_on(LOG_WARN));
    assert_false(log_is_on(LOG_INFO));
    log_follow(NULL);
}

static void timestamps_are_right(void **state)
{
    static const struct {
        int64_t s;
        const char *text;
    } known[] = {
        {0, "1970-01-01T00:00:00.000Z"},          {951782400, "2000-02-29T00:00:00.000Z"},
        {951868799, "2000-02-29T23:59:59.000Z"},  {951868800, "2000-03-01T00:00:00.000Z"},
        {1798761599, "2026-12-31T23:59:59.000Z"}, {4107542400, "2100-03-01T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.000Z"},
    };
    char buf[TIMESTAMP_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_int_equal(timestamp_format(known[i].s * 1000000000, buf), STAMP_LEN);
        assert_string_equal(buf, known[i].text);
    }
    timestamp_format(INT64_C(1795467600123999999), buf);
    assert_string_equal(buf, "2026-11-23T21:00:00.123Z");
    timestamp_format(INT64_MIN, buf);
    timestamp_format(INT64_MAX, buf);
    assert_int_equal(strlen(buf), STAMP_LEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_file, drop_file)
        TEST(a_line_says_when_how_bad_who_and_what),
        TEST(a_reader_who_does_not_read_holds_up_nobody),
        TEST(a_fifo_without_a_reader_is_an_error_and_no_wait),
        TEST(less_severe_lines_are_left_out),
        TEST(a_plugins_line_names_the_instance),
        TEST(nothing_in_a_message_can_forge_a_line),
        TEST(json_lines_are_json),
        TEST(a_line_about_a_request_names_it),
        TEST(a_requests_id_can_forge_nothing),
        TEST(a_long_line_is_cut_and_stays_whole),
        TEST(lines_of_threads_do_not_mix),
        TEST(reopening_follows_a_rotation),
        TEST(equal_lines_are_written_a_few_times_and_counted),
        TEST(lines_are_counted_by_level_also_those_that_are_not_written),
        TEST(the_level_in_shared_memory_overrules),
        cmocka_unit_test(timestamps_are_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
