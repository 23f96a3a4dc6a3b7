#include "http/guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct guard_limits limits = {
    .uri = 64, .head = 1024, .fields = 16, .memory = 2048, .body = 100};

#define START  "GET / HTTP/1.1\r\n"
#define HEAD   START "Host: a\r\n"
#define GET    HEAD "\r\n"
#define POST   "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKS POST "Transfer-Encoding: chunked\r\n\r\n"

/* Everything a server can send to the library in one test. */
struct result {
    char out[16384];
    size_t n;
    enum http_refusal refusal;
    uint32_t n_requests;
    bool is_idle;
};

struct vector {
    const char *bytes;
    size_t n;
    enum http_refusal refusal;
    uint32_t n_requests;
    const char *out; /* of one that is let through; NULL: as it came */
};

#define GOOD(text)                                    \
    {                                                 \
        text, sizeof(text) - 1, REFUSAL_NONE, 1, NULL \
    }
#define GOOD_AS(text, becomes)                           \
    {                                                    \
        text, sizeof(text) - 1, REFUSAL_NONE, 1, becomes \
    }
#define BAD(text, reason)                                 \
    {                                                     \
        text, sizeof(text) - 1, REFUSAL_##reason, 1, NULL \
    }
#define MANY(text, reason, many)                             \
    {                                                        \
        text, sizeof(text) - 1, REFUSAL_##reason, many, NULL \
    }

/* One piece, in a buffer that ends where it must not write beyond. */
static void feed(struct guard *g, struct result *r, const char *p, size_t n)
{
    size_t room = guard_room(g), k;
    char *buf = malloc(room + n);

    assert_non_null(buf);
    memcpy(buf + room, p, n);
    k = guard_pass(g, &limits, buf, buf + room, n);
    assert_true(k <= room + n && r->n + k <= sizeof r->out);
    memcpy(r->out + r->n, buf, k);
    r->n += k;
    free(buf);
}

/* The library's view of a cookie's name, which depends on how it came. */
static void restore_cookies(struct result *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->out[i] == '\x01' || r->out[i] == '\x02') {
            r->out[i] = r->out[i] == '\x01' ? 'e' : 'E';
        } else if (r->out[i] == '\x03') {
            memmove(r->out + i, r->out + i + 1, r->n - i - 1);
            r->n--;
        }
}

static void run(const char *bytes, size_t n, size_t first, size_t step, struct result *r)
{
    struct guard g;
    size_t at = 0;

    memset(r, 0, sizeof *r);
    guard_init(&g);
    while (at < n && g.refusal == REFUSAL_NONE) {
        size_t k = at == 0 ? first : step;

        k = k < n - at ? k : n - at;
        if (k > 0)
            feed(&g, r, bytes + at, k);
        at += k;
    }
    r->refusal = (enum http_refusal)g.refusal;
    r->is_idle = guard_is_idle(&g);
    while (g.refusal != REFUSAL_NONE && !guard_is_complete(&g)) {
        size_t k = guard_complete(&g, r->out + r->n, step < 7 ? step : 7);

        assert_true(k > 0 && k <= 7);
        r->n += k;
        assert_true(r->n + 7 <= sizeof r->out);
    }
    r->n_requests = g.n_requests;
    restore_cookies(r);
    r->out[r->n] = '\0';
}

static void say(const struct vector *v, size_t first, size_t step, const struct result *r)
{
    print_error("%.*s\npieces of %zu, then %zu: %s, %u requests, idle %d, became\n%s\n", (int)v->n,
                v->bytes, first, step, refusal_name(r->refusal), r->n_requests, r->is_idle, r->out);
    fail();
}

static void check_once(const struct vector *v, size_t first, size_t step)
{
    struct result r;

    run(v->bytes, v->n, first, step, &r);
    if (r.refusal != v->refusal || r.n_requests != v->n_requests)
        say(v, first, step, &r);
    if (v->refusal == REFUSAL_NONE) {
        const char *out = v->out != NULL ? v->out : v->bytes;

        if (!r.is_idle || r.n != strlen(out) || memcmp(r.out, out, r.n) != 0)
            say(v, first, step, &r);
    }
}

