/*
 * test_access_log.c - what plugins/access_log promises.
 */
#include <bulkhead_test.h>

#define STARTS "192.0.2.1 - - [01/Jan/2026:00:00:00 +0000] "

static bh_req *get(bht *t, const char *target)
{
    bh_req *r = bht_request(t, "GET", target);

    bht_header(r, "Referer", "http://example.com/");
    bht_header(r, "User-Agent", "curl/8");
    return r;
}

/* Does the line consist of quoted strings and words without control characters, so that it splits
 * into as many fields as it should? */
static size_t count_fields(const char *line)
{
    size_t fields = 1;
    bool quoted = false;

    for (; *line != '\0' && *line != '\n'; line++) {
        assert_true((unsigned char)*line >= 0x20 && (unsigned char)*line < 0x7f);
        if (*line == '\\')
            line++;
        else if (*line == '"')
            quoted = !quoted;
        else if (*line == ' ' && !quoted)
            fields++;
    }
    assert_false(quoted);
    return fields;
}

static void writes_the_combined_format(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    bht_run(get(t, "/a?b=c"));
    assert_string_equal(bht_sink_text(t, "-"), STARTS
                        "\"GET /a?b=c HTTP/1.1\" 200 5 \"http://example.com/\" \"curl/8\"\n");
    bht_close(t);
}

static void missing_headers_are_dashes(void **state)
{
    bht *t = bht_open("path=logs/access.log", NULL);

    (void)state;
    bht_run(bht_request(t, "GET", "/"));
    assert_string_equal(bht_sink_text(t, "logs/access.log"),
                        STARTS "\"GET / HTTP/1.1\" 200 5 \"-\" \"-\"\n");
    bht_close(t);
}

static void writes_json(void **state)
{
    bht *t = bht_open("format=json", NULL);
    bh_req *r = get(t, "/a");

    (void)state;
    bht_run(r);
    assert_string_equal(
        bht_sink_text(t, "-"),
        "{\"time\":\"2026-01-01T00:00:00Z\",\"id\":\"1\",\"client\":\"192.0.2.1\","
        "\"listener\":\"public\",\"host\":\"example.com\",\"method\":\"GET\",\"target\":\"/a\","
        "\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes\":5,\"duration_ms\":0.000,"
        "\"referer\":\"http://example.com/\",\"user_agent\":\"curl/8\",\"route\":\"/**\"}\n");
    bht_close(t);
}

static void a_crash_is_found_by_its_record_in_the_line(void **state)
{
    bht *t = bht_open("format=json", NULL);
    bh_req *r = get(t, "/");

    (void)state;
    bht_attr(r, "crash_id", "20261123-0007");
    bht_run(r);
    assert_non_null(strstr(bht_sink_text(t, "-"), "\"crash_id\":\"20261123-0007\"}"));
    bht_close(t);
}

static void logs_once_however_the_request_ended(void **state)
{
    static const bh_error err = {.struct_size = sizeof err, .kind = BH_E_CRASH, .plugin = "x"};
    bht *t = bht_open(NULL);
    bh_req *r = get(t, "/");

    (void)state;
    bht_next_error(r, &err);
    bht_run(r);
    assert_string_equal(strstr(bht_sink_text(t, "-"), "\" 500"),
                        "\" 500 6 \"http://example.com/\" \"curl/8\"\n");
    bht_close(t);
}

static void no_request_breaks_the_combined_format(void **state)
{
    static const char *const nasty[] = {
        "\"",           "\\",       "\\\"",   "a\" \"b", "\n[fake] line", "\r\n",  "\x1b[31m",
        "\x7f\x80\xff", "\xc3\xa9", "' OR 1", "%0a",     "a b  c\td",     "\\x22", "?key=\" \"&x",
    };
    bht *t = bht_open(NULL);

    (void)state;
    for (size_t i = 0; i < sizeof nasty / sizeof nasty[0]; i++) {
        bh_req *r = bht_request(t, "GET", "/");
        size_t before = strlen(bht_sink_text(t, "-"));

        bht_attr(r, "raw_path", nasty[i]);
        bht_attr(r, "method", nasty[i]);
        bht_attr(r, "client", nasty[i]);
        bht_header(r, "Referer", nasty[i]);
        bht_header(r, "User-Agent", nasty[i]);
        bht_run(r);
        /* client - - [day time] "request" status bytes "referer" "agent" */
        assert_int_equal(count_fields(bht_sink_text(t, "-") + before), 10);
        assert_string_equal(strchr(bht_sink_text(t, "-") + before, '\n'), "\n");
    }
    bht_close(t);
}

