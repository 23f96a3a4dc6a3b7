#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "conf/yaml.h"

static const char *why;

static void durations_have_units(void **state)
{
    static const struct {
        const char *text;
        unsigned long long ms;
    } good[] = {{"0", 0},          {"0s", 0},       {"50ms", 50},     {"10s", 10000},
                {"5m", 300000},    {"1h", 3600000}, {"1d", 86400000}, {"1.5s", 1500},
                {"0.25h", 900000}, {"10 s", 10000}};
    unsigned long long ms;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(value_duration_ms(good[i].text, &ms, &why), 0);
        assert_int_equal(ms, good[i].ms);
    }
}

static void bad_durations_are_refused(void **state)
{
    static const char *const bad[] = {
        "",      "10",  "s",   "-1s",           "1S",
        "1 min", "1.s", ".5s", "0.1ms",         "1e3s",
        "1..5s", " 1s", "1s ", "213503982335d", "99999999999999999999999s",
        "0x10s", "inf"};
    unsigned long long ms = 77;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_true(value_duration_ms(bad[i], &ms, &why) < 0);
        assert_int_equal(ms, 77);
        assert_string_equal(why, "a duration such as 50ms, 10s, 5m, 1h");
    }
}

static void sizes_are_decimal_or_binary(void **state)
{
    static const struct {
        const char *text;
        unsigned long long bytes;
    } good[] = {{"0", 0},
                {"512", 512},
                {"512B", 512},
                {"8KiB", 8192},
                {"10kB", 10000},
                {"10KB", 10000},
                {"1.5MiB", 1572864},
                {"2GB", 2000000000},
                {"1TiB", 1ull << 40},
                {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {
        "",     "8K", "8kb", "8Kib", "-1", "1.0001KiB", "x", "18446744073709551616", "16777216TiB",
        "1,5MB"};
    unsigned long long v;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(value_size(good[i].text, &v, &why), 0);
        assert_true(v == good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_true(value_size(bad[i], &v, &why) < 0);
}

static void integers_never_overflow(void **state)
{
    static const char *const bad[] = {
        "",   "+",  "1.0", "1e3", "0x1f", "9223372036854775808", "-9223372036854775809",
        " 1", "1 ", "--1", "one"};
    long long v;

    (void)state;
    assert_int_equal(value_int("-9223372036854775808", &v, &why), 0);
    assert_true(v == INT64_MIN);
    assert_int_equal(value_int("+12", &v, &why), 0);
    assert_int_equal(v, 12);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_true(value_int(bad[i], &v, &why) < 0);
}

static void doubles_are_plain_numbers(void **state)
{
    static const char *const bad[] = {"", "nan", "inf", "0x1p3", "1e999", "1.5x", "e", ".", "1 "};
    double v;

    (void)state;
    assert_int_equal(value_double("-2.5e-1", &v, &why), 0);
    assert_true(v == -0.25);
    assert_int_equal(value_double("1e-400", &v, &why), 0); /* next to nothing */
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_true(value_double(bad[i], &v, &why) < 0);
}

static void booleans_are_six_words(void **state)
{
    bool v;

    (void)state;
    assert_int_equal(value_bool("Yes", &v, &why), 0);
    assert_true(v);
    assert_int_equal(value_bool("off", &v, &why), 0);
    assert_false(v);
    assert_true(value_bool("1", &v, &why) < 0);
    assert_true(value_bool("", &v, &why) < 0);
}

static void printed_values_are_read_back(void **state)
{
    static const unsigned long long values[] = {
        0, 1, 999, 1000, 1500, 60000, 90000, 3600000, 8192, 1 << 20, 1000001, 86400000, 1ull << 40};
    unsigned long long v;
    char text[40];

    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        value_print_duration(values[i], text, sizeof text);
        assert_int_equal(value_duration_ms(text, &v, &why), 0);
        assert_true(v == values[i]);
        value_print_size(values[i], text, sizeof text);
        assert_int_equal(value_size(text, &v, &why), 0);
        assert_true(v == values[i]);
    }
    value_print_duration(10000, text, sizeof text);
    assert_string_equal(text, "10s");
    value_print_size(8192, text, sizeof text);
    assert_string_equal(text, "8KiB");
}

static void nearest_is_close_or_nothing(void **state)
{
    static const char *const words[] = {"plugins", "routes", "listeners", "logs", "limits"};
    char huge[10000];

    (void)state;
    assert_string_equal(value_nearest("plugin", words, 5), "plugins");
    assert_string_equal(value_nearest("ruotes", words, 5), "routes");
    assert_string_equal(value_nearest("LOGS", words, 5), "logs");
    assert_string_equal(value_nearest("limit", words, 5), "limits");
    assert_null(value_nearest("chains", words, 5));
    assert_null(value_nearest("", words, 5));
    assert_null(value_nearest("x", words, 0));
    memset(huge, 'a', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    assert_null(value_nearest(huge, words, 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_have_units),
        cmocka_unit_test(bad_durations_are_refused),
        cmocka_unit_test(sizes_are_decimal_or_binary),
        cmocka_unit_test(integers_never_overflow),
        cmocka_unit_test(doubles_are_plain_numbers),
        cmocka_unit_test(booleans_are_six_words),
        cmocka_unit_test(printed_values_are_read_back),
        cmocka_unit_test(nearest_is_close_or_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
