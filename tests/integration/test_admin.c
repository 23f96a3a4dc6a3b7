/*
 * test_admin.c - the admin interface: who gets in, what it tells, what it does, and what it bears.
 */
#include "admin_scene.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const common =
    "version: 1\n"
    "server: {workers: 1}\n"
    "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}] # @PORT2@\n"
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

static struct server *start(const char *more)
{
    return admin_start(NULL, common, more);
}

static json_t *json_of(struct response *res, int expected)
{
    json_t *json = json_loads(res->body, JSON_DECODE_ANY, NULL);

    if (res->status != expected || json == NULL)
        harness_fail(__FILE__, __LINE__, "%d: %s", res->status, res->body);
    response_free(&res);
    return json;
}

static json_t *ask(const struct server *srv, const char *target)
{
    return json_of(admin_send_with(srv, "GET", target, admin_reader, NULL), 200);
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
    return admin_status(server_get(srv, target));
}

/* ---- who gets in ---- */

static void health_is_for_everybody_and_the_rest_for_who_has_a_token(void **state)
{
    struct server *srv = start("");
    struct response *res;
    json_t *json;

    (void)state;
    assert_int_equal(admin_status(admin_send(srv, "GET", "/healthz", NULL, NULL)), 200);
    assert_int_equal(admin_status(admin_send(srv, "GET", "/readyz", NULL, NULL)), 200);
    res = admin_send(srv, "GET", "/api/v1/status", NULL, NULL);
    assert_int_equal(res->status, 401);
    assert_string_equal(response_header(res, "Content-Type"), "application/problem+json");
    assert_non_null(strstr(response_header(res, "WWW-Authenticate"), "Bearer"));
    assert_non_null(strstr(response_header(res, "Content-Security-Policy"), "default-src 'none'"));
    assert_string_equal(response_header(res, "Cache-Control"), "no-store");
    response_free(&res);
    assert_int_equal(admin_status(admin_send_with(srv, "GET", "/api/v1/status", "x", NULL)), 401);
    assert_int_equal(admin_status(admin_send(srv, "GET", "/api/v1/status",
                                             "Authorization: Basic eDp5\r\n", NULL)),
                     401);
    json = ask(srv, "/api/v1/status");
    assert_string_equal(text_at(json, "state"), "serving");
    assert_int_equal(json_integer_value(at(json, "admin.pid")), admin_pid(srv));
    json_decref(json);
    json = json_of(admin_send_with(srv, "GET", "/api/v1/status", admin_token, NULL), 200);
    json_decref(json);
    assert_int_equal(
        admin_status(admin_send_with(srv, "GET", "/api/v1/nothing", admin_token, NULL)), 404);
    res = admin_send_with(srv, "PUT", "/api/v1/status", admin_token, NULL);
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
        assert_int_equal(admin_status(admin_send_with(srv, "GET", "/api/v1/status", "guess", NULL)),
                         401);
    /* One is forgotten every six seconds. */
    for (int i = 0;
         (res = admin_send_with(srv, "GET", "/api/v1/status", "guess", NULL))->status != 429; i++) {
        assert_true(res->status == 401 && i < 10);
        response_free(&res);
    }
    assert_non_null(response_header(res, "Retry-After"));
    response_free(&res);
    assert_int_equal(admin_status(admin_send(srv, "GET", "/healthz", NULL, NULL)), 200);
    assert_int_equal(server_stop(&srv), 0);
}

/* The session's cookie, as a Cookie line; freed by the caller. */
static char *log_in(const struct server *srv)
{
    char body[128], *line = NULL;
    const char *cookie;
    struct response *res;

    snprintf(body, sizeof body, "{\"token\":\"%s\"}", admin_token);
    res = admin_send(srv, "POST", "/api/v1/session", "Content-Type: application/json\r\n", body);
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
    return admin_status(admin_send(srv, "POST", "/api/v1/workers/recycle", headers, NULL));
}

