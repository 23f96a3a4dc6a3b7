/*
 * test_secrets.c - everything that can hold a secret holds one, everything fails that can, and none of
 * them stands in what anybody is told: logs, records, answers, exports, notices, what commands print.
 *
 * To extend it: a secret goes into `secrets` (and its text into the config, a request or wherever it is
 * to be); a mistake into `mistakes`; what is to be searched into look_everywhere().
 */
/* link: -Wl,--no-as-needed -lgnutls */
#include "harness.h"
#include "tls_client.h"

#include <dirent.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Where each is, and what it reads. They are good as keys of api_key (16 bytes and more), and in URLs. */
static const struct {
    const char *where, *text;
} secrets[] = {
    {"option of a plugin, of type secret", "Zq-plugin-option-Zq"},
    {"connection string of PostgreSQL", "Zq-postgres-password-Zq"},
    {"password of Redis", "Zq-redis-password-Zq"},
    {"header for the collector", "Zq-collector-header-Zq"},
    {"URL of the collector, its query", "Zq-collector-query-Zq"},
    {"URL of a webhook, its path", "Zq-webhook-path-Zq"},
    {"URL of a webhook, its query", "Zq-webhook-query-Zq"},
    {"header for a webhook", "Zq-webhook-header-Zq"},
    {"file of keys", "Zq-key-in-a-file-Zq"},
    {"Authorization of a request", "Zq-authorization-Zq"},
    {"cookie of a request", "Zq-cookie-Zq"},
    {"API key of a request", "Zq-api-key-Zq"},
    {"query of a request", "Zq-query-Zq"},
    {"Referer of a request", "Zq-referer-Zq"},
    {"variable of the environment", "Zq-environment-Zq"},
    {"variable's default in the config", "Zq-default-Zq"},
    {"config of a reload", "Zq-reload-Zq"},
    {"config with a mistake", "Zq-mistake-Zq"},
};

#define N_SECRETS (sizeof secrets / sizeof secrets[0])

static char *made
    [3]; /* by the server or for it: tokens of operators and of readers; a line of a private key */
static size_t n_searched, n_found;

static void search(const char *what, const char *text, size_t n)
{
    n_searched++;
    for (size_t i = 0; i < N_SECRETS + 3; i++) {
        const char *secret = i < N_SECRETS ? secrets[i].text : made[i - N_SECRETS];
        const char *found = secret != NULL ? memmem(text, n, secret, strlen(secret)) : NULL;

        if (found == NULL)
            continue;
        for (int k = 0; k < 100 && found > text && found[-1] != '\n'; k++)
            found--;
        print_message("%s is in %s: %.200s\n",
                      i < N_SECRETS ? secrets[i].where : "a token or a private key", what, found);
        n_found++;
    }
}

/* ---- collector and webhook: takes everything, keeps bodies, answers with what it was asked ---- */

static pid_t start_sink(int port, const char *file)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    pid_t pid;

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(fd, 64), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) {
        close(fd);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        static char text[1 << 20], answer[8192];
        size_t n = 0, want = sizeof text - 1;
        int client = accept(fd, NULL, NULL);
        FILE *out = fopen(file, "a");
        char *body = NULL, *length;
        ssize_t got;

        while (n < want && (got = recv(client, text + n, want - n, 0)) > 0) {
            text[n += (size_t)got] = '\0';
            body = strstr(text, "\r\n\r\n");
            length = strcasestr(text, "\r\nContent-Length:");
            if (body != NULL && length != NULL)
                want = (size_t)(body + 4 - text) + strtoul(length + 17, NULL, 10);
        }
        if (body != NULL)
            fwrite(body + 4, 1, n - (size_t)(body + 4 - text), out);
        fprintf(out, "\n");
        fclose(out);
        text[strcspn(text, "\r")] = '\0';
        got = snprintf(
            answer, sizeof answer,
            "HTTP/1.1 400 Bad Request\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n"
            "{\"message\":\"no: %s\"}",
            strlen(text) + 18, text);
        send(client, answer, (size_t)got, MSG_NOSIGNAL);
        close(client);
    }
}

/* ---- the server ---- */

