/*
 * test_reload_load.c - many reloads: under load, beside streams that do not end, of objects that a process
 * could load so often only.
 */
#include "reload_scene.h"

#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    _Atomic bool must_end;
    _Atomic int n, n_bad;
    int port;
} load;

static void *ask_on(void *arg)
{
    struct conn *conn = conn_open(load.port);

    (void)arg;
    while (!atomic_load(&load.must_end)) {
        struct response *res = conn_request(conn, "GET", "/", NULL, NULL, 0);

        if (res->status != 200 || strncmp(res->body, "1 ", 2) != 0)
            atomic_fetch_add(&load.n_bad, 1);
        atomic_fetch_add(&load.n, 1);
        response_free(&res);
        usleep(1000); /* or they would take the processors from what is to be tested */
    }
    conn_close(&conn);
    return NULL;
}

static void three_hundred_reloads_under_load_lose_nothing(void **state)
{
    struct server *srv = reload_start("");
    pthread_t thread[4];
    struct conn *conn = conn_open(srv->port[0]);
    pid_t pid[64];

    (void)state;
    load.port = srv->port[0];
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, ask_on, NULL);
    for (int i = 0; i < 300; i++) {
        char text[32];

        snprintf(text, sizeof text, "%d", i);
        server_rewrite_config(srv, RELOAD_CONFIG, "", text, "", "");
        kill(srv->pid, SIGHUP);
        snprintf(text, sizeof text, "1 %d", i);
        eventually(reload_conn_says(conn, text)); /* over a connection that moves each time */
    }
    conn_close(&conn);
    atomic_store(&load.must_end, true);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(load.n_bad, 0);
    assert_true(load.n > 100);
    assert_int_equal(reload_generation(srv), 301);
    reload_check_says(srv, "1 299");
    /* Of those before nothing is left: workers, and their copies of objects. */
    eventually(server_children(srv, NULL, pid, 64) == 4); /* two workers, standby, recorder */
    assert_int_equal(server_stop(&srv), 0);
}

/* The recorder knows the plugins, and has to be replaced for that; but not for each of a series. */
static void reloads_close_to_each_other_cost_few_recorders(void **state)
{
    struct server *srv = reload_start("");
    struct conn *conn = conn_open(srv->port[0]);
    int64_t began_ms = harness_now_ms(), asked_ms = began_ms;
    pid_t last = 0, pid;
    int n_recorders = 0, n_slow = 0;

    (void)state;
    for (int i = 0; i < 40; i++) {
        char text[32];

        snprintf(text, sizeof text, "%d", i);
        server_rewrite_config(srv, RELOAD_CONFIG, "", text, "", "");
        /* 250 ms after a commit the series is over (follow.c), and a busy master may look only then. */
        n_slow += harness_now_ms() - asked_ms >= 125;
        asked_ms = harness_now_ms();
        kill(srv->pid, SIGHUP);
        snprintf(text, sizeof text, "1 %d", i);
        eventually(reload_conn_says(conn, text));
        if (server_children(srv, "bh-recorder", &pid, 1) == 1 && pid != last) {
            n_recorders++;
            last = pid;
        }
    }
    conn_close(&conn);
    /* The one before, one for the first reload, and one every two seconds. */
    assert_in_range(n_recorders, 1, 2 + (harness_now_ms() - began_ms) / 2000 + n_slow);
    server_rewrite_config(srv, RELOAD_CONFIG, "", "last", "", "");
    reload_now(srv, 0, NULL);
    eventually(server_children(srv, "bh-recorder", &pid, 1) == 1 && pid != last);
    reload_check_says(srv, "1 last");
    assert_int_equal(server_stop(&srv), 0);
}

/* The kernel may keep it from answering for longer than one answer is waited for: the reload goes on. */
static void a_master_that_is_deaf_for_a_while_is_waited_for(void **state)
{
    struct server *srv = reload_start("");
    char *next = reload_make(srv->dir, "next", "2", "", "usleep(300000);"), *out;
    int status;

    (void)state;
    reload_put_object(srv, "mv", next);
    status = run_command(
        &out,
        "export RUNTIME_DIRECTORY=%s; \"$BULKHEAD\" reload --wait -c %s & asks=$!\n"
        "until pgrep -P %d bh-preflight; do sleep 0.01; done\n"
        "kill -STOP %d; sleep 6; kill -CONT %d; wait $asks",
        srv->dir, srv->config, (int)srv->pid, (int)srv->pid, (int)srv->pid);
    if (status != 0)
        harness_fail(__FILE__, __LINE__, "reload: exit %d:\n%s", status, out);
    free(out);
    reload_check_says(srv, "2 one");
    assert_int_equal(server_stop(&srv), 0);
    free(next);
}

/* True: answered, or nobody listens. */
static bool knock(int port)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval most = {.tv_sec = 30};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[16] = "";
    bool is_well = true;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0)
        is_well = send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == sizeof request - 1 &&
                  recv(fd, text, 12, MSG_WAITALL) == 12 && strcmp(text, "HTTP/1.1 200") == 0;
    close(fd);
    return is_well;
}

static void *knock_on(void *arg)
{
    (void)arg;
    while (!atomic_load(&load.must_end)) {
        if (!knock(load.port))
            atomic_fetch_add(&load.n_bad, 1);
        atomic_fetch_add(&load.n, 1);
    }
    return NULL;
}

