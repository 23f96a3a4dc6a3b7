/*
 * test_tls.c - listeners with TLS: versions, certificates, tickets, alerts, and what it costs others
 * when a plugin crashes, a worker ends, or a certificate is renewed.
 *
 * Certificates are made here, so that none ever expires; what `bulkhead check` says of bad ones is in
 * tests/unit/tls/test_set.c, what testssl.sh says of the whole, in scripts/test-tls.sh.
 */
/* link: -lgnutls */
#include "harness.h"

#include <ctype.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls_client.h"

static const struct tls_options plainly = {.sni = "localhost"};

/* A folder with certificates: ca, site (localhost), and for the names that the tests have. */
static char *make_dir(void)
{
    char *dir = tmp_dir();

    assert_int_equal(run_command(NULL, "mkdir -p %s/www/files", dir), 0);
    tls_make_cert(dir, "ca", NULL, "Test CA", 30);
    tls_make_cert(dir, "site", "ca", "localhost", 30);
    return dir;
}

/* port[0] speaks TLS, port[1] does not. more: of the tls mapping. */
static struct server *start_in(const char *dir, int workers, const char *more, const char *rest)
{
    struct server *srv = server_start_in(
        dir,
        "version: 1\n"
        "server: {workers: %d}\n"
        "listeners:\n"
        "  - {name: secure, address: \"127.0.0.1:@PORT@\", tls: {cert: site.pem, key: site.key%s}}\n"
        "  - {name: plain, address: \"127.0.0.1:@PORT1@\"}\n"
        "limits: {timeouts: {drain: 10s, head: 5s}, body: 8MiB}\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "plugins:\n"
        "  secure: {module: secure}\n"
        "  fault: {module: fault, config: {from_request: true}}\n"
        "  fatal: {module: inside}\n"
        "  hold: {module: hold}\n"
        "  streamer: {module: streamer}\n"
        "  files: {module: static, config: {root: www}}\n"
        "routes:\n"
        "  - {match: {path: /fault}, chain: [fault]}\n"
        "  - {match: {path: /fatal}, chain: [fatal]}\n"
        "  - {match: {path: /stream}, chain: [streamer]}\n"
        "  - {match: {path: /hold/**}, chain: [hold]}\n"
        "  - {match: {path: /files/**}, chain: [files]}\n"
        "  - {chain: [secure]}\n"
        "breaker: {crashes: 0}\n"
        "respawn: {restarts: 1000}\n"
        "crash: {dir: @DIR@/crashes, keep: 100}\n"
        "%s",
        workers, more, rest);

    server_wait_log(srv, "serving on");
    return srv;
}

static struct server *start(int workers, const char *more)
{
    char *dir = make_dir();
    struct server *srv = start_in(dir, workers, more, "");

    free(dir);
    return srv;
}

static struct tls_client *open_well(const struct server *srv, struct tls_options o)
{
    struct tls_client *c = tls_open(srv->port[0], o);

    if (c->error != 0)
        harness_fail(__FILE__, __LINE__, "no handshake: %s, alert %d", gnutls_strerror(c->error),
                     c->alert);
    return c;
}

static void say(struct tls_client *c, const char *text)
{
    tls_send(c, text, strlen(text));
}

/* The line NAME=VALUE in an answer of the plugin "secure". */
static bool says(const char *answer, const char *line)
{
    const char *at = answer != NULL ? strstr(answer, line) : NULL;

    return at != NULL && at > answer && at[-1] == '\n' && at[strlen(line)] == '\n';
}

static void check_says(const char *answer, const char *line)
{
    if (!says(answer, line))
        harness_fail(__FILE__, __LINE__, "no line '%s' in: %s", line, answer);
}

static void check_status(char *answer, int status)
{
    assert_int_equal(tls_status(answer), status);
    free(answer);
}

static void stop(struct server **srvp)
{
    assert_int_equal(server_stop(srvp), 0);
}

/* ---- versions, protocols, alerts ---- */

