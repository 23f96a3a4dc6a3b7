/*
 * test_slow_attacks.c - slowhttptest in all its modes, beside a client that behaves: it gets every answer,
 * about as fast as before.
 *
 * What a newcomer would get wrong: the tool, the client and the server share the machine's CPUs, so
 * "about as fast" has a floor here, beneath which nothing is measured but the machine. Without the limits
 * it is missed by far: a slow reader alone would fill the kernel's memory.
 */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FLOOR_US   25000
#define SAMPLES    20000
#define BEFORE_MS  700
#define NEW_EVERY  10 /* requests come over a new connection */
#define CONNS_TEXT "200"

static const char config[] =
    "version: 1\n"
    "server: {workers: 2}\n"
    "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
    "limits: {timeouts: {head: 1s, body: 1s, send: 1s, idle: 1s}}\n"
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"
    "plugins:\n"
    "  body: {module: body, config: {mode: stream, reply: yes}}\n"
    "  site: {module: static, config: {root: @DIR@/files}}\n"
    "  hello: {module: respond, config: {status: 200, body: \"hello\\n\"}}\n"
    "routes:\n"
    "  - {match: {path: /upload}, chain: [body]}\n"
    "  - {match: {path: /big}, chain: [site]}\n"
    "  - {match: {path: /**}, chain: [hello]}\n"
    "crash: {dir: @DIR@/crashes, keep: 100}\n";

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

struct sampler {
    struct server *srv;
    struct conn *conn;
    int64_t us[SAMPLES];
    size_t n;
};

/* One request, a thousand of them in a second at most. */
static void sample(struct sampler *s)
{
    int64_t begun = now_us();
    struct response *res;

    if (s->conn != NULL && s->n % NEW_EVERY == 0)
        conn_close(&s->conn);
    if (s->conn == NULL)
        s->conn = conn_open(s->srv->port[0]);
    res = conn_request(s->conn, "GET", "/", NULL, NULL, 0);
    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, "hello\n");
    response_free(&res);
    if (s->n < SAMPLES)
        s->us[s->n++] = now_us() - begun;
    usleep(1000);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static int64_t p99(struct sampler *s)
{
    assert_true(s->n > 50);
    qsort(s->us, s->n, sizeof s->us[0], compare);
    return s->us[s->n * 99 / 100];
}

static pid_t attack(const struct server *srv, const char *mode)
{
    char command[512];
    pid_t pid;

    snprintf(command, sizeof command,
             "exec timeout 20 slowhttptest -c " CONNS_TEXT " -r 200 -i 1 -l 4 -p 3 %s "
             "-u http://127.0.0.1:%d%s >%s/attack.log 2>&1",
             mode, srv->port[0],
             mode[1] == 'B'   ? "/upload"
             : mode[1] == 'H' ? "/"
                              : "/big",
             srv->dir);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, NULL);
        _exit(127);
    }
    return pid;
}

static void survive(const char *mode, const char *limit, long long at_least)
{
    static struct sampler before, during;
    int64_t end, least = FLOOR_US, a, b;
    char *dir = tmp_dir();
    struct server *srv;
    pid_t pid;
    int status;

    if (run_command(NULL, "command -v slowhttptest >/dev/null") != 0)
        skip();
    assert_int_equal(
        run_command(NULL, "mkdir %s/files && head -c 33554432 /dev/zero >%s/files/big", dir, dir),
        0);
    srv = server_start_in(dir, config);
    before = during = (struct sampler){.srv = srv};
    for (end = harness_now_ms() + BEFORE_MS; harness_now_ms() < end;)
        sample(&before);
    pid = attack(srv, mode);
    while (waitpid(pid, &status, WNOHANG) == 0)
        sample(&during);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    a = p99(&before);
    b = p99(&during);
    least *= harness_deadline_ms(1000) > harness_now_ms() + 1500 ? 4 : 1; /* a slow build */
    print_message("%s: p99 %lld us before, %lld us during; %zu requests\n", mode, (long long)a,
                  (long long)b, during.n);
    assert_true(b <= 2 * a || b <= least);
    if (limit != NULL)
        assert_true(server_limit(srv, limit) >= at_least);
    conn_close(&before.conn);
    conn_close(&during.conn);
    free(dir);
    assert_int_equal(server_stop(&srv), 0);
}

static void slow_heads_starve_nobody(void **state)
{
    (void)state;
    survive("-H", "head_timeout", 150);
}

static void slow_bodies_starve_nobody(void **state)
{
    (void)state;
    survive("-B -s 100000", "body_too_slow", 150);
}

static void ranges_without_number_starve_nobody(void **state)
{
    (void)state;
    survive("-R -b 3000", NULL, 0);
}

static void slow_readers_starve_nobody(void **state)
{
    (void)state;
    survive("-X -w 10 -y 20 -n 1 -z 5 -k 3", "reader_too_slow", 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_heads_starve_nobody),
        cmocka_unit_test(slow_bodies_starve_nobody),
        cmocka_unit_test(ranges_without_number_starve_nobody),
        cmocka_unit_test(slow_readers_starve_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
