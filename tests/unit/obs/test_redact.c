#include "obs/redact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char out[8192];

static const char *header(const char *name, const char *value)
{
    size_t n = redact_header(out, sizeof out - 1, name, strlen(name), value, strlen(value));

    out[n] = '\0';
    return out;
}

static const char *line(const char *target)
{
    size_t n = redact_request_line(out, sizeof out - 1, "GET", target, strlen(target), "HTTP/1.1");

    out[n] = '\0';
    return out;
}

static void secret_headers_keep_only_their_length(void **state)
{
    static const char *const names[] = {
        "Authorization", "proxy-authorization",  "COOKIE",       "Set-Cookie",
        "X-Api-Key",     "X-Auth-Token",         "X-CSRF-Token", "Client-Secret",
        "X-Password",    "x-amz-security-token", "My-ApiKey",    "X-Session-Id",
    };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_null(strstr(header(names[i], "hunter2"), "hunter2"));
        assert_non_null(strstr(out, ": [redacted 7 bytes]\n"));
        assert_memory_equal(out, names[i], strlen(names[i]));
    }
}

static void other_headers_stay(void **state)
{
    (void)state;
    assert_string_equal(header("Accept", "text/html; q=1"), "Accept: text/html; q=1\n");
    assert_string_equal(header("X-Author", "Eve"), "X-Author: Eve\n");
    assert_string_equal(header("Host", ""), "Host: \n");
}

static void secret_arguments_lose_their_values(void **state)
{
    (void)state;
    assert_string_equal(line("/a?x=1&token=abc&y=2"),
                        "GET /a?x=1&token=[redacted 3 bytes]&y=2 HTTP/1.1\n");
    assert_string_equal(line("/?code=123;b=2"), "GET /?code=[redacted 3 bytes];b=2 HTTP/1.1\n");
    assert_string_equal(line("/?Access_Token=a=b"),
                        "GET /?Access_Token=[redacted 3 bytes] HTTP/1.1\n");
    assert_string_equal(line("/?key="), "GET /?key=[redacted 0 bytes] HTTP/1.1\n");
    assert_string_equal(line("/?to%6ben=abc"), "GET /?to%6ben=[redacted 3 bytes] HTTP/1.1\n");
    assert_string_equal(line("/?a=1#access_token=abc"),
                        "GET /?a=1#access_token=[redacted 3 bytes] HTTP/1.1\n");
    assert_string_equal(line("/?monkey=1&zipcode=2&token"),
                        "GET /?monkey=1&zipcode=2&token HTTP/1.1\n");
    assert_string_equal(line("/token=abc"), "GET /token=abc HTTP/1.1\n");
}

static void a_target_keeps_its_host_but_not_its_user(void **state)
{
    (void)state;
    assert_string_equal(line("http://eve:pw@host/p@th?a=1"),
                        "GET http://[redacted 6 bytes]@host/p@th?a=1 HTTP/1.1\n");
    assert_string_equal(line("http://host/"), "GET http://host/ HTTP/1.1\n");
    assert_string_equal(line("*"), "GET * HTTP/1.1\n");
}

static void urls_in_headers_are_redacted_too(void **state)
{
    (void)state;
    assert_string_equal(header("Referer", "https://a/b?sig=xyz&c=d"),
                        "Referer: https://a/b?sig=[redacted 3 bytes]&c=d\n");
}

static void control_characters_cannot_end_a_line(void **state)
{
    (void)state;
    assert_string_equal(header("A", "b\r\nCookie: c\x7f"), "A: b\\x0d\\x0aCookie: c\\x7f\n");
    assert_string_equal(line("/a\nb?c=\n"), "GET /a\\x0ab?c=\\x0a HTTP/1.1\n");
}

static void long_values_are_cut(void **state)
{
    static char value[5000];

    (void)state;
    memset(value, 'v', sizeof value - 1);
    header("A", value);
    assert_int_equal(strlen(out), 3 + REDACT_VALUE_MAX + strlen("[3975 more bytes]\n"));
    assert_non_null(strstr(out, "v[3975 more bytes]\n"));
}

static void what_does_not_fit_is_left_out_whole(void **state)
{
    (void)state;
    for (size_t size = 0; size < 9; size++)
        assert_int_equal(redact_header(out, size, "Name", 4, "val", 3), 0);
    assert_int_equal(redact_header(out, 10, "Name", 4, "val", 3), 10);
    assert_int_equal(redact_request_line(out, 13, "GET", "/", 1, "HTTP/1.1"), 0);
    assert_int_equal(redact_request_line(out, 15, "GET", "/", 1, "HTTP/1.1"), 15);
}

/* Any bytes: no crash, no new line, nothing past the end. */
static void any_target_makes_one_line(void **state)
{
    static const char alphabet[] = "a=&;?#%/:@\n6b\xff\0";
    char target[40];

    (void)state;
    srand(1);
    for (int i = 0; i < 50000; i++) {
        size_t n = (size_t)rand() % sizeof target, len;

        for (size_t k = 0; k < n; k++)
            target[k] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
        len = redact_request_line(out, sizeof out, "GET", target, n, "HTTP/1.1");
        assert_true(len > 0);
        assert_ptr_equal(memchr(out, '\n', len), out + len - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secret_headers_keep_only_their_length),
        cmocka_unit_test(other_headers_stay),
        cmocka_unit_test(secret_arguments_lose_their_values),
        cmocka_unit_test(a_target_keeps_its_host_but_not_its_user),
        cmocka_unit_test(urls_in_headers_are_redacted_too),
        cmocka_unit_test(control_characters_cannot_end_a_line),
        cmocka_unit_test(long_values_are_cut),
        cmocka_unit_test(what_does_not_fit_is_left_out_whole),
        cmocka_unit_test(any_target_makes_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
