/*
 * test_timers.c - timers of plugins (bh_timer), in the real server.
 */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct server *start(void)
{
    return server_start("version: 1\n"
                        "server: {workers: 1}\n"
                        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                        "limits: {timeouts: {drain: 1h}}\n"
                        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                        "plugins:\n"
                        "  t: {module: timers, deadline: {timer: 50ms}}\n"
                        "  other: {module: timers}\n"
                        "routes:\n"
                        "  - {match: {path: /other/**}, chain: [other]}\n"
                        "  - {match: {path: /**}, chain: [t]}\n"
                        "breaker: {crashes: 0}\n"
                        "crash: {dir: @DIR@/crashes, keep: 100}\n");
}

static int count(struct server *srv)
{
    struct response *res = server_get(srv, "/count");
    int n = atoi(res->body);

    assert_int_equal(res->status, 200);
    response_free(&res);
    return n;
}

/* The answer, freed by the caller. */
static char *ask(struct server *srv, const char *path, const char *arg)
{
    char target[128];
    struct response *res;
    char *text;

    snprintf(target, sizeof target, "%s%s", path, arg);
    res = server_get(srv, target);
    assert_int_equal(res->status, 200);
    text = strdup(res->body);
    response_free(&res);
    return text;
}

static void expect(struct server *srv, const char *path, const char *arg, const char *answer)
{
    char *text = ask(srv, path, arg);

    assert_string_equal(text, answer);
    free(text);
}

static void one_that_is_set_once_is_called_once(void **state)
{
    struct server *srv = start();
    int64_t begin = harness_now_ms(); /* the answer may come long after it was set */
    char *id = ask(srv, "/set?first=", "30");

    (void)state;
    eventually(count(srv) == 1);
    assert_true(harness_now_ms() - begin >= 20);
    expect(srv, "/del?id=", id, "-2"); /* BH_ENOENT: it is over */
    free(id);
    assert_int_equal(server_stop(&srv), 0);
}

static void one_that_repeats_does_so_until_it_is_deleted(void **state)
{
    struct server *srv = start();
    int64_t begin = harness_now_ms(), took;
    char *id = ask(srv, "/set?first=1&every=", "5");
    int n;

    (void)state;
    eventually(count(srv) >= 20);
    took = harness_now_ms() - begin;
    assert_true(took >= 80); /* not faster than asked for, whatever the load */
    expect(srv, "/del?id=", id, "0");
    n = count(srv);
    expect(srv, "/del?id=", id, "-2");
    harness_pause(harness_deadline_ms(100));
    for (int i = 0; i < 10; i++)
        harness_pause(harness_deadline_ms(100));
    assert_int_equal(count(srv), n);
    free(id);
    assert_int_equal(server_stop(&srv), 0);
}

static void it_may_delete_itself_in_its_own_function(void **state)
{
    struct server *srv = start();
    char *id = ask(srv, "/set?first=1&every=1&do=", "del_self");

    (void)state;
    server_wait_log(srv, "deleted itself: 0, again: -2");
    assert_int_equal(count(srv), 3);
    free(id);
    assert_int_equal(server_stop(&srv), 0);
}

static void one_that_sets_itself_again_at_once_does_not_take_the_loop(void **state)
{
    struct server *srv = start();
    char *id = ask(srv, "/set?first=0&do=", "again");

    (void)state;
    for (int i = 0; i < 20; i++)
        count(srv);
    eventually(count(srv) > 100);
    free(id);
    assert_int_equal(server_stop(&srv), 0);
}

static void an_instance_has_so_many_and_no_more(void **state)
{
    struct server *srv = start();
    char *text = ask(srv, "/full", "");
    int n = atoi(text);

    (void)state;
    assert_true(n > 16000 && n < 16384); /* those of open() and start() count */
    assert_non_null(strstr(text, ", then -5"));
    free(text);
    expect(srv, "/other/", "", "");
    assert_int_equal(server_stop(&srv), 0);
}

