/*
 * test_time.c - time_sync in the real server, against what people use: chrony, xinetd's TIME service,
 * rdate, and a browser. What is not installed is skipped.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Where `make test` has unpacked what it does not install. */
static void use_unpacked(void)
{
    const char *sdk = getenv("BULKHEAD_SDK");
    char path[4096];

    snprintf(path, sizeof path, "%s:/usr/sbin:/sbin:%s/../build/unpacked/usr/sbin", getenv("PATH"),
             sdk);
    setenv("PATH", path, 1);
    snprintf(path, sizeof path, "%s/../build/unpacked/usr/lib/x86_64-linux-gnu", sdk);
    setenv("LD_LIBRARY_PATH", path, 1);
}

/* How exact these tests are: on a machine that is busy, any of the peers may be late. Exactness is what
 * plugins/time_sync/test_time_sync.c tests, by a clock that stands still. */
enum { CLOSE_MS = 1000 };

static void needs(const char *program)
{
    if (run_command(NULL, "command -v %s && ! ldd $(command -v %s) | grep 'not found'", program,
                    program) != 0) {
        print_message("%s is not installed\n", program);
        skip();
    }
}

static int free_port(int type)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, type, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* ---- processes beside the server ---------------------------------------------------------- */

/* Ends with this test, also when that dies. */
static pid_t spawn(const char *log, const char *const argv[])
{
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    dup2(open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644), STDOUT_FILENO);
    dup2(STDOUT_FILENO, STDERR_FILENO);
    execvp(argv[0], (char *const *)(uintptr_t)argv); /* it changes nothing there */
    _exit(127);
}

static void end(pid_t pid)
{
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void put32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (24 - 8 * i));
}

/* An SNTP server whose clock is ahead by so much. */
static pid_t wrong_server(int port, int ahead_s)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unsigned char in[64], out[48];
    pid_t pid;

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    pid = fork();
    if (pid != 0) {
        close(fd);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        struct timespec now;

        if (recvfrom(fd, in, sizeof in, 0, (struct sockaddr *)&from, &len) != 48)
            continue;
        clock_gettime(CLOCK_REALTIME, &now);
        memset(out, 0, sizeof out);
        out[0] = 4 << 3 | 4;
        out[1] = 3;
        memcpy(out + 24, in + 40, 8);
        put32(out + 32, (uint32_t)(now.tv_sec + ahead_s + 2208988800LL));
        put32(out + 36, (uint32_t)(((uint64_t)now.tv_nsec << 32) / 1000000000));
        memcpy(out + 40, out + 32, 8);
        sendto(fd, out, sizeof out, 0, (struct sockaddr *)&from, len);
    }
}

/* ---- the server --------------------------------------------------------------------------- */

static struct server *start(const char *options)
{
    return server_start(
        "version: 1\n"
        "server: {workers: 2}\n"
        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@]}\n"
        "plugins:\n"
        "  log: {module: access_log, config: {format: json, path: access.log,\n"
        "        vars: [time_sync.now, trace_time.skew_ms, trace_time.source]}}\n"
        "  clock: {module: time_sync, config: {interval: 100ms, %s}}\n"
        "  time: {module: trace_time, config: {tolerance: 10s}}\n" /* machines are busy */
        "  site: {module: static, config: {root: @DIR@, index: [page.html]}}\n"
        "routes: [{match: {path: /**}, chain: [log, clock, time, site]}]\n",
        options);
}

/* A number of GET /time; NAN when it is null. */
static double member(struct server *srv, const char *name)
{
    struct response *res = server_get(srv, "/time");
    char key[64], *at;
    double v = NAN;

    assert_int_equal(res->status, 200);
    snprintf(key, sizeof key, "\"%s\":", name);
    at = strstr(res->body, key);
    assert_non_null(at);
    if (strncmp(at + strlen(key), "null", 4) != 0)
        v = strtod(at + strlen(key), NULL);
    response_free(&res);
    return v;
}