static void plugins_see_what_the_connection_is(void **state)
{
    struct server *srv = start(1, "");
    struct tls_options old = {.sni = "localhost", .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2"};
    struct tls_client *c = open_well(srv, plainly);
    char *answer = tls_get(c, "/");
    struct response *res;
    struct conn *conn;

    (void)state;
    check_says(answer, "scheme=https");
    check_says(answer, "tls.version=TLSv1.3");
    check_says(answer, "tls.sni=localhost");
    check_says(answer, "tls.resumed=no");
    check_says(answer, "tls.client.verified=no");
    assert_non_null(strstr(answer, "\ntls.cipher=TLS_AES_256_GCM_SHA384\n"));
    assert_null(strstr(answer, "subject"));
    assert_null(strstr(answer, "nonsense"));
    free(answer);
    tls_close(&c, true);

    c = open_well(srv, old);
    answer = tls_get(c, "/");
    check_says(answer, "tls.version=TLSv1.2");
    assert_non_null(strstr(answer, "\ntls.cipher=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\n"));
    free(answer);
    tls_close(&c, true);

    conn = conn_open(srv->port[1]);
    res = conn_request(conn, "GET", "/", NULL, NULL, 0);
    assert_non_null(strstr(res->body, "scheme=http\n"));
    assert_null(strstr(res->body, "tls."));
    response_free(&res);
    conn_close(&conn);
    stop(&srv);
}

static void refused(struct server *srv, struct tls_options o, int alert)
{
    struct tls_client *c = tls_open(srv->port[0], o);

    /* With TLS 1.3 the client is done before the server has looked at its certificate. */
    if (c->error == 0)
        assert_null(tls_get(c, "/"));
    if (c->alert != alert)
        harness_fail(__FILE__, __LINE__, "alert %d instead of %d (%s)", c->alert, alert,
                     gnutls_strerror(c->error));
    tls_close(&c, false);
}

static void what_cannot_be_agreed_on_is_refused_by_an_alert(void **state)
{
    struct server *srv = start(1, "");
    struct tls_options o = plainly;

    (void)state;
    o.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.0";
    refused(srv, o, GNUTLS_A_PROTOCOL_VERSION);
    o.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC";
    refused(srv, o, GNUTLS_A_HANDSHAKE_FAILURE);
    o.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA";
    refused(srv, o, GNUTLS_A_HANDSHAKE_FAILURE);
    o.priority = NULL;
    o.alpn = "h2";
    refused(srv, o, GNUTLS_A_NO_APPLICATION_PROTOCOL);
    stop(&srv);
}

static void http_1_1_is_agreed_on(void **state)
{
    struct server *srv = start(1, "");
    struct tls_options o = {.sni = "localhost", .alpn = "http/1.1"};
    struct tls_client *c = open_well(srv, o);
    gnutls_datum_t chosen = {NULL, 0};

    (void)state;
    assert_int_equal(gnutls_alpn_get_selected_protocol(c->session, &chosen), 0);
    assert_int_equal(chosen.size, 8);
    assert_memory_equal(chosen.data, "http/1.1", 8);
    tls_close(&c, true);
    stop(&srv);
}

static void min_version_1_3_refuses_1_2(void **state)
{
    struct server *srv = start(1, ", min_version: \"1.3\"");
    struct tls_options o = plainly;
    struct tls_client *c = open_well(srv, plainly);

    (void)state;
    check_status(tls_get(c, "/"), 200);
    tls_close(&c, true);
    o.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
    refused(srv, o,
            GNUTLS_A_HANDSHAKE_FAILURE); /* of all versions that GnuTLS would refuse by name */
    stop(&srv);
}

static void plain_http_is_told_where_it_is(void **state)
{
    struct server *srv = start(1, "");

    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        struct conn *conn = conn_open(srv->port[0]);
        struct response *res;

        /* Before and after the server has looked for the first byte. */
        if (whole)
            conn_sendf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        else
            for (const char *p = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"; *p != '\0'; p++)
                conn_send(conn, p, 1);
        res = conn_response(conn, "GET");
        assert_int_equal(res->status, 400);
        assert_non_null(strstr(res->body, "this port speaks https"));
        assert_true(res->closed);
        response_free(&res);
        conn_close(&conn);
    }
    stop(&srv);
}

static void nonsense_is_answered_by_an_alert_and_closed(void **state)
{
    struct server *srv = start(1, "");
    struct conn *conn = conn_open(srv->port[0]);
    char *bytes;
    size_t n;

    (void)state;
    /* Read by and by: the first record may be the beginning of a message. Nothing else comes, so that what
     * is not read now is never. */
    conn_send(conn, "\x16\x03\x01\x00\x05hello world", 16);
    bytes = conn_read_all(conn, &n);
    assert_true(n >= 7);
    assert_int_equal(bytes[0], 21); /* an alert ... */
    assert_int_equal(bytes[5], 2);  /* ... that is fatal */
    free(bytes);
    conn_close(&conn);
    stop(&srv);
}

static long cpu_ticks(pid_t pid)
{
    char path[64], *text, *at;
    long user = 0, system = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    text = file_read(path);
    at = text != NULL ? strrchr(text, ')') : NULL;
    assert_non_null(at);
    assert_int_equal(
        sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user, &system), 2);
    free(text);
    return user + system;
}

/* libmicrohttpd's own TLS would use a whole CPU for it. */
static void an_unfinished_handshake_costs_nothing_and_ends(void **state)
{
    struct server *srv = start(1, "");
    struct conn *conn[16], *silent = conn_open(srv->port[0]);
    pid_t worker = 0;
    int64_t before_ms;
    long before;
    size_t n;

    (void)state;
    eventually(server_children(srv, "bh-worker", &worker, 1) == 1);
    before = cpu_ticks(worker);
    before_ms = harness_now_ms();
    for (int i = 0; i < 16; i++) {
        conn[i] = conn_open(srv->port[0]);
        conn_send(conn[i], "\x16\x03\x01\x00\xc8\x01", 6);
    }
    for (int i = 0; i < 16; i++) {
        free(conn_read_all(conn[i], &n)); /* until limits.timeouts.head is over */
        assert_int_equal(n, 0);
        conn_close(&conn[i]);
    }
    free(conn_read_all(silent, &n));
    conn_close(&silent);
    /* 10 %: 100 ticks are a second. */
    assert_true(cpu_ticks(worker) - before < (harness_now_ms() - before_ms) / 100);
    stop(&srv);
}