/* Whoever got in before the door was shut: nothing is reset in the queue. */
static void who_has_connected_to_a_listener_that_goes_is_answered(void **state)
{
    static const char b[] = "  - {name: b, address: \"127.0.0.1:@PORT1@\"}\n";
    struct server *srv = reload_start("");
    pthread_t thread[8];
    pid_t pid[64];

    (void)state;
    server_rewrite_config(srv, RELOAD_CONFIG, b, "two", "", "");
    reload_now(srv, 0, "+ listeners[b]");
    load.port = srv->port[1];
    load.n = load.n_bad = 0;
    atomic_store(&load.must_end, false);
    for (int i = 0; i < 8; i++)
        pthread_create(&thread[i], NULL, knock_on, NULL);
    for (int i = 0; i < 4; i++) {
        int before = load.n;

        eventually(load.n > before + 100);
        server_rewrite_config(srv, RELOAD_CONFIG, "", "two", "", "");
        reload_now(srv, 0, "- listeners[b]");
        eventually(server_children(srv, NULL, pid, 64) == 4); /* its sockets are gone */
        server_rewrite_config(srv, RELOAD_CONFIG, b, "two", "", "");
        reload_now(srv, 0, "+ listeners[b]");
    }
    atomic_store(&load.must_end, true);
    for (int i = 0; i < 8; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(load.n_bad, 0);
    assert_int_equal(server_stop(&srv), 0);
}

/* Streams that nobody reads keep their workers; however many reloads are asked for meanwhile, there are so
 * many processes and no more. What a signal has asked for comes when there is room. */
static void old_workers_that_finish_their_streams_are_bounded(void **state)
{
    enum { POSTS = 2, MOST = 4 * POSTS + 2 + 2 }; /* beside the workers a recorder and a trial */
    struct server *srv = reload_start("");
    struct conn *stream[20];
    size_t n, most = 0;
    char text[32];

    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "%d", i);
        if (i % 5 == 0) {
            stream[i / 5] = conn_open(srv->port[0]);
            conn_sendf(stream[i / 5],
                       "GET /stream/x?n=400&size=65536&via=pull HTTP/1.1\r\nHost: a\r\n\r\n");
            eventually(!conn_is_idle(stream[i / 5]));
        }
        server_rewrite_config(srv, RELOAD_CONFIG, "", text, "", "");
        if (i < 8)
            reload_ask(srv, "reload --wait", NULL);
        else
            kill(srv->pid, SIGHUP);
        n = server_children(srv, NULL, NULL, 0);
        most = n > most ? n : most;
    }
    assert_true(most <= MOST);
    assert_true(most > 2 * POSTS + 2); /* or this has shown nothing */
    reload_now(srv, 2, "there is no place for more");
    server_wait_log(srv, "SIGHUP: put off");
    for (int i = 0; i < 20; i++)
        conn_close(&stream[i]);
    stream[0] = conn_open(srv->port[0]);
    eventually(reload_conn_says(stream[0], "1 99"));
    conn_close(&stream[0]);
    eventually(server_children(srv, NULL, NULL, 0) == 4); /* two workers, standby, recorder */
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- what could never be unloaded ---- */

/* Static TLS runs out, a unique symbol and a thread keep an object for ever: of a process that loads ever
 * new ones. Here each generation has its own. */
static void objects_that_cannot_be_unloaded_are_reloaded_ever_again(void **state)
{
    struct server *srv = reload_start("");
    char *next = reload_make(
        srv->dir, "next", "v000",
        "#include <pthread.h>\n"
        "static __thread char tls[200] __attribute__((tls_model(\"initial-exec\")));\n"
        "__asm__(\".type unique, @gnu_unique_object\\n.globl unique\\n\"\n"
        "        \".data\\nunique: .long 1\\n.size unique, 4\\n.text\\n\");\n"
        "static void *sleep_on(void *arg) { for (;;) pause(); return arg; }\n"
        "#define START pthread_t t; pthread_create(&t, NULL, sleep_on, NULL)\n",
        "tls[0] = 1;");
    char command[512];

    (void)state;
    for (int i = 1; i <= 100; i++) {
        /* The same length: a copy of the object with another number in its text is another version. */
        snprintf(command, sizeof command, "sed s/v000/v%03d/g %s >", i, next);
        assert_int_equal(run_command(NULL, "%s %s/v.so", command, srv->dir), 0);
        reload_now(srv, 0, NULL);
    }
    reload_check_says(srv, "v100 one");
    eventually(server_children(srv, NULL, NULL, 0) == 4);
    assert_int_equal(server_crash_count(srv), 0);
    assert_int_equal(server_stop(&srv), 0);
    free(next);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_hundred_reloads_under_load_lose_nothing),
        cmocka_unit_test(reloads_close_to_each_other_cost_few_recorders),
        cmocka_unit_test(a_master_that_is_deaf_for_a_while_is_waited_for),
        cmocka_unit_test(who_has_connected_to_a_listener_that_goes_is_answered),
        cmocka_unit_test(old_workers_that_finish_their_streams_are_bounded),
        cmocka_unit_test(objects_that_cannot_be_unloaded_are_reloaded_ever_again),
    };

    cmocka_set_test_filter(getenv("ONLY")); /* by hand: ONLY='three*' build/tests/... */
    return cmocka_run_group_tests_name("reload under load", tests, NULL, NULL);
}
