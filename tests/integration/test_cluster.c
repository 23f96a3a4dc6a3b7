/*
 * test_cluster.c - config/example-cluster: two servers behind a real HAProxy, with one real Redis.
 *
 * A newcomer would expect the load in threads. It is not needed: the loop that asks also looks after
 * the restart, one step each turn.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "redis.h"

enum { CLIENTS = 8, RATE = 200, BURST = 400, LOAD_MS = 2500, IDS = 100 };

/* Where `make test` has unpacked what it does not install. */
#define BALANCER_LIBS "LD_LIBRARY_PATH=%s/../build/unpacked/usr/lib/x86_64-linux-gnu "

static struct redis_server *redis;
static struct server *srv[2];
static pid_t balancer;
static int front, front_claim_fd;

/* ---- what runs ------------------------------------------------------------------------------ */

static char *example(const char *name)
{
    char path[512], *text;

    snprintf(path, sizeof path, "%s/../config/example-cluster/%s", getenv("BULKHEAD_SDK"), name);
    text = file_read(path);
    assert_non_null(text);
    return text;
}

/* text with the first `from` replaced; frees text. */
static char *replace(char *text, const char *from, const char *to)
{
    char *at = strstr(text, from), *out;

    if (at == NULL)
        harness_fail(__FILE__, __LINE__, "the example has no %s", from);
    assert_true(asprintf(&out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)) > 0);
    free(text);
    return out;
}

static struct server *start_server(void)
{
    char *text = example("bulkhead.yaml");
    struct server *s;

    text = replace(text, "${BULKHEAD_ADDRESS:-127.0.0.1:8081}", "127.0.0.1:@PORT@");
    text = replace(text, "${BULKHEAD_ADMIN:-127.0.0.1:9901}", "127.0.0.1:@PORT1@");
    text = replace(text, "# password:", "password:");
    text = replace(text, "../../build/plugins", "@PLUGINS@");
    s = server_start("%s", text);
    free(text);
    return s;
}

static void set_port(const char *name, const char *prefix, int port)
{
    char text[32];

    snprintf(text, sizeof text, "%s%d", prefix, port);
    setenv(name, text, 1);
}

static void start_balancer(void)
{
    char *dir = tmp_dir(), *text = example("haproxy.cfg"), path[512], log[512];

    front = free_port_claimed(&front_claim_fd);
    snprintf(path, sizeof path, "%s/haproxy.cfg", dir);
    snprintf(log, sizeof log, "%s/haproxy.log", dir);
    file_write(path, "%s", text);
    balancer = fork();
    if (balancer == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        set_port("FRONT", "127.0.0.1:", front);
        set_port("SERVER_A", "127.0.0.1:", srv[0]->port[0]);
        set_port("SERVER_B", "127.0.0.1:", srv[1]->port[0]);
        set_port("ADMIN_A_PORT", "", srv[0]->port[1]);
        set_port("ADMIN_B_PORT", "", srv[1]->port[1]);
        dup2(fd, 1);
        dup2(fd, 2);
        snprintf(log, sizeof log, "%s/../build/unpacked/usr/lib/x86_64-linux-gnu",
                 getenv("BULKHEAD_SDK"));
        setenv("LD_LIBRARY_PATH", log, 1);
        execlp("haproxy", "haproxy", "-db", "-f", path, (char *)NULL);
        _exit(127);
    }
    free(text);
    free(dir);
}

static struct response *ask(struct conn *conn, const char *target, const char *headers)
{
    return conn_request(conn, "GET", target, headers, NULL, 0);
}

/* Who answers the next request; 0 or 1, -1: nobody. */
static int who(void)
{
    int fd, result = -1;
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)front)};
    struct conn *conn;
    struct response *res;

    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&in, sizeof in) == 0) {
        conn = conn_open(front);
        res = ask(conn, "/", NULL);
        if (res->status == 200 && response_header(res, "X-Server") != NULL)
            result = response_header(res, "X-Server")[0] - 'a';
        response_free(&res);
        conn_close(&conn);
    }
    close(fd);
    return result;
}

static bool has_answered(int i)
{
    return who() == i;
}

