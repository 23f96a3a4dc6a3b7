/*
 * test_admin_security.c - the admin interface against those who mean harm: TLS and whose its key is,
 * the wire guard before it, floods and slow clients, guessers on the same machine, and secrets.
 */
/* link: -lgnutls */
#include "admin_scene.h"

#include <ctype.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls_client.h"

static const char *const common =
    "version: 1\n"
    "server: {workers: 1}\n"
    "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}] # @PORT2@\n"
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"
    "plugins: {ok: {module: respond, config: {body: ok}}}\n"
    "routes: [{chain: [ok]}]\n"
    "crash: {dir: @DIR@/crashes}\n";

static struct server *start(const char *more)
{
    return admin_start(NULL, common, more);
}

static struct server *start_tls(const char *more)
{
    char *dir = tmp_dir(), text[256];
    struct server *srv;

    tls_make_cert(dir, "ca", NULL, "Test CA", 30);
    tls_make_cert(dir, "site", "ca", "localhost", 30);
    snprintf(text, sizeof text, ", tls: {cert: site.pem, key: site.key%s}", more);
    srv = admin_start(dir, common, text);
    free(dir);
    return srv;
}

/* What bytes come to, sent as they are. */
static int status_of_bytes(const struct server *srv, const char *bytes)
{
    struct conn *conn = conn_open(srv->port[1]);
    struct response *res;
    int status;

    conn_send(conn, bytes, strlen(bytes));
    res = conn_response(conn, "GET");
    status = res->status;
    if (status != 400 && strstr(res->body, "\"title\":\"Bad Request\"") != NULL)
        harness_fail(__FILE__, __LINE__, "%d: %s", status, res->body);
    response_free(&res);
    conn_close(&conn);
    return status;
}

/* ---- TLS ---- */

static struct tls_client *open_tls(const struct server *srv)
{
    struct tls_client *c = tls_open(srv->port[1], (struct tls_options){.sni = "localhost"});

    if (c->error != 0)
        harness_fail(__FILE__, __LINE__, "no handshake: %s", gnutls_strerror(c->error));
    return c;
}

static char *ask_tls(struct tls_client *c, const char *method, const char *target,
                     const char *headers, const char *body)
{
    char text[2048];
    int n = snprintf(text, sizeof text,
                     "%s %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s", method,
                     target, headers, strlen(body), body);

    tls_send(c, text, (size_t)n);
    return tls_answer(c, NULL, NULL);
}

static void over_tls_all_of_it_works_and_cookies_are_secure(void **state)
{
    struct server *srv = start_tls(", hsts: 365d");
    struct tls_client *c = open_tls(srv);
    char headers[512], body[256], *answer, *cookie;

    (void)state;
    snprintf(headers, sizeof headers, "Authorization: Bearer %s\r\n", admin_token);
    answer = ask_tls(c, "GET", "/api/v1/status", headers, "");
    assert_int_equal(tls_status(answer), 200);
    assert_non_null(strstr(answer, "Strict-Transport-Security: max-age=31536000"));
    free(answer);
    snprintf(body, sizeof body, "{\"token\":\"%s\"}", admin_token);
    answer = ask_tls(c, "POST", "/api/v1/session", "Content-Type: application/json\r\n", body);
    assert_int_equal(tls_status(answer), 200);
    cookie = strstr(answer, "Set-Cookie: __Host-bulkhead_admin_");
    assert_non_null(cookie);
    cookie += strlen("Set-Cookie: ");
    assert_non_null(strstr(cookie, "HttpOnly; SameSite=Strict; Secure"));
    for (int i = 0; i < 2; i++) { /* a page that came by http is not ours */
        char *second;

        snprintf(headers, sizeof headers,
                 "Cookie: %.*s\r\nContent-Type: application/json\r\nOrigin: %s://localhost\r\n",
                 (int)strcspn(cookie, ";"), cookie, i == 0 ? "https" : "http");
        second = ask_tls(c, "POST", "/api/v1/workers/recycle", headers, "{}");
        assert_int_equal(tls_status(second) / 100, i == 0 ? 2 : 4);
        free(second);
    }
    free(answer);
    tls_close(&c, true);
    assert_int_equal(server_stop(&srv), 0);
}

