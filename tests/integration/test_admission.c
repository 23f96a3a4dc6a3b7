/*
 * test_admission.c - limits on connections: of a worker, and of a client address over all workers.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char template[] =
    "version: 1\n"
    "server: {workers: %d, trusted_proxies: [127.0.0.9]}\n"
    "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
    "limits: {connections: %d, per_ip: %d, timeouts: {head: %s}}\n"
    "modules: {path: [@PLUGINS@]}\n"
    "plugins:\n"
    "  hello: {module: respond, config: {status: 200, body: \"hello\\n\"}}\n"
    "routes: [{match: {path: /**}, chain: [hello]}]\n"
    "escrow: {standby: 0}\n"
    "crash: {dir: @DIR@/crashes, keep: 100}\n";

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

/* The status of the answer to one more request over it; 0: it is closed. */
static int ask(int fd, char *text, size_t size)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    size_t n = 0;
    ssize_t got;

    (void)send(fd, request, sizeof request - 1, MSG_NOSIGNAL);
    while (n < size - 1 && (got = recv(fd, text + n, size - 1 - n, 0)) > 0) {
        n += (size_t)got;
        text[n] = '\0';
        if (strstr(text, "\r\n\r\nhello\n") != NULL || strstr(text, "}\n") != NULL)
            break;
    }
    return n > 12 ? atoi(text + 9) : 0;
}

static int ask_from(const char *address, int port, int *fd)
{
    char text[1024];

    *fd = connect_from(address, port);
    return ask(*fd, text, sizeof text);
}

