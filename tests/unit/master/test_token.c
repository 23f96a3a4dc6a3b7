/*
 * test_token.c - what may be a token's file, and what may not.
 */
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

#include "base/diag.h"
#include "master/admin.h"

#define GOOD "0123456789abcdef"

static char dir[] = "/tmp/test-token-XXXXXX", path[64], other[64];
static struct diag diag;

static int begin(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/test-token-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/t", dir);
    snprintf(other, sizeof other, "%s/o", dir);
    diag_init(&diag);
    return 0;
}

static int end(void **state)
{
    (void)state;
    diag_fini(&diag);
    unlink(path);
    rmdir(path);
    unlink(other);
    return rmdir(dir);
}

static int load(struct admin_token *out)
{
    static const struct config cfg = {.path = "c.yaml"};

    return token_load(path, "token_file", &cfg, &diag, out);
}

static void put(const char *where, const char *text, size_t n, mode_t mode)
{
    FILE *f = fopen(where, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(where, mode), 0);
}

static void white_space_at_the_end_does_not_count(void **state)
{
    static const char *const texts[] = {GOOD, GOOD "\n", GOOD "\r\n", GOOD " \n\n"};
    struct admin_token first, next;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        put(path, texts[i], strlen(texts[i]), 0600);
        assert_int_equal(load(i == 0 ? &first : &next), 0);
        if (i > 0)
            assert_memory_equal(first.sum, next.sum, sizeof first.sum);
    }
}

static void what_is_no_token_is_refused_with_a_word(void **state)
{
    static const char *const texts[] = {
        "", "\n", "short", " " GOOD, GOOD "\n" GOOD, GOOD "\r" GOOD, GOOD "\xff", "\n\n\n\n" GOOD};
    static char huge[1 << 20];
    struct admin_token token;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        put(path, texts[i], strlen(texts[i]), 0600);
        assert_true(load(&token) < 0);
        assert_false(token.is_set);
        assert_int_equal(diag.n_errors, i + 1);
        assert_null(strstr(diag.item[i].what, GOOD)); /* of what was read nothing is told */
    }
    memset(huge, 'a', sizeof huge);
    put(path, huge, sizeof huge, 0600);
    assert_true(load(&token) < 0);
    put(path, GOOD "\0hidden", sizeof GOOD + 6, 0600);
    assert_true(load(&token) < 0);
}

/* A link is followed; what counts is the mode of the file that it leads to. */
static void files_open_to_others_and_no_files_are_refused(void **state)
{
    struct admin_token token;

    (void)state;
    put(path, GOOD, 16, 0604);
    assert_true(load(&token) < 0);
    put(path, GOOD, 16, 0602);
    assert_true(load(&token) < 0);
    put(path, GOOD, 16, 0640);
    assert_int_equal(load(&token), 0);
    unlink(path);
    put(other, GOOD, 16, 0644);
    assert_int_equal(symlink(other, path), 0);
    assert_true(load(&token) < 0);
    assert_int_equal(chmod(other, 0600), 0);
    assert_int_equal(load(&token), 0);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_true(load(&token) < 0); /* at once */
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(load(&token) < 0);
}

/* A link that leads nowhere is not a file that is missing: nothing is made at its end. */
static void a_missing_file_is_made_where_it_is_named(void **state)
{
    struct admin_token token;
    struct stat st;

    (void)state;
    assert_int_equal(load(&token), 0);
    assert_true(token.is_set);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    unlink(path);
    assert_int_equal(symlink(other, path), 0);
    assert_true(load(&token) < 0);
    assert_int_not_equal(access(other, F_OK), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(white_space_at_the_end_does_not_count),
        TEST(what_is_no_token_is_refused_with_a_word),
        TEST(files_open_to_others_and_no_files_are_refused),
        TEST(a_missing_file_is_made_where_it_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
