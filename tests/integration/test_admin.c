/*
 * test_admin.c - the admin interface: who gets in, what it tells, what it does, and what it bears.
 */
#include "harness.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char *token, *reader;

static const char *const common =
    "version: 1\n"
    "server: {workers: 1}\n"
    "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"
    "breaker: {crashes: 2, open: 1h}\n"
    "plugins:\n"
    "  f: {module: fault, config: {from_request: true, reply: false}}\n"
    "  ok: {module: respond, breaker: {crashes: 0}, config: {body: ok}}\n"
    "routes:\n"
    "  - {name: api, match: {path: /a}, chain: [f, ok]}\n"
    "  - {match: {path: /b}, chain: [ok]}\n"
    "  - {match: {path: /c}, chain: [ok]}\n"
    "crash: {dir: @DIR@/crashes}\n";

static char *read_token(const struct server *srv, const char *name)
{
    char path[512], *text;

    snprintf(path, sizeof path, "%s/%s", srv->dir, name);
    text = file_read(path);
    assert_non_null(text);
    text[strcspn(text, "\n")] = '\0';
    assert_int_equal(strlen(text), 64);
    return text;
}

static struct server *start(const char *more)
{
    struct server *srv = server_start(
        "%sadmin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token, "
        "read_token_file: read.token%s}\n",
        common, more);

    server_wait_log(srv, "admin interface on");
    free(token);
    free(reader);
    token = read_token(srv, "admin.token");
    reader = read_token(srv, "read.token");
    return srv;
}

/* With extra header lines, each ended by \r\n. */
static struct response *send_to(const struct server *srv, const char *method, const char *target,
                                const char *headers, const char *body)
{
    struct conn *conn = conn_open(srv->port[1]);
    struct response *res = conn_request(conn, method, target, headers, body,
                                        body != NULL ? strlen(body) : 0);

    conn_close(&conn);
    return res;
}

static struct response *with_token(const struct server *srv, const char *method, const char *target,
                                   const char *of, const char *body)
{
    char headers[256];

    snprintf(headers, sizeof headers,
             "Authorization: Bearer %s\r\nContent-Type: application/json\r\n", of);
    return send_to(srv, method, target, headers, body);
}

static int status_of(struct response *res)
{
    int status = res->status;

    response_free(&res);
    return status;
}

static json_t *json_of(struct response *res, int expected)
{
    json_t *json = json_loads(res->body, 0, NULL);

    if (res->status != expected || json == NULL)
        harness_fail(__FILE__, __LINE__, "%d: %s", res->status, res->body);
    response_free(&res);
    return json;
}

static json_t *ask(const struct server *srv, const char *target)
{
    return json_of(with_token(srv, "GET", target, reader, NULL), 200);
}

/* "plugins.0.breaker.state" */
static const json_t *at(const json_t *json, const char *path)
{
    char part[64];

    while (*path != '\0') {
        size_t n = strcspn(path, ".");

        snprintf(part, sizeof part, "%.*s", (int)n, path);
        json = json_is_array(json) ? json_array_get(json, (size_t)atoi(part))
                                   : json_object_get(json, part);
        path += n + (path[n] == '.');
    }
    return json;
}

static const char *text_at(const json_t *json, const char *path)
{
    const char *text = json_string_value(at(json, path));

    return text != NULL ? text : "(nothing)";
}

static int get(struct server *srv, const char *target)
{
    return status_of(server_get(srv, target));
}

static pid_t admin_pid(const struct server *srv)
{
    pid_t pid = 0;

    return server_children(srv, "bh-admin", &pid, 1) == 1 ? pid : 0;
}

/* ---- who gets in ---- */

