/*
 * test_rollout_kept.c - what a rollout leaves behind: the last known good version, the quarantine.
 */
#include "rollout_scene.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what outlives the server ---- */

/* As a crash of the machine would: nobody gets to say anything. The same config, started again. */
static void kill_and_start_again(struct server **srvp, const char *more)
{
    char *dir = strdup((*srvp)->dir);

    kill((*srvp)->pid, SIGKILL);
    server_wait_exit(*srvp);
    *srvp = server_start_in(dir, ROLLOUT_CONFIG, "", more);
    server_wait_standby(*srvp);
    free(dir);
}

static void check_says(struct server *srv, const char *text)
{
    struct response *res = server_get(srv, "/");

    assert_int_equal(res->status, 200);
    assert_string_equal(res->body, text);
    response_free(&res);
}

static void a_server_killed_in_a_rollout_starts_with_the_last_known_good(void **state)
{
    struct server *srv = rollout_start("", "");

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL, "rollout start v --manual --steps canary=50%");
    kill_and_start_again(&srv, "");
    server_wait_log(srv, "was being rolled out when the server ended");
    check_says(srv, "1 one");
    rollout_expect(srv, 0, NULL, "reload --wait"); /* the file still names the other */
    check_says(srv, "1 one");
    kill_and_start_again(&srv, "");
    check_says(srv, "1 one");
    /* It was not found to be bad: it may be tried again. */
    rollout_expect(srv, 0, NULL, "rollout start v --manual --steps canary=50%");
    rollout_expect(srv, 0, NULL, "rollout promote");
    eventually(rollout_is(srv, "phase", "idle"));
    kill_and_start_again(&srv, "");
    check_says(srv, "2 one");
    assert_int_equal(server_stop(&srv), 0);
}

static void who_was_promoted_by_hand_stays_after_a_restart(void **state)
{
    struct server *srv = rollout_start("", "");

    (void)state;
    rollout_make(srv->dir, "w", "7", "");
    assert_int_equal(run_command(NULL,
                                 "cd %s && RUNTIME_DIRECTORY=%s %s rollout start v --module ./w.so "
                                 "--set text=two --manual --steps canary=50%% -c %s",
                                 srv->dir, srv->dir, getenv("BULKHEAD"), srv->config),
                     0);
    rollout_expect(srv, 0, NULL, "rollout promote");
    eventually(rollout_is(srv, "phase", "idle"));
    assert_int_equal(run_command(NULL, "rm %s/w.so", srv->dir), 0);
    kill_and_start_again(&srv, "");
    check_says(srv, "7 two");
    rollout_expect(srv, 0, NULL, "reload --wait --force"); /* the file, whatever was promoted */
    check_says(srv, "1 one");
    assert_int_equal(server_stop(&srv), 0);
}

static void what_crashed_is_quarantined_until_it_is_forced(void **state)
{
    struct server *srv = rollout_start("", "");
    struct conn *conn = conn_open(srv->port[0]);

    (void)state;
    rollout_make(srv->dir, "v", "2", "if (n == 3) *(volatile int *)0 = 1;");
    rollout_expect(srv, 0, NULL, "rollout start v --key header:x-user --manual --steps canary=50%");
    for (int i = 0; i < 50; i++)
        rollout_version_for(conn, i);
    conn_close(&conn);
    eventually(rollout_is(srv, "phase", "idle"));
    rollout_expect(srv, 2, "is in quarantine since", "rollout start v");
    rollout_expect(srv, 2, "it crashed", "rollout start v");
    rollout_expect(srv, 0, "quarantined", "events");
    kill_and_start_again(&srv, "");
    check_says(srv, "1 one");
    rollout_expect(srv, 2, "is in quarantine since", "rollout start v");
    assert_int_equal(run_command(NULL, "cp %s/v.so %s/again.so", srv->dir, srv->dir), 0);
    server_rewrite_config(srv, ROLLOUT_CONFIG, "", ""); /* the same */
    assert_int_equal(run_command(NULL, "sed -i s/v.so/again.so/ %s", srv->config), 0);
    rollout_expect(srv, 2, "is in quarantine since", "reload --wait");
    check_says(srv, "1 one");
    rollout_expect(srv, 0, NULL, "reload --wait --force");
    check_says(srv, "2 one");
    assert_int_equal(server_stop(&srv), 0);
}