static const char *const config =
    "version: 1\n"
    "server: {workers: 1}\n"
    "listeners:\n"
    "  - {name: a, address: \"127.0.0.1:@PORT@\"}\n"
    "  - {name: s, address: \"127.0.0.1:@PORT4@\", tls: {cert: srv.pem, key: srv.key}}\n"
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"
    "breaker: {crashes: 0}\n"
    "logs: {error: {path: \"-\", level: debug, format: %s}}\n"
    "plugins:\n"
    "  f: {module: fault, deadline: 500ms, config: {from_request: true, reply: false}}\n"
    "  ab: {module: ab_test, config: {name: e, groups: {a: 1, b: 1}, override_key: %s}}\n"
    "  keys: {module: api_key, config: {keys_file: keys.txt}}\n"
    "  ok: {module: respond}\n"
    "  env: {module: ab_test, config: {name: v, groups: {a: 1, b: 1}, override_key: "
    "\"${TEST_SECRET}\"}}\n"
    "  def: {module: ab_test, config: {name: d, groups: {a: 1, b: 1}, override_key: "
    "\"${TEST_NO_SECRET:-Zq-default-Zq}\"}}\n"
    "%s"
    "routes:\n"
    "  - {name: k, match: {path: /k}, chain: [keys, f, ok]}\n"
    "  - {match: {path: /**}, chain: [ab, env, def, f, ok]}\n"
    "store: {backend: redis, redis: {address: \"127.0.0.1:@PORT3@\", user: bulkhead, password: "
    "Zq-redis-password-Zq, timeout: 50ms}}\n"
    "tracing:\n"
    "  endpoint: "
    "\"http://127.0.0.1:@PORT2@/v1/traces?token=Zq-collector-query-Zq\"\n"
    "  headers: {Authorization: Bearer Zq-collector-header-Zq}\n"
    "  compression: none\n"
    "alerts:\n"
    "  rules:\n"
    "    - {name: crashing, metric: bulkhead_plugin_crashes_total, when: \"> 0\"}\n"
    "  receivers:\n"
    "    - {name: here, url: "
    "\"http://127.0.0.1:@PORT2@/Zq-webhook-path-Zq?key=Zq-webhook-query-Zq\", "
    "headers: {X-Hook: Zq-webhook-header-Zq}}\n"
    "    - {name: gone, url: \"http://127.0.0.1:1/Zq-webhook-path-Zq?key=Zq-webhook-query-Zq\"}\n"
    "    - {name: nowhere, url: \"http://no-such-host.invalid/Zq-webhook-path-Zq\"}\n"
    "crash: {dir: @DIR@/crashes}\n"
    "admin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token, read_token_file: read.token}\n";

static const char *const postgres =
    "  seen: {module: exposure_log, on_error: fail_open, config: {postgres: \"host=127.0.0.1 port=1 "
    "password=Zq-postgres-password-Zq user=u dbname=d\"}}\n"
    "  too: {module: exposure_log, on_error: fail_open, config: {path: b.jsonl, postgres: "
    "\"postgresql://u:Zq-postgres-password-Zq@127.0.0.1:1/d\"}}\n";

