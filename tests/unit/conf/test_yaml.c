#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/diag.h"
#include "conf/yaml.h"

static struct arena arena;
static struct diag diag;
static const struct yaml_node *root;

static int begin(void **state)
{
    (void)state;
    arena_init(&arena, 64u << 20);
    diag_init(&diag);
    root = NULL;
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_fini(&arena);
    diag_fini(&diag);
    return 0;
}

static int parse_n(const char *text, size_t n)
{
    return yaml_parse(text, n, "t", true, &arena, &diag, &root);
}

static int parse(const char *text)
{
    return parse_n(text, strlen(text));
}

/* The first mistake is at this place and says this. */
#define assert_mistake(LINE, COLUMN, WHAT)                               \
    do {                                                                 \
        assert_true(diag.n_errors > 0);                                  \
        if (strstr(diag.item[0].what, WHAT) == NULL)                     \
            fail_msg("'%s' does not say '%s'", diag.item[0].what, WHAT); \
        assert_int_equal(diag.item[0].line, LINE);                       \
        assert_int_equal(diag.item[0].column, COLUMN);                   \
    } while (0)

static void nodes_remember_where_they_stood(void **state)
{
    const struct yaml_node *list;

    (void)state;
    assert_int_equal(parse("a: 1\nb:\n  - x\n  - 'y'\n"), 0);
    list = yaml_get(root, "b");
    assert_int_equal(list->kind, YAML_LIST);
    assert_int_equal(list->n, 2);
    assert_int_equal(list->item[1]->line, 4);
    assert_int_equal(list->item[1]->column, 5);
    assert_true(list->item[1]->is_quoted);
    assert_string_equal(root->key[0]->text, "a");
    assert_null(yaml_get(root, "c"));
}

static void null_is_plain_only(void **state)
{
    (void)state;
    assert_int_equal(parse("[~, null, '', 'null', Null]"), 0);
    assert_true(root->item[0]->is_null);
    assert_true(root->item[1]->is_null);
    assert_false(root->item[2]->is_null);
    assert_false(root->item[3]->is_null);
    assert_false(root->item[4]->is_null);
}

static void aliases_share_their_node(void **state)
{
    (void)state;
    assert_int_equal(parse("a: &x [1, 2]\nb: *x\n"), 0);
    assert_ptr_equal(yaml_get(root, "a"), yaml_get(root, "b"));
}

static void alias_within_its_anchor_is_refused(void **state)
{
    (void)state;
    assert_int_equal(parse("a: &x [1, *x]\n"), -EINVAL);
    assert_mistake(1, 11, "unknown alias *x");
}

static void duplicate_keys_are_all_reported(void **state)
{
    (void)state;
    assert_int_equal(parse("a: 1\nb: {c: 1, c: 2}\na: 3\n"), -EINVAL);
    assert_int_equal(diag.n_errors, 2);
    assert_mistake(2, 11, "duplicate key 'c'");
}

static void merge_keys_tags_and_second_documents_are_refused(void **state)
{
    (void)state;
    assert_int_equal(parse("a: &x {b: 1}\nc: {<<: *x}\n"), -EINVAL);
    assert_mistake(2, 5, "merge keys");
    end(NULL), begin(NULL);
    assert_int_equal(parse("a: !!int 3\n"), -EINVAL);
    assert_mistake(1, 4, "tags");
    end(NULL), begin(NULL);
    assert_int_equal(parse("a: 1\n---\nb: 2\n"), -EINVAL);
    assert_mistake(2, 1, "second document");
}

static void empty_files_are_refused(void **state)
{
    static const char *const empty[] = {"", "\n\n", "# only a comment\n", "---\n", "~\n"};

    (void)state;
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        assert_int_equal(parse(empty[i]), -EINVAL);
        assert_mistake(1, 1, "empty");
        assert_null(root);
        end(NULL), begin(NULL);
    }
}

static void bytes_that_are_not_utf8_are_located(void **state)
{
    (void)state;
    assert_int_equal(parse("a: \xc3\xa4\nb: x\xff\n"), -EINVAL);
    assert_mistake(2, 5, "byte 0xff is not UTF-8");
    end(NULL), begin(NULL);
    assert_int_equal(parse("a: \xc0\xaf\n"), -EINVAL); /* overlong */
    end(NULL), begin(NULL);
    assert_int_equal(parse("a: \xed\xa0\x80\n"), -EINVAL); /* a surrogate */
    end(NULL), begin(NULL);
    assert_int_equal(parse_n("a: b\0c", 6), -EINVAL);
    assert_mistake(1, 5, "control character");
    end(NULL), begin(NULL);
    assert_int_equal(parse("\xff\xfe"
                           "a"),
                     -EINVAL); /* UTF-16 */
}

