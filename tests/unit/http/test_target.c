#include "http/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"

static struct arena arena;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

struct row {
    const char *raw, *path; /* path NULL: refused */
    const char *query, *host;
};

static void check(const struct row *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct target t;
        bool ok = target_parse(&arena, bh_s(row[i].raw), &t);

        if (ok != (row[i].path != NULL) ||
            (ok && (!bh_str_eq(t.path, row[i].path) || t.path.p[t.path.n] != '\0'))) {
            print_error("%s became %s\n", row[i].raw, ok ? t.path.p : "nothing");
            fail();
        }
        if (!ok)
            continue;
        if (row[i].query == NULL)
            assert_null(t.query.p);
        else
            assert_true(bh_str_eq(t.query, row[i].query));
        if (row[i].host == NULL)
            assert_null(t.host.p);
        else
            assert_true(bh_str_eq(t.host, row[i].host));
    }
}

#define CHECK(ROWS) check(ROWS, sizeof ROWS / sizeof ROWS[0])

static void plain_paths_stay_as_they_are(void **state)
{
    static const struct row rows[] = {{"/", "/", NULL, NULL},
                                      {"/a", "/a", NULL, NULL},
                                      {"/a/", "/a/", NULL, NULL},
                                      {"/a/b.c/d..e", "/a/b.c/d..e", NULL, NULL},
                                      {"/a;b=c,d@e:f", "/a;b=c,d@e:f", NULL, NULL}};

    (void)state;
    CHECK(rows);
}

static void a_plain_path_is_not_copied(void **state)
{
    static const char raw[] = "/a/b";
    struct target t;

    (void)state;
    assert_true(target_parse(&arena, bh_s(raw), &t));
    assert_ptr_equal(t.path.p, raw);
}

static void dot_segments_are_resolved(void **state)
{
    static const struct row rows[] = {{"/.", "/", NULL, NULL},
                                      {"/..", "/", NULL, NULL},
                                      {"/./", "/", NULL, NULL},
                                      {"/../", "/", NULL, NULL},
                                      {"/../../../etc/passwd", "/etc/passwd", NULL, NULL},
                                      {"/a/.", "/a/", NULL, NULL},
                                      {"/a/..", "/", NULL, NULL},
                                      {"/a/./b", "/a/b", NULL, NULL},
                                      {"/a/../b", "/b", NULL, NULL},
                                      {"/a/b/..", "/a/", NULL, NULL},
                                      {"/a/b/../..", "/", NULL, NULL},
                                      {"/a/b/c/./../../g", "/a/g", NULL, NULL},
                                      {"/a/../../b", "/b", NULL, NULL},
                                      {"/...", "/...", NULL, NULL},
                                      {"/.a", "/.a", NULL, NULL},
                                      {"/a/..b", "/a/..b", NULL, NULL},
                                      {"/a/b../c", "/a/b../c", NULL, NULL}};

    (void)state;
    CHECK(rows);
}

static void escaped_dots_and_slashes_count_as_what_they_stand_for(void **state)
{
    static const struct row rows[] = {{"/%2e%2e/etc", "/etc", NULL, NULL},
                                      {"/%2E%2e/etc", "/etc", NULL, NULL},
                                      {"/a/.%2e/b", "/b", NULL, NULL},
                                      {"/a/%2e/b", "/a/b", NULL, NULL},
                                      {"/a/%2e%2e%2fb", "/b", NULL, NULL},
                                      {"/a%2fb", "/a/b", NULL, NULL},
                                      {"/a/..%2f..%2f..%2fetc", "/etc", NULL, NULL},
                                      {"/a%2f%2fb", "/a/b", NULL, NULL},
                                      {"/%2f%2fb", "/b", NULL, NULL}};

    (void)state;
    CHECK(rows);
}

static void escapes_are_undone_once(void **state)
{
    static const struct row rows[] = {{"/%61", "/a", NULL, NULL},
                                      {"/%20", "/ ", NULL, NULL},
                                      {"/%C3%A4", "/\303\244", NULL, NULL},
                                      {"/%252e%252e/a", "/%2e%2e/a", NULL, NULL},
                                      {"/%25", "/%", NULL, NULL},
                                      {"/a%3Fb", "/a?b", NULL, NULL},
                                      {"/+", "/+", NULL, NULL}};

    (void)state;
    CHECK(rows);
}

static void bad_escapes_are_refused(void **state)
{
    static const struct row rows[] = {{"/%", NULL, NULL, NULL},     {"/%4", NULL, NULL, NULL},
                                      {"/a%", NULL, NULL, NULL},    {"/%4g", NULL, NULL, NULL},
                                      {"/%g4", NULL, NULL, NULL},   {"/%%41", NULL, NULL, NULL},
                                      {"/%-1", NULL, NULL, NULL},   {"/% 1", NULL, NULL, NULL},
                                      {"/a%4?1", NULL, NULL, NULL}, {"/%u0041", NULL, NULL, NULL}};

    (void)state;
    CHECK(rows);
}

