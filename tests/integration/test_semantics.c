/*
 * test_semantics.c - what RFC 9110 and 9112 say about the meaning of requests and answers, in raw
 * bytes against the real binary. Framing is another test's.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define H     "Host: localhost\r\n"
#define CLOSE "Connection: close\r\n"
#define END   "\r\n"
#define DATE  "Sun, 01 Jun 2025 00:00:00 GMT" /* of the files */

static struct server *srv;
static char etag[64];

static void write_old(const char *dir, const char *name, const char *text)
{
    struct timespec t[2] = {{.tv_sec = 1748736000}, {.tv_sec = 1748736000}};
    char path[512];

    snprintf(path, sizeof path, "%s/www/%s", dir, name);
    file_write(path, "%s", text);
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static int start(void **state)
{
    char *dir = tmp_dir(), path[512];
    char *big = malloc(300001);
    struct response *res;

    (void)state;
    snprintf(path, sizeof path, "%s/www", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/www/sub", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    memset(big, 'z', 300000);
    big[300000] = '\0';
    write_old(dir, "index.html", "<p>index");
    write_old(dir, "a.txt", "0123456789");
    write_old(dir, "big.bin", big);
    write_old(dir, "sub/index.html", "<p>sub");
    srv = server_start_in(
        dir, "version: 1\n"
             "server: {workers: 1}\n"
             "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
             "modules: {path: [@PLUGINS@, @MODULES@]}\n"
             "plugins:\n"
             "  site: {module: static, config: {root: www}}\n"
             "  hello: {module: respond, config: {body: \"hello\\n\"}}\n"
             "  below: {module: respond, config: {body: \"below\\n\"}}\n"
             "  beta: {module: respond, config: {body: \"beta\\n\"}}\n"
             "  debug: {module: respond, config: {body: \"debug\\n\"}}\n"
             "  typeless: {module: respond, config: {body: \"x\", content_type: \"\"}}\n"
             "  reset: {module: respond, config: {status: 205, body: \"x\"}}\n"
             "  upper: {module: body, config: {resp_mode: buffer, upper: true}}\n"
             "  chunks: {module: streamer}\n"
             "  passes: {module: headers, config: {response_set: {X-Passed: yes}}}\n"
             "routes:\n"
             "  - {match: {host: \"*.below.test\"}, chain: [below]}\n"
             "  - {match: {host: \"port.test:8123\"}, chain: [below]}\n"
             "  - {match: {path: /users/*/posts, methods: [GET]}, chain: [hello]}\n"
             "  - {match: {path: /users/**, methods: [POST, PURGE]}, chain: [hello]}\n"
             "  - {match: {path: /hello, headers: {X-Beta: \"1\"}}, chain: [beta]}\n"
             "  - {match: {path: /hello, query: {debug: \"*\"}}, chain: [debug]}\n"
             "  - {match: {path: /hello}, chain: [hello]}\n"
             "  - {match: {path: /typeless}, chain: [typeless]}\n"
             "  - {match: {path: /reset}, chain: [reset]}\n"
             "  - {match: {path: /upper}, chain: [upper, hello]}\n"
             "  - {match: {path: /chunks}, chain: [chunks]}\n"
             "  - {match: {path: /upper-chunks}, chain: [upper, chunks]}\n"
             "  - {match: {path: /silent}, chain: [passes]}\n"
             "  - {match: {path: /}, chain: [site]}\n"
             "  - {match: {path: /*}, chain: [site]}\n"
             "  - {match: {path: /sub/**}, chain: [site]}\n"
             "crash: {dir: @DIR@/crashes, keep: 10}\n");
    free(big);
    free(dir);
    res = server_get(srv, "/a.txt");
    snprintf(etag, sizeof etag, "%s", response_header(res, "ETag"));
    response_free(&res);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    return server_stop(&srv);
}

/* ---- one request, one answer, the end ---- */

struct row {
    const char *request; /* "$E" stands for the ETag of /a.txt. Ends the connection */
    int status;
    const char *has, *lacks; /* in the whole answer, in any case; NULL: whatever */
};

static char *with_etag(const char *text)
{
    size_t size = strlen(text) + 4 * sizeof etag, n = 0;
    char *out = malloc(size);
    const char *at;

    for (; (at = strstr(text, "$E")) != NULL; text = at + 2)
        n += (size_t)snprintf(out + n, size - n, "%.*s%s", (int)(at - text), text, etag);
    snprintf(out + n, size - n, "%s", text);
    return out;
}

/* Status lines in it. */
static int answers(const char *text)
{
    int n = 0;

    for (; (text = strstr(text, "HTTP/1.1 ")) != NULL; text++)
        n += text[9] >= '1' && text[9] <= '5';
    return n;
}

static char *answer_to(const char *request)
{
    struct conn *conn = conn_open(srv->port[0]);
    char *bytes = with_etag(request), *answer;

    conn_send(conn, bytes, strlen(bytes));
    answer = conn_read_all(conn, NULL);
    conn_close(&conn);
    free(bytes);
    return answer;
}

static void check(const struct row *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *answer = answer_to(row[i].request), start[16];

        snprintf(start, sizeof start, "HTTP/1.1 %d ", row[i].status);
        if (strncmp(answer, start, strlen(start)) != 0 || answers(answer) != 1 ||
            (row[i].has != NULL && strcasestr(answer, row[i].has) == NULL) ||
            (row[i].lacks != NULL && strcasestr(answer, row[i].lacks) != NULL) ||
            strcasestr(answer, "\r\nDate: ") == NULL)
            harness_fail(__FILE__, __LINE__, "row %zu, want %d, %s, not %s:\n%s---\n%.600s", i,
                         row[i].status, row[i].has, row[i].lacks, row[i].request, answer);
        free(answer);
    }
}

#define CHECK(ROWS) check(ROWS, sizeof ROWS / sizeof ROWS[0])
#define GET(TARGET) "GET " TARGET " HTTP/1.1\r\n" H CLOSE END

/* ---- targets, hosts, methods ---- */

static void a_target_is_decoded_once_and_normalised(void **state)
{
    static const struct row rows[] = {
        {GET("/a.txt"), 200, "0123456789", NULL},
        {GET("/%61%2Etxt"), 200, "0123456789", NULL},
        {GET("/sub/../a.txt"), 200, "0123456789", NULL},
        {GET("/sub/%2e%2E/a.txt"), 200, "0123456789", NULL},
        {GET("/sub%2f..%2fa.txt"), 200, "0123456789", NULL},
        {GET("//sub///..//a.txt"), 200, "0123456789", NULL},
        {GET("/sub/."), 200, "<p>sub", NULL},
        {GET("/.."), 200, "<p>index", NULL},
        {GET("/a.txt?%zz&%00"), 200, "0123456789", NULL},
        {GET("/%252e%252e/a.txt"), 404, NULL, NULL},
        {GET("/a.txt%2f"), 404, NULL, NULL},
        {GET("/a|b"), 404, NULL, NULL},
    };

    (void)state;
    CHECK(rows);
}

static void what_is_no_target_is_400_and_the_end(void **state)
{
    static const char *const targets[] = {
        "/%00",     "/a%00.txt", "/%",        "/%4",         "/%zz",        "/a#b",
        "/a?b#c",   "a",         "a.txt",     "*",           "?a",          "/a\\b",
        "/<a>",     "/\"a\"",    "/{a}",      "/a`",         "/a^",         "**",
        "ftp://a/", "http://",   "http:///a", "http://u@a/", "http://a:b/", "//%"};

    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        char request[256];
        struct row row = {request, 400, "\r\nConnection: close\r\n", NULL};

        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" H END, targets[i]);
        check(&row, 1);
    }
}

