/*
 * test_status.c - the control socket: `bulkhead status`, `bulkhead worker recycle`, and clients that
 * mean no good.
 */
#include "harness.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct server *start(int workers, const char *more)
{
    struct server *srv = server_start(
        "version: 1\n"
        "server: {workers: %d}\n"
        "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "%s"
        "breaker: {crashes: 2, open: 1h}\n"
        "plugins:\n"
        "  f: {module: fault, config: {from_request: true, reply: false}}\n"
        "  g: {module: fault, on_error: fail_open, config: {from_request: true, "
        "reply: false}}\n"
        "  ok: {module: respond, breaker: {crashes: 0}, config: {body: ok}}\n"
        "routes:\n"
        "  - {name: api, match: {path: /a}, chain: [f, ok]}\n"
        "  - {match: {path: /g/**}, chain: [g, ok]}\n"
        "  - {chain: [f, ok]}\n"
        "crash: {dir: @DIR@/crashes}\n",
        workers, more);

    server_wait_log(srv, "serving on");
    return srv;
}

/* `bulkhead COMMAND -c` its config. */
static int ask(const struct server *srv, const char *command, const char *options, char **out)
{
    return run_command(out, "RUNTIME_DIRECTORY=%s %s %s -c %s %s", srv->dir, getenv("BULKHEAD"),
                       command, srv->config, options);
}

