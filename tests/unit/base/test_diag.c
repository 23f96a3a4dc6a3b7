#include "base/diag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *printed(const struct diag *d)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);

    assert_non_null(f);
    diag_print(d, f);
    fclose(f);
    return text;
}

static void print_has_place_what_and_hint(void **state)
{
    struct diag d;
    char *text;

    (void)state;
    diag_init(&d);
    diag_add(&d, "a.yaml", 3, 7, "did you mean 'y'?", "unknown key '%s'", "x");
    diag_add(&d, "a.so", 0, 0, NULL, "is truncated");
    diag_add(&d, NULL, 0, 0, NULL, "no memory");
    text = printed(&d);
    assert_string_equal(text, "a.yaml:3:7: error: unknown key 'x'\n"
                              "  hint: did you mean 'y'?\n"
                              "a.so: error: is truncated\n"
                              "error: no memory\n");
    free(text);
    diag_fini(&d);
}

static void keeps_the_first_fifty_and_counts_the_rest(void **state)
{
    struct diag d;
    char *text;

    (void)state;
    diag_init(&d);
    for (int i = 1; i <= DIAG_MAX + 7; i++)
        diag_add(&d, "f", i, 1, NULL, "mistake");
    assert_int_equal(d.n, DIAG_MAX);
    assert_int_equal(d.n_errors, DIAG_MAX + 7);
    text = printed(&d);
    assert_non_null(strstr(text, "\n... and 7 more\n"));
    free(text);
    diag_fini(&d);
}

static void quoted_input_stays_on_one_line(void **state)
{
    struct diag d;

    (void)state;
    diag_init(&d);
    diag_add(&d, NULL, 0, 0, NULL, "unknown '%s'", "a\nb\033[31m");
    assert_string_equal(d.item[0].what, "unknown 'a?b?[31m'");
    diag_fini(&d);
}

static void null_diag_is_fine(void **state)
{
    (void)state;
    diag_add(NULL, "f", 1, 1, NULL, "nobody listens");
}

static void format_makes_one_line_and_cuts_it(void **state)
{
    struct diag d;
    char buf[128];

    (void)state;
    diag_init(&d);
    diag_add(&d, "f", 1, 2, "that", "this");
    diag_format(&d, 0, buf, sizeof buf);
    assert_string_equal(buf, "f:1:2: error: this; that");
    diag_format(&d, 0, buf, 10);
    assert_string_equal(buf, "f:1:2: er");
    diag_fini(&d);
}

static void sort_orders_by_place_within_a_file(void **state)
{
    struct diag d;
    char order[8] = "";

    (void)state;
    diag_init(&d);
    diag_add(&d, "z", 9, 1, NULL, "a");
    diag_add(&d, "z", 2, 8, NULL, "b");
    diag_add(&d, "z", 2, 3, NULL, "c");
    diag_add(&d, "a", 1, 1, NULL, "d");
    diag_add(&d, "z", 2, 3, NULL, "e");
    diag_sort(&d);
    for (int i = 0; i < d.n; i++)
        order[i] = d.item[i].what[0];
    /* "a" is another file: it stays behind all that was reported before it. */
    assert_string_equal(order, "cbade");
    diag_fini(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(print_has_place_what_and_hint),
        cmocka_unit_test(keeps_the_first_fifty_and_counts_the_rest),
        cmocka_unit_test(quoted_input_stays_on_one_line),
        cmocka_unit_test(null_diag_is_fine),
        cmocka_unit_test(format_makes_one_line_and_cuts_it),
        cmocka_unit_test(sort_orders_by_place_within_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