static void they_are_set_on_the_loop_only(void **state)
{
    struct server *srv = start();

    (void)state;
    expect(srv, "/thread", "", "-6"); /* BH_EPHASE */
    assert_int_equal(server_stop(&srv), 0);
}

static void open_and_start_may_set_them(void **state)
{
    struct server *srv = start();
    char *text = NULL;

    (void)state;
    eventually((free(text), text = ask(srv, "/early", ""), strcmp(text, "open 1, start 1") == 0));
    free(text);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_crash_costs_the_instance_its_timers_and_nothing_else(void **state)
{
    struct server *srv = start();
    pid_t before = 0, after = 0;
    char *id, *record;

    (void)state;
    eventually(server_children(srv, "worker", &before, 1) == 1);
    id = ask(srv, "/set?first=1&every=", "1");
    eventually(count(srv) > 3);
    free(ask(srv, "/set?first=1&every=1&do=", "crash"));
    record = server_crash_record(srv, 0);
    assert_non_null(strstr(record, "\"timer\""));
    assert_non_null(strstr(record, "SIGSEGV"));
    free(record);
    server_wait_log(srv, "plugin 't' crashed with SIGSEGV in timer");
    server_wait_log(srv, "closed; a timer in close(): -6");
    assert_int_equal(count(srv), 0); /* a fresh instance, and nothing runs in it but what it set */
    expect(srv, "/del?id=", id, "-2");
    eventually(server_children(srv, "worker", &after, 1) == 1);
    assert_int_equal(before, after);
    assert_true(server_crash_count(srv) <= 1); /* one that is just being rewritten may be missed */
    free(id);
    assert_int_equal(server_stop(&srv), 0);
}

static void one_that_runs_past_its_deadline_is_ended(void **state)
{
    struct server *srv = start();
    char *id = ask(srv, "/set?first=1&every=1&do=", "hang");

    (void)state;
    server_wait_log(srv, "plugin 't' ran past its deadline of 50 ms in timer");
    assert_int_equal(count(srv), 0);
    free(id);
    assert_int_equal(server_stop(&srv), 0);
}

static void what_a_crashed_call_had_set_is_undone(void **state)
{
    struct server *srv = start();
    struct response *res = server_get(srv, "/crash?first=1&every=1&do=hang");

    (void)state;
    assert_int_equal(res->status, 500);
    response_free(&res);
    eventually(server_crash_count(srv) == 1);
    for (int i = 0; i < 20; i++)
        harness_pause(harness_deadline_ms(100));
    /* The timer's function would be the second. A record that is just being rewritten may be missed. */
    assert_true(server_crash_count(srv) <= 1);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_drain_does_not_wait_for_them(void **state)
{
    struct server *srv = start();
    char *id = ask(srv, "/set?first=1&every=", "1");

    (void)state;
    assert_int_equal(server_stop(&srv), 0); /* or its deadline, which is less than an hour, fails */
    free(id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_set_once_is_called_once),
        cmocka_unit_test(one_that_repeats_does_so_until_it_is_deleted),
        cmocka_unit_test(it_may_delete_itself_in_its_own_function),
        cmocka_unit_test(one_that_sets_itself_again_at_once_does_not_take_the_loop),
        cmocka_unit_test(an_instance_has_so_many_and_no_more),
        cmocka_unit_test(they_are_set_on_the_loop_only),
        cmocka_unit_test(open_and_start_may_set_them),
        cmocka_unit_test(a_crash_costs_the_instance_its_timers_and_nothing_else),
        cmocka_unit_test(one_that_runs_past_its_deadline_is_ended),
        cmocka_unit_test(what_a_crashed_call_had_set_is_undone),
        cmocka_unit_test(a_drain_does_not_wait_for_them),
    };

    return cmocka_run_group_tests_name("timers", tests, NULL, NULL);
}
