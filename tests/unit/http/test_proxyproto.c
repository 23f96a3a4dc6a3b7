#include "http/proxyproto.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static struct proxy_header header;

static int parse(const void *p, size_t n, enum config_proxy_protocol allowed)
{
    char *copy = malloc(n > 0 ? n : 1); /* its end is the sanitizers' */
    int r;

    memset(&header, 0, sizeof header);
    memcpy(copy, p, n);
    r = proxy_parse(copy, n, allowed, &header);
    free(copy);
    return r;
}

static const char *client(void)
{
    static char text[ADDRESS_TEXT + 8];

    if (!address_print(&header.client, text))
        return header.client.family == AF_UNIX ? "unix" : "none";
    snprintf(text + strlen(text), 8, " %u", header.client.port);
    return text;
}

/* Whole and followed by a request; and any shorter part of it is not enough, and not wrong. */
static void assert_header(const char *p, size_t n, const char *expected, size_t needed)
{
    char more[1024];

    memcpy(more, p, n);
    memcpy(more + n, "GET / HTTP/1.1\r\n", 16); /* NOLINT: no string */
    assert_int_equal(parse(more, n + 16 < PROXY_PEEK ? n + 16 : PROXY_PEEK, CONFIG_PROXY_ANY), 1);
    assert_int_equal(header.len, n);
    assert_string_equal(client(), expected);
    for (size_t i = 0; i < needed; i++)
        assert_int_equal(parse(p, i, CONFIG_PROXY_ANY), 0);
    assert_int_equal(parse(p, needed, CONFIG_PROXY_ANY), 1);
}

static void a_line_of_version_1(void **state)
{
    static const struct {
        const char *line, *client;
    } cases[] = {
        {"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", "192.0.2.1 56324"},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255 65535"},
        {"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", "2001:db8::1 1"},
        {"PROXY TCP6 ::ffff:192.0.2.1 ::1 0 2\r\n", "192.0.2.1 0"},
        {"PROXY UNKNOWN\r\n", "none"},
        {"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "none"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_header(cases[i].line, strlen(cases[i].line), cases[i].client, strlen(cases[i].line));
}

static void what_is_no_line_of_version_1(void **state)
{
    static const char *const cases[] = {
        "GET / HTTP/1.1\r\n",
        "PROXX",
        "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY\r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.1:1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        ("PROXY UNKNOWN 111111111111111111111111111111111111111111111111111111111111111111111111111"
         "1111111111111111111111111111111111111111111111\r\n"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i]) < PROXY_PEEK ? strlen(cases[i]) : PROXY_PEEK;

        if (parse(cases[i], n, CONFIG_PROXY_ANY) != -EPROTO)
            fail_msg("taken: %s", cases[i]);
    }
}

static void a_header_of_version_2(void **state)
{
    static const char v4[] = SIGNATURE
        "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb";
    static const char v6[] = SIGNATURE
        "\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0"
        "\0\x02\x00\x01\x00\x02";
    static const char tlv[] = SIGNATURE
        "\x21\x11\x00\x10\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb\x04\x00\x01z";
    static const char local[] = SIGNATURE "\x20\x00\x00\x00";
    static const char local_with_more[] = SIGNATURE "\x20\x11\x00\x02zz";
    static const char unspecified[] = SIGNATURE "\x21\x00\x00\x00";
    static const char udp[] = SIGNATURE
        "\x21\x12\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb";

    (void)state;
    assert_header(v4, sizeof v4 - 1, "192.0.2.1 56324", 28);
    assert_header(v6, sizeof v6 - 1, "2001:db8::1 1", 52);
    assert_header(tlv, sizeof tlv - 1, "192.0.2.1 56324", 28);
    assert_header(local, sizeof local - 1, "none", 16);
    assert_header(local_with_more, sizeof local_with_more - 1, "none", 16);
    assert_header(unspecified, sizeof unspecified - 1, "none", 16);
    assert_header(udp, sizeof udp - 1, "none", 16);
    assert_int_equal(parse(SIGNATURE "\x21\x31\x00\xd8", 16, CONFIG_PROXY_ANY), 1);
    assert_string_equal(client(), "unix");
    assert_int_equal(parse(SIGNATURE "\x21\x00\xff\xff", 16, CONFIG_PROXY_ANY), 1);
    assert_int_equal(header.len, 65551);
}

static void what_is_no_header_of_version_2(void **state)
{
    (void)state;
    assert_int_equal(parse(SIGNATURE "\x11", 13, CONFIG_PROXY_ANY), -EPROTO);       /* version 1 */
    assert_int_equal(parse(SIGNATURE "\x22\0\0\0", 16, CONFIG_PROXY_ANY), -EPROTO); /* command */
    assert_int_equal(parse(SIGNATURE "\x21\x11\0\x0b", 16, CONFIG_PROXY_ANY), -EPROTO); /* short */
    assert_int_equal(parse(SIGNATURE "\x21\x21\0\x23", 16, CONFIG_PROXY_ANY), -EPROTO);
    assert_int_equal(parse(SIGNATURE "\x21\x31\0\xd7", 16, CONFIG_PROXY_ANY), -EPROTO);
    assert_int_equal(parse(SIGNATURE "\x21\x13\0\x0c", 16, CONFIG_PROXY_ANY), -EPROTO); /* family */
    assert_int_equal(parse("\r\n\r\nX", 5, CONFIG_PROXY_ANY), -EPROTO);
}

static void only_the_version_of_the_config_is_taken(void **state)
{
    static const char v1[] = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";
    static const char v2[] = SIGNATURE
        "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb";

    (void)state;
    assert_int_equal(parse(v1, sizeof v1 - 1, CONFIG_PROXY_V1), 1);
    assert_int_equal(parse(v1, sizeof v1 - 1, CONFIG_PROXY_V2), -EPROTO);
    assert_int_equal(parse(v1, 1, CONFIG_PROXY_V2), -EPROTO);
    assert_int_equal(parse(v2, sizeof v2 - 1, CONFIG_PROXY_V2), 1);
    assert_int_equal(parse(v2, sizeof v2 - 1, CONFIG_PROXY_V1), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_of_version_1),
        cmocka_unit_test(what_is_no_line_of_version_1),
        cmocka_unit_test(a_header_of_version_2),
        cmocka_unit_test(what_is_no_header_of_version_2),
        cmocka_unit_test(only_the_version_of_the_config_is_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
