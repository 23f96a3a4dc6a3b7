/*
 * test_store_redis.c - the store on a real Redis: servers share it, and what happens when it goes.
 */
#include "harness.h"
#include "redis.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct redis_server *redis;

static struct server *start(const char *store)
{
    return server_start("version: 1\n"
                        "server: {workers: 2}\n"
                        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                        "plugins:\n"
                        "  k: {module: keeper}\n"
                        "routes: [{chain: [k]}]\n"
                        "breaker: {crashes: 0}\n"
                        "crash: {dir: @DIR@/crashes}\n"
                        "%s",
                        store);
}

static struct server *start_on_redis(const char *when_down)
{
    char store[512];

    snprintf(store, sizeof store,
             "store: {backend: redis, redis: {address: \"127.0.0.1:%d\", "
             "password: " REDIS_PASSWORD ", when_down: %s}}\n",
             redis->port, when_down);
    return start(store);
}

static void expect(struct server *srv, const char *target, const char *answer)
{
    struct response *res = server_get(srv, target);

    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, answer);
    response_free(&res);
}

static bool answers(struct server *srv, const char *target, const char *answer)
{
    struct response *res = server_get(srv, target);
    bool is_it = res->status == 200 && strcmp(res->body, answer) == 0;

    response_free(&res);
    return is_it;
}

static int set_up(void **state)
{
    (void)state;
    redis = redis_is_there() ? redis_start() : NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (redis != NULL)
        redis_stop(&redis);
    return 0;
}

static void servers_share_it(void **state)
{
    struct server *one, *two;
    char want[32];

    (void)state;
    if (redis == NULL) {
        skip();
        return;
    }
    one = start_on_redis("error");
    two = start_on_redis("error");
    expect(one, "/get?k=a&later=1", "-2 0 0");
    expect(one, "/set?k=a&v=hello&later=1", "0 0 0");
    expect(two, "/get?k=a&later=1", "0 hello");
    expect(two, "/set?k=a&v=x&new=1&later=1", "-8 0 0");
    for (int i = 1; i <= 20; i++) {
        snprintf(want, sizeof want, "0 %d 0", i);
        expect(i % 2 ? one : two, "/add?k=n&later=1", want);
    }
    expect(one, "/take?k=b&burst=15&most=10&later=1", "0 5 10");
    expect(two, "/take?k=b&burst=15&most=10&later=1", "0 0 5");
    expect(one, "/get?k=a", "-9 "); /* one that answers at once cannot ask another machine */
    assert_int_equal(server_stop(&one), 0);
    assert_int_equal(server_stop(&two), 0);
}

static void an_answer_meets_whatever_became_of_the_question(void **state)
{
    struct server *srv;
    struct response *res;
    pid_t before[2], after[2];

    (void)state;
    if (redis == NULL) {
        skip();
        return;
    }
    srv = start_on_redis("error");
    eventually(server_children(srv, "bh-worker", before, 2) == 2);
    expect(srv, "/later_cancel", "0 -2");
    res = server_get(srv, "/later_crash?k=c&wait=300"); /* nobody resumes it: its time is over */
    assert_int_equal(res->status, 504);
    response_free(&res);
    eventually(server_crash_count(srv) > 0);
    expect(srv, "/get?k=c&later=1", "0 1");
    assert_int_equal(server_children(srv, "bh-worker", after, 2), 2);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(server_stop(&srv), 0);
}

static void while_it_is_down_this_machine_answers(void **state)
{
    struct server *srv;

    (void)state;
    if (redis == NULL) {
        skip();
        return;
    }
    srv = start_on_redis("local");
    expect(srv, "/add?k=n1&d=100&later=1", "0 100 0");
    redis_kill(redis);
    expect(srv, "/add?k=n1&later=1", "0 1 0 local");
    server_wait_log(srv, "the store cannot be had: Redis at 127.0.0.1:");
    expect(srv, "/add?k=n1&later=1", "0 2 0 local");
    redis_restart(redis);
    eventually(answers(srv, "/add?k=m&d=0&later=1", "0 0 0"));
    server_wait_log(srv, "the store is there again");
    assert_int_equal(server_stop(&srv), 0);
}

static void or_plugins_are_told(void **state)
{
    struct server *srv;
    struct response *res;

    (void)state;
    if (redis == NULL) {
        skip();
        return;
    }
    srv = start_on_redis("error");
    expect(srv, "/add?k=n2&later=1", "0 1 0");
    redis_kill(redis);
    res = server_get(srv, "/add?k=n2&later=1"); /* by the answer, or at once */
    assert_int_equal(strncmp(res->body, "-7 ", 3), 0);
    response_free(&res);
    redis_restart(redis);
    eventually(answers(srv, "/add?k=m&d=0&later=1", "0 0 0"));
    assert_int_equal(server_stop(&srv), 0);
}