static json_t *status_of(const struct server *srv, int expected_exit)
{
    char *text;
    json_t *json;

    assert_int_equal(ask(srv, "status", "--json 2>/dev/null", &text), expected_exit);
    json = json_loads(text, 0, NULL);
    if (json == NULL)
        harness_fail(__FILE__, __LINE__, "not JSON: %s", text);
    free(text);
    return json;
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

static long long number_at(const json_t *json, const char *path)
{
    assert_true(json_is_integer(at(json, path)));
    return json_integer_value(at(json, path));
}

static int get(struct server *srv, const char *target)
{
    struct response *res = server_get(srv, target);
    int status = res->status;

    response_free(&res);
    return status;
}

/* Workers that hold a post. */
static int count_serving(const json_t *status)
{
    const json_t *workers = at(status, "workers"), *w;
    size_t i;
    int n = 0;

    json_array_foreach(workers, i, w)
    {
        n += strcmp(text_at(w, "state"), "serving") == 0;
    }
    return n;
}

static void status_tells_what_there_is(void **state)
{
    struct server *srv = start(2, "");
    json_t *json;
    char *text;

    (void)state;
    assert_int_equal(get(srv, "/"), 200);
    json = status_of(srv, 0);
    assert_string_equal(text_at(json, "state"), "serving");
    assert_int_equal(number_at(json, "pid"), srv->pid);
    assert_string_equal(text_at(json, "config"), srv->config);
    assert_int_equal(count_serving(json), 2);
    assert_true(number_at(json, "requests") >= 1);
    assert_true(json_is_true(at(json, "recorder.running")));
    assert_int_equal(json_array_size(at(json, "problems")), 0);
    assert_int_equal(json_array_size(at(json, "plugins")), 3);
    assert_string_equal(text_at(json, "plugins.0.name"), "f");
    assert_string_equal(text_at(json, "plugins.0.module"), "fault");
    assert_string_equal(text_at(json, "plugins.0.breaker.state"), "closed");
    assert_string_equal(text_at(json, "plugins.2.breaker.state"), "off");
    json_decref(json);

    assert_int_equal(ask(srv, "status", "", &text), 0);
    assert_non_null(strstr(text, "serving"));
    assert_non_null(strstr(text, "WORKER  PID"));
    assert_null(strstr(text, "amiss"));
    free(text);
    assert_int_equal(server_stop(&srv), 0);
}

static void status_tells_what_is_amiss(void **state)
{
    struct server *srv = start(1, "");
    json_t *json;
    char *text;

    (void)state;
    assert_int_equal(get(srv, "/a?fault=segv"), 500);
    assert_int_equal(get(srv, "/a?fault=segv"), 500);
    for (int i = 0; i < 3; i++)
        assert_int_equal(get(srv, "/a"), 503);
    json = status_of(srv, 3);
    assert_string_equal(text_at(json, "problems.0"), "plugin 'f': route 'api' is blocked");
    assert_string_equal(text_at(json, "plugins.0.breaker.state"), "closed");
    assert_string_equal(text_at(json, "plugins.0.blocked_routes.0.route"), "api");
    assert_string_equal(text_at(json, "plugins.0.blocked_routes.0.state"), "open");
    assert_int_equal(number_at(json, "plugins.0.blocked_routes.0.refused"), 3);
    assert_in_range(number_at(json, "plugins.0.blocked_routes.0.left_ms"), 3000000, 3600000);
    assert_int_equal(number_at(json, "plugins.0.crashes"), 2);
    assert_int_equal(number_at(json, "plugins.0.renewals"), 2);
    assert_int_equal(number_at(json, "plugins.0.copies"), 1);
    json_decref(json);

    assert_int_equal(get(srv, "/g/1?fault=segv"), 200);
    assert_int_equal(get(srv, "/g/1?fault=abort"), 200);
    json = status_of(srv, 3);
    assert_string_equal(text_at(json, "problems.1"), "plugin 'g': its breaker is open");
    assert_string_equal(text_at(json, "plugins.1.on_error"), "fail_open");
    assert_string_equal(text_at(json, "plugins.1.breaker.state"), "open");
    assert_int_equal(number_at(json, "plugins.1.breaker.opened"), 1);
    json_decref(json);

    assert_int_equal(ask(srv, "status", "", &text), 3);
    assert_non_null(strstr(text, "amiss: plugin 'f': route 'api' is blocked\n"));
    assert_non_null(strstr(text, "  route 'api'"));
    assert_non_null(strstr(text, "blocked, trials in "));
    free(text);
    assert_int_equal(server_stop(&srv), 0);
}

static void top_tells_of_blocked_routes(void **state)
{
    struct server *srv = start(1, "");
    json_t *json;
    char *text;

    (void)state;
    assert_int_equal(get(srv, "/a?fault=segv"), 500);
    assert_int_equal(get(srv, "/a?fault=segv"), 500);
    assert_int_equal(get(srv, "/a"), 503);
    assert_int_equal(ask(srv, "top", "--once --interval 0.1", &text), 0);
    if (strstr(text, "\nf       1 blocked") == NULL)
        harness_fail(__FILE__, __LINE__, "no blocked route, or not first: %s", text);
    free(text);
    assert_int_equal(ask(srv, "top", "--json --interval 0.1", &text), 0);
    json = json_loads(text, 0, NULL);
    assert_string_equal(text_at(json, "plugins.0.breaker"), "closed");
    assert_int_equal(number_at(json, "plugins.0.blocked_routes"), 1);
    assert_int_equal(number_at(json, "plugins.1.blocked_routes"), 0);
    json_decref(json);
    free(text);
    assert_int_equal(server_stop(&srv), 0);
}

/* "NAME pid 123" as the JSON has it. */
static void assert_helper(const char *text, const char *name, long long pid)
{
    char part[64];

    snprintf(part, sizeof part, "%s pid %lld", name, pid);
    if (pid <= 0 || strstr(text, part) == NULL)
        harness_fail(__FILE__, __LINE__, "no \"%s\" in: %s", part, text);
}

static void status_names_the_processes_beside_the_workers(void **state)
{
    struct server *srv = start(1, "escrow: {standby: 1}\n"
                                  "admin: {listen: \"unix:@DIR@/admin.sock\"}\n"
                                  "tracing: {endpoint: \"http://127.0.0.1:@PORT2@/v1/traces\"}\n");
    json_t *json = NULL;
    const json_t *w;
    long long standby = 0;
    char *text;
    size_t i;

    (void)state;
    /* A worker is "starting" before it stands by. */
    eventually({
        json_decref(json);
        json = status_of(srv, 0);
        json_array_foreach(at(json, "workers"), i, w)
        {
            if (strcmp(text_at(w, "state"), "standby") == 0)
                standby = number_at(w, "pid");
        }
        standby > 0;
    });
    assert_int_equal(ask(srv, "status", "", &text), 0);
    assert_helper(text, "recorder", number_at(json, "recorder.pid"));
    assert_helper(text, "admin", number_at(json, "admin.pid"));
    assert_helper(text, "exporter", number_at(json, "exporter.pid"));
    assert_helper(text, "standby", standby);
    free(text);
    json_decref(json);
    assert_int_equal(server_stop(&srv), 0);
}

static void status_tells_how_workers_ended(void **state)
{
    struct server *srv = start(1, "");
    json_t *json = NULL;

    (void)state;
    get(srv, "/x?fault=sigkill");
    eventually(get(srv, "/") == 200);
    eventually({
        json_decref(json);
        json = status_of(srv, 0);
        number_at(json, "ended_workers.count") == 1;
    });
    assert_string_equal(text_at(json, "ended_workers.last.0.why"),
                        "was killed by SIGKILL in plugin 'f', on_request, at GET /x");
    assert_int_equal(number_at(json, "plugins.0.worker_deaths"), 1);
    assert_int_equal(count_serving(json), 1);
    json_decref(json);
    assert_int_equal(server_stop(&srv), 0);
}

static void without_a_server_it_says_so(void **state)
{
    struct server *srv = start(1, "");
    char *text, *config = strdup(srv->config), *dir = strdup(srv->dir);
    char path[4096];

    (void)state;
    assert_int_equal(run_command(&text, "ls %s/*.sock", dir), 0);
    snprintf(path, sizeof path, "%.*s", (int)strcspn(text, "\n"), text);
    free(text);
    assert_int_equal(kill(srv->pid, SIGTERM), 0);
    assert_int_equal(server_wait_exit(srv), 0);
    assert_int_equal(access(path, F_OK), -1); /* it is removed */
    assert_int_equal(
        run_command(&text, "RUNTIME_DIRECTORY=%s %s status -c %s", dir, getenv("BULKHEAD"), config),
        1);
    assert_non_null(strstr(text, "no server runs with"));
    assert_non_null(strstr(text, "bulkhead run -c"));
    free(text);
    assert_int_equal(run_command(&text, "%s status -c /nowhere/x.yaml", getenv("BULKHEAD")), 1);
    assert_non_null(strstr(text, "No such file"));
    free(text);
    assert_int_equal(run_command(&text, "%s status --socket /nowhere/x", getenv("BULKHEAD")), 1);
    assert_non_null(strstr(text, "no server listens at /nowhere/x"));
    free(text);
    assert_int_equal(run_command(&text, "%s status x", getenv("BULKHEAD")), 2);
    free(text);
    free(config);
    free(dir);
    server_stop(&srv);
}

static void a_broken_config_does_not_hide_the_server(void **state)
{
    struct server *srv = start(1, "");
    char *text;

    (void)state;
    server_rewrite_config(srv, "version: 1\nlisteners: what\n");
    assert_int_equal(ask(srv, "status", "", &text), 0);
    assert_non_null(strstr(text, "serving"));
    free(text);
    assert_int_equal(server_stop(&srv), 0);
}

static void nor_when_it_names_the_socket(void **state)
{
    struct server *srv = start(1, "control: {socket: c.sock}\n");
    char *text;

    (void)state;
    server_rewrite_config(srv, "version: 1\nlisteners: what\ncontrol: {socket: c.sock}\n");
    assert_int_equal(ask(srv, "status", "", &text), 0);
    assert_non_null(strstr(text, "serving"));
    free(text);
    assert_int_equal(server_stop(&srv), 0);
}

static void the_config_may_name_the_socket(void **state)
{
    struct server *srv = start(1, "control: {socket: c.sock}\n");
    char path[4096], *text;
    struct stat st;

    (void)state;
    snprintf(path, sizeof path, "%s/c.sock", srv->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
    json_decref(status_of(srv, 0));
    assert_int_equal(run_command(&text, "%s status --socket %s", getenv("BULKHEAD"), path), 0);
    free(text);
    assert_int_equal(server_stop(&srv), 0);
    assert_int_equal(access(path, F_OK), -1);
}

static void there_need_not_be_one(void **state)
{
    struct server *srv = start(1, "control: {socket: off}\n");
    char *text;

    (void)state;
    assert_int_not_equal(run_command(&text, "ls %s/*.sock 2>/dev/null", srv->dir), 0);
    free(text);
    assert_int_equal(ask(srv, "status", "", &text), 1);
    assert_non_null(strstr(text, "control.socket: off"));
    free(text);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- two servers, and what is left of one ---- */

static void a_named_socket_of_another_server_is_an_error(void **state)
{
    struct server *srv = start(1, "control: {socket: @DIR@/c.sock}\n");
    char *dir = tmp_dir(), *text, expected[64], config[4096];

    (void)state;
    snprintf(config, sizeof config, "%s/other.yaml", dir);
    file_write(config,
               "version: 1\n"
               "listeners: [{address: \"unix:%s/http\"}]\n"
               "control: {socket: %s/c.sock}\n"
               "routes: [{chain: [ok]}]\n"
               "plugins: {ok: {module: respond}}\n"
               "crash: {dir: %s/crashes}\n",
               dir, srv->dir, dir);
    assert_int_equal(run_command(&text, "timeout 20 %s run -c %s", getenv("BULKHEAD"), config), 1);
    snprintf(expected, sizeof expected, "belongs to another server, pid %d", (int)srv->pid);
    assert_non_null(strstr(text, expected));
    free(text);
    json_decref(status_of(srv, 0)); /* the first one is well */

    assert_int_equal(server_stop(&srv), 0);
    free(dir);
}

static void a_second_server_with_the_same_config_serves_without(void **state)
{
    char *dir = tmp_dir();
    struct server *srv, *second;
    json_t *json;

    (void)state;
    setenv("SECOND", "first", 1);
    srv = server_start_in(dir, "version: 1\n"
                               "server: {workers: 1}\n"
                               "listeners: [{address: \"127.0.0.1:@PORT@\"},"
                               "            {address: \"unix:@DIR@/${SECOND}.http\"}]\n"
                               "modules: {path: [@PLUGINS@]}\n"
                               "plugins: {ok: {module: respond}}\n"
                               "routes: [{chain: [ok]}]\n"
                               "crash: {dir: @DIR@/crashes}\n");
    server_wait_log(srv, "serving on");
    setenv("SECOND", "second", 1);
    second = server_start_in(dir, "version: 1\n"
                                  "server: {workers: 1}\n"
                                  "listeners: [{address: \"127.0.0.1:@PORT@\"},"
                                  "            {address: \"unix:@DIR@/${SECOND}.http\"}]\n"
                                  "modules: {path: [@PLUGINS@]}\n"
                                  "plugins: {ok: {module: respond}}\n"
                                  "routes: [{chain: [ok]}]\n"
                                  "crash: {dir: @DIR@/crashes}\n");
    server_wait_log(second, "no control socket: another server, pid ");
    json = status_of(srv, 0);
    assert_int_equal(number_at(json, "pid"), srv->pid);
    json_decref(json);
    assert_int_equal(server_stop(&second), 0);
    json_decref(status_of(srv, 0)); /* its end takes nothing away */
    assert_int_equal(server_stop(&srv), 0);
    unsetenv("SECOND");
    free(dir);
}

static void what_a_killed_server_left_is_replaced(void **state)
{
    static const char config[] = "version: 1\n"
                                 "server: {workers: 1}\n"
                                 "listeners: [{address: \"127.0.0.1:@PORT@\"}]\n"
                                 "modules: {path: [@PLUGINS@]}\n"
                                 "plugins: {ok: {module: respond}}\n"
                                 "routes: [{chain: [ok]}]\n"
                                 "crash: {dir: @DIR@/crashes}\n";
    char *dir = tmp_dir(), *text;
    struct server *srv = server_start_in(dir, config);
    json_t *json;

    (void)state;
    server_wait_log(srv, "serving on");
    assert_int_equal(kill(srv->pid, SIGKILL), 0);
    server_wait_exit(srv);
    assert_int_equal(ask(srv, "status", "", &text), 1);
    assert_non_null(strstr(text, "no server runs with"));
    free(text);
    server_stop(&srv);
    srv = server_start_in(dir, config);
    eventually(ask(srv, "status", "", NULL) == 0);
    json = status_of(srv, 0);
    assert_int_equal(number_at(json, "pid"), srv->pid);
    json_decref(json);
    assert_int_equal(server_stop(&srv), 0);
    free(dir);
}

static void after_an_upgrade_the_new_master_answers(void **state)
{
    struct server *srv = start(1, "");
    json_t *json = NULL;
    pid_t heir;

    (void)state;
    assert_int_equal(kill(srv->pid, SIGUSR2), 0);
    server_wait_log(srv, "this one lets its workers finish");
    assert_int_equal(server_wait_exit(srv), 0);
    json = status_of(srv, 0);
    heir = (pid_t)number_at(json, "pid");
    assert_int_equal(kill(heir, 0), 0);
    json_decref(json);
    assert_int_equal(kill(heir, SIGTERM), 0);
    eventually(kill(heir, 0) < 0);
    server_stop(&srv);
}

/* ---- clients that mean no good ---- */

static int connect_to(const struct server *srv)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(snprintf(addr.sun_path, sizeof addr.sun_path, "%s/c.sock", srv->dir) <
                (int)sizeof addr.sun_path);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

static bool is_closed(int fd)
{
    char c;

    return recv(fd, &c, 1, MSG_DONTWAIT) == 0;
}

static void clients_that_say_nothing_hold_nobody_up(void **state)
{
    struct server *srv = start(1, "control: {socket: @DIR@/c.sock}\n");
    int fd[12];

    (void)state;
    for (size_t i = 0; i < 12; i++) /* more than there is room for: the rest waits */
        fd[i] = connect_to(srv);
    assert_int_equal(send(fd[0], "h", 1, 0), 1);
    assert_int_equal(get(srv, "/"), 200);
    json_decref(status_of(srv, 0)); /* as soon as the first are dropped */
    for (size_t i = 0; i < 12; i++) {
        eventually(is_closed(fd[i]));
        close(fd[i]);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void what_makes_no_sense_is_refused(void **state)
{
    static const struct {
        uint32_t magic;
        uint16_t version, command;
        int32_t argument;
        uint32_t reserved;
    } bad[] = {
        {0, 1, 1, 0, 0},           {0x6c746368, 2, 1, 0, 0},     {0x6c746368, 1, 77, 0, 0},
        {0x6c746368, 1, 2, -2, 0}, {0x6c746368, 1, 2, 99999, 0},
    };
    struct server *srv = start(1, "control: {socket: @DIR@/c.sock}\n");

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int32_t reply[5];
        int fd = connect_to(srv);

        for (size_t k = 0; k < sizeof bad[0]; k++) /* byte by byte */
            assert_int_equal(send(fd, (const char *)&bad[i] + k, 1, MSG_NOSIGNAL), 1);
        assert_int_equal(recv(fd, reply, sizeof reply, MSG_WAITALL), sizeof reply);
        assert_true(reply[2] < 0); /* the result */
        assert_int_equal(reply[4], 0);
        eventually(is_closed(fd));
        close(fd);
    }
    json_decref(status_of(srv, 0));
    assert_int_equal(server_stop(&srv), 0);
}

static void strangers_are_turned_away(void **state)
{
    struct server *srv;
    char *text;

    (void)state;
    if (geteuid() != 0)
        skip();
    srv = start(1, "control: {socket: @DIR@/c.sock}\n");
    assert_int_equal(run_command(NULL, "chmod 755 %s && cp %s %s/bulkhead", srv->dir,
                                 getenv("BULKHEAD"), srv->dir),
                     0);
    assert_int_equal(run_command(&text,
                                 "setpriv --reuid 65534 --clear-groups %s/bulkhead status --socket "
                                 "%s/c.sock",
                                 srv->dir, srv->dir),
                     1);
    assert_non_null(strstr(text, "permission denied"));
    free(text);
    assert_int_equal(run_command(NULL, "chmod 666 %s/c.sock", srv->dir), 0);
    assert_int_equal(run_command(&text,
                                 "setpriv --reuid 65534 --clear-groups %s/bulkhead status --socket "
                                 "%s/c.sock",
                                 srv->dir, srv->dir),
                     1);
    assert_non_null(strstr(text, "turned us away"));
    free(text);
    server_wait_log(srv, "user 65534, is neither root nor who runs this server");
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- recycling ---- */

static void one_worker_is_recycled(void **state)
{
    struct server *srv = start(2, "");
    json_t *json = status_of(srv, 0);
    long long slot = number_at(json, "workers.0.slot"), pid = number_at(json, "workers.0.pid");
    char command[64], *text;

    (void)state;
    json_decref(json);
    json = NULL;
    snprintf(command, sizeof command, "worker recycle %lld", slot);
    assert_int_equal(ask(srv, command, "", NULL), 0);
    eventually(kill((pid_t)pid, 0) < 0);
    eventually({
        json_decref(json);
        json = status_of(srv, 0);
        number_at(json, "ended_workers.count") == 1;
    });
    assert_string_equal(text_at(json, "ended_workers.last.0.why"), "ended as it was told to");
    json_decref(json);
    assert_int_equal(ask(srv, "worker recycle 999", "", &text), 2);
    assert_non_null(strstr(text, "no worker 999 serves"));
    free(text);
    assert_int_equal(ask(srv, "worker recycle x", "", NULL), 2);
    assert_int_equal(ask(srv, "worker", "", NULL), 2);
    assert_int_equal(server_stop(&srv), 0);
}

static void all_workers_are_recycled_under_load(void **state)
{
    struct server *srv = start(2, "");
    struct conn *conn = conn_open(srv->port[0]);
    json_t *json = NULL;
    long long n_ended = 0;

    (void)state;
    assert_int_equal(ask(srv, "worker recycle all", "", NULL), 0);
    while (n_ended < 2) {
        struct response *res = conn_request(conn, "GET", "/", NULL, NULL, 0);

        assert_int_equal(res->status, 200);
        if (res->closed) { /* it may say goodbye after an answer */
            conn_close(&conn);
            conn = conn_open(srv->port[0]);
        }
        response_free(&res);
        json = status_of(srv, 0);
        n_ended = number_at(json, "ended_workers.count");
        json_decref(json);
    }
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_tells_what_there_is),
        cmocka_unit_test(status_tells_what_is_amiss),
        cmocka_unit_test(top_tells_of_blocked_routes),
        cmocka_unit_test(status_names_the_processes_beside_the_workers),
        cmocka_unit_test(status_tells_how_workers_ended),
        cmocka_unit_test(without_a_server_it_says_so),
        cmocka_unit_test(a_broken_config_does_not_hide_the_server),
        cmocka_unit_test(nor_when_it_names_the_socket),
        cmocka_unit_test(the_config_may_name_the_socket),
        cmocka_unit_test(there_need_not_be_one),
        cmocka_unit_test(a_named_socket_of_another_server_is_an_error),
        cmocka_unit_test(a_second_server_with_the_same_config_serves_without),
        cmocka_unit_test(what_a_killed_server_left_is_replaced),
        cmocka_unit_test(after_an_upgrade_the_new_master_answers),
        cmocka_unit_test(clients_that_say_nothing_hold_nobody_up),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(strangers_are_turned_away),
        cmocka_unit_test(one_worker_is_recycled),
        cmocka_unit_test(all_workers_are_recycled_under_load),
    };

    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
