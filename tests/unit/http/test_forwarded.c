#include "http/forwarded.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "conf/config.h"
#include "plugin/request.h"

static struct address_net nets[2];
static struct config config = {.trusted = nets, .n_trusted = 2};
static struct arena arena;
static struct fields fields;
static struct forwarded told;

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(address_net_parse(&nets[0], "10.0.0.0/8"), 0);
    assert_int_equal(address_net_parse(&nets[1], "fd00::/8"), 0);
    arena_init(&arena, 1 << 20);
    fields = (struct fields){.n = 0};
    config.forwarded = CONFIG_X_FORWARDED_FOR;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static void add(const char *name, const char *value)
{
    assert_true(fields_append(&arena, &fields, bh_s(name), bh_s(value)));
}

/* The client, as text, of a request that 10.0.0.1 passes on. */
static const char *client(void)
{
    static char text[ADDRESS_TEXT + 8];
    struct address peer;

    assert_true(address_parse(&peer, "10.0.0.1", 8, false));
    forwarded_read(&config, &fields, &peer, &told);
    address_print(&told.client, text);
    if (told.client.port != 0)
        snprintf(text + strlen(text), 8, " %u", told.client.port);
    return text;
}

static void assert_client(const char *name, const char *value, const char *expected)
{
    fields.n = 0;
    add(name, value);
    assert_string_equal(client(), expected);
}

static void the_client_is_the_last_that_is_not_trusted(void **state)
{
    (void)state;
    assert_client("X-Forwarded-For", "192.0.2.1", "192.0.2.1");
    assert_client("x-forwarded-for", "198.51.100.9, 192.0.2.1", "192.0.2.1");
    assert_client("X-Forwarded-For", "198.51.100.9, 192.0.2.1, 10.0.0.2,10.0.0.3", "192.0.2.1");
    assert_client("X-Forwarded-For", "10.0.0.3", "10.0.0.3"); /* a client within */
    assert_client("X-Forwarded-For", "2001:db8::7, fd00::1", "2001:db8::7");
    assert_client("X-Forwarded-For", "[2001:db8::7]:4711", "2001:db8::7 4711");
    assert_client("X-Forwarded-For", "192.0.2.1:80", "192.0.2.1 80");
    assert_client("X-Forwarded-For", ",, 192.0.2.1 ,\t,", "192.0.2.1");
}

static void what_is_no_address_ends_the_walk(void **state)
{
    (void)state;
    assert_client("X-Forwarded-For", "", "10.0.0.1");
    assert_client("X-Forwarded-For", "unknown", "10.0.0.1");
    assert_client("X-Forwarded-For", "192.0.2.1, unknown", "10.0.0.1");
    assert_client("X-Forwarded-For", "192.0.2.1, unknown, 10.0.0.2", "10.0.0.2");
    assert_client("X-Forwarded-For", "192.0.2.1\"", "10.0.0.1");
    assert_client("X-Other", "192.0.2.1", "10.0.0.1");
}

static void fields_of_the_same_name_are_one_list(void **state)
{
    (void)state;
    add("X-Forwarded-For", "198.51.100.9");
    add("Host", "x");
    add("X-Forwarded-For", "192.0.2.1, 10.0.0.2");
    add("X-FORWARDED-FOR", "10.0.0.3");
    assert_string_equal(client(), "192.0.2.1");
}

static void a_long_list_is_read_from_its_end(void **state)
{
    char many[8000] = "";
    size_t n = 0;

    (void)state;
    while (n < 7900)
        n += (size_t)snprintf(many + n, sizeof many - n, "192.0.2.%d, ", (int)(n % 250));
    snprintf(many + n, sizeof many - n, "198.51.100.1, 10.0.0.9");
    assert_client("X-Forwarded-For", many, "198.51.100.1");

    n = 0;
    many[0] = '\0';
    while (n < 7900) /* trusted ones without end */
        n += (size_t)snprintf(many + n, sizeof many - n, "10.0.0.2, ");
    assert_client("X-Forwarded-For", many, "10.0.0.2");
}