static void json_strings_are_escaped_and_always_utf_8(void **state)
{
    bht *t = bht_open("format=json", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_header(r, "User-Agent",
               "\"\\\n\x01 \xc3\xa9 \xff \xc0\xaf \xed\xa0\x80 \xf0\x9f\x98\x80 \xe2\x82");
    bht_run(r);
    assert_non_null(strstr(bht_sink_text(t, "-"),
                           "\"user_agent\":\"\\\"\\\\\\u000a\\u0001 \xc3\xa9 \\ufffd "
                           "\\ufffd\\ufffd \\ufffd\\ufffd\\ufffd \xf0\x9f\x98\x80 "
                           "\\ufffd\\ufffd\""));
    bht_close(t);
}

static void long_fields_are_cut_and_the_line_stays_whole(void **state)
{
    static const char *const formats[] = {"format=combined", "format=json"};
    char big[9000];

    (void)state;
    memset(big, '\x01', sizeof big - 1); /* needs the longest escapes */
    big[sizeof big - 1] = '\0';
    for (int i = 0; i < 2; i++) {
        bht *t = bht_open(formats[i], "duration=true", NULL);
        bh_req *r = bht_request(t, "GET", "/");
        const char *line;

        bht_header(r, "Referer", big);
        bht_header(r, "User-Agent", big);
        bht_attr(r, "raw_path", big);
        bht_attr(r, "host", big);
        bht_attr(r, "client", big);
        bht_attr(r, "method", big);
        bht_attr(r, "id", big);
        bht_attr(r, "crash_id", big);
        bht_run(r);
        line = bht_sink_text(t, "-");
        assert_true(strlen(line) > 5000 && strlen(line) <= 8001);
        if (i == 0)
            assert_int_equal(count_fields(line), 11);
        else
            assert_string_equal(line + strlen(line) - 6, "...\"}\n");
        bht_close(t);
    }
}

static void secrets_in_the_query_are_not_logged(void **state)
{
    static const struct {
        const char *target, *logged;
    } rows[] = {
        {"/?token=abc&x=1", "/?token=REDACTED&x=1"},
        {"/?x=1&API_KEY=abc", "/?x=1&API_KEY=REDACTED"},
        {"/?x=1;password=abc;y", "/?x=1;password=REDACTED;y"},
        {"/?%74oken=abc", "/?%74oken=REDACTED"},
        {"/?tokens=abc&toke=1&monkey=2", "/?tokens=abc&toke=1&monkey=2"},
        {"/?token", "/?token"},
        {"/?token=", "/?token=REDACTED"},
        {"/?token=a=b", "/?token=REDACTED"},
        {"/token=abc", "/token=abc"},
        {"/?a?key=abc", "/?a?key=REDACTED"},
        {"/?=&&=%&%7", "/?=&&=%&%7"},
    };
    bht *t = bht_open(NULL);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bh_req *r = bht_request(t, "GET", rows[i].target);
        size_t before = strlen(bht_sink_text(t, "-"));
        char expected[256];

        bht_header(r, "Referer", rows[i].target);
        bht_run(r);
        snprintf(expected, sizeof expected, STARTS "\"GET %s HTTP/1.1\" 200 5 \"%s\" \"-\"\n",
                 rows[i].logged, rows[i].logged);
        assert_string_equal(bht_sink_text(t, "-") + before, expected);
    }
    bht_close(t);
}

static void the_names_to_redact_can_be_chosen(void **state)
{
    bht *t = bht_open("redact=pin,session", NULL);

    (void)state;
    bht_run(get(t, "/?pin=1&session=2&token=3"));
    assert_non_null(strstr(bht_sink_text(t, "-"), "/?pin=REDACTED&session=REDACTED&token=3 "));
    bht_close(t);
}