static void one_that_hangs_holds_no_request_for_long(void **state)
{
    struct server *srv;
    int64_t begin;

    (void)state;
    if (redis == NULL) {
        skip();
        return;
    }
    srv = start_on_redis("local");
    expect(srv, "/add?k=n3&later=1", "0 1 0");
    kill(redis->pid, SIGSTOP);
    begin = harness_now_ms();
    eventually(answers(srv, "/set?k=x&v=1&later=1", "0 0 0 local"));
    assert_true(harness_now_ms() - begin < 3000);
    begin = harness_now_ms();
    for (int i = 0; i < 10; i++) /* both workers know by now, or soon */
        eventually(answers(srv, "/set?k=x&v=1&later=1", "0 0 0 local"));
    assert_true(harness_now_ms() - begin < 3000);
    kill(redis->pid, SIGCONT);
    assert_int_equal(server_stop(&srv), 0);
}

static void the_memory_store_answers_later_as_well(void **state)
{
    struct server *srv = start("");

    (void)state;
    expect(srv, "/set?k=a&v=hello&later=1", "0 0 0");
    expect(srv, "/get?k=a&later=1", "0 hello");
    expect(srv, "/get?k=a", "0 hello");
    expect(srv, "/add?k=n&later=1", "0 1 0");
    expect(srv, "/take?k=b&burst=15&most=10&later=1", "0 5 10");
    expect(srv, "/take?k=b&burst=15&most=10&later=1", "0 0 5");
    expect(srv, "/del?k=a&later=1", "0 0 0");
    expect(srv, "/later_cancel", "0 -2");
    assert_int_equal(server_stop(&srv), 0);
}

#define RATE 200
#define BURST \
    400 /* two seconds of it: nothing is lost while this process has to wait for its CPU */
#define LOAD_MS 2500

static struct server *start_limited(void)
{
    return server_start(
        "version: 1\n"
        "server: {workers: 2}\n"
        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "plugins:\n"
        "  limit: {module: rate_limit, config: {scope: cluster, rate: %d, burst: %d}}\n"
        "  hello: {module: respond, config: {body: hello}}\n"
        "routes: [{chain: [limit, hello]}]\n"
        "store: {backend: redis, redis: {address: \"unix:%s/redis.sock\", "
        "password: " REDIS_PASSWORD ", timeout: 1s}}\n",
        RATE, BURST, redis->dir);
}

struct load {
    struct conn *conn[8];
    int n_passed, n_refused;
};

/* One request on each connection; how many passed. */
static int send_all(struct load *load)
{
    int before = load->n_passed;

    for (int i = 0; i < 8; i++)
        conn_sendf(load->conn[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 8; i++) {
        struct response *res = conn_response(load->conn[i], "GET");

        load->n_passed += res->status == 200;
        load->n_refused += res->status == 429;
        assert_true(res->status == 200 || response_header(res, "Retry-After") != NULL);
        assert_non_null(response_header(res, "RateLimit"));
        response_free(&res);
    }
    return load->n_passed - before;
}

/* Until nothing is left, in the bucket or with a worker; when that turn began: it may take its time. */
static int64_t exhaust(struct load *load)
{
    int64_t begin;

    do
        begin = harness_now_ms();
    while (send_all(load) > 0);
    return begin;
}

/* All over the limit, from connections to both; what passes is what the one bucket has. Counted from when
 * its burst is spent, since one that is full gets nothing: then it is what it gets. */
static void two_servers_let_through_one_limit(void **state)
{
    struct server *srv[2];
    struct load load = {.n_passed = 0};
    int64_t asked, begin, end;
    int burst;
    double want;

    (void)state;
    if (redis == NULL) {
        skip();
        return;
    }
    for (int i = 0; i < 2; i++)
        srv[i] = start_limited();
    for (int i = 0; i < 8; i++)
        load.conn[i] = conn_open(srv[i % 2]->port[0]);
    asked = harness_now_ms();
    begin = exhaust(&load);
    burst = load.n_passed;
    assert_true(burst >= BURST &&
                burst <= BURST + RATE * (double)(harness_now_ms() - asked) / 1000 + 1);
    while (harness_now_ms() - begin < LOAD_MS)
        send_all(&load);
    end = exhaust(&load);
    want = RATE * (double)(end - begin) / 1000;
    print_message("%d at first, then %d of %d, %.0f were to\n", burst, load.n_passed - burst,
                  load.n_passed - burst + load.n_refused, want);
    assert_true(load.n_refused > load.n_passed);
    assert_true(load.n_passed - burst > want * 0.98 && load.n_passed - burst < want * 1.02);
    for (int i = 0; i < 8; i++)
        conn_close(&load.conn[i]);
    for (int i = 0; i < 2; i++)
        assert_int_equal(server_stop(&srv[i]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_share_it),
        cmocka_unit_test(an_answer_meets_whatever_became_of_the_question),
        cmocka_unit_test(while_it_is_down_this_machine_answers),
        cmocka_unit_test(or_plugins_are_told),
        cmocka_unit_test(one_that_hangs_holds_no_request_for_long),
        cmocka_unit_test(the_memory_store_answers_later_as_well),
        cmocka_unit_test(two_servers_let_through_one_limit),
    };

    return cmocka_run_group_tests_name("store on Redis", tests, set_up, tear_down);
}
