#include "base/destination.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct destination_rule rules[8];

/* Rules, NULL at the end. */
static struct destination of(const char *first, ...)
{
    struct destination d = {.rule = rules, .has_rules = true};
    va_list ap;

    va_start(ap, first);
    for (const char *s = first; s != NULL; s = va_arg(ap, const char *)) {
        assert_int_equal(destination_parse(&rules[d.n_rules], s), 0);
        d.n_rules++;
    }
    va_end(ap);
    return d;
}

static bool asks(const struct destination *d, const char *host, uint16_t port)
{
    return destination_may_ask(d, host, strlen(host), port);
}

static bool connects(const struct destination *d, const char *host, uint16_t port, const char *ip)
{
    struct address a;

    assert_true(address_parse(&a, ip, strlen(ip), false));
    return destination_may_connect(d, host, strlen(host), port, &a);
}

static void without_rules_all_but_metadata_may_be_asked(void **state)
{
    static const char *const refused[] = {
        "169.254.169.254",
        "169.254.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "fe80::1",
        "ff02::1",
        "::",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
        "100.100.100.200",
    };
    const struct destination d = {0};

    (void)state;
    assert_true(connects(&d, "a", 80, "127.0.0.1"));
    assert_true(connects(&d, "a", 80, "10.0.0.1"));
    assert_true(connects(&d, "a", 80, "::1"));
    assert_true(connects(&d, "a", 80, "93.184.216.34"));
    assert_true(destination_may_use_socket(&d, "/run/x"));
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_false(connects(&d, "metadata.example", 80, refused[i]));
        assert_false(asks(&d, refused[i], 80));
    }
    assert_true(asks(&d, "metadata.example", 80)); /* its address will tell */
}

static void names_fit_without_case_and_with_their_port(void **state)
{
    struct destination d = of("API.example.org:443", "*.internal", NULL);

    (void)state;
    assert_true(asks(&d, "api.Example.ORG", 443));
    assert_true(asks(&d, "api.example.org.", 443));
    assert_false(asks(&d, "api.example.org", 80));
    assert_false(asks(&d, "xapi.example.org", 443));
    assert_false(asks(&d, "api.example.org.evil", 443));
    assert_true(asks(&d, "a.b.internal", 1));
    assert_false(asks(&d, "internal", 1));
    assert_false(asks(&d, "evilinternal", 1));
    assert_false(asks(&d, ".internal", 1));
    assert_false(asks(&d, "127.0.0.1", 443));
    assert_false(destination_may_use_socket(&d, "/run/x"));
}

/* DNS may say one thing to who checks, and another to who connects. */
static void the_address_is_judged_again(void **state)
{
    struct destination d = of("*.example.org", NULL);

    (void)state;
    assert_true(connects(&d, "a.example.org", 80, "10.0.0.1")); /* named: it may be internal */
    assert_false(connects(&d, "a.example.org", 80, "169.254.169.254"));
    d = of("public", NULL);
    assert_true(asks(&d, "any.name.at.all", 80));
    assert_true(connects(&d, "any.name.at.all", 80, "93.184.216.34"));
    assert_false(connects(&d, "any.name.at.all", 80, "127.0.0.1"));
    assert_false(connects(&d, "any.name.at.all", 80, "192.168.1.1"));
    assert_false(connects(&d, "any.name.at.all", 80, "100.64.0.1"));
    assert_false(connects(&d, "any.name.at.all", 80, "fc00::1"));
    assert_false(connects(&d, "any.name.at.all", 80, "::1"));
    assert_false(connects(&d, "any.name.at.all", 80, "64:ff9b::7f00:1"));
    assert_false(connects(&d, "any.name.at.all", 80, "::ffff:127.0.0.1"));
    assert_true(connects(&d, "any.name.at.all", 80, "2606:2800:220:1::1"));
}

static void networks_let_pass_what_they_name(void **state)
{
    struct destination d = of("10.1.0.0/16:8080", "169.254.169.254", "[2001:db8::/32]:443", NULL);

    (void)state;
    assert_true(connects(&d, "x", 8080, "10.1.2.3"));
    assert_false(connects(&d, "x", 8081, "10.1.2.3"));
    assert_false(connects(&d, "x", 8080, "10.2.2.3"));
    assert_true(connects(&d, "x", 80, "169.254.169.254")); /* said so */
    assert_true(connects(&d, "x", 443, "2001:db8::5"));
    assert_false(connects(&d, "x", 80, "2001:db8::5"));
}

static void an_empty_list_lets_nothing_pass(void **state)
{
    const struct destination d = {.has_rules = true};

    (void)state;
    assert_false(asks(&d, "a", 80));
    assert_false(connects(&d, "a", 80, "93.184.216.34"));
    assert_false(destination_may_use_socket(&d, "/run/x"));
}

static void sockets_are_named_by_their_path(void **state)
{
    struct destination d = of("unix:/run/auth.sock", NULL);

    (void)state;
    assert_true(destination_may_use_socket(&d, "/run/auth.sock"));
    assert_false(destination_may_use_socket(&d, "/run/auth.sock2"));
    assert_false(asks(&d, "localhost", 80));
}

static void what_is_no_rule_is_refused(void **state)
{
    static const char *const bad[] = {"",         "*",           "*.",        "a b",      "a:0",
                                      "a:65536",  "a:x",         "a:",        "http://a", "a/b",
                                      "*.*.a",    "a..b",        "1.2.3",     "[::1",     "[::1]x",
                                      "unix:rel", "10.0.0.0/33", "user@host", "127.1",    ":80"};
    struct destination_rule r;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (destination_parse(&r, bad[i]) != -EINVAL)
            fail_msg("'%s' is taken for a rule", bad[i]);
    assert_int_equal(destination_parse(&r, "10.0.0.1/8"), -ERANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_rules_all_but_metadata_may_be_asked),
        cmocka_unit_test(names_fit_without_case_and_with_their_port),
        cmocka_unit_test(the_address_is_judged_again),
        cmocka_unit_test(networks_let_pass_what_they_name),
        cmocka_unit_test(an_empty_list_lets_nothing_pass),
        cmocka_unit_test(sockets_are_named_by_their_path),
        cmocka_unit_test(what_is_no_rule_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
