/*
 * test_rollout_auto.c - rollouts that a reload begins, since the config has `rollout:`; a metric of the
 * plugin's own as a gate.
 */
#include "harness.h"

#include <jansson.h>
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

/* Answers "VERSION TEXT"; what else it does with a request is given. */
static const char source[] =
    "#include <bulkhead.h>\n"
    "#include <stdlib.h>\n"
    "#include <unistd.h>\n"
    "struct config { const char *text; };\n"
    "static const bh_opt options[] = {BH_STR(struct config, text, \"\", \"What to say\"), BH_OPT_END};\n"
    "static bh_rc open_it(bh_inst *inst, const void *cfg, void **self)\n"
    "{ (void)inst; *self = (void *)(uintptr_t)cfg; return BH_OK; }\n"
    "static unsigned n;\n"
    "static bh_rc answer(void *self, bh_req *req, void *ctx)\n"
    "{ char text[128]; (void)ctx; n++;\n"
    "  snprintf(text, sizeof text, \"%s %%s\", ((const struct config *)self)->text);\n"
    "  %s\n"
    "  return bh_reply(req, 200, \"text/plain\", text); }\n"
    "BH_PLUGIN(\"v\", \"%s\", .summary = \"A version\", .options = options,\n"
    "          .cfg_size = sizeof(struct config), .open = open_it, .on_request = answer)\n";

static void make(const char *dir, const char *name, const char *version, const char *does)
{
    char text[8192], *object;

    snprintf(text, sizeof text, source, version, does, version);
    object = plugin_build(dir, name, text);
    free(object);
}

#define PLAN(STEPS) ", rollout: {key: header:x-user, samples: 5, steps: [" STEPS "]}"

/* v.so of version 1 serves; that is how its changes are rolled out, and w's. */
static struct server *start(const char *does, const char *plan, const char *plan_of_w)
{
    char *dir = tmp_dir();
    struct server *srv;

    make(dir, "v", "1", does);
    make(dir, "w", "1", "");
    srv = server_start_in(dir, CONFIG, "one", plan, plan_of_w, "");
    eventually(server_children(srv, "standby", NULL, 0) == 1);
    free(dir);
    return srv;
}

static int ask(const struct server *srv, char **out, const char *command)
{
    return run_command(out, "RUNTIME_DIRECTORY=%s %s %s -c %s", srv->dir, getenv("BULKHEAD"),
                       command, srv->config);
}

static void expect(const struct server *srv, int status, const char *said, const char *command)
{
    char *out;
    int got = ask(srv, &out, command);

    if (got != status || (said != NULL && strstr(out, said) == NULL))
        harness_fail(__FILE__, __LINE__, "%s: exit %d instead of %d, or without '%s':\n%s", command,
                     got, status, said != NULL ? said : "", out);
    free(out);
}

static json_t *look(const struct server *srv)
{
    json_t *json;
    char *out;

    ask(srv, &out, "rollout status --json 2>/dev/null");
    json = json_loads(out, JSON_DECODE_ANY, NULL);
    free(out);
    return json;
}

static bool is(const struct server *srv, const char *key, const char *value)
{
    json_t *json = look(srv);
    const char *text = json_string_value(json_object_get(json, key));
    bool same = text != NULL && strcmp(text, value) == 0;

    json_decref(json);
    return same;
}

/* Which version answers that user: '1', '2', ...; 'x': it was no 200. */
static char version_for(struct conn *conn, int user)
{
    struct response *res;
    char header[64];
    char v;

    snprintf(header, sizeof header, "X-User: u%d\r\n", user);
    res = conn_request(conn, "GET", "/", header, NULL, 0);
    v = res->status == 200 ? res->body[0] : 'x';
    response_free(&res);
    return v;
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
        t.n[(unsigned char)version_for(conn, i)]++;
    conn_close(&conn);
    return t;
}

static bool load_until_ended(struct server *srv)
{
    int64_t end_ms = harness_deadline_ms(HARNESS_WAIT_MS);

    while (is(srv, "result", "running") && harness_pause(end_ms))
        load(srv, 200);
    eventually(is(srv, "phase", "idle"));
    return true;
}

static const char slow_plan[] = PLAN("{canary: 30%, for: 1h}");