/* Whole, byte by byte, and in two pieces wherever it can be cut. */
static void check(const struct vector *v, size_t n)
{
    for (; n > 0; n--, v++) {
        check_once(v, v->n, v->n);
        check_once(v, 1, 1);
        for (size_t first = 1; first < v->n; first++)
            check_once(v, first, v->n);
    }
}

#define CHECK(VECTORS) check(VECTORS, sizeof VECTORS / sizeof VECTORS[0])

/* ---- what is let through ---- */

static void well_formed_requests_pass_unchanged(void **state)
{
    static const struct vector v[] = {
        GOOD(GET),
        GOOD("GET / HTTP/1.0\r\n\r\n"),
        GOOD("GET / HTTP/1.0\r\nHost: a\r\nExpect: banana\r\n\r\n"),
        GOOD("GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        GOOD("get /%41?a=b&c|d^{}\"<>`\\ HTTP/1.1\r\nHost: a\r\n\r\n"),
        GOOD("M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n"),
        GOOD("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n"),
        GOOD("GET http://b/ HTTP/1.1\r\nHost:\r\n\r\n"),
        GOOD("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n"),
        GOOD("!#$%&'*+-.^_`|~09azAZ / HTTP/1.1\r\nHost: a\r\n\r\n"),
        GOOD(HEAD "X:\r\nY: \r\nZ:a\tb\x80\xff \r\n\r\n"),
        GOOD(HEAD "X: a:b;\"c\"\r\n\r\n"),
        GOOD(POST "Content-Length: 3\r\n\r\nabc"),
        GOOD(POST "content-LENGTH:003\r\n\r\n\r\n\r"),
        GOOD(POST "Content-Length: \t 0\r\n\r\n"),
        GOOD(POST "Content-Length: 100\r\nExpect: 100-Continue\r\n\r\n"
                  "0123456789012345678901234567890123456789012345678901234567890123456789"
                  "012345678901234567890123456789"),
        GOOD(HEAD "Expect:\r\nContent-Lengths: x\r\nHosts: b\r\n\r\n"),
        MANY(GET POST "Content-Length: 3\r\n\r\nabc" GET, NONE, 3),
    };

    (void)state;
    CHECK(v);
}

static void hosts_are_checked(void **state)
{
    static const struct vector good[] = {
        GOOD(START "Host:a.b-c_d~:80\r\n\r\n"),
        GOOD(START "HOST: 127.0.0.1\r\n\r\n"),
        GOOD(START "Host: [::1]:8080\r\n\r\n"),
        GOOD(START "host: [1:2:3:4:5:6:7.8.9.0]\r\n\r\n"),
        GOOD(START "Host: %41!$&'()*+;=\r\n\r\n"),
        GOOD(START "Host: a:\r\n\r\n"),
        GOOD_AS(START "Host: a \t \r\n\r\n", START "Host: a\r\n\r\n"),
        GOOD_AS(START "Host: [::1] \r\n\r\n", START "Host: [::1]\r\n\r\n"),
        GOOD_AS(START "Host: a:1 \r\n\r\n", START "Host: a:1\r\n\r\n"),
    };
    static const struct vector bad[] = {
        BAD(START "\r\n", HOST_MISSING),
        BAD("GET http://a/ HTTP/1.1\r\nX: a\r\n\r\n", HOST_MISSING),
        BAD(START "Host: a\r\nHost: a\r\n\r\n", HOST_MANY),
        BAD("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", HOST_MANY),
        BAD(START "Host:\r\n\r\n", HOST),
        BAD(START "Host: \t\r\n\r\n", HOST),
        BAD(START "Host: a b\r\n\r\n", HOST),
        BAD(START "Host: a, b\r\n\r\n", HOST),
        BAD(START "Host: u@a\r\n\r\n", HOST),
        BAD(START "Host: a/b\r\n\r\n", HOST),
        BAD(START "Host: a?b\r\n\r\n", HOST),
        BAD(START "Host: a#b\r\n\r\n", HOST),
        BAD(START "Host: http://a\r\n\r\n", HOST),
        BAD(START "Host: a:b\r\n\r\n", HOST),
        BAD(START "Host: a:80:80\r\n\r\n", HOST),
        BAD(START "Host: a:123456\r\n\r\n", HOST),
        BAD(START "Host: :80\r\n\r\n", HOST),
        BAD(START "Host: a%4\r\n\r\n", HOST),
        BAD(START "Host: a%4 \r\n\r\n", HOST),
        BAD(START "Host: a%zz\r\n\r\n", HOST),
        BAD(START "Host: [::1\r\n\r\n", HOST),
        BAD(START "Host: []\r\n\r\n", HOST),
        BAD(START "Host: [::1]a\r\n\r\n", HOST),
        BAD(START "Host: [g::1]\r\n\r\n", HOST),
        BAD(START "Host: [:: 1]\r\n\r\n", HOST),
        BAD(START "Host: a\\b\r\n\r\n", HOST),
        BAD(START "Host: \xc3\xa9\r\n\r\n", HOST),
        BAD(START "Host: a\n\r\n", LINE_END),
    };

    (void)state;
    CHECK(good);
    CHECK(bad);
}