static void the_authority_of_an_absolute_target_counts(void **state)
{
    static const struct row rows[] = {
        {GET("http://localhost/a.txt"), 200, "0123456789", NULL},
        {GET("HTTP://LocalHost/a.txt"), 200, "0123456789", NULL},
        {GET("http://localhost"), 200, "<p>index", NULL},
        {GET("http://localhost?a"), 200, "<p>index", NULL},
        {GET("http://localhost/sub/../../a.txt"), 200, "0123456789", NULL},
        {GET("http://a.below.test/"), 200, "below", NULL},
        {"GET http://localhost/a.txt HTTP/1.1\r\nHost: a.below.test\r\n" CLOSE END, 200,
         "0123456789", NULL},
        {"GET http://localhost/a.txt HTTP/1.1\r\n" CLOSE END, 400, NULL, NULL},
        {"GET http://localhost/a.txt HTTP/1.1\r\nHost: a b\r\n" CLOSE END, 400, NULL, NULL},
    };

    (void)state;
    CHECK(rows);
}

static void a_request_has_one_sound_host(void **state)
{
    static const char *const bad[] = {"",
                                      "Host:\r\n",
                                      "Host: \r\n",
                                      "Host: localhost\r\nHost: localhost\r\n",
                                      "Host: localhost\r\nhOST: other\r\n",
                                      "Host: a b\r\n",
                                      "Host: a/b\r\n",
                                      "Host: http://a\r\n",
                                      "Host: user@a\r\n",
                                      "Host: a:b\r\n",
                                      "Host: a:65536\r\n",
                                      "Host: a:80:80\r\n",
                                      "Host: [::1\r\n",
                                      "Host: ::1\r\n",
                                      "Host: a\\b\r\n",
                                      "Host: <a>\r\n",
                                      "Host: a?b\r\n",
                                      "Host: a%\r\n"};
    static const char *const good[] = {"Host: localhost:65535\r\n", "Host: LOCALHOST\r\n",
                                       "host:localhost.\r\n",       "Host:  \t localhost \t \r\n",
                                       "Host: [::1]:80\r\n",        "Host: 127.0.0.1:\r\n",
                                       "Host: my_host\r\n"};
    char request[256];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct row row = {request, 400, "\r\nConnection: close\r\n", NULL};

        snprintf(request, sizeof request, "GET /a.txt HTTP/1.1\r\n%s" END, bad[i]);
        check(&row, 1);
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct row row = {request, 200, NULL, NULL};

        snprintf(request, sizeof request, "GET /a.txt HTTP/1.1\r\n%s" CLOSE END, good[i]);
        check(&row, 1);
    }
}

