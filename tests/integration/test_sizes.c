/*
 * test_sizes.c - how large a request may be, where the answer comes before the body, and who is told to
 * go on with it.
 */
#include "harness.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const char template[] =
    "version: 1\n"
    "server: {workers: 1}\n"
    "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
    "limits: {head: 4KiB, uri: 1KiB, headers: 20, body: 10000, timeouts: {body: 2s}}\n"
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"
    "plugins:\n"
    "  body: {module: body, config: {mode: stream, reply: yes}}\n"
    "  no: {module: body, config: {mode: stream, refuse: yes}}\n"
    "  none: {module: body, config: {mode: none}}\n"
    "  hello: {module: respond, config: {status: 200, body: \"hello\\n\"}}\n"
    "routes:\n"
    "  - {match: {path: /upload}, chain: [body]}\n"
    "  - {match: {path: /small}, chain: [body], body: 100}\n"
    "  - {match: {path: /large}, chain: [body], body: 1MiB}\n"
    "  - {match: {path: /no}, chain: [no, body]}\n"
    "  - {match: {path: /nobody}, chain: [none]}\n"
    "  - {match: {path: /**}, chain: [hello]}\n"
    "crash: {dir: @DIR@/crashes, keep: 100}\n";

static struct server *start(void)
{
    return server_start(template);
}

/* What comes within a while of that head, and no more: the status lines. */
static void hear(struct conn *c, char *text, size_t size, const char *until)
{
    struct pollfd p = {.fd = conn_fd(c), .events = POLLIN};
    size_t n = 0;
    ssize_t got;

    text[0] = '\0';
    while (n < size - 1 && strstr(text, until) == NULL && poll(&p, 1, 10000) > 0 &&
           (got = recv(conn_fd(c), text + n, size - 1 - n, 0)) > 0) {
        n += (size_t)got;
        text[n] = '\0';
    }
}

/* ---- Expect ---- */

static void who_wants_the_body_has_the_client_go_on(void **state)
{
    struct server *srv = start();
    struct conn *c = conn_open(srv->port[0]);
    struct response *res;
    char text[1024];

    (void)state;
    for (int i = 0; i < 3; i++) { /* the connection is kept */
        conn_sendf(c, "POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\n"
                      "Content-Length: 5\r\n\r\n");
        hear(c, text, sizeof text, "\r\n\r\n");
        assert_string_equal(text, "HTTP/1.1 100 Continue\r\n\r\n");
        conn_send(c, "hello", 5);
        res = conn_response(c, "POST");
        assert_int_equal(res->status, 200);
        assert_false(res->closed);
        response_free(&res);
    }
    conn_close(&c);
    assert_int_equal(server_stop(&srv), 0);
}