/* Lines that a config of somebody in a hurry may have; each is the whole file's last. */
static const char *const mistakes[] = {
    "store: {backend: redis, redis: {address: \"redis://:Zq-mistake-Zq@127.0.0.1:6379\"}}\n",
    "store: {backend: redis, redis: {address: \"redis://u:Zq-mistake-Zq@127.0.0.1\"}}\n",
    "store: {backend: redis, redis: {password: [Zq-mistake-Zq]}}\n",
    "store: {backend: redis, redis: {pasword: Zq-mistake-Zq}}\n",
    "store: {backend: redis, redis: {pass word: Zq-mistake-Zq}}\n",
    "store: \"redis://u:Zq-mistake-Zq@127.0.0.1\"\n",
    "tracing: {endpoint: \"http://u:Zq-mistake-Zq@127.0.0.1:4318/\"}\n",
    "alerts: {receivers: [{name: r, url: \"http://u:Zq-mistake-Zq@h/\"}]}\n",
    "tracing: {endpoint: \"htp://u:Zq-mistake-Zq@h/\"}\n",
    "tracing: {endpoint: \"u:Zq-mistake-Zq@h:4318\"}\n",
    "tracing: {endpoint: \"http://u:Zq-mistake-Zq@h:99999/\"}\n",
    "tracing: {endpoint: \"http://h/\", headers: [Zq-mistake-Zq]}\n",
    "tracing: {endpoint: \"http://h/\", headers: {\"Author ization\": Zq-mistake-Zq}}\n",
    "tracing: {endpoint: \"http://h/\", headers: {Authorization: \"a\\nZq-mistake-Zq\"}}\n",
    "tracing: {endpoint: \"http://h/\", headers: {Authorization: [Zq-mistake-Zq]}}\n",
    "tracing: {endpoint: \"http://h/\", headers: {\"Authorization: Zq-mistake-Zq\": }}\n",
    "alerts: {receivers: [{name: r, url: \"ftp://h/?key=Zq-mistake-Zq\"}]}\n",
    "alerts: {receivers: [{name: r, url: \"h/Zq-mistake-Zq\"}]}\n",
    "alerts: {receivers: [{name: r, url: \"http://h/\", headers: {X: \"a\\nZq-mistake-Zq\"}}]}\n",
    "alerts: {receivers: [{name: r, type: wecom, url: \"ftp://h/?key=Zq-mistake-Zq\"}]}\n",
    "alerts: {receivers: [{url: \"http://h/?key=Zq-mistake-Zq\"}]}\n",
    "plugins: {x: {module: ab_test, config: {override_key: [Zq-mistake-Zq]}}}\n",
    "plugins: {x: {module: ab_test, config: {override_kye: Zq-mistake-Zq}}}\n",
    "plugins: {x: {module: ab_test, config: {name: e, groups: Zq-mistake-Zq, override_key: "
    "Zq-mistake-Zq}}}\n",
    "plugins: {x: {module: exposure_log, config: {postgres: \"host Zq-mistake-Zq\"}}}\n",
    "plugins: {x: {module: exposure_log, config: {postgres: \"postgresql://u:Zq-mistake-Zq@[h/d\"}}}\n",
    "plugins: {x: {module: exposure_log, config: {postgres: \"Zq-mistake-Zq=3\"}}}\n",
    "plugins: {x: {module: exposure_log, config: {kafka: \"h:1\", kafka_password: [Zq-mistake-Zq]}}}\n",
    "plugins: {x: {module: respond, http: {allow: [\"http://u:Zq-mistake-Zq@h/\"]}}}\n",
    "admin: {listen: \"127.0.0.1:9\", token_file: admin.token, token: Zq-mistake-Zq}\n",
    "listeners: [{address: \"127.0.0.1:1\", tls: {cert: bad.pem, key: bad.pem}}]\n",
    "listeners: [{address: \"127.0.0.1:1\", tls: {cert: bad.pem, key: bad.pem, password: "
    "Zq-mistake-Zq}}]\n",
};

/* ---- everything fails ---- */

#define HEADERS                                                                      \
    "Authorization: Bearer Zq-authorization-Zq\r\nCookie: sid=Zq-cookie-Zq; b=c\r\n" \
    "X-Api-Key: Zq-api-key-Zq\r\nReferer: http://u:Zq-referer-Zq@h/?token=Zq-referer-Zq\r\n"

static void make_requests(struct server *srv)
{
    static const char *const faults[] = {
        "segv",       "abort", "exit",           "stack_overflow",      "bad_ptr_log", "throw",
        "stdio_lock", "loop",  "segv&at=on_log", "segv&at=on_response", "longjmp"};
    char target[256];
    struct response *res;

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        snprintf(target, sizeof target, "/x?token=Zq-query-Zq&password=Zq-query-Zq&fault=%s",
                 faults[i]);
        res = server_request(srv, "GET", target, HEADERS, NULL, 0);
        if (res->status != 0)
            search("an answer", res->head, strlen(res->head));
        if (res->body != NULL)
            search("the body of an answer", res->body, res->body_len);
        response_free(&res);
    }
    res = server_request(srv, "GET", "/k?key=Zq-query-Zq", HEADERS, NULL, 0);
    assert_int_equal(res->status, 401);
    search("an answer", res->head, strlen(res->head));
    response_free(&res);
    res = server_request(srv, "GET", "/k?fault=segv", "X-Api-Key: Zq-key-in-a-file-Zq\r\n", NULL,
                         0);
    assert_int_equal(res->status, 500);
    response_free(&res);
}