static void methods_are_known_allowed_or_refused(void **state)
{
    static const struct row rows[] = {
        {"POST /a.txt HTTP/1.1\r\n" H CLOSE "Content-Length: 0\r\n" END, 405,
         "\r\nAllow: GET, HEAD, OPTIONS\r\n", NULL},
        {"DELETE /users/1/posts HTTP/1.1\r\n" H CLOSE END, 405,
         "\r\nAllow: GET, HEAD, POST, PURGE, OPTIONS\r\n", NULL},
        {"PURGE /users/1/posts HTTP/1.1\r\n" H CLOSE END, 200, "hello", NULL},
        {"GET /users/1 HTTP/1.1\r\n" H CLOSE END, 405, "\r\nAllow: POST, PURGE, OPTIONS\r\n", NULL},
        {"PURGE /a.txt HTTP/1.1\r\n" H CLOSE END, 405, "\r\nAllow: ", NULL},
        {"BREW /a.txt HTTP/1.1\r\n" H CLOSE END, 501, NULL, NULL},
        {"get /a.txt HTTP/1.1\r\n" H CLOSE END, 501, NULL, NULL},
        {"G(T /a.txt HTTP/1.1\r\n" H CLOSE END, 400, NULL, NULL},
        {"TRACE /a.txt HTTP/1.1\r\n" H "X-Secret: s3cret\r\n" CLOSE END, 405,
         "\r\nAllow: ", "s3cret"},
        {"CONNECT localhost:80 HTTP/1.1\r\n" H END "GET / HTTP/1.1\r\n" H END, 405,
         "\r\nConnection: close\r\n", NULL},
        {"CONNECT / HTTP/1.1\r\n" H CLOSE END, 400, NULL, NULL},
        {"GET localhost:80 HTTP/1.1\r\n" H CLOSE END, 400, NULL, NULL},
        {"OPTIONS * HTTP/1.1\r\n" H CLOSE END, 200,
         "\r\nAllow: GET, HEAD, POST, PURGE, PUT, PATCH, DELETE, OPTIONS\r\n", NULL},
        {"OPTIONS * HTTP/1.1\r\n" H CLOSE END, 200, "\r\nContent-Length: 0\r\n", NULL},
        {"OPTIONS /a.txt HTTP/1.1\r\n" H CLOSE END, 200, "\r\nAllow: GET, HEAD, OPTIONS\r\n", NULL},
        {"OPTIONS /users/1/posts HTTP/1.1\r\n" H CLOSE END, 200,
         "\r\nAllow: GET, HEAD, POST, PURGE, OPTIONS\r\n", NULL},
        {"OPTIONS /silent HTTP/1.1\r\n" H CLOSE END, 200, "\r\nX-Passed: yes\r\n", NULL},
        {"GET /silent HTTP/1.1\r\n" H CLOSE END, 404, NULL, NULL},
    };

    (void)state;
    CHECK(rows);
}