static void what_the_library_misreads_is_rewritten(void **state)
{
    static const struct vector v[] = {
        GOOD_AS("\r\n\r\n" GET, GET),
        MANY(GET "\r\n" GET, NONE, 2),
        GOOD_AS(POST "Content-Length: 3 \t\r\n\r\nabc", POST "Content-Length: 3\r\n\r\nabc"),
        GOOD_AS(HEAD "Cookie: a=b;c\r\nCookie:d\r\ncOOKIE: e\r\nCOOKIE : f\r\n\r\n", ""),
        GOOD_AS(HEAD "Expect: 100-continue \r\n\r\n", HEAD "Expect: 100-continue\r\n\r\n"),
    };
    struct result r;

    (void)state;
    check(v, 1);
    check(v + 2, 1);
    check(v + 4, 1);
    run(GET "\r\n" GET, strlen(GET "\r\n" GET), 3, 3, &r);
    assert_string_equal(r.out, GET GET);
}

static void cookies_are_hidden_and_restored(void **state)
{
    static const struct vector v[] = {GOOD(HEAD "Cookie: a=b;c\r\nCookie:d\r\ncOOKIE: e\r\n\r\n")};
    char e[] = "cookie", upper[] = "COOKIE", longer[] = "Cookie\x03", other[] = "Cookies";
    char hidden[] = HEAD "Cookie: a\r\n\r\n";
    struct guard g;

    (void)state;
    CHECK(v);
    guard_init(&g);
    assert_int_equal(guard_pass(&g, &limits, hidden, hidden, sizeof hidden - 1), sizeof hidden - 1);
    assert_string_equal(hidden, HEAD "Cooki\x01: a\r\n\r\n");
    e[5] = '\x01';
    assert_int_equal(guard_restore_name(e, 6), 6);
    assert_string_equal(e, "cookie");
    upper[5] = '\x02';
    assert_int_equal(guard_restore_name(upper, 6), 6);
    assert_string_equal(upper, "COOKIE");
    assert_int_equal(guard_restore_name(longer, 7), 6);
    assert_string_equal(longer, "Cookie");
    assert_int_equal(guard_restore_name(other, 7), 7);
    assert_string_equal(other, "Cookies");
}

static void chunked_bodies_come_out_in_one_form(void **state)
{
    static const struct vector v[] = {
        GOOD(CHUNKS "0\r\n\r\n"),
        GOOD(CHUNKS "3\r\nabc\r\n0\r\n\r\n"),
        GOOD(CHUNKS "3\r\n\r\n\r\r\n1\r\n0\r\n0\r\n\r\n"),
        GOOD_AS(POST "transfer-encoding: \tCHUNKED \t\r\n\r\n0\r\n\r\n",
                POST "transfer-encoding: \tCHUNKED\r\n\r\n0\r\n\r\n"),
        GOOD_AS(CHUNKS "0000A\r\n0123456789\r\n000\r\n\r\n", CHUNKS "a\r\n0123456789\r\n0\r\n\r\n"),
        GOOD_AS(CHUNKS "2;a\r\nab\r\n3 \t; b = c ;d=\"e\\\"\\\\;\"\r\nabc\r\n0;x\r\n\r\n",
                CHUNKS "2\r\nab\r\n3\r\nabc\r\n0\r\n\r\n"),
        GOOD_AS(CHUNKS "1;a;b=\"\" ;c\r\nx\r\n0\r\n\r\n", CHUNKS "1\r\nx\r\n0\r\n\r\n"),
        GOOD_AS(CHUNKS "1\r\nx\r\n0\r\nContent-Length: 5\r\nX:\r\n\r\n",
                CHUNKS "1\r\nx\r\n0\r\n\r\n"),
        MANY(CHUNKS "1\r\nx\r\n0\r\n\r\n" CHUNKS "0\r\n\r\n" GET, NONE, 3),
    };

    (void)state;
    CHECK(v);
}