static void an_address_has_its_limit_over_all_workers(void **state)
{
    struct server *srv = server_start(template, 2, 1000, 8, "20s");
    char text[1024];
    int fd[8], more, other;

    (void)state;
    for (int i = 0; i < 8; i++) /* whichever worker takes them */
        assert_int_equal(ask_from("127.0.0.2", srv->port[0], &fd[i]), 200);
    for (int i = 0; i < 4; i++) {
        more = connect_from("127.0.0.2", srv->port[0]);
        assert_int_equal(ask(more, text, sizeof text), 503);
        assert_non_null(strstr(text, "\r\nRetry-After: 1\r\n"));
        assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
        assert_int_equal(recv(more, text, sizeof text, 0), 0);
        close(more);
    }
    assert_int_equal(ask_from("127.0.0.3", srv->port[0], &other), 200);
    assert_int_equal(server_limit(srv, "per_ip"), 4);
    server_wait_log(srv, "127.0.0.2 has 8 connections (limits.per_ip): more are refused");
    assert_int_equal(ask(fd[0], text, sizeof text), 200);
    close(fd[0]);
    close(other);
    eventually(ask_from("127.0.0.2", srv->port[0], &more) == 200 || (close(more), false));
    close(more);
    for (int i = 1; i < 8; i++)
        close(fd[i]);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_killed_worker_gives_its_seats_back(void **state)
{
    struct server *srv = server_start(template, 1, 1000, 2, "20s");
    pid_t worker;
    int a, b, c;

    (void)state;
    server_wait_log(srv, "serving on"); /* a worker that dies before that ends the start */
    assert_int_equal(ask_from("127.0.0.2", srv->port[0], &a), 200);
    assert_int_equal(ask_from("127.0.0.2", srv->port[0], &b), 200);
    assert_int_equal(ask_from("127.0.0.2", srv->port[0], &c), 503);
    close(c);
    assert_int_equal(server_children(srv, "worker", &worker, 1), 1);
    kill(worker, SIGKILL);
    eventually(ask_from("127.0.0.2", srv->port[0], &c) == 200 || (close(c), false));
    close(a);
    close(b);
    assert_int_equal(ask_from("127.0.0.2", srv->port[0], &a), 200);
    assert_int_equal(ask_from("127.0.0.2", srv->port[0], &b), 503);
    close(a);
    close(b);
    close(c);
    assert_int_equal(server_stop(&srv), 0);
}

static void handed_over_connections_keep_their_seats(void **state)
{
    struct server *srv = server_start(template, 1, 1000, 2, "20s");
    char text[1024], *said;
    pid_t before, now;
    int a, b, c;

    (void)state;
    assert_int_equal(ask_from("127.0.0.2", srv->port[0], &a), 200);
    assert_int_equal(ask_from("127.0.0.2", srv->port[0], &b), 200);
    assert_int_equal(server_children(srv, "worker", &before, 1), 1);
    assert_int_equal(run_command(&said,
                                 "RUNTIME_DIRECTORY=%s \"$BULKHEAD\" worker recycle all -c %s",
                                 srv->dir, srv->config),
                     0);
    free(said);
    eventually(server_children(srv, "worker", &now, 1) == 1 && now != before);
    assert_int_equal(ask(a, text, sizeof text), 200);
    assert_int_equal(ask(b, text, sizeof text), 200);
    assert_int_equal(ask_from("127.0.0.2", srv->port[0], &c), 503);
    close(c);
    close(b);
    eventually(ask_from("127.0.0.2", srv->port[0], &c) == 200 || (close(c), false));
    close(a);
    close(c);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_trusted_proxy_is_not_one_client(void **state)
{
    struct server *srv = server_start(template, 1, 1000, 2, "20s");
    int fd[6];

    (void)state;
    for (int i = 0; i < 6; i++)
        assert_int_equal(ask_from("127.0.0.9", srv->port[0], &fd[i]), 200);
    for (int i = 0; i < 6; i++)
        close(fd[i]);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_full_worker_closes_the_longest_idle_first(void **state)
{
    struct server *srv = server_start(template, 1, 4, 0, "20s");
    char text[1024];
    int fd[5];

    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(ask_from("127.0.0.2", srv->port[0], &fd[i]), 200);
    assert_int_equal(ask(fd[0], text, sizeof text), 0);
    for (int i = 1; i < 5; i++)
        assert_int_equal(ask(fd[i], text, sizeof text), 200);
    assert_int_equal(server_limit(srv, "closed_when_full"), 1);
    for (int i = 0; i < 5; i++)
        close(fd[i]);
    assert_int_equal(server_stop(&srv), 0);
}

static bool stays_open(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 100) == 0;
}

/* Four that say nothing keep others out for a quarter of their time at most. */
static void a_full_worker_refuses_and_then_closes_those_that_dawdle(void **state)
{
    struct server *srv = server_start(template, 1, 4, 0, "8s");
    char text[1024];
    int silent[4], fd;

    (void)state;
    for (int i = 0; i < 4; i++) /* the one that waited for the start may still have a place */
        eventually(stays_open(silent[i] = connect_from("127.0.0.2", srv->port[0])) ||
                   (close(silent[i]), false));
    fd = connect_from("127.0.0.3", srv->port[0]);
    assert_int_equal(ask(fd, text, sizeof text), 503);
    assert_non_null(strstr(text, "\r\nRetry-After: 1\r\n"));
    close(fd);
    server_wait_log(srv, "connections are open (limits.connections): more are refused");
    eventually(ask_from("127.0.0.3", srv->port[0], &fd) == 200 || (close(fd), false));
    assert_int_equal(server_limit(srv, "no_request"),
                     0); /* it was not their own time that ended them */
    assert_true(server_limit(srv, "connections") >= 1);
    close(fd);
    for (int i = 0; i < 4; i++)
        close(silent[i]);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_has_its_limit_over_all_workers),
        cmocka_unit_test(a_killed_worker_gives_its_seats_back),
        cmocka_unit_test(handed_over_connections_keep_their_seats),
        cmocka_unit_test(a_trusted_proxy_is_not_one_client),
        cmocka_unit_test(a_full_worker_closes_the_longest_idle_first),
        cmocka_unit_test(a_full_worker_refuses_and_then_closes_those_that_dawdle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