/* Of all workers: each request is a connection of its own, which either of the two may get. */
static bool all_are(struct server *srv, const char *state)
{
    char text[64];
    bool all = true;

    snprintf(text, sizeof text, "\"state\":\"%s\"", state);
    for (int i = 0; i < 16 && all; i++) {
        struct response *res = server_get(srv, "/time");

        all = strstr(res->body, text) != NULL;
        response_free(&res);
    }
    return all;
}

static double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static bool access_log_has(struct server *srv, const char *text)
{
    char path[512], *log;
    bool found;

    snprintf(path, sizeof path, "%s/access.log", srv->dir);
    log = file_read(path);
    found = log != NULL && strstr(log, text) != NULL;
    free(log);
    return found;
}

static void chrony_tells_the_time(void **state)
{
    char options[100], conf[300], log[300];
    char *dir = tmp_dir();
    int port = free_port(SOCK_DGRAM);
    struct server *srv;
    pid_t chrony;

    (void)state;
    needs("chronyd");
    snprintf(conf, sizeof conf, "%s/chrony.conf", dir);
    snprintf(log, sizeof log, "%s/chrony.log", dir);
    file_write(conf,
               "port %d\nbindaddress 127.0.0.1\ncmdport 0\nlocal stratum 8\nallow 127.0.0.0/8\n"
               "pidfile %s/pid\ndriftfile %s/drift\nbindcmdaddress /\n",
               port, dir, dir);
    /* As who runs this test: there is no user _chrony where the package was only unpacked. */
    chrony = spawn(log, (const char *[]){"chronyd", "-x", "-d", "-U", "-u",
                                         getpwuid(geteuid())->pw_name, "-f", conf, NULL});
    snprintf(options, sizeof options, "servers: [\"127.0.0.1:%d\"]", port);
    srv = start(options);
    eventually(all_are(srv, "synced"));
    assert_true(member(srv, "stratum") == 8);
    assert_true(fabs(member(srv, "offset_ms")) < CLOSE_MS);
    assert_true(member(srv, "error_ms") < CLOSE_MS);
    assert_true(fabs(member(srv, "time_ms") - now_ms()) < 2 * CLOSE_MS);
    end(chrony);
    assert_int_equal(server_stop(&srv), 0);
    free(dir);
}

static void a_machine_whose_clock_is_wrong_knows_the_right_time(void **state)
{
    int port = free_port(SOCK_DGRAM);
    pid_t server = wrong_server(port, 3600);
    struct response *res;
    char options[100], header[64];
    struct server *srv;

    (void)state;
    snprintf(options, sizeof options, "servers: [\"127.0.0.1:%d\"]", port);
    srv = start(options);
    eventually(all_are(srv, "synced"));
    assert_true(fabs(member(srv, "offset_ms") - 3600000) < CLOSE_MS);
    assert_true(fabs(member(srv, "time_ms") - now_ms() - 3600000) < 2 * CLOSE_MS);
    /* trace_time goes by it: a client with the right time is believed. */
    snprintf(header, sizeof header, "X-Trace-Time: %.3f\r\n", now_ms() / 1000 + 3600);
    res = server_request(srv, "GET", "/right", header, NULL, 0);
    response_free(&res);
    eventually(access_log_has(srv, "\"trace_time.source\":\"client\""));
    end(server);
    assert_int_equal(server_stop(&srv), 0);
}

