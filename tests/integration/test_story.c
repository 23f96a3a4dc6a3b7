/*
 * test_story.c - config/example-experiment.yaml as a whole: a client whose clock is wrong finds the
 * right time, is split by it, and its exposures are in PostgreSQL; metrics tell of all of it.
 */
#include "harness.h"
#include "postgres.h"

#include <arpa/inet.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOUR_MS 3600000.0

static double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* ---- a time server ------------------------------------------------------------------------ */

static void put32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (24 - 8 * i));
}

static int bound(int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    a.sin_port = htons((uint16_t)*port);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

/* SNTP, ahead of this machine by so much. *port 0: any. */
static pid_t time_server(int *port, int ahead_ms)
{
    int fd = bound(port);
    unsigned char in[64], out[48];
    pid_t pid = fork();

    if (pid != 0) {
        close(fd);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        double t;

        if (recvfrom(fd, in, sizeof in, 0, (struct sockaddr *)&from, &len) != 48)
            continue;
        t = (now_ms() + ahead_ms) / 1e3;
        memset(out, 0, sizeof out);
        out[0] = 4 << 3 | 4;
        out[1] = 3;
        memcpy(out + 24, in + 40, 8);
        put32(out + 32, (uint32_t)((int64_t)t + 2208988800LL));
        put32(out + 36, (uint32_t)((t - floor(t)) * 4294967296.0));
        memcpy(out + 40, out + 32, 8);
        sendto(fd, out, sizeof out, 0, (struct sockaddr *)&from, len);
    }
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ---- the server --------------------------------------------------------------------------- */

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

/* How changes of the experiment take effect. */
static const char plan[] =
    "    rollout:\n"
    "      key: cookie:sid\n"
    "      samples: 40\n"
    "      steps: [{shadow: 50%, for: 0, samples: 20}, {canary: 50%, for: 0, samples: 20}]\n"
    "      gate: {metric: group_assignment_consistency_rate, improves_by: 9.2%}\n";

/* Of alerts; none for most tests. */
static char receiver[256] = "\n";

/* The example, faster than is good for anybody's time server; and on a machine that is busy with other
 * tests, a request takes its time. more: of the experiment `colour`. */
static char *example(const char *more)
{
    char path[512], *text, *options;

    snprintf(path, sizeof path, "%s/../config/example-experiment.yaml", getenv("BULKHEAD_SDK"));
    text = file_read(path);
    assert_non_null(text);
    text = replace(text, "failures: 3, recover: 5m", "interval: 100ms, window: 2s");
    text = replace(text, "path: exposures.jsonl", "linger: 50ms");
    text = replace(text, "tolerance: 200ms", "tolerance: 5s");
    assert_true(asprintf(&options, "%s    config:\n      name: colour\n      tolerance: 5s\n%s",
                         plan, more) > 0);
    text = replace(text, "    config:\n      name: colour\n", options);
    free(options);
    text = replace(text, "${BULKHEAD_ADDRESS:-127.0.0.1:8080}", "127.0.0.1:@PORT@");
    text = replace(text, "for: 2m", "for: 300ms");
    text = replace(text,
                   "      annotations: {summary: this machine's clock is off by more than 50 ms}\n",
                   receiver);
    return replace(text, "../build/plugins", "@PLUGINS@");
}

static struct server *start(const char *ntp_server, const char *database, const char *more)
{
    char *text = example(more);
    struct server *srv;

    setenv("NTP_SERVER", ntp_server, 1);
    setenv("EXPOSURE_DB", database, 1);
    srv = server_start("%s", text);
    server_wait_log(srv, "serving on"); /* from here on it tells its metrics */
    unsetenv("NTP_SERVER");
    unsetenv("EXPOSURE_DB");
    free(text);
    return srv;
}

/* The largest value of a metric, over all its label sets with that in them; -1: none. */
static double metric(struct server *srv, const char *name, const char *label)
{
    char *text = NULL, *line;
    double max = -1;

    assert_int_equal(run_command(&text, "RUNTIME_DIRECTORY=%s %s metrics -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    for (line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        size_t n = strlen(name);

        if (strncmp(line, name, n) == 0 && (line[n] == '{' || line[n] == ' ') &&
            strstr(line, label) != NULL)
            max = fmax(max, strtod(strrchr(line, ' '), NULL));
    }
    free(text);
    return max;
}

/* ---- a client ----------------------------------------------------------------------------- */

struct client {
    int id;
    double ahead_ms;  /* its clock's error */
    double offset_ms; /* what it has found out */
};

static double its_time(const struct client *c)
{
    return now_ms() + c->ahead_ms;
}

/* offset = server - client + RTT/2, as time_sync's README has it. */
static void sync_time(struct server *srv, struct client *c)
{
    double sent = its_time(c), received, told;
    struct response *res = server_get(srv, "/time");

    received = its_time(c);
    assert_int_equal(res->status, 200);
    told = strtod(strstr(res->body, "\"time_ms\":") + 10, NULL);
    c->offset_ms = told - received + (received - sent) / 2;
    response_free(&res);
}

static void ask(struct server *srv, const struct client *c, char group[32])
{
    char headers[200];
    const char *told;
    struct response *res;

    snprintf(headers, sizeof headers, "Cookie: sid=%d\r\nX-Trace-Time: %.3f\r\n", c->id,
             (its_time(c) + c->offset_ms) / 1e3);
    res = server_request(srv, "GET", "/", headers, NULL, 0);
    assert_int_equal(res->status, 200);
    told = response_header(res, "X-Experiment");
    assert_non_null(told);
    assert_memory_equal(told, "colour=", 7);
    snprintf(group, 32, "%s", told + 7);
    response_free(&res);
}

static bool is_synced(struct server *srv)
{
    struct response *res = server_get(srv, "/time");
    bool yes = strstr(res->body, "\"state\":\"synced\"") != NULL;

    response_free(&res);
    return yes;
}

static void a_client_with_a_wrong_clock_is_split_by_the_right_time(void **state)
{
    struct postgres *pg = postgres_shared();
    int port = 0;
    pid_t ntp = time_server(&port, 0);
    char server[32], database[300], before[32], after[32], again[32];
    struct client c = {.ahead_ms = 2 * HOUR_MS};
    struct server *srv;

    (void)state;
    snprintf(server, sizeof server, "127.0.0.1:%d", port);
    snprintf(database, sizeof database, "host=%s user=pg dbname=postgres", pg->dir);
    srv = start(server, database, "");
    eventually(is_synced(srv));

    for (c.id = 100; c.id < 120; c.id++) {
        c.offset_ms = 0;
        ask(srv, &c, before);                   /* by its own clock: by session id */
        assert_string_equal(before, "control"); /* buckets 1000 to 1190 of 10000 */
        sync_time(srv, &c);
        assert_true(fabs(c.offset_ms + 2 * HOUR_MS) < 2000);
        ask(srv, &c, after);
        ask(srv, &c, again);
        assert_string_equal(after, again);
    }
    eventually(postgres_number(pg, "SELECT count(*) FROM exposures") == 60);
    assert_int_equal(postgres_number(pg,
                                     "SELECT count(*) FROM exposures WHERE reason = 'fallback' AND "
                                     "request_time - gateway_time > interval '1 hour 59 min'"),
                     20);
    assert_int_equal(postgres_number(pg,
                                     "SELECT count(*) FROM exposures WHERE reason = 'assigned' AND "
                                     "abs(extract(epoch FROM request_time - gateway_time)) < 5"),
                     40);
    /* Each id, by the right time, is in one group. */
    assert_int_equal(postgres_number(pg,
                                     "SELECT count(DISTINCT (id, \\\"group\\\")) FROM exposures "
                                     "WHERE reason = 'assigned'"),
                     20);
    eventually(metric(srv, "ab_fallbacks_total", "colour") == 20);
    eventually(metric(srv, "ab_fallback_rate", "colour") > 0);
    assert_true(metric(srv, "trace_time_skew_ms_max", "") > 1.9 * HOUR_MS);
    assert_true(metric(srv, "ntp_sync_success_ratio", "") == 1);
    eventually(metric(srv, "time_drift_ms_p95", "") < 50);
    assert_int_equal(server_stop(&srv), 0);
    end(ntp);
}

static bool says(struct server *srv, const char *command, const char *text)
{
    char *out = NULL;
    bool yes;

    run_command(&out, "RUNTIME_DIRECTORY=%s %s %s -c %s", srv->dir, getenv("BULKHEAD"), command,
                srv->config);
    yes = strstr(out, text) != NULL;
    free(out);
    return yes;
}

/* A robot's webhook: answers what WeCom does, and writes what it was sent to a file. */
static pid_t robot(int *port, const char *path)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                             "Content-Length: 25\r\nConnection: close\r\n\r\n"
                             "{\"errcode\":0,\"errmsg\":\"\"}";
    pid_t pid;

    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    pid = fork();
    if (pid != 0) {
        close(fd);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        int client = accept(fd, NULL, NULL);
        FILE *f = fopen(path, "ae");
        char text[16384];
        size_t n = 0, body = 0;
        ssize_t got;

        /* The head, and then as much as it announces. */
        while (client >= 0 && (got = recv(client, text + n, sizeof text - 1 - n, 0)) > 0) {
            const char *end_of_head, *length;

            n += (size_t)got;
            text[n] = '\0';
            end_of_head = strstr(text, "\r\n\r\n");
            length = strcasestr(text, "content-length:");
            body = length != NULL ? (size_t)atoi(length + 15) : 0;
            if (end_of_head != NULL && n >= (size_t)(end_of_head + 4 - text) + body)
                break;
        }
        if (f != NULL && n > 0) {
            text[n] = '\0';
            fprintf(f, "%s\n", text);
        }
        if (f != NULL)
            fclose(f);
        send(client, ok, sizeof ok - 1, MSG_NOSIGNAL);
        close(client);
    }
}

static bool was_told(const char *path, const char *text)
{
    char *all = file_read(path);
    bool yes = all != NULL && strstr(all, text) != NULL;

    free(all);
    return yes;
}

static void an_alert_tells_of_a_clock_that_drifts_and_of_its_end(void **state)
{
    int port = 0, robots_port;
    pid_t ntp = time_server(&port, 300), wecom;
    char server[32], *dir = tmp_dir(), told[512];
    struct server *srv;

    (void)state;
    snprintf(server, sizeof server, "127.0.0.1:%d", port);
    snprintf(told, sizeof told, "%s/told", dir);
    wecom = robot(&robots_port, told);
    snprintf(
        receiver, sizeof receiver,
        "\n  receivers: [{name: on_call, type: wecom, url: \"http://127.0.0.1:%d/send?key=k\"}]\n",
        robots_port);
    srv = start(server, "", "");
    eventually(metric(srv, "time_drift_ms_p95", "") > 50);
    eventually(says(srv, "alerts", "firing"));
    eventually(was_told(told, "time_drift"));
    assert_true(was_told(told, "\"msgtype\""));
    end(ntp);
    ntp = time_server(&port, 0);
    eventually(metric(srv, "time_drift_ms_p95", "") < 50);
    eventually(says(srv, "alerts", "resolved"));
    eventually(was_told(told, "RESOLVED"));
    assert_int_equal(server_stop(&srv), 0);
    snprintf(receiver, sizeof receiver, "\n");
    end(ntp);
    end(wecom);
    free(dir);
}

/* ---- another version of ab_test ----------------------------------------------------------- */

enum { USERS = 12 };

/* Some whose id and whose time put them into different groups. */
static struct {
    int id;
    char cookie[64]; /* what the browser remembers: "ab_colour=..." */
} users[USERS];

/* Group of the experiment, as the answer tells it. */
static void visit(struct server *srv, int id, char cookie[64], double ahead_ms, char group[32])
{
    char headers[300];
    const char *set, *told;
    struct response *res;

    snprintf(headers, sizeof headers, "Cookie: sid=%d; %s\r\nX-Trace-Time: %.3f\r\n", id, cookie,
             (now_ms() + ahead_ms) / 1e3);
    res = server_request(srv, "GET", "/", headers, NULL, 0);
    assert_int_equal(res->status, 200);
    set = response_header(res, "Set-Cookie");
    if (set != NULL)
        snprintf(cookie, 64, "%.*s", (int)strcspn(set, ";"), set);
    told = response_header(res, "X-Experiment");
    assert_non_null(told);
    snprintf(group, 32, "%s", told);
    response_free(&res);
}

static void find_users(struct server *srv)
{
    char right[32], wrong[32], cookie[64];
    int n = 0;

    for (int id = 1000; n < USERS; id++) {
        strcpy(cookie, "");
        visit(srv, id, cookie, 0, right);
        strcpy(cookie, "");
        visit(srv, id, cookie, HOUR_MS, wrong);
        if (strcmp(right, wrong) != 0)
            users[n++].id = id;
    }
}

/* Twice with a clock that is right, twice with one that is wrong: who is not kept in a group comes into
 * the same one again every second time, beginning with one that is another. */
static void visits(struct server *srv)
{
    char group[32];

    for (int i = 0; i < 4; i++)
        for (int user = 0; user < USERS; user++)
            visit(srv, users[user].id, users[user].cookie, i < 2 ? 0 : HOUR_MS, group);
}

/* Unhurried: with thousands of requests of some microseconds each, one version may look slower by the
 * scheduler's whim. What is judged here is another thing. */
static bool says_after_visits(struct server *srv, const char *command, const char *text)
{
    int64_t until = harness_now_ms() + 400;

    visits(srv);
    while (harness_now_ms() < until && !says(srv, command, text))
        harness_pause(until);
    return says(srv, command, text);
}

static void begin_rollout(struct server *srv, const char *more)
{
    char *text = example(more);

    server_rewrite_config(srv, "%s", text);
    free(text);
    assert_int_equal(run_command(NULL, "RUNTIME_DIRECTORY=%s %s reload --wait -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
}

static void start_object(struct server *srv, const char *name)
{
    char command[512];

    snprintf(command, sizeof command, "rollout start colour --module %s/%s.so",
             getenv("BULKHEAD_MODULES"), name);
    assert_int_equal(run_command(NULL, "RUNTIME_DIRECTORY=%s %s %s -c %s", srv->dir,
                                 getenv("BULKHEAD"), command, srv->config),
                     0);
}

/* begin: of a rollout, of what makes no difference, then of what keeps more clients in their group. */
static void roll_out_twice(void (*begin)(struct server *srv, const char *what), const char *same,
                           const char *better)
{
    struct server *srv = start("127.0.0.1:9", "", "      window: 10s\n      sticky: false\n");

    find_users(srv);
    eventually((visits(srv), metric(srv, "ab_seen_again_total", "colour")) > 10 * USERS);
    eventually(fabs(metric(srv, "group_assignment_consistency_rate", "colour") - 0.5) < 0.1);
    /* One that makes no difference is not promoted. */
    begin(srv, same);
    eventually(says_after_visits(srv, "rollout status", "to be better by 9.2%"));
    assert_true(says(srv, "rollout abort", "aborted"));
    eventually(says(srv, "events", "rollback: done"));
    begin(srv, better);
    eventually(says_after_visits(srv, "events", "rollout_promoted"));
    eventually((visits(srv), metric(srv, "group_assignment_consistency_rate", "colour")) > 0.99);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_version_is_rolled_out_when_more_clients_stay_in_their_group(void **state)
{
    (void)state;
    roll_out_twice(begin_rollout, "      window: 11s\n      sticky: false\n",
                   "      window: 10s\n      sticky: true\n");
}

/* Not other options: other objects, made from the same source. */
static void another_object_is_rolled_out_when_it_keeps_more_clients_in_their_group(void **state)
{
    (void)state;
    roll_out_twice(start_object, "ab_test_same", "ab_test_v2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_with_a_wrong_clock_is_split_by_the_right_time),
        cmocka_unit_test(an_alert_tells_of_a_clock_that_drifts_and_of_its_end),
        cmocka_unit_test(a_version_is_rolled_out_when_more_clients_stay_in_their_group),
        cmocka_unit_test(another_object_is_rolled_out_when_it_keeps_more_clients_in_their_group),
    };

    return cmocka_run_group_tests(tests, NULL, postgres_end);
}