static int set_up(void **state)
{
    (void)state;
    if (!redis_is_there() ||
        run_command(NULL, BALANCER_LIBS "haproxy -v", getenv("BULKHEAD_SDK")) != 0)
        return 0;
    redis = redis_start();
    set_port("REDIS_ADDRESS", "127.0.0.1:", redis->port);
    setenv("REDIS_PASSWORD", REDIS_PASSWORD, 1);
    set_port("RATE", "", RATE);
    set_port("BURST", "", BURST);
    for (int i = 0; i < 2; i++)
        srv[i] = start_server();
    start_balancer();
    for (int i = 0; i < 2; i++)
        eventually(has_answered(i));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (redis == NULL)
        return 0;
    kill(balancer, SIGKILL);
    waitpid(balancer, NULL, 0);
    close(front_claim_fd);
    for (int i = 0; i < 2; i++)
        assert_int_equal(server_stop(&srv[i]), 0);
    redis_stop(&redis);
    return 0;
}

/* ---- what holds ----------------------------------------------------------------------------- */

struct load {
    struct conn *conn[CLIENTS];
    int n_right, n_lost, n_by[2];
};

/* A request on each connection; all of them answered. */
static void one_turn(struct load *load)
{
    for (int i = 0; i < CLIENTS; i++)
        conn_sendf(load->conn[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < CLIENTS; i++) {
        struct response *res = conn_response(load->conn[i], "GET");
        const char *by = response_header(res, "X-Server");

        if (res->status == 200 && strcmp(res->body, "hello\n") == 0 && by != NULL) {
            load->n_right++;
            load->n_by[by[0] == 'b']++;
        } else {
            print_message("lost: status %d by %s\n", res->status, by != NULL ? by : "nobody");
            load->n_lost++;
        }
        if (res->closed) {
            conn_close(&load->conn[i]);
            load->conn[i] = conn_open(front);
        }
        response_free(&res);
    }
}

static void restart(struct load *load, int i)
{
    int before;

    kill(srv[i]->pid, SIGTERM);
    for (int64_t end = harness_deadline_ms(HARNESS_WAIT_MS); server_is_running(srv[i]);) {
        one_turn(load);
        assert_true(harness_now_ms() < end);
    }
    assert_int_equal(server_wait_exit(srv[i]), 0);
    for (int n = 0; n < 50; n++)
        one_turn(load);
    server_start_again(srv[i]);
    before = load->n_by[i];
    for (int64_t end = harness_deadline_ms(HARNESS_WAIT_MS); load->n_by[i] < before + 100;) {
        one_turn(load);
        assert_true(harness_now_ms() < end);
    }
}

static void restarting_all_one_after_the_other_loses_no_request(void **state)
{
    struct load load = {0};

    (void)state;
    if (redis == NULL)
        skip();
    for (int i = 0; i < CLIENTS; i++)
        load.conn[i] = conn_open(front);
    for (int n = 0; n < 50; n++)
        one_turn(&load);
    assert_true(load.n_by[0] > 0 && load.n_by[1] > 0);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 2; i++)
            restart(&load, i);
    print_message("%d answered, %d by a, %d by b, %d lost\n", load.n_right, load.n_by[0],
                  load.n_by[1], load.n_lost);
    assert_int_equal(load.n_lost, 0);
    for (int i = 0; i < CLIENTS; i++)
        conn_close(&load.conn[i]);
}

static double tokens_in(int64_t ms)
{
    return BURST + RATE * (double)ms / 1000;
}

/* As in test_store_redis.c, but for who is in between. */
static void both_together_let_through_one_limit(void **state)
{
    struct conn *conn[CLIENTS];
    int64_t asked, answered = 0, end;
    double least, most;
    int n_passed = 0, n_refused = 0, before;

    (void)state;
    if (redis == NULL)
        skip();
    for (int i = 0; i < CLIENTS; i++)
        conn[i] = conn_open(front);
    asked = harness_now_ms();
    do {
        before = n_passed;
        end = harness_now_ms();
        for (int i = 0; i < CLIENTS; i++)
            conn_sendf(conn[i], "GET /limited/ HTTP/1.1\r\nHost: a\r\n\r\n");
        for (int i = 0; i < CLIENTS; i++) {
            struct response *res = conn_response(conn[i], "GET");

            if (answered == 0)
                answered = harness_now_ms();
            n_passed += res->status == 200;
            n_refused += res->status == 429;
            assert_true(res->status == 200 || res->status == 429);
            response_free(&res);
        }
    } while (end - asked < LOAD_MS || n_passed > before);
    least = tokens_in(end - answered);
    most = tokens_in(end - asked);
    print_message("%d passed of %d, %.0f to %.0f were to\n", n_passed, n_passed + n_refused, least,
                  most);
    assert_true(n_refused > 0);
    assert_true(n_passed > least * 0.98 && n_passed < most * 1.02);
    for (int i = 0; i < CLIENTS; i++)
        conn_close(&conn[i]);
}

