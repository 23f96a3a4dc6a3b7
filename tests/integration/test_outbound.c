/*
 * test_outbound.c - bh_http(): a plugin asks another server, here a second Bulkhead, or a socket that the
 * test plays the server on.
 */
#include "harness.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct server *start(void)
{
    return server_start("version: 1\n"
                        "server: {workers: 1}\n"
                        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                        "plugins:\n"
                        "  caller: {module: caller, outbound: 8}\n"
                        "routes: [{chain: [caller]}]\n"
                        "breaker: {crashes: 0}\n"
                        "crash: {dir: @DIR@/crashes}\n");
}

static struct server *start_upstream(void)
{
    return server_start(
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners:\n"
        "  - {address: \"127.0.0.1:@PORT@\"}\n"
        "  - {address: \"unix:@DIR@/up.sock\", mode: 0666}\n"
        "modules: {path: [@PLUGINS@]}\n"
        "plugins:\n"
        "  mark: {module: headers, config: {response_set: {X-Seen: \"yes\"}}}\n"
        "  hello: {module: respond, config: {body: \"hello\"}}\n"
        "  site: {module: static, config: {root: \"@DIR@\"}}\n"
        "routes:\n"
        "  - {match: {path: /hello, headers: {X-Asked: by caller}, methods: [GET, HEAD, POST]}, "
        "chain: [mark, hello]}\n"
        "  - {match: {path: /files/**}, chain: [site]}\n"
        "  - {match: {path: /*}, chain: [site]}\n");
}

/* The answer to GET TARGET, freed by the caller. */
static char *ask(struct server *srv, int status, const char *format, ...)
{
    char target[1024];
    struct response *res;
    va_list ap;
    char *text;

    va_start(ap, format);
    vsnprintf(target, sizeof target, format, ap);
    va_end(ap);
    res = server_get(srv, target);
    assert_int_equal(res->status, status);
    text = strdup(res->body);
    response_free(&res);
    return text;
}

static void expect(struct server *srv, const char *want, const char *target)
{
    char *text = ask(srv, 200, "%s", target);

    if (strncmp(text, want, strlen(want)) != 0)
        fail_msg("'%s' does not begin with '%s'", text, want);
    free(text);
}

/* ---- a server that the test plays ---- */

struct upstream {
    int fd, port;
};

static struct upstream listen_here(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct upstream u = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    socklen_t len = sizeof in;

    assert_int_equal(bind(u.fd, (struct sockaddr *)(void *)&in, sizeof in), 0);
    assert_int_equal(listen(u.fd, 16), 0);
    assert_int_equal(getsockname(u.fd, (struct sockaddr *)(void *)&in, &len), 0);
    u.port = ntohs(in.sin_port);
    return u;
}

/* Takes a connection and a request's head; then says text. */
static int serve(const struct upstream *u, const char *text)
{
    struct pollfd p = {.fd = u->fd, .events = POLLIN};
    char buf[4096];
    int fd;

    assert_int_equal(poll(&p, 1, (int)(harness_deadline_ms(5000) - harness_now_ms())), 1);
    fd = accept4(u->fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(recv(fd, buf, sizeof buf, 0) > 0);
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    return fd;
}

static struct conn *send_call(struct server *srv, const struct upstream *u, const char *more)
{
    struct conn *c = conn_open(srv->port[0]);

    conn_sendf(c, "GET /call?to=http://127.0.0.1:%d&path=/%s HTTP/1.1\r\nHost: a\r\n\r\n", u->port,
               more);
    return c;
}

static void expect_answer(struct conn **c, int status, const char *want)
{
    struct response *res = conn_response(*c, "GET");

    assert_int_equal(res->status, status);
    if (want != NULL && strncmp(res->body, want, strlen(want)) != 0)
        fail_msg("'%s' does not begin with '%s'", res->body, want);
    response_free(&res);
    conn_close(c);
}

/* ---- the tests ---- */

static void another_server_answers(void **state)
{
    struct server *srv = start(), *up = start_upstream();
    char target[512];

    (void)state;
    snprintf(target, sizeof target, "/call?to=http://127.0.0.1:%d&path=/hello", up->port[0]);
    for (int i = 0; i < 20; i++)
        expect(srv, "0 200 5 yes hello", target);
    snprintf(target, sizeof target, "/call?to=unix:%s/up.sock&path=/hello", up->dir);
    expect(srv, "0 200 5 yes hello", target);
    snprintf(target, sizeof target, "/call?to=http://127.0.0.1:%d&path=/hello&method=POST&body=x",
             up->port[0]);
    expect(srv, "0 200 5 yes hello", target);
    snprintf(target, sizeof target, "/call?to=http://127.0.0.1:%d&path=/hello&method=HEAD",
             up->port[0]);
    expect(srv, "0 200 0 yes ", target);
    snprintf(target, sizeof target, "/call?to=http://127.0.0.1:%d&path=/nothing", up->port[0]);
    expect(srv, "0 404 ", target);
    assert_int_equal(server_stop(&up), 0);
    expect(srv, "-7 0 0 ", target); /* it is gone */
    assert_int_equal(server_stop(&srv), 0);
}

static void a_connection_is_used_again(void **state)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    struct server *srv = start();
    struct upstream u = listen_here();
    struct conn *c = send_call(srv, &u, "");
    int fd = serve(&u, answer);

    (void)state;
    expect_answer(&c, 200, "0 200 2 - ok");
    for (int i = 0; i < 3; i++) {
        char buf[4096];

        c = send_call(srv, &u, "");
        assert_true(recv(fd, buf, sizeof buf, 0) > 0); /* on the one that there is */
        assert_int_equal(send(fd, answer, strlen(answer), 0), strlen(answer));
        expect_answer(&c, 200, "0 200 2 - ok");
    }
    close(fd);
    close(u.fd);
    assert_int_equal(server_stop(&srv), 0);
}