static void byte_order_mark_is_skipped(void **state)
{
    (void)state;
    assert_int_equal(parse("\xef\xbb\xbf"
                           "a: 1\n"),
                     0);
    assert_int_equal(root->key[0]->column, 1);
}

static void syntax_errors_are_located(void **state)
{
    (void)state;
    assert_int_equal(parse("a: [1, 2\nb: 3\n"), -EINVAL);
    assert_mistake(2, 2, "not YAML");
    end(NULL), begin(NULL);
    assert_int_equal(parse("a:\n\t- b\n"), -EINVAL);
    assert_int_equal(diag.item[0].line, 2);
    assert_non_null(strstr(diag.item[0].hint, "tabs"));
}

static void environment_is_expanded_outside_single_quotes(void **state)
{
    (void)state;
    setenv("BH_TEST_A", "one", 1);
    setenv("BH_TEST_EMPTY", "", 1);
    unsetenv("BH_TEST_NONE");
    assert_int_equal(parse("- ${BH_TEST_A}\n- \"x${BH_TEST_A}y\"\n- '${BH_TEST_A}'\n"
                           "- ${BH_TEST_NONE:-two}\n- \"${BH_TEST_EMPTY:-three}\"\n"
                           "- $${BH_TEST_A}\n- $BH_TEST_A\n- \"${BH_TEST_NONE:-}\"\n- a$\n"
                           "- ${BH_TEST_EMPTY}\n"),
                     0);
    assert_string_equal(root->item[0]->text, "one");
    assert_string_equal(root->item[1]->text, "xoney");
    assert_string_equal(root->item[2]->text, "${BH_TEST_A}");
    assert_string_equal(root->item[3]->text, "two");
    assert_string_equal(root->item[4]->text, "three");
    assert_string_equal(root->item[5]->text, "${BH_TEST_A}");
    assert_string_equal(root->item[6]->text, "$BH_TEST_A");
    assert_string_equal(root->item[7]->text, "");
    assert_string_equal(root->item[8]->text, "a$");
    assert_true(root->item[9]->is_null);
}

static void missing_variables_are_all_reported(void **state)
{
    (void)state;
    unsetenv("BH_TEST_NONE");
    assert_int_equal(parse("a: ${BH_TEST_NONE}\nb: ${BH_TEST_NONE}\nc: \"${1}\"\nd: \"${X\"\n"),
                     -EINVAL);
    assert_int_equal(diag.n_errors, 4);
    assert_mistake(1, 4, "BH_TEST_NONE is not set");
    assert_non_null(root); /* the rest can be checked */
    assert_true(yaml_get(root, "a")->is_bad);
}

static void variables_in_brackets_get_a_hint_about_quotes(void **state)
{
    (void)state;
    assert_int_equal(parse("a: [${HOME}]\n"), -EINVAL);
    assert_non_null(strstr(diag.item[0].hint, "double quotes"));
}

