/*
 * test_follow.c - who is told of events as they happen: `bulkhead events -f`, the admin interface.
 */
#include "harness.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ipc/control.h"

enum { FOLLOWERS = 16 /* CONTROL_FOLLOWERS */, MANY = 600 };

static struct server *start(void)
{
    struct server *srv = server_start(
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners: [{address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@]}\n"
        "plugins: {ok: {module: respond, config: {body: ok}}}\n"
        "routes: [{chain: [ok]}]\n"
        "control: {socket: \"@DIR@/control\"}\n"
        "admin: {listen: \"127.0.0.1:@PORT1@\", token_file: \"@DIR@/token\"}\n"
        "crash: {dir: @DIR@/crashes}\n");

    server_wait_log(srv, "serving on");
    return srv;
}

/* ---- the control socket, by hand ---- */

static struct conn *ask(const struct server *srv, enum control_command command, int argument)
{
    struct control_request q = {.magic = CONTROL_MAGIC,
                                .version = CONTROL_VERSION,
                                .command = (uint16_t)command,
                                .argument = argument};
    char path[512];
    struct conn *conn;

    snprintf(path, sizeof path, "%s/control", srv->dir);
    conn = conn_open_unix(path);
    conn_send(conn, &q, sizeof q);
    return conn;
}

static bool take(const struct conn *conn, void *p, size_t n)
{
    int64_t end_ms = harness_deadline_ms(HARNESS_WAIT_MS);
    size_t got = 0;

    while (got < n) {
        ssize_t r = recv(conn_fd(conn), (char *)p + got, n - got, MSG_DONTWAIT);

        if (r == 0 || (r < 0 && errno != EAGAIN))
            return false;
        if (r > 0)
            got += (size_t)r;
        else if (!harness_pause(end_ms))
            harness_fail(__FILE__, __LINE__, "no reply of the control socket");
    }
    return true;
}

/* The next reply; its text is freed by the caller. NULL: the connection is closed. */
static char *next_reply(const struct conn *conn, int *result)
{
    struct control_reply reply;
    char *text;

    if (!take(conn, &reply, sizeof reply))
        return NULL;
    text = calloc(1, reply.text_len + 1);
    assert_true(take(conn, text, reply.text_len));
    *result = reply.result;
    return text;
}

/* Makes an event: the breaker of the one plugin is opened or reset. */
static void toggle(const struct server *srv, int i)
{
    struct conn *conn = ask(
        srv, CONTROL_BREAKER,
        control_breaker(1, i % 2 == 0 ? CONTROL_BREAKER_OPEN : CONTROL_BREAKER_RESET));
    int result = -1;

    free(next_reply(conn, &result));
    assert_int_equal(result, 0);
    conn_close(&conn);
}

static bool still_answers(const struct server *srv)
{
    struct conn *conn = ask(srv, CONTROL_PING, 0);
    int result = -1;
    char *text = next_reply(conn, &result);
    bool does = text != NULL && result == 0;

    free(text);
    conn_close(&conn);
    return does;
}

/* ---- bulkhead events -f ---- */

static pid_t follow(const struct server *srv)
{
    char *out;
    pid_t pid;

    assert_int_equal(run_command(&out, "%s events -f -c %s > %s/told 2>&1 & echo $!",
                                 getenv("BULKHEAD"), srv->config, srv->dir),
                     0);
    pid = atoi(out);
    assert_true(pid > 0);
    free(out);
    return pid;
}

static int count_told(const struct server *srv, const char *what)
{
    char path[512], *text;
    int n = 0;

    snprintf(path, sizeof path, "%s/told", srv->dir);
    text = file_read(path);
    for (const char *at = text; at != NULL && (at = strstr(at, what)) != NULL; at++)
        n++;
    free(text);
    return n;
}

static long wakeups(pid_t pid)
{
    char path[64], *text, *at;
    long n;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    text = file_read(path);
    assert_non_null(text);
    at = strstr(text, "\nvoluntary_ctxt_switches:");
    assert_non_null(at);
    n = atol(at + strlen("\nvoluntary_ctxt_switches:"));
    free(text);
    return n;
}

static void events_are_told_as_they_happen_and_nobody_asks_meanwhile(void **state)
{
    struct server *srv = start();
    pid_t pid = follow(srv);
    int64_t until;
    long before;

    (void)state;
    eventually(count_told(srv, "the server serves") == 1);
    before = wakeups(pid);
    until = harness_now_ms() + 1000;
    while (harness_now_ms() < until)
        harness_pause(harness_deadline_ms(HARNESS_WAIT_MS));
    assert_true(wakeups(pid) <= before + 1); /* it may have been about to wait */
    for (int i = 0; i < 10; i++)
        toggle(srv, i);
    eventually(count_told(srv, "by an operator") == 10);
    assert_int_equal(server_stop(&srv), 0);
    eventually(kill(pid, 0) < 0); /* with the server it ends */
}

