/*
 * test_json.c - `--json` of every command there is: it is taken, and what comes is JSON.
 */
#include "harness.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK "-c @CONFIG@"

static const struct {
    const char *command;
    const char *arguments; /* @CONFIG@, @DIR@; NULL: it has no --json, since it makes no sense */
    int status;            /* that it ends with; -1: does not matter */
} cases[] = {
    {"run", NULL, 0},
    {"status", ASK, -1}, /* 3: something is amiss */
    {"top", "--once " ASK, 0},
    {"metrics", ASK, 0},
    {"reload", "--wait " ASK, 0},
    {"reload", "--dry-run " ASK, 0},
    {"diff", ASK, 0},
    {"breaker", ASK, 0},
    {"breaker", "open boom " ASK, 0},
    {"breaker", "reset boom " ASK, 0},
    {"rollout", "status " ASK, 0},
    {"rollout", "pause " ASK, 1}, /* there is none */
    {"events", ASK, 0},
    {"worker", "ls " ASK, 0},
    {"worker", "recycle all " ASK, 0},
    {"alerts", ASK, 0},
    {"loglevel", ASK, 0},
    {"loglevel", "debug " ASK, 0},
    {"check", ASK, 0},
    {"inspect", "\"$BULKHEAD_PLUGINS/respond.so\"", 0},
    {"schema", "", 0},
    {"crashes", "list " ASK, 0},
    {"crashes", "show --last " ASK, 0},
    {"replay", "--last " ASK, 0},
    {"new", "greeter @DIR@/greeter", 0},
    {"completion", NULL, 0},
    {"manual", NULL, 0},
    {"version", "", 0},
    {"help", NULL, 0},
};

#define N_CASES (sizeof cases / sizeof cases[0])

static char *fill_in(const char *text, const struct server *srv)
{
    char *out = calloc(1, strlen(text) + 1024);
    size_t n = 0;

    while (*text != '\0') {
        if (strncmp(text, "@CONFIG@", 8) == 0) {
            n += (size_t)sprintf(out + n, "%s", srv->config);
            text += 8;
        } else if (strncmp(text, "@DIR@", 5) == 0) {
            n += (size_t)sprintf(out + n, "%s", srv->dir);
            text += 5;
        } else {
            out[n++] = *text++;
        }
    }
    return out;
}

/* The whole of it, or a value on each line. */
static bool is_json(const char *text)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    char *copy, *save = NULL;
    bool is_one = json != NULL;

    json_decref(json);
    if (is_one || text[0] == '\0')
        return is_one;
    copy = strdup(text);
    is_one = true;
    for (char *line = strtok_r(copy, "\n", &save); line != NULL && is_one;
         line = strtok_r(NULL, "\n", &save)) {
        json = json_loads(line, JSON_DECODE_ANY, NULL);
        is_one = json != NULL;
        json_decref(json);
    }
    free(copy);
    return is_one;
}

static const char *said_to_stderr(const struct server *srv)
{
    char path[512];

    snprintf(path, sizeof path, "%s/stderr", srv->dir);
    return file_read(path); /* the test is over by then */
}

static void check_case(const struct server *srv, size_t i)
{
    char *arguments, *out;
    int status;

    if (cases[i].arguments == NULL)
        return;
    arguments = fill_in(cases[i].arguments, srv);
    status = run_command(&out, "RUNTIME_DIRECTORY=%s \"$BULKHEAD\" %s --json %s 2>%s/stderr",
                         srv->dir, cases[i].command, arguments, srv->dir);
    if (cases[i].status >= 0 && status != cases[i].status)
        harness_fail(__FILE__, __LINE__, "%s --json %s: exit status %d: %.1000s%.1000s",
                     cases[i].command, arguments, status, out, said_to_stderr(srv));
    if (!is_json(out))
        harness_fail(__FILE__, __LINE__, "%s --json %s: no JSON: %.1000s", cases[i].command,
                     arguments, out);
    free(out);
    free(arguments);
}

static void every_command_prints_json(void **state)
{
    struct server *srv = server_start(
        "version: 1\n"
        "server: {workers: 1}\n"
        "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@, @MODULES@]}\n"
        "plugins:\n"
        "  boom: {module: fault, config: {fault: segv}}\n"
        "  site: {module: respond}\n"
        "routes:\n"
        "  - {match: {path: /boom}, chain: [boom, site]}\n"
        "  - {chain: [site]}\n"
        "crash: {dir: @DIR@/crashes}\n"
        "alerts: {rules: [{name: never, metric: bulkhead_workers, when: \"> 1000\"}]}\n");
    struct response *res = server_get(srv, "/boom");

    (void)state;
    assert_int_equal(res->status, 500);
    response_free(&res);
    eventually(run_command(NULL, "test -n \"$(ls %s/crashes/*.json 2>/dev/null)\"", srv->dir) == 0);
    for (size_t i = 0; i < N_CASES; i++)
        check_case(srv, i);
    assert_int_equal(server_stop(&srv), 0);
}

static void no_command_is_forgotten_here(void **state)
{
    char *names, *save = NULL;

    (void)state;
    assert_int_equal(
        run_command(&names, "\"$BULKHEAD\" help | sed -n 's/^  \\([a-z]*\\) .*/\\1/p'"), 0);
    for (char *name = strtok_r(names, "\n", &save); name != NULL;
         name = strtok_r(NULL, "\n", &save)) {
        size_t i = 0;

        while (i < N_CASES && strcmp(cases[i].command, name) != 0)
            i++;
        if (i == N_CASES)
            harness_fail(__FILE__, __LINE__, "what does `bulkhead %s --json` print?", name);
    }
    free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_prints_json),
        cmocka_unit_test(no_command_is_forgotten_here),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