static void nul_is_refused(void **state)
{
    static const struct row rows[] = {{"/%00", NULL, NULL, NULL},
                                      {"/index.html%00.png", NULL, NULL, NULL},
                                      {"/a/%00/b", NULL, NULL, NULL}};

    (void)state;
    CHECK(rows);
}

static void repeated_slashes_become_one(void **state)
{
    static const struct row rows[] = {
        {"//", "/", NULL, NULL},           {"///", "/", NULL, NULL},
        {"//a", "/a", NULL, NULL},         {"/a//b", "/a/b", NULL, NULL},
        {"/a///b//", "/a/b/", NULL, NULL}, {"//evil.example/x", "/evil.example/x", NULL, NULL},
        {"/a//../b", "/b", NULL, NULL}};

    (void)state;
    CHECK(rows);
}

static void the_query_is_cut_off_as_sent(void **state)
{
    static const struct row rows[] = {{"/a?b=c", "/a", "b=c", NULL},
                                      {"/a?", "/a", "", NULL},
                                      {"/?%00%zz/../", "/", "%00%zz/../", NULL},
                                      {"/a/../b?x?y", "/b", "x?y", NULL},
                                      {"/%61?%61", "/a", "%61", NULL}};

    (void)state;
    CHECK(rows);
}

static void a_query_may_have_all_but_what_ends_a_target(void **state)
{
    static const struct row rows[] = {{"/?a=\\|{}^`<>\"[]", "/", "a=\\|{}^`<>\"[]", NULL},
                                      {"/?100%", "/", "100%", NULL},
                                      {"/?a#b", NULL, NULL, NULL},
                                      {"/?a b", NULL, NULL, NULL},
                                      {"/?\001", NULL, NULL, NULL},
                                      {"/?\177", NULL, NULL, NULL},
                                      {"/?\303\244", NULL, NULL, NULL},
                                      {"http://a?b#c", NULL, NULL, NULL}};

    (void)state;
    CHECK(rows);
}

static void what_no_path_can_have_is_refused(void **state)
{
    static const struct row rows[] = {
        {"/a#b", NULL, NULL, NULL},       {"/#", NULL, NULL, NULL},
        {"/a\\b", NULL, NULL, NULL},      {"/..\\x", NULL, NULL, NULL},
        {"/a b", NULL, NULL, NULL},       {"/a\tb", NULL, NULL, NULL},
        {"/a\rb", NULL, NULL, NULL},      {"/a\001", NULL, NULL, NULL},
        {"/\177", NULL, NULL, NULL},      {"/\303\244", NULL, NULL, NULL},
        {"/\"a\"", NULL, NULL, NULL},     {"/<a>", NULL, NULL, NULL},
        {"/{a}", NULL, NULL, NULL},       {"/a^", NULL, NULL, NULL},
        {"/a`", NULL, NULL, NULL},        {"/%2e#", NULL, NULL, NULL},
        {"http://a/\\", NULL, NULL, NULL}};

    (void)state;
    CHECK(rows);
}

static void what_browsers_leave_unescaped_is_taken(void **state)
{
    static const struct row rows[] = {{"/a|b[c]", "/a|b[c]", NULL, NULL},
                                      {"/!$&'()*+,;=:@-._~", "/!$&'()*+,;=:@-._~", NULL, NULL},
                                      {"/%5c%7B%22%3c%23%ff", "/\\{\"<#\377", NULL, NULL}};

    (void)state;
    CHECK(rows);
}

static enum target_form form_of(const char *raw)
{
    struct target t;

    assert_true(target_parse(&arena, bh_s(raw), &t));
    return t.form;
}

static void the_form_is_told(void **state)
{
    (void)state;
    assert_int_equal(form_of("/a"), TARGET_ORIGIN);
    assert_int_equal(form_of("/http://a"), TARGET_ORIGIN);
    assert_int_equal(form_of("http://a"), TARGET_ABSOLUTE);
    assert_int_equal(form_of("http://a/b"), TARGET_ABSOLUTE);
    assert_int_equal(form_of("*"), TARGET_ASTERISK);
    assert_int_equal(form_of("a.example:443"), TARGET_AUTHORITY);
    assert_int_equal(form_of("[::1]:443"), TARGET_AUTHORITY);
}