static void a_cookie_works_for_our_pages_and_for_nobody_elses(void **state)
{
    struct server *srv = start("");
    static const char *const foreign[] = {"Sec-Fetch-Site: same-site", "Sec-Fetch-Site: cross-site",
                                          "Origin: http://localhost:1", "Origin: null"};
    char *cookie = log_in(srv), headers[512], head[64] = "";
    struct conn *conn;
    struct response *res;
    json_t *json;

    (void)state;
    json = json_of(admin_send(srv, "GET", "/api/v1/session", cookie, NULL), 200);
    assert_string_equal(text_at(json, "role"), "operator");
    json_decref(json);
    assert_int_equal(admin_status(admin_send(srv, "GET", "/api/v1/status", cookie, NULL)), 200);
    assert_int_equal(act(srv, cookie, "Origin: http://evil.example\r\n"), 403);
    assert_int_equal(act(srv, cookie, "Origin: null\r\n"), 403);
    assert_int_equal(act(srv, cookie, "Sec-Fetch-Site: cross-site\r\n"), 403);
    assert_int_equal(act(srv, cookie, "Sec-Fetch-Site: same-site\r\n"), 403);
    assert_int_equal(act(srv, cookie, ""), 403);
    assert_int_equal(
        act(srv, cookie, "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost\r\n"), 202);
    /* An event stream is a place that is taken: a page of this host on another port has none. */
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        snprintf(headers, sizeof headers, "%s%s\r\n", cookie, foreign[i]);
        assert_int_equal(admin_status(admin_send(srv, "GET", "/api/v1/events", headers, NULL)),
                         403);
    }
    conn = conn_open(srv->port[1]);
    conn_sendf(conn,
               "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n%s"
               "Sec-Fetch-Site: same-origin\r\n\r\n",
               cookie);
    eventually(recv(conn_fd(conn), head, sizeof head - 1, MSG_PEEK | MSG_DONTWAIT) > 12);
    assert_memory_equal(head, "HTTP/1.1 200", 12);
    conn_close(&conn);
    /* A name of somebody else's that leads here. */
    conn = conn_open(srv->port[1]);
    conn_sendf(conn, "GET /healthz HTTP/1.1\r\nHost: evil.example:%d\r\n\r\n", srv->port[1]);
    res = conn_response(conn, "GET");
    assert_int_equal(res->status, 421);
    response_free(&res);
    conn_close(&conn);
    /* Out, and the cookie is worth nothing. */
    snprintf(headers, sizeof headers, "%sSec-Fetch-Site: same-origin\r\n", cookie);
    assert_int_equal(admin_status(admin_send(srv, "DELETE", "/api/v1/session", headers, NULL)),
                     204);
    assert_int_equal(admin_status(admin_send(srv, "GET", "/api/v1/status", cookie, NULL)), 401);
    assert_int_equal(admin_status(admin_send(srv, "POST", "/api/v1/session", NULL, "token=x")),
                     415);
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
             "\"http://u:hush-hush-hush@h/a?key=hush-hush-hush&n=1#x\"}}}\n"
             "  ok: {module: respond, config: {body: ok}}\n"
             "routes: [{chain: [h, ok]}]\n"
             "crash: {dir: @DIR@/crashes}\n"
             "admin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token}\n");
    struct response *res;
    json_t *json;

    (void)state;
    server_wait_log(srv, "admin interface on");
    free(admin_reader);
    admin_reader = admin_read_token(srv, "admin.token");
    res = admin_send_with(srv, "GET", "/api/v1/config", admin_reader, NULL);
    assert_null(strstr(res->body, "hush"));
    assert_null(strstr(res->body, admin_reader));
    response_free(&res);
    json = ask(srv, "/api/v1/config");
    assert_string_equal(text_at(json, "config.limits.timeouts.idle"), "60s");
    assert_string_equal(text_at(json, "config.plugins.ok.config.body"), "ok");
    assert_string_equal(text_at(json, "config.plugins.h.config.response_set.A"),
                        "http://[redacted]@h/a?key=[redacted]&n=1#x");
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
    assert_int_equal(admin_status(admin_send_with(srv, "GET", "/api/v1/crashes/..%2f..%2fx",
                                                  admin_reader, NULL)),
                     404);
    assert_int_equal(
        admin_status(admin_send_with(srv, "GET", "/api/v1/crashes?limit=0", admin_reader, NULL)),
        400);
    free(record);
    assert_int_equal(server_stop(&srv), 0);
}