static void who_does_not_answers_at_once(void **state)
{
    static const struct {
        const char *path;
        unsigned length;
        int status;
    } cases[] = {{"/no", 5, 403},         {"/", 5, 200},        {"/nobody", 5, 404},
                 {"/upload", 10001, 413}, {"/small", 101, 413}, {"/large", 2 << 20, 413}};
    struct server *srv = start();
    char text[2048];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct conn *c = conn_open(srv->port[0]);

        conn_sendf(c,
                   "POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                   "Content-Length: %u\r\n\r\n",
                   cases[i].path, cases[i].length);
        hear(c, text, sizeof text, "\r\n\r\n");
        assert_int_equal(atoi(text + 9), cases[i].status);
        assert_non_null(strstr(text, "Connection: close\r\n"));
        conn_close(&c);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void other_expectations_are_417_and_those_of_http_1_0_nothing(void **state)
{
    struct server *srv = start();
    struct response *res = server_request(srv, "POST", "/upload", "Expect: coffee\r\n", "hello", 5);
    struct conn *c = conn_open(srv->port[0]);
    char text[1024];

    (void)state;
    assert_int_equal(res->status, 417);
    response_free(&res);
    conn_sendf(c,
               "POST /upload HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    hear(c, text, sizeof text, "\r\n\r\n");
    assert_memory_equal(text, "HTTP/1.1 200 OK\r\n", 17);
    conn_close(&c);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- sizes ---- */

static int post(struct server *srv, const char *path, size_t n, bool is_chunked)
{
    struct conn *c = conn_open(srv->port[0]);
    char *bytes = malloc(n);
    struct response *res;
    int status;

    memset(bytes, 'x', n);
    if (is_chunked)
        conn_sendf(c, "POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", path);
    else
        conn_sendf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", path, n);
    for (size_t at = 0; at < n; at += 1000) {
        size_t piece = n - at < 1000 ? n - at : 1000;

        if (is_chunked)
            conn_sendf(c, "%zx\r\n", piece);
        conn_send(c, bytes + at, piece);
        if (is_chunked)
            conn_sendf(c, "\r\n");
    }
    if (is_chunked)
        conn_sendf(c, "0\r\n\r\n");
    res = conn_response(c, "POST");
    status = res->status;
    if (status == 413 && n > 65536) /* less is read, and the connection kept */
        assert_true(res->closed);
    response_free(&res);
    conn_close(&c);
    free(bytes);
    return status;
}

static void a_body_may_be_as_large_as_its_route_says(void **state)
{
    struct server *srv = start();

    (void)state;
    for (int is_chunked = 0; is_chunked < 2; is_chunked++) {
        assert_int_equal(post(srv, "/upload", 10000, is_chunked), 200);
        assert_int_equal(post(srv, "/upload", 10001, is_chunked), 413);
        assert_int_equal(post(srv, "/small", 100, is_chunked), 200);
        assert_int_equal(post(srv, "/small", 101, is_chunked), 413);
        assert_int_equal(post(srv, "/small", 300000, is_chunked), 413);
        assert_int_equal(post(srv, "/large", 1 << 20, is_chunked), 200);
        assert_int_equal(post(srv, "/large", (1 << 20) + 1, is_chunked), 413);
    }
    assert_int_equal(server_stop(&srv), 0);
}

/* The client need not come to the end of what is too much. */
static void a_chunked_body_is_refused_when_it_has_become_too_large(void **state)
{
    struct server *srv = start();
    struct conn *c = conn_open(srv->port[0]);
    struct response *res;
    char junk[200];

    (void)state;
    memset(junk, 'x', sizeof junk);
    conn_sendf(c, "POST /small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff00\r\n");
    conn_send(c, junk, sizeof junk);
    res = conn_response(c, "POST");
    assert_int_equal(res->status, 413);
    assert_true(res->closed);
    response_free(&res);
    conn_close(&c);
    assert_int_equal(server_stop(&srv), 0);
}

static void heads_have_limits_of_their_own(void **state)
{
    struct server *srv = start();
    char path[1100], fields[4300];
    struct response *res;
    size_t n = 0;

    (void)state;
    memset(path, 'a', sizeof path);
    path[0] = '/';
    path[1024] = '\0';
    res = server_get(srv, path);
    assert_int_equal(res->status, 200);
    response_free(&res);
    path[1024] = 'a';
    path[1025] = '\0';
    res = server_get(srv, path);
    assert_int_equal(res->status, 414);
    response_free(&res);
    for (int i = 0; i < 21; i++)
        n += (size_t)snprintf(fields + n, sizeof fields - n, "X-%d: y\r\n", i);
    res = server_request(srv, "GET", "/", fields, NULL, 0);
    assert_int_equal(res->status, 431);
    response_free(&res);
    memset(fields, 'v', sizeof fields);
    memcpy(fields, "X: ", 3); /* NOLINT: no end here */
    memcpy(fields + 4200, "\r\n", 3);
    res = server_request(srv, "GET", "/", fields, NULL, 0);
    assert_int_equal(res->status, 431);
    assert_true(res->closed);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_wants_the_body_has_the_client_go_on),
        cmocka_unit_test(who_does_not_answers_at_once),
        cmocka_unit_test(other_expectations_are_417_and_those_of_http_1_0_nothing),
        cmocka_unit_test(a_body_may_be_as_large_as_its_route_says),
        cmocka_unit_test(a_chunked_body_is_refused_when_it_has_become_too_large),
        cmocka_unit_test(heads_have_limits_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
