/*
 * test_wire.c - what the server makes of bytes that are no request, over real sockets: one answer, with
 * the right status, and the end of the connection; and nothing that was smuggled is served.
 */
#include "harness.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct server *srv;

/* The cookies, as the plugin gets them. */
static const char cookies[] =
    "#include <bulkhead.h>\n"
    "static bh_rc show(void *self, bh_req *req, void *ctx)\n"
    "{\n"
    "    char text[256];\n"
    "    int n = 0;\n"
    "    for (size_t i = 0; i < 4; i++) {\n"
    "        bh_str v = bh_header_nth(req, BH_REQ, \"Cookie\", i);\n"
    "        if (v.p != NULL)\n"
    "            n += snprintf(text + n, sizeof text - n, \"[%.*s]\", (int)v.n, v.p);\n"
    "    }\n"
    "    return bh_reply(req, 200, \"text/plain\", n > 0 ? text : \"none\");\n"
    "}\n"
    "BH_PLUGIN(\"cookies\", \"1\", .on_request = show)\n";

static int set_up(void **state)
{
    char *dir = tmp_dir();

    (void)state;
    free(plugin_build(dir, "cookies", cookies));
    srv = server_start_in(dir, "version: 1\n"
                               "server: {workers: 1}\n"
                               "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                               "limits: {head: 4KiB, uri: 1KiB, headers: 50, body: 1MiB}\n"
                               "modules: {path: [@DIR@, @PLUGINS@, @MODULES@]}\n"
                               "plugins:\n"
                               "  echo: {module: body, config: {mode: buffer, reply: yes}}\n"
                               "  cookies: {module: cookies}\n"
                               "  early: {module: respond, config: {body: early}}\n"
                               "  smuggled: {module: respond, config: {body: SMUGGLED}}\n"
                               "routes:\n"
                               "  - {match: {path: /smuggled}, chain: [smuggled]}\n"
                               "  - {match: {path: /cookies}, chain: [cookies]}\n"
                               "  - {match: {path: /early}, chain: [early]}\n"
                               "  - {match: {path: /**}, chain: [echo]}\n"
                               "crash: {dir: @DIR@/crashes, keep: 100}\n");
    free(dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return server_stop(&srv);
}

/* ---- one exchange of bytes ---- */

struct heard {
    int n;         /* answers, interim ones aside */
    int status[8]; /* of each */
    char *text;
    size_t text_n;
};

static void read_answers(struct conn *conn, struct heard *h)
{
    h->n = 0;
    h->text = conn_read_all(conn, &h->text_n); /* fails the test when the server does not close */
    for (const char *p = h->text; (p = strstr(p, "HTTP/1.1 ")) != NULL; p += 9) {
        int status = atoi(p + 9);

        if (status >= 200 && h->n < 8)
            h->status[h->n++] = status;
    }
}

enum way { WHOLE, BYTES, HALVES, WAYS };

static void say(struct conn *conn, const char *p, size_t n, enum way way)
{
    size_t step = way == WHOLE ? n : way == BYTES ? 1 : n / 2 + 1;

    for (size_t at = 0; at < n; at += step)
        conn_send(conn, p + at, step < n - at ? step : n - at);
}

#define GET    "GET /early HTTP/1.1\r\nHost: a\r\n"
#define POST   "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKS POST "Transfer-Encoding: chunked\r\n\r\n"
#define NEXT   "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

struct row {
    int status;
    const char *bytes;
    size_t n;
};

#define ROW(status, bytes)               \
    {                                    \
        status, bytes, sizeof(bytes) - 1 \
    }

/* Behind a good request, and followed by one that must not be served. */
static void one_answer_and_the_end(const struct row *row, size_t n)
{
    for (; n > 0; n--, row++)
        for (enum way way = 0; way < WAYS; way++) {
            struct conn *conn = conn_open(srv->port[0]);
            struct heard h;

            say(conn, GET "\r\n", strlen(GET "\r\n"), way);
            say(conn, row->bytes, row->n, way);
            conn_sendf(conn, NEXT);
            read_answers(conn, &h);
            if (h.n != 2 || h.status[0] != 200 || h.status[1] != row->status ||
                strstr(h.text, "SMUGGLED") != NULL ||
                strstr(h.text, "Content-Type: application/problem+json") == NULL ||
                strstr(h.text, "Connection: close") == NULL)
                harness_fail(__FILE__, __LINE__, "expected %d, in way %d:\n%s\ngot\n%s",
                             row->status, way, row->bytes, h.text);
            free(h.text);
            conn_close(&conn);
        }
}

#define CHECK(ROWS) one_answer_and_the_end(ROWS, sizeof ROWS / sizeof ROWS[0])

/* ---- the table ---- */

static void ambiguous_framing_is_answered_once(void **state)
{
    static const struct row rows[] = {
        ROW(400, POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ROW(400, POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ROW(400, POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        ROW(400, POST "Content-Length: 3\r\nContent-Length: 40\r\n\r\nabc"),
        ROW(400, POST "Content-Length: 3, 3\r\n\r\nabc"),
        ROW(400, POST "Content-Length: +3\r\n\r\nabc"),
        ROW(400, POST "Content-Length:\r\n\r\nabc"),
        ROW(400, POST "Content-Length: 99999999999999999999\r\n\r\nabc"),
        ROW(413, POST "Content-Length: 1048577\r\n\r\nabc"),
        ROW(501, POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ROW(501, POST "Transfer-Encoding: identity\r\n\r\n"),
        ROW(400, POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ROW(400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ROW(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ROW(400, POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        ROW(400, POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    };

    (void)state;
    CHECK(rows);
}

static void malformed_heads_are_answered_once(void **state)
{
    static const struct row rows[] = {
        ROW(400, "GET / HTTP/1.1\nHost: a\n\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
        ROW(400, GET "X: a\r\n b\r\n\r\n"),
        ROW(400, GET "X : a\r\n\r\n"),
        ROW(400, GET " X: a\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n"),
        ROW(400, GET "X: a\0b\r\n\r\n"),
        ROW(400, POST "Content-Length: 3\0\r\n\r\nabc"),
        ROW(400, "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, GET "X@: a\r\n\r\n"),
        ROW(400, "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\n\r\n"),
        ROW(400, GET "Host: a\r\n\r\n"),
        ROW(400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        ROW(400, "GET /\r\n"),
        ROW(505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
        ROW(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ROW(400, "\x16\x03\x01\x02\x01\x01\x00\x01\xfc\x03\x03"),
        ROW(417, GET "Expect: banana\r\n\r\n"),
    };

    (void)state;
    CHECK(rows);
}

static void malformed_chunks_are_answered_once(void **state)
{
    static const struct row rows[] = {
        ROW(400, CHUNKS "5\nhello\n0\n\n"),
        ROW(400, CHUNKS "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ROW(400, CHUNKS "5\r\nhello!\r\n0\r\n\r\n"),
        ROW(400, CHUNKS "5\r\nhello\r\n0x5\r\nhello\r\n0\r\n\r\n"),
        ROW(400, CHUNKS "5\r\nhello\r\n0\r\nX: a\0\r\n\r\n"),
        ROW(400, CHUNKS "5\r\nhello\r\n0\r\n" NEXT),
        ROW(413, CHUNKS "5\r\nhello\r\n100000\r\n"),
        ROW(400,
            "POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!"),
    };

    (void)state;
    CHECK(rows);
}

/* What is large, in pieces that the server's buffer does not end with. */
static void what_is_too_large_is_answered_once(void **state)
{
    static const struct {
        int status;
        const char *before, *again, *after;
    } table[] = {
        {414, "GET /", "aaaaaaaaaaaaaaaa", " HTTP/1.1\r\nHost: a\r\n\r\n"},
        {431, GET "X: ", "aaaaaaaaaaaaaaaa", "\r\n\r\n"},
        {431, GET, "X: y\r\n", "\r\n"},
        {400, CHUNKS "5;", "aaaaaaaaaaaaaaaa", "\r\nhello\r\n0\r\n\r\n"},
        {400, CHUNKS "0\r\n", "X: y\r\n", "\r\n"},
    };
    static char text[400000];

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct row row = {.status = table[i].status, .bytes = text};
        struct conn *conn = conn_open(srv->port[0]);
        struct heard h;
        char *end = stpcpy(text, table[i].before);

        for (int k = 0; k < 20000; k++)
            end = stpcpy(end, table[i].again);
        end = stpcpy(end, table[i].after);
        conn_send(conn, text, (size_t)(end - text)); /* more than the server reads of it */
        read_answers(conn, &h);
        if (h.n != 1 || h.status[0] != row.status || strstr(h.text, "\"title\":\"Error\"") != NULL)
            harness_fail(__FILE__, __LINE__, "row %zu, expected %d, got\n%s", i, row.status,
                         h.text);
        free(h.text);
        conn_close(&conn);
    }
}

/* ---- what is legal, and was misread ---- */

static void expect_bodies(const char *bytes, size_t n, const char *const *bodies, int n_bodies)
{
    for (enum way way = 0; way < WAYS; way++) {
        struct conn *conn = conn_open(srv->port[0]);

        say(conn, bytes, n, way);
        for (int i = 0; i < n_bodies; i++) {
            struct response *res = conn_response(conn, "POST");

            assert_int_equal(res->status, 200);
            assert_non_null(strstr(res->body, bodies[i]));
            response_free(&res);
        }
        assert_true(conn_is_idle(conn));
        conn_close(&conn);
    }
}

static void space_after_a_length_or_coding_is_no_fault(void **state)
{
    static const char text[] = POST "Content-Length: 5 \t\r\n\r\nhello" POST
                                    "Transfer-Encoding: chunked \r\n\r\n5\r\nworld\r\n0\r\n\r\n" GET
                                    "\r\n";
    static const char *const bodies[] = {"bytes=5", "bytes=5", "early"};

    (void)state;
    expect_bodies(text, sizeof text - 1, bodies, 3);
}

static void extensions_and_trailers_are_left_out(void **state)
{
    static const char text[] = CHUNKS
        "0005;a=b;c=\"d;\\\"\"\r\nhello\r\n1 ;e\r\n!\r\n0;f\r\nX: y\r\n"
        "Content-Length: 9\r\n\r\n" CHUNKS "0\r\n\r\n";
    static const char *const bodies[] = {"bytes=6", "bytes=0"};

    (void)state;
    expect_bodies(text, sizeof text - 1, bodies, 2);
}

static void cookies_reach_plugins_under_their_name(void **state)
{
    static const char text[] =
        "GET /cookies HTTP/1.1\r\nHost: a\r\nCookie: a=b; c\r\nCOOKIE:d\r\n\r\n";
    static const char *const bodies[] = {"[a=b; c][d]"};

    (void)state;
    expect_bodies(text, sizeof text - 1, bodies, 1);
}

static void expect_without_a_body_does_not_swallow_the_next_request(void **state)
{
    static const char text[] = "GET /early HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"
                               "GET /early HTTP/1.1\r\nHost: a\r\n\r\n";
    static const char *const bodies[] = {"early", "early"};

    (void)state;
    expect_bodies(text, sizeof text - 1, bodies, 2);
}

/* ---- bodies that nobody wants ---- */

static void a_small_body_after_an_early_reply_keeps_the_connection(void **state)
{
    static const char text[] =
        "POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n0\r\n\r\n"
        "POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    static const char *const bodies[] = {"early", "early"};

    (void)state;
    expect_bodies(text, sizeof text - 1, bodies, 2);
}

static void a_large_one_is_not_read_to_its_end(void **state)
{
    static char text[300000];
    struct conn *conn = conn_open(srv->port[0]);
    struct heard h;

    (void)state;
    memset(text, 'x', sizeof text);
    conn_sendf(conn,
               "POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n80000\r\n");
    conn_send(conn, text, sizeof text); /* less than the chunk says */
    read_answers(conn, &h);
    assert_int_equal(h.n, 1);
    assert_int_equal(h.status[0], 200);
    assert_non_null(strstr(h.text, "early"));
    free(h.text);
    conn_close(&conn);
}

static void who_waits_for_100_gets_the_answer_instead(void **state)
{
    struct conn *conn = conn_open(srv->port[0]);
    struct heard h;

    (void)state;
    conn_sendf(conn, "POST /early HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                     "Content-Length: 5\r\n\r\n");
    read_answers(conn, &h);
    assert_int_equal(h.n, 1);
    assert_memory_equal(h.text, "HTTP/1.1 200", 12);
    free(h.text);
    conn_close(&conn);
}

/* ---- counters ---- */

static void refusals_are_counted_by_reason(void **state)
{
    struct conn *conn = conn_open(srv->port[0]);
    json_t *status;
    long long before = -1, after = -1;
    char *text;

    (void)state;
    for (int i = 0; i < 2; i++) {
        run_command(&text, "RUNTIME_DIRECTORY=%s \"$BULKHEAD\" status --json -c %s 2>&1", srv->dir,
                    srv->config);
        status = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL);
        assert_non_null(status);
        before = after;
        after = json_integer_value(
            json_object_get(json_object_get(status, "refusals"), "host_missing"));
        json_decref(status);
        free(text);
        if (i == 0) {
            struct heard h;

            conn_sendf(conn, "GET / HTTP/1.1\r\n\r\n");
            read_answers(conn, &h);
            assert_int_equal(h.n, 1);
            free(h.text);
        }
    }
    assert_int_equal(after, before + 1);
    run_command(&text, "RUNTIME_DIRECTORY=%s \"$BULKHEAD\" status -c %s 2>&1", srv->dir,
                srv->config);
    assert_non_null(strstr(text, "host_missing "));
    free(text);
    conn_close(&conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ambiguous_framing_is_answered_once),
        cmocka_unit_test(malformed_heads_are_answered_once),
        cmocka_unit_test(malformed_chunks_are_answered_once),
        cmocka_unit_test(what_is_too_large_is_answered_once),
        cmocka_unit_test(space_after_a_length_or_coding_is_no_fault),
        cmocka_unit_test(extensions_and_trailers_are_left_out),
        cmocka_unit_test(cookies_reach_plugins_under_their_name),
        cmocka_unit_test(expect_without_a_body_does_not_swallow_the_next_request),
        cmocka_unit_test(a_small_body_after_an_early_reply_keeps_the_connection),
        cmocka_unit_test(a_large_one_is_not_read_to_its_end),
        cmocka_unit_test(who_waits_for_100_gets_the_answer_instead),
        cmocka_unit_test(refusals_are_counted_by_reason),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