static void routes_match_on_hosts_fields_and_parameters(void **state)
{
    static const struct row rows[] = {
        {"GET / HTTP/1.1\r\nHost: x.Below.Test:99\r\n" CLOSE END, 200, "below", NULL},
        {"GET / HTTP/1.1\r\nHost: below.test\r\n" CLOSE END, 200, "<p>index", NULL},
        {"GET / HTTP/1.1\r\nHost: port.test:8123\r\n" CLOSE END, 200, "below", NULL},
        {"GET / HTTP/1.1\r\nHost: port.test\r\n" CLOSE END, 200, "<p>index", NULL},
        {"GET /hello HTTP/1.1\r\n" H "x-beta: 1\r\n" CLOSE END, 200, "beta", NULL},
        {"GET /hello HTTP/1.1\r\n" H "x-beta: 2\r\n" CLOSE END, 200, "hello", NULL},
        {"GET /hello?a&debug HTTP/1.1\r\n" H CLOSE END, 200, "debug\n", NULL},
        {"GET /hello?debugs HTTP/1.1\r\n" H CLOSE END, 200, "hello\n", NULL},
        {"GET /users/7/posts HTTP/1.1\r\n" H CLOSE END, 200, "hello", NULL},
    };

    (void)state;
    CHECK(rows);
}

/* ---- answers ---- */