/* ---- what is not ---- */

static void bad_request_lines_are_refused(void **state)
{
    static const struct vector v[] = {
        BAD("\x16\x03\x01\x02", TLS),
        BAD("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION_MAJOR),
        BAD("\x80\x2e\x01", METHOD),
        BAD("\0", METHOD),
        BAD(" GET / HTTP/1.1\r\n", METHOD),
        BAD("G\tET / HTTP/1.1\r\n", METHOD),
        BAD("GET\t/ HTTP/1.1\r\n", METHOD),
        BAD("G@T / HTTP/1.1\r\n", METHOD),
        BAD("GET\r\n\r\n", METHOD),
        BAD("GET\0 / HTTP/1.1\r\n", METHOD),
        BAD("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ / HTTP/1.1\r\n", METHOD_LONG),
        BAD("GET  / HTTP/1.1\r\n", TARGET),
        BAD("GET \r\n", TARGET),
        BAD("GET /\0 HTTP/1.1\r\n", TARGET),
        BAD("GET /\x7f HTTP/1.1\r\n", TARGET),
        BAD("GET /\xc3\xa9 HTTP/1.1\r\n", TARGET),
        BAD("GET /\t HTTP/1.1\r\n", TARGET),
        BAD("GET /#a HTTP/1.1\r\n", TARGET),
        BAD("GET /\r\n", VERSION),
        BAD("GET / \r\n", VERSION),
        BAD("GET /  HTTP/1.1\r\n", VERSION),
        BAD("GET /a b HTTP/1.1\r\n", VERSION),
        BAD("GET / http/1.1\r\n", VERSION),
        BAD("GET / HTTP/1\r\n", VERSION),
        BAD("GET / HTTP/1.\r\n", VERSION),
        BAD("GET / HTTP/1.x\r\n", VERSION),
        BAD("GET / HTTP/1,1\r\n", VERSION),
        BAD("GET / HTTP/1.10\r\n", VERSION),
        BAD("GET / HTTP/1.1 \r\n", VERSION),
        BAD("GET / HTTP /1.1\r\n", VERSION),
        BAD("GET / HTTP/11.1\r\n", VERSION),
        BAD("GET / HTTP/.1\r\n", VERSION),
        BAD("GET / XTTP/1.1\r\n", VERSION),
        BAD("GET / HTTP/1.1 HTTP/1.1\r\n", VERSION),
        BAD("GET / HTTP/0.9\r\n", VERSION_MAJOR),
        BAD("GET / HTTP/2.0\r\n", VERSION_MAJOR),
        BAD("GET / HTTP/9.9\r\n", VERSION_MAJOR),
        BAD("GET /\n", LINE_END),
        BAD("GET / HTTP/1.1\nHost: a\n\n", LINE_END),
        BAD("GET / HTTP/1.1\rHost: a\r\r", LINE_END),
        BAD("GET / HTTP/1.1\r\r\nHost: a\r\n", LINE_END),
        BAD("\nGET / HTTP/1.1\r\n", LINE_END),
        BAD("\rGET / HTTP/1.1\r\n", LINE_END),
        BAD("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n" GET, LINE_END),
        BAD("GET /0123456789012345678901234567890123456789012345678901234567890123456789",
            URI_LONG),
    };

    (void)state;
    CHECK(v);
}

static void bad_fields_are_refused(void **state)
{
    static const struct vector v[] = {
        BAD(HEAD "X : a\r\n\r\n", FIELD_SPACE),
        BAD(HEAD "X\t: a\r\n\r\n", FIELD_SPACE),
        BAD(HEAD "Content-Length : 3\r\n\r\nabc", FIELD_SPACE),
        BAD(HEAD "X y: a\r\n\r\n", FIELD_SPACE),
        BAD(START " Host: a\r\n\r\n", FIELD_FOLD),
        BAD(START "\tX: a\r\nHost: a\r\n\r\n", FIELD_FOLD),
        BAD(HEAD "X: a\r\n b\r\n\r\n", FIELD_FOLD),
        BAD(HEAD "Transfer-Encoding:\r\n chunked\r\n\r\n", CODING),
        BAD(HEAD ": a\r\n\r\n", FIELD_NAME),
        BAD(HEAD "X\r\n\r\n", FIELD_NAME),
        BAD(HEAD "X\n\r\n", FIELD_NAME),
        BAD(HEAD "X[]: a\r\n\r\n", FIELD_NAME),
        BAD(HEAD "X\0: a\r\n\r\n", FIELD_NAME),
        BAD(HEAD "\x80: a\r\n\r\n", FIELD_NAME),
        BAD(HEAD "\xef\xbb\xbfX: a\r\n\r\n", FIELD_NAME),
        BAD(HEAD "X\x7f: a\r\n\r\n", FIELD_NAME),
        BAD(HEAD "\"X\": a\r\n\r\n", FIELD_NAME),
        BAD(HEAD "X: a\0b\r\n\r\n", FIELD_VALUE),
        BAD(HEAD "X: a\x0b"
                 "b\r\n\r\n",
            FIELD_VALUE),
        BAD(HEAD "X: \x7f\r\n\r\n", FIELD_VALUE),
        BAD(HEAD "Cookie: \x1b\r\n\r\n", FIELD_VALUE),
        BAD(HEAD "X: a\rb\r\n\r\n", LINE_END),
        BAD(HEAD "X: a\r\r\n\r\n", LINE_END),
        BAD(HEAD "X: a\n\r\n", LINE_END),
        BAD(HEAD "\n", LINE_END),
        BAD(HEAD "\rX: a\r\n\r\n", LINE_END),
        BAD(HEAD "Expect: 200-ok\r\n\r\n", EXPECT),
        BAD(HEAD "Expect: 100-continue, x\r\n\r\n", EXPECT),
        BAD(HEAD "Expect: 100-continues\r\n\r\n", EXPECT),
        BAD(HEAD "Expect: 100-continu\r\n\r\n", EXPECT),
        BAD(HEAD "Expect: 100-\0\r\n\r\n", FIELD_VALUE),
    };

    (void)state;
    CHECK(v);
}

static void ambiguous_lengths_are_refused(void **state)
{
    static const struct vector v[] = {
        BAD(POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", LENGTH_MANY),
        BAD(POST "Content-Length: 3\r\ncontent-length: 4\r\n\r\nabc", LENGTH_MANY),
        BAD(POST "Content-Length: 3, 3\r\n\r\nabc", LENGTH),
        BAD(POST "Content-Length: +3\r\n\r\nabc", LENGTH),
        BAD(POST "Content-Length: -3\r\n\r\nabc", LENGTH),
        BAD(POST "Content-Length: 0x3\r\n\r\nabc", LENGTH),
        BAD(POST "Content-Length: 3_0\r\n\r\nabc", LENGTH),
        BAD(POST "Content-Length: 3.0\r\n\r\nabc", LENGTH),
        BAD(POST "Content-Length: 3 0\r\n\r\nabc", LENGTH),
        BAD(POST "Content-Length: \"3\"\r\n\r\nabc", LENGTH),
        BAD(POST "Content-Length: a\r\n\r\n", LENGTH),
        BAD(POST "Content-Length:\r\n\r\n", LENGTH),
        BAD(POST "Content-Length: \r\n\r\n", LENGTH),
        BAD(POST "Content-Length: 3\0\r\n\r\nabc", LENGTH),
        BAD(POST "Content-Length: \x0b"
                 "3\r\n\r\nabc",
            LENGTH),
        BAD(POST "Content-Length: \xd9\xa3\r\n\r\nabc", LENGTH),
        BAD(POST "Content-Length: 9223372036854775808\r\n\r\n", LENGTH),
        BAD(POST "Content-Length: 18446744073709551619\r\n\r\nabc", LENGTH),
        BAD(POST "Content-Length: 3\n\r\nabc", LINE_END),
        BAD(POST "Content-Length: 9223372036854775807\r\n\r\n", BODY_LARGE),
        BAD(POST "Content-Length: 101\r\n\r\n", BODY_LARGE),
        BAD(POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", LENGTH_AND_CODING),
        BAD(POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", LENGTH_AND_CODING),
        BAD(POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", LENGTH_AND_CODING),
        BAD("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", CODING_OLD),
        BAD(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", CODING),
        BAD(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", CODING),
        BAD(POST "Transfer-Encoding: chunked, chunked\r\n\r\n", CODING),
        BAD(POST "Transfer-Encoding: chunked, gzip\r\n\r\n", CODING),
        BAD(POST "Transfer-Encoding: chunked,\r\n\r\n", CODING),
        BAD(POST "Transfer-Encoding: , chunked\r\n\r\n", CODING),
        BAD(POST "Transfer-Encoding:\r\n\r\n", CODING),
        BAD(POST "Transfer-Encoding: \"chunked\"\r\n\r\n", CODING),
        BAD(POST "Transfer-Encoding: \x0b"
                 "chunked\r\n\r\n",
            CODING),
        BAD(POST "Transfer-Encoding: chunked\x0c\r\n\r\n", CODING),
        BAD(POST "Transfer-Encoding: chunked\0\r\n\r\n", CODING),
        BAD(POST "Transfer-Encoding: chunked chunked\r\n\r\n", CODING),
        BAD(POST "Transfer-Encoding: chunked\n\r\n", LINE_END),
        BAD(POST "Transfer-Encoding: gzip\r\n\r\n", CODING_UNKNOWN),
        BAD(POST "Transfer-Encoding: gzip, chunked\r\n\r\n", CODING_UNKNOWN),
        BAD(POST "Transfer-Encoding: identity\r\n\r\n", CODING_UNKNOWN),
        BAD(POST "Transfer-Encoding: xchunked\r\n\r\n", CODING_UNKNOWN),
        BAD(POST "Transfer-Encoding: chunkedx\r\n\r\n", CODING_UNKNOWN),
        BAD(POST "Transfer-Encoding: chunke\r\n\r\n", CODING_UNKNOWN),
        BAD(POST "Transfer-Encoding: chunked;q=1\r\n\r\n", CODING_UNKNOWN),
        BAD(POST "Transfer-Encoding: a;b=\"c\" , chunked\r\n\r\n", CODING_UNKNOWN),
    };

    (void)state;
    CHECK(v);
}

static void bad_chunks_are_refused(void **state)
{
    static const struct vector v[] = {
        BAD(CHUNKS "x\r\n", CHUNK_SIZE),
        BAD(CHUNKS "\r\n", CHUNK_SIZE),
        BAD(CHUNKS " 3\r\nabc\r\n", CHUNK_SIZE),
        BAD(CHUNKS "+3\r\nabc\r\n", CHUNK_SIZE),
        BAD(CHUNKS "-3\r\nabc\r\n", CHUNK_SIZE),
        BAD(CHUNKS "0x3\r\nabc\r\n", CHUNK_SIZE),
        BAD(CHUNKS "3_0\r\nabc\r\n", CHUNK_SIZE),
        BAD(CHUNKS "3,\r\nabc\r\n", CHUNK_SIZE),
        BAD(CHUNKS "3\0\r\nabc\r\n", CHUNK_SIZE),
        BAD(CHUNKS "00000000000000003\r\nabc\r\n", CHUNK_SIZE),
        BAD(CHUNKS "10000000000000003\r\nabc\r\n", CHUNK_SIZE),
        BAD(CHUNKS "3\nabc\r\n", LINE_END),
        BAD(CHUNKS "3\rabc\r\n", LINE_END),
        BAD(CHUNKS "3\r\rabc\r\n", LINE_END),
        BAD(CHUNKS "3\r\nabcd\r\n0\r\n\r\n", CHUNK_END),
        BAD(CHUNKS "3\r\nab\r\n0\r\n\r\n", CHUNK_END),
        BAD(CHUNKS "3\r\nabc0\r\n\r\n", CHUNK_END),
        BAD(CHUNKS "3\r\nabc\n0\r\n\r\n", CHUNK_END),
        BAD(CHUNKS "3\r\nabc\rx0\r\n\r\n", CHUNK_END),
        BAD(CHUNKS "3\r\nabc\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKS "3 \r\nabc\r\n", CHUNK_EXTENSION),
        BAD(CHUNKS "3;\r\nabc\r\n", CHUNK_EXTENSION),
        BAD(CHUNKS "3;a=\r\nabc\r\n", CHUNK_EXTENSION),
        BAD(CHUNKS "3;=a\r\nabc\r\n", CHUNK_EXTENSION),
        BAD(CHUNKS "3;a=\"b\r\nabc\r\n", CHUNK_EXTENSION),
        BAD(CHUNKS "3;a\0\r\nabc\r\n", CHUNK_EXTENSION),
        BAD(CHUNKS "3;a b\r\nabc\r\n", CHUNK_EXTENSION),
        BAD(CHUNKS "3;a \r\nabc\r\n", CHUNK_EXTENSION),
        BAD(CHUNKS "3;a=\"\n\"\r\nabc\r\n", LINE_END),
        BAD(CHUNKS "3;a\nabc\r\n", LINE_END),
        BAD(CHUNKS "3;a\rbc\r\n", LINE_END),
        BAD(CHUNKS "65\r\n", BODY_LARGE),
        BAD(CHUNKS "3\r\nabc\r\nffffffffffffffff\r\n", BODY_LARGE),
        BAD(CHUNKS "0\r\nX\r\n\r\n", TRAILER),
        BAD(CHUNKS "0\r\n X: a\r\n\r\n", TRAILER),
        BAD(CHUNKS "0\r\nX : a\r\n\r\n", TRAILER),
        BAD(CHUNKS "0\r\nX: \0\r\n\r\n", TRAILER),
        BAD(CHUNKS "0\r\nX: a\n\r\n", LINE_END),
        BAD(CHUNKS "0\r\nX: a\rb\r\n\r\n", LINE_END),
        BAD(CHUNKS "0\r\n\n", LINE_END),
        BAD(CHUNKS "0\r\n\rG", LINE_END),
        BAD(CHUNKS "1\r\nx\r\n0\r\n" GET, TRAILER),
    };

    (void)state;
    CHECK(v);
}

/* Too much of something, which the limits above make little. */
static void repeat(char *to, const char *what, size_t times)
{
    to += strlen(to);
    for (size_t i = 0; i < times; i++)
        to = stpcpy(to, what);
}

static void check_text(const char *text, enum http_refusal reason)
{
    struct vector v = {text, strlen(text), reason, 1, NULL};

    check(&v, 1);
}

static void sizes_have_limits(void **state)
{
    char text[8192];

    (void)state;
    strcpy(text, HEAD);
    repeat(text, "X: y\r\n", 15);
    strcat(text, "\r\n");
    check_text(text, REFUSAL_NONE);
    strcpy(text, HEAD);
    repeat(text, "X: y\r\n", 16);
    strcat(text, "\r\n");
    check_text(text, REFUSAL_FIELDS_MANY);

    strcpy(text, HEAD "X: ");
    repeat(text, "y", 1024 - strlen(text) - 4);
    strcat(text, "\r\n\r\n");
    assert_int_equal(strlen(text), 1024);
    check_text(text, REFUSAL_NONE);
    strcpy(text, HEAD "X: ");
    repeat(text, "y", 1024 - strlen(text) - 3);
    strcat(text, "\r\n\r\n");
    check_text(text, REFUSAL_HEAD_LARGE);
    strcpy(text, HEAD);
    repeat(text, "y", 1100);
    check_text(text, REFUSAL_HEAD_LARGE);

    strcpy(text, CHUNKS "0\r\nX: ");
    repeat(text, "y", 1100);
    check_text(text, REFUSAL_TRAILER);
    strcpy(text, CHUNKS "0\r\n");
    repeat(text, "X:y\r\n", 17);
    check_text(text, REFUSAL_TRAILER);
    strcpy(text, CHUNKS "1;");
    repeat(text, "y", 1100);
    check_text(text, REFUSAL_CHUNK_EXTENSION);
}

static void long_extensions_of_small_chunks_are_refused(void **state)
{
    char text[64 * 1024];
    struct result r;

    (void)state;
    strcpy(text, CHUNKS);
    for (int i = 0; i < 30; i++) {
        strcat(text, "1;");
        repeat(text, "y", 1000);
        strcat(text, "\r\nx\r\n");
    }
    run(text, strlen(text), 4096, 4096, &r);
    assert_int_equal(r.refusal, REFUSAL_CHUNK_EXTENSION);
    assert_int_equal(r.n_requests, 1);
}

/* ---- what becomes of the rest ---- */

static void requests_ahead_of_a_bad_one_pass(void **state)
{
    static const struct vector v[] = {
        MANY(GET GET "GET / HTTP/1.1\nHost: a\n\n", LINE_END, 3),
        MANY(GET "\x16\x03", TLS, 2),
        MANY(POST "Content-Length: 3\r\n\r\nabcd\r\n\r\n", METHOD, 2),
        MANY(CHUNKS "1\r\nx\r\n0\r\n\r\n" CHUNKS "y", CHUNK_SIZE, 2),
    };
    struct result r;

    (void)state;
    CHECK(v);
    run(GET "GET / HTTP/1.1\nHost: a\n\n", strlen(GET) + 24, 5, 5, &r);
    assert_string_equal(r.out, GET "GET / HTTP/1.1\r\n\r\n");
}

/* Whatever is wrong, and wherever: what the library gets is a sequence of requests that the guard
 * itself takes, but for fields that contradict each other. */
static void a_refused_request_is_made_whole(void **state)
{
    static const char text[] = "\r\n" POST "X: y\r\nContent-Length: 10\r\n\r\n0123456789" CHUNKS
                               "3;a=\"b\"\r\nabc\r\n1\r\n0\r\n0\r\nX: y\r\n\r\n" GET;

    (void)state;
    for (size_t cut = 0; cut <= sizeof text - 1; cut++) {
        struct result r, again = {.n = 0};
        struct guard g, second;
        char buf[64];

        memset(&r, 0, sizeof r);
        guard_init(&g);
        if (cut > 0)
            feed(&g, &r, text, cut);
        guard_refuse(&g, REFUSAL_LINE_END);
        while (!guard_is_complete(&g)) {
            size_t k = guard_complete(&g, buf, 1 + cut % 40);

            memcpy(r.out + r.n, buf, k);
            r.n += k;
        }
        guard_init(&second);
        feed(&second, &again, r.out, r.n);
        if (second.refusal == REFUSAL_HOST_MISSING || second.refusal == REFUSAL_HOST ||
            second.refusal == REFUSAL_CODING || second.refusal == REFUSAL_CODING_UNKNOWN)
            continue; /* it was cut before its Host */
        assert_int_equal(second.refusal, REFUSAL_NONE);
        if (!guard_is_in_head(&g)) /* else nobody reads the body that its fields promise */
            assert_true(guard_is_idle(&second));
        assert_int_equal(second.n_requests, g.n_requests);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well_formed_requests_pass_unchanged),
        cmocka_unit_test(hosts_are_checked),
        cmocka_unit_test(what_the_library_misreads_is_rewritten),
        cmocka_unit_test(cookies_are_hidden_and_restored),
        cmocka_unit_test(chunked_bodies_come_out_in_one_form),
        cmocka_unit_test(bad_request_lines_are_refused),
        cmocka_unit_test(bad_fields_are_refused),
        cmocka_unit_test(ambiguous_lengths_are_refused),
        cmocka_unit_test(bad_chunks_are_refused),
        cmocka_unit_test(sizes_have_limits),
        cmocka_unit_test(long_extensions_of_small_chunks_are_refused),
        cmocka_unit_test(requests_ahead_of_a_bad_one_pass),
        cmocka_unit_test(a_refused_request_is_made_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