/* ---- bytes ---- */

static char *make_bytes(size_t n)
{
    char *p = malloc(n + 1);

    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + (i * 7 + i / 1000) % 26);
    p[n] = '\0';
    return p;
}

static void head_and_body_in_one_record(void **state)
{
    struct server *srv = start(1, "");
    static const size_t sizes[] = {1, 5, 1000, 7000, 16000};
    struct tls_client *c = open_well(srv, plainly);

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char record[16384], *body = make_bytes(sizes[i]), *answer, *back;
        size_t n;
        int len = snprintf(record, sizeof record,
                           "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n%s",
                           sizes[i], body);

        tls_send(c, record, (size_t)len);
        answer = tls_answer(c, &back, &n);
        assert_int_equal(tls_status(answer), 200);
        assert_int_equal(n, sizes[i]);
        assert_memory_equal(back, body, n);
        free(answer);
        free(body);
    }
    tls_close(&c, true);
    stop(&srv);
}

static void requests_in_one_record_are_all_answered(void **state)
{
    static const char three[] = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
                                "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                                "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
    struct server *srv = start(1, "");
    struct tls_client *c = open_well(srv, plainly);

    (void)state;
    say(c, three);
    for (int i = 0; i < 3; i++)
        check_status(tls_answer(c, NULL, NULL), 200);
    assert_true(tls_is_idle(c));
    tls_close(&c, true);
    stop(&srv);
}

