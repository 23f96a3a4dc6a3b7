/*
 * test_rollout.c - another version of a plugin beside the one that serves: who gets it, what takes it
 * back, what promotes it.
 */
#include "rollout_scene.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USERS = 300 };

static void ask_all(struct server *srv, char versions[USERS + 1])
{
    struct conn *conn = conn_open(srv->port[0]);

    for (int i = 0; i < USERS; i++)
        versions[i] = rollout_version_for(conn, i);
    versions[USERS] = '\0';
    conn_close(&conn);
}

static int count_of(const char *versions, char which)
{
    int n = 0;

    for (; *versions != '\0'; versions++)
        n += *versions == which;
    return n;
}

/* ---- who gets it ---- */

static void clients_stay_with_their_version_and_the_share_only_grows(void **state)
{
    struct server *srv = rollout_start("", "");
    char first[USERS + 1], again[USERS + 1], more[USERS + 1];

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, "step 1: canary 20%",
                   "rollout start v --manual --key header:x-user --steps canary=20%,canary=60%");
    ask_all(srv, first);
    assert_in_range(count_of(first, '2'), 30, 95);
    ask_all(srv, again); /* over another connection: by another worker, perhaps */
    assert_string_equal(first, again);
    rollout_expect(srv, 0, "the next step", "rollout step");
    ask_all(srv, more);
    assert_in_range(count_of(more, '2'), 140, 220);
    for (int i = 0; i < USERS; i++)
        assert_true(first[i] != '2' || more[i] == '2');
    assert_int_equal(count_of(more, 'x'), 0);
    assert_int_equal(server_stop(&srv), 0);
}

static void another_rollout_picks_others(void **state)
{
    struct server *srv = rollout_start("", "");
    char first[USERS + 1], second[USERS + 1];
    int n_both = 0;

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL, "rollout start v --manual --key header:x-user --steps canary=20%");
    ask_all(srv, first);
    rollout_expect(srv, 0, "aborted: all requests get 1", "rollout abort");
    eventually(rollout_is(srv, "phase", "idle"));
    rollout_expect(srv, 0, NULL, "rollout start v --manual --key header:x-user --steps canary=20%");
    ask_all(srv, second);
    for (int i = 0; i < USERS; i++)
        n_both += first[i] == '2' && second[i] == '2';
    /* By chance a fifth of them again. */
    assert_true(n_both * 2 < count_of(first, '2'));
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- how it ends ---- */

static void who_is_promoted_gets_all(void **state)
{
    struct server *srv = rollout_start("", "");
    char versions[USERS + 1];

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL, "rollout start v --manual --key header:x-user --steps canary=20%");
    rollout_expect(srv, 0, "promoted: all requests get 2", "rollout promote");
    ask_all(srv, versions); /* at once, whether the old version is unloaded or not */
    assert_int_equal(count_of(versions, '2'), USERS);
    eventually(rollout_is(srv, "phase", "idle"));
    ask_all(srv, versions);
    assert_int_equal(count_of(versions, '2'), USERS);
    rollout_expect(srv, 0, NULL, "reload --wait");
    ask_all(srv, versions);
    assert_int_equal(count_of(versions, '2'), USERS);
    rollout_expect(srv, 0, "rollout_promoted", "events");
    assert_int_equal(server_stop(&srv), 0);
}

static void who_is_aborted_stays_out_until_the_file_says_something_new(void **state)
{
    struct server *srv = rollout_start("", "");
    char versions[USERS + 1];

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL, "rollout start v --manual --key header:x-user --steps canary=50%");
    rollout_expect(srv, 0, "aborted: all requests get 1", "rollout abort");
    ask_all(srv, versions);
    assert_int_equal(count_of(versions, '1'), USERS);
    eventually(rollout_is(srv, "phase", "idle"));
    rollout_expect(srv, 0, NULL,
                   "reload --wait"); /* for other reasons: the path still has version 2 */
    ask_all(srv, versions);
    assert_int_equal(count_of(versions, '1'), USERS);
    rollout_make(srv->dir, "v", "3", "");
    rollout_expect(srv, 0, NULL, "reload --wait");
    ask_all(srv, versions);
    assert_int_equal(count_of(versions, '3'), USERS);
    assert_int_equal(server_stop(&srv), 0);
}