static void preconditions_are_checked_in_their_order(void **state)
{
#define ASK(FIELDS) "GET /a.txt HTTP/1.1\r\n" H CLOSE FIELDS END
    static const struct row rows[] = {
        {ASK("If-None-Match: $E\r\n"), 304, "\r\nETag: ", "0123456789"},
        {ASK("If-None-Match: $E\r\n"), 304, "\r\nDate: ", "Content-Type"},
        {ASK("If-None-Match: $E\r\n"), 304, "\r\n\r\n", "Content-Length"},
        {ASK("If-None-Match: $E\r\n"), 304, "\r\n\r\n", "Transfer-Encoding"},
        {ASK("If-None-Match: W/$E\r\n"), 304, NULL, NULL},
        {ASK("If-None-Match: \"x\", $E\r\n"), 304, NULL, NULL},
        {ASK("If-None-Match: \"x\"\r\nIf-None-Match: $E\r\n"), 304, NULL, NULL},
        {ASK("If-None-Match: *\r\n"), 304, NULL, NULL},
        {ASK("If-None-Match: \"x\"\r\nIf-Modified-Since: " DATE "\r\n"), 200, "0123456789", NULL},
        {ASK("If-Modified-Since: " DATE "\r\n"), 304, NULL, "0123456789"},
        {ASK("If-Modified-Since: Sunday, 01-Jun-25 00:00:00 GMT\r\n"), 304, NULL, NULL},
        {ASK("If-Modified-Since: Sun Jun  1 00:00:00 2025\r\n"), 304, NULL, NULL},
        {ASK("If-Modified-Since: Sat, 31 May 2025 23:59:59 GMT\r\n"), 200, NULL, NULL},
        {ASK("If-Modified-Since: lately\r\n"), 200, NULL, NULL},
        {ASK("If-Match: $E\r\n"), 200, NULL, NULL},
        {ASK("If-Match: *\r\n"), 200, NULL, NULL},
        {ASK("If-Match: W/$E\r\n"), 412, NULL, "0123456789"},
        {ASK("If-Match: \"x\"\r\nIf-None-Match: $E\r\n"), 412, NULL, NULL},
        {ASK("If-Match: $E\r\nIf-None-Match: $E\r\n"), 304, NULL, NULL},
        {ASK("If-Match: $E\r\nIf-Unmodified-Since: Sat, 31 May 2025 00:00:00 GMT\r\n"), 200, NULL,
         NULL},
        {ASK("If-Unmodified-Since: Sat, 31 May 2025 00:00:00 GMT\r\n"), 412, NULL, NULL},
        {ASK("If-Unmodified-Since: " DATE "\r\n"), 200, NULL, NULL},
        {"GET /none HTTP/1.1\r\n" H CLOSE "If-None-Match: *\r\n" END, 404, NULL, NULL},
        {"HEAD /a.txt HTTP/1.1\r\n" H CLOSE "If-None-Match: $E\r\n" END, 304, NULL, NULL},
    };

    (void)state;
    CHECK(rows);
}

static void ranges_are_partial_content(void **state)
{
    static const struct row rows[] = {
        {ASK("Range: bytes=2-4\r\n"), 206, "\r\nContent-Range: bytes 2-4/10\r\n", "2345"},
        {ASK("Range: bytes=2-4\r\n"), 206, "\r\n\r\n234", NULL},
        {ASK("Range: bytes=-2\r\n"), 206, "\r\n\r\n89", NULL},
        {ASK("Range: bytes=8-100\r\n"), 206, "Content-Range: bytes 8-9/10", NULL},
        {ASK("Range: bytes=10-\r\n"), 416, "\r\nContent-Range: bytes */10\r\n", "0123456789"},
        {ASK("Range: bytes=4-2\r\n"), 200, "0123456789", "Content-Range"},
        {ASK("Range: pages=1-2\r\n"), 200, "0123456789", "Content-Range"},
        {ASK("Range: bytes=0-1,5-6\r\n"), 206,
         "Content-Type: multipart/byteranges; boundary=", NULL},
        {ASK("Range: bytes=0-1,5-6\r\n"), 206, "Content-Range: bytes 5-6/10\r\n\r\n56\r\n--", NULL},
        {ASK("Range: bytes=0-5,3-7\r\n"), 206, "\r\nContent-Range: bytes 0-7/10\r\n", "multipart"},
        {ASK("Range: bytes=2-4\r\nIf-Range: $E\r\n"), 206, NULL, NULL},
        {ASK("Range: bytes=2-4\r\nIf-Range: W/$E\r\n"), 200, "0123456789", NULL},
        {ASK("Range: bytes=2-4\r\nIf-Range: \"x\"\r\n"), 200, "0123456789", NULL},
        {ASK("Range: bytes=2-4\r\nIf-Range: " DATE "\r\n"), 206, NULL, NULL},
        {ASK("Range: bytes=2-4\r\nIf-Range: Mon, 02 Jun 2025 00:00:00 GMT\r\n"), 200, NULL, NULL},
        {ASK("Range: bytes=2-4\r\nIf-None-Match: $E\r\n"), 304, NULL, NULL},
        {"HEAD /a.txt HTTP/1.1\r\n" H CLOSE "Range: bytes=2-4\r\n" END, 200, "Content-Length: 10",
         NULL},
    };

    (void)state;
    CHECK(rows);
}

