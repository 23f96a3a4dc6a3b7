/*
 * test_reload.c - another config and other plugins, while requests are served: what moves, what
 * stays, what is refused.
 */
#include "harness.h"

#include <jansson.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG                                              \
    "version: 1\n"                                          \
    "server: {workers: 2}\n"                                \
    "listeners:\n"                                          \
    "  - {name: a, address: \"127.0.0.1:@PORT@\"}\n"        \
    "%s"                                                    \
    "limits: {timeouts: {drain: 20s}}\n"                    \
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"             \
    "plugins:\n"                                            \
    "  v: {module: @DIR@/v.so, config: {text: \"%s\"}%s}\n" \
    "  pause: {module: pause}\n"                            \
    "  stream: {module: streamer}\n"                        \
    "  fatal: {module: inside}\n"                           \
    "routes:\n"                                             \
    "  - {match: {path: /pause/**}, chain: [pause]}\n"      \
    "  - {match: {path: /stream/**}, chain: [stream]}\n"    \
    "  - {match: {path: /fatal}, chain: [fatal]}\n"         \
    "  - {chain: [v]}\n"                                    \
    "crash: {dir: @DIR@/crashes}\n"                         \
    "%s"

/* Answers "VERSION TEXT"; what else it does, open() or a constructor says. */
static const char source[] =
    "#include <bulkhead.h>\n"
    "#include <stdlib.h>\n"
    "#include <unistd.h>\n"
    "struct config { const char *text; };\n"
    "static const bh_opt options[] = {BH_STR(struct config, text, \"\", \"What to say\"), BH_OPT_END};\n"
    "%s\n"
    "static bh_rc open_it(bh_inst *inst, const void *cfg, void **self)\n"
    "{ (void)inst; *self = (void *)(uintptr_t)cfg; %s return BH_OK; }\n"
    "static bh_rc answer(void *self, bh_req *req, void *ctx)\n"
    "{ char text[128]; (void)ctx;\n"
    "  if (bh_attr(req, \"path\").n > 5) usleep((unsigned)atoi(bh_attr(req, \"path\").p + 6) * 1000);\n"
    "  snprintf(text, sizeof text, \"%s %%s\", ((const struct config *)self)->text);\n"
    "  return bh_reply(req, 200, \"text/plain\", text); }\n"
    "#ifndef START\n"
    "#define START\n"
    "#endif\n"
    "static bh_rc start_it(void *self) { (void)self; START; return BH_OK; }\n"
    "BH_PLUGIN(\"v\", \"%s\", .summary = \"A version\", .options = options,\n"
    "          .cfg_size = sizeof(struct config), .open = open_it, .start = start_it,\n"
    "          .on_request = answer)\n";

static char *make(const char *dir, const char *name, const char *version, const char *globals,
                  const char *in_open)
{
    char text[8192];

    snprintf(text, sizeof text, source, globals, in_open, version, version);
    return plugin_build(dir, name, text);
}

/* In a folder of its own, with v.so of version "1". */
static struct server *start(const char *more)
{
    char *dir = tmp_dir(), *object = make(dir, "v", "1", "", "");
    struct server *srv = server_start_in(dir, CONFIG, "", "one", "", more);

    server_wait_log(srv, "serving on");
    eventually(server_children(srv, "standby", NULL, 0) == 1);
    free(object);
    free(dir);
    return srv;
}

static int ask(const struct server *srv, const char *command, char **out)
{
    return run_command(out, "RUNTIME_DIRECTORY=%s %s %s -c %s", srv->dir, getenv("BULKHEAD"),
                       command, srv->config);
}

static void reload(const struct server *srv, int expected, const char *said)
{
    int64_t end_ms = harness_deadline_ms(HARNESS_WAIT_MS);
    char *out;
    int status;

    /* One that a signal or a changed file began may be under way. */
    while ((status = ask(srv, "reload --wait", &out)) == 1 && harness_pause(end_ms))
        free(out);
    if (status != expected || (said != NULL && strstr(out, said) == NULL))
        harness_fail(__FILE__, __LINE__, "reload: exit %d instead of %d, or without '%s':\n%s",
                     status, expected, said != NULL ? said : "", out);
    free(out);
}

static int generation(const struct server *srv)
{
    json_t *json;
    char *out;
    int n;

    ask(srv, "status --json 2>/dev/null", &out);
    json = json_loads(out, 0, NULL);
    free(out);
    n = (int)json_integer_value(json_object_get(json, "generation"));
    json_decref(json);
    return n;
}

static void check_says(struct server *srv, const char *text)
{
    struct response *res = server_get(srv, "/");

    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, text);
    response_free(&res);
}

static bool conn_says(struct conn *conn, const char *text)
{
    struct response *res = conn_request(conn, "GET", "/", NULL, NULL, 0);
    bool says = res->status == 200 && strcmp(res->body, text) == 0;

    response_free(&res);
    return says;
}

/* `cp`, in place, or `mv` */
static void put_object(const struct server *srv, const char *how, const char *object)
{
    assert_int_equal(run_command(NULL, "%s %s %s/v.so", how, object, srv->dir), 0);
}

/* ---- what moves ---- */

static void a_changed_option_is_served_and_idle_connections_stay(void **state)
{
    struct server *srv = start("");
    struct conn *conn[20];

    (void)state;
    for (int i = 0; i < 20; i++) {
        struct response *res;

        conn[i] = conn_open(srv->port[0]);
        res = conn_request(conn[i], "GET", "/", NULL, NULL, 0);
        assert_string_equal(res->body, "1 one");
        response_free(&res);
    }
    server_rewrite_config(srv, CONFIG, "", "two", "", "");
    reload(srv, 0, "plugins.v.config.text");
    assert_int_equal(generation(srv), 2);
    for (int i = 0; i < 20; i++) {
        struct response *res;

        assert_true(conn_is_idle(conn[i]));
        res = conn_request(conn[i], "GET", "/", NULL, NULL, 0);
        assert_string_equal(res->body, "1 two");
        response_free(&res);
        conn_close(&conn[i]);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void sighup_reloads_and_the_master_stays(void **state)
{
    struct server *srv = start("");

    (void)state;
    server_rewrite_config(srv, CONFIG, "", "two", "", "");
    kill(srv->pid, SIGHUP);
    server_wait_log(srv, "SIGHUP: generation 2 serves");
    check_says(srv, "1 two");
    assert_true(server_is_running(srv));
    assert_int_equal(server_stop(&srv), 0);
}

static void an_object_moved_into_place_runs_new_code(void **state)
{
    struct server *srv = start("");
    char *two = make(srv->dir, "two", "2", "", "");

    (void)state;
    put_object(srv, "mv", two);
    check_says(srv, "1 one"); /* until it is told */
    reload(srv, 0, "plugins.v (object): 1 sha256:");
    check_says(srv, "2 one");
    assert_int_equal(server_stop(&srv), 0);
    free(two);
}

static void an_object_copied_over_the_old_one_leaves_running_code_alone(void **state)
{
    struct server *srv = start("");
    char *two = make(srv->dir, "two", "2", "", "");

    (void)state;
    put_object(srv, "cp", two);
    for (int i = 0; i < 20; i++)
        check_says(srv, "1 one");
    reload(srv, 0, NULL);
    check_says(srv, "2 one");
    assert_int_equal(server_crash_count(srv), 0);
    assert_int_equal(server_stop(&srv), 0);
    free(two);
}

static void a_request_that_sleeps_ends_in_its_own_version(void **state)
{
    struct server *srv = start("");
    char *two = make(srv->dir, "two", "2", "", "");
    struct conn *slow = conn_open(srv->port[0]);
    struct response *res;
    pid_t old[8];
    size_t n = server_children(srv, "bh-worker", old, 8);

    (void)state;
    conn_sendf(slow, "GET /wait/1500 HTTP/1.1\r\nHost: x\r\n\r\n");
    put_object(srv, "mv", two);
    reload(srv, 0, NULL);
    check_says(srv, "2 one");
    res = conn_response(slow, "GET");
    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, "1 one");
    response_free(&res);
    eventually(conn_says(slow, "2 one")); /* its connection goes on in the new one */
    for (size_t i = 0; i < n; i++)
        eventually(kill(old[i], 0) < 0); /* with all that they had mapped */
    conn_close(&slow);
    assert_int_equal(server_stop(&srv), 0);
    free(two);
}

/* One that waits for a ticket, one whose body is on its way: 300 times 64 KiB, which nobody reads yet. */
static void suspended_and_streaming_requests_end_where_they_began(void **state)
{
    struct server *srv = start("");
    struct conn *paused = conn_open(srv->port[0]), *stream = conn_open(srv->port[0]);
    char *next = make(srv->dir, "next", "2", "", "");
    struct response *res;

    (void)state;
    conn_sendf(paused, "GET /pause/x?do=reply&delay=700 HTTP/1.1\r\nHost: a\r\n\r\n");
    conn_sendf(stream, "GET /stream/x?n=300&size=65536&via=pull HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(!conn_is_idle(stream));
    put_object(srv, "mv", next);
    reload(srv, 0, NULL);
    check_says(srv, "2 one");
    res = conn_response(stream, "GET");
    assert_int_equal(res->status, 200);
    assert_false(res->truncated);
    assert_int_equal(res->body_len, 300 * 65536);
    response_free(&res);
    res = conn_response(paused, "GET");
    assert_int_equal(res->status, 201);
    response_free(&res);
    conn_close(&paused);
    conn_close(&stream);
    free(next);
    assert_int_equal(server_stop(&srv), 0);
}

static void listeners_come_and_go(void **state)
{
    struct server *srv = start("");
    struct conn *conn;
    struct response *res;

    (void)state;
    server_rewrite_config(srv, CONFIG, "  - {name: b, address: \"127.0.0.1:@PORT1@\"}\n", "two", "",
                          "");
    reload(srv, 0, "+ listeners[b]");
    conn = conn_open(srv->port[1]);
    res = conn_request(conn, "GET", "/", NULL, NULL, 0);
    assert_string_equal(res->body, "1 two");
    response_free(&res);
    server_rewrite_config(srv, CONFIG, "", "two", "", "");
    reload(srv, 0, "- listeners[b]");
    eventually(!conn_is_idle(conn)); /* its listener is gone: closed, not left hanging */
    conn_close(&conn);
    check_says(srv, "1 two");
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- what plugins keep in memory ---- */

/* Counts requests; `version` of the format, what save() and restore() do beside. */
static char *make_counter(const char *dir, const char *name, const char *version,
                          const char *in_save, const char *in_restore)
{
    char text[4096];

    snprintf(
        text, sizeof text,
        "#include <bulkhead.h>\n"
        "#include <stdlib.h>\n"
        "struct config { const char *text; };\n"
        "static const bh_opt options[] = {BH_STR(struct config, text, \"\", \"\"), BH_OPT_END};\n"
        "static struct { long n; char pad[100000]; } it;\n"
        "static bh_rc open_it(bh_inst *inst, const void *cfg, void **self)\n"
        "{ (void)inst; (void)cfg; *self = &it; return BH_OK; }\n"
        "static bh_rc save(void *self, void *buf, size_t *n)\n"
        "{ size_t room = *n; %s *n = sizeof it; if (room < sizeof it) return BH_ELIMIT;\n"
        "  memcpy(buf, self, sizeof it); return BH_OK; }\n"
        "static bh_rc restore(void *self, uint32_t from, const void *p, size_t n)\n"
        "{ %s if (n != sizeof it) return BH_FAIL; memcpy(self, p, n); return BH_OK; }\n"
        "static bh_rc answer(void *self, bh_req *req, void *ctx)\n"
        "{ char text[64]; (void)self; (void)ctx;\n"
        "  snprintf(text, sizeof text, \"v%s %%ld\", ++it.n);\n"
        "  return bh_reply(req, 200, \"text/plain\", text); }\n"
        "BH_PLUGIN(\"v\", \"%s\", .summary = \"Counts\", .options = options,\n"
        "          .cfg_size = sizeof(struct config), .state_version = %s, .open = open_it,\n"
        "          .save = save, .restore = restore, .on_request = answer)\n",
        in_save, in_restore, version, version, version);
    return plugin_build(dir, name, text);
}

/* One worker, so that there is one count. */
static struct server *start_counter(void)
{
    char *dir = tmp_dir(), *object = make_counter(dir, "v", "1", "", "");
    struct server *srv = server_start_in(
        dir, "version: 1\n"
             "server: {workers: 1}\n"
             "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
             "plugins: {v: {module: @DIR@/v.so, deadline: {save: 300ms}}}\n"
             "routes: [{chain: [v]}]\n"
             "crash: {dir: @DIR@/crashes}\n");

    server_wait_log(srv, "serving on");
    for (int i = 0; i < 20; i++) {
        struct response *res = server_get(srv, "/");

        assert_int_equal(res->status, 200);
        response_free(&res);
    }
    free(object);
    free(dir);
    return srv;
}

static void use_counter(struct server *srv, const char *version, const char *in_save,
                        const char *in_restore)
{
    char *object = make_counter(srv->dir, "next", version, in_save, in_restore);

    put_object(srv, "cp", object);
    reload(srv, 0, NULL);
    free(object);
}

static void state_goes_to_the_next_version_and_back(void **state)
{
    struct server *srv = start_counter();

    (void)state;
    use_counter(srv, "2", "", "if (from != 1) return BH_FAIL;");
    check_says(srv, "v2 21");
    use_counter(srv, "1", "", "if (from != 2) return BH_FAIL;");
    check_says(srv, "v1 22");
    assert_int_equal(server_stop(&srv), 0);
}

static void state_that_cannot_be_saved_or_restored_is_lost_and_nothing_else(void **state)
{
    struct server *srv = start_counter();

    (void)state;
    use_counter(srv, "2", "abort();", "return BH_FAIL;");
    server_wait_log(srv, "restore() failed (-1); its state is lost");
    check_says(srv, "v2 1");
    use_counter(srv, "3", "for (;;) pause();", "abort();");
    server_wait_log(srv, "save() crashed with SIGABRT");
    check_says(srv, "v3 1");
    use_counter(srv, "4", "", "abort();"); /* which is not called: save() of 3 never came back */
    server_wait_log(srv, "save() ran past its deadline");
    check_says(srv, "v4 1");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_restore_that_crashes_over_the_real_state_is_refused(void **state)
{
    struct server *srv = start_counter();
    char *object = make_counter(srv->dir, "next", "2", "",
                                "if (((const long *)p)[0] == 20) abort();");

    (void)state;
    put_object(srv, "cp", object);
    reload(srv, 2, "restore() crashed, or ran past its deadline, over the state of the version");
    reload(srv, 2, "is in quarantine since");
    check_says(srv, "v1 21");
    free(object);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- under load ---- */

static struct {
    _Atomic bool must_end;
    _Atomic int n, n_bad;
    int port;
} load;

static void *ask_on(void *arg)
{
    struct conn *conn = conn_open(load.port);

    (void)arg;
    while (!atomic_load(&load.must_end)) {
        struct response *res = conn_request(conn, "GET", "/", NULL, NULL, 0);

        if (res->status != 200 || strncmp(res->body, "1 ", 2) != 0)
            atomic_fetch_add(&load.n_bad, 1);
        atomic_fetch_add(&load.n, 1);
        response_free(&res);
    }
    conn_close(&conn);
    return NULL;
}

static void a_hundred_reloads_under_load_lose_nothing(void **state)
{
    struct server *srv = start("");
    pthread_t thread[4];
    pid_t pid[64];

    (void)state;
    load.port = srv->port[0];
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, ask_on, NULL);
    for (int i = 0; i < 100; i++) {
        char text[32];

        snprintf(text, sizeof text, "%d", i);
        server_rewrite_config(srv, CONFIG, "", text, "", "");
        reload(srv, 0, NULL);
    }
    atomic_store(&load.must_end, true);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(load.n_bad, 0);
    assert_true(load.n > 100);
    assert_true(generation(srv) >= 101); /* one that was late to say so was asked for again */
    check_says(srv, "1 99");
    /* Of those before nothing is left: workers, and their copies of objects. */
    eventually(server_children(srv, NULL, pid, 64) == 4); /* two workers, standby, recorder */
    assert_int_equal(server_stop(&srv), 0);
}

/* True: answered, or nobody listens. */
static bool knock(int port)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval most = {.tv_sec = 30};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[16] = "";
    bool is_well = true;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0)
        is_well = send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == sizeof request - 1 &&
                  recv(fd, text, 12, MSG_WAITALL) == 12 && strcmp(text, "HTTP/1.1 200") == 0;
    close(fd);
    return is_well;
}

static void *knock_on(void *arg)
{
    (void)arg;
    while (!atomic_load(&load.must_end)) {
        if (!knock(load.port))
            atomic_fetch_add(&load.n_bad, 1);
        atomic_fetch_add(&load.n, 1);
    }
    return NULL;
}

/* Whoever got in before the door was shut: nothing is reset in the queue. */
static void who_has_connected_to_a_listener_that_goes_is_answered(void **state)
{
    static const char b[] = "  - {name: b, address: \"127.0.0.1:@PORT1@\"}\n";
    struct server *srv = start("");
    pthread_t thread[8];
    pid_t pid[64];

    (void)state;
    server_rewrite_config(srv, CONFIG, b, "two", "", "");
    reload(srv, 0, "+ listeners[b]");
    load.port = srv->port[1];
    load.n = load.n_bad = 0;
    atomic_store(&load.must_end, false);
    for (int i = 0; i < 8; i++)
        pthread_create(&thread[i], NULL, knock_on, NULL);
    for (int i = 0; i < 4; i++) {
        int before = load.n;

        eventually(load.n > before + 100);
        server_rewrite_config(srv, CONFIG, "", "two", "", "");
        reload(srv, 0, "- listeners[b]");
        eventually(server_children(srv, NULL, pid, 64) == 4); /* its sockets are gone */
        server_rewrite_config(srv, CONFIG, b, "two", "", "");
        reload(srv, 0, "+ listeners[b]");
    }
    atomic_store(&load.must_end, true);
    for (int i = 0; i < 8; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(load.n_bad, 0);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- what could never be unloaded ---- */

/* Static TLS runs out, a unique symbol and a thread keep an object for ever: of a process that loads ever
 * new ones. Here each generation has its own. */
static void objects_that_cannot_be_unloaded_are_reloaded_ever_again(void **state)
{
    struct server *srv = start("");
    char *next = make(
        srv->dir, "next", "v000",
        "#include <pthread.h>\n"
        "static __thread char tls[200] __attribute__((tls_model(\"initial-exec\")));\n"
        "__asm__(\".type unique, @gnu_unique_object\\n.globl unique\\n\"\n"
        "        \".data\\nunique: .long 1\\n.size unique, 4\\n.text\\n\");\n"
        "static void *sleep_on(void *arg) { for (;;) pause(); return arg; }\n"
        "#define START pthread_t t; pthread_create(&t, NULL, sleep_on, NULL)\n",
        "tls[0] = 1;");
    char command[512];

    (void)state;
    for (int i = 1; i <= 100; i++) {
        /* The same length: a copy of the object with another number in its text is another version. */
        snprintf(command, sizeof command, "sed s/v000/v%03d/g %s >", i, next);
        assert_int_equal(run_command(NULL, "%s %s/v.so", command, srv->dir), 0);
        reload(srv, 0, NULL);
    }
    check_says(srv, "v100 one");
    eventually(server_children(srv, NULL, NULL, 0) == 4);
    assert_int_equal(server_crash_count(srv), 0);
    assert_int_equal(server_stop(&srv), 0);
    free(next);
}

/* ---- what is refused ---- */

static void check_refused(const char *version, const char *globals, const char *in_open,
                          const char *said)
{
    struct server *srv = start("");
    char *bad = make(srv->dir, "bad", version, globals, in_open);
    pid_t before[8], after[8];
    size_t n = server_children(srv, "bh-worker", before, 8);

    put_object(srv, "mv", bad);
    reload(srv, 2, said);
    check_says(srv, "1 one");
    assert_int_equal(server_children(srv, "bh-worker", after, 8), n);
    assert_memory_equal(before, after, n * sizeof before[0]);
    assert_int_equal(generation(srv), 1);
    assert_int_equal(server_stop(&srv), 0);
    free(bad);
}

static void a_constructor_that_crashes_is_refused(void **state)
{
    (void)state;
    check_refused("2", "__attribute__((constructor)) static void c(void) { __builtin_trap(); }", "",
                  "crashed with SIGILL in its constructor");
}

static void a_constructor_that_exits_is_refused(void **state)
{
    (void)state;
    check_refused("2", "__attribute__((constructor)) static void c(void) { exit(0); }", "",
                  "its constructor");
}

static void an_undefined_symbol_is_named(void **state)
{
    (void)state;
    check_refused("2", "extern int nobody_has_this(void);", "return nobody_has_this();",
                  "nobody_has_this");
}

static void an_open_that_crashes_is_refused(void **state)
{
    (void)state;
    check_refused("2", "", "abort();", "open()");
}

/* The trial is the first to open it, the standby ... of the candidates one fails. */
static void an_open_that_fails_in_one_worker_lets_none_serve_it(void **state)
{
    char globals[512];
    char *dir = tmp_dir();

    (void)state;
    snprintf(
        globals, sizeof globals,
        "#include <fcntl.h>\n" /* workers open it at the same time: each number is taken once */
        "static int is_third(void) { int n = 0; char p[] = \"%s/0\";\n"
        "while (open(p, O_CREAT | O_EXCL, 0600) < 0 && n < 9) p[sizeof p - 2]++, n++;\n"
        "return n == 2; }",
        dir);
    check_refused("2", globals, "if (is_third()) return BH_EINVAL;", "prepare");
    free(dir);
}

static void half_an_object_is_refused_and_the_whole_one_accepted(void **state)
{
    struct server *srv = start("");
    char *two = make(srv->dir, "two", "2", "", "");

    (void)state;
    assert_int_equal(run_command(NULL, "head -c 9000 %s > %s/v.so", two, srv->dir), 0);
    reload(srv, 2, "v.so");
    check_says(srv, "1 one");
    put_object(srv, "cp", two);
    reload(srv, 0, NULL);
    check_says(srv, "2 one");
    assert_int_equal(server_stop(&srv), 0);
    free(two);
}

static void one_bad_key_changes_nothing_and_names_its_line(void **state)
{
    struct server *srv = start("");

    (void)state;
    server_rewrite_config(srv, CONFIG, "", "two", ", deadlin: 5s", "");
    reload(srv, 2, "bulkhead.yaml:8:");
    check_says(srv, "1 one");
    assert_int_equal(ask(srv, "status > /dev/null", NULL),
                     3); /* what is on disk is not what runs */
    server_rewrite_config(srv, CONFIG, "", "two", "", "");
    reload(srv, 0, NULL);
    check_says(srv, "1 two");
    assert_int_equal(ask(srv, "status > /dev/null", NULL), 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void what_only_a_restart_can_change_is_refused(void **state)
{
    struct server *srv = start("");

    (void)state;
    assert_int_equal(run_command(NULL, "sed -i 's/workers: 2/workers: 3/' %s", srv->config), 0);
    reload(srv, 2, "server.workers cannot be changed by a reload");
    assert_int_equal(generation(srv), 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_taken_address_changes_nothing(void **state)
{
    struct server *srv = start(""), *other = start("");
    char listener[128];

    (void)state;
    snprintf(listener, sizeof listener, "  - {name: b, address: \"127.0.0.1:%d\"}\n",
             other->port[0]);
    server_rewrite_config(srv, CONFIG, listener, "two", "", "");
    reload(srv, 2, "cannot listen on");
    check_says(srv, "1 one");
    assert_int_equal(server_stop(&other), 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void diff_says_what_would_change_and_changes_nothing(void **state)
{
    struct server *srv = start("");
    char *out;

    (void)state;
    server_rewrite_config(srv, CONFIG, "", "hush", ", deadline: 1s", "");
    assert_int_equal(ask(srv, "diff", &out), 0);
    assert_non_null(strstr(out, "~ plugins.v.config.text  (new workers)"));
    assert_non_null(strstr(out, "+ plugins.v.deadline: 1s  (new workers)"));
    assert_null(strstr(out, "hush"));
    free(out);
    assert_int_equal(generation(srv), 1);
    check_says(srv, "1 one");
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- accidents ---- */

static void a_worker_killed_before_and_after_leaves_one_generation_everywhere(void **state)
{
    struct server *srv = start("");
    pid_t pid[8];

    (void)state;
    for (int i = 0; i < 10; i++) {
        char text[32];

        snprintf(text, sizeof text, "%d", i);
        server_rewrite_config(srv, CONFIG, "", text, "", "respawn: {restarts: 100}\n");
        kill(srv->pid, SIGHUP);
        if (server_children(srv, "bh-worker", pid, 8) > 0)
            kill(pid[i % 2], SIGKILL);
        reload(srv, 0, NULL);
        snprintf(text, sizeof text, "1 %d", i);
        for (int k = 0; k < 10; k++)
            check_says(srv, text);
    }
    eventually(server_children(srv, NULL, NULL, 0) == 4);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_fatal_crash_during_a_reload_loses_no_idle_connection(void **state)
{
    struct server *srv = start("");
    struct conn *conn[50], *culprit = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    for (int i = 0; i < 50; i++) {
        conn[i] = conn_open(srv->port[0]);
        res = conn_request(conn[i], "GET", "/", NULL, NULL, 0);
        response_free(&res);
    }
    server_rewrite_config(srv, CONFIG, "", "two", "", "");
    conn_sendf(culprit, "GET /fatal?at=gone HTTP/1.1\r\nHost: x\r\n\r\n");
    reload(srv, 0, NULL);
    res = conn_response(culprit, "GET");
    assert_int_equal(res->status, 500);
    response_free(&res);
    for (int i = 0; i < 50; i++) {
        res = conn_request(conn[i], "GET", "/", NULL, NULL, 0);
        assert_string_equal(res->body, "1 two");
        response_free(&res);
        conn_close(&conn[i]);
    }
    conn_close(&culprit);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- by itself ---- */

#define WATCH "reload: {watch: true}\n"

static void wait_for_generation(struct server *srv, int n)
{
    char text[64];

    snprintf(text, sizeof text, "generation %d serves", n);
    server_wait_log(srv, text);
}

static void each_way_to_change_a_file_makes_one_reload(void **state)
{
    static const char *const ways[] = {
        "sed -i s/one/two/ $f",                              /* a new file, renamed */
        "sed s/two/three/ $f > $f.new && cat $f.new > $f",   /* in place */
        "sed s/three/four/ $f > $f.new && mv $f.new $f",     /* atomically */
        "sed s/four/five/ $f > $f.new && install $f.new $f", /* unlinked, made anew */
        "mv $f $f~ && sed s/five/six/ $f~ > $f",             /* as vim does */
    };
    struct server *srv = start(WATCH);
    int n = (int)(sizeof ways / sizeof ways[0]);

    (void)state;
    for (int i = 0; i < n; i++) {
        assert_int_equal(run_command(NULL, "f=%s; %s", srv->config, ways[i]), 0);
        wait_for_generation(srv, i + 2);
    }
    check_says(srv, "1 six");
    assert_int_equal(run_command(NULL, "touch %s", srv->config), 0);
    assert_int_equal(run_command(NULL, "echo '# a comment' >> %s", srv->config), 0);
    reload(srv, 0, NULL); /* the one that is asked for comes after those that were not */
    assert_int_equal(generation(srv), n + 2);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_object_that_is_replaced_makes_one_reload(void **state)
{
    struct server *srv = start(WATCH);
    char *two = make(srv->dir, "two", "2", "", "");

    (void)state;
    put_object(srv, "cp", two);
    wait_for_generation(srv, 2);
    check_says(srv, "2 one");
    assert_int_equal(generation(srv), 2);
    assert_int_equal(server_stop(&srv), 0);
    free(two);
}

/* As Kubernetes does it: ..data is a link to the folder of the day. */
static void the_link_of_a_config_map_is_followed(void **state)
{
    char *dir = tmp_dir(), *object = make(dir, "v", "1", "", "");
    struct server *srv;
    char *text;

    (void)state;
    srv = server_start_in(dir, CONFIG, "", "one", "", WATCH);
    server_wait_log(srv, "serving on");
    assert_int_equal(
        run_command(
            NULL,
            "cd %s && mkdir day1 && cp bulkhead.yaml day1/ && ln -s day1 ..data && "
            "ln -s ..data/bulkhead.yaml new && mv -T new bulkhead.yaml && touch bulkhead.yaml",
            srv->dir),
        0);
    reload(srv, 0, NULL);
    assert_int_equal(
        run_command(NULL,
                    "cd %s && mkdir day2 && sed s/one/two/ day1/bulkhead.yaml > day2/bulkhead.yaml "
                    "&& ln -s day2 ..tmp && mv -T ..tmp ..data",
                    srv->dir),
        0);
    wait_for_generation(srv, 3);
    check_says(srv, "1 two");
    text = server_log(srv);
    assert_null(strstr(text, "generation 4"));
    free(text);
    assert_int_equal(server_stop(&srv), 0);
    free(object);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_changed_option_is_served_and_idle_connections_stay),
        cmocka_unit_test(sighup_reloads_and_the_master_stays),
        cmocka_unit_test(an_object_moved_into_place_runs_new_code),
        cmocka_unit_test(an_object_copied_over_the_old_one_leaves_running_code_alone),
        cmocka_unit_test(a_request_that_sleeps_ends_in_its_own_version),
        cmocka_unit_test(suspended_and_streaming_requests_end_where_they_began),
        cmocka_unit_test(listeners_come_and_go),
        cmocka_unit_test(state_goes_to_the_next_version_and_back),
        cmocka_unit_test(state_that_cannot_be_saved_or_restored_is_lost_and_nothing_else),
        cmocka_unit_test(a_restore_that_crashes_over_the_real_state_is_refused),
        cmocka_unit_test(a_hundred_reloads_under_load_lose_nothing),
        cmocka_unit_test(who_has_connected_to_a_listener_that_goes_is_answered),
        cmocka_unit_test(objects_that_cannot_be_unloaded_are_reloaded_ever_again),
        cmocka_unit_test(a_constructor_that_crashes_is_refused),
        cmocka_unit_test(a_constructor_that_exits_is_refused),
        cmocka_unit_test(an_undefined_symbol_is_named),
        cmocka_unit_test(an_open_that_crashes_is_refused),
        cmocka_unit_test(an_open_that_fails_in_one_worker_lets_none_serve_it),
        cmocka_unit_test(half_an_object_is_refused_and_the_whole_one_accepted),
        cmocka_unit_test(one_bad_key_changes_nothing_and_names_its_line),
        cmocka_unit_test(what_only_a_restart_can_change_is_refused),
        cmocka_unit_test(a_taken_address_changes_nothing),
        cmocka_unit_test(diff_says_what_would_change_and_changes_nothing),
        cmocka_unit_test(a_worker_killed_before_and_after_leaves_one_generation_everywhere),
        cmocka_unit_test(a_fatal_crash_during_a_reload_loses_no_idle_connection),
        cmocka_unit_test(each_way_to_change_a_file_makes_one_reload),
        cmocka_unit_test(an_object_that_is_replaced_makes_one_reload),
        cmocka_unit_test(the_link_of_a_config_map_is_followed),
    };

    cmocka_set_test_filter(getenv("ONLY")); /* by hand: ONLY='a_hundred*' build/tests/... */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