/* The parser's own words ("did not find expected key") help nobody who has lost two blanks. */
static void syntax_errors_say_what_people_mostly_did(void **state)
{
    static const struct {
        const char *text, *hint;
    } cases[] = {
        {"a:\n  b: 1\n   c: 2\n", "a line above is indented otherwise"},
        {"a:\n    b: 1\n  c: 2\n",
         "the indentation: what began in line 1 stands in column 1, this in column 3"},
        {"a:\n  - b\n   - c\nd:\n - e\n  f: 1\n", "a line above is indented otherwise"},
        {"a:\n  b: \"${HOME}\"\n c: 1\n",
         "the indentation: what began in line 1 stands in column 1, this in column 2"},
        {"a: \"x\"y\n", "a value ends with its quotes or brackets"},
        {"a: b: c\n", "a value with ': ' in it needs quotes"},
        {"a: 1\nb: \"c\nd: 2\n", "the quote of line 2 is not closed"},
        {"a: @b\n", "a value that begins with one of %@`|> needs quotes"},
        {"a: [b, c\nd: e\n", "each [ needs its ]"},
        {"a: {b: \"${HOME}\" c}\n", "each { its }"},
        {"a:\n  - b\n  c: 1\n", "a list has '- ' before each of its items"},
        {"a: ['${x}', ${HOME}]\n", "double quotes"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(parse(cases[i].text), -EINVAL);
        if (diag.item[0].hint == NULL || strstr(diag.item[0].hint, cases[i].hint) == NULL)
            fail_msg("%s%s: %s", cases[i].text, diag.item[0].what, diag.item[0].hint);
        end(NULL), begin(NULL);
    }
}

static void variables_cannot_grow_a_value_without_end(void **state)
{
    char big[60001], text[2000];
    size_t n = (size_t)sprintf(text, "a: \"");

    (void)state;
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    setenv("BH_TEST_BIG", big, 1);
    for (int i = 0; i < 40; i++)
        n += (size_t)sprintf(text + n, "${BH_TEST_BIG}");
    sprintf(text + n, "\"\n");
    assert_int_equal(parse(text), -EINVAL);
    assert_mistake(1, 4, "longer than 1 MiB");
    unsetenv("BH_TEST_BIG");
}

/* ---- Bombs ---- */

static double parse_seconds(const char *text, size_t n, int *r)
{
    struct timespec a, b;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    *r = parse_n(text, n);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
}

/* pattern, again and again, up to 1 MiB. */
static void assert_cheap(const char *before, const char *pattern)
{
    size_t size = YAML_MAX_FILE, n = strlen(before), len = strlen(pattern);
    const char *scale = getenv("BULKHEAD_TEST_SCALE");
    char *text = malloc(size + 1);
    double seconds;
    int r;

    memcpy(text, before, n);
    for (; n + len <= size; n += len)
        memcpy(text + n, pattern, len);
    text[n] = '\0';
    seconds = parse_seconds(text, n, &r);
    free(text);
    assert_true(r < 0);
    assert_true(diag.n_errors > 0);
    assert_true(seconds < 2.0 * (scale != NULL ? atof(scale) : 1));
    assert_true(arena.total < 32u << 20);
    end(NULL), begin(NULL);
}

static void hostile_mebibytes_are_cheap(void **state)
{
    (void)state;
    assert_cheap("", "[");
    assert_cheap("", "{a: ");
    assert_cheap("", "- ");
    assert_cheap("", "? ");
    assert_cheap("", "a: ");
    assert_cheap("", "[]\n");
    assert_cheap("", "- a\n");
    assert_cheap("", "- [a, b]\n");
    assert_cheap("", "- &a b\n");
    assert_cheap("a: &a [1]\nb:\n", "- *a\n");
    assert_cheap("", "!!a ");
    assert_cheap("", "\"a");
    assert_cheap("", "a: b\n");
    assert_cheap("", "#");
    assert_cheap("", "%");
    assert_cheap("- \"", "${");
    assert_cheap("", "|\n");
}

static void billion_laughs_are_counted_at_full_size(void **state)
{
    char text[4096] = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
    double seconds;
    size_t n = strlen(text);
    int r;

    (void)state;
    for (int i = 1; i < 9; i++) {
        n += (size_t)sprintf(text + n, "a%d: &a%d [", i, i);
        for (int j = 0; j < 10; j++)
            n += (size_t)sprintf(text + n, "%s*a%d", j > 0 ? ", " : "", i - 1);
        n += (size_t)sprintf(text + n, "]\n");
    }
    seconds = parse_seconds(text, n, &r);
    assert_int_equal(r, -E2BIG);
    assert_int_equal(diag.item[0].line, 5);
    assert_true(seconds < 0.5);
}

static void aliases_cannot_hide_depth(void **state)
{
    char text[4096] = "- &a0 [x]\n";
    size_t n = strlen(text);

    (void)state;
    for (int i = 1; i < 60; i++)
        n += (size_t)sprintf(text + n, "- &a%d [*a%d]\n", i, i - 1);
    assert_int_equal(parse(text), -E2BIG);
    assert_non_null(strstr(diag.item[0].what, "deeper than 32"));
}

static void unreadable_files_say_why(void **state)
{
    (void)state;
    assert_int_equal(yaml_load("/nonexistent/x.yaml", &arena, &diag, &root), -ENOENT);
    assert_string_equal(diag.item[0].file, "/nonexistent/x.yaml");
    assert_int_equal(yaml_load("/", &arena, &diag, &root), -EISDIR);
    assert_non_null(strstr(diag.item[1].what, "directory"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(nodes_remember_where_they_stood),
        TEST(null_is_plain_only),
        TEST(aliases_share_their_node),
        TEST(alias_within_its_anchor_is_refused),
        TEST(duplicate_keys_are_all_reported),
        TEST(merge_keys_tags_and_second_documents_are_refused),
        TEST(empty_files_are_refused),
        TEST(bytes_that_are_not_utf8_are_located),
        TEST(byte_order_mark_is_skipped),
        TEST(syntax_errors_are_located),
        TEST(environment_is_expanded_outside_single_quotes),
        TEST(missing_variables_are_all_reported),
        TEST(variables_in_brackets_get_a_hint_about_quotes),
        TEST(syntax_errors_say_what_people_mostly_did),
        TEST(variables_cannot_grow_a_value_without_end),
        TEST(hostile_mebibytes_are_cheap),
        TEST(billion_laughs_are_counted_at_full_size),
        TEST(aliases_cannot_hide_depth),
        TEST(unreadable_files_say_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
