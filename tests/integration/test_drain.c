/*
 * test_drain.c - a server that stops, and workers that are replaced, lose no request: whatever a
 * client had begun by then is answered.
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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define UPLOAD   400000
#define DOWNLOAD (300 * 65536)

static struct server *start(int workers, const char *drain)
{
    struct server *srv = server_start(
        "version: 1\n"
        "server: {workers: %d}\n"
        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
        "limits: {timeouts: {drain: %s}}\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "plugins:\n"
        "  log: {module: access_log, config: {path: @DIR@/access.log, format: json}}\n"
        "  body: {module: body, config: {mode: stream, reply: yes}}\n"
        "  stream: {module: streamer}\n"
        "  events: {module: events, config: {every: 20ms}}\n"
        "  slow: {module: pause}\n"
        "  ok: {module: respond, config: {body: ok}}\n"
        "routes:\n"
        "  - {match: {path: /upload}, chain: [log, body]}\n"
        "  - {match: {path: /download}, chain: [log, stream]}\n"
        "  - {match: {path: /events}, chain: [log, events]}\n"
        "  - {match: {path: /**}, chain: [log, slow, ok]}\n"
        "crash: {dir: @DIR@/crashes, keep: 100}\n",
        workers, drain);

    server_wait_log(srv, "serving on");
    return srv;
}

static void recycle(const struct server *srv)
{
    assert_int_equal(run_command(NULL, "RUNTIME_DIRECTORY=%s %s worker recycle all -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
}

/* ---- what may be going on ---- */

struct scene {
    struct conn *idle, *fresh, *half_head, *upload, *chunked, *download, *paused, *events;
    char *bytes;
    char go[512]; /* a file: what is paused goes on when it is there */
};

