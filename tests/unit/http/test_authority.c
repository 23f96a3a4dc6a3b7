#include "http/authority.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct row {
    const char *text, *host; /* host NULL: refused */
    int port;                /* -1: none */
};

static void check(const struct row *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct authority a = {.host = bh__none()};
        bool ok = authority_parse(bh_s(row[i].text), &a);

        if (ok != (row[i].host != NULL) || (ok && !bh_str_eq(a.host, row[i].host)))
            fail_msg("'%s' was %s", row[i].text, ok ? "taken" : "refused");
        if (!ok)
            continue;
        assert_int_equal(a.has_port, row[i].port >= 0);
        assert_int_equal(a.port, row[i].port > 0 ? row[i].port : 0);
    }
}

#define CHECK(ROWS) check(ROWS, sizeof ROWS / sizeof ROWS[0])

static void names_and_addresses_are_hosts(void **state)
{
    static const struct row rows[] = {
        {"a", "a", -1},
        {"A.Example", "A.Example", -1},
        {"a.example.", "a.example.", -1},
        {"my_host-1.~x", "my_host-1.~x", -1},
        {"127.0.0.1", "127.0.0.1", -1},
        {"a%20b", "a%20b", -1},
        {"!$&'()*+,;=", "!$&'()*+,;=", -1},
        {"[::1]", "[::1]", -1},
        {"[2001:db8::ffff:192.0.2.1]", "[2001:db8::ffff:192.0.2.1]", -1},
    };

    (void)state;
    CHECK(rows);
}

static void a_port_may_follow(void **state)
{
    static const struct row rows[] = {{"a:80", "a", 80},
                                      {"a:", "a", -1},
                                      {"a:0080", "a", 80},
                                      {"a:65535", "a", 65535},
                                      {"[::1]:8", "[::1]", 8},
                                      {"a:65536", NULL, 0},
                                      {"a:99999999999999", NULL, 0},
                                      {"a:8o", NULL, 0},
                                      {"a: 80", NULL, 0},
                                      {"a:+80", NULL, 0},
                                      {"a:-1", NULL, 0},
                                      {"a:80:80", NULL, 0},
                                      {"a:80/", NULL, 0}};

    (void)state;
    CHECK(rows);
}

static void what_is_no_host_is_refused(void **state)
{
    static const struct row rows[] = {
        {"", NULL, 0},
        {":80", NULL, 0},
        {"a b", NULL, 0},
        {"a/b", NULL, 0},
        {"/", NULL, 0},
        {"a\\b", NULL, 0},
        {"user@a", NULL, 0},
        {"u:p@a", NULL, 0},
        {"a?b", NULL, 0},
        {"a#b", NULL, 0},
        {"a\"b", NULL, 0},
        {"<a>", NULL, 0},
        {"a\tb", NULL, 0},
        {"a%", NULL, 0},
        {"a%2", NULL, 0},
        {"a%2g", NULL, 0},
        {"\303\244", NULL, 0},
        {"a|b", NULL, 0},
        {"a{b}", NULL, 0},
        {"http://a", NULL, 0},
        {"[::1", NULL, 0},
        {"::1", NULL, 0},
        {"[]", NULL, 0},
        {"[::1]x", NULL, 0},
        {"[::g]", NULL, 0},
        {"[1.2.3.4]", NULL, 0},
        {"[fe80::1%25e]", NULL, 0},
        {"[v1.a]", NULL, 0},
        {"[[::1]]", NULL, 0},
        {"]", NULL, 0},
        {"[00000000000000000000000000000000000000000000000000000000000]", NULL, 0},
    };

    (void)state;
    CHECK(rows);
}

static void nul_is_no_part_of_a_host(void **state)
{
    struct authority a;

    (void)state;
    assert_false(authority_parse(bh_sn("a\0b", 3), &a));
    assert_false(authority_parse(bh_sn("[::1\0]", 6), &a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_addresses_are_hosts),
        cmocka_unit_test(a_port_may_follow),
        cmocka_unit_test(what_is_no_host_is_refused),
        cmocka_unit_test(nul_is_no_part_of_a_host),
    };

    return cmocka_run_group_tests_name("authority", tests, NULL, NULL);
}