static void another_object_and_other_options_are_rolled_out_as_well(void **state)
{
    struct server *srv = rollout_start("", "");
    struct response *res;

    (void)state;
    rollout_make(srv->dir, "w", "7", "");
    assert_int_equal(run_command(NULL,
                                 "cd %s && RUNTIME_DIRECTORY=%s %s rollout start v --module ./w.so "
                                 "--set text=two --manual --steps canary=50%% -c %s",
                                 srv->dir, srv->dir, getenv("BULKHEAD"), srv->config),
                     0);
    rollout_expect(srv, 0, "promoted: all requests get 7", "rollout promote");
    eventually(rollout_is(srv, "phase", "idle"));
    /* The file has the old one still, and nobody has changed it since. */
    rollout_expect(srv, 0, NULL, "reload --wait");
    res = server_get(srv, "/");
    assert_string_equal(res->body, "7 two");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void what_makes_no_sense_is_refused_with_a_reason(void **state)
{
    struct server *srv = rollout_start("", "");

    (void)state;
    rollout_expect(srv, 0, "no rollout since", "rollout status");
    rollout_expect(srv, 1, "no rollout is under way", "rollout abort");
    rollout_expect(srv, 2, "there is no plugin 'nobody'", "rollout start nobody");
    rollout_expect(srv, 2, "nothing to roll out", "rollout start v");
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 2, "expected a percentage", "rollout start v --steps canary=many");
    rollout_expect(srv, 2, "unknown option 'nonsense'", "rollout start v --set nonsense=1");
    rollout_expect(srv, 2, "bad arguments", "rollout start");
    rollout_expect(srv, 2, "bad arguments", "rollout abort v");
    rollout_expect(srv, 0, NULL, "rollout start v --manual");
    rollout_expect(srv, 1, "there is one at a time", "rollout start pages");
    rollout_expect(srv, 0, NULL, "rollout pause");
    rollout_expect(srv, 0, "paused already", "rollout pause");
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- gates ---- */

struct tally {
    long long n[128], n_requests;
};

/* Requests of ever other users until the rollout is over, or n were made. */
static struct tally load(struct server *srv, int n, bool (*is_over)(const struct server *))
{
    struct conn *conn = conn_open(srv->port[0]);
    struct tally t = {.n_requests = 0};

    for (int i = 0; i < n && !(i % 500 == 499 && is_over != NULL && is_over(srv)); i++) {
        t.n[(unsigned char)rollout_version_for(conn, i)]++;
        t.n_requests++;
    }
    conn_close(&conn);
    return t;
}

static bool is_ended(const struct server *srv)
{
    return !rollout_is(srv, "result", "running");
}

/* The reload that promotes it follows at once upon the one that is asked about. */
static void a_start_that_is_a_promotion_is_no_failure(void **state)
{
    struct server *srv = rollout_start("", "");
    char versions[USERS + 1];

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL, "rollout start v --steps canary=100%");
    eventually(rollout_is(srv, "phase", "idle"));
    ask_all(srv, versions);
    assert_int_equal(count_of(versions, '2'), USERS);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_crash_takes_it_back_at_once(void **state)
{
    struct server *srv = rollout_start("", "");
    struct tally t;

    (void)state;
    rollout_make(srv->dir, "v", "2", "if (n == 5) *(volatile int *)0 = 1;");
    rollout_expect(srv, 0, NULL, "rollout start v --key header:x-user --steps canary=50%:1h:1");
    t = load(srv, 2000, NULL);
    assert_in_range(t.n['x'], 1, 2); /* one in each worker, if they meet in the same moment */
    eventually(rollout_is(srv, "result", "rolled back"));
    eventually(rollout_is(srv, "phase", "idle"));
    t = load(srv, 500, NULL);
    assert_int_equal(t.n['1'], 500);
    rollout_expect(srv, 0, "it crashed", "rollout status");
    rollout_expect(srv, 0, "rollout_rolled_back", "events");
    assert_int_equal(server_stop(&srv), 0);
}

static void who_does_well_is_promoted_without_help(void **state)
{
    struct server *srv = rollout_start("", "");
    struct tally t;

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL,
                   "rollout start v --key header:x-user --samples 50 "
                   "--steps canary=20%:200ms:50,canary=50%:200ms:50");
    t = load(srv, 100000, is_ended);
    assert_int_equal(t.n['x'], 0);
    assert_true(rollout_is(srv, "result", "promoted"));
    eventually(rollout_is(srv, "phase", "idle"));
    t = load(srv, 100, NULL);
    assert_int_equal(t.n['2'], 100);
    assert_int_equal(server_stop(&srv), 0);
}