static void health_is_for_everybody_and_the_rest_for_who_has_a_token(void **state)
{
    struct server *srv = start("");
    struct response *res;
    json_t *json;

    (void)state;
    assert_int_equal(status_of(send_to(srv, "GET", "/healthz", NULL, NULL)), 200);
    assert_int_equal(status_of(send_to(srv, "GET", "/readyz", NULL, NULL)), 200);
    res = send_to(srv, "GET", "/api/v1/status", NULL, NULL);
    assert_int_equal(res->status, 401);
    assert_string_equal(response_header(res, "Content-Type"), "application/problem+json");
    assert_non_null(strstr(response_header(res, "WWW-Authenticate"), "Bearer"));
    assert_non_null(strstr(response_header(res, "Content-Security-Policy"), "default-src 'none'"));
    assert_string_equal(response_header(res, "Cache-Control"), "no-store");
    response_free(&res);
    assert_int_equal(status_of(with_token(srv, "GET", "/api/v1/status", "x", NULL)), 401);
    assert_int_equal(
        status_of(send_to(srv, "GET", "/api/v1/status", "Authorization: Basic eDp5\r\n", NULL)),
        401);
    json = ask(srv, "/api/v1/status");
    assert_string_equal(text_at(json, "state"), "serving");
    assert_int_equal(json_integer_value(at(json, "admin.pid")), admin_pid(srv));
    json_decref(json);
    json = json_of(with_token(srv, "GET", "/api/v1/status", token, NULL), 200);
    json_decref(json);
    assert_int_equal(status_of(with_token(srv, "GET", "/api/v1/nothing", token, NULL)), 404);
    res = with_token(srv, "PUT", "/api/v1/status", token, NULL);
    assert_int_equal(res->status, 405);
    assert_string_equal(response_header(res, "Allow"), "GET");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void wrong_tokens_are_slowed_down(void **state)
{
    struct server *srv = start("");
    struct response *res;

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(status_of(with_token(srv, "GET", "/api/v1/status", "guess", NULL)), 401);
    res = with_token(srv, "GET", "/api/v1/status", "guess", NULL);
    assert_int_equal(res->status, 429);
    assert_non_null(response_header(res, "Retry-After"));
    response_free(&res);
    assert_int_equal(status_of(send_to(srv, "GET", "/healthz", NULL, NULL)), 200);
    assert_int_equal(server_stop(&srv), 0);
}

/* The session's cookie, as a Cookie line; freed by the caller. */
static char *log_in(const struct server *srv)
{
    char body[128], *line = NULL;
    const char *cookie;
    struct response *res;

    snprintf(body, sizeof body, "{\"token\":\"%s\"}", token);
    res = send_to(srv, "POST", "/api/v1/session", "Content-Type: application/json\r\n", body);
    assert_int_equal(res->status, 200);
    cookie = response_header(res, "Set-Cookie");
    assert_non_null(strstr(cookie, "HttpOnly"));
    assert_non_null(strstr(cookie, "SameSite=Strict"));
    assert_true(asprintf(&line, "Cookie: %.*s\r\n", (int)strcspn(cookie, ";"), cookie) > 0);
    response_free(&res);
    return line;
}

static int act(const struct server *srv, const char *cookie, const char *more)
{
    char headers[512];

    snprintf(headers, sizeof headers, "%s%s", cookie, more);
    return status_of(send_to(srv, "POST", "/api/v1/workers/recycle", headers, NULL));
}

static void a_cookie_works_for_our_pages_and_for_nobody_elses(void **state)
{
    struct server *srv = start("");
    char *cookie = log_in(srv), headers[512];
    struct conn *conn;
    struct response *res;
    json_t *json;

    (void)state;
    json = json_of(send_to(srv, "GET", "/api/v1/session", cookie, NULL), 200);
    assert_string_equal(text_at(json, "role"), "operator");
    json_decref(json);
    assert_int_equal(status_of(send_to(srv, "GET", "/api/v1/status", cookie, NULL)), 200);
    assert_int_equal(act(srv, cookie, "Origin: http://evil.example\r\n"), 403);
    assert_int_equal(act(srv, cookie, "Origin: null\r\n"), 403);
    assert_int_equal(act(srv, cookie, "Sec-Fetch-Site: cross-site\r\n"), 403);
    assert_int_equal(act(srv, cookie, "Sec-Fetch-Site: same-site\r\n"), 403);
    assert_int_equal(act(srv, cookie, ""), 403);
    assert_int_equal(
        act(srv, cookie, "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost\r\n"), 202);
    /* A name of somebody else's that leads here. */
    conn = conn_open(srv->port[1]);
    conn_sendf(conn, "GET /healthz HTTP/1.1\r\nHost: evil.example:%d\r\n\r\n", srv->port[1]);
    res = conn_response(conn, "GET");
    assert_int_equal(res->status, 421);
    response_free(&res);
    conn_close(&conn);
    /* Out, and the cookie is worth nothing. */
    snprintf(headers, sizeof headers, "%sSec-Fetch-Site: same-origin\r\n", cookie);
    assert_int_equal(status_of(send_to(srv, "DELETE", "/api/v1/session", headers, NULL)), 204);
    assert_int_equal(status_of(send_to(srv, "GET", "/api/v1/status", cookie, NULL)), 401);
    assert_int_equal(status_of(send_to(srv, "POST", "/api/v1/session", NULL, "token=x")), 415);
    free(cookie);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_unix_socket_asks_for_no_token(void **state)
{
    struct server *srv = server_start("%sadmin: {listen: \"unix:@DIR@/admin.sock\"}\n", common);
    char path[512];
    struct conn *conn;
    struct response *res;

    (void)state;
    server_wait_log(srv, "admin interface on");
    snprintf(path, sizeof path, "%s/admin.sock", srv->dir);
    conn = conn_open_unix(path);
    res = conn_request(conn, "GET", "/api/v1/status", NULL, NULL, 0);
    assert_int_equal(res->status, 200);
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(run_command(NULL, "test \"$(stat -c %%a %s)\" = 600", path), 0);
    assert_int_equal(server_stop(&srv), 0);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void a_token_file_that_others_can_read_is_refused(void **state)
{
    char *dir = tmp_dir(), *out;

    (void)state;
    assert_int_equal(run_command(&out,
                                 "cd %s && printf '0123456789abcdef' >t && chmod 644 t && printf "
                                 "'version: 1\nlisteners: [{name: a, address: "
                                 "\"unix:a.sock\"}]\nplugins: {ok: {module: respond}}\nroutes: "
                                 "[{chain: [ok]}]\nadmin: {listen: \"unix:b.sock\", token_file: "
                                 "t}\n' >c.yaml && RUNTIME_DIRECTORY=%s %s run -c c.yaml",
                                 dir, dir, getenv("BULKHEAD")),
                     1);
    assert_non_null(strstr(out, "admin.token_file: "));
    assert_non_null(strstr(out, "/t is open to every user"));
    assert_non_null(strstr(out, "chmod 600"));
    free(out);
    free(dir);
}

/* ---- what it tells ---- */

static void the_config_is_told_with_defaults_and_without_secrets(void **state)
{
    char *dir = tmp_dir();
    char *object = plugin_build(
        dir, "secret",
        "#include <bulkhead.h>\n"
        "struct config { const char *word; };\n"
        "static const bh_opt options[] = {\n"
        "    BH_OPT(struct config, word, BH_T_SECRET, 0, NULL, 0, 0, NULL, \"a secret\"), "
        "BH_OPT_END};\n"
        "BH_PLUGIN(\"secret\", \"1.0.0\", .options = options, .cfg_size = sizeof(struct "
        "config))\n");
    struct server *srv = server_start_in(
        dir, "version: 1\n"
             "server: {workers: 1}\n"
             "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
             "modules: {path: [@DIR@, @PLUGINS@, @MODULES@]}\n"
             "plugins:\n"
             "  s: {module: secret, config: {word: hush-hush-hush}}\n"
             "  h: {module: headers, config: {response_set: {X-Api-Key: hush-hush-hush, A: "
             "\"http://u:hush-hush-hush@h/\"}}}\n"
             "  ok: {module: respond, config: {body: ok}}\n"
             "routes: [{chain: [h, ok]}]\n"
             "crash: {dir: @DIR@/crashes}\n"
             "admin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token}\n");
    struct response *res;
    json_t *json;

    (void)state;
    server_wait_log(srv, "admin interface on");
    free(reader);
    reader = read_token(srv, "admin.token");
    res = with_token(srv, "GET", "/api/v1/config", reader, NULL);
    assert_null(strstr(res->body, "hush"));
    assert_null(strstr(res->body, reader));
    response_free(&res);
    json = ask(srv, "/api/v1/config");
    assert_string_equal(text_at(json, "config.limits.timeouts.idle"), "60s");
    assert_string_equal(text_at(json, "config.plugins.ok.config.body"), "ok");
    assert_string_equal(text_at(json, "config.plugins.h.config.response_set.A"),
                        "http://[redacted]@h/");
    assert_string_equal(text_at(json, "file"), srv->config);
    json_decref(json);
    assert_int_equal(server_stop(&srv), 0);
    free(object);
    free(dir);
}

static void plugins_and_crashes_are_told(void **state)
{
    struct server *srv = start("");
    char target[128], *record;
    json_t *json;

    (void)state;
    assert_int_equal(get(srv, "/a?fault=segv"), 500);
    record = server_crash_record(srv, 0);
    json = ask(srv, "/api/v1/plugins");
    assert_string_equal(text_at(json, "plugins.0.name"), "f");
    assert_int_equal(strlen(text_at(json, "plugins.0.sha256")), 64);
    assert_string_equal(text_at(json, "plugins.0.routes.0"), "api");
    assert_string_equal(text_at(json, "routes.0.chain.1"), "ok");
    assert_int_equal(json_integer_value(at(json, "plugins.0.crashes")), 1);
    json_decref(json);
    json = ask(srv, "/api/v1/crashes");
    assert_int_equal(json_integer_value(at(json, "total")), 1);
    assert_string_equal(text_at(json, "crashes.0.plugin.instance"), "f");
    assert_string_equal(text_at(json, "crashes.0.request.target"), "/a?fault=segv");
    snprintf(target, sizeof target, "/api/v1/crashes/%s", text_at(json, "crashes.0.id"));
    json_decref(json);
    json = ask(srv, target);
    assert_true(json_array_size(at(json, "backtrace")) > 0);
    json_decref(json);
    assert_int_equal(status_of(with_token(srv, "GET", "/api/v1/crashes/..%2f..%2fx", reader, NULL)),
                     404);
    assert_int_equal(status_of(with_token(srv, "GET", "/api/v1/crashes?limit=0", reader, NULL)),
                     400);
    free(record);
    assert_int_equal(server_stop(&srv), 0);
}

static bool says_draining(const struct server *srv)
{
    struct response *res = send_to(srv, "GET", "/readyz", NULL, NULL);
    bool is_so = res->status == 503 && strstr(res->body, "draining") != NULL;

    response_free(&res);
    return is_so;
}

static void not_ready_while_routes_are_out_of_order_or_the_server_drains(void **state)
{
    struct server *srv = start(", unready_routes: 34");
    struct conn *conn;

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(get(srv, "/a?fault=segv"), 500);
    assert_int_equal(get(srv, "/a"), 503);
    assert_int_equal(status_of(send_to(srv, "GET", "/readyz", NULL, NULL)), 200); /* 1 of 3 */
    server_rewrite_config(srv,
                          "%sadmin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token, "
                          "read_token_file: read.token, unready_routes: 33}\n",
                          common);
    kill(srv->pid, SIGHUP);
    server_wait_log(srv, "generation 2 serves");
    eventually(status_of(send_to(srv, "GET", "/readyz", NULL, NULL)) == 503);
    assert_int_equal(status_of(send_to(srv, "GET", "/healthz", NULL, NULL)), 200);

    /* A request in flight keeps it draining. */
    conn = conn_open(srv->port[0]);
    conn_sendf(conn, "GET /b HTTP/1.1\r\n");
    eventually(server_children(srv, "bh-worker", NULL, 0) > 0);
    kill(srv->pid, SIGTERM);
    server_wait_log(srv, "SIGTERM: stopping");
    eventually(says_draining(srv));
    conn_close(&conn);
    assert_int_equal(server_wait_exit(srv), 0);
    server_stop(&srv);
}

/* ---- what it bears ---- */

static void a_dead_admin_process_is_replaced_and_takes_nobody_along(void **state)
{
    struct server *srv = start("");
    pid_t pid = admin_pid(srv), worker = 0;
    char *cookie = log_in(srv);

    (void)state;
    assert_true(pid > 0);
    assert_true(server_children(srv, "bh-worker", &worker, 1) >= 1);
    kill(pid, SIGKILL);
    server_wait_log(srv, "the admin process was killed by SIGKILL");
    /* Who comes meanwhile waits; a session goes on. */
    assert_int_equal(status_of(send_to(srv, "GET", "/api/v1/status", cookie, NULL)), 200);
    assert_int_not_equal(admin_pid(srv), pid);
    assert_int_equal(kill(worker, 0), 0);
    free(cookie);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_reload_keeps_sessions_and_takes_the_door_along(void **state)
{
    struct server *srv = start("");
    char *cookie = log_in(srv);
    struct conn *conn;
    struct response *res;

    (void)state;
    server_rewrite_config(
        srv, "%sadmin: {listen: \"127.0.0.1:@PORT2@\", token_file: admin.token}\n", common);
    kill(srv->pid, SIGHUP);
    server_wait_log(srv, "generation 2 serves");
    conn = conn_open(srv->port[2]);
    conn_sendf(conn,
               "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
               "%s\r\n\r\n",
               token);
    res = conn_response(conn, "GET");
    assert_int_equal(res->status, 200);
    response_free(&res);
    conn_close(&conn);
    /* Off, and on again. */
    server_rewrite_config(srv, "%s", common);
    kill(srv->pid, SIGHUP);
    server_wait_log(srv, "generation 3 serves");
    eventually(admin_pid(srv) == 0);
    server_rewrite_config(srv,
                          "%sadmin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token, "
                          "read_token_file: read.token}\n",
                          common);
    kill(srv->pid, SIGHUP);
    server_wait_log(srv, "generation 4 serves");
    assert_int_equal(status_of(send_to(srv, "GET", "/api/v1/status", cookie, NULL)), 200);
    free(cookie);
    assert_int_equal(server_stop(&srv), 0);
}

static void hostile_input_costs_its_connection_and_nothing_else(void **state)
{
    static const char *const silent[] = {"\x16\x03\x01\x02", "\r\n\r\n\r\n\r\n", "GET / HT"};
    static const char *const bad[] = {
        "GET / HTTP/9.9\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
        "chunked\r\n\r\n5\r\nhello\r\n",
        "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
        "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: "
        "6\r\n\r\nhello",
        "GET /%00%ff%zz%2e%2e/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    struct server *srv = start("");
    struct conn *open[160];
    pid_t pid = admin_pid(srv);
    char big[20000];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct conn *conn = conn_open(srv->port[1]);
        struct response *res;

        conn_send(conn, bad[i], strlen(bad[i]));
        res = conn_response(conn, "POST");
        if (res->status < 400)
            harness_fail(__FILE__, __LINE__, "case %zu was answered %d", i, res->status);
        response_free(&res);
        conn_close(&conn);
    }
    for (size_t i = 0; i < sizeof silent / sizeof silent[0]; i++) {
        struct conn *conn = conn_open(srv->port[1]);

        conn_send(conn, silent[i], strlen(silent[i]));
        conn_close(&conn);
    }
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    for (int i = 0; i < 2; i++) {
        struct conn *conn = conn_open(srv->port[1]);
        struct response *res;

        conn_sendf(conn,
                   i == 0 ? "GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
                          : "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n",
                   big);
        res = conn_response(conn, "GET");
        assert_true(res->status == 0 || res->status == 414 || res->status == 431);
        response_free(&res);
        conn_close(&conn);
    }
    /* More connections than there is room: the idle ones make place. */
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        open[i] = conn_open(srv->port[1]);
    eventually(status_of(send_to(srv, "GET", "/healthz", NULL, NULL)) == 200);
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        conn_close(&open[i]);
    assert_int_equal(admin_pid(srv), pid);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_is_for_everybody_and_the_rest_for_who_has_a_token),
        cmocka_unit_test(wrong_tokens_are_slowed_down),
        cmocka_unit_test(a_cookie_works_for_our_pages_and_for_nobody_elses),
        cmocka_unit_test(a_unix_socket_asks_for_no_token),
        cmocka_unit_test(a_token_file_that_others_can_read_is_refused),
        cmocka_unit_test(the_config_is_told_with_defaults_and_without_secrets),
        cmocka_unit_test(plugins_and_crashes_are_told),
        cmocka_unit_test(not_ready_while_routes_are_out_of_order_or_the_server_drains),
        cmocka_unit_test(a_dead_admin_process_is_replaced_and_takes_nobody_along),
        cmocka_unit_test(a_reload_keeps_sessions_and_takes_the_door_along),
        cmocka_unit_test(hostile_input_costs_its_connection_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
