#include "ipc/notice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct notices ring;

static int empty(void **state)
{
    (void)state;
    memset(&ring, 0, sizeof ring);
    return 0;
}

static void write_number(int i)
{
    char text[16];
    int n = snprintf(text, sizeof text, "%d", i);

    notice_write(&ring, 7, 1000 + i, "counted", text, (size_t)n);
}

static void what_was_written_is_read_once_and_in_order(void **state)
{
    struct notice got;
    uint32_t seen = 0, lost;
    char want[16];

    (void)state;
    for (int i = 0; i < 100; i++) {
        write_number(i);
        assert_true(notice_read(&ring, &seen, &got, &lost));
        snprintf(want, sizeof want, "%d", i);
        assert_string_equal(got.text, want);
        assert_string_equal(got.name, "counted");
        assert_int_equal(got.plugin, 7);
        assert_int_equal(got.time_ns, 1000 + i);
        assert_int_equal(lost, 0);
        assert_false(notice_read(&ring, &seen, &got, &lost));
    }
}

static void a_reader_that_is_late_is_told_what_is_gone(void **state)
{
    struct notice got;
    uint32_t seen = 0, lost, n = 0;

    (void)state;
    for (int i = 0; i < 100; i++)
        write_number(i);
    assert_true(notice_read(&ring, &seen, &got, &lost));
    assert_int_equal(lost, 100 - (NOTICES - 1));
    assert_string_equal(got.text, "69");
    for (n = 1; notice_read(&ring, &seen, &got, &lost); n++)
        assert_int_equal(lost, 0);
    assert_int_equal(n, NOTICES - 1);
    assert_string_equal(got.text, "99");
}

static void texts_are_cut(void **state)
{
    char large[1000];
    struct notice got;
    uint32_t seen = 0, lost;

    (void)state;
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    notice_write(&ring, 1, 0, large, large, sizeof large - 1);
    assert_true(notice_read(&ring, &seen, &got, &lost));
    assert_int_equal(strlen(got.name), NOTICE_NAME - 1);
    assert_int_equal(strlen(got.text), NOTICE_TEXT - 1);
}

/* A plugin's stray write, say. */
static void nonsense_in_the_ring_ends(void **state)
{
    struct notice got;
    uint32_t seen = 5, lost, n = 0;

    (void)state;
    memset(&ring, 0xff, sizeof ring);
    while (notice_read(&ring, &seen, &got, &lost)) {
        assert_true(strlen(got.name) < NOTICE_NAME && strlen(got.text) < NOTICE_TEXT);
        n++;
    }
    assert_true(n < NOTICES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_was_written_is_read_once_and_in_order, empty),
        cmocka_unit_test_setup(a_reader_that_is_late_is_told_what_is_gone, empty),
        cmocka_unit_test_setup(texts_are_cut, empty),
        cmocka_unit_test_setup(nonsense_in_the_ring_ends, empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
