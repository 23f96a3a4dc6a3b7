#include "refusal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scene.h"

#define N(ARRAY) (sizeof(ARRAY) / sizeof(ARRAY)[0])

struct stage {
    char column;
    const char *name;
    const char *says; /* the message, about where it was */
};

static const struct stage stages[] = {
    {'e', "open", "open()"},
    {'e', "validate", "validate()"},
    {'f', "constructor", "constructor"},
    {'g', "close", "close()"}, /* an instance is closed in the trial run, too */
};

struct attempt {
    int row;
    const struct matrix_fault *fault;
    const struct stage *stage;
    char name[64]; /* of its files, in the folder */
};

static char expected_outcome(const struct attempt *a)
{
    return matrix_expected(a->row, a->fault, a->stage->column);
}

static bool is_tried(const struct attempt *a, bool is_refused, const char *only)
{
    char expected = expected_outcome(a);

    if (!is_refused && a->stage->column == 'g')
        return false; /* test_matrix.c lets them crash while they serve */
    return strchr(a->fault->columns, a->stage->column) != NULL &&
           (only == NULL || strcmp(only, a->fault->name) == 0) && expected != CELL_NONE &&
           expected != CELL_UNRUN && (expected == 'F') == is_refused;
}

/* ---- one attempt ----------------------------------------------------------------------------- */

static const char *constructor_variable(const struct attempt *a)
{
    return strcmp(a->fault->name, "throw") == 0 ? "INSIDE_CONSTRUCTOR"
                                                : "BULKHEAD_FAULT_CONSTRUCTOR";
}

static void write_plugin(const struct attempt *a, char *out, size_t size)
{
    const char *fault = a->fault->name;

    if (a->stage->column == 'f')
        snprintf(out, size, "{module: %s}", strcmp(fault, "throw") == 0 ? "inside" : "fault");
    else if (strncmp(fault, "throw:", 6) == 0)
        snprintf(out, size, "{module: throw, deadline: 1s, config: {at: %s, what: %s}}",
                 a->stage->name, fault + 6);
    else
        snprintf(out, size,
                 "{module: fault, deadline: 1s, memory: 4MiB, descriptors: 40, threads: 8,\n"
                 "    config: {at: %s, fault: %s, from_request: true}}",
                 a->stage->name, fault);
}

/* A config, and a line in `list`: the command that must fail. */
static void prepare(const char *dir, const struct attempt *a, FILE *list)
{
    char plugin[256], path[4096];

    write_plugin(a, plugin, sizeof plugin);
    snprintf(path, sizeof path, "%s/%s.yaml", dir, a->name);
    file_write(path,
               "version: 1\n"
               "server: {workers: 1}\n"
               "listeners: [{name: a, address: \"unix:%s/%s.sock\"}]\n"
               "modules: {path: [\"%s\", \"%s\"]}\n"
               "plugins:\n"
               "  culprit: %s\n"
               "routes: [{chain: [culprit]}]\n"
               "crash: {dir: %s/crashes}\n",
               dir, a->name, getenv("BULKHEAD_PLUGINS"), getenv("BULKHEAD_MODULES"), plugin, dir);
    if (a->stage->column == 'f')
        fprintf(list, "%s run env %s=%s\n", a->name, constructor_variable(a), a->fault->name);
    else
        fprintf(list, "%s run env\n", a->name);
    if (strcmp(a->stage->name, "validate") == 0)
        fprintf(list, "%s check env\n", a->name);
}

static int complain(const struct attempt *a, const char *command, const char *what,
                    const char *said)
{
    print_error("row %d, column %c, %s in %s: bulkhead %s %s:\n%.600s\n", a->row + 1,
                a->stage->column, a->fault->name, a->stage->name, command, what,
                said != NULL ? said : "");
    return 1;
}

