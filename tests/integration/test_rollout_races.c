/*
 * test_rollout_races.c - several who operate one server at the same time, and what becomes of mistakes
 * beside a rollout that was.
 */
#include "rollout_scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 6, ROUNDS = 5 };

/* What each of so many processes, begun at once, was told. */
struct told {
    int n, n_done, winner;
    int status[MOST];
    char *text[MOST];
};

static struct told ask_at_once(const struct server *srv, int n, const char *const commands[])
{
    struct told t = {.n = n, .winner = -1};
    char script[4096] = "";
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += (size_t)snprintf(script + len, sizeof script - len,
                                "(RUNTIME_DIRECTORY=%s %s %s -c %s > %s/told.%d 2>&1; "
                                "echo $? > %s/status.%d) & ",
                                srv->dir, getenv("BULKHEAD"), commands[i], srv->config, srv->dir, i,
                                srv->dir, i);
    assert_true(len < sizeof script - 8);
    assert_int_equal(run_command(NULL, "%s wait", script), 0);
    for (int i = 0; i < n; i++) {
        char path[512], *status;

        snprintf(path, sizeof path, "%s/status.%d", srv->dir, i);
        status = file_read(path);
        t.status[i] = atoi(status);
        free(status);
        snprintf(path, sizeof path, "%s/told.%d", srv->dir, i);
        t.text[i] = file_read(path);
        if (t.status[i] == 0) {
            t.n_done++;
            t.winner = i;
        }
    }
    return t;
}

static void forget(struct told *t)
{
    for (int i = 0; i < t->n; i++)
        free(t->text[i]);
}

/* Who was not served: exit 1, and one of these, in one line. */
static void check_refused(const struct told *t, const char *why, const char *or_why)
{
    for (int i = 0; i < t->n; i++) {
        const char *end = strchr(t->text[i], '\n');

        if (t->status[i] == 0)
            continue;
        if (t->status[i] != 1 ||
            (strstr(t->text[i], why) == NULL && strstr(t->text[i], or_why) == NULL) ||
            end == NULL || end[1] != '\0')
            harness_fail(__FILE__, __LINE__, "exit %d, and not one line with '%s' or '%s':\n%s",
                         t->status[i], why, or_why, t->text[i]);
    }
}

static void check_version(struct server *srv, char version)
{
    struct response *res = server_get(srv, "/");

    assert_int_equal(res->status, 200);
    assert_int_equal(res->body[0], version);
    response_free(&res);
}

/* What all workers that serve have loaded is of this generation, and nothing is left to do. */
static int generation_at_rest(const struct server *srv)
{
    json_t *json;
    char *out;
    int n;

    eventually(server_children(srv, "bh-worker", NULL, 0) == 2);
    rollout_ask(srv, &out, "status --json 2>/dev/null");
    json = json_loads(out, 0, NULL);
    free(out);
    n = (int)json_integer_value(json_object_get(json, "generation"));
    json_decref(json);
    return n;
}

static void of_many_who_start_one_does(void **state)
{
    static const char start[] = "rollout start v --manual --steps canary=50%";
    static const char *const starts[MOST] = {start, start, start, start, start, start};
    static const char *const ends[] = {"rollout abort", "rollout promote", "rollout rollback",
                                       "rollout step"};
    static const char *const results[] = {"aborted", "promoted", "rolled back", "promoted"};
    struct server *srv = rollout_start("", "");
    char version = '1';

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        char next[2] = {(char)('2' + round), '\0'};
        struct told t;

        rollout_make(srv->dir, "v", next, "");
        t = ask_at_once(srv, MOST, starts);
        assert_int_equal(t.n_done, 1);
        check_refused(&t, "there is one at a time", "reloads just now");
        forget(&t);
        assert_true(rollout_is(srv, "phase", "stepping"));

        t = ask_at_once(srv, 4, ends);
        assert_int_equal(t.n_done, 1);
        check_refused(&t, "no rollout is under way", "no rollout is under way");
        eventually(rollout_is(srv, "phase", "idle"));
        assert_true(rollout_is(srv, "result", results[t.winner]));
        if (t.winner == 1 || t.winner == 3)
            version = next[0];
        forget(&t);
        check_version(srv, version);
        generation_at_rest(srv);
        for (int i = 0; i < 8; i++)
            check_version(srv, version);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void reloads_and_a_rollout_at_once_leave_one_generation(void **state)
{
    static const char *const commands[MOST] = {
        "reload --wait", "rollout start v --manual --steps canary=50%",
        "reload --wait", "rollout abort",
        "reload --wait", "rollout promote"};
    struct server *srv = rollout_start("", "");

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        char next[2] = {(char)('2' + round), '\0'};
        int before = generation_at_rest(srv);
        struct told t;

        rollout_make(srv->dir, "v", next, "");
        t = ask_at_once(srv, MOST, commands);
        assert_true(t.n_done > 0);
        for (int i = 0; i < t.n; i++)
            if (t.status[i] > 1 && strstr(t.text[i], "nothing to roll out") == NULL)
                harness_fail(__FILE__, __LINE__, "exit %d:\n%s", t.status[i], t.text[i]);
        forget(&t);
        eventually(!rollout_is(srv, "phase", "starting") && !rollout_is(srv, "phase", "ending"));
        if (rollout_is(srv, "phase", "stepping"))
            rollout_expect(srv, 0, NULL, "rollout abort");
        /* Then it does what it is told, as if nothing had been. */
        eventually(rollout_ask(srv, NULL, "reload --wait --force") == 0);
        assert_true(generation_at_rest(srv) > before);
        for (int i = 0; i < 8; i++)
            check_version(srv, next[0]);
    }
    assert_true(server_is_running(srv));
    assert_int_equal(server_stop(&srv), 0);
}

static void a_start_that_is_refused_leaves_the_last_rollout_as_it_was(void **state)
{
    struct server *srv = rollout_start("", "");
    char *config;

    (void)state;
    rollout_make(srv->dir, "v", "2", "");
    rollout_expect(srv, 0, NULL, "rollout start v --manual --steps canary=50%,canary=70%");
    rollout_expect(srv, 0, NULL, "rollout promote");
    eventually(rollout_is(srv, "phase", "idle"));
    rollout_make(srv->dir, "v", "3", "");
    rollout_expect(srv, 2, "expected a percentage", "rollout start v --steps canary=many");
    rollout_expect(srv, 0, "promoted", "rollout status");
    assert_true(rollout_is(srv, "plugin", "v"));

    config = file_read(srv->config);
    file_write(srv->config, "%snonsense\n", config);
    rollout_expect(srv, 2, "has mistakes", "rollout start v --manual");
    rollout_expect(srv, 0, "promoted", "rollout status");
    rollout_expect(srv, 1, "has mistakes", "rollout rollback");
    check_version(srv, '2');

    file_write(srv->config, "%s", config);
    rollout_expect(srv, 0, "1 comes back", "rollout rollback");
    eventually(rollout_is(srv, "phase", "idle"));
    check_version(srv, '1');
    free(config);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_many_who_start_one_does),
        cmocka_unit_test(reloads_and_a_rollout_at_once_leave_one_generation),
        cmocka_unit_test(a_start_that_is_refused_leaves_the_last_rollout_as_it_was),
    };

    cmocka_set_test_filter(getenv("ONLY")); /* by hand */
    return cmocka_run_group_tests_name("rollout races", tests, NULL, NULL);
}