/* Framing faults and slow heads are found in plain text, whatever carried it. */
static void the_guard_and_the_deadlines_stand_behind_tls_too(void **state)
{
    struct server *srv = start(1, "");
    struct tls_client *slow = open_well(srv, plainly), *c = open_well(srv, plainly);

    (void)state;
    say(slow, "GET / HTTP/1.1\r\nHo");
    say(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n");
    check_status(tls_answer(c, NULL, NULL), 200);
    check_status(tls_answer(c, NULL, NULL), 400);
    assert_int_equal(tls_wait_end(c), TLS_GOOD_BYE);
    tls_close(&c, false);
    check_status(tls_answer(slow, NULL, NULL), 408);
    assert_int_equal(tls_wait_end(slow), TLS_GOOD_BYE);
    tls_close(&slow, false);
    stop(&srv);
}

static void a_request_and_good_bye_at_once_is_answered(void **state)
{
    static const char one[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    struct server *srv = start(1, "");
    struct tls_client *c = open_well(srv, plainly);

    (void)state;
    say(c, one);
    gnutls_bye(c->session, GNUTLS_SHUT_WR);
    shutdown(c->fd, SHUT_WR);
    check_status(tls_answer(c, NULL, NULL), 200);
    assert_int_equal(tls_wait_end(c), TLS_GOOD_BYE);
    tls_close(&c, false);
    stop(&srv);
}

/* Many clients end their side of TCP without a close_notify. What they asked for is whole all the same. */
static void requests_before_an_end_without_good_bye_are_answered(void **state)
{
    static const char two[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    static const char half[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
    struct server *srv = start(1, "");
    struct tls_client *c;

    (void)state;
    for (int i = 0; i < 10; i++) {
        c = open_well(srv, plainly);
        say(c, two);
        shutdown(c->fd, SHUT_WR);
        check_status(tls_answer(c, NULL, NULL), 200);
        check_status(tls_answer(c, NULL, NULL), 200);
        assert_int_equal(tls_wait_end(c), TLS_GOOD_BYE);
        tls_close(&c, false);
    }
    c = open_well(srv, plainly);
    say(c, half);
    shutdown(c->fd, SHUT_WR);
    assert_null(tls_answer(c, NULL, NULL));
    tls_close(&c, false);
    stop(&srv);
}

/* Long enough that records wait for room in the socket, in both directions; through sendfile too. */
static void megabytes_go_there_and_back(void **state)
{
    struct server *srv = start(1, "");
    struct tls_options o = plainly;
    enum { SIZE = 5000000 };
    char *body = make_bytes(SIZE), *answer, *back, path[512], head[128];
    struct tls_client *c;
    size_t n;
    int len;

    (void)state;
    o.is_small = true;
    c = open_well(srv, o);
    len = snprintf(head, sizeof head,
                   "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", SIZE);
    tls_send(c, head, (size_t)len);
    tls_send(c, body, SIZE);
    answer = tls_answer(c, &back, &n);
    assert_int_equal(n, SIZE);
    assert_memory_equal(back, body, SIZE);
    free(answer);

    snprintf(path, sizeof path, "%s/www/files/big", srv->dir);
    file_write(path, "%s", body);
    say(c, "GET /files/big HTTP/1.1\r\nHost: a\r\n\r\n");
    answer = tls_answer(c, &back, &n);
    assert_int_equal(n, SIZE);
    assert_memory_equal(back, body, SIZE);
    free(answer);
    check_status(tls_get(c, "/"), 200);
    tls_close(&c, true);
    free(body);
    stop(&srv);
}

/* ---- certificates ---- */

static void check_cn(const struct server *srv, const char *sni, const char *wanted)
{
    struct tls_options o = {.sni = sni};
    struct tls_client *c = open_well(srv, o);
    char *cn = tls_server_cn(c);

    assert_string_equal(cn, wanted);
    free(cn);
    check_status(tls_get(c, "/"), 200);
    tls_close(&c, true);
}

static void the_name_that_the_client_asks_for_decides(void **state)
{
    char *dir = make_dir();
    struct server *srv;

    (void)state;
    tls_make_cert(dir, "one", "ca", "one.example,www.one.example", 30);
    tls_make_cert(dir, "wild", "ca", "*.example", 30);
    tls_make_cert(dir, "other", "ca", "whatever", 30);
    srv = start_in(
        dir, 1,
        ", certificates: [{cert: wild.pem, key: wild.key}, {cert: one.pem, key: one.key}, "
        "{cert: other.pem, key: other.key, names: [Mapped.Test, \"*.mapped.test\"]}]",
        "");
    free(dir);
    check_cn(srv, NULL, "localhost");
    check_cn(srv, "localhost", "localhost");
    check_cn(srv, "one.example", "one.example");
    check_cn(srv, "WWW.ONE.example", "one.example");
    check_cn(srv, "two.example", "*.example");
    check_cn(srv, "a.two.example", "localhost");
    check_cn(srv, "mapped.test", "whatever");
    check_cn(srv, "x.mapped.test", "whatever");
    check_cn(srv, "unheard.of", "localhost");
    stop(&srv);
}

static char *in(const char *dir, const char *name)
{
    char *path = malloc(512);

    snprintf(path, 512, "%s/%s", dir, name);
    return path;
}

/* Options with the client certificate NAME. Leaks two short strings. */
static struct tls_options with_cert(const struct server *srv, const char *name)
{
    char file[64];
    struct tls_options o = plainly;

    snprintf(file, sizeof file, "%s.pem", name);
    o.cert = in(srv->dir, file);
    snprintf(file, sizeof file, "%s.key", name);
    o.key = in(srv->dir, file);
    return o;
}

static struct server *start_with_client_auth(const char *mode)
{
    char *dir = make_dir(), more[128];
    struct server *srv;

    tls_make_cert(dir, "friend", "ca", "friend", 30);
    tls_make_cert(dir, "late", "ca", "late", -1);
    tls_make_cert(dir, "stranger-ca", NULL, "Another CA", 30);
    tls_make_cert(dir, "stranger", "stranger-ca", "friend", 30);
    snprintf(more, sizeof more, ", client_auth: %s, client_ca: ca.pem", mode);
    srv = start_in(dir, 1, more, "");
    free(dir);
    return srv;
}

static void check_friend(const struct server *srv, const char *priority)
{
    struct tls_options o = with_cert(srv, "friend");
    struct tls_client *c;
    char *answer, *at, line[64];

    o.priority = priority;
    c = open_well(srv, o);
    answer = tls_get(c, "/");
    check_says(answer, "tls.client.verified=yes");
    check_says(answer, "tls.client.subject=CN=friend");
    at = strstr(answer, "tls.client.fingerprint=");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "tls.client.fingerprint=%63[0-9a-f]", line), 1);
    assert_int_equal(strspn(at + 23, "0123456789abcdef"), 64);
    free(answer);
    tls_close(&c, true);
}

static void clients_that_need_a_certificate_show_one(void **state)
{
    struct server *srv = start_with_client_auth("required");
    static const char *const versions[] = {"NORMAL:-VERS-ALL:+VERS-TLS1.3",
                                           "NORMAL:-VERS-ALL:+VERS-TLS1.2"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct tls_options none = plainly, late = with_cert(srv, "late");

        none.priority = late.priority = versions[i];
        check_friend(srv, versions[i]);
        refused(srv, none, i == 0 ? GNUTLS_A_CERTIFICATE_REQUIRED : GNUTLS_A_HANDSHAKE_FAILURE);
        refused(srv, late, GNUTLS_A_BAD_CERTIFICATE);
        /* A stranger's the client would keep to itself: its CA is not among those that are named. */
        free((char *)late.cert);
        free((char *)late.key);
    }
    stop(&srv);
}

static void an_optional_certificate_is_checked_when_there_is_one(void **state)
{
    struct server *srv = start_with_client_auth("optional");
    struct tls_client *c = open_well(srv, plainly);
    char *answer = tls_get(c, "/");

    (void)state;
    check_says(answer, "tls.client.verified=no");
    assert_null(strstr(answer, "subject"));
    free(answer);
    tls_close(&c, true);
    check_friend(srv, NULL);
    refused(srv, with_cert(srv, "late"), GNUTLS_A_BAD_CERTIFICATE);
    stop(&srv);
}

/* ---- tickets ---- */

/* What the client may resume; after a request, since the tickets of TLS 1.3 come after the handshake. */
static gnutls_datum_t ticket_of(struct tls_client *c, int *pid)
{
    char *answer = tls_get(c, "/");
    gnutls_datum_t d = {NULL, 0};

    assert_int_equal(tls_status(answer), 200);
    *pid = atoi(strstr(answer, "pid=") + 4);
    free(answer);
    assert_int_equal(gnutls_session_get_data2(c->session, &d), 0);
    return d;
}

static void resume_with_another_worker(const char *priority)
{
    struct server *srv = start(1, "");
    struct tls_options o = plainly;
    struct tls_client *c;
    int before;
    char *answer;

    o.priority = priority;
    c = open_well(srv, o);
    o.resume = ticket_of(c, &before);
    tls_close(&c, true);
    kill(before, SIGKILL);
    eventually(kill(before, 0) < 0);

    c = open_well(srv, o);
    answer = tls_get(c, "/");
    check_says(answer, "tls.resumed=yes");
    check_says(answer, "tls.sni=localhost");
    assert_int_not_equal(atoi(strstr(answer, "pid=") + 4), before);
    free(answer);
    gnutls_free(o.resume.data);
    tls_close(&c, true);
    stop(&srv);
}

static void a_ticket_is_good_for_every_worker(void **state)
{
    (void)state;
    resume_with_another_worker("NORMAL:-VERS-ALL:+VERS-TLS1.3");
    resume_with_another_worker("NORMAL:-VERS-ALL:+VERS-TLS1.2");
}

static void without_tickets_nothing_is_resumed(void **state)
{
    struct server *srv = start(1, ", session_tickets: off");
    struct tls_options o = {.sni = "localhost", .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2"};
    struct tls_client *c = open_well(srv, o);
    char *answer;
    int pid;

    (void)state;
    o.resume = ticket_of(c, &pid);
    tls_close(&c, true);
    c = open_well(srv, o);
    answer = tls_get(c, "/");
    check_says(answer, "tls.resumed=no");
    free(answer);
    gnutls_free(o.resume.data);
    tls_close(&c, true);
    stop(&srv);
}

static void a_resumed_client_is_who_it_was(void **state)
{
    struct server *srv = start_with_client_auth("required");
    struct tls_options o = with_cert(srv, "friend");
    struct tls_client *c = open_well(srv, o);
    char *answer;
    int pid;

    (void)state;
    o.resume = ticket_of(c, &pid);
    tls_close(&c, true);
    c = open_well(srv, o);
    answer = tls_get(c, "/");
    check_says(answer, "tls.resumed=yes");
    check_says(answer, "tls.client.verified=yes");
    check_says(answer, "tls.client.subject=CN=friend");
    free(answer);
    gnutls_free(o.resume.data);
    tls_close(&c, true);
    stop(&srv);
}

/* ---- crashes ---- */

static void a_crash_costs_one_request(void **state)
{
    struct server *srv = start(1, "");
    struct tls_client *idle = open_well(srv, plainly), *c = open_well(srv, plainly);
    char *answer = tls_get(idle, "/");
    int pid = atoi(strstr(answer, "pid=") + 4);

    (void)state;
    free(answer);
    for (int i = 0; i < 3; i++)
        check_status(tls_get(c, "/fault?fault=segv"), 500);
    check_status(tls_get(c, "/"), 200); /* on the same connection */
    assert_true(tls_is_idle(idle));
    answer = tls_get(idle, "/");
    assert_int_equal(atoi(strstr(answer, "pid=") + 4), pid); /* by the same worker */
    free(answer);
    tls_close(&c, true);
    tls_close(&idle, true);
    eventually(server_crash_count(srv) >= 1);
    stop(&srv);
}

/* Outcome T: by the close_notify that does not come the client knows that something is missing. */
static void an_answer_that_is_cut_short_ends_without_good_bye(void **state)
{
    static const char cut[] = "GET /fault?fault=segv&at=on_response_body&stream=true&chunk=3 "
                              "HTTP/1.0\r\nHost: a\r\n\r\n",
                      whole[] = "GET /stream?n=5&size=10 HTTP/1.0\r\nHost: a\r\n\r\n";
    struct server *srv = start(1, "");
    struct tls_client *c = open_well(srv, plainly);

    (void)state;
    say(c, whole);
    assert_int_equal(tls_wait_end(c), TLS_GOOD_BYE);
    tls_close(&c, false);
    c = open_well(srv, plainly);
    say(c, cut);
    assert_int_not_equal(tls_wait_end(c), TLS_GOOD_BYE);
    tls_close(&c, false);
    stop(&srv);
}

/* Outcome X: sessions cannot move. They end, by a FIN, which a client takes for what it is. */
static void a_worker_that_must_die_closes_idle_connections_without_a_reset(void **state)
{
    enum { N = 20 };
    struct server *srv = start(1, "");
    struct tls_client *idle[N];
    struct conn *plain = conn_open(srv->port[1]), *culprit = conn_open(srv->port[1]);
    struct response *res;

    (void)state;
    server_wait_standby(srv);
    for (int i = 0; i < N; i++) {
        idle[i] = open_well(srv, plainly);
        check_status(tls_get(idle[i], "/"), 200);
    }
    res = conn_request(plain, "GET", "/", NULL, NULL, 0);
    assert_int_equal(res->status, 200);
    response_free(&res);
    res = conn_request(culprit, "GET", "/fatal?at=gone", NULL, NULL, 0);
    assert_int_equal(res->status, 500);
    response_free(&res);
    for (int i = 0; i < N; i++) {
        assert_int_equal(tls_wait_end(idle[i]), TLS_FIN);
        tls_close(&idle[i], false);
    }
    res = conn_request(plain, "GET", "/", NULL, NULL, 0); /* those without TLS move */
    assert_int_equal(res->status, 200);
    response_free(&res);
    conn_close(&plain);
    conn_close(&culprit);
    stop(&srv);
}

/* Who sent the request that kills the worker gets no answer, but no reset, either; all goes on. */
static void the_request_that_kills_its_worker_ends_by_a_fin(void **state)
{
    struct server *srv = start(1, "");
    struct tls_client *c = open_well(srv, plainly);

    (void)state;
    server_wait_standby(srv);
    assert_null(tls_get(c, "/fatal?at=gone"));
    tls_close(&c, false);
    c = open_well(srv, plainly);
    check_status(tls_get(c, "/"), 200);
    tls_close(&c, true);
    stop(&srv);
}

static void a_worker_that_is_replaced_says_good_bye(void **state)
{
    char *dir = make_dir();
    struct server *srv = start_in(dir, 1, "", "control: {socket: control.sock}\n");
    struct tls_client *idle = open_well(srv, plainly), *busy = open_well(srv, plainly);
    char *answer, *said;

    (void)state;
    free(dir);
    server_wait_standby(srv);
    check_status(tls_get(idle, "/"), 200);
    say(busy, "GET /hold/hold HTTP/1.1\r\nHost: a\r\n\r\n");
    /* cppcheck-suppress constStatement */
    eventually(({
        struct tls_client *c = open_well(srv, plainly);
        char *held = tls_get(c, "/hold/held");
        bool is_held = tls_status(held) == 200;

        free(held);
        tls_close(&c, true);
        is_held;
    }));
    assert_int_equal(
        run_command(&said, "%s worker recycle all -c %s", getenv("BULKHEAD"), srv->config), 0);
    free(said);
    assert_int_equal(tls_wait_end(idle), TLS_GOOD_BYE);
    tls_close(&idle, false);
    /* The other worker serves; the old one still has what it was at. */
    idle = open_well(srv, plainly);
    check_status(tls_get(idle, "/"), 200);
    tls_close(&idle, true);
    assert_true(tls_is_idle(busy));
    tls_close(&busy, false); /* the client gives up */
    answer = server_log(srv);
    free(answer);
    stop(&srv);
}

/* A request that is under way when the server stops is answered, and told that it was the last. */
static void a_stop_finishes_requests_and_says_good_bye(void **state)
{
    struct server *srv = start(1, "");
    struct tls_client *idle = open_well(srv, plainly), *c = open_well(srv, plainly);
    char *answer;

    (void)state;
    check_status(tls_get(idle, "/"), 200);
    check_status(tls_get(c, "/"), 200);
    say(c, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
    /* cppcheck-suppress constStatement */
    eventually(({
        struct tls_client *other = open_well(srv, plainly);
        bool is_read = tls_status(answer = tls_get(other, "/")) == 200;

        free(answer);
        tls_close(&other, true);
        is_read;
    }));
    kill(srv->pid, SIGTERM);
    assert_int_equal(tls_wait_end(idle), TLS_GOOD_BYE);
    say(c, "cd");
    answer = tls_answer(c, NULL, NULL);
    assert_int_equal(tls_status(answer), 200);
    assert_non_null(strstr(answer, "Connection: close"));
    free(answer);
    assert_int_equal(tls_wait_end(c), TLS_GOOD_BYE);
    tls_close(&idle, false);
    tls_close(&c, false);
    assert_int_equal(server_wait_exit(srv), 0);
    server_stop(&srv);
}

/* ---- renewal ---- */

/* Waits until certificates have been read again for the nth time. */
static void wait_for_renewal(const struct server *srv, int n)
{
    eventually(({
        char *log = server_log(srv);
        int seen = 0;

        for (const char *p = log; (p = strstr(p, "were read again")) != NULL; p++)
            seen++;
        free(log);
        seen >= n;
    }));
}

static bool shows(const struct server *srv, const char *wanted)
{
    struct tls_client *c = open_well(srv, plainly);
    char *cn = tls_server_cn(c);
    bool is_it = strcmp(cn, wanted) == 0;

    free(cn);
    tls_close(&c, true);
    return is_it;
}

static void a_renewed_certificate_is_noticed_and_nobody_interrupted(void **state)
{
    struct server *srv = start(2, "");
    struct tls_client *before = open_well(srv, plainly);

    (void)state;
    check_status(tls_get(before, "/"), 200);
    tls_make_cert(srv->dir, "site", "ca", "renewed", 30);
    wait_for_renewal(srv, 1);
    for (int i = 0; i < 10; i++) /* each worker */
        eventually(shows(srv, "renewed"));
    check_status(tls_get(before, "/"), 200);
    tls_close(&before, true);
    stop(&srv);
}

/* A worker that is started later, and one that stood by, have it too. */
static void successors_have_the_renewed_certificate(void **state)
{
    struct server *srv = start(1, "");

    (void)state;
    server_wait_standby(srv);
    tls_make_cert(srv->dir, "site", "ca", "renewed", 30);
    wait_for_renewal(srv, 1);
    for (int i = 0; i < 2; i++) {
        pid_t worker = 0;

        eventually(server_children(srv, "bh-worker", &worker, 1) == 1);
        kill(worker, SIGKILL);
        eventually(kill(worker, 0) < 0);
        eventually(shows(srv, "renewed"));
    }
    stop(&srv);
}

static void a_reload_reads_certificates_too(void **state)
{
    struct server *srv = start(1, "");
    struct tls_client *before = open_well(srv, plainly);

    (void)state;
    check_status(tls_get(before, "/"), 200);
    tls_make_cert(srv->dir, "site", "ca", "renewed", 30);
    kill(srv->pid, SIGHUP);
    server_wait_log(srv, "generation 2 serves");
    eventually(shows(srv, "renewed"));
    assert_int_equal(tls_wait_end(before), TLS_GOOD_BYE); /* its worker has gone */
    tls_close(&before, false);
    stop(&srv);
}

static void files_that_do_not_fit_change_nothing(void **state)
{
    struct server *srv = start(1, "");
    char *log;

    (void)state;
    tls_make_cert(srv->dir, "next", "ca", "renewed", 30);
    /* Only one of the two is renewed, and at no time, however short, both. */
    assert_int_equal(run_command(NULL, "cd %s && mv next.pem site.pem", srv->dir), 0);
    server_wait_log(srv, "certificates and keys stay as they were");
    log = server_log(srv);
    assert_non_null(strstr(log, "bulkhead.yaml:4:"));
    assert_non_null(strstr(log, "does not belong to the certificate"));
    free(log);
    check_cn(srv, "localhost", "localhost");
    assert_int_equal(run_command(NULL, "cd %s && mv next.key site.key", srv->dir), 0);
    wait_for_renewal(srv, 1);
    eventually(shows(srv, "renewed"));
    stop(&srv);
}

struct load {
    const struct server *srv;
    _Atomic bool must_stop;
    _Atomic int n_done, n_failed;
};

/* Half of the requests on kept connections, half on new ones. */
static void *make_load(void *arg)
{
    struct load *load = arg;
    struct tls_client *kept = tls_open(load->srv->port[0], plainly);

    while (!atomic_load(&load->must_stop)) {
        struct tls_client *c = tls_open(load->srv->port[0], plainly);
        char *one = c->error == 0 ? tls_get(c, "/") : NULL;
        char *two = tls_get(kept, "/");

        atomic_fetch_add(&load->n_failed, (tls_status(one) != 200) + (tls_status(two) != 200));
        atomic_fetch_add(&load->n_done, 2);
        free(one);
        free(two);
        tls_close(&c, true);
    }
    tls_close(&kept, true);
    return NULL;
}

static void renewals_under_load_drop_nothing(void **state)
{
    enum { THREADS = 4, RENEWALS = 3 };
    struct server *srv = start(2, "");
    struct load load = {.srv = srv};
    pthread_t thread[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, make_load, &load), 0);
    for (int i = 0; i < RENEWALS; i++) {
        int n = atomic_load(&load.n_done);

        tls_make_cert(srv->dir, "site", "ca", "localhost", 30);
        wait_for_renewal(srv, i + 1);
        eventually(atomic_load(&load.n_done) >= n + 2 * THREADS);
    }
    atomic_store(&load.must_stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(atomic_load(&load.n_failed), 0);
    stop(&srv);
}

/* ---- HSTS ---- */

static void browsers_are_told_to_keep_to_https(void **state)
{
    struct server *srv = start(1, ", hsts: {max_age: 30d, subdomains: on}");
    struct tls_client *c = open_well(srv, plainly);
    char *answer = tls_get(c, "/");
    struct conn *conn = conn_open(srv->port[1]);
    struct response *res = conn_request(conn, "GET", "/", NULL, NULL, 0);

    (void)state;
    assert_non_null(
        strstr(answer, "\r\nStrict-Transport-Security: max-age=2592000; includeSubDomains\r\n"));
    assert_null(response_header(res, "Strict-Transport-Security")); /* RFC 6797 7.2 */
    free(answer);
    answer = tls_get(c, "/fault?fault=segv"); /* errors of ours too */
    assert_non_null(strstr(answer, "Strict-Transport-Security"));
    free(answer);
    response_free(&res);
    conn_close(&conn);
    tls_close(&c, true);
    stop(&srv);
}

/* ---- config/example-tls.yaml ---- */

/* text with the first `from` replaced; frees text. */
static char *replace(char *text, const char *from, const char *to)
{
    char *at = strstr(text, from), *out;

    if (at == NULL)
        harness_fail(__FILE__, __LINE__, "the example has no %s", from);
    out = malloc(strlen(text) + strlen(to) + 1);
    assert_non_null(out);
    sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    free(text);
    return out;
}

static void the_example_works(void **state)
{
    char *dir = tmp_dir(), path[512], *text, *answer;
    struct tls_options o = plainly;
    struct tls_client *c;
    struct server *srv;

    (void)state;
    tls_make_cert(dir, "localhost", NULL, "localhost", 30);
    tls_make_cert(dir, "other.test", NULL, "other.test", 30);
    snprintf(path, sizeof path, "%s/../config/example-tls.yaml", getenv("BULKHEAD_SDK"));
    text = file_read(path);
    assert_non_null(text);
    text = replace(text, "${BULKHEAD_ADDRESS:-127.0.0.1:8443}", "127.0.0.1:@PORT@");
    text = replace(text, "${BULKHEAD_MACHINES:-127.0.0.1:8444}", "127.0.0.1:@PORT1@");
    text = replace(text, "../build/plugins", "@PLUGINS@");
    srv = server_start_in(dir, "%s", text);
    free(text);
    server_wait_log(srv, "serving on");
    check_cn(srv, "other.test", "other.test");
    c = open_well(srv, plainly);
    answer = tls_get(c, "/");
    assert_non_null(strstr(answer, "hello over TLS"));
    assert_non_null(strstr(answer, "Strict-Transport-Security: max-age=2592000\r\n"));
    free(answer);
    tls_close(&c, true);

    o = with_cert(srv, "localhost");
    c = tls_open(srv->port[1], o);
    assert_int_equal(c->error, 0);
    check_status(tls_get(c, "/"), 200);
    tls_close(&c, true);
    c = tls_open(srv->port[1], plainly);
    assert_null(tls_get(c, "/"));
    assert_int_equal(c->alert, GNUTLS_A_CERTIFICATE_REQUIRED);
    tls_close(&c, false);
    free(dir);
    stop(&srv);
}

#define TEST(f) cmocka_unit_test(f)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(plugins_see_what_the_connection_is),
        TEST(what_cannot_be_agreed_on_is_refused_by_an_alert),
        TEST(http_1_1_is_agreed_on),
        TEST(min_version_1_3_refuses_1_2),
        TEST(plain_http_is_told_where_it_is),
        TEST(nonsense_is_answered_by_an_alert_and_closed),
        TEST(an_unfinished_handshake_costs_nothing_and_ends),
        TEST(head_and_body_in_one_record),
        TEST(requests_in_one_record_are_all_answered),
        TEST(the_guard_and_the_deadlines_stand_behind_tls_too),
        TEST(a_request_and_good_bye_at_once_is_answered),
        TEST(requests_before_an_end_without_good_bye_are_answered),
        TEST(megabytes_go_there_and_back),
        TEST(the_name_that_the_client_asks_for_decides),
        TEST(clients_that_need_a_certificate_show_one),
        TEST(an_optional_certificate_is_checked_when_there_is_one),
        TEST(a_ticket_is_good_for_every_worker),
        TEST(without_tickets_nothing_is_resumed),
        TEST(a_resumed_client_is_who_it_was),
        TEST(a_crash_costs_one_request),
        TEST(an_answer_that_is_cut_short_ends_without_good_bye),
        TEST(a_worker_that_must_die_closes_idle_connections_without_a_reset),
        TEST(the_request_that_kills_its_worker_ends_by_a_fin),
        TEST(a_worker_that_is_replaced_says_good_bye),
        TEST(a_stop_finishes_requests_and_says_good_bye),
        TEST(a_renewed_certificate_is_noticed_and_nobody_interrupted),
        TEST(successors_have_the_renewed_certificate),
        TEST(a_reload_reads_certificates_too),
        TEST(files_that_do_not_fit_change_nothing),
        TEST(renewals_under_load_drop_nothing),
        TEST(browsers_are_told_to_keep_to_https),
        TEST(the_example_works),
    };

    cmocka_set_test_filter(getenv("ONLY")); /* by hand: ONLY='a_crash*' build/tests/... */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