static void who_follows_goes_on_with_the_next_master(void **state)
{
    struct server *srv = start();
    pid_t pid = follow(srv);
    json_t *json;
    char *out = NULL;

    (void)state;
    eventually(count_told(srv, "the server serves") == 1);
    kill(srv->pid, SIGUSR2);
    server_wait_log(srv, "the old master is gone");
    eventually(count_told(srv, "the server serves") == 2);
    toggle(srv, 0);
    eventually(count_told(srv, "by an operator") == 1);
    kill(pid, SIGTERM);
    run_command(&out, "%s status --json -c %s", getenv("BULKHEAD"), srv->config);
    json = json_loads(out, 0, NULL);
    free(out);
    kill((pid_t)json_integer_value(json_object_get(json, "pid")), SIGTERM);
    json_decref(json);
    server_wait_log(srv, "SIGTERM: stopping");
    server_stop(&srv);
}

/* Of all that are open at once the ninth would wait, if they took the places of those who ask. */
static void followers_are_counted_and_keep_nobody_out(void **state)
{
    struct server *srv = start();
    struct conn *conn[FOLLOWERS], *more;
    char *out = NULL;
    int result = -1;

    (void)state;
    for (int i = 0; i < FOLLOWERS; i++) {
        conn[i] = ask(srv, CONTROL_FOLLOW, 0);
        out = next_reply(conn[i], &result);
        assert_non_null(out);
        assert_int_equal(result, 0);
        assert_non_null(strstr(out, "the server serves"));
        free(out);
    }
    more = ask(srv, CONTROL_FOLLOW, 0);
    free(next_reply(more, &result));
    assert_int_equal(result, -EUSERS);
    assert_null(next_reply(more, &result));
    conn_close(&more);
    assert_int_equal(run_command(&out, "%s events -f -c %s", getenv("BULKHEAD"), srv->config), 1);
    assert_non_null(strstr(out, "too many follow its events already"));
    free(out);
    assert_true(still_answers(srv));
    toggle(srv, 0);
    for (int i = 0; i < FOLLOWERS; i++) {
        out = next_reply(conn[i], &result);
        assert_non_null(strstr(out, "opened by an operator"));
        free(out);
    }
    conn_close(&conn[0]); /* there is room again */
    eventually((more = ask(srv, CONTROL_FOLLOW, 0), free(next_reply(more, &result)),
                result == 0 || (conn_close(&more), false)));
    conn_close(&more);
    for (int i = 1; i < FOLLOWERS; i++)
        conn_close(&conn[i]);
    assert_int_equal(server_stop(&srv), 0);
}

static void who_does_not_read_is_dropped_and_the_others_get_all(void **state)
{
    struct server *srv = start();
    struct conn *deaf = ask(srv, CONTROL_FOLLOW, 0), *reader = ask(srv, CONTROL_FOLLOW, 0);
    int n = 0, result = -1;
    char *text;

    (void)state;
    free(next_reply(reader, &result));
    for (int i = 0; i < MANY; i++) {
        toggle(srv, i);
        while (n < i + 1) {
            text = next_reply(reader, &result);
            for (const char *at = text; (at = strstr(at, "by an operator")) != NULL; at++)
                n++;
            free(text);
        }
    }
    assert_int_equal(n, MANY);
    /* What the kernel holds of it can be read; then comes the end, before all of them. */
    eventually(send(conn_fd(deaf), "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0);
    n = 0;
    while ((text = next_reply(deaf, &result)) != NULL) {
        for (const char *at = text; (at = strstr(at, "by an operator")) != NULL; at++)
            n++;
        free(text);
    }
    assert_true(n < MANY);
    assert_true(still_answers(srv));
    conn_close(&deaf);
    conn_close(&reader);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- the admin interface ---- */

static void pages_are_told_of_events_as_they_happen(void **state)
{
    struct server *srv = start();
    struct conn *conn;
    char path[512], *token, *got = calloc(1, 1 << 20);
    size_t len = 0;
    int n_soon = 0;

    (void)state;
    snprintf(path, sizeof path, "%s/token", srv->dir);
    token = file_read(path);
    token[strcspn(token, "\n")] = '\0';
    conn = conn_open(srv->port[1]);
    conn_sendf(
        conn,
        "GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n\r\n",
        srv->port[1], token);
    for (int i = -1; i < 10; i++) {
        int64_t asked_ms = harness_now_ms();
        char what[32];

        snprintf(what, sizeof what, "\"number\":%d,", i + 2);
        if (i >= 0)
            toggle(srv, i);
        else
            snprintf(what, sizeof what, "event: status");
        eventually((recv(conn_fd(conn), got + len, (1 << 20) - 1 - len, MSG_DONTWAIT) > 0
                        ? len += strlen(got + len)
                        : 0,
                    strstr(got, what) != NULL));
        n_soon += i >= 0 && harness_now_ms() - asked_ms <= 250;
        harness_pause(harness_deadline_ms(HARNESS_WAIT_MS));
    }
    /* Asked for once a second, one in ten would be as soon: the next is made when the last is there. */
    assert_true(n_soon >= 5);
    free(got);
    free(token);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_told_as_they_happen_and_nobody_asks_meanwhile),
        cmocka_unit_test(who_follows_goes_on_with_the_next_master),
        cmocka_unit_test(followers_are_counted_and_keep_nobody_out),
        cmocka_unit_test(who_does_not_read_is_dropped_and_the_others_get_all),
        cmocka_unit_test(pages_are_told_of_events_as_they_happen),
    };

    cmocka_set_test_filter(getenv("ONLY")); /* by hand */
    return cmocka_run_group_tests_name("follow", tests, NULL, NULL);
}