static void the_absolute_form_names_its_host(void **state)
{
    static const struct row rows[] = {{"http://a.example/b?c", "/b", "c", "a.example"},
                                      {"HTTP://a.example:80/b", "/b", NULL, "a.example:80"},
                                      {"https://a/", "/", NULL, "a"},
                                      {"http://a", "/", NULL, "a"},
                                      {"http://a?b", "/", "b", "a"},
                                      {"http://a?b/../c", "/", "b/../c", "a"},
                                      {"http://a//b", "/b", NULL, "a"},
                                      {"http://a/../b", "/b", NULL, "a"},
                                      {"http://[::1]:8080/x", "/x", NULL, "[::1]:8080"},
                                      {"http:///b", NULL, NULL, NULL},
                                      {"http://", NULL, NULL, NULL},
                                      {"https://", NULL, NULL, NULL},
                                      {"http:/a", NULL, NULL, NULL},
                                      {"http:a", NULL, NULL, NULL},
                                      {"http://:80/", NULL, NULL, NULL},
                                      {"http://user@a/", NULL, NULL, NULL},
                                      {"http://user:pass@a/", NULL, NULL, NULL},
                                      {"http://a:b/", NULL, NULL, NULL},
                                      {"http://a b/", NULL, NULL, NULL},
                                      {"http://a\\b/", NULL, NULL, NULL},
                                      {"http://a#b", NULL, NULL, NULL},
                                      {"http://?a", NULL, NULL, NULL}};

    (void)state;
    CHECK(rows);
}

static void other_forms_name_a_host_and_a_port_or_are_refused(void **state)
{
    static const struct row rows[] = {
        {"*", "*", NULL, NULL},          {"", NULL, NULL, NULL},
        {"a", NULL, NULL, NULL},         {"**", NULL, NULL, NULL},
        {"*/", NULL, NULL, NULL},        {"a.example:443", "a.example:443", NULL, "a.example:443"},
        {"ftp://a/b", NULL, NULL, NULL}, {"../a", NULL, NULL, NULL},
        {"?a", NULL, NULL, NULL},        {"%2fa", NULL, NULL, NULL},
        {"a:", NULL, NULL, NULL},        {"a:443/", NULL, NULL, NULL},
        {"u@a:443", NULL, NULL, NULL},   {"index.html", NULL, NULL, NULL},
        {"\\a", NULL, NULL, NULL},       {".", NULL, NULL, NULL}};

    (void)state;
    CHECK(rows);
}

/* Every target of up to five of these pieces: what comes out never has a way up, or "//". */
static void no_combination_leaves_a_way_up(void **state)
{
    static const char *const piece[] = {"/", ".", "..", "%2e", "%2f", "a", "%25"};
    enum { N = sizeof piece / sizeof piece[0], LEN = 5 };
    int choice[LEN] = {0};

    (void)state;
    for (;;) {
        char raw[64] = "/";
        struct target t;
        int i;

        for (i = 0; i < LEN; i++)
            strcat(raw, piece[choice[i]]);
        assert_true(target_parse(&arena, bh_s(raw), &t));
        assert_int_equal(t.path.p[0], '/');
        assert_null(strstr(t.path.p, "//"));
        assert_null(strstr(t.path.p, "/../"));
        assert_null(strstr(t.path.p, "/./"));
        assert_false(t.path.n >= 3 && strcmp(t.path.p + t.path.n - 3, "/..") == 0);
        assert_false(t.path.n >= 2 && strcmp(t.path.p + t.path.n - 2, "/.") == 0);
        arena_reset(&arena);
        for (i = 0; i < LEN && ++choice[i] == N; i++)
            choice[i] = 0;
        if (i == LEN)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_paths_stay_as_they_are),
        cmocka_unit_test(a_plain_path_is_not_copied),
        cmocka_unit_test(dot_segments_are_resolved),
        cmocka_unit_test(escaped_dots_and_slashes_count_as_what_they_stand_for),
        cmocka_unit_test(escapes_are_undone_once),
        cmocka_unit_test(bad_escapes_are_refused),
        cmocka_unit_test(nul_is_refused),
        cmocka_unit_test(repeated_slashes_become_one),
        cmocka_unit_test(the_query_is_cut_off_as_sent),
        cmocka_unit_test(a_query_may_have_all_but_what_ends_a_target),
        cmocka_unit_test(what_no_path_can_have_is_refused),
        cmocka_unit_test(what_browsers_leave_unescaped_is_taken),
        cmocka_unit_test(the_form_is_told),
        cmocka_unit_test(the_absolute_form_names_its_host),
        cmocka_unit_test(other_forms_name_a_host_and_a_port_or_are_refused),
        cmocka_unit_test(no_combination_leaves_a_way_up),
    };

    return cmocka_run_group_tests_name("target", tests, set_up, tear_down);
}
