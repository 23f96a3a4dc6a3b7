/*
 * test_rollout_auto.c - rollouts that a reload begins, since the config has `rollout:`; a metric of the
 * plugin's own as a gate.
 */
#include "rollout_scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG                                                  \
    "version: 1\n"                                              \
    "server: {workers: 2}\n"                                    \
    "listeners: [{address: \"127.0.0.1:@PORT@\"}]\n"            \
    "limits: {per_ip: 0, timeouts: {drain: 5s}}\n"              \
    "plugins:\n"                                                \
    "  v: {module: @DIR@/v.so, config: {text: %s}%s}\n"         \
    "  w: {module: @DIR@/w.so, config: {text: w}%s}\n"          \
    "routes: [{match: {path: /w}, chain: [w]}, {chain: [v]}]\n" \
    "crash: {dir: @DIR@/crashes}\n"                             \
    "%s"

#define PLAN(STEPS) ", rollout: {key: header:x-user, samples: 5, steps: [" STEPS "]}"

/* v.so of version 1 serves; that is how its changes are rolled out, and w's. */
static struct server *start(const char *does, const char *plan, const char *plan_of_w)
{
    char *dir = tmp_dir();
    struct server *srv;

    rollout_make(dir, "v", "1", does);
    rollout_make(dir, "w", "1", "");
    srv = server_start_in(dir, CONFIG, "one", plan, plan_of_w, "");
    server_wait_standby(srv);
    free(dir);
    return srv;
}

struct tally {
    int n[128];
};

/* Requests of n users, each another. */
static struct tally load(struct server *srv, int n)
{
    struct conn *conn = conn_open(srv->port[0]);
    struct tally t = {{0}};

    for (int i = 0; i < n; i++)
        t.n[(unsigned char)rollout_version_for(conn, i)]++;
    conn_close(&conn);
    return t;
}

static bool load_until_ended(struct server *srv)
{
    int64_t end_ms = harness_deadline_ms(HARNESS_WAIT_MS);

    while (rollout_is(srv, "result", "running") && harness_pause(end_ms))
        load(srv, 200);
    eventually(rollout_is(srv, "phase", "idle"));
    return true;
}

static const char slow_plan[] = PLAN("{canary: 30%, for: 1h}");

static void a_reload_with_a_new_object_begins_a_rollout(void **state)
{
    struct server *srv = start("", slow_plan, "");
    struct tally t;

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, "staged rollout", "diff");
    t = load(srv, 200);
    assert_int_equal(t.n['1'], 200);
    rollout_expect(srv, 0, NULL, "reload --wait");
    t = load(srv, 300);
    assert_in_range(t.n['2'], 45, 140);
    assert_int_equal(t.n['1'] + t.n['2'], 300);
    rollout_expect(srv, 0, "by bulkhead reload", "rollout status");
    /* Meanwhile the rest of the config can change. */
    server_rewrite_config(srv, CONFIG, "one", slow_plan, "", "respawn: {restarts: 7}\n");
    rollout_expect(srv, 0, NULL, "reload --wait");
    t = load(srv, 300);
    assert_in_range(t.n['2'], 45, 140);
    rollout_expect(srv, 0, NULL, "rollout promote");
    eventually(rollout_is(srv, "phase", "idle"));
    t = load(srv, 100);
    assert_int_equal(t.n['2'], 100);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_reload_with_new_options_begins_a_rollout(void **state)
{
    struct server *srv = start("", slow_plan, "");
    struct response *res;

    (void)state;
    server_rewrite_config(srv, CONFIG, "two", slow_plan, "", "");
    rollout_expect(srv, 0, NULL, "reload --wait");
    assert_true(rollout_is(srv, "result", "running"));
    rollout_expect(srv, 0, NULL, "rollout abort");
    eventually(rollout_is(srv, "phase", "idle"));
    res = server_get(srv, "/");
    assert_string_equal(res->body, "1 one");
    response_free(&res);
    rollout_expect(srv, 0, NULL, "reload --wait"); /* nothing new */
    res = server_get(srv, "/");
    assert_string_equal(res->body, "1 one");
    response_free(&res);
    rollout_expect(srv, 0, NULL, "reload --wait --force"); /* all at once */
    res = server_get(srv, "/");
    assert_string_equal(res->body, "1 two");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_good_one_is_promoted_and_a_bad_one_taken_back(void **state)
{
    struct server *srv = start("", PLAN("{canary: 30%, for: 100ms, samples: 10}"), "");
    struct tally t;

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL, "reload --wait");
    load_until_ended(srv);
    assert_true(rollout_is(srv, "result", "promoted"));
    t = load(srv, 100);
    assert_int_equal(t.n['2'], 100);
    rollout_make(srv->dir, "v", "3", "if (n == 2) abort();");
    rollout_expect(srv, 0, NULL, "reload --wait");
    load_until_ended(srv);
    assert_true(rollout_is(srv, "result", "rolled back"));
    t = load(srv, 100);
    assert_int_equal(t.n['2'], 100);
    rollout_expect(srv, 0, NULL, "reload --wait");
    t = load(srv, 100);
    assert_int_equal(t.n['2'], 100);
    assert_int_equal(server_stop(&srv), 0);
}