/* ---- everywhere ---- */

static void search_file(const char *path)
{
    FILE *f = fopen(path, "r");
    static char text[8 << 20];
    size_t n;

    if (f == NULL)
        return;
    n = fread(text, 1, sizeof text, f);
    fclose(f);
    search(path, text, n);
}

static void search_folder(const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    char path[1024];

    while (d != NULL && (e = readdir(d)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        search_file(path);
    }
    if (d != NULL)
        closedir(d);
}

static void search_command(const struct server *srv, const char *arguments)
{
    char *out, what[512];

    run_command(&out, "%s %s -c %s 2>&1 </dev/null", getenv("BULKHEAD"), arguments, srv->config);
    snprintf(what, sizeof what, "bulkhead %s", arguments);
    assert_true(strlen(out) > 0);
    search(what, out, strlen(out));
    free(out);
}

static void search_api(const struct server *srv, const char *target)
{
    struct conn *conn = conn_open(srv->port[1]);
    char headers[256];
    struct response *res;

    snprintf(headers, sizeof headers, "Authorization: Bearer %s\r\n", made[0]);
    res = conn_request(conn, "GET", target, headers, NULL, 0);
    assert_int_equal(res->status, 200);
    search(target, res->body, res->body_len);
    response_free(&res);
    conn_close(&conn);
}

static void search_processes(const struct server *srv)
{
    static const char *const files[] = {"cmdline", "comm", "status", "maps"};
    pid_t pids[32];
    size_t n = server_children(srv, NULL, pids, 31);
    char path[64];

    pids[n++] = srv->pid;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < sizeof files / sizeof files[0]; k++) {
            snprintf(path, sizeof path, "/proc/%d/%s", (int)pids[i], files[k]);
            search_file(path);
        }
    }
}

static void look_everywhere(const struct server *srv, const char *sink)
{
    static const char *const commands[] = {"status",
                                           "status --json",
                                           "top --once",
                                           "top --once --json",
                                           "metrics",
                                           "metrics --json",
                                           "diff",
                                           "diff --json",
                                           "reload --dry-run",
                                           "reload --dry-run --json",
                                           "alerts",
                                           "alerts --json",
                                           "events",
                                           "events --json",
                                           "worker ls",
                                           "worker ls --json",
                                           "breaker",
                                           "breaker --json",
                                           "loglevel",
                                           "loglevel --json",
                                           "rollout status",
                                           "rollout status --json",
                                           "check",
                                           "check --json",
                                           "crashes list",
                                           "crashes list --json",
                                           "crashes show --last",
                                           "crashes show --last --json"};
    static const char *const paths[] = {"/api/v1/status",  "/api/v1/plugins", "/api/v1/config",
                                        "/api/v1/crashes", "/api/v1/history", "/api/v1/generations",
                                        "/api/v1/alerts",  "/api/v1/rollout", "/api/v1/loglevel",
                                        "/metrics",        "/healthz",        "/api/v1/session"};
    char path[512], *log = server_log(srv);

    search("the error log", log, strlen(log));
    free(log);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        search_command(srv, commands[i]);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        search_api(srv, paths[i]);
    snprintf(path, sizeof path, "%s/crashes", srv->dir);
    search_folder(path);
    search_file(sink);
    search_processes(srv);
}

/* ---- the tests ---- */

static char *read_token(const struct server *srv, const char *name)
{
    char path[512], *text;

    snprintf(path, sizeof path, "%s/%s", srv->dir, name);
    text = file_read(path);
    assert_non_null(text);
    text[strcspn(text, "\n")] = '\0';
    return text;
}

/* The second line of its text. */
static char *key_line(const char *dir)
{
    char path[512], *text, *line;

    snprintf(path, sizeof path, "%s/srv.key", dir);
    text = file_read(path);
    assert_non_null(text);
    line = strchr(text, '\n');
    assert_non_null(line);
    line = strndup(line + 1, strcspn(line + 1, "\r\n"));
    assert_true(strlen(line) > 20);
    free(text);
    return line;
}

static bool has_arrived(const char *file, const char *text)
{
    char *all = file_read(file);
    bool has = all != NULL && strstr(all, text) != NULL;

    free(all);
    return has;
}