static int judge(const char *dir, const struct attempt *a, const char *command)
{
    char path[4096], *said, *code;
    int exit_code, n = 0;

    snprintf(path, sizeof path, "%s/%s.%s.said", dir, a->name, command);
    said = file_read(path);
    snprintf(path, sizeof path, "%s/%s.%s.code", dir, a->name, command);
    code = file_read(path);
    exit_code = code != NULL ? (int)strtol(code, NULL, 10) : 0;
    if (exit_code == 0 || exit_code >= 124 || (strcmp(command, "check") == 0 && exit_code != 2))
        n = complain(a, command, "ended with the wrong exit code, or not by itself", code);
    if (said == NULL || strstr(said, "plugin 'culprit'") == NULL ||
        strstr(said, a->row + 1 == 19 ? "it " : a->stage->says) ==
            NULL) /* whoever leaks is not caught at it */
        n += complain(a, command, "does not say who did it, and where", said);
    free(said);
    free(code);
    return n;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* Calls fn for each attempt; returns the sum of what it returned. */
static int each(bool is_refused, const char *only, int (*fn)(const struct attempt *, void *),
                void *arg)
{
    int sum = 0;

    for (int row = MATRIX_ROWS - 1; row >= 0; row--) { /* the slow ones come early */
        for (const struct matrix_fault *f = matrix[row].fault; f->name != NULL; f++) {
            for (size_t i = 0; i < N(stages); i++) {
                struct attempt a = {.row = row, .fault = f, .stage = &stages[i]};

                snprintf(a.name, sizeof a.name, "%s-%s", stages[i].name, f->name);
                for (char *p = a.name; *p != '\0'; p++)
                    *p = *p == ':' ? '-' : *p;
                if (is_tried(&a, is_refused, only))
                    sum += fn(&a, arg);
            }
        }
    }
    return sum;
}

struct run {
    const char *dir;
    FILE *list;
    char (*observed)[MATRIX_N_COLUMNS];
};

static int prepare_one(const struct attempt *a, void *arg)
{
    const struct run *run = arg;

    prepare(run->dir, a, run->list);
    return 0;
}

static int judge_one(const struct attempt *a, void *arg)
{
    const struct run *run = arg;
    char *cell = &run->observed[a->row][a->stage->column - 'a'];
    int n = judge(run->dir, a, "run");

    if (strcmp(a->stage->name, "validate") == 0)
        n += judge(run->dir, a, "check");
    /* Other faults of the row may get further, which is worse. */
    if (n == 0 && *cell == CELL_UNRUN)
        *cell = 'F';
    return n;
}

int refusal_run(char (*observed)[MATRIX_N_COLUMNS], const char *only)
{
    char *dir = tmp_dir(), path[4096];
    struct run run = {.dir = dir, .observed = observed};
    int n;

    snprintf(path, sizeof path, "%s/list", dir);
    run.list = fopen(path, "we");
    assert_non_null(run.list);
    each(true, only, prepare_one, &run);
    fclose(run.list);
    /* Several at a time: most of the slow ones' time is waiting. */
    run_command(NULL,
                "cd %s && xargs -r -L 1 -P 12 sh -c '"
                "name=$0 command=$1; shift; ulimit -c 0; "
                "timeout 40 nice -n 10 \"$@\" \"$BULKHEAD\" $command -c $name.yaml "
                ">$name.$command.said 2>&1 </dev/null; echo $? >$name.$command.code' <list",
                dir);
    n = each(true, only, judge_one, &run);
    free(dir);
    return n;
}

/* ---- those that are not refused -------------------------------------------------------------- */

static int start_one(const struct attempt *a, void *arg)
{
    const struct run *run = arg;
    const char *variable = constructor_variable(a);
    struct server *srv;
    struct response *before, *crash, *after;
    char plugin[256];
    pid_t worker = 0, same = 0;
    int n = 0;

    if (a->stage->column == 'f') {
        setenv(variable, a->fault->name, 1);
        strcpy(plugin, "{module: fault, config: {from_request: true}}");
    } else {
        write_plugin(a, plugin, sizeof plugin);
    }
    srv = server_start("version: 1\n"
                       "server: {workers: 1}\n"
                       "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                       "modules: {path: [@PLUGINS@]}\n"
                       "limits: {timeouts: {drain: 1s}}\n"
                       "plugins:\n"
                       "  culprit: %s\n"
                       "routes: [{chain: [culprit]}]\n"
                       "crash: {dir: @DIR@/crashes}\n",
                       plugin);
    unsetenv(variable);
    eventually(server_children(srv, "bh-worker", &worker, 1) == 1);
    before = server_get(srv, "/?fault=none");
    crash = server_get(srv, "/?fault=segv&at=on_request");
    after = server_get(srv, "/?fault=none");
    server_children(srv, "bh-worker", &same, 1);
    eventually(!scene_has_child(same)); /* no second worker that nobody knows of */
    if (before->status != 200 || crash->status != 500 || after->status != 200 || worker != same)
        n = complain(a, "run", "starts, but does not stand a crash", NULL);
    else
        run->observed[a->row][a->stage->column - 'a'] = expected_outcome(a);
    response_free(&before);
    response_free(&crash);
    response_free(&after);
    if (server_stop(&srv) != 0)
        n += complain(a, "run", "did not end in order", NULL);
    return n;
}

int refusal_spared(char (*observed)[MATRIX_N_COLUMNS], const char *only)
{
    struct run run = {.observed = observed};

    return each(false, only, start_one, &run);
}