static void measures_with_two_reads_of_the_monotonic_clock(void **state)
{
    bht *t = bht_open("duration=true", NULL);

    (void)state;
    bht_run(get(t, "/"));
    assert_int_equal(bht_clock_reads(BH_CLOCK_MONO), 2);
    assert_int_equal(bht_clock_reads(BH_CLOCK_REAL), 0);
    assert_non_null(strstr(bht_sink_text(t, "-"), "\"curl/8\" 0.000000\n"));
    bht_close(t);
}

static void without_a_duration_reads_no_clock_but_the_loops(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    bht_run(get(t, "/"));
    assert_int_equal(bht_clock_reads(BH_CLOCK_MONO), 0);
    assert_int_equal(bht_clock_reads(BH_CLOCK_LOOP_REAL), 1);
    bht_close(t);
}

static void the_time_follows_the_clock(void **state)
{
    bht *t = bht_open("format=json", NULL);

    (void)state;
    bht_run(get(t, "/"));
    bht_clock((1709210096LL) * 1000000000LL + 999999999, 5); /* 2024-02-29 */
    bht_run(get(t, "/"));
    assert_non_null(strstr(bht_sink_text(t, "-"), "\n{\"time\":\"2024-02-29T12:34:56Z\""));
    bht_close(t);
}

static void a_full_sink_costs_the_line_and_not_the_request(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = get(t, "/");

    (void)state;
    bht_sink_full(t, true);
    bht_run(r);
    assert_int_equal(bht_status(r), 200);
    assert_string_equal(bht_sink_text(t, "-"), "");
    bht_close(t);
}

/* bht has no other plugins: the instance sets the variable in a hook of the test's. */
static bh_req *with_var(bht *t, const char *name, const char *value)
{
    bh_req *r = bht_request(t, "GET", "/");

    assert_int_equal(bh_var_set(r, name, bh_s(value)), BH_OK);
    bht_run(r);
    return r;
}

static void variables_of_other_plugins_are_added(void **state)
{
    bht *t = bht_open("vars=trace_time_anchor,ab.x", NULL);

    (void)state;
    with_var(t, "ab.x", "b \"\n");
    assert_string_equal(bht_sink_text(t, "-"),
                        STARTS "\"GET / HTTP/1.1\" 200 5 \"-\" \"-\" \"-\" \"b \\\"\\x0a\"\n");
    bht_close(t);
    t = bht_open("vars=trace_time_anchor,ab.x", "format=json", NULL);
    with_var(t, "trace_time_anchor", "1767225600.123");
    assert_non_null(strstr(bht_sink_text(t, "-"), "\"trace_time_anchor\":\"1767225600.123\"}"));
    assert_null(strstr(bht_sink_text(t, "-"), "ab.x"));
    bht_close(t);
}

static void too_many_variables_or_bad_names_are_refused(void **state)
{
    static const char *const bad[] = {"vars=a,b,c,d,e,f,g", "vars=a\"b",
                                      "vars=aaaaaaaaaabbbbbbbbbbccccccccccddddddddddE"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bht *t = bht_try(bad[i], NULL);

        assert_int_not_equal(bht_rc(t), BH_OK);
        bht_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_combined_format),
        cmocka_unit_test(missing_headers_are_dashes),
        cmocka_unit_test(writes_json),
        cmocka_unit_test(a_crash_is_found_by_its_record_in_the_line),
        cmocka_unit_test(logs_once_however_the_request_ended),
        cmocka_unit_test(no_request_breaks_the_combined_format),
        cmocka_unit_test(json_strings_are_escaped_and_always_utf_8),
        cmocka_unit_test(long_fields_are_cut_and_the_line_stays_whole),
        cmocka_unit_test(secrets_in_the_query_are_not_logged),
        cmocka_unit_test(the_names_to_redact_can_be_chosen),
        cmocka_unit_test(measures_with_two_reads_of_the_monotonic_clock),
        cmocka_unit_test(without_a_duration_reads_no_clock_but_the_loops),
        cmocka_unit_test(the_time_follows_the_clock),
        cmocka_unit_test(a_full_sink_costs_the_line_and_not_the_request),
        cmocka_unit_test(variables_of_other_plugins_are_added),
        cmocka_unit_test(too_many_variables_or_bad_names_are_refused),
    };

    return cmocka_run_group_tests_name("access_log", tests, NULL, NULL);
}
