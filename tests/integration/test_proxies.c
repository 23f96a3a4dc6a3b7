/*
 * test_proxies.c - whom the server takes the client for, behind proxies that it trusts, that it does not,
 * and that speak the PROXY protocol.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V1        "PROXY TCP4 192.0.2.7 198.51.100.2 4711 443\r\n"

static const char template[] =
    "version: 1\n"
    "server: {workers: 1, trusted_proxies: [127.0.0.9, 10.0.0.0/8%s], forwarded: %s,\n"
    "  untrusted_forwarded: %s}\n"
    "listeners:\n"
    "  - {name: public, address: \"127.0.0.1:@PORT@\"}\n"
    "  - {name: proxied, address: \"127.0.0.1:@PORT1@\", proxy_protocol: any}\n"
    "  - {name: local, address: \"unix:@DIR@/sock\"}\n"
    "limits: {per_ip: 3, timeouts: {head: %s}}\n"
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"
    "plugins:\n"
    "  who: {module: whoami}\n"
    "  limit: {module: rate_limit, config: {rate: 0.001, burst: 1}}\n"
    "routes:\n"
    "  - {match: {host: www.example.com, path: /limited}, chain: [limit, who]}\n"
    "  - {match: {path: /**}, chain: [who]}\n"
    "crash: {dir: @DIR@/crashes, keep: 100}\n";

static const char request[] = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";

static struct server *start_patient(const char *more, const char *header, const char *others,
                                    const char *patience)
{
    struct server *srv = server_start(template, more, header, others, patience);

    server_wait_log(srv, "serving on"); /* on all listeners */
    return srv;
}

/* A head that comes byte by byte takes its time on a busy machine. */
static struct server *start_with(const char *more, const char *header, const char *others)
{
    return start_patient(more, header, others, "20s");
}

static struct server *start(void)
{
    return start_with(", unix", "x-forwarded-for", "keep");
}