static void a_reload_with_a_new_object_begins_a_rollout(void **state)
{
    struct server *srv = start("", slow_plan, "");
    struct tally t;

    (void)state;
    make(srv->dir, "v", "2", "");
    expect(srv, 0, "staged rollout", "diff");
    t = load(srv, 200);
    assert_int_equal(t.n['1'], 200);
    expect(srv, 0, NULL, "reload --wait");
    t = load(srv, 300);
    assert_in_range(t.n['2'], 45, 140);
    assert_int_equal(t.n['1'] + t.n['2'], 300);
    expect(srv, 0, "by bulkhead reload", "rollout status");
    /* Meanwhile the rest of the config can change. */
    server_rewrite_config(srv, CONFIG, "one", slow_plan, "", "respawn: {restarts: 7}\n");
    expect(srv, 0, NULL, "reload --wait");
    t = load(srv, 300);
    assert_in_range(t.n['2'], 45, 140);
    expect(srv, 0, NULL, "rollout promote");
    eventually(is(srv, "phase", "idle"));
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
    expect(srv, 0, NULL, "reload --wait");
    assert_true(is(srv, "result", "running"));
    expect(srv, 0, NULL, "rollout abort");
    eventually(is(srv, "phase", "idle"));
    res = server_get(srv, "/");
    assert_string_equal(res->body, "1 one");
    response_free(&res);
    expect(srv, 0, NULL, "reload --wait"); /* nothing new */
    res = server_get(srv, "/");
    assert_string_equal(res->body, "1 one");
    response_free(&res);
    expect(srv, 0, NULL, "reload --wait --force"); /* all at once */
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
    make(srv->dir, "v", "2", "");
    expect(srv, 0, NULL, "reload --wait");
    load_until_ended(srv);
    assert_true(is(srv, "result", "promoted"));
    t = load(srv, 100);
    assert_int_equal(t.n['2'], 100);
    make(srv->dir, "v", "3", "if (n == 2) abort();");
    expect(srv, 0, NULL, "reload --wait");
    load_until_ended(srv);
    assert_true(is(srv, "result", "rolled back"));
    t = load(srv, 100);
    assert_int_equal(t.n['2'], 100);
    expect(srv, 0, NULL, "reload --wait");
    t = load(srv, 100);
    assert_int_equal(t.n['2'], 100);
    assert_int_equal(server_stop(&srv), 0);
}

static void two_at_once_are_refused(void **state)
{
    struct server *srv = start("", slow_plan, slow_plan);

    (void)state;
    make(srv->dir, "v", "2", "");
    make(srv->dir, "w", "2", "");
    expect(srv, 2, "there is one rollout at a time", "reload --wait");
    make(srv->dir, "w", "1", "");
    expect(srv, 0, NULL, "reload --wait");
    assert_true(is(srv, "plugin", "v"));
    make(srv->dir, "w", "2", "");
    expect(srv, 2, "there is one rollout at a time", "reload --wait");
    expect(srv, 0, NULL, "reload --wait --force");
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
    make(srv->dir, "v", "2", COUNTS);
    expect(srv, 0, NULL, "reload --wait");
    load(srv, 200);
    expect(srv, 0, NULL, "rollout abort");
    load(srv, 100);
    eventually(is(srv, "phase", "idle"));
    expect(srv, 0, NULL, "rollout start v --manual --steps canary=50%");
    load(srv, 200);
    expect(srv, 0, NULL, "rollout promote");
    load(srv, 100);
    eventually(is(srv, "phase", "idle"));
    make(srv->dir, "v", "1", COUNTS);
    expect(srv, 0, NULL, "reload --wait --force");
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
    expect(srv, 0, NULL, "reload --wait");
    make(srv->dir, "v", "2", MEASURES("87")); /* 8.75 % more */
    expect(srv, 0, NULL, "reload --wait");
    load(srv, 300);
    expect(srv, 0, "waiting for the metric right to be better by 9.2%", "rollout status");
    assert_true(is(srv, "result", "running"));
    expect(srv, 0, NULL, "rollout abort");
    eventually(is(srv, "phase", "idle"));
    make(srv->dir, "v", "3", MEASURES("87.4")); /* 9.25 % */
    expect(srv, 0, NULL, "reload --wait");
    load_until_ended(srv);
    assert_true(is(srv, "result", "promoted"));
    make(srv->dir, "v", "4", MEASURES("40"));
    expect(srv, 0, NULL, "reload --wait");
    load_until_ended(srv);
    assert_true(is(srv, "result", "rolled back"));
    expect(srv, 0, "its metric right is worse by more than 50%", "rollout status");
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