static void what_does_not_end_is_ended(void **state)
{
    struct server *srv = start();
    struct upstream u = listen_here();
    int64_t begin = harness_now_ms();
    struct conn *c = send_call(srv, &u, "&timeout=200");
    int fd = serve(&u, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");

    (void)state;
    expect_answer(&c, 200, "-11 0 ");             /* BH_ETIME */
    assert_true(harness_now_ms() - begin >= 190); /* the answer's own deadline is its other limit */
    close(fd);
    c = send_call(srv, &u, "");
    fd = serve(&u, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    close(fd);
    expect_answer(&c, 200, "-7 0 "); /* cut off */
    c = send_call(srv, &u, "&max=3");
    fd = serve(&u, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    expect_answer(&c, 200, "-5 0 "); /* BH_ELIMIT */
    close(fd);
    close(u.fd);
    assert_int_equal(server_stop(&srv), 0);
}

static void what_is_cancelled_is_cut(void **state)
{
    struct server *srv = start();
    struct upstream u = listen_here();
    struct conn *c;
    char buf[64];
    int fd;

    (void)state;
    c = send_call(srv, &u, "&do=cancel"); /* before it began */
    expect_answer(&c, 200, "0 -2");
    /* When the instance that asked is gone, so is what it asked for. */
    c = send_call(srv, &u, "");
    fd = serve(&u, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    conn_close(&c);
    assert_int_equal(server_stop(&srv), 0);
    assert_true(recv(fd, buf, sizeof buf, 0) <= 0);
    close(fd);
    close(u.fd);
}

static void a_crash_in_the_answers_function_costs_one_request(void **state)
{
    struct server *srv = start();
    struct upstream u = listen_here();
    struct conn *c = send_call(srv, &u, "&do=crash");
    int fd = serve(&u, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    pid_t before, after;
    char *record;

    (void)state;
    eventually(server_children(srv, "bh-worker", &before, 1) == 1);
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "\"plugin\""));
    free(record);
    close(fd);
    expect_answer(&c, 504, NULL); /* nobody resumed it */
    c = send_call(srv, &u, "");
    fd = serve(&u, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    expect_answer(&c, 200, "0 200 2 - ok");
    c = send_call(srv, &u, "&do=bad");
    expect_answer(&c, 500, NULL); /* before anything was sent */
    assert_int_equal(server_children(srv, "bh-worker", &after, 1), 1);
    assert_int_equal(before, after);
    close(fd);
    close(u.fd);
    assert_int_equal(server_stop(&srv), 0);
}

static bool takes_some(struct server *srv, const char *target)
{
    char *text = ask(srv, 200, "%s", target);
    bool is_some = text[0] != '0';

    free(text);
    return is_some;
}

static void there_are_never_more_at_a_time_than_allowed(void **state)
{
    struct server *srv = start();
    struct upstream u = listen_here();
    char target[64];

    (void)state;
    snprintf(target, sizeof target, "/many?to=http://127.0.0.1:%d&n=20", u.port);
    expect(srv, "8 0", target);
    expect(srv, "0 0", target);
    eventually(takes_some(srv, target)); /* their time is over */
    close(u.fd);
    assert_int_equal(server_stop(&srv), 0);
}

static void what_is_no_request_is_refused(void **state)
{
    static const char *const targets[] = {
        "/call?to=ftp://127.0.0.1&path=/",
        "/call?to=file:///etc/passwd&path=/",
        "/call?to=http://a:b@127.0.0.1&path=/",
        "/call?to=http://127.0.0.1/x&path=/",
        "/call?to=http://127.0.0.1&path=x",
        "/call?to=http://127.0.0.1&path=/%20x",
        "/call?to=http://127.0.0.1&path=/%0d%0aX:",
        "/call?to=http://127.0.0.1&path=/&method=GET%20/",
        "/call?to=http://127.0.0.1&path=/&do=header",
        "/call?to=&path=/",
    };
    struct server *srv = start();

    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++)
        expect(srv, "-3 0", targets[i]);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- where a plugin may go ---- */

static struct server *start_with(const char *allow)
{
    return server_start("version: 1\n"
                        "server: {workers: 1}\n"
                        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                        "plugins:\n"
                        "  caller: {module: caller, http: {allow: %s}}\n"
                        "  free: {module: caller}\n"
                        "routes:\n"
                        "  - {match: {path: /many}, chain: [free]}\n"
                        "  - {match: {path: /call, query: {as: free}}, chain: [free]}\n"
                        "  - {chain: [caller]}\n",
                        allow);
}

static void only_what_is_allowed_is_asked(void **state)
{
    struct server *up = start_upstream(), *srv = start_with("[public, \"unix:/run/none.sock\"]");
    static const char *const forms[] = {"127.0.0.1",  "localhost", "0x7f000001",
                                        "2130706433", "127.1",     "[::ffff:127.0.0.1]",
                                        "LOCALHOST"};
    char target[512];

    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        char *text;

        snprintf(target, sizeof target, "/call?to=http://%s:%d&path=/hello", forms[i], up->port[0]);
        text = ask(srv, 200, "%s", target);
        if (strncmp(text, "-10 0", 5) != 0) /* BH_EPERM, at once or when the address is known */
            fail_msg("%s: %s", forms[i], text);
        free(text);
    }
    snprintf(target, sizeof target, "/call?to=unix:%s/up.sock&path=/hello", up->dir);
    expect(srv, "-10 0", target);
    assert_int_equal(server_stop(&srv), 0);

    srv = start_with("[localhost]");
    snprintf(target, sizeof target, "/call?to=http://localhost:%d&path=/hello", up->port[0]);
    expect(srv, "0 200 5 yes hello", target);
    snprintf(target, sizeof target, "/call?to=http://127.0.0.1:%d&path=/hello", up->port[0]);
    expect(srv, "-10 0", target);
    assert_int_equal(server_stop(&srv), 0);
    assert_int_equal(server_stop(&up), 0);
}

/* Another plugin may have opened it, to where this one may not go. */
static void a_kept_connection_is_judged_too(void **state)
{
    struct server *up = start_upstream(), *srv = start_with("[public]");
    char target[512];

    (void)state;
    for (int i = 0; i < 3; i++) {
        snprintf(target, sizeof target, "/call?as=free&to=http://localhost:%d&path=/hello",
                 up->port[0]);
        expect(srv, "0 200 5 yes hello", target);
        snprintf(target, sizeof target, "/call?to=http://localhost:%d&path=/hello", up->port[0]);
        expect(srv, "-10 0 ", target);
    }
    assert_int_equal(server_stop(&srv), 0);
    assert_int_equal(server_stop(&up), 0);
}

static void metadata_services_are_refused_without_rules(void **state)
{
    struct server *srv = start();

    (void)state;
    expect(srv, "-10 0", "/call?to=http://169.254.169.254&path=/latest/meta-data/");
    expect(srv, "-10 0", "/call?to=http://[fd00:ec2::254]&path=/");
    expect(srv, "-10 0", "/call?to=http://0xA9FEA9FE&path=/");
    expect(srv, "-10 0", "/call?to=http://[::ffff:169.254.169.254]:80&path=/");
    expect(srv, "-3 0", "/call?to=http://a:99999&path=/");
    expect(srv, "-3 0", "/call?to=http://:80&path=/");
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_server_answers),
        cmocka_unit_test(a_connection_is_used_again),
        cmocka_unit_test(what_does_not_end_is_ended),
        cmocka_unit_test(what_is_cancelled_is_cut),
        cmocka_unit_test(a_crash_in_the_answers_function_costs_one_request),
        cmocka_unit_test(there_are_never_more_at_a_time_than_allowed),
        cmocka_unit_test(what_is_no_request_is_refused),
        cmocka_unit_test(only_what_is_allowed_is_asked),
        cmocka_unit_test(a_kept_connection_is_judged_too),
        cmocka_unit_test(metadata_services_are_refused_without_rules),
    };

    return cmocka_run_group_tests_name("outbound", tests, NULL, NULL);
}
