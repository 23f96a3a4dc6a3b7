#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "ipc/crash_id.h"

/* In this order: names of one process never go back in time. */
static void name_is_utc_worker_and_microsecond(void **state)
{
    char id[RECORD_ID_SIZE];

    (void)state;
    record_id_make(id, 0, 0);
    assert_string_equal(id, "19700101T000000-000001-w0"); /* 1: 0 is the last one's */
    record_id_make(id, 3, 951827696123456789);
    assert_string_equal(id, "20000229T123456-123456-w3");
    record_id_make(id, 255, 1767225599999999000);
    assert_string_equal(id, "20251231T235959-999999-w255");
}

static void names_within_a_microsecond_differ_and_sort(void **state)
{
    char before[RECORD_ID_SIZE], id[RECORD_ID_SIZE];

    (void)state;
    record_id_make(before, 1, 1767225600000000000);
    for (int i = 0; i < 1000; i++) {
        record_id_make(id, 1, 1767225600000000000);
        assert_true(strcmp(before, id) < 0);
        memcpy(before, id, sizeof id);
    }
}

static void every_day_is_named_as_gmtime_does(void **state)
{
    (void)state;
    for (int64_t day = 21000; day < 106000; day += 13) {
        time_t t = (time_t)(day * 86400 + 3661);
        char expected[RECORD_ID_SIZE], id[RECORD_ID_SIZE];
        struct tm tm;

        assert_non_null(gmtime_r(&t, &tm));
        strftime(expected, sizeof expected, "%Y%m%dT%H%M%S-000000-w7", &tm);
        record_id_make(id, 7, (int64_t)t * 1000000000);
        assert_string_equal(id, expected);
    }
}

static void far_ends_of_time_fit(void **state)
{
    char id[RECORD_ID_SIZE];

    (void)state;
    record_id_make(id, INT32_MAX, INT64_MAX);
    assert_string_equal(id, "22620411T234716-854775-w2147483647");
    record_id_make(id, -1, INT64_MIN);
    assert_string_equal(id, "22620411T234716-854776-w0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(name_is_utc_worker_and_microsecond),
        cmocka_unit_test(names_within_a_microsecond_differ_and_sort),
        cmocka_unit_test(every_day_is_named_as_gmtime_does),
        cmocka_unit_test(far_ends_of_time_fit),
    };

    return cmocka_run_group_tests_name("crash_id", tests, NULL, NULL);
}