static void set_scene(struct server *srv, struct scene *s)
{
    int port = srv->port[0];
    struct response *res;
    char peek[1];

    s->bytes = calloc(1, UPLOAD);
    s->idle = conn_open(port);
    res = conn_request(s->idle, "GET", "/", NULL, NULL, 0);
    assert_false(res->closed);
    response_free(&res);
    s->half_head = conn_open(port);
    conn_sendf(s->half_head, "GET / HTTP/1.1\r\nHo");
    s->upload = conn_open(port);
    conn_sendf(s->upload, "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", UPLOAD);
    conn_send(s->upload, s->bytes, UPLOAD / 2);
    s->chunked = conn_open(port);
    conn_sendf(s->chunked, "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "5\r\nhello\r\n");
    s->download = conn_open(port);
    conn_sendf(s->download, "GET /download?n=300&size=65536&via=pull HTTP/1.1\r\nHost: a\r\n\r\n");
    s->paused = conn_open(port);
    snprintf(s->go, sizeof s->go, "%s/go", srv->dir);
    conn_sendf(s->paused, "GET /?do=continue&until=%s HTTP/1.1\r\nHost: a\r\n\r\n", s->go);
    s->events = conn_open(port);
    conn_sendf(s->events, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    /* By the time these have begun to answer the others have been read as well. */
    assert_int_equal(recv(conn_fd(s->events), peek, 1, MSG_PEEK), 1);
    assert_int_equal(recv(conn_fd(s->download), peek, 1, MSG_PEEK), 1);
    for (int i = 0; i < 20; i++)
        harness_pause(harness_deadline_ms(1000));
    s->fresh = conn_open(port);
}

/* Told so, or, by a worker that the master had not reached yet, shut when it has. */
static void check_closes(struct conn *conn, const struct response *res)
{
    const char *connection = response_header(res, "Connection");
    char *rest;

    if (connection != NULL) {
        assert_string_equal(connection, "close");
        return;
    }
    rest = conn_read_all(conn, NULL);
    assert_string_equal(rest, "");
    free(rest);
}

static void expect(struct conn **connp, const char *body, bool is_closed)
{
    struct response *res = conn_response(*connp, "GET");

    assert_int_equal(res->status, 200);
    assert_false(res->truncated);
    if (body != NULL)
        assert_int_equal(strncmp(res->body, body, strlen(body)), 0);
    if (is_closed)
        check_closes(*connp, res);
    response_free(&res);
    conn_close(connp);
}

static void finish_scene(struct scene *s, bool is_closed)
{
    struct response *res;

    conn_sendf(s->half_head, "st: a\r\n\r\n");
    expect(&s->half_head, "ok", is_closed);
    conn_sendf(s->fresh, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(&s->fresh, "ok", is_closed);
    conn_send(s->upload, s->bytes, UPLOAD / 2);
    conn_sendf(s->chunked, "6\r\n world\r\n0\r\n\r\n");
    res = conn_response(s->upload, "POST");
    assert_non_null(strstr(res->body, "bytes=400000 "));
    response_free(&res);
    conn_close(&s->upload);
    res = conn_response(s->chunked, "POST");
    assert_non_null(strstr(res->body, "bytes=11 "));
    response_free(&res);
    conn_close(&s->chunked);
    file_write(s->go, "%s", "");
    expect(&s->paused, "ok", is_closed);
    expect(&s->events, "id: ", false);
    res = conn_response(s->download, "GET");
    assert_int_equal(res->body_len, DOWNLOAD);
    assert_false(res->truncated);
    response_free(&res);
    conn_close(&s->download);
    free(s->bytes);
}

static void a_stop_lets_all_that_has_begun_come_to_its_end(void **state)
{
    struct server *srv = start(2, "1h"); /* so nothing may depend on its being over */
    struct scene s;
    char *all;

    (void)state;
    set_scene(srv, &s);
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    all = conn_read_all(s.idle, NULL);
    assert_string_equal(all, "");
    free(all);
    conn_close(&s.idle);
    finish_scene(&s, true);
    assert_int_equal(server_wait_exit(srv), 0);
    server_stop(&srv);
}

static void a_replaced_worker_lets_all_that_has_begun_come_to_its_end(void **state)
{
    struct server *srv = start(1, "1h");
    struct scene s;
    pid_t before = 0, after = 0;

    (void)state;
    set_scene(srv, &s);
    eventually(server_children(srv, "worker", &before, 1) == 1);
    recycle(srv);
    eventually(server_children(srv, "worker", NULL, 0) == 2);
    conn_sendf(s.idle,
               "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); /* another worker has it by now, or soon */
    expect(&s.idle, "ok", false);
    finish_scene(&s, false);
    eventually(server_children(srv, "worker", &after, 1) == 1 && after != before);
    assert_int_equal(server_stop(&srv), 0);
}

static void what_has_not_ended_in_time_is_cut_and_logged(void **state)
{
    struct server *srv = start(1, "400ms");
    struct conn *paused = conn_open(srv->port[0]), *open = conn_open(srv->port[0]);
    struct conn *upload = conn_open(srv->port[0]);
    char path[512], *text, peek[1];
    struct response *res;

    (void)state;
    conn_sendf(paused, "GET /?do=never HTTP/1.1\r\nHost: a\r\n\r\n");
    conn_sendf(upload, "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello");
    conn_sendf(open, "GET /download?n=1&size=9&via=post&open=yes HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(recv(conn_fd(open), peek, 1, MSG_PEEK), 1);
    res = server_get(srv, "/");
    response_free(&res);
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    assert_int_equal(server_wait_exit(srv), 0);
    res = conn_response(open, "GET");
    assert_true(res->truncated);
    assert_string_equal(res->body, "bbbbbbbbb");
    response_free(&res);
    server_wait_log(srv, "3 requests had not ended within limits.timeouts.drain, and were cut");
    server_wait_log(srv, "the stream is over"); /* what was deferred has run */
    snprintf(path, sizeof path, "%s/access.log", srv->dir);
    text = file_read(path);
    for (int i = 0; i < 3; i++) {
        static const char *const paths[] = {"\"/?do=never\"", "\"/upload\"",
                                            "\"/download?n=1&size=9&via=post&open=yes\""};

        assert_non_null(strstr(text, paths[i]));
        assert_null(strstr(strstr(text, paths[i]) + 1, paths[i])); /* once */
    }
    free(text);
    conn_close(&paused);
    conn_close(&open);
    conn_close(&upload);
    server_stop(&srv);
}

/* ---- under load ---- */

struct tally { /* shared with the process that makes the load */
    _Atomic int stop, answered, lost, refused, goodbyes;
};

static int connect_to(int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&in, sizeof in) == 0)
        return fd;
    close(fd);
    return -1;
}

/* 1: answered, the connection stands; 0: answered, and it says goodbye; -1: no answer. */
static int ask(int fd)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    char buf[1024];
    size_t n = 0;

    if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) != (ssize_t)sizeof request - 1)
        return -1;
    for (;;) {
        ssize_t r = recv(fd, buf + n, sizeof buf - 1 - n, 0);

        if (r <= 0)
            return -1;
        n += (size_t)r;
        buf[n] = '\0';
        if (strstr(buf, "\r\n\r\nok") != NULL)
            return strncmp(buf, "HTTP/1.1 200 ", 13) != 0     ? -1
                   : strstr(buf, "Connection: close") != NULL ? 0
                                                              : 1;
    }
}

