/*
 * test_hooks.c - in which order the host calls what, and what each verdict does to a request.
 *
 * tests/plugins/probe.c writes each call down; these tests read it.
 */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A server of one worker whose only chain is a, b, c. Each takes its options from the arguments. */
static struct server *start(const char *a, const char *b, const char *c)
{
    return server_start("version: 1\n"
                        "escrow: {standby: 0}\n"
                        "server: {workers: 1}\n"
                        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                        "plugins:\n"
                        "  a: {module: probe, %s file: @DIR@/trace}}\n"
                        "  b: {module: probe, %s file: @DIR@/trace}}\n"
                        "  c: {module: probe, %s file: @DIR@/trace}}\n"
                        "routes: [{match: {path: /**}, chain: [a, b, c]}]\n"
                        "crash: {dir: @DIR@/crashes, keep: 100}\n",
                        a, b, c);
}

#define PLAIN "config: {"

static char *trace_read(const struct server *srv)
{
    char path[512];
    char *text;

    snprintf(path, sizeof path, "%s/trace", srv->dir);
    text = file_read(path);
    return text != NULL ? text : strdup("");
}

static bool trace_has(const struct server *srv, const char *what)
{
    char *text = trace_read(srv);
    bool has = strstr(text, what) != NULL;

    free(text);
    return has;
}

/* How often a line stands in the trace. */
static int trace_count(const struct server *srv, const char *line)
{
    char *text = trace_read(srv);
    int n = 0;

    for (const char *p = text; (p = strstr(p, line)) != NULL; p += strlen(line))
        n++;
    free(text);
    return n;
}

/*
 * The trace from the first on_request on, details cut off: "a on_request, b on_request, ...".
 * Waits until `last` has been written. The caller frees.
 */
static char *calls(const struct server *srv, const char *last)
{
    char *text, *out;
    size_t n = 0;

    eventually(trace_has(srv, last));
    text = trace_read(srv);
    out = calloc(1, strlen(text) + 2 * 64);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char name[16], hook[32], rest[64] = "";

        if (sscanf(line, "%15s %31s %63s", name, hook, rest) < 2)
            continue;
        if (n == 0 && strcmp(hook, "on_request") != 0)
            continue;
        n += (size_t)sprintf(out + n, "%s%s %s%s%s", n > 0 ? ", " : "", name, hook,
                             strcmp(hook, "defer") == 0 ? " " : "",
                             strcmp(hook, "defer") == 0 ? rest : "");
    }
    free(text);
    return out;
}

static void assert_calls(const struct server *srv, const char *last, const char *expected)
{
    char *text = calls(srv, last);

    assert_string_equal(text, expected);
    free(text);
}

static void expect_status(struct server *srv, int status)
{
    struct response *res = server_get(srv, "/");

    assert_int_equal(res->status, status);
    response_free(&res);
}

/* ---- order ---- */

static void requests_go_down_the_chain_and_responses_up(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: reply,");

    (void)state;
    expect_status(srv, 200);
    assert_calls(srv, "a on_log",
                 "a on_request, b on_request, c on_request, "
                 "c on_response, c on_response_body, b on_response, b on_response_body, "
                 "a on_response, a on_response_body, "
                 "c on_log, b on_log, a on_log");
    assert_int_equal(server_stop(&srv), 0);
}

static void done_keeps_later_plugins_out_of_it(void **state)
{
    struct server *srv = start(PLAIN, PLAIN "on_request: reply,", PLAIN);

    (void)state;
    expect_status(srv, 200);
    assert_calls(srv, "a on_log",
                 "a on_request, b on_request, b on_response, b on_response_body, "
                 "a on_response, a on_response_body, b on_log, a on_log");
    assert_int_equal(server_stop(&srv), 0);
}