static int connect_from(const char *address, int port)
{
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    struct timeval patience = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(inet_pton(AF_INET, address, &from.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)port);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void put(int fd, const void *p, size_t n)
{
    assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* Reads until the answer's body, or the end: the body is after the returned head. */
static const char *hear(int fd, int *status)
{
    static char text[4096];
    const char *body = NULL, *length;
    size_t n = 0;
    ssize_t got;

    text[0] = '\0';
    while (n < sizeof text - 1 && (got = recv(fd, text + n, sizeof text - 1 - n, 0)) > 0) {
        n += (size_t)got;
        text[n] = '\0';
        body = strstr(text, "\r\n\r\n");
        length = strstr(text, "Content-Length: ");
        if (body != NULL && length != NULL && strlen(body + 4) >= (size_t)atoi(length + 16))
            break;
    }
    *status = n > 12 ? atoi(text + 9) : 0;
    return body != NULL ? body + 4 : "";
}

/* What the server takes a request from that address for, with these header lines. */
static const char *ask_path(int port, const char *from, const char *path, const char *headers,
                            int *status)
{
    int fd = connect_from(from, port);
    char text[1024];
    const char *body;

    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: here\r\n%s\r\n", path, headers);
    put(fd, text, strlen(text));
    body = hear(fd, status);
    close(fd);
    return body;
}

static const char *ask(const struct server *srv, const char *from, const char *headers)
{
    int status;
    const char *body = ask_path(srv->port[0], from, "/", headers, &status);

    assert_int_equal(status, 200);
    return body;
}

static bool begins(const char *text, const char *with)
{
    if (strncmp(text, with, strlen(with)) == 0)
        return true;
    print_error("it says: %s\n", text);
    return false;
}

/* ---- headers ---- */

static void a_trusted_proxy_is_believed_and_nobody_else(void **state)
{
    struct server *srv = start();

    (void)state;
    assert_string_equal(ask(srv, "127.0.0.9",
                            "X-Forwarded-For: 1.1.1.1, 192.0.2.7, 10.0.0.3\r\n"
                            "X-Forwarded-Proto: https\r\n"
                            "X-Forwarded-Host: www.example.com:8443\r\n"),
                        "client 192.0.2.7 - peer 127.0.0.9 PORT https://www.example.com:8443 via "
                        "1.1.1.1, 192.0.2.7, 10.0.0.3");
    assert_true(begins(ask(srv, "127.0.0.8",
                           "X-Forwarded-For: 192.0.2.7\r\n"
                           "X-Forwarded-Proto: https\r\n"
                           "X-Forwarded-Host: www.example.com\r\n"),
                       "client 127.0.0.8 "));
    assert_non_null(strstr(ask(srv, "127.0.0.8",
                               "X-Forwarded-Proto: https\r\n"
                               "X-Forwarded-For: 192.0.2.7\r\n"),
                           " http://here via 192.0.2.7"));
    assert_true(begins(ask(srv, "127.0.0.9", "Forwarded: for=192.0.2.7\r\n"), "client 127.0.0.9 "));
    assert_non_null(strstr(ask(srv, "127.0.0.9", "X-Forwarded-Host: a b\r\n"), "http://here"));
    assert_int_equal(server_stop(&srv), 0);
}

static void forwarded_is_read_where_it_is_chosen_and_stripped_where_it_is_not_believed(void **state)
{
    struct server *srv = start_with("", "forwarded", "strip");

    (void)state;
    assert_string_equal(ask(srv, "127.0.0.9",
                            "Forwarded: for=\"[2001:db8::7]:4711\";proto=https;host=a.example\r\n"),
                        "client 2001:db8::7 4711 peer 127.0.0.9 PORT https://a.example via -");
    assert_true(begins(ask(srv, "127.0.0.8", "Forwarded: for=192.0.2.7\r\nX-Forwarded-For: x\r\n"),
                       "client 127.0.0.8 "));
    assert_non_null(strstr(ask(srv, "127.0.0.8", "X-Forwarded-For: 192.0.2.7\r\n"), " via -"));
    assert_non_null(strstr(ask(srv, "127.0.0.9", "X-Forwarded-For: 192.0.2.7\r\n"), " via 192."));
    assert_int_equal(server_stop(&srv), 0);
}

static void routes_and_rate_limits_are_those_of_the_client(void **state)
{
    struct server *srv = start();
    int status;

    (void)state;
    for (int i = 0; i < 4; i++) {
        char headers[128];

        snprintf(headers, sizeof headers,
                 "X-Forwarded-Host: www.example.com\r\nX-Forwarded-For: 192.0.2.%d\r\n", i / 2);
        ask_path(srv->port[0], "127.0.0.9", "/limited", headers, &status);
        assert_int_equal(status, i % 2 == 0 ? 200 : 429);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void a_unix_sockets_peer_is_trusted_where_the_config_says_so(void **state)
{
    struct server *srv = start();
    char *path = NULL;
    struct response *res;
    struct conn *c;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_true(asprintf(&path, "%s/sock", srv->dir) > 0);
        c = conn_open_unix(path);
        res = conn_request(c, "GET", "/", "X-Forwarded-For: 192.0.2.7\r\n", NULL, 0);
        assert_true(begins(res->body, i == 0 ? "client 192.0.2.7 - peer unix - http://"
                                             : "client unix - peer unix - http://"));
        response_free(&res);
        conn_close(&c);
        free(path);
        assert_int_equal(server_stop(&srv), 0);
        if (i == 0)
            srv = start_with("", "x-forwarded-for", "keep");
    }
}

/* ---- the PROXY protocol ---- */

static const char *talk(const struct server *srv, const void *header, size_t n, size_t step,
                        int *status)
{
    int fd = connect_from("127.0.0.9", srv->port[1]);
    char bytes[2048];
    const char *body;

    memcpy(bytes, header, n);
    memcpy(bytes + n, request, sizeof request - 1);
    for (size_t at = 0; at < n + sizeof request - 1; at += step) {
        size_t left = n + sizeof request - 1 - at;

        (void)send(fd, bytes + at, left < step ? left : step, MSG_NOSIGNAL);
        if (step < left)
            usleep(200); /* pieces of their own */
    }
    body = hear(fd, status);
    close(fd);
    return body;
}

static void both_versions_name_the_client_in_any_pieces(void **state)
{
    static const char v2[] = SIGNATURE
        "\x21\x11\x00\x10\xc0\x00\x02\x07\xc6\x33\x64\x02\x12\x67\x01\xbb\x04\x00\x01z";
    struct server *srv = start();
    int status;

    (void)state;
    for (size_t step = 1; step < 200; step = step * 3 + 1) {
        assert_true(begins(talk(srv, V1, sizeof V1 - 1, step, &status),
                           "client 192.0.2.7 4711 peer 127.0.0.9 PORT http://here via -"));
        assert_true(begins(talk(srv, v2, sizeof v2 - 1, step, &status),
                           "client 192.0.2.7 4711 peer 127.0.0.9 PORT http://here via -"));
    }
    assert_true(begins(talk(srv, SIGNATURE "\x20\0\0\0", 16, 99, &status), "client 127.0.0.9 "));
    assert_true(begins(talk(srv, "PROXY UNKNOWN\r\n", 15, 99, &status), "client 127.0.0.9 "));
    assert_int_equal(server_stop(&srv), 0);
}

static void what_comes_with_the_addresses_is_skipped(void **state)
{
    struct server *srv = start();
    int fd = connect_from("127.0.0.9", srv->port[1]), status;
    char junk[1000];

    (void)state;
    put(fd, SIGNATURE "\x21\x11\xff\xff\xc0\x00\x02\x07\xc6\x33\x64\x02\x12\x67\x01\xbb", 28);
    memset(junk, 'G', sizeof junk);
    for (size_t left = 65535 - 12; left > 0;) {
        size_t n = left < sizeof junk ? left : sizeof junk;

        put(fd, junk, n);
        left -= n;
    }
    put(fd, request, sizeof request - 1);
    assert_true(begins(hear(fd, &status), "client 192.0.2.7 4711 "));
    close(fd);
    assert_int_equal(server_stop(&srv), 0);
}

static void what_is_no_header_ends_the_connection_without_a_word(void **state)
{
    struct server *srv = start_patient(", unix", "x-forwarded-for", "keep", "500ms");
    int fd, status;

    (void)state;
    talk(srv, "", 0, 999, &status); /* a request without one */
    assert_int_equal(status, 0);
    talk(srv, "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", 30, 999, &status);
    assert_int_equal(status, 0);
    assert_int_equal(server_limit(srv, "bad_proxy_header"), 2);

    fd = connect_from("127.0.0.9", srv->port[1]); /* one that does not come to its end */
    put(fd, "PROXY TCP4 1.2", 14);
    hear(fd, &status);
    assert_int_equal(status, 0);
    close(fd);
    assert_int_equal(server_limit(srv, "bad_proxy_header"), 3);

    fd = connect_from("127.0.0.8", srv->port[1]); /* somebody who may not */
    (void)send(fd, V1, sizeof V1 - 1, MSG_NOSIGNAL);
    hear(fd, &status);
    assert_int_equal(status, 0);
    close(fd);
    assert_int_equal(server_limit(srv, "untrusted_proxy"), 1);
    assert_int_equal(server_stop(&srv), 0);
}

/* It is not taken for a request, nor a request after it for a header. */
static void a_second_header_is_a_bad_request(void **state)
{
    struct server *srv = start();
    int status;

    (void)state;
    talk(srv, V1 V1, sizeof V1 V1 - 1, 999, &status);
    assert_true(status != 200);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_proxy_behind_the_proxy_is_believed_if_it_is_trusted(void **state)
{
    static const char inner[] = "PROXY TCP4 10.0.0.5 198.51.100.2 1 2\r\n"
                                "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
    static const char outer[] = V1
        "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.8\r\n\r\n";
    struct server *srv = start();
    int fd, status;

    (void)state;
    fd = connect_from("127.0.0.9", srv->port[1]);
    put(fd, inner, sizeof inner - 1);
    assert_true(begins(hear(fd, &status), "client 192.0.2.7 - "));
    close(fd);
    fd = connect_from("127.0.0.9", srv->port[1]);
    put(fd, outer, sizeof outer - 1);
    assert_true(begins(hear(fd, &status), "client 192.0.2.7 4711 "));
    close(fd);
    assert_int_equal(server_stop(&srv), 0);
}

static void the_limit_for_an_address_is_that_of_the_client_it_names(void **state)
{
    struct server *srv = start();
    int fd[4], status;

    (void)state;
    for (int i = 0; i < 4; i++) {
        fd[i] = connect_from("127.0.0.9", srv->port[1]);
        put(fd[i], V1, sizeof V1 - 1);
        put(fd[i], request, sizeof request - 1);
        hear(fd[i], &status);
        assert_int_equal(status, i < 3 ? 200 : 503);
    }
    assert_int_equal(server_limit(srv, "per_ip"), 1);
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_connection_that_moves_keeps_the_client_it_named(void **state)
{
    struct server *srv = start();
    int fd = connect_from("127.0.0.9", srv->port[1]), status;
    pid_t before[4], now[4];
    char *said;

    (void)state;
    put(fd, V1, sizeof V1 - 1);
    put(fd, request, sizeof request - 1);
    assert_true(begins(hear(fd, &status), "client 192.0.2.7 4711 "));
    assert_int_equal(server_children(srv, "bh-worker", before, 4), 1);
    assert_int_equal(run_command(&said,
                                 "RUNTIME_DIRECTORY=%s \"$BULKHEAD\" worker recycle all -c %s",
                                 srv->dir, srv->config),
                     0);
    free(said);
    eventually(server_children(srv, "bh-worker", now, 4) == 1 && now[0] != before[0]);
    put(fd, request, sizeof request - 1);
    assert_true(begins(hear(fd, &status), "client 192.0.2.7 4711 "));
    close(fd);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trusted_proxy_is_believed_and_nobody_else),
        cmocka_unit_test(
            forwarded_is_read_where_it_is_chosen_and_stripped_where_it_is_not_believed),
        cmocka_unit_test(routes_and_rate_limits_are_those_of_the_client),
        cmocka_unit_test(a_unix_sockets_peer_is_trusted_where_the_config_says_so),
        cmocka_unit_test(both_versions_name_the_client_in_any_pieces),
        cmocka_unit_test(what_comes_with_the_addresses_is_skipped),
        cmocka_unit_test(what_is_no_header_ends_the_connection_without_a_word),
        cmocka_unit_test(a_second_header_is_a_bad_request),
        cmocka_unit_test(a_proxy_behind_the_proxy_is_believed_if_it_is_trusted),
        cmocka_unit_test(the_limit_for_an_address_is_that_of_the_client_it_names),
        cmocka_unit_test(a_connection_that_moves_keeps_the_client_it_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
