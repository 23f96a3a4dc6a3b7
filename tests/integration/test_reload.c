/*
 * test_reload.c - another config and other plugins, while requests are served: what moves, what
 * stays, what is refused.
 */
#include "reload_scene.h"

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

/* ---- what moves ---- */

static void a_changed_option_is_served_and_idle_connections_stay(void **state)
{
    struct server *srv = reload_start("");
    struct conn *conn[20];

    (void)state;
    for (int i = 0; i < 20; i++) {
        struct response *res;

        conn[i] = conn_open(srv->port[0]);
        res = conn_request(conn[i], "GET", "/", NULL, NULL, 0);
        assert_string_equal(res->body, "1 one");
        response_free(&res);
    }
    server_rewrite_config(srv, RELOAD_CONFIG, "", "two", "", "");
    reload_now(srv, 0, "plugins.v.config.text");
    assert_int_equal(reload_generation(srv), 2);
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
    struct server *srv = reload_start("");

    (void)state;
    server_rewrite_config(srv, RELOAD_CONFIG, "", "two", "", "");
    kill(srv->pid, SIGHUP);
    server_wait_log(srv, "SIGHUP: generation 2 serves");
    reload_check_says(srv, "1 two");
    assert_true(server_is_running(srv));
    assert_int_equal(server_stop(&srv), 0);
}

/* It has read the config by then, and serves nobody yet: open() takes its time in the trial and in each worker. */
static void sighup_while_the_server_starts_is_done_when_it_serves(void **state)
{
    char *dir = tmp_dir(), *object = reload_make(dir, "v", "1", "", "usleep(400000);"), *log;
    struct server *srv = server_start_in(dir, RELOAD_CONFIG, "", "one", "", "");

    (void)state;
    server_rewrite_config(srv, RELOAD_CONFIG, "", "two", "", "");
    kill(srv->pid, SIGHUP);
    server_wait_log(srv, "SIGHUP: generation 2 serves");
    reload_check_says(srv, "1 two");
    log = server_log(srv);
    assert_null(strstr(log, "no reload"));
    free(log);
    assert_int_equal(server_stop(&srv), 0);
    free(object);
    free(dir);
}