static void failures_lead_to_compensation_and_good_time_back(void **state)
{
    int port = free_port(SOCK_DGRAM);
    pid_t server = wrong_server(port, 100);
    char options[200];
    struct server *srv;
    int64_t begin;

    (void)state;
    snprintf(options, sizeof options,
             "servers: [\"127.0.0.1:%d\"], timeout: 50ms, failures: 3, recover: 1s", port);
    srv = start(options);
    eventually(all_are(srv, "synced"));
    end(server);
    eventually(all_are(srv, "compensating"));
    server_wait_log(srv, "3 failures in a row; time goes on by the monotonic clock");
    assert_true(fabs(member(srv, "time_ms") - now_ms() - 100000) < 2 * CLOSE_MS);
    server = wrong_server(port, 200);
    begin = harness_now_ms();
    server_wait_log(srv, "answers again");
    eventually(all_are(srv, "synced"));
    assert_true(harness_now_ms() - begin >= 900); /* not at once */
    assert_true(fabs(member(srv, "time_ms") - now_ms() - 200000) < 2 * CLOSE_MS);
    end(server);
    assert_int_equal(server_stop(&srv), 0);
}

static void fresh_workers_know_the_time_while_no_server_answers(void **state)
{
    int port = free_port(SOCK_DGRAM);
    pid_t server = wrong_server(port, 3600);
    char options[200];
    struct server *srv;

    (void)state;
    snprintf(options, sizeof options, "servers: [\"127.0.0.1:%d\"], timeout: 50ms", port);
    srv = start(options);
    eventually(all_are(srv, "synced"));
    end(server);
    eventually(all_are(srv, "compensating"));
    assert_int_equal(run_command(NULL, "RUNTIME_DIRECTORY=%s %s reload --wait -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    assert_true(all_are(srv, "compensating"));
    assert_true(fabs(member(srv, "time_ms") - now_ms() - 3600000) < 2 * CLOSE_MS);
    assert_int_equal(server_stop(&srv), 0);
}

static void xinetd_tells_the_time(void **state)
{
    static const char *const schemes[] = {"time+udp", "time+tcp"};
    char options[100], conf[300], log[300], pidfile[300];
    char *dir = tmp_dir();
    int port = free_port(SOCK_STREAM);
    pid_t xinetd;

    (void)state;
    needs("xinetd");
    snprintf(conf, sizeof conf, "%s/xinetd.conf", dir);
    snprintf(log, sizeof log, "%s/xinetd.log", dir);
    snprintf(pidfile, sizeof pidfile, "%s/pid", dir); /* it is removed at the end, whatever it is */
    file_write(conf,
               "defaults\n{\n bind = 127.0.0.1\n cps = 1000 1\n}\n"
               "service time\n{\n type = INTERNAL UNLISTED\n id = time-stream\n"
               " socket_type = stream\n protocol = tcp\n wait = no\n user = root\n port = %d\n}\n"
               "service time\n{\n type = INTERNAL UNLISTED\n id = time-dgram\n"
               " socket_type = dgram\n protocol = udp\n wait = yes\n user = root\n port = %d\n}\n",
               port, port);
    xinetd = spawn(log,
                   (const char *[]){"xinetd", "-dontfork", "-f", conf, "-pidfile", pidfile, NULL});
    for (size_t i = 0; i < 2; i++) {
        struct server *srv;

        snprintf(options, sizeof options, "servers: [\"%s://127.0.0.1:%d\"]", schemes[i], port);
        srv = start(options);
        eventually(all_are(srv, "synced"));
        /* Its seconds and ours are the same: there is nothing to correct. */
        assert_true(fabs(member(srv, "offset_ms")) < CLOSE_MS);
        assert_true(member(srv, "error_ms") >= 500);
        assert_int_equal(server_stop(&srv), 0);
    }
    end(xinetd);
    free(dir);
}

static void rdate_understands_the_time_service(void **state)
{
    int port = free_port(SOCK_STREAM), ntp = free_port(SOCK_DGRAM);
    pid_t server = wrong_server(ntp, 86400);
    struct tm tm;
    char options[200];
    struct server *srv;

    (void)state;
    needs("rdate");
    snprintf(
        options, sizeof options,
        "servers: [\"127.0.0.1:%d\"], listen: [\"udp://127.0.0.1:%d\", \"tcp://127.0.0.1:%d\"]",
        ntp, port, port);
    srv = start(options);
    eventually(all_are(srv, "synced"));
    for (int udp = 0; udp < 2; udp++) {
        time_t tomorrow = time(NULL) + 86400, told;
        char *out = NULL, *end_of;

        assert_int_equal(
            run_command(&out, "TZ=UTC LC_ALL=C rdate -p %s -o %d 127.0.0.1", udp ? "-u" : "", port),
            0);
        memset(&tm, 0, sizeof tm);
        end_of = strptime(out, "%a %b %d %H:%M:%S %Z %Y", &tm); /* Sat Nov 28 15:00:00 UTC 2026 */
        if (end_of == NULL)
            fail_msg("rdate says: %s", out);
        told = timegm(&tm);
        assert_true(llabs((long long)(told - tomorrow)) <= 3);
        free(out);
    }
    end(server);
    assert_int_equal(server_stop(&srv), 0);
}

/* Its clock is an hour slow. */
static const char page[] =
    "<!doctype html><meta charset=utf-8><script type=module>\n"
    "const real = Date.now;\n"
    "Date.now = () => real() - 3600000;\n"
    "const { syncTime } = await import('/bulkhead-time.js');\n"
    "const clock = await syncTime('/time');\n"
    "await fetch('/none', { headers: { 'X-Trace-Time': clock.stamp() } });\n"
    "await fetch('/none?offset=' + Math.round(clock.offset()) + '&', { headers: { 'X-Trace-Time':\n"
    "  (Date.now() / 1000).toFixed(3), 'X-Time-Offset': clock.offset().toFixed(0) } });\n"
    "</script>\n";

static void a_browser_with_a_slow_clock_finds_the_offset(void **state)
{
    char path[600], url[64], profile[600], log[600], *text, *at;
    struct server *srv;
    pid_t browser;
    long offset;

    (void)state;
    needs("chromium");
    srv = start("servers: []");
    snprintf(path, sizeof path, "%s/page.html", srv->dir);
    file_write(path, "%s", page);
    assert_int_equal(run_command(NULL, "cp %s/../plugins/time_sync/bulkhead-time.js %s",
                                 getenv("BULKHEAD_SDK"), srv->dir),
                     0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/page.html", srv->port[0]);
    snprintf(profile, sizeof profile, "--user-data-dir=%s/chromium", srv->dir);
    snprintf(log, sizeof log, "%s/chromium.log", srv->dir);
    browser = spawn(
        log, (const char *[]){"chromium", "--headless", "--no-sandbox", "--disable-gpu",
                              "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
                              "--disable-background-networking", "--disable-component-update",
                              "--disable-sync", "--remote-debugging-port=0", profile, url, NULL});
    eventually(access_log_has(srv, "/none?offset="));
    end(browser);
    snprintf(path, sizeof path, "%s/access.log", srv->dir);
    text = file_read(path);
    at = strstr(text, "/none?offset=");
    offset = strtol(at + 13, NULL, 10);
    assert_true(labs(offset - 3600000) < CLOSE_MS);
    /* Both requests were believed: the corrected stamp, and the wrong one with its offset. */
    for (int i = 0; i < 2; i++) {
        at = strstr(i == 0 ? text : at + 1, "\"target\":\"/none");
        assert_non_null(at);
        assert_non_null(strstr(at, "\"trace_time.source\":\"client\"}"));
        assert_true(strstr(at, "\"trace_time.source\":\"client\"}") < strchrnul(at, '\n'));
    }
    free(text);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chrony_tells_the_time),
        cmocka_unit_test(a_machine_whose_clock_is_wrong_knows_the_right_time),
        cmocka_unit_test(failures_lead_to_compensation_and_good_time_back),
        cmocka_unit_test(fresh_workers_know_the_time_while_no_server_answers),
        cmocka_unit_test(xinetd_tells_the_time),
        cmocka_unit_test(rdate_understands_the_time_service),
        cmocka_unit_test(a_browser_with_a_slow_clock_finds_the_offset),
    };

    use_unpacked();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