static void without_traffic_it_waits(void **state)
{
    struct server *srv = rollout_start("", "");
    int64_t until_ms = harness_now_ms() + 700;

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL, "rollout start v --steps canary=20%:0:5 --samples 6");
    while (harness_now_ms() < until_ms)
        harness_pause(until_ms + 1000);
    assert_true(rollout_is(srv, "result", "running"));
    rollout_expect(srv, 0,
                   "waiting for requests: 0 of 6 (stable: 0); errors and times are judged after so "
                   "many",
                   "rollout status");
    assert_int_equal(server_stop(&srv), 0);
}

static void four_times_the_errors_take_it_back(void **state)
{
    static const char fails[] =
        "if (n %% %d == 0) return bh_reply(req, 500, \"text/plain\", \"no\");";
    char text[256];
    struct server *srv;
    struct tally t;

    (void)state;
    snprintf(text, sizeof text, fails, 100);
    srv = rollout_start(text, "");
    snprintf(text, sizeof text, fails, 25);
    rollout_make(srv->dir, "v", "2", text);
    rollout_expect(srv, 0, NULL,
                   "rollout start v --key header:x-user --samples 500 --steps canary=20%:1h:500");
    t = load(srv, 100000, is_ended);
    assert_true(rollout_is(srv, "result", "rolled back"));
    rollout_expect(srv, 0, "it fails more often", "rollout status");
    /* At most its weight was harmed. */
    assert_true(t.n['2'] * 4 < t.n_requests);
    eventually(rollout_is(srv, "phase", "idle"));
    assert_int_equal(server_stop(&srv), 0);
}

static void who_is_slow_is_taken_back(void **state)
{
    struct server *srv = rollout_start("", "");

    (void)state;
    rollout_make(srv->dir, "v", "2", "if (n % 8 == 0) usleep(4000);");
    rollout_expect(srv, 0, NULL,
                   "rollout start v --key header:x-user --samples 300 --steps canary=50%:1h:300");
    load(srv, 20000, is_ended);
    assert_true(rollout_is(srv, "result", "rolled back"));
    rollout_expect(srv, 0, "it is slow more often", "rollout status");
    assert_int_equal(server_stop(&srv), 0);
}

/* While the backend is out, that is a file here, nine of ten requests fail, whoever serves them. */
static void an_outage_that_both_have_takes_nothing_back(void **state)
{
    static const char fails[] = "if (access(\"out\", F_OK) == 0 && n % 10 != 0)\n"
                                "    return bh_reply(req, 502, \"text/plain\", \"no\");";
    struct server *srv = rollout_start(fails, "");
    char *path = NULL;
    struct tally t;

    (void)state;
    rollout_make(srv->dir, "v", "2", fails);
    rollout_expect(
        srv, 0, NULL,
        "rollout start v --manual --key header:x-user --samples 200 --steps canary=20%:1h:200");
    assert_true(asprintf(&path, "%s/out", srv->dir) > 0);
    t = load(srv, 2000, NULL);
    assert_int_equal(t.n['x'], 0);
    file_write(path, "%s", "");
    t = load(srv, 4000, NULL);
    assert_true(t.n['x'] > 3000);
    remove(path);
    t = load(srv, 2000, NULL);
    assert_int_equal(t.n['x'], 0);
    assert_true(rollout_is(srv, "result", "running"));
    assert_true(rollout_count(srv, "candidate", "errors") > 300);
    free(path);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_stay_with_their_version_and_the_share_only_grows),
        cmocka_unit_test(another_rollout_picks_others),
        cmocka_unit_test(who_is_promoted_gets_all),
        cmocka_unit_test(who_is_aborted_stays_out_until_the_file_says_something_new),
        cmocka_unit_test(another_object_and_other_options_are_rolled_out_as_well),
        cmocka_unit_test(what_makes_no_sense_is_refused_with_a_reason),
        cmocka_unit_test(a_start_that_is_a_promotion_is_no_failure),
        cmocka_unit_test(a_crash_takes_it_back_at_once),
        cmocka_unit_test(who_does_well_is_promoted_without_help),
        cmocka_unit_test(without_traffic_it_waits),
        cmocka_unit_test(four_times_the_errors_take_it_back),
        cmocka_unit_test(who_is_slow_is_taken_back),
        cmocka_unit_test(an_outage_that_both_have_takes_nothing_back),
    };

    cmocka_set_test_filter(getenv("ONLY")); /* by hand */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