static void two_at_once_are_refused(void **state)
{
    struct server *srv = start("", slow_plan, slow_plan);

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_make(srv->dir, "w", "2", "");
    rollout_expect(srv, 2, "there is one rollout at a time", "reload --wait");
    rollout_make(srv->dir, "w", "1", "");
    rollout_expect(srv, 0, NULL, "reload --wait");
    assert_true(rollout_is(srv, "plugin", "v"));
    rollout_make(srv->dir, "w", "2", "");
    rollout_expect(srv, 2, "there is one rollout at a time", "reload --wait");
    rollout_expect(srv, 0, NULL, "reload --wait --force");
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- the store ---- */

#define COUNTS                                                \
    "int64_t out = 0;\n"                                      \
    "bh_kv_add(bh_instance(req), bh_s(\"n\"), 1, 0, &out);\n" \
    "snprintf(text + strlen(text), 32, \" %lld\", (long long)out);"

/* Both arms count in the same place, from version 1 to 2 and back. */
static void counters_in_the_store_are_exact(void **state)
{
    struct server *srv = start(COUNTS, slow_plan, "");
    struct response *res;

    (void)state;
    load(srv, 100);
    rollout_make(srv->dir, "v", "2", COUNTS);
    rollout_expect(srv, 0, NULL, "reload --wait");
    load(srv, 200);
    rollout_expect(srv, 0, NULL, "rollout abort");
    load(srv, 100);
    eventually(rollout_is(srv, "phase", "idle"));
    rollout_expect(srv, 0, NULL, "rollout start v --manual --steps canary=50%");
    load(srv, 200);
    rollout_expect(srv, 0, NULL, "rollout promote");
    load(srv, 100);
    eventually(rollout_is(srv, "phase", "idle"));
    rollout_make(srv->dir, "v", "1", COUNTS);
    rollout_expect(srv, 0, NULL, "reload --wait --force");
    load(srv, 99);
    res = server_get(srv, "/");
    assert_string_equal(res->body, "1 one 800");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- a metric ---- */

/* The share of requests that it gets right, as it says by itself: in percent. */
#define MEASURES(PERCENT)                                                                          \
    "static uint32_t id; static int has; bh_inst *in = bh_instance(req);\n"                        \
    "if (!has) { has = 1; bh_metric(in, BH_M_HISTOGRAM, \"right\", \"How right\", NULL, &id); }\n" \
    "bh_metric_observe(in, id, NULL, " PERCENT " / 100.0);"

static void it_is_promoted_when_the_metric_has_improved_enough(void **state)
{
    struct server *srv = start(MEASURES("80"), "", "");
    static const char plan[] = ", rollout: {key: header:x-user, samples: 5, "
                               "gate: {metric: right, improves_by: 9.2%, worsens_by: 50%}, "
                               "steps: [{canary: 50%, for: 0, samples: 20}]}";

    (void)state;
    server_rewrite_config(srv, CONFIG, "one", plan, "", "");
    rollout_expect(srv, 0, NULL, "reload --wait");
    rollout_make(srv->dir, "v", "2", MEASURES("87")); /* 8.75 % more */
    rollout_expect(srv, 0, NULL, "reload --wait");
    load(srv, 300);
    rollout_expect(srv, 0, "waiting for the metric right to be better by 9.2%", "rollout status");
    assert_true(rollout_is(srv, "result", "running"));
    rollout_expect(srv, 0, NULL, "rollout abort");
    eventually(rollout_is(srv, "phase", "idle"));
    rollout_make(srv->dir, "v", "3", MEASURES("87.4")); /* 9.25 % */
    rollout_expect(srv, 0, NULL, "reload --wait");
    load_until_ended(srv);
    assert_true(rollout_is(srv, "result", "promoted"));
    rollout_make(srv->dir, "v", "4", MEASURES("40"));
    rollout_expect(srv, 0, NULL, "reload --wait");
    load_until_ended(srv);
    assert_true(rollout_is(srv, "result", "rolled back"));
    rollout_expect(srv, 0, "its metric right is worse by more than 50%", "rollout status");
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reload_with_a_new_object_begins_a_rollout),
        cmocka_unit_test(a_reload_with_new_options_begins_a_rollout),
        cmocka_unit_test(a_good_one_is_promoted_and_a_bad_one_taken_back),
        cmocka_unit_test(two_at_once_are_refused),
        cmocka_unit_test(counters_in_the_store_are_exact),
        cmocka_unit_test(it_is_promoted_when_the_metric_has_improved_enough),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