static void what_crashes_when_it_is_tried_is_quarantined(void **state)
{
    struct server *srv = rollout_start("", "");

    (void)state;
    rollout_make_with(srv->dir, "v", "2", "",
                      "__attribute__((constructor)) static void on_load(void) { abort(); }\n");
    rollout_expect(srv, 2, "crashed with SIGABRT in its constructor", "rollout start v");
    rollout_expect(srv, 2, "is in quarantine since", "rollout start v");
    rollout_expect(srv, 2, "crashed with SIGABRT in its constructor", "rollout start v --force");
    check_says(srv, "1 one");
    assert_int_equal(server_stop(&srv), 0);
}

static void who_rolls_back_by_hand_quarantines_and_who_aborts_does_not(void **state)
{
    struct server *srv = rollout_start("", "");

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL, "rollout start v --manual --steps canary=50%");
    rollout_expect(srv, 0, "aborted", "rollout abort");
    eventually(rollout_is(srv, "phase", "idle"));
    rollout_expect(srv, 0, NULL, "rollout start v --manual --steps canary=50%");
    rollout_expect(srv, 0, "rolled back", "rollout rollback");
    eventually(rollout_is(srv, "phase", "idle"));
    rollout_expect(srv, 2, "is in quarantine since", "rollout start v");
    assert_int_equal(server_stop(&srv), 0);
}

static void what_was_promoted_can_be_rolled_back(void **state)
{
    struct server *srv = rollout_start("", "");

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL, "rollout start v --manual --steps canary=50%");
    rollout_expect(srv, 0, NULL, "rollout promote");
    eventually(rollout_is(srv, "phase", "idle"));
    check_says(srv, "2 one");
    rollout_expect(srv, 0, "1 comes back", "rollout rollback");
    eventually(rollout_is(srv, "phase", "idle"));
    check_says(srv, "1 one");
    rollout_expect(srv, 2, "is in quarantine since", "rollout start v");
    rollout_expect(srv, 1, "no rollout is under way", "rollout rollback");
    kill_and_start_again(&srv, "");
    check_says(srv, "1 one");
    assert_int_equal(server_stop(&srv), 0);
}

static void files_that_make_no_sense_are_moved_aside(void **state)
{
    struct server *srv = rollout_start("", "state: {dir: @DIR@/kept}\n");

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL, "rollout start v --manual --steps canary=50%");
    rollout_expect(srv, 0, NULL, "rollout rollback");
    eventually(rollout_is(srv, "phase", "idle"));
    assert_int_equal(run_command(NULL,
                                 "cd %s/kept && echo '{\"version\": 1, \"obj' > quarantine.json && "
                                 "echo nonsense > $(echo bulkhead-*/variants.json)",
                                 srv->dir),
                     0);
    rollout_make(srv->dir, "v", "1", "");
    kill_and_start_again(&srv, "state: {dir: @DIR@/kept}\n");
    check_says(srv, "1 one");
    assert_int_equal(run_command(NULL,
                                 "cd %s/kept && test -f quarantine.json.bad -a -f "
                                 "$(echo bulkhead-*/variants.json.bad)",
                                 srv->dir),
                     0);
    assert_int_equal(server_stop(&srv), 0);
}

static void without_a_place_for_the_good_version_nothing_begins(void **state)
{
    struct server *srv = rollout_start("", "state: {dir: @DIR@/bulkhead.yaml/kept}\n");

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 1, "cannot be kept in", "rollout start v");
    check_says(srv, "1 one");
    assert_int_equal(server_stop(&srv), 0);
}

static void a_server_without_rollouts_leaves_nothing(void **state)
{
    struct server *srv = rollout_start("", "state: {dir: @DIR@/kept}\n");

    (void)state;
    rollout_expect(srv, 0, NULL, "reload --wait");
    assert_int_not_equal(run_command(NULL, "test -e %s/kept", srv->dir), 0);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_killed_in_a_rollout_starts_with_the_last_known_good),
        cmocka_unit_test(who_was_promoted_by_hand_stays_after_a_restart),
        cmocka_unit_test(what_crashed_is_quarantined_until_it_is_forced),
        cmocka_unit_test(what_crashes_when_it_is_tried_is_quarantined),
        cmocka_unit_test(who_rolls_back_by_hand_quarantines_and_who_aborts_does_not),
        cmocka_unit_test(what_was_promoted_can_be_rolled_back),
        cmocka_unit_test(files_that_make_no_sense_are_moved_aside),
        cmocka_unit_test(without_a_place_for_the_good_version_nothing_begins),
        cmocka_unit_test(a_server_without_rollouts_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
