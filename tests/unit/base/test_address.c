#include "base/address.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static const char *printed(const char *text, bool with_port, int *port)
{
    static char buf[ADDRESS_TEXT];
    struct address a;

    if (!address_parse(&a, text, strlen(text), with_port))
        return "no";
    *port = a.port;
    address_print(&a, buf);
    return buf;
}

static void addresses_are_read_as_they_are_printed(void **state)
{
    static const struct {
        const char *text, *with_port;
        int port;
    } cases[] = {{"192.0.2.1", "192.0.2.1", 0},
                 {"192.0.2.1:80", "192.0.2.1", 80},
                 {"2001:db8::1", "2001:db8::1", 0},
                 {"[2001:db8::1]", "2001:db8::1", 0},
                 {"[2001:db8::1]:65535", "2001:db8::1", 65535},
                 {"::ffff:192.0.2.1", "192.0.2.1", 0},
                 {"", "no", 0},
                 {"192.0.2", "no", 0},
                 {"192.0.2.256", "no", 0},
                 {"192.0.2.01", "no", 0},
                 {"192.0.2.1:", "no", 0},
                 {"192.0.2.1:65536", "no", 0},
                 {"192.0.2.1 ", "no", 0},
                 {"[192.0.2.1]", "no", 0},
                 {"[2001:db8::1", "no", 0},
                 {"[2001:db8::1]x", "no", 0},
                 {"[2001:db8::1]:x", "no", 0},
                 {"fe80::1%eth0", "no", 0},
                 {"unknown", "no", 0},
                 {"_hidden", "no", 0}};
    int port;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        port = 0;
        assert_string_equal(printed(cases[i].text, true, &port), cases[i].with_port);
        assert_int_equal(port, cases[i].port);
    }
    assert_string_equal(printed("192.0.2.1:80", false, &port), "no");
    assert_string_equal(printed("[::1]", false, &port), "no");
}

static bool is_in(const char *text, const char *net_text)
{
    struct address_net net;
    struct address a;

    assert_int_equal(address_net_parse(&net, net_text), 0);
    assert_true(address_parse(&a, text, strlen(text), false));
    return address_is_in(&a, &net, 1);
}

static void networks_end_at_any_bit(void **state)
{
    (void)state;
    assert_true(is_in("10.255.0.1", "10.0.0.0/8"));
    assert_false(is_in("11.0.0.0", "10.0.0.0/8"));
    assert_true(is_in("192.0.2.127", "192.0.2.64/26"));
    assert_false(is_in("192.0.2.128", "192.0.2.64/26"));
    assert_true(is_in("192.0.2.1", "192.0.2.1"));
    assert_false(is_in("192.0.2.2", "192.0.2.1"));
    assert_true(is_in("8.8.8.8", "0.0.0.0/0"));
    assert_false(is_in("::1", "0.0.0.0/0"));
    assert_true(is_in("8.8.8.8", "::/0"));
    assert_true(is_in("2001:db8:1::1", "2001:db8::/32"));
    assert_false(is_in("2001:db9::1", "2001:db8::/32"));
    assert_true(is_in("10.1.1.1", "::ffff:10.0.0.0/104")); /* as on a socket for both families */
}

static void bad_networks_are_told_from_sloppy_ones(void **state)
{
    struct address_net net;

    (void)state;
    assert_int_equal(address_net_parse(&net, "10.0.0.1/8"), -ERANGE);
    assert_int_equal(net.bits, 104);
    assert_int_equal(address_net_parse(&net, "10.0.0.0/33"), -EINVAL);
    assert_int_equal(address_net_parse(&net, "10.0.0.0/"), -EINVAL);
    assert_int_equal(address_net_parse(&net, "10.0.0.0/-1"), -EINVAL);
    assert_int_equal(address_net_parse(&net, "::/129"), -EINVAL);
    assert_int_equal(address_net_parse(&net, "localhost"), -EINVAL);
}

static void sockets_addresses_are_taken_as_far_as_they_reach(void **state)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80)};
    struct sockaddr un = {.sa_family = AF_UNIX};
    struct address a;
    char text[ADDRESS_TEXT];

    (void)state;
    in.sin_addr.s_addr = htonl(0xc0000201);
    address_from_sockaddr(&a, (const struct sockaddr *)&in, sizeof in);
    assert_true(address_print(&a, text));
    assert_string_equal(text, "192.0.2.1");
    assert_int_equal(a.port, 80);
    address_from_sockaddr(&a, (const struct sockaddr *)&in, 4);
    assert_int_equal(a.family, 0);
    address_from_sockaddr(&a, &un, sizeof un.sa_family);
    assert_int_equal(a.family, AF_UNIX);
    assert_false(address_print(&a, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_as_they_are_printed),
        cmocka_unit_test(networks_end_at_any_bit),
        cmocka_unit_test(bad_networks_are_told_from_sloppy_ones),
        cmocka_unit_test(sockets_addresses_are_taken_as_far_as_they_reach),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