/* Does the server say that it is about to close this one, or has closed it? */
static bool has_ended(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) > 0;
}

/* keeps: requests follow each other on one connection, with a pause; else each has its own. */
static void make_load(struct tally *t, int port, bool keeps)
{
    int fd = -1, r;

    while (!t->stop) {
        bool is_reused = fd >= 0;

        if (is_reused && keeps)
            usleep(500);
        if (is_reused && has_ended(fd)) {
            close(fd);
            fd = -1;
            is_reused = false;
            t->goodbyes++;
        }
        if (fd < 0)
            fd = connect_to(port);
        if (fd < 0) {
            t->refused++;
            usleep(1000);
            continue;
        }
        r = ask(fd);
        if (r >= 0)
            t->answered++;
        else if (is_reused) /* it was closed while the request was under way: RFC 9112, 9.3.1 */
            t->goodbyes++;
        else
            t->lost++;
        if (r <= 0 || !keeps) {
            close(fd);
            fd = -1;
        }
    }
}

static struct tally *begin_load(int port, pid_t pids[2])
{
    struct tally *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                           0);

    assert_true(t != MAP_FAILED);
    for (int i = 0; i < 2; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            make_load(t, port, i == 0);
            _exit(0);
        }
    }
    eventually(t->answered > 200);
    return t;
}

static void end_load(struct tally *t, const pid_t pids[2])
{
    t->stop = 1;
    for (int i = 0; i < 2; i++)
        assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
}

static void replacing_workers_under_load_loses_and_refuses_nothing(void **state)
{
    struct server *srv = start(2, "10s");
    pid_t pids[2], before[2], after[2];
    struct tally *t = begin_load(srv->port[0], pids);
    int answered;

    (void)state;
    for (int i = 0; i < 2; i++) {
        eventually(server_children(srv, "worker", before, 2) == 2);
        recycle(srv);
        eventually(server_children(srv, "worker", after, 2) == 2 && after[0] != before[0] &&
                   after[0] != before[1] && after[1] != before[0] && after[1] != before[1]);
    }
    answered = t->answered;
    eventually(t->answered > answered + 200);
    end_load(t, pids);
    assert_int_equal(t->lost, 0);
    assert_int_equal(t->refused, 0);
    munmap(t, sizeof *t);
    assert_int_equal(server_stop(&srv), 0);
}

/* Who came in before the door was shut is served; who comes after finds it shut, and knows. */
static void a_stop_under_load_loses_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct server *srv = start(2, "10s");
        pid_t pids[2];
        struct tally *t = begin_load(srv->port[0], pids);

        assert_int_equal(kill(srv->pid, SIGTERM), 0);
        assert_int_equal(server_wait_exit(srv), 0);
        eventually(t->refused > 0);
        end_load(t, pids);
        assert_int_equal(t->lost, 0);
        munmap(t, sizeof *t);
        server_stop(&srv);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_lets_all_that_has_begun_come_to_its_end),
        cmocka_unit_test(a_replaced_worker_lets_all_that_has_begun_come_to_its_end),
        cmocka_unit_test(what_has_not_ended_in_time_is_cut_and_logged),
        cmocka_unit_test(replacing_workers_under_load_loses_and_refuses_nothing),
        cmocka_unit_test(a_stop_under_load_loses_nothing),
    };

    return cmocka_run_group_tests_name("drain", tests, NULL, NULL);
}
