/*
 * test_metrics.c - `bulkhead metrics`: what requests, plugins and the master count, and that it goes on
 * over crashes, workers and reloads.
 */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char config[] = "version: 1\n"
                             "server: {workers: %d}\n"
                             "listeners: [{name: front, address: \"127.0.0.1:@PORT@\"}]\n"
                             "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                             "breaker: {crashes: 0}\n"
                             "plugins:\n"
                             "  fig: {module: figures}\n"
                             "  f: {module: fault, config: {from_request: true, reply: false}}\n"
                             "  ok: {module: respond, config: {body: %s}}\n"
                             "routes: [{chain: [fig, f, ok]}]\n"
                             "crash: {dir: @DIR@/crashes}\n";

static struct server *start(int workers)
{
    struct server *srv = server_start(config, workers, "ok");

    server_wait_log(srv, "serving on");
    return srv;
}

/* The value of the sample; -1: it is not there. */
static double value(const struct server *srv, const char *sample)
{
    char key[256], *text, *p;
    double v = -1;

    assert_int_equal(run_command(&text, "RUNTIME_DIRECTORY=%s %s metrics -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    snprintf(key, sizeof key, "\n%s ", sample);
    p = strstr(text, key);
    if (p != NULL)
        v = atof(p + strlen(key));
    free(text);
    return v;
}

#define PLUGIN(NAME)  NAME "{plugin=\"fig\"}"
#define FIGURE(LABEL) "figures_total{plugin=\"fig\",l=\"" LABEL "\"}"
#define REQUESTS(CODE) \
    "bulkhead_requests_total{listener=\"front\",method=\"GET\",code=\"" CODE "\"}"

static int get(struct server *srv, const char *target)
{
    struct response *res = server_get(srv, target);
    int status = res->status;

    response_free(&res);
    return status;
}

static void requests_are_counted_and_timed(void **state)
{
    struct server *srv = start(2);

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(get(srv, "/"), 200);
    assert_int_equal(get(srv, "/?fault=segv"), 500);
    /* Each worker counts its own when the answer is on its way. */
    eventually(value(srv, REQUESTS("2xx")) == 10 && value(srv, REQUESTS("5xx")) == 1 &&
               value(srv, "bulkhead_requests_in_flight{listener=\"front\"}") == 0);
    assert_true(value(srv, "bulkhead_request_duration_seconds_count{listener=\"front\"}") == 11);
    assert_true(value(srv, "bulkhead_request_first_byte_seconds_count{listener=\"front\"}") == 11);
    assert_true(value(srv, "bulkhead_request_duration_seconds_sum{listener=\"front\"}") > 0);
    assert_true(value(srv, "bulkhead_connections_accepted_total{listener=\"front\"}") >= 11);
    assert_true(value(srv, "bulkhead_sent_bytes_total{listener=\"front\"}") > 11 * 17);
    assert_true(value(srv, "bulkhead_workers_ready") == 2);
    assert_true(value(srv, "bulkhead_plugin_calls_total{plugin=\"fig\",hook=\"on_request\"}") ==
                11);
    assert_true(
        value(srv, "bulkhead_plugin_timed_calls_total{plugin=\"fig\",hook=\"on_request\"}") >= 1);
    assert_true(value(srv, "bulkhead_plugin_crashes_total{plugin=\"f\",kind=\"SIGSEGV\"}") == 1);
    assert_true(value(srv, "bulkhead_plugin_renewals_total{plugin=\"f\"}") == 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_request_is_in_flight_until_its_answer_has_ended(void **state)
{
    struct server *srv = start(1);
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res;

    (void)state;
    conn_sendf(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    eventually(value(srv, "bulkhead_requests_in_flight{listener=\"front\"}") == 1);
    assert_true(value(srv, "bulkhead_connections{listener=\"front\"}") >= 1);
    conn_sendf(conn, "12345");
    res = conn_response(conn, "POST");
    assert_int_equal(res->status, 200);
    response_free(&res);
    conn_close(&conn);
    eventually(value(srv, "bulkhead_requests_total{listener=\"front\",method=\"POST\",code="
                          "\"2xx\"}") == 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_plugins_own_metrics_are_told(void **state)
{
    struct server *srv = start(2);

    (void)state;
    get(srv, "/?do=add&l=a&v=2.5");
    get(srv, "/?do=add&l=a");
    get(srv, "/?do=set&l=x&v=-3");
    get(srv, "/?do=observe&v=0.3");
    get(srv, "/?do=offload");
    assert_true(value(srv, FIGURE("a")) == 3.5);
    assert_true(value(srv, "figures_level{plugin=\"fig\",l=\"x\"}") == -3);
    assert_true(value(srv, PLUGIN("figures_largest")) == -3);
    assert_true(value(srv, PLUGIN("figures_seconds_sum")) == 0.3);
    assert_true(value(srv, "figures_seconds_bucket{plugin=\"fig\",le=\"0.25\"}") == 0);
    assert_true(value(srv, "figures_seconds_bucket{plugin=\"fig\",le=\"0.5\"}") == 1);
    assert_true(value(srv, FIGURE("offload")) == 1000);
    assert_int_equal(server_stop(&srv), 0);
}

static void counters_go_on_over_crashes_workers_and_reloads(void **state)
{
    struct server *srv = start(1);
    pid_t pid[4];
    size_t n;
    char *out;

    (void)state;
    get(srv, "/?do=add&l=a");
    assert_int_equal(get(srv, "/?do=crash&l=a"), 500);
    assert_true(value(srv, FIGURE("a")) == 2);
    get(srv, "/?do=set&l=x&v=7");

    n = server_children(srv, "bh-worker", pid, 4);
    assert_int_equal(n, 1);
    kill(pid[0], SIGKILL);
    eventually(value(srv, "bulkhead_worker_losses_total") == 1 &&
               value(srv, "bulkhead_workers_ready") == 1);
    assert_true(value(srv, FIGURE("a")) == 2);
    assert_true(value(srv, "figures_level{plugin=\"fig\",l=\"x\"}") == -1); /* it is gone */
    eventually(get(srv, "/?do=add&l=a") == 200);
    assert_true(value(srv, FIGURE("a")) == 3);

    server_rewrite_config(srv, config, 1, "new");
    assert_int_equal(run_command(&out, "RUNTIME_DIRECTORY=%s %s reload --wait -c %s", srv->dir,
                                 getenv("BULKHEAD"), srv->config),
                     0);
    free(out);
    assert_true(value(srv, "bulkhead_generation") == 2);
    assert_true(value(srv, "bulkhead_reloads_total{result=\"done\"}") == 1);
    get(srv, "/?do=add&l=a");
    assert_true(value(srv, FIGURE("a")) == 4);
    assert_true(value(srv, "bulkhead_last_reload_successful") == 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void what_finds_no_room_is_counted_and_said_once(void **state)
{
    struct server *srv = start(1);
    char *log, *first;

    (void)state;
    get(srv, "/?do=many&v=1500");
    get(srv, "/?do=many&v=1500");
    assert_true(value(srv, PLUGIN("bulkhead_plugin_series")) == 1025); /* "_overflow" is extra */
    assert_true(value(srv, FIGURE("_overflow")) == 2 * (1500 - 1024));
    assert_true(value(srv, PLUGIN("bulkhead_plugin_series_overflows_total")) == 2 * (1500 - 1024));
    server_wait_log(srv, "metric 'figures': no room for more sets of label values");
    log = server_log(srv);
    first = strstr(log, "metric 'figures': no room for more sets of label values");
    assert_non_null(first);
    assert_null(strstr(first + 30, "no room for more sets"));
    free(log);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_bad_pointer_as_label_is_the_plugins_own_crash(void **state)
{
    struct server *srv = start(1);

    (void)state;
    assert_int_equal(get(srv, "/?do=bad"), 500);
    assert_int_equal(get(srv, "/?do=add&l=a"), 200);
    assert_true(value(srv, FIGURE("a")) == 1);
    assert_true(value(srv, "bulkhead_plugin_crashes_total{plugin=\"fig\",kind=\"SIGSEGV\"}") == 1);
    assert_true(value(srv, "bulkhead_worker_losses_total") == 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void names_that_cannot_be_are_refused_and_the_log_says_why(void **state)
{
    struct server *srv = start(1);
    struct response *res = server_get(srv, "/?do=refused");

    (void)state;
    assert_string_equal(res->body, "-3,0 -3,0 -3,0 -3,0 -3,0 -3,0 -3,0 ");
    response_free(&res);
    server_wait_log(srv, "metric 'bulkhead_mine' is refused: names that begin with bulkhead_");
    server_wait_log(srv, "metric 'x y' is refused: a name has letters");
    server_wait_log(srv, "metric 'x_count' is refused: names that end in");
    server_wait_log(srv, "metric 'x' is refused: labels plugin, le");
    server_wait_log(srv, "metric 'x' is refused: two labels have the same name");
    server_wait_log(srv, "metric 'x' is refused: there is no such type");
    assert_int_equal(server_stop(&srv), 0);
}

static void promtool_has_nothing_to_say(void **state)
{
    struct server *srv;
    char *out;

    (void)state;
    if (run_command(NULL, "command -v promtool >/dev/null") != 0)
        skip();
    srv = start(2);
    get(srv, "/?do=add&l=a");
    get(srv, "/?do=set&l=a");
    get(srv, "/?do=observe&v=1");
    get(srv, "/?fault=segv");
    if (run_command(&out, "RUNTIME_DIRECTORY=%s %s metrics -c %s | promtool check metrics",
                    srv->dir, getenv("BULKHEAD"), srv->config) != 0 ||
        out[0] != '\0')
        harness_fail(__FILE__, __LINE__, "promtool: %s", out);
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

static char *command(const struct server *srv, const char *what, int expected)
{
    char *out = NULL;

    assert_int_equal(run_command(&out, "RUNTIME_DIRECTORY=%s %s %s -c %s", srv->dir,
                                 getenv("BULKHEAD"), what, srv->config),
                     expected);
    return out;
}

static void top_shows_what_happens_between_two_looks(void **state)
{
    struct server *srv = start(1);
    char *out;

    (void)state;
    get(srv, "/?fault=segv"); /* before: a total, no rate */
    run_command(NULL,
                "(for i in 1 2 3 4 5 6 7 8; do curl -so %s/got http://127.0.0.1:%d/; sleep 0.1; "
                "done) >/dev/null 2>&1 &",
                srv->dir, srv->port[0]);
    out = command(srv, "top --once --interval 0.6", 0);
    assert_non_null(strstr(out, "bulkhead serving"));
    assert_non_null(strstr(out, "LISTENER  REQ/S"));
    assert_non_null(strstr(out, "0 (1)")); /* crashes of f */
    free(out);
    out = command(srv, "top --json --interval 0.3", 0);
    assert_non_null(strstr(out, "\"requests_per_s\": "));
    assert_non_null(strstr(out, "\"crashes_total\": 1"));
    free(out);
    out = command(srv, "top", 2);
    assert_non_null(strstr(out, "this is no terminal"));
    free(out);
    free(command(srv, "top --once --interval 0", 2));
    out = command(srv, "status", 0);
    assert_non_null(strstr(out, "listener 'front': p50 "));
    free(out);
    assert_int_equal(server_stop(&srv), 0);
}

/* Shell: until the picture has been drawn, which goes to the file `ts`; ten seconds at most. */
#define DRAWN "i=0; until grep -qs LISTENER ts || [ $i -ge 200 ]; do sleep 0.05; i=$((i+1)); done; "

/* `top` in a terminal of its own. meanwhile: shell, whose output is what is typed, and which knows $P, a file
 * with the process id of top; after: shell in that terminal, once it has ended. */
static char *in_terminal(const struct server *srv, const char *options, const char *meanwhile,
                         const char *after)
{
    char *out;

    if (run_command(NULL, "command -v script >/dev/null") != 0)
        skip();
    run_command(NULL, "rm -f %s/ts %s/pid", srv->dir, srv->dir);
    run_command(&out,
                "cd %s && ulimit -c 0 && export RUNTIME_DIRECTORY=%s && (%s) | script -qefc 'sh -c "
                "\"echo \\$\\$ >pid; exec %s top %s -c %s\"; %s' ts",
                srv->dir, srv->dir, meanwhile, getenv("BULKHEAD"), options, srv->config, after);
    if (strstr(out, "\033[?1049h") == NULL || strstr(out, "LISTENER") == NULL ||
        strstr(out, "\033[?25h\033[?1049l") == NULL) /* the screen is as it was */
        harness_fail(__FILE__, __LINE__, "after %s: %.3000s", meanwhile, out);
    return out;
}

static void top_draws_on_a_terminal_and_q_ends_it(void **state)
{
    struct server *srv = start(1);

    (void)state;
    free(in_terminal(srv, "", DRAWN "printf q", "true"));
    assert_int_equal(server_stop(&srv), 0);
}

/* However it ends, a crash of its own included. */
static void top_gives_the_terminal_back(void **state)
{
    static const char *const signals[] = {"INT", "TERM", "QUIT", "SEGV", "ABRT"};
    struct server *srv = start(1);

    (void)state;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        char meanwhile[300], *out;

        /* The input stays open until then: its end would be the end of top. */
        snprintf(meanwhile, sizeof meanwhile,
                 DRAWN "kill -%s $(cat pid); until grep -qs SANE ts || [ $i -ge 400 ]; do sleep "
                       "0.05; i=$((i+1)); done",
                 signals[i]);
        out = in_terminal(srv, "", meanwhile,
                          "case \"$(stty -a)\" in *-icanon*|*-echo\\ *) ;; *) echo SANE ;; esac");
        if (strstr(out, "SANE") == NULL)
            harness_fail(__FILE__, __LINE__, "after SIG%s: %.3000s", signals[i], out);
        free(out);
    }
    assert_int_equal(server_stop(&srv), 0);
}

/* It is not over when the server is: that may be restarted. */
static void top_goes_on_while_no_server_answers(void **state)
{
    struct server *srv = start(1);
    char meanwhile[400], *out;

    (void)state;
    snprintf(meanwhile, sizeof meanwhile,
             DRAWN "kill -TERM %d; until grep -qs 'no answer for ' ts || [ $i -ge 400 ]; do sleep "
                   "0.05; i=$((i+1)); done; printf q",
             (int)srv->pid);
    out = in_terminal(srv, "--interval 0.2", meanwhile, "true");
    if (strstr(out, "no answer for ") == NULL || strstr(out, "no server runs with") == NULL)
        harness_fail(__FILE__, __LINE__, "%.3000s", out);
    free(out);
    server_stop(&srv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_counted_and_timed),
        cmocka_unit_test(a_request_is_in_flight_until_its_answer_has_ended),
        cmocka_unit_test(a_plugins_own_metrics_are_told),
        cmocka_unit_test(counters_go_on_over_crashes_workers_and_reloads),
        cmocka_unit_test(what_finds_no_room_is_counted_and_said_once),
        cmocka_unit_test(a_bad_pointer_as_label_is_the_plugins_own_crash),
        cmocka_unit_test(names_that_cannot_be_are_refused_and_the_log_says_why),
        cmocka_unit_test(promtool_has_nothing_to_say),
        cmocka_unit_test(top_shows_what_happens_between_two_looks),
        cmocka_unit_test(top_draws_on_a_terminal_and_q_ends_it),
        cmocka_unit_test(top_gives_the_terminal_back),
        cmocka_unit_test(top_goes_on_while_no_server_answers),
    };

    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