/* What a session is in, by the answer; freed by the caller. */
static char *group_of(struct conn *conn, int id, int *by)
{
    char cookie[64], *group;
    struct response *res;

    snprintf(cookie, sizeof cookie, "Cookie: sid=%d\r\n", id);
    res = ask(conn, "/", cookie);
    assert_int_equal(res->status, 200);
    assert_non_null(response_header(res, "X-Experiment"));
    group = strdup(response_header(res, "X-Experiment"));
    *by = response_header(res, "X-Server")[0];
    response_free(&res);
    return group;
}

static void a_session_is_in_one_group_whoever_answers(void **state)
{
    struct conn *conn;
    int n_wide = 0, n_moved = 0;

    (void)state;
    if (redis == NULL)
        skip();
    conn = conn_open(front);
    for (int id = 1; id <= IDS; id++) {
        int first_by, by;
        char *first = group_of(conn, id, &first_by);

        for (int again = 0; again < 3; again++) {
            char *group = group_of(conn, id, &by);

            assert_string_equal(group, first);
            n_moved += by != first_by;
            free(group);
        }
        n_wide += strcmp(first, "layout=wide") == 0;
        free(first);
    }
    assert_true(n_moved > IDS / 2);
    assert_in_range(n_wide, IDS / 4, IDS * 3 / 4);
    conn_close(&conn);
}

/* ---- packaging/kubernetes ------------------------------------------------------------------- */

/* The packages are put where they stay for the next run. */
static bool has_schemas(const char *dir)
{
    char *out = NULL;
    int r = run_command(
        &out,
        "mkdir -p %s && cd %s && cp %s/../tests/clients/kubernetes/* . && "
        "{ cmp -s package-lock.json .done || { command -v npm >/dev/null && timeout 120 "
        "npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && "
        "cp package-lock.json .done; }; }",
        dir, dir, getenv("BULKHEAD_SDK"));

    if (r != 0)
        print_message("skipped: the packages cannot be had from npm: %.300s\n", out);
    free(out);
    return r == 0;
}

static void the_manifests_fit_kubernetes_and_each_other(void **state)
{
    char dir[512], path[512], *tmp, *text = NULL;

    (void)state;
    snprintf(dir, sizeof dir, "%s/../npm/kubernetes", getenv("BULKHEAD_MODULES"));
    if (!has_schemas(dir))
        skip();
    tmp = tmp_dir();
    if (run_command(&text,
                    "cd %s && node validate.mjs %s/bulkhead.yaml %s/../docs/metrics.md "
                    "%s/../packaging/kubernetes/*.yaml",
                    dir, tmp, getenv("BULKHEAD_SDK"), getenv("BULKHEAD_SDK")) != 0)
        harness_fail(__FILE__, __LINE__, "%s", text);
    free(text);
    /* The config in there, but for what only the image has. */
    snprintf(path, sizeof path, "%s/bulkhead.yaml", tmp);
    text = file_read(path);
    text = replace(text, "/usr/share/bulkhead/welcome", tmp);
    text = replace(text, "/var/lib/bulkhead/crashes", tmp);
    text = replace(text, "/var/lib/bulkhead/admin.token", "admin.token");
    file_write(path, "%smodules: {path: [%s]}\n", text, getenv("BULKHEAD_PLUGINS"));
    free(text);
    if (run_command(&text, "REDIS_PASSWORD=secret LAYOUT_SALT=salt %s check -c %s",
                    getenv("BULKHEAD"), path) != 0)
        harness_fail(__FILE__, __LINE__, "%s", text);
    free(text);
    free(tmp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_manifests_fit_kubernetes_and_each_other),
        cmocka_unit_test(a_session_is_in_one_group_whoever_answers),
        cmocka_unit_test(both_together_let_through_one_limit),
        cmocka_unit_test(restarting_all_one_after_the_other_loses_no_request),
    };

    return cmocka_run_group_tests_name("cluster", tests, set_up, tear_down);
}