static bool says_draining(const struct server *srv)
{
    struct response *res = admin_send(srv, "GET", "/readyz", NULL, NULL);
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
    assert_int_equal(admin_status(admin_send(srv, "GET", "/readyz", NULL, NULL)), 200); /* 1 of 3 */
    server_rewrite_config(srv,
                          "%sadmin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token, "
                          "read_token_file: read.token, unready_routes: 33}\n",
                          common);
    kill(srv->pid, SIGHUP);
    server_wait_log(srv, "generation 2 serves");
    eventually(admin_status(admin_send(srv, "GET", "/readyz", NULL, NULL)) == 503);
    assert_int_equal(admin_status(admin_send(srv, "GET", "/healthz", NULL, NULL)), 200);

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

static void metrics_are_for_who_has_a_token_or_for_everybody(void **state)
{
    struct server *srv = start("");
    struct response *res;

    (void)state;
    assert_int_equal(admin_status(admin_send(srv, "GET", "/metrics", NULL, NULL)), 401);
    res = admin_send_with(srv, "GET", "/metrics", admin_reader, NULL);
    assert_int_equal(res->status, 200);
    assert_non_null(strstr(response_header(res, "Content-Type"), "version=0.0.4"));
    assert_non_null(strstr(res->body, "\nbulkhead_workers 1\n"));
    response_free(&res);
    res = admin_send(srv, "GET", "/metrics", "Authorization: Bearer nothing\r\n", NULL);
    assert_int_equal(res->status, 401);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);

    srv = start(", metrics: open");
    res = admin_send(srv, "GET", "/metrics", "Accept: application/openmetrics-text\r\n", NULL);
    assert_int_equal(res->status, 200);
    assert_non_null(strstr(response_header(res, "Content-Type"), "openmetrics-text"));
    assert_non_null(strstr(res->body, "# EOF\n"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

/* A real one, with the token in a file, as docs/admin.md says. */
static void prometheus_scrapes_it(void **state)
{
    struct server *srv;
    char path[512], *pid = NULL, *out = NULL;

    (void)state;
    if (run_command(NULL, "command -v prometheus >/dev/null && command -v curl >/dev/null") != 0) {
        print_message("skipped: there is no prometheus or curl here\n");
        skip();
    }
    srv = start("");
    for (int i = 0; i < 3; i++)
        assert_int_equal(get(srv, "/b"), 200);
    snprintf(path, sizeof path, "%s/prometheus.yml", srv->dir);
    file_write(path,
               "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
               "scrape_configs:\n"
               "  - job_name: bulkhead\n"
               "    static_configs: [{targets: [\"127.0.0.1:%d\"]}]\n"
               "    authorization: {credentials_file: %s/read.token}\n",
               srv->port[1], srv->dir);
    assert_int_equal(run_command(&pid,
                                 "cd %s && { prometheus --config.file=prometheus.yml "
                                 "--storage.tsdb.path=tsdb --web.listen-address=127.0.0.1:%d "
                                 ">prometheus.log 2>&1 & echo $!; }",
                                 srv->dir, srv->port[2]),
                     0);
    for (int64_t end = harness_deadline_ms(2 * HARNESS_WAIT_MS);;) {
        free(out);
        run_command(&out,
                    "curl -s 'http://127.0.0.1:%d/api/v1/query?query=sum(bulkhead_requests_total)'",
                    srv->port[2]);
        if (strstr(out, ",\"3\"]") != NULL)
            break;
        if (!harness_pause(end)) {
            kill(atoi(pid), SIGKILL);
            harness_fail(__FILE__, __LINE__, "it has not come to 3 requests: %s", out);
        }
    }
    kill(atoi(pid), SIGKILL);
    free(out);
    free(pid);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- what it does ---- */

static json_t *act_on(const struct server *srv, const char *method, const char *target,
                      const char *body, int expected)
{
    return json_of(admin_send_with(srv, method, target, admin_token, body), expected);
}

static void readers_may_not_act(void **state)
{
    static const char *const actions[][3] = {
        {"POST", "/api/v1/reload", "{}"},
        {"POST", "/api/v1/workers/recycle", NULL},
        {"POST", "/api/v1/workers/0/recycle", NULL},
        {"POST", "/api/v1/plugins/f/breaker", "{\"action\":\"open\"}"},
        {"PUT", "/api/v1/loglevel", "{\"level\":\"debug\"}"},
    };
    struct server *srv = start("");

    (void)state;
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        assert_int_equal(admin_status(admin_send_with(srv, actions[i][0], actions[i][1],
                                                      admin_reader, actions[i][2])),
                         403);
        assert_int_equal(
            admin_status(admin_send(srv, actions[i][0], actions[i][1], NULL, actions[i][2])), 401);
    }
    assert_int_equal(server_stop(&srv), 0);
}

/* Waits for its end; the result. */
static json_t *reload(const struct server *srv, const char *body)
{
    json_t *json = act_on(srv, "POST", "/api/v1/reload", body, 202);
    char target[64];

    snprintf(target, sizeof target, "/api/v1/reload/%lld",
             (long long)json_integer_value(at(json, "id")));
    json_decref(json);
    json = NULL;
    eventually((json_decref(json), json = ask(srv, target),
                strcmp(text_at(json, "state"), "running") != 0));
    return json;
}

static void a_reload_is_looked_at_first_and_then_done(void **state)
{
    struct server *srv = start("");
    json_t *json;

    (void)state;
    server_rewrite_config(srv,
                          "%slimits: {body: 1MiB}\nadmin: {listen: \"127.0.0.1:@PORT1@\", "
                          "token_file: admin.token, read_token_file: read.token}\n",
                          common);
    json = reload(srv, "{\"dry_run\": true}");
    assert_string_equal(text_at(json, "state"), "dry run");
    assert_int_equal(json_integer_value(at(json, "generation")), 1);
    json_decref(json);
    json = reload(srv, NULL);
    assert_string_equal(text_at(json, "state"), "done");
    json_decref(json);
    json = ask(srv, "/api/v1/generations");
    assert_int_equal(json_integer_value(at(json, "generations.0.number")), 2);
    assert_true(json_is_true(at(json, "generations.0.is_current")));
    json_decref(json);
    server_rewrite_config(srv, "%slimits: {bodi: 1MiB}\n", common);
    json = reload(srv, "{}");
    assert_string_equal(text_at(json, "state"), "failed");
    assert_non_null(strstr(text_at(json, "errors.0"), "did you mean"));
    json_decref(json);
    assert_int_equal(
        admin_status(admin_send_with(srv, "POST", "/api/v1/reload", admin_token, "[]")), 400);
    assert_int_equal(
        admin_status(admin_send_with(srv, "GET", "/api/v1/reload/99", admin_token, NULL)), 404);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_breaker_is_opened_until_it_is_reset(void **state)
{
    struct server *srv = start("");
    json_t *json;
    char *out;

    (void)state;
    assert_int_equal(get(srv, "/a"), 200);
    assert_int_equal(admin_status(admin_send_with(srv, "POST", "/api/v1/plugins/f/breaker",
                                                  admin_token, "{\"action\":\"open\"}")),
                     204);
    assert_int_equal(get(srv, "/a"), 503);
    json = ask(srv, "/api/v1/plugins");
    assert_string_equal(text_at(json, "plugins.0.breaker.state"), "open");
    assert_true(json_is_true(at(json, "plugins.0.breaker.held")));
    json_decref(json);
    assert_int_equal(admin_status(admin_send_with(srv, "POST", "/api/v1/plugins/f/breaker",
                                                  admin_token, "{\"action\":\"reset\"}")),
                     204);
    assert_int_equal(get(srv, "/a"), 200);
    json = ask(srv, "/api/v1/history");
    assert_string_equal(text_at(json, "events.1.kind"), "breaker");
    assert_string_equal(text_at(json, "events.1.plugin"), "f");
    /* On a busy machine the master has also noticed meanwhile that it is open. */
    assert_true(strcmp(text_at(json, "events.2.text"), "reset by an operator") == 0 ||
                strcmp(text_at(json, "events.3.text"), "reset by an operator") == 0);
    json_decref(json);
    /* One that crashes have opened; by the command. */
    for (int i = 0; i < 2; i++)
        assert_int_equal(get(srv, "/a?fault=segv"), 500);
    assert_int_equal(get(srv, "/a"), 503);
    assert_int_equal(run_command(&out, "RUNTIME_DIRECTORY=%s %s breaker -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    assert_non_null(strstr(out, "api"));
    free(out);
    assert_int_equal(run_command(NULL, "RUNTIME_DIRECTORY=%s %s breaker reset f -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    assert_int_equal(get(srv, "/a"), 200);
    assert_int_equal(run_command(&out, "RUNTIME_DIRECTORY=%s %s breaker open ok -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     1);
    assert_non_null(strstr(out, "is off"));
    free(out);
    assert_int_equal(run_command(NULL, "RUNTIME_DIRECTORY=%s %s breaker open none -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     2);
    assert_int_equal(admin_status(admin_send_with(srv, "POST", "/api/v1/plugins/none/breaker",
                                                  admin_token, "{}")),
                     404);
    assert_int_equal(
        admin_status(admin_send_with(srv, "POST", "/api/v1/plugins/f/breaker", admin_token, "{}")),
        400);
    assert_int_equal(server_stop(&srv), 0);
}

static void levels_are_changed_and_workers_recycled(void **state)
{
    struct server *srv = start("");
    pid_t before = 0, now = 0;
    json_t *json;

    (void)state;
    json = act_on(srv, "PUT", "/api/v1/loglevel", "{\"plugin\":\"f\",\"level\":\"debug\"}", 200);
    assert_string_equal(text_at(json, "levels.1.plugin"), "f");
    assert_string_equal(text_at(json, "levels.1.level"), "debug");
    json_decref(json);
    json = act_on(srv, "PUT", "/api/v1/loglevel", "{\"plugin\":\"f\",\"level\":\"default\"}", 200);
    assert_string_equal(text_at(json, "levels.1.level"), "info");
    json_decref(json);
    assert_int_equal(admin_status(admin_send_with(srv, "PUT", "/api/v1/loglevel", admin_token,
                                                  "{\"level\":\"loud\"}")),
                     400);
    json = ask(srv, "/api/v1/status");
    before = (pid_t)json_integer_value(at(json, "workers.0.pid"));
    json_decref(json);
    assert_int_equal(
        admin_status(admin_send_with(srv, "POST", "/api/v1/workers/77/recycle", admin_token, NULL)),
        404);
    json = act_on(srv, "POST", "/api/v1/workers/recycle", NULL, 202);
    json_decref(json);
    json = NULL;
    eventually((json_decref(json), json = ask(srv, "/api/v1/status"),
                now = (pid_t)json_integer_value(at(json, "workers.0.pid")), now != before));
    json_decref(json);
    assert_int_equal(server_stop(&srv), 0);
}

/* Listens until one text has come, and after it another one. */
static bool hears(const struct server *srv, const char *headers, const char *first,
                  const char *second)
{
    struct conn *conn = conn_open(srv->port[1]);
    static char text[1 << 20];
    const char *found;
    size_t n = 0;

    conn_sendf(conn,
               "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n%sAuthorization: Bearer "
               "%s\r\n\r\n",
               headers, admin_reader);
    text[0] = '\0';
    for (int64_t end = harness_deadline_ms(HARNESS_WAIT_MS);
         (found = strstr(text, first)) == NULL || strstr(found + 1, second) == NULL;) {
        ssize_t got = recv(conn_fd(conn), text + n, sizeof text - 1 - n, MSG_DONTWAIT);

        if (got > 0)
            text[n += (size_t)got] = '\0';
        else if (got == 0 || !harness_pause(end))
            harness_fail(__FILE__, __LINE__, "neither %s nor %s in: %.3000s", first, second, text);
    }
    conn_close(&conn);
    return strstr(text, "Content-Type: text/event-stream") != NULL;
}

static bool says_new(struct server *srv)
{
    struct response *res = server_get(srv, "/b");
    bool is_so = strcmp(res->body, "new") == 0;

    response_free(&res);
    return is_so;
}

/* How many of twenty more listeners are turned away. */
static int count_refused(const struct server *srv)
{
    struct conn *conn[20];
    int n = 0;

    for (size_t i = 0; i < 20; i++) {
        char head[64] = "";

        conn[i] = conn_open(srv->port[1]);
        conn_sendf(conn[i],
                   "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
                   "%s\r\n\r\n",
                   admin_reader);
        eventually(recv(conn_fd(conn[i]), head, sizeof head - 1, MSG_PEEK | MSG_DONTWAIT) > 12);
        n += strncmp(head, "HTTP/1.1 503", 12) == 0;
    }
    for (size_t i = 0; i < 20; i++)
        conn_close(&conn[i]);
    return n;
}

static void events_tell_the_status_once_a_second(void **state)
{
    struct server *srv = start("");
    int n_refused;

    (void)state;
    assert_true(hears(srv, "", "\nevent: status\ndata: {\"version\"", "\nevent: status\n"));
    assert_true(hears(srv, "", "\nevent: numbers\ndata: {\"requests\":", "\"plugins\":{\"f\":{"));
    /* Listeners have a bound, readers leave four to operators; those who leave make room, once they are missed. */
    eventually((n_refused = count_refused(srv)) <= 8);
    assert_int_equal(n_refused, 8);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_rollout_is_started_and_steered(void **state)
{
    struct server *srv = start("");
    json_t *json;

    (void)state;
    json = ask(srv, "/api/v1/rollout");
    assert_true(json_is_null(json));
    json_decref(json);
    assert_int_equal(admin_status(admin_send_with(srv, "POST", "/api/v1/rollout", admin_token,
                                                  "{\"plugin\":\"f\",\"module\":\"/tmp/x.so\"}")),
                     400);
    assert_int_equal(admin_status(admin_send_with(srv, "POST", "/api/v1/rollout", admin_token,
                                                  "{\"plugin\":\"none\"}")),
                     400);
    json = act_on(
        srv, "POST", "/api/v1/rollout",
        "{\"plugin\":\"ok\",\"set\":{\"body\":\"new\"},\"rollout\":{\"promote\":\"manual\"}}", 202);
    json_decref(json);
    json = NULL;
    eventually((json_decref(json), json = ask(srv, "/api/v1/rollout"),
                strcmp(text_at(json, "phase"), "stepping") == 0));
    json_decref(json);
    json = act_on(srv, "POST", "/api/v1/rollout/promote", NULL, 202);
    json_decref(json);
    eventually(says_new(srv));
    assert_int_equal(
        admin_status(admin_send_with(srv, "POST", "/api/v1/rollout/explode", admin_token, NULL)),
        404);
    json = NULL;
    eventually((json_decref(json), json = ask(srv, "/api/v1/rollout"),
                strcmp(text_at(json, "phase"), "idle") == 0));
    assert_string_equal(text_at(json, "result"), "promoted");
    json_decref(json);
    assert_int_equal(
        admin_status(admin_send_with(srv, "POST", "/api/v1/rollout/pause", admin_token, NULL)),
        409);
    /* It stands in the history, and who missed it is told. */
    json = ask(srv, "/api/v1/history");
    assert_string_equal(text_at(json, "events.0.kind"), "started");
    assert_true(json_integer_value(at(json, "last")) >= 3);
    json_decref(json);
    assert_true(hears(srv, "Last-Event-ID: 1\r\n", "\nevent: event\ndata: ", "rollout_promoted"));
    assert_int_equal(server_stop(&srv), 0);
}

/* One rule that holds, and a receiver that nobody is. */
#define ALERTS                                                                                     \
    "}\nalerts: {rules: [{name: up, metric: bulkhead_plugin_info, when: \"> 0\", match: {plugin: " \
    "f}}], receivers: [{name: ops, url: \"http://127.0.0.1:1/\"}]"

static void an_alert_is_told_to_who_asks_and_to_who_listens(void **state)
{
    struct server *srv = start(ALERTS);
    json_t *json = NULL;

    (void)state;
    /* Not asked for all the time, which the admin interface would not have. */
    server_wait_log(srv, "alerts to 'ops'");
    eventually((json_decref(json), json = ask(srv, "/api/v1/alerts"),
                strcmp(text_at(json, "alerts.0.state"), "firing") == 0 &&
                    json_is_string(at(json, "receivers.0.trouble"))));
    assert_string_equal(text_at(json, "alerts.0.rule"), "up");
    assert_string_equal(text_at(json, "alerts.0.labels.plugin"), "f");
    assert_string_equal(text_at(json, "alerts.0.told.ops"), "on its way");
    assert_string_equal(text_at(json, "receivers.0.name"), "ops");
    assert_int_equal(json_integer_value(at(json, "receivers.0.waiting")), 1);
    json_decref(json);
    json = ask(srv, "/api/v1/status");
    assert_int_equal(json_integer_value(at(json, "alerts.firing")), 1);
    json_decref(json);
    assert_true(hears(srv, "Last-Event-ID: 0\r\n", "\"kind\":\"alert_firing\",\"plugin\":\"f\"",
                      "alert 'up' fires: bulkhead_plugin_info > 0"));
    assert_int_equal(server_stop(&srv), 0);
}

/* Stands in for {name} of a path. */
static void fill_in(const char *path, const char *method, char *out, size_t size)
{
    const char *brace = strchr(path, '{');
    const char *value = strstr(path, "{name}") != NULL     ? "f"
                        : strstr(path, "{slot}") != NULL   ? "0"
                        : strstr(path, "{action}") != NULL ? "pause"
                                                           : "1";

    (void)method;
    if (brace == NULL)
        snprintf(out, size, "%s", path);
    else
        snprintf(out, size, "%.*s%s%s", (int)(brace - path), path, value, strchr(brace, '}') + 1);
}

static void check_answer(const struct response *res, const json_t *operation, const char *what)
{
    const char *type = response_header(res, "Content-Type");
    char status[16];
    json_t *answer;

    snprintf(status, sizeof status, "%d", res->status);
    answer = json_object_get(json_object_get(operation, "responses"), status);
    if (answer == NULL)
        harness_fail(__FILE__, __LINE__, "%s: %s is not in the description: %s", what, status,
                     res->body);
    if (json_object_get(answer, "content") == NULL) {
        assert_int_equal(res->body_len, 0);
        return;
    }
    if (type == NULL || json_object_get(json_object_get(answer, "content"), type) == NULL)
        harness_fail(__FILE__, __LINE__, "%s: %s as %s is not in the description", what, status,
                     type != NULL ? type : "nothing");
}

static void has_required(const json_t *schemas, const json_t *schema, const json_t *value,
                         const char *what)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    const json_t *required, *properties, *property;
    const char *name;
    size_t i;

    if (ref != NULL)
        schema = json_object_get(schemas, strrchr(ref, '/') + 1);
    required = json_object_get(schema, "required");
    properties = json_object_get(schema, "properties");
    for (i = 0; i < json_array_size(required); i++)
        if (json_object_get(value, json_string_value(json_array_get(required, i))) == NULL)
            harness_fail(__FILE__, __LINE__, "%s: no \"%s\"", what,
                         json_string_value(json_array_get(required, i)));
    json_object_foreach((json_t *)(uintptr_t)properties, name, property)
    {
        const json_t *member = json_object_get(value, name);

        if (json_is_object(member))
            has_required(schemas, property, member, what);
        for (i = 0; json_is_array(member) && i < json_array_size(member); i++)
            has_required(schemas, json_object_get(property, "items"), json_array_get(member, i),
                         what);
    }
}

/* All that is described is there, asks for the token that it says it does, and answers as it says. */
static void the_description_is_true(void **state)
{
    struct server *srv = start(ALERTS);
    json_t *doc = json_of(admin_send(srv, "GET", "/api/v1/openapi.json", NULL, NULL), 200);
    json_t *schemas = json_object_get(json_object_get(doc, "components"), "schemas");
    json_t *path, *operation;
    const char *name, *method;
    int n = 0;

    (void)state;
    json_object_foreach(json_object_get(doc, "paths"), name, path)
    {
        json_object_foreach(path, method, operation)
        {
            const char *role = text_at(operation, "x-role");
            const json_t *ok = at(operation, "responses.200.content.application/json.schema");
            const char *body = NULL;
            char target[256], upper[16], what[300];
            struct response *res;

            for (size_t i = 0; i <= strlen(method); i++)
                upper[i] = (char)(method[i] >= 'a' ? method[i] - 32 : method[i]);
            fill_in(name, method, target, sizeof target);
            snprintf(what, sizeof what, "%s %s", upper, target);
            if (strcmp(role, "nobody") != 0) {
                res = admin_send(srv, upper, target, NULL, NULL);
                assert_int_equal(res->status, 401);
                check_answer(res, operation, what);
                response_free(&res);
            }
            if (strcmp(role, "operator") == 0) {
                res = admin_send_with(srv, upper, target, admin_reader, NULL);
                assert_int_equal(res->status, 403);
                check_answer(res, operation, what);
                response_free(&res);
            }
            if (strstr(target, "/events") != NULL)
                continue; /* has no end */
            if (strstr(target, "/breaker") != NULL)
                body = "{\"action\":\"reset\"}";
            else if (strstr(target, "/loglevel") != NULL && strcmp(upper, "PUT") == 0)
                body = "{\"level\":\"info\"}";
            else if (strcmp(upper, "POST") == 0 && strcmp(target, "/api/v1/rollout") == 0)
                body = "{\"plugin\":\"none\"}";
            else if (strcmp(upper, "POST") == 0 && strstr(target, "/reload") != NULL)
                body = "{\"dry_run\":true}";
            res = admin_send_with(srv, upper, target, admin_token, body);
            check_answer(res, operation, what);
            if (res->status == 200 && ok != NULL) {
                json_t *value = json_loads(res->body, JSON_DECODE_ANY, NULL);

                assert_non_null(value);
                has_required(schemas, ok, value, what);
                json_decref(value);
            }
            response_free(&res);
            n++;
        }
    }
    assert_true(n >= 17);
    json_decref(doc);
    assert_int_equal(server_stop(&srv), 0);
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
    assert_int_equal(admin_status(admin_send(srv, "GET", "/api/v1/status", cookie, NULL)), 200);
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
               admin_token);
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
    assert_int_equal(admin_status(admin_send(srv, "GET", "/api/v1/status", cookie, NULL)), 200);
    free(cookie);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_upgrade_hands_the_door_to_the_next_server(void **state)
{
    struct server *srv = start("");
    pid_t pid = admin_pid(srv), master = 0;
    json_t *json;
    char *cookie = log_in(srv), *out;

    (void)state;
    kill(srv->pid, SIGUSR2);
    assert_int_equal(server_wait_exit(srv), 0); /* the old one, when the new one serves */
    json = ask(srv, "/api/v1/status");
    master = (pid_t)json_integer_value(at(json, "pid"));
    assert_int_not_equal(json_integer_value(at(json, "admin.pid")), pid);
    json_decref(json);
    assert_true(master > 0);
    assert_int_equal(kill(pid, 0), -1); /* the old process is gone */
    assert_int_equal(admin_status(admin_send(srv, "GET", "/api/v1/status", cookie, NULL)), 401);
    kill(master, SIGTERM);
    eventually(kill(master, 0) < 0);
    out = server_log(srv);
    assert_null(strstr(out, "cannot listen"));
    free(out);
    free(cookie);
    server_stop(&srv);
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
    eventually(admin_status(admin_send(srv, "GET", "/healthz", NULL, NULL)) == 200);
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
        cmocka_unit_test(metrics_are_for_who_has_a_token_or_for_everybody),
        cmocka_unit_test(prometheus_scrapes_it),
        cmocka_unit_test(readers_may_not_act),
        cmocka_unit_test(a_reload_is_looked_at_first_and_then_done),
        cmocka_unit_test(a_breaker_is_opened_until_it_is_reset),
        cmocka_unit_test(levels_are_changed_and_workers_recycled),
        cmocka_unit_test(events_tell_the_status_once_a_second),
        cmocka_unit_test(a_rollout_is_started_and_steered),
        cmocka_unit_test(an_alert_is_told_to_who_asks_and_to_who_listens),
        cmocka_unit_test(the_description_is_true),
        cmocka_unit_test(a_dead_admin_process_is_replaced_and_takes_nobody_along),
        cmocka_unit_test(a_reload_keeps_sessions_and_takes_the_door_along),
        cmocka_unit_test(an_upgrade_hands_the_door_to_the_next_server),
        cmocka_unit_test(hostile_input_costs_its_connection_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