static void sweep(const char *format)
{
    const char *more = dlopen("libpq.so.5", RTLD_NOW | RTLD_NODELETE) != NULL ? postgres : "";
    char *dir = tmp_dir(), sink[512], keys[512];
    struct server *srv;
    pid_t pid;

    n_found = 0;
    setenv("TEST_SECRET", "Zq-environment-Zq", 1);
    snprintf(keys, sizeof keys, "%s/keys.txt", dir);
    file_write(keys, "somebody:Zq-key-in-a-file-Zq\n");
    tls_make_cert(dir, "srv", NULL, "localhost", 1);
    free(made[2]);
    made[2] = key_line(dir);
    snprintf(sink, sizeof sink, "%s/sink", dir);
    srv = server_start_in(dir, config, format, "Zq-plugin-option-Zq", more);
    pid = start_sink(srv->port[2], sink);
    server_wait_log(srv, "admin interface on");
    for (int i = 0; i < 2; i++) {
        free(made[i]);
        made[i] = read_token(srv, i == 0 ? "admin.token" : "read.token");
    }

    make_requests(srv);
    eventually(server_crash_count(srv) >= 8);
    eventually(has_arrived(sink, "resourceSpans") && has_arrived(sink, "\"firing\""));
    server_wait_log(srv, "400");
    server_wait_log(srv, "nowhere");
    look_everywhere(srv, sink);
    search_command(srv, "replay --last");
    search_command(srv, "replay --last --json");
    if (run_command(NULL, "gdb --version >/dev/null 2>&1") == 0)
        search_command(srv, "replay --last --gdb -- -batch -ex 'bt full' -ex 'info locals'");

    server_rewrite_config(srv, config, format, "Zq-reload-Zq", more);
    search_command(srv, "diff");
    search_command(srv, "diff --json");
    search_command(srv, "reload --dry-run");
    search_command(srv, "reload --wait");
    look_everywhere(srv, sink);
    server_stop(&srv);
    kill(pid, SIGKILL);
    free(dir);
    assert_true(n_searched > 100);
    assert_int_equal(n_found, 0);
}

static void nobody_is_told_a_secret_in_text(void **state)
{
    (void)state;
    sweep("text");
}

static void nobody_is_told_a_secret_in_json(void **state)
{
    (void)state;
    sweep("json");
}

static void a_mistake_beside_a_secret_does_not_tell_it(void **state)
{
    static const char *const commands[] = {"check", "check --json", "check --no-run", "run"};
    char *dir = tmp_dir(), path[512], *out, what[1024];

    (void)state;
    n_found = 0;
    snprintf(path, sizeof path, "%s/bad.pem", dir);
    file_write(path, "-----BEGIN PRIVATE KEY-----\nZq-mistake-Zq\n-----END PRIVATE KEY-----\n");
    snprintf(path, sizeof path, "%s/bad.yaml", dir);
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        bool has_plugins = strncmp(mistakes[i], "plugins", 7) == 0;
        bool has_listeners = strncmp(mistakes[i], "listeners", 9) == 0;

        file_write(path, "version: 1\n%s%smodules: {path: [%s]}\nroutes: [{chain: [x]}]\n%s",
                   has_listeners ? "" : "listeners: [{address: \"127.0.0.1:1\"}]\n",
                   has_plugins ? "" : "plugins: {x: {module: respond}}\n",
                   getenv("BULKHEAD_PLUGINS"), mistakes[i]);
        for (size_t k = 0; k < sizeof commands / sizeof commands[0]; k++) {
            int status = run_command(&out, "timeout 20 %s %s -c %s 2>&1", getenv("BULKHEAD"),
                                     commands[k], path);

            snprintf(what, sizeof what, "bulkhead %s of %s", commands[k], mistakes[i]);
            if (strcmp(commands[k], "run") == 0 && status == 0)
                print_message("no mistake: %s: %s\n", mistakes[i], out), n_found++;
            search(what, out, strlen(out));
            free(out);
        }
    }
    free(dir);
    assert_int_equal(n_found, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mistake_beside_a_secret_does_not_tell_it),
        cmocka_unit_test(nobody_is_told_a_secret_in_text),
        cmocka_unit_test(nobody_is_told_a_secret_in_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