static void plain_http_on_the_tls_port_is_told_so(void **state)
{
    struct server *srv = start_tls("");
    struct response *res = admin_send(srv, "GET", "/healthz", NULL, NULL);

    (void)state;
    assert_int_equal(res->status, 400);
    assert_non_null(strstr(res->body, "use https://"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_client_certificate_is_asked_for_where_the_config_says_so(void **state)
{
    struct server *srv = start_tls(", client_auth: required, client_ca: ca.pem");
    char cert[512], key[512], *answer;
    struct tls_client *c;

    (void)state;
    tls_make_cert(srv->dir, "me", "ca", "me", 30);
    snprintf(cert, sizeof cert, "%s/me.pem", srv->dir);
    snprintf(key, sizeof key, "%s/me.key", srv->dir);
    c = tls_open(srv->port[1], (struct tls_options){.sni = "localhost", .cert = cert, .key = key});
    answer = tls_get(c, "/healthz");
    assert_int_equal(tls_status(answer), 200);
    free(answer);
    tls_close(&c, true);
    c = tls_open(srv->port[1], (struct tls_options){.sni = "localhost"});
    answer = c->error == 0 ? tls_get(c, "/healthz") : NULL;
    assert_int_equal(tls_status(answer), 0);
    free(answer);
    tls_close(&c, false);
    assert_int_equal(server_stop(&srv), 0);
}

static bool shows(const struct server *srv, const char *wanted)
{
    struct tls_client *c = tls_open(srv->port[1], (struct tls_options){.sni = "localhost"});
    char *cn = c->error == 0 ? tls_server_cn(c) : NULL;
    bool is_it = cn != NULL && strcmp(cn, wanted) == 0;

    free(cn);
    tls_close(&c, c->error == 0);
    return is_it;
}

static void a_renewed_certificate_is_noticed_and_a_bad_one_is_not_taken(void **state)
{
    struct server *srv = start_tls("");
    char path[512];

    (void)state;
    assert_true(shows(srv, "localhost"));
    tls_make_cert(srv->dir, "site", "ca", "renewed", 30);
    eventually(shows(srv, "renewed"));
    snprintf(path, sizeof path, "%s/site.pem", srv->dir);
    file_write(path, "no certificate\n");
    server_wait_log(srv, "keeps its certificate until the files are right");
    assert_true(shows(srv, "renewed"));
    tls_make_cert(srv->dir, "site", "ca", "reloaded", 30);
    kill(srv->pid, SIGHUP);
    server_wait_log(srv, "generation 2 serves");
    eventually(shows(srv, "reloaded"));
    assert_int_equal(server_stop(&srv), 0);
}

/* Looks for bytes in what a process has in memory. */
static bool has_in_memory(pid_t pid, const void *wanted, size_t n)
{
    char path[64], line[512], *piece = NULL;
    bool found = false;
    FILE *maps;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    maps = fopen(path, "r");
    assert_true(fd >= 0 && maps != NULL);
    while (!found && fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to;
        ssize_t got;

        if (sscanf(line, "%lx-%lx rw", &from, &to) != 2 || strstr(line, "rw") == NULL ||
            to - from > (64ul << 20))
            continue;
        free(piece);
        piece = malloc(to - from);
        assert_non_null(piece);
        got = pread(fd, piece, to - from, (off_t)from);
        found = got > 0 && memmem(piece, (size_t)got, wanted, n) != NULL;
    }
    free(piece);
    fclose(maps);
    close(fd);
    return found;
}

/* Its file, its number as it stands there, and as libraries compute with it: the lowest byte first. */
static bool has_key(pid_t pid, const char *pem, const gnutls_datum_t *k)
{
    unsigned char backwards[16];

    for (size_t i = 0; i < sizeof backwards; i++)
        backwards[i] = k->data[k->size - 1 - i];
    return has_in_memory(pid, strchr(pem, '\n') + 1, 48) ||
           has_in_memory(pid, k->data + (k->data[0] == 0), 16) ||
           has_in_memory(pid, backwards, sizeof backwards);
}

/* Plugins can read all that a worker has. */
static void neither_master_nor_workers_have_the_key(void **state)
{
    struct server *srv = start_tls("");
    gnutls_x509_privkey_t key;
    gnutls_datum_t pem, x, y, k;
    gnutls_ecc_curve_t curve;
    pid_t pid[8];
    char path[512];
    size_t n;

    (void)state;
    if (harness_is_sanitized() || geteuid() != 0)
        skip(); /* freed memory is kept; a process of others cannot be read */
    snprintf(path, sizeof path, "%s/site.key", srv->dir);
    pem.data = (unsigned char *)file_read(path);
    pem.size = (unsigned)strlen((char *)pem.data);
    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(gnutls_x509_privkey_import(key, &pem, GNUTLS_X509_FMT_PEM), 0);
    assert_int_equal(gnutls_x509_privkey_export_ecc_raw(key, &curve, &x, &y, &k), 0);
    kill(srv->pid, SIGHUP); /* read once more, and workers forked after that */
    server_wait_log(srv, "generation 2 serves");
    eventually(server_children(srv, "bh-worker", NULL, 0) == 1);
    /* A reload without changes may leave it as it is. */
    eventually(admin_pid(srv) != 0 && has_key(admin_pid(srv), (char *)pem.data, &k));
    n = server_children(srv, "bh-worker", pid, 7);
    pid[n++] = srv->pid;
    for (size_t i = 0; i < n; i++)
        if (has_key(pid[i], (char *)pem.data, &k))
            harness_fail(__FILE__, __LINE__, "process %d has the key", (int)pid[i]);
    gnutls_free(x.data);
    gnutls_free(y.data);
    gnutls_free(k.data);
    gnutls_x509_privkey_deinit(key);
    free(pem.data);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- the wire guard ---- */

static void what_can_be_framed_in_two_ways_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        int status;
    } rows[] = {
        {"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
         "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400},
        {"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
         "Content-Length: 4\r\n\r\nabcd",
         400},
        {"GET /healthz HTTP/1.1\nHost: localhost\n\n", 400},
        {"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n", 400},
        {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", 400},
        {"GET /healthz HTTP/1.1\r\n\r\n", 400},
        {"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400},
        {"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
         413},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
        {"GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
        {"\x16\x03\x01\x02\x01\x01", 400},
        {"GET /healthz HTTP/1.0\r\n\r\n", 200},
    };
    struct server *srv = start("");
    struct conn *conn;
    struct response *res;
    char *rest;
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int status = status_of_bytes(srv, rows[i].bytes);

        if (status != rows[i].status)
            harness_fail(__FILE__, __LINE__, "row %zu: %d, not %d", i, status, rows[i].status);
    }
    /* What follows a refused request is no request; the one before it is answered. */
    conn = conn_open(srv->port[1]);
    conn_sendf(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
                     "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
                     "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    res = conn_response(conn, "GET");
    assert_int_equal(res->status, 200);
    response_free(&res);
    res = conn_response(conn, "GET");
    assert_int_equal(res->status, 400);
    assert_string_equal(response_header(res, "Connection"), "close");
    response_free(&res);
    rest = conn_read_all(conn, &n);
    assert_int_equal(n, 0);
    free(rest);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

/* -1: there is no such number. */
static long long number_at(const struct server *srv, const char *object, const char *reason)
{
    struct response *res = admin_send_with(srv, "GET", "/api/v1/status", admin_reader, NULL);
    json_t *json = json_loads(res->body, 0, NULL);
    const json_t *from = object != NULL ? json_object_get(json, object) : json;
    const json_t *n = json_object_get(json_object_get(from, "refusals"), reason);
    long long is = json_is_integer(n) ? (long long)json_integer_value(n) : -1;

    json_decref(json);
    response_free(&res);
    return is;
}

/* By reason, apart from what the workers' guard refuses; whichever process has counted. */
static void what_the_guard_refuses_is_counted(void **state)
{
    struct server *srv = start("");
    pid_t pid = admin_pid(srv);
    struct response *res;

    (void)state;
    assert_int_equal(status_of_bytes(srv, "GET /healthz HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(number_at(srv, "admin", "host_missing"), 1);
    assert_int_equal(number_at(srv, "admin", "host_many"), 0);
    assert_int_equal(number_at(srv, NULL, "host_missing"), 0);
    kill(pid, SIGKILL);
    eventually(admin_pid(srv) != 0 && admin_pid(srv) != pid);
    assert_int_equal(status_of_bytes(srv, "GET /healthz HTTP/1.1\r\n\r\n"), 400);
    res = admin_send_with(srv, "GET", "/metrics", admin_reader, NULL);
    assert_non_null(
        strstr(res->body, "\nbulkhead_admin_wire_refusals_total{reason=\"host_missing\"} 2\n"));
    assert_non_null(
        strstr(res->body, "\nbulkhead_wire_refusals_total{reason=\"host_missing\"} 0\n"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void oversize_heads_get_an_answer(void **state)
{
    struct server *srv = start("");
    char *big = malloc(20001), *bytes;

    (void)state;
    memset(big, 'a', 20000);
    big[20000] = '\0';
    assert_true(asprintf(&bytes, "GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n", big) > 0);
    assert_int_equal(status_of_bytes(srv, bytes), 414);
    free(bytes);
    assert_true(asprintf(&bytes, "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", big) > 0);
    assert_int_equal(status_of_bytes(srv, bytes), 431);
    free(bytes);
    memset(big, 0, 20000);
    for (int i = 0; i < 100; i++)
        strcat(big, "A: b\r\n");
    assert_true(asprintf(&bytes, "GET / HTTP/1.1\r\nHost: localhost\r\n%s\r\n", big) > 0);
    assert_int_equal(status_of_bytes(srv, bytes), 431);
    free(bytes);
    /* As large as it may be, with a token at its end. */
    memset(big, 'a', 15000);
    big[15000] = '\0';
    assert_true(asprintf(&bytes,
                         "GET /api/v1/session HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n"
                         "Authorization: Bearer %s\r\n\r\n",
                         big, admin_token) > 0);
    assert_int_equal(status_of_bytes(srv, bytes), 200);
    free(bytes);
    free(big);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- slow ones, and many ---- */

static void a_slow_head_is_told_that_its_time_is_over(void **state)
{
    struct server *srv = start("");
    struct conn *conn = conn_open(srv->port[1]), *body = conn_open(srv->port[1]);
    int64_t since = harness_now_ms();
    struct response *res;

    (void)state;
    conn_sendf(conn, "GET /healthz HT");
    conn_sendf(body,
               "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab");
    while (harness_now_ms() - since < 8000)
        harness_pause(INT64_MAX);
    assert_true(conn_is_idle(conn));
    res = conn_response(conn, "GET");
    assert_int_equal(res->status, 408);
    assert_string_equal(response_header(res, "Connection"), "close");
    response_free(&res);
    conn_close(&conn);
    conn_close(&body);
    assert_int_equal(server_stop(&srv), 0);
}

/* One address has taken all connections, and more: those who come from another one get in. */
static void a_flood_displaces_itself(void **state)
{
    struct server *srv = start("");
    struct conn *open[200];
    struct response *res;
    char *answer = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        open[i] = conn_open(srv->port[1]);
        conn_sendf(open[i], i % 2 != 0 ? "GET / HT"
                                       : "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\n"
                                         "Content-Length: 999\r\n\r\nab");
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run_command(&answer,
                                     "curl -s -m 5 --interface 127.0.0.9 -o /dev/null -w "
                                     "'%%{http_code}' http://127.0.0.1:%d/healthz",
                                     srv->port[1]),
                         0);
        assert_string_equal(answer, "200");
        free(answer);
    }
    res = admin_send_with(srv, "GET", "/api/v1/status", admin_token, NULL);
    assert_int_equal(admin_status(res), 200);
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        conn_close(&open[i]);
    assert_int_equal(server_stop(&srv), 0);
}

/* slowhttptest holds more connections than there are, from the operators' own address. */
static void slow_attacks_starve_no_operator(void **state)
{
    static const char *const modes[] = {"-H", "-B", "-X"};

    (void)state;
    if (run_command(NULL, "command -v slowhttptest >/dev/null") != 0)
        skip();
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        struct server *srv = start("");
        pid_t pid = admin_pid(srv);
        int64_t end = harness_now_ms() + 4000;
        int n = 0;

        run_command(NULL,
                    "timeout 6 slowhttptest -c 300 -r 300 -i 1 -l 4 -p 3 %s -u "
                    "http://127.0.0.1:%d/ >/dev/null 2>&1 &",
                    modes[i], srv->port[1]);
        for (; harness_now_ms() < end; n++) {
            for (int k = 0; k < 6; k++) /* readers have 50 requests a second */
                harness_pause(INT64_MAX);
            /* 128 that come between a connection and its request displace it: then once more. */
            eventually(admin_status(admin_send_with(srv, "GET", "/api/v1/session", admin_reader,
                                                    NULL)) == 200);
        }
        assert_true(n > 3); /* a loaded machine */
        assert_int_equal(admin_pid(srv), pid);
        assert_int_equal(server_stop(&srv), 0);
    }
}

static long long memory_kib(pid_t pid)
{
    char path[64], *text, *at;
    long long kib;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    text = file_read(path);
    at = text != NULL ? strstr(text, "VmRSS:") : NULL;
    kib = at != NULL ? atoll(at + 6) : -1;
    free(text);
    return kib;
}

static int stream(const struct server *srv, const char *of, struct conn **out)
{
    struct conn *conn = conn_open(srv->port[1]);
    char line[64] = "";
    size_t n = 0;

    conn_sendf(conn,
               "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n",
               of);
    while (n + 1 < sizeof line && strchr(line, '\n') == NULL) {
        ssize_t got = recv(conn_fd(conn), line + n, 1, 0);

        if (got <= 0)
            break;
        line[++n] = '\0';
    }
    *out = conn;
    return strncmp(line, "HTTP/1.1 ", 9) == 0 ? atoi(line + 9) : 0;
}

static void a_thousand_listeners_leave_room_for_operators(void **state)
{
    enum { N = 1000 };
    static struct conn *open[N];
    struct server *srv = start("");
    struct conn *mine;
    pid_t pid = admin_pid(srv);
    int n_streams = 0;

    (void)state;
    for (int i = 0; i < N; i++) {
        n_streams += stream(srv, i % 2 != 0 ? admin_reader : "wrong-wrong-wrong", &open[i]) == 200;
        if (i >= 120)
            conn_close(&open[i]);
    }
    assert_int_equal(n_streams, 12);
    assert_int_equal(stream(srv, admin_token, &mine), 200);
    assert_int_equal(admin_status(admin_send_with(srv, "GET", "/api/v1/status", admin_token, NULL)),
                     200);
    assert_int_equal(admin_pid(srv), pid);
    assert_true(harness_is_sanitized() || memory_kib(pid) < 64 << 10);
    conn_close(&mine);
    for (int i = 0; i < 120; i++)
        conn_close(&open[i]);
    assert_int_equal(server_stop(&srv), 0);
}

/* All users of a machine are one address on its loopback. */
static void who_guesses_does_not_lock_operators_out(void **state)
{
    struct server *srv = start("");
    char body[256];
    int64_t began_ms = harness_now_ms();
    int n_wrong = 0, n_late = 0, status;

    (void)state;
    for (int i = 0; i < 400; i++) { /* beyond the rate of an address, too */
        status = admin_status(
            admin_send_with(srv, "GET", "/api/v1/status", "guess-guess-guess", NULL));
        n_wrong += status == 401;
        n_late += status == 429;
    }
    assert_in_range(n_wrong, 10,
                    11 +
                        (harness_now_ms() - began_ms) / 6000); /* one is forgotten in six seconds */
    assert_int_equal(n_wrong + n_late, 400);
    assert_int_equal(admin_status(admin_send_with(srv, "GET", "/api/v1/status", admin_token, NULL)),
                     200);
    assert_int_equal(
        admin_status(admin_send_with(srv, "GET", "/api/v1/status", admin_reader, NULL)), 200);
    snprintf(body, sizeof body, "{\"token\":\"%s\"}", admin_token);
    eventually(admin_status(admin_send(srv, "POST", "/api/v1/session",
                                       "Content-Type: application/json\r\n", body)) == 200);
    assert_int_equal(server_stop(&srv), 0);
}

/* A reader who logs in without end pushes out readers only. */
static void readers_push_no_operator_out(void **state)
{
    struct server *srv = start("");
    char body[256], cookie[256];
    struct response *res;

    (void)state;
    snprintf(body, sizeof body, "{\"token\":\"%s\"}", admin_token);
    res = admin_send(srv, "POST", "/api/v1/session", "Content-Type: application/json\r\n", body);
    assert_int_equal(res->status, 200);
    snprintf(cookie, sizeof cookie, "Cookie: %.*s\r\n",
             (int)strcspn(response_header(res, "Set-Cookie"), ";"),
             response_header(res, "Set-Cookie"));
    response_free(&res);
    snprintf(body, sizeof body, "{\"token\":\"%s\"}", admin_reader);
    for (int i = 0; i < 100; i++) {
        char headers[512];

        snprintf(headers, sizeof headers,
                 "Content-Type: application/json\r\nAuthorization: Bearer %s\r\n", admin_reader);
        assert_int_equal(admin_status(admin_send(srv, "POST", "/api/v1/session", headers, body)),
                         200);
    }
    assert_int_equal(admin_status(admin_send(srv, "GET", "/api/v1/status", cookie, NULL)), 200);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- browsers and paths ---- */

static void sessions_are_made_by_the_server_alone(void **state)
{
    struct server *srv = start("");
    char body[256], name[64], headers[512];
    struct response *res;
    const char *first;

    (void)state;
    snprintf(body, sizeof body, "{\"token\":\"%s\"}", admin_token);
    snprintf(name, sizeof name, "bulkhead_admin_%d", srv->port[1]);
    snprintf(headers, sizeof headers, "Content-Type: application/json\r\nCookie: %s=%048d\r\n",
             name, 7);
    res = admin_send(srv, "POST", "/api/v1/session", headers, body);
    first = response_header(res, "Set-Cookie");
    assert_non_null(first);
    assert_null(strstr(first, "000000000000007"));
    assert_non_null(strstr(first, "HttpOnly; SameSite=Strict"));
    response_free(&res);
    snprintf(headers, sizeof headers, "Cookie: %s=%048d\r\n", name,
             7); /* planted before the login */
    assert_int_equal(admin_status(admin_send(srv, "GET", "/api/v1/status", headers, NULL)), 401);
    assert_int_equal(server_stop(&srv), 0);
}

static void no_path_leads_out_of_the_assets(void **state)
{
    static const char *const paths[] = {
        "/assets/../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2fetc/passwd",
        "/assets//etc/passwd",
        "/assets/%00",
        "/assets/app.js%00.png",
        "/assets/..",
        "/api/v1/crashes/..%2f..%2fadmin.token",
        "/api/v1/crashes/%2e%2e",
        "/api/v1/crashes/../admin.token",
    };
    struct server *srv = start("");

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct response *res = admin_send_with(srv, "GET", paths[i], admin_token, NULL);

        if (res->status != 404 && res->status != 400)
            harness_fail(__FILE__, __LINE__, "%s: %d", paths[i], res->status);
        assert_null(strstr(res->body, admin_token));
        assert_null(strstr(res->body, "root:"));
        response_free(&res);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void names_that_are_none_of_ours_are_not_served(void **state)
{
    static const char *const hosts[] = {"evil.example",
                                        "localhost.evil.example",
                                        "127.0.0.1.evil.example",
                                        "evil.example:80",
                                        "0x7f000001",
                                        "2130706433"};
    struct server *srv = start(", hosts: [admin.example.org]");

    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        char bytes[512];
        int status;

        snprintf(bytes, sizeof bytes,
                 "GET /api/v1/status HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n",
                 hosts[i], admin_token);
        status = status_of_bytes(srv, bytes);
        if (status != 421)
            harness_fail(__FILE__, __LINE__, "%s: %d", hosts[i], status);
    }
    assert_int_equal(
        status_of_bytes(srv, "GET /healthz HTTP/1.1\r\nHost: Admin.Example.org:9\r\n\r\n"), 200);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- a worker that means harm ---- */

static long long number_in(const char *text, const char *key)
{
    const char *at = text != NULL ? strstr(text, key) : NULL;

    return at != NULL ? atoll(at + strlen(key)) : -1;
}

/* All that workers can write to is full of nonsense; who reads it lives on, and within bounds. */
static void nonsense_in_shared_memory_takes_nobody_along(void **state)
{
    static const char *const ways[] = {"ones", "text", "small", "noise"};

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        char target[64], done[512], *dir = tmp_dir(), *log;
        struct server *srv = server_start_in(
            dir, "version: 1\n"
                 "server: {workers: 2}\n"
                 "limits: {timeouts: {drain: 1s}}\n"
                 "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                 "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                 "plugins:\n"
                 "  bad: {module: scribble}\n"
                 "  log: {module: access_log, config: {path: @DIR@/access.log}}\n"
                 "  ok: {module: respond, config: {body: ok}}\n"
                 "routes: [{match: {path: /bad}, chain: [bad]}, {chain: [log, ok]}]\n"
                 "crash: {dir: @DIR@/crashes, keep: 20}\n"
                 "tracing: {endpoint: \"http://127.0.0.1:@PORT2@\"}\n"
                 "alerts: {rules: [{name: r, metric: bulkhead_requests, over: 1m, when: \"> 1\"}], "
                 "receivers: [{name: x, url: \"http://127.0.0.1:@PORT2@/\"}]}\n"
                 "admin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token}\n");
        pid_t pid[3], now[3];
        struct response *res;
        struct conn *conn;

        server_wait_log(srv, "admin interface on");
        eventually(admin_pid(srv) != 0 && server_children(srv, "bh-exporter", NULL, 0) == 1 &&
                   server_children(srv, "bh-recorder", NULL, 0) == 1);
        free(admin_token);
        admin_token = admin_read_token(srv, "admin.token");
        pid[0] = admin_pid(srv);
        server_children(srv, "bh-exporter", &pid[1], 1);
        server_children(srv, "bh-recorder", &pid[2], 1);
        res = server_get(srv, "/");
        response_free(&res);
        snprintf(target, sizeof target, "/bad?with=%s&then=%s", ways[i],
                 i % 2 == 0 ? "stay" : "die");
        conn = conn_open(srv->port[0]);
        conn_sendf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", target);
        snprintf(done, sizeof done, "%s/scribbled", dir);
        eventually(access(done, F_OK) == 0); /* whether it then answers is its own business */
        /* Several turns of everybody who looks at it. */
        for (int k = 0; k < 5; k++) {
            int64_t end = harness_now_ms() + 400;

            res = admin_send_with(srv, "GET", "/api/v1/status", admin_token, NULL);
            if (res->status != 200)
                harness_fail(__FILE__, __LINE__, "%s: status %d: %s", target, res->status,
                             res->body);
            assert_true(number_in(res->body, "\"pid\":") > 0);
            response_free(&res);
            while (harness_now_ms() < end)
                harness_pause(INT64_MAX);
        }
        assert_int_equal(
            run_command(&log,
                        "curl -s -m 100 -o /dev/null -w '%%{http_code} %%{size_download}'"
                        " -H 'Authorization: Bearer %s' http://127.0.0.1:%d/metrics",
                        admin_token, srv->port[1]),
            0);
        /* All series that there is room for, with the longest numbers: 17 MB. */
        if (strncmp(log, "200 ", 4) != 0 || atoll(log + 4) > 24 << 20)
            harness_fail(__FILE__, __LINE__, "%s: metrics: %s", target, log);
        free(log);
        now[0] = admin_pid(srv);
        server_children(srv, "bh-exporter", &now[1], 1);
        server_children(srv, "bh-recorder", &now[2], 1);
        log = server_log(srv);
        for (int k = 0; k < 3; k++)
            if (now[k] != pid[k] || (!harness_is_sanitized() && memory_kib(now[k]) > 300 << 10))
                harness_fail(__FILE__, __LINE__, "%s: helper %d: process %d, now %d, %lld KiB\n%s",
                             target, k, (int)pid[k], (int)now[k], memory_kib(now[k]), log);
        conn_close(&conn);
        assert_true(server_is_running(srv));
        assert_true(harness_is_sanitized() || memory_kib(srv->pid) < 300 << 10);
        free(log);
        print_message("%s: borne\n", target);
        kill(srv->pid, SIGTERM);
        server_wait_exit(srv); /* whatever it makes of the workers: it ends */
        server_stop(&srv);
        free(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_tls_all_of_it_works_and_cookies_are_secure),
        cmocka_unit_test(plain_http_on_the_tls_port_is_told_so),
        cmocka_unit_test(a_client_certificate_is_asked_for_where_the_config_says_so),
        cmocka_unit_test(a_renewed_certificate_is_noticed_and_a_bad_one_is_not_taken),
        cmocka_unit_test(neither_master_nor_workers_have_the_key),
        cmocka_unit_test(what_can_be_framed_in_two_ways_is_refused),
        cmocka_unit_test(what_the_guard_refuses_is_counted),
        cmocka_unit_test(oversize_heads_get_an_answer),
        cmocka_unit_test(a_slow_head_is_told_that_its_time_is_over),
        cmocka_unit_test(a_flood_displaces_itself),
        cmocka_unit_test(slow_attacks_starve_no_operator),
        cmocka_unit_test(a_thousand_listeners_leave_room_for_operators),
        cmocka_unit_test(who_guesses_does_not_lock_operators_out),
        cmocka_unit_test(readers_push_no_operator_out),
        cmocka_unit_test(sessions_are_made_by_the_server_alone),
        cmocka_unit_test(no_path_leads_out_of_the_assets),
        cmocka_unit_test(names_that_are_none_of_ours_are_not_served),
        cmocka_unit_test(nonsense_in_shared_memory_takes_nobody_along),
    };

    cmocka_set_test_filter(getenv("ONLY")); /* by hand: ONLY='a_flood*' build/tests/... */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