/* CVE-2011-3192: what one short request may cost. */
static void a_thousand_ranges_are_no_larger_than_the_file(void **state)
{
    char request[8192];
    size_t n = (size_t)snprintf(request, sizeof request,
                                "GET /big.bin HTTP/1.1\r\n" H CLOSE "Range: bytes=0-0");
    char *answer;

    (void)state;
    for (int i = 0; i < 1000; i++)
        n += (size_t)snprintf(request + n, sizeof request - n, ",%d-", i % 10);
    snprintf(request + n, sizeof request - n, "\r\n\r\n");
    answer = answer_to(request);
    assert_true(strlen(answer) < 302000);
    free(answer);
}

static void bodies_have_types_and_folders_a_slash(void **state)
{
    static const struct row rows[] = {
        {GET("/typeless"), 200, "\r\nContent-Type: application/octet-stream\r\n", NULL},
        {GET("/none"), 404, "\r\nContent-Type: ", NULL},
        {GET("/%00"), 400, "\r\nContent-Type: application/problem+json\r\n", NULL},
        {GET("/chunks"), 200, "\r\nContent-Type: text/event-stream\r\n", "octet"},
        {GET("/sub?a=b"), 301, "\r\nLocation: /sub/?a=b\r\n", NULL},
        {GET("/reset"), 205, "\r\nContent-Length: 0\r\n", "Content-Type: app"},
    };

    (void)state;
    CHECK(rows);
}

/* All but Date; HEAD and GET must not differ in a field. */
static void assert_same_fields(const struct response *get, const struct response *head,
                               const char *target)
{
    if (get->status != head->status || get->n_headers != head->n_headers || head->body_len != 0)
        fail_msg("%s: GET\n%s\nHEAD\n%s", target, get->head, head->head);
    for (size_t i = 0; i < get->n_headers; i++) {
        const char *other = response_header(head, get->headers[i].name);

        if (strcasecmp(get->headers[i].name, "Date") != 0 &&
            (other == NULL || strcmp(other, get->headers[i].value) != 0))
            fail_msg("%s: %s: %s, HEAD says %s", target, get->headers[i].name,
                     get->headers[i].value, other);
    }
}

static void head_is_get_without_the_body(void **state)
{
    static const char *const targets[] = {
        "/",      "/a.txt",      "/big.bin",           "/none",        "/sub", "/hello",
        "/upper", "/chunks?n=3", "/chunks?n=3&len=30", "/upper-chunks"};

    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct conn *conn = conn_open(srv->port[0]);
        struct response *head = conn_request(conn, "HEAD", targets[i], NULL, NULL, 0);
        struct response *get = conn_request(conn, "GET", targets[i], NULL, NULL, 0);

        assert_same_fields(get, head, targets[i]);
        assert_false(head->closed);
        assert_true(conn_is_idle(conn)); /* nothing is left of either */
        response_free(&head);
        response_free(&get);
        conn_close(&conn);
    }
}

static void a_304_without_a_length_keeps_the_connection(void **state)
{
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct response *res = conn_request(conn, "GET", "/chunks?n=1&status=304", NULL, NULL, 0);

        assert_int_equal(res->status, 304);
        assert_false(res->closed);
        response_free(&res);
        res = conn_request(conn, "GET", "/a.txt", NULL, NULL, 0);
        assert_string_equal(res->body, "0123456789");
        response_free(&res);
    }
    conn_close(&conn);
}

/* ---- connections ---- */

static void requests_in_a_row_are_answered_in_their_order(void **state)
{
    static const char *const method[] = {"GET", "HEAD", "GET", "OPTIONS", "POST", "GET"};
    static const int status[] = {200, 200, 404, 200, 405, 200};
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    conn_sendf(conn, "GET /a.txt HTTP/1.1\r\n" H END "HEAD /chunks HTTP/1.1\r\n" H END
                     "GET /none HTTP/1.1\r\n" H END "OPTIONS * HTTP/1.1\r\n" H END
                     "POST /a.txt HTTP/1.1\r\n" H "Content-Length: 3\r\n" END "abc"
                     "GET /hello HTTP/1.1\r\n" H CLOSE END);
    for (size_t i = 0; i < sizeof status / sizeof status[0]; i++) {
        struct response *res = conn_response(conn, method[i]);

        assert_int_equal(res->status, status[i]);
        assert_int_equal(res->closed, i == 5);
        response_free(&res);
    }
    conn_close(&conn);
}