static void only_the_header_of_the_config_counts(void **state)
{
    (void)state;
    add("Forwarded", "for=192.0.2.1");
    assert_string_equal(client(), "10.0.0.1");
    add("X-Forwarded-For", "198.51.100.9");
    assert_string_equal(client(), "198.51.100.9");
    config.forwarded = CONFIG_FORWARDED;
    assert_string_equal(client(), "192.0.2.1");
    config.forwarded = CONFIG_FORWARDED_OFF;
    assert_string_equal(client(), "10.0.0.1");
}

static void rfc_7239_elements(void **state)
{
    (void)state;
    config.forwarded = CONFIG_FORWARDED;
    assert_client("Forwarded", "for=192.0.2.1", "192.0.2.1");
    assert_client("Forwarded", "For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17 4711");
    assert_client("Forwarded", "for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60");
    assert_client("Forwarded", "proto=http ; FOR=192.0.2.60 , for=10.0.0.2", "192.0.2.60");
    assert_client("Forwarded", "for=192.0.2.43, for=198.51.100.17;by=10.0.0.1", "198.51.100.17");
    assert_client("Forwarded", "for=192.0.2.43, for=_hidden", "10.0.0.1");
    assert_client("Forwarded", "for=192.0.2.43, for=unknown", "10.0.0.1");
    assert_client("Forwarded", "for=192.0.2.43;ext=\"a, for=1.2.3.4;\"", "192.0.2.43");
    assert_client("Forwarded", "for=\"192.0.2.4\\3\"", "10.0.0.1");
    assert_client("Forwarded", "for=192.0.2.43, by=10.0.0.2", "10.0.0.1"); /* nothing told */
    assert_client("Forwarded", "xfor=192.0.2.43", "10.0.0.1");
}

static void scheme_and_host_are_those_of_the_clients_own_request(void **state)
{
    (void)state;
    add("X-Forwarded-For", "192.0.2.1, 10.0.0.2");
    add("X-Forwarded-Proto", "HTTPS, http");
    add("X-Forwarded-Host", "evil.example, www.example.com, inner");
    client();
    assert_true(bh_str_eq(told.scheme, "https"));
    assert_true(bh_str_eq(told.host, "www.example.com"));

    fields.n = 0; /* one that only the outer proxy has set */
    add("X-Forwarded-For", "192.0.2.1, 10.0.0.2, 10.0.0.3");
    add("X-Forwarded-Proto", "https");
    client();
    assert_true(bh_str_eq(told.scheme, "https"));
    assert_null(told.host.p);

    fields.n = 0;
    add("X-Forwarded-Proto", "gopher");
    client();
    assert_null(told.scheme.p);

    fields.n = 0;
    config.forwarded = CONFIG_FORWARDED;
    add("Forwarded", "for=1.2.3.4;proto=https;host=evil, for=192.0.2.1;proto=http;host=\"a:81\", "
                     "for=10.0.0.2;proto=https;host=inner");
    client();
    assert_true(bh_str_eq(told.scheme, "http"));
    assert_true(bh_str_eq(told.host, "a:81"));
}

static void names_are_known_in_any_case(void **state)
{
    (void)state;
    assert_true(forwarded_is_name(bh_s("FORWARDED")));
    assert_true(forwarded_is_name(bh_s("X-Forwarded-For")));
    assert_true(forwarded_is_name(bh_s("x-real-ip")));
    assert_false(forwarded_is_name(bh_s("x-forwarded")));
    assert_false(forwarded_is_name(bh_s("host")));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_client_is_the_last_that_is_not_trusted),
        TEST(what_is_no_address_ends_the_walk),
        TEST(fields_of_the_same_name_are_one_list),
        TEST(a_long_list_is_read_from_its_end),
        TEST(only_the_header_of_the_config_counts),
        TEST(rfc_7239_elements),
        TEST(scheme_and_host_are_those_of_the_clients_own_request),
        TEST(names_are_known_in_any_case),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