static void a_reload_says_what_its_parts_took(void **state)
{
    static const char *const parts[] = {"check", "preflight", "prepare", "swap"};
    struct server *srv = reload_start("");
    json_t *json, *times;
    char *out;

    (void)state;
    server_rewrite_config(srv, RELOAD_CONFIG, "", "7", "", "");
    reload_now(srv, 0, ", swap ");
    server_rewrite_config(srv, RELOAD_CONFIG, "", "8", "", "");
    assert_int_equal(reload_ask(srv, "reload --wait --json 2>/dev/null", &out), 0);
    json = json_loads(out, 0, NULL);
    times = json_object_get(json, "times_us");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        assert_true(json_integer_value(json_object_get(times, parts[i])) > 0);
    json_decref(json);
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_object_moved_into_place_runs_new_code(void **state)
{
    struct server *srv = reload_start("");
    char *two = reload_make(srv->dir, "two", "2", "", "");

    (void)state;
    reload_put_object(srv, "mv", two);
    reload_check_says(srv, "1 one"); /* until it is told */
    reload_now(srv, 0, "plugins.v (object): 1 sha256:");
    reload_check_says(srv, "2 one");
    assert_int_equal(server_stop(&srv), 0);
    free(two);
}

static void an_object_copied_over_the_old_one_leaves_running_code_alone(void **state)
{
    struct server *srv = reload_start("");
    char *two = reload_make(srv->dir, "two", "2", "", "");

    (void)state;
    reload_put_object(srv, "cp", two);
    for (int i = 0; i < 20; i++)
        reload_check_says(srv, "1 one");
    reload_now(srv, 0, NULL);
    reload_check_says(srv, "2 one");
    assert_int_equal(server_crash_count(srv), 0);
    assert_int_equal(server_stop(&srv), 0);
    free(two);
}

static bool is_in_flight(const struct server *srv)
{
    char *out;
    bool is;

    reload_ask(srv, "metrics", &out);
    is = strstr(out, "\nbulkhead_requests_in_flight{listener=\"a\"} 1\n") != NULL;
    free(out);
    return is;
}

static void a_request_that_sleeps_ends_in_its_own_version(void **state)
{
    struct server *srv = reload_start("");
    char *two = reload_make(srv->dir, "two", "2", "", "");
    struct conn *slow = conn_open(srv->port[0]);
    struct response *res;
    pid_t old[8];
    size_t n = server_children(srv, "bh-worker", old, 8);

    (void)state;
    conn_sendf(slow, "GET /wait/1500 HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(is_in_flight(srv)); /* or the new version may have it */
    reload_put_object(srv, "mv", two);
    reload_now(srv, 0, NULL);
    reload_check_says(srv, "2 one");
    res = conn_response(slow, "GET");
    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, "1 one");
    response_free(&res);
    eventually(reload_conn_says(slow, "2 one")); /* its connection goes on in the new one */
    for (size_t i = 0; i < n; i++)
        eventually(kill(old[i], 0) < 0); /* with all that they had mapped */
    conn_close(&slow);
    assert_int_equal(server_stop(&srv), 0);
    free(two);
}

/* One that waits for a ticket, one whose body is on its way: 300 times 64 KiB, which nobody reads yet. */
static void suspended_and_streaming_requests_end_where_they_began(void **state)
{
    struct server *srv = reload_start("");
    char *next = reload_make(srv->dir, "next", "2", "",
                             ""); /* first: connections do not wait for it */
    struct conn *paused = conn_open(srv->port[0]), *stream = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    conn_sendf(paused, "GET /pause/x?do=reply&delay=700 HTTP/1.1\r\nHost: a\r\n\r\n");
    conn_sendf(stream, "GET /stream/x?n=300&size=65536&via=pull HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(!conn_is_idle(stream));
    reload_put_object(srv, "mv", next);
    reload_now(srv, 0, NULL);
    reload_check_says(srv, "2 one");
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
    struct server *srv = reload_start("");
    struct conn *conn;
    struct response *res;

    (void)state;
    server_rewrite_config(srv, RELOAD_CONFIG, "  - {name: b, address: \"127.0.0.1:@PORT1@\"}\n",
                          "two", "", "");
    reload_now(srv, 0, "+ listeners[b]");
    conn = conn_open(srv->port[1]);
    res = conn_request(conn, "GET", "/", NULL, NULL, 0);
    assert_string_equal(res->body, "1 two");
    response_free(&res);
    server_rewrite_config(srv, RELOAD_CONFIG, "", "two", "", "");
    reload_now(srv, 0, "- listeners[b]");
    eventually(!conn_is_idle(conn)); /* its listener is gone: closed, not left hanging */
    conn_close(&conn);
    reload_check_says(srv, "1 two");
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

    reload_put_object(srv, "cp", object);
    reload_now(srv, 0, NULL);
    free(object);
}

static void state_goes_to_the_next_version_and_back(void **state)
{
    struct server *srv = start_counter();

    (void)state;
    use_counter(srv, "2", "", "if (from != 1) return BH_FAIL;");
    reload_check_says(srv, "v2 21");
    use_counter(srv, "1", "", "if (from != 2) return BH_FAIL;");
    reload_check_says(srv, "v1 22");
    assert_int_equal(server_stop(&srv), 0);
}

static void state_that_cannot_be_saved_or_restored_is_lost_and_nothing_else(void **state)
{
    struct server *srv = start_counter();

    (void)state;
    use_counter(srv, "2", "abort();", "return BH_FAIL;");
    server_wait_log(srv, "restore() failed (-1); its state is lost");
    reload_check_says(srv, "v2 1");
    use_counter(srv, "3", "for (;;) pause();", "abort();");
    server_wait_log(srv, "save() crashed with SIGABRT");
    reload_check_says(srv, "v3 1");
    use_counter(srv, "4", "", "abort();"); /* which is not called: save() of 3 never came back */
    server_wait_log(srv, "save() ran past its deadline");
    reload_check_says(srv, "v4 1");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_restore_that_crashes_over_the_real_state_is_refused(void **state)
{
    struct server *srv = start_counter();
    char *object = make_counter(srv->dir, "next", "2", "",
                                "if (((const long *)p)[0] == 20) abort();");

    (void)state;
    reload_put_object(srv, "cp", object);
    reload_now(srv, 2,
               "restore() crashed, or ran past its deadline, over the state of the version");
    reload_now(srv, 2, "is in quarantine since");
    reload_check_says(srv, "v1 21");
    free(object);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- what is refused ---- */

static void check_refused(const char *version, const char *globals, const char *in_open,
                          const char *said)
{
    struct server *srv = reload_start("");
    char *bad = reload_make(srv->dir, "bad", version, globals, in_open);
    pid_t before[8], after[8];
    size_t n = server_children(srv, "bh-worker", before, 8);

    reload_put_object(srv, "mv", bad);
    reload_now(srv, 2, said);
    reload_check_says(srv, "1 one");
    eventually(server_children(srv, "bh-worker", after, 8) ==
               n); /* the others may be ending still */
    assert_memory_equal(before, after, n * sizeof before[0]);
    assert_int_equal(reload_generation(srv), 1);
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
    struct server *srv = reload_start("");
    char *two = reload_make(srv->dir, "two", "2", "", "");

    (void)state;
    assert_int_equal(run_command(NULL, "head -c 9000 %s > %s/v.so", two, srv->dir), 0);
    reload_now(srv, 2, "v.so");
    reload_check_says(srv, "1 one");
    reload_put_object(srv, "cp", two);
    reload_now(srv, 0, NULL);
    reload_check_says(srv, "2 one");
    assert_int_equal(server_stop(&srv), 0);
    free(two);
}

static void one_bad_key_changes_nothing_and_names_its_line(void **state)
{
    struct server *srv = reload_start("");

    (void)state;
    server_rewrite_config(srv, RELOAD_CONFIG, "", "two", ", deadlin: 5s", "");
    reload_now(srv, 2, "bulkhead.yaml:8:");
    reload_check_says(srv, "1 one");
    assert_int_equal(reload_ask(srv, "status > /dev/null", NULL),
                     3); /* what is on disk is not what runs */
    server_rewrite_config(srv, RELOAD_CONFIG, "", "two", "", "");
    reload_now(srv, 0, NULL);
    reload_check_says(srv, "1 two");
    assert_int_equal(reload_ask(srv, "status > /dev/null", NULL), 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void what_only_a_restart_can_change_is_refused(void **state)
{
    struct server *srv = reload_start("");

    (void)state;
    assert_int_equal(run_command(NULL, "sed -i 's/workers: 2/workers: 3/' %s", srv->config), 0);
    reload_now(srv, 2, "server.workers cannot be changed by a reload");
    assert_int_equal(reload_generation(srv), 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_taken_address_changes_nothing(void **state)
{
    struct server *srv = reload_start(""), *other = reload_start("");
    char listener[128];

    (void)state;
    snprintf(listener, sizeof listener, "  - {name: b, address: \"127.0.0.1:%d\"}\n",
             other->port[0]);
    server_rewrite_config(srv, RELOAD_CONFIG, listener, "two", "", "");
    reload_now(srv, 2, "cannot listen on");
    reload_check_says(srv, "1 one");
    assert_int_equal(server_stop(&other), 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void diff_says_what_would_change_and_changes_nothing(void **state)
{
    struct server *srv = reload_start("");
    char *out;

    (void)state;
    server_rewrite_config(srv, RELOAD_CONFIG, "", "hush", ", deadline: 1s", "");
    assert_int_equal(reload_ask(srv, "diff", &out), 0);
    assert_non_null(strstr(out, "~ plugins.v.config.text  (new workers)"));
    assert_non_null(strstr(out, "+ plugins.v.deadline: 1s  (new workers)"));
    assert_null(strstr(out, "hush"));
    free(out);
    assert_int_equal(reload_generation(srv), 1);
    reload_check_says(srv, "1 one");
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- accidents ---- */

static void a_worker_killed_before_and_after_leaves_one_generation_everywhere(void **state)
{
    struct server *srv = reload_start("");
    pid_t pid[8];

    (void)state;
    for (int i = 0; i < 10; i++) {
        char text[32];

        snprintf(text, sizeof text, "%d", i);
        server_rewrite_config(srv, RELOAD_CONFIG, "", text, "", "respawn: {restarts: 100}\n");
        kill(srv->pid, SIGHUP);
        if (server_children(srv, "bh-worker", pid, 8) > 0)
            kill(pid[i % 2], SIGKILL);
        reload_now(srv, 0, NULL);
        snprintf(text, sizeof text, "1 %d", i);
        for (int k = 0; k < 10; k++)
            reload_check_says(srv, text);
    }
    eventually(server_children(srv, NULL, NULL, 0) == 4);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_fatal_crash_during_a_reload_loses_no_idle_connection(void **state)
{
    struct server *srv = reload_start("");
    struct conn *conn[50], *culprit = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    for (int i = 0; i < 50; i++) {
        conn[i] = conn_open(srv->port[0]);
        res = conn_request(conn[i], "GET", "/", NULL, NULL, 0);
        response_free(&res);
    }
    server_rewrite_config(srv, RELOAD_CONFIG, "", "two", "", "");
    conn_sendf(culprit, "GET /fatal?at=gone HTTP/1.1\r\nHost: x\r\n\r\n");
    reload_now(srv, 0, NULL);
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
    struct server *srv = reload_start(WATCH);
    int n = (int)(sizeof ways / sizeof ways[0]);

    (void)state;
    for (int i = 0; i < n; i++) {
        assert_int_equal(run_command(NULL, "f=%s; %s", srv->config, ways[i]), 0);
        wait_for_generation(srv, i + 2);
    }
    reload_check_says(srv, "1 six");
    assert_int_equal(run_command(NULL, "touch %s", srv->config), 0);
    assert_int_equal(run_command(NULL, "echo '# a comment' >> %s", srv->config), 0);
    reload_now(srv, 0, NULL); /* the one that is asked for comes after those that were not */
    assert_int_equal(reload_generation(srv), n + 2);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_object_that_is_replaced_makes_one_reload(void **state)
{
    struct server *srv = reload_start(WATCH);
    char *two = reload_make(srv->dir, "two", "2", "", "");

    (void)state;
    reload_put_object(srv, "cp", two);
    wait_for_generation(srv, 2);
    reload_check_says(srv, "2 one");
    assert_int_equal(reload_generation(srv), 2);
    assert_int_equal(server_stop(&srv), 0);
    free(two);
}

/* The reload that was asked for has taken it in already. */
static void a_change_seen_during_a_reload_makes_no_other(void **state)
{
    char *dir = tmp_dir(), *object = reload_make(dir, "v", "1", "", "usleep(400000);");
    struct server *srv = server_start_in(dir, RELOAD_CONFIG, "", "one", "", WATCH);
    char *text, *at;

    (void)state;
    server_wait_log(srv, "serving on");
    server_rewrite_config(srv, RELOAD_CONFIG, "", "two", "", WATCH);
    assert_int_equal(kill(srv->pid, SIGHUP), 0);
    server_wait_log(srv, "SIGHUP: generation");
    reload_check_says(srv, "1 two");
    reload_now(srv, 0, NULL); /* when all has been done that was to be done */
    text = server_log(srv);
    at = strstr(text, "SIGHUP: generation"); /* on a busy machine the other one may come first */
    assert_null(strstr(at, "reload.watch: generation"));
    assert_null(strstr(at + 1, "SIGHUP: generation"));
    free(text);
    assert_int_equal(server_stop(&srv), 0);
    free(object);
    free(dir);
}

/* As Kubernetes does it: ..data is a link to the folder of the day. */
static void the_link_of_a_config_map_is_followed(void **state)
{
    char *dir = tmp_dir(), *object = reload_make(dir, "v", "1", "", "");
    struct server *srv;
    char *text, next[32];
    int n;

    (void)state;
    srv = server_start_in(dir, RELOAD_CONFIG, "", "one", "", WATCH);
    server_wait_log(srv, "serving on");
    assert_int_equal(
        run_command(
            NULL,
            "cd %s && mkdir day1 && cp bulkhead.yaml day1/ && ln -s day1 ..data && "
            "ln -s ..data/bulkhead.yaml new && mv -T new bulkhead.yaml && touch bulkhead.yaml",
            srv->dir),
        0);
    reload_now(srv, 0, NULL);
    n = reload_generation(srv) + 1; /* on a busy machine it may have taken more than one attempt */
    assert_int_equal(
        run_command(NULL,
                    "cd %s && mkdir day2 && sed s/one/two/ day1/bulkhead.yaml > day2/bulkhead.yaml "
                    "&& ln -s day2 ..tmp && mv -T ..tmp ..data",
                    srv->dir),
        0);
    wait_for_generation(srv, n);
    reload_check_says(srv, "1 two");
    snprintf(next, sizeof next, "generation %d", n + 1);
    text = server_log(srv);
    assert_null(strstr(text, next));
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
        cmocka_unit_test(sighup_while_the_server_starts_is_done_when_it_serves),
        cmocka_unit_test(a_reload_says_what_its_parts_took),
        cmocka_unit_test(an_object_moved_into_place_runs_new_code),
        cmocka_unit_test(an_object_copied_over_the_old_one_leaves_running_code_alone),
        cmocka_unit_test(a_request_that_sleeps_ends_in_its_own_version),
        cmocka_unit_test(suspended_and_streaming_requests_end_where_they_began),
        cmocka_unit_test(listeners_come_and_go),
        cmocka_unit_test(state_goes_to_the_next_version_and_back),
        cmocka_unit_test(state_that_cannot_be_saved_or_restored_is_lost_and_nothing_else),
        cmocka_unit_test(a_restore_that_crashes_over_the_real_state_is_refused),
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
        cmocka_unit_test(a_change_seen_during_a_reload_makes_no_other),
        cmocka_unit_test(the_link_of_a_config_map_is_followed),
    };

    cmocka_set_test_filter(getenv("ONLY")); /* by hand: ONLY='a_hundred*' build/tests/... */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