static void decline_skips_all_later_hooks_of_that_plugin(void **state)
{
    struct server *srv = start(PLAIN, PLAIN "on_request: decline,", PLAIN "on_request: reply,");

    (void)state;
    expect_status(srv, 200);
    assert_calls(srv, "a on_log",
                 "a on_request, b on_request, c on_request, c on_response, c on_response_body, "
                 "a on_response, a on_response_body, c on_log, a on_log");
    assert_int_equal(server_stop(&srv), 0);
}

static void body_hooks_run_in_chain_order_and_end_once(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request_body: reply,");
    struct response *res = server_request(srv, "POST", "/", NULL, "12345", 5);

    (void)state;
    assert_int_equal(res->status, 200);
    eventually(trace_has(srv, "a on_log"));
    assert_true(trace_has(srv, "a on_request_body 5\nb on_request_body 5\nc on_request_body 5\n"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_request_without_a_body_gets_no_body_call(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: reply,");
    struct response *res = server_request(srv, "POST", "/", "Content-Length: 0\r\n", NULL, 0);

    (void)state;
    assert_int_equal(res->status, 200);
    eventually(trace_has(srv, "a on_log"));
    assert_false(trace_has(srv, "on_request_body"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void deferred_functions_run_last_first_before_on_log(void **state)
{
    struct server *srv = start(PLAIN "defers: yes,", PLAIN,
                               PLAIN "on_request: reply, defers: yes,");

    (void)state;
    expect_status(srv, 200);
    assert_calls(srv, "a on_log",
                 "a on_request, b on_request, c on_request, c on_response, c on_response_body, "
                 "b on_response, b on_response_body, a on_response, a on_response_body, "
                 "c defer 2, c defer 1, a defer 2, a defer 1, c on_log, b on_log, a on_log");
    assert_int_equal(server_stop(&srv), 0);
}

static void each_request_has_a_zeroed_context_of_its_own(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: reply,");

    (void)state;
    expect_status(srv, 200);
    expect_status(srv, 200);
    eventually(trace_count(srv, "a on_log") == 2);
    assert_int_equal(trace_count(srv, "a on_log status=200 bytes=1 calls=4"), 2);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_instance_is_opened_started_drained_and_closed_in_order(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: reply,");
    char dir[512];
    char *text;

    (void)state;
    snprintf(dir, sizeof dir, "%s/trace", srv->dir);
    expect_status(srv, 200);
    assert_int_equal(server_stop(&srv), 0);
    text = file_read(dir);
    assert_non_null(text);
    {
        const char *open = strstr(text, "a open"), *begin = strstr(text, "a start"),
                   *request = strstr(text, "a on_request"), *drain = strstr(text, "a drain"),
                   *end = drain != NULL ? strstr(drain, "a close") : NULL;

        assert_true(open != NULL && begin > open && request > begin && drain > request &&
                    end > drain);
        if (end != NULL)
            assert_null(strstr(end + 1, "a close"));
    }
    free(text);
}

/* ---- verdicts that fail ---- */

static void a_failure_goes_up_the_chain_and_the_innermost_answers(void **state)
{
    struct server *srv = start(PLAIN "on_error: reply,", PLAIN "on_error: reply,",
                               PLAIN "on_request: fail,");
    struct response *res = server_get(srv, "/");

    (void)state;
    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, "b");
    eventually(trace_has(srv, "a on_log"));
    assert_true(
        trace_has(srv, "b on_error kind=3 signo=0 plugin=c hook=on_request record=no status=500"));
    assert_false(trace_has(srv, "a on_error"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_error_that_nobody_answers_is_the_hosts(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: fail,");
    struct response *res = server_get(srv, "/");
    char *text;

    (void)state;
    assert_int_equal(res->status, 500);
    assert_string_equal(response_header(res, "Content-Type"), "application/problem+json");
    eventually(trace_has(srv, "a on_log"));
    text = trace_read(srv);
    assert_true(strstr(text, "b on_error") < strstr(text, "a on_error"));
    free(text);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_unknown_verdict_counts_as_a_failure(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: nonsense,");

    (void)state;
    expect_status(srv, 500);
    eventually(trace_has(srv, "b on_error kind=3"));
    assert_int_equal(server_stop(&srv), 0);
}

static void done_without_a_reply_is_a_failure(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: done,");

    (void)state;
    expect_status(srv, 500);
    eventually(trace_has(srv, "b on_error kind=3"));
    assert_int_equal(server_stop(&srv), 0);
}

static void pause_without_a_ticket_is_a_failure(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: pause,");

    (void)state;
    expect_status(srv, 500);
    eventually(trace_has(srv, "b on_error kind=3"));
    assert_int_equal(server_stop(&srv), 0);
}

static void fail_open_goes_on_as_if_the_plugin_were_not_there(void **state)
{
    struct server *srv = start(PLAIN,
                               "on_error: fail_open, config: {on_request: fail, changes: yes,",
                               PLAIN "on_request: reply,");
    struct response *res = server_get(srv, "/path");

    (void)state;
    assert_int_equal(res->status, 200);
    assert_null(response_header(res, "X-Changed"));
    assert_true(trace_has(srv, "c on_request /path changed=- kept=- doomed=- var=-"));
    assert_false(trace_has(srv, "on_error"));
    assert_false(trace_has(srv, "b on_response"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- crashes ---- */

static void changes_of_a_call_that_comes_back_are_kept(void **state)
{
    struct server *srv = start(PLAIN, PLAIN "changes: yes,", PLAIN "on_request: reply,");
    struct response *res = server_request(srv, "GET", "/path", "X-Doomed: d\r\nX-Kept: k\r\n", NULL,
                                          0);

    (void)state;
    assert_int_equal(res->status, 200);
    assert_string_equal(response_header(res, "X-Changed"), "b");
    assert_true(trace_has(srv, "c on_request /changed changed=b kept=b doomed=- var=b"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_crash_undoes_what_the_call_changed(void **state)
{
    struct server *srv = start(PLAIN,
                               "on_error: fail_open, config: {on_request: segv, changes: yes,",
                               PLAIN "on_request: reply,");
    struct response *res = server_request(srv, "GET", "/path", "X-Doomed: d\r\nX-Kept: k\r\n", NULL,
                                          0);

    (void)state;
    assert_int_equal(res->status, 200);
    assert_null(response_header(res, "X-Changed"));
    assert_true(trace_has(srv, "c on_request /path changed=- kept=k doomed=d var=-"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_crash_tells_on_error_what_happened(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: segv,");

    (void)state;
    expect_status(srv, 500);
    eventually(trace_has(
        srv, "a on_error kind=1 signo=11 plugin=c hook=on_request record=yes status=500"));
    eventually(server_crash_count(srv) == 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_crash_opens_a_fresh_instance_and_closes_the_old(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: abort,");

    (void)state;
    expect_status(srv, 500);
    eventually(trace_count(srv, "c close") >= 1);
    expect_status(srv, 500);
    assert_int_equal(server_stop(&srv), 0);
}

static void on_log_runs_once_also_after_a_crash_elsewhere(void **state)
{
    struct server *srv = start(PLAIN, PLAIN "on_response: segv,", PLAIN "on_request: reply,");

    (void)state;
    expect_status(srv, 500);
    eventually(trace_has(srv, "a on_log"));
    assert_int_equal(trace_count(srv, "a on_log status=500"), 1);
    assert_int_equal(trace_count(srv, "c on_log status=500"), 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void deferred_functions_of_a_crashed_plugin_run(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: segv, defers: yes,");

    (void)state;
    expect_status(srv, 500);
    eventually(trace_has(srv, "c defer 2\nc defer 1\n"));
    assert_int_equal(server_stop(&srv), 0);
}

static void a_crash_in_a_deferred_function_ends_only_that(void **state)
{
    struct server *srv = start(PLAIN "defers: yes,", PLAIN,
                               PLAIN "on_request: reply, defers: yes, defer: segv,");

    (void)state;
    expect_status(srv, 200);
    eventually(trace_has(srv, "a on_log"));
    assert_int_equal(trace_count(srv, "c defer 1\n"), 1);
    assert_int_equal(trace_count(srv, "a defer 2\na defer 1\n"), 1);
    assert_int_equal(trace_count(srv, "c on_log status=200"), 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_crash_in_on_log_does_not_keep_the_others_from_logging(void **state)
{
    struct server *srv = start(PLAIN, PLAIN "on_log: abort,", PLAIN "on_request: reply,");

    (void)state;
    expect_status(srv, 200);
    eventually(trace_has(srv, "a on_log"));
    assert_int_equal(trace_count(srv, "c on_log"), 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_crash_in_on_error_passes_the_error_on(void **state)
{
    struct server *srv = start(PLAIN "on_error: reply,", PLAIN "on_error: segv,",
                               PLAIN "on_request: fail,");
    struct response *res = server_get(srv, "/");

    (void)state;
    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, "a");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_crash_in_the_body_filter_of_a_whole_reply_is_answered(void **state)
{
    struct server *srv = start(PLAIN "on_error: reply,", PLAIN "on_response_body: segv,",
                               PLAIN "on_request: reply,");
    struct response *res = server_get(srv, "/");

    (void)state;
    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, "a");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_crash_in_the_filter_of_a_stream_cuts_the_connection(void **state)
{
    struct server *srv = start(PLAIN, PLAIN "on_response_body: segv,",
                               PLAIN "on_request: reply, stream: yes,");
    struct response *res = server_get(srv, "/");

    (void)state;
    assert_int_equal(res->status, 200);
    assert_true(res->truncated);
    response_free(&res);
    eventually(trace_has(srv, "a on_log"));
    eventually(server_crash_count(srv) == 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void exit_in_a_hook_costs_one_request(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: exit,");
    pid_t before[4], after[4];

    (void)state;
    eventually(server_children(srv, "worker", before, 4) == 1);
    expect_status(srv, 500);
    expect_status(srv, 500);
    assert_int_equal(server_children(srv, "worker", after, 4), 1);
    assert_int_equal(before[0], after[0]);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_plugin_whose_open_fails_again_is_quarantined(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: segv, open: fail,");

    (void)state;
    expect_status(srv, 500);
    expect_status(srv, 503);
    eventually(
        trace_has(srv, "a on_error kind=4 signo=0 plugin=c hook=on_request record=no status=503"));
    assert_int_equal(server_stop(&srv), 0);
}

static void crashes_in_start_drain_and_close_do_not_end_the_worker(void **state)
{
    struct server *srv = start(PLAIN "start: segv,", PLAIN "drain: segv,",
                               PLAIN "on_request: reply, close: segv,");
    pid_t before[4], after[4];

    (void)state;
    eventually(server_children(srv, "worker", before, 4) == 1);
    expect_status(srv, 200);
    assert_int_equal(server_children(srv, "worker", after, 4), 1);
    assert_int_equal(before[0], after[0]);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- the response side ---- */

static void on_response_may_change_status_and_body(void **state)
{
    struct server *srv = start(PLAIN "on_response: status,", PLAIN "on_response: replace,",
                               PLAIN "on_request: reply,");
    struct response *res = server_get(srv, "/");

    (void)state;
    assert_int_equal(res->status, 418);
    assert_string_equal(res->body, "replaced");
    assert_string_equal(response_header(res, "Content-Length"), "8");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_replaced_body_is_what_outer_filters_see(void **state)
{
    struct server *srv = start(PLAIN, PLAIN "on_response_body: replace,",
                               PLAIN "on_request: reply,");
    struct response *res = server_get(srv, "/");

    (void)state;
    assert_string_equal(res->body, "replaced");
    assert_true(trace_has(srv, "b on_response_body c end"));
    assert_true(trace_has(srv, "a on_response_body replaced end"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_stream_is_filtered_chunk_by_chunk(void **state)
{
    struct server *srv = start(PLAIN, PLAIN, PLAIN "on_request: reply, stream: yes,");
    struct response *res = server_get(srv, "/");

    (void)state;
    assert_string_equal(res->body, "one two");
    eventually(trace_has(srv, "a on_log status=200 bytes=7"));
    assert_true(trace_has(srv, "a on_response_body one \n"));
    assert_true(trace_has(srv, "a on_response_body two\n"));
    assert_int_equal(trace_count(srv, "a on_response_body  end"), 1);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_failed_on_response_replaces_the_reply(void **state)
{
    struct server *srv = start(PLAIN "on_error: reply,", PLAIN "on_response: fail,",
                               PLAIN "on_request: reply,");
    struct response *res = server_get(srv, "/");

    (void)state;
    assert_string_equal(res->body, "a");
    assert_true(trace_has(srv, "a on_error kind=3 signo=0 plugin=b hook=on_response"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_go_down_the_chain_and_responses_up),
        cmocka_unit_test(done_keeps_later_plugins_out_of_it),
        cmocka_unit_test(decline_skips_all_later_hooks_of_that_plugin),
        cmocka_unit_test(body_hooks_run_in_chain_order_and_end_once),
        cmocka_unit_test(a_request_without_a_body_gets_no_body_call),
        cmocka_unit_test(deferred_functions_run_last_first_before_on_log),
        cmocka_unit_test(each_request_has_a_zeroed_context_of_its_own),
        cmocka_unit_test(an_instance_is_opened_started_drained_and_closed_in_order),
        cmocka_unit_test(a_failure_goes_up_the_chain_and_the_innermost_answers),
        cmocka_unit_test(an_error_that_nobody_answers_is_the_hosts),
        cmocka_unit_test(an_unknown_verdict_counts_as_a_failure),
        cmocka_unit_test(done_without_a_reply_is_a_failure),
        cmocka_unit_test(pause_without_a_ticket_is_a_failure),
        cmocka_unit_test(fail_open_goes_on_as_if_the_plugin_were_not_there),
        cmocka_unit_test(changes_of_a_call_that_comes_back_are_kept),
        cmocka_unit_test(a_crash_undoes_what_the_call_changed),
        cmocka_unit_test(a_crash_tells_on_error_what_happened),
        cmocka_unit_test(a_crash_opens_a_fresh_instance_and_closes_the_old),
        cmocka_unit_test(on_log_runs_once_also_after_a_crash_elsewhere),
        cmocka_unit_test(deferred_functions_of_a_crashed_plugin_run),
        cmocka_unit_test(a_crash_in_a_deferred_function_ends_only_that),
        cmocka_unit_test(a_crash_in_on_log_does_not_keep_the_others_from_logging),
        cmocka_unit_test(a_crash_in_on_error_passes_the_error_on),
        cmocka_unit_test(a_crash_in_the_body_filter_of_a_whole_reply_is_answered),
        cmocka_unit_test(a_crash_in_the_filter_of_a_stream_cuts_the_connection),
        cmocka_unit_test(exit_in_a_hook_costs_one_request),
        cmocka_unit_test(a_plugin_whose_open_fails_again_is_quarantined),
        cmocka_unit_test(crashes_in_start_drain_and_close_do_not_end_the_worker),
        cmocka_unit_test(on_response_may_change_status_and_body),
        cmocka_unit_test(a_replaced_body_is_what_outer_filters_see),
        cmocka_unit_test(a_stream_is_filtered_chunk_by_chunk),
        cmocka_unit_test(a_failed_on_response_replaces_the_reply),
    };

    return cmocka_run_group_tests_name("hooks", tests, NULL, NULL);
}