static void a_client_that_sends_no_more_gets_its_answers(void **state)
{
    static const char *const requests[] = {"GET /big.bin HTTP/1.1\r\n" H END,
                                           "GET /a.txt HTTP/1.1\r\n" H END
                                           "GET /big.bin HTTP/1.1\r\n" H END,
                                           "GET /big.bin HTTP/1.0\r\n" END};

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct conn *conn = conn_open(srv->port[0]);
        char *answer;
        size_t n;

        conn_send(conn, requests[i], strlen(requests[i]));
        conn_shutdown(conn);
        answer = conn_read_all(conn, &n);
        assert_true(n > 300000);
        assert_int_equal(answers(answer), i == 1 ? 2 : 1);
        assert_int_equal(answer[n - 1], 'z');
        free(answer);
        conn_close(&conn);
    }
}

/* Request and end in one segment: the library sees one event. The idle time is a minute. */
static void a_client_whose_end_comes_with_its_request_is_not_kept(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct conn *conn = conn_open(srv->port[0]);
        int on = 1;
        char *answer;

        assert_int_equal(setsockopt(conn_fd(conn), IPPROTO_TCP, TCP_CORK, &on, sizeof on), 0);
        conn_sendf(conn, "GET /a.txt HTTP/1.1\r\n" H END);
        conn_shutdown(conn);
        answer = conn_read_all(conn, NULL);
        assert_int_equal(answers(answer), 1);
        assert_non_null(strstr(answer, "\r\n\r\n0123456789"));
        free(answer);
        conn_close(&conn);
    }
}

/* All that comes, up to the end; fails the test when that is a reset. */
static size_t read_to_the_end(struct conn *conn, char *buf, size_t size)
{
    int64_t deadline = harness_deadline_ms(HARNESS_WAIT_MS);
    struct pollfd pfd = {.fd = conn_fd(conn), .events = POLLIN};
    size_t n = 0;

    for (;;) {
        ssize_t r = recv(conn_fd(conn), buf + n, size - 1 - n, MSG_DONTWAIT);

        if (r == 0)
            break;
        if (r < 0 && errno != EAGAIN)
            harness_fail(__FILE__, __LINE__, "%s after %zu bytes", strerror(errno), n);
        if (r > 0)
            n += (size_t)r;
        else if (harness_now_ms() >= deadline)
            harness_fail(__FILE__, __LINE__, "no end after %zu bytes", n);
        else
            poll(&pfd, 1, 100);
    }
    buf[n] = '\0';
    return n;
}

/* The connection is not reset while half of the answer is still in the server's socket. */
static void what_follows_the_last_request_costs_nothing_of_its_answer(void **state)
{
    enum { MORE = 100000, ROOM = 700000 };
    static const struct {
        const char *request;
        int n_answers;
        size_t least;
    } rows[] = {
        {"GET /big.bin HTTP/1.1\r\n" H CLOSE END, 1, 300000},
        {"GET /big.bin HTTP/1.0\r\n" END, 1, 300000},
        {"GET /big.bin HTTP/1.1\r\n" H END "GET /big.bin HTTP/1.1\r\n" H CLOSE END, 2, 600000},
        {"GET /% HTTP/1.1\r\n" H END, 1, 0},
        {"CONNECT a:80 HTTP/1.1\r\n" H END, 1, 0},
    };
    char *more = malloc(MORE), *answer = malloc(ROOM);

    (void)state;
    memset(more, 'x', MORE);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct conn *conn = conn_open(srv->port[0]);
        int small = 32768; /* less, and a window below one segment makes TCP crawl */
        size_t n;

        setsockopt(conn_fd(conn), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        conn_send(conn, rows[i].request, strlen(rows[i].request));
        conn_send(conn, more, MORE);
        poll(NULL, 0, 100); /* in which a server would have closed */
        n = read_to_the_end(conn, answer, ROOM);
        assert_true(n > rows[i].least);
        assert_int_equal(answers(answer), rows[i].n_answers);
        conn_close(&conn);
    }
    free(more);
    free(answer);
}

static void an_http_1_0_client_needs_no_host_and_asks_for_keep_alive(void **state)
{
    static const struct row rows[] = {
        {"GET /a.txt HTTP/1.0\r\n" END, 200, "0123456789", "chunked"},
        {"GET /chunks HTTP/1.0\r\n" END, 200, "cccbbb", "chunked"},
        {"GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n" END, 200, "cccbbb", "keep-alive"},
        {"HEAD /chunks HTTP/1.0\r\nConnection: keep-alive\r\n" END, 200, NULL, "chunked"},
        {"GET /a.txt HTTP/1.0\r\nConnection: close, keep-alive\r\n" END, 200, NULL, NULL},
        {"GET /a.txt HTTP/1.0\r\nHost: a/b\r\n" END, 400, NULL, NULL},
        {"GET /a.txt HTTP/1.0\r\nHost: a\r\nHost: a\r\n" END, 400, NULL, NULL},
    };
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    CHECK(rows);
    for (int i = 0; i < 2; i++) {
        struct response *res;

        conn_sendf(conn, "GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\n" END);
        res = conn_response(conn, "GET");
        assert_int_equal(res->status, 200);
        assert_int_equal(strcasecmp(response_header(res, "Connection"), "keep-alive"), 0);
        response_free(&res);
    }
    conn_close(&conn);
}

static void close_is_heard_among_other_options(void **state)
{
    static const struct row rows[] = {
        {"GET /a.txt HTTP/1.1\r\n" H "Connection: Close\r\n" END, 200, "Connection: close", NULL},
        {"GET /a.txt HTTP/1.1\r\n" H "Connection: keep-alive, close\r\n" END, 200, NULL, NULL},
        {"GET /a.txt HTTP/1.1\r\n" H "Connection: x-y,close\r\n" END, 200, NULL, NULL},
        {"GET /a.txt HTTP/1.1\r\n" H "Connection: x-y\r\nConnection: close\r\n" END, 200, NULL,
         NULL},
    };

    (void)state;
    CHECK(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_is_decoded_once_and_normalised),
        cmocka_unit_test(what_is_no_target_is_400_and_the_end),
        cmocka_unit_test(the_authority_of_an_absolute_target_counts),
        cmocka_unit_test(a_request_has_one_sound_host),
        cmocka_unit_test(methods_are_known_allowed_or_refused),
        cmocka_unit_test(routes_match_on_hosts_fields_and_parameters),
        cmocka_unit_test(preconditions_are_checked_in_their_order),
        cmocka_unit_test(ranges_are_partial_content),
        cmocka_unit_test(a_thousand_ranges_are_no_larger_than_the_file),
        cmocka_unit_test(bodies_have_types_and_folders_a_slash),
        cmocka_unit_test(head_is_get_without_the_body),
        cmocka_unit_test(a_304_without_a_length_keeps_the_connection),
        cmocka_unit_test(requests_in_a_row_are_answered_in_their_order),
        cmocka_unit_test(a_client_that_sends_no_more_gets_its_answers),
        cmocka_unit_test(a_client_whose_end_comes_with_its_request_is_not_kept),
        cmocka_unit_test(what_follows_the_last_request_costs_nothing_of_its_answer),
        cmocka_unit_test(an_http_1_0_client_needs_no_host_and_asks_for_keep_alive),
        cmocka_unit_test(close_is_heard_among_other_options),
    };

    return cmocka_run_group_tests_name("semantics", tests, start, stop);
}
