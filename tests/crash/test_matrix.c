/*
 * test_matrix.c - the crash matrix, executed: each fault in each place, in company.
 *
 * Parts of it run side by side, in processes of their own; what they saw gathers in shared memory,
 * and is printed as a table at the end. `test_matrix --markdown` writes docs/crash-model.md instead.
 *
 * BULKHEAD_MATRIX_REQUESTS: how many requests must be answered right after each fault (50).
 * BULKHEAD_MATRIX_ONLY: one fault alone, for whoever looks into it.
 */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "matrix.h"
#include "refusal.h"
#include "scene.h"

#define N(ARRAY) (sizeof(ARRAY) / sizeof(ARRAY)[0])

/* Where a fault is committed. */
struct place {
    char column;
    const char *name; /* as plugins/fault and tests/plugins/inside.c call it */
    const char *hook; /* in the record */
    int job;          /* in matrix_row.jobs */
};

static const struct place places[] = {
    {'a', "on_request", "on_request", 0},
    {'b', "on_request_body", "on_request_body", 0},
    {'c', "on_response_body", "on_response_body", 0},
    {'d', "on_log", "on_log", 0},
    {'g', "close", "close", 0},
    {'h', "offload", "offload", 0},
    {'h', "post", "post", 1},
    {'h', "thread", "thread", 2},
    {'h', "thread_end", "thread", 3}, /* the destructor of something that is thread-specific */
    {'h', "timer", "thread", 4},
    {'i', "allocator", "on_request", 0},
    {'j', "loader", "on_request", 0},
    {'j', "stdio", "on_request", 0},
    {'k', "host_call", "on_request", 0},
    {'k', "host_call (defer)", "defer", 0}, /* a bad function, to be called at the request's end */
    {'l', "on_response", "on_response", 0},
    {'l', "on_error", "on_error", 0},
    {'l', "defer", "defer", 0},
};

struct probe {
    int row;
    const struct matrix_fault *fault;
    const struct place *place;
    char instance[64], target[256];
};

static char (*observed)[MATRIX_N_COLUMNS]; /* shared by the parts */
static const char *only;
static int n_next = 50;
static int n_wrong; /* in this test */

__attribute__((format(printf, 2, 3))) static void wrong(const struct probe *p, const char *format,
                                                        ...)
{
    va_list args;
    char text[512];

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_error("row %d, column %c, %s in %s: %s\n", p->row + 1, p->place->column, p->fault->name,
                p->place->name, text);
    n_wrong++;
}

/* ---- what to expect -------------------------------------------------------------------------- */

static bool is_throw(const struct matrix_fault *f)
{
    return strncmp(f->name, "throw:", 6) == 0;
}

static char expected_outcome(const struct probe *p)
{
    char job;

    if (p->place->column != 'h')
        return matrix_expected(p->row, p->fault, p->place->column);
    job = matrix[p->row].jobs[p->place->job];
    return p->fault->instead != '\0' && job != CELL_UNRUN ? p->fault->instead : job;
}

/* Is the plugin taken out of the worker, which is then replaced? */
static bool ejects(const struct probe *p)
{
    char expected = expected_outcome(p);

    return expected == 'Q' || (p->row + 1 == 14 && expected == 'T');
}

static bool is_tried(const struct probe *p)
{
    char expected = expected_outcome(p), column = p->place->column;

    if (strchr(p->fault->columns, column) == NULL || expected == CELL_NONE ||
        expected == CELL_UNRUN || expected == 'F')
        return false;
    if (column == 'g' && is_throw(p->fault))
        return false; /* when the worker ends: a_worker_ends_in_order_whatever_close_does() */
    /* Each fault is fit for one kind of bad pointer. */
    return column != 'k' ||
           (strcmp(p->fault->name, "jump") == 0) == (strcmp(p->place->hook, "defer") == 0);
}

/* Nothing dies of these, and nothing is recorded. */
static bool is_harmless(const struct probe *p)
{
    int row = p->row + 1;

    return row == 18 || row == 20 || (row == 17 && p->fault->instead == '\0') ||
           (row == 11 && strcmp(p->place->hook, "thread") == 0);
}

/* It is taken out without a crash. */
static bool is_hoarder(const struct probe *p)
{
    return p->row + 1 == 19;
}

/* Of a request that was the one to pay. */
static int expected_status(const struct probe *p)
{
    static const char *const after_the_answer[] = {"on_log", "defer", "post", "thread"};
    const char *hook = p->place->hook;

    for (size_t i = 0; i < N(after_the_answer); i++)
        if (strcmp(hook, after_the_answer[i]) == 0)
            return 200;
    /* on_error crashes on a failure's way to 500, close after a crash. */
    return matrix_is_deadline(p->fault) && strcmp(hook, "on_error") != 0 &&
                   strcmp(hook, "close") != 0
               ? 504
               : 500;
}

/* Some places have a function of their own that faults. */
static const char *expected_function(const struct probe *p)
{
    if (p->place->column == 'i')
        return "inside_";
    if (p->place->column == 'k' && strncmp(p->fault->name, "bad_", 4) != 0)
        return strcmp(p->place->hook, "defer") == 0 ? NULL : "fault_host_call";
    return p->fault->function;
}

/* ---- committing it --------------------------------------------------------------------------- */

static void aim(struct probe *p)
{
    const char *fault = p->fault->name, *place = p->place->name;
    const char *soon = matrix_is_deadline(p->fault) ? "_soon" : "";
    char column = p->place->column;

    if (is_throw(p->fault)) {
        snprintf(p->instance, sizeof p->instance, "t_%s_%s", place, fault + 6);
        snprintf(p->target, sizeof p->target, "/throw/%s/%s%s", place, fault + 6,
                 strcmp(place, "on_error") == 0 ? "/fail" : "");
    } else if (column == 'i' || column == 'j') {
        snprintf(p->instance, sizeof p->instance, "inside%s", soon);
        snprintf(p->target, sizeof p->target, "/inside%s?fault=%s&at=%s", soon, fault, place);
    } else if (column == 'g') { /* an instance that has crashed is closed */
        snprintf(p->instance, sizeof p->instance, "g_%s", fault);
        snprintf(p->target, sizeof p->target, "/g/%s?fault=segv&at=on_request", fault);
    } else if (strcmp(place, "on_error") == 0) {
        snprintf(p->instance, sizeof p->instance, "e%s", soon);
        snprintf(p->target, sizeof p->target, "/e%s/fail?fault=%s&at=on_error", soon, fault);
    } else {
        if (column == 'k') /* the faults bad_* call the host by themselves */
            place = strncmp(fault, "bad_", 4) == 0 ? "on_request" : "host_call";
        snprintf(p->instance, sizeof p->instance, "f%s", soon);
        snprintf(p->target, sizeof p->target, "/f%s/%s?fault=%s&at=%s%s", soon, fault, fault, place,
                 column == 'c' ? "&stream=1&chunk=3" : "");
    }
}

static struct response *commit(struct scene *scene, const struct probe *p)
{
    struct conn *conn = conn_open(scene->srv->port[0]);
    bool has_body = p->place->column == 'b';
    struct response *res = conn_request(conn, has_body ? "POST" : "GET", p->target, NULL,
                                        has_body ? "body" : NULL, has_body ? 4 : 0);

    conn_close(&conn);
    return res;
}

/* ---- what became of it ----------------------------------------------------------------------- */

/* The boundary stands as before: one more crash is one more 500. */
static const char *crash_once_more(struct scene *scene)
{
    struct response *res = server_get(scene->srv, "/f/proof?fault=segv&at=on_request");
    bool is_right = res->status == 500;

    response_free(&res);
    return is_right ? NULL : "the boundary does not work after it";
}

/* Does everything else go on, in the same worker? NULL, or what does not. */
static const char *look_around(struct scene *scene, const struct probe *p)
{
    const char *harm = scene_harm(scene);

    if (harm == NULL)
        harm = scene_next(scene, n_next);
    if (harm == NULL && is_harmless(p))
        harm = crash_once_more(scene);
    if (harm == NULL && is_harmless(p))
        eventually(!scene_has_child(scene->worker)); /* which would be a worker, too */
    if (harm != NULL)
        scene_disperse(scene);
    return harm;
}

static bool waits_for_new_worker(struct scene *scene, int timeout_ms)
{
    int64_t end = harness_deadline_ms(timeout_ms);

    while (!scene_has_new_worker(scene)) {
        if (!harness_pause(end))
            return false;
    }
    return true;
}

static json_t *find_record(struct scene *scene, const struct probe *p, pid_t worker)
{
    if (worker != scene->worker && !ejects(p))
        return scene_record(scene, worker, NULL, 'X');
    if (p->fault->cause == NULL || expected_outcome(p) == 'N' || is_harmless(p))
        return NULL;
    return scene_record(scene, worker, p->place->hook, '\0');
}

static const char *text_at(const json_t *record, const char *key, const char *sub)
{
    const json_t *value = json_object_get(record, key);
    const char *s = json_string_value(sub != NULL ? json_object_get(value, sub) : value);

    return s != NULL ? s : "nothing";
}

static char judge(const struct probe *p, const struct response *res, bool is_replaced,
                  const json_t *record)
{
    if (ejects(p) != is_replaced)
        return is_replaced ? 'X' : 'N';
    if (record == NULL)
        return is_harmless(p) ? 'R' : is_hoarder(p) ? 'Q' : is_replaced ? 'X' : 'N';
    if (p->place->column == 'c' && res->status == 200 && res->truncated)
        return 'T';
    return is_replaced ? text_at(record, "verdict", NULL)[0] : 'R';
}

/* As the place, or, where that is one of the header's inline functions, as a caller of it. */
static bool names_function(const json_t *record, const char *function)
{
    const json_t *frames = json_object_get(record, "backtrace");

    if (function == NULL || strstr(text_at(record, "where", "function"), function) != NULL)
        return true;
    for (size_t i = 0; i < json_array_size(frames) && i < 12; i++) {
        if (strstr(text_at(json_array_get(frames, i), "function", NULL), function) != NULL)
            return true;
    }
    return false;
}

/* Charged to whom, for what, where? */
static void check_record(const struct probe *p, const json_t *record, char outcome)
{
    const char *instance = text_at(record, "plugin", "instance"), *cause = p->fault->cause;
    const char *hook = text_at(record, "hook", NULL), *function = expected_function(p);
    const char *signal = text_at(record, "signal", "name"), *kind = text_at(record, "kind", NULL);

    if (text_at(record, "verdict", NULL)[0] != outcome)
        wrong(p, "the record's verdict is %s, not %c", text_at(record, "verdict", NULL), outcome);
    if (matrix_is_uncharged(p->row + 1, p->place->name))
        return;
    if (strcmp(instance, p->instance) != 0)
        wrong(p, "charged to %s instead of %s", instance, p->instance);
    if (cause == NULL)
        return;
    /* A thread may end the process while the loop is still in the call that started it. */
    if (strcmp(hook, p->place->hook) != 0 && (p->row + 1 != 10 || p->place->column != 'h'))
        wrong(p, "charged to the hook %s", hook);
    if (strcmp(signal, cause) != 0 && strcmp(kind, cause) != 0)
        wrong(p, "the record says %s, signal %s instead of %s", kind, signal, cause);
    if (!names_function(record, function))
        wrong(p, "the record names %s instead of %s", text_at(record, "where", "function"),
              function);
}

/* The worst counts. What is not noticed may be later: that is no better. */
static void note(const struct probe *p, char outcome)
{
    char *cell = &observed[p->row][p->place->column - 'a'];
    char says = matrix[p->row].actual[p->place->column - 'a'];

    if (matrix_rank(expected_outcome(p)) > matrix_rank(says))
        return; /* goes round what the cell is about */
    if (expected_outcome(p) == 'N' && outcome == 'X')
        outcome = 'N';
    if (*cell == CELL_UNRUN || matrix_rank(outcome) > matrix_rank(*cell))
        *cell = outcome;
}

static void run_probe(struct scene *scene, struct probe *p)
{
    char expected = expected_outcome(p), outcome;
    bool may_harm = matrix_rank(expected) >= matrix_rank('X') || ejects(p), is_replaced;
    pid_t worker = scene->worker;
    struct response *res;
    const char *harm = NULL;
    json_t *record;

    aim(p);
    scene_gather(scene);
    res = commit(scene, p);
    if (!may_harm)
        harm = look_around(scene, p);
    else if (ejects(p))
        harm = scene_harm_of_leaving(scene);
    is_replaced = waits_for_new_worker(scene, expected == 'X' || ejects(p) ? 5000 : 0);
    record = find_record(scene, p, worker);
    outcome = judge(p, res, is_replaced, record);
    note(p, outcome);

    if (matrix_rank(outcome) > matrix_rank(expected))
        wrong(p, "came to %c instead of %c", outcome, expected);
    if (harm != NULL)
        wrong(p, "%s", harm);
    if (record != NULL)
        check_record(p, record, outcome);
    else if (is_replaced && !is_hoarder(p))
        wrong(p, "a worker died without a record");
    if (strchr("RQ", outcome) != NULL && !is_harmless(p) && !is_hoarder(p) &&
        res->status != expected_status(p))
        wrong(p, "answered %d instead of %d", res->status, expected_status(p));
    json_decref(record);
    response_free(&res);

    if (may_harm || is_replaced) {
        scene_disperse(scene);
        harm = scene_next(scene, n_next);
        if (harm != NULL)
            wrong(p, "%s", harm);
        if (!is_replaced) /* what it has done silently shall not fall upon the next */
            scene_renew_worker(scene);
    }
}

static void run_probes(const char *columns, bool (*wants)(int row))
{
    struct scene scene;

    n_wrong = 0;
    scene_open(&scene);
    for (int row = 0; row < MATRIX_ROWS; row++) {
        for (const struct matrix_fault *f = matrix[row].fault; wants(row + 1) && f->name; f++) {
            for (size_t i = 0; i < N(places); i++) {
                struct probe p = {.row = row, .fault = f, .place = &places[i]};

                if (strchr(columns, p.place->column) != NULL && is_tried(&p) &&
                    (only == NULL || strcmp(only, f->name) == 0))
                    run_probe(&scene, &p);
            }
        }
    }
    scene_close(&scene);
    assert_int_equal(n_wrong, 0);
}

/* ---- the tests ------------------------------------------------------------------------------- */

static bool is_in_process(int row)
{
    return row <= 9 || row == 11;
}

static bool is_beyond(int row)
{
    return !is_in_process(row);
}

static void a_crash_in_a_hook_costs_one_request(void **state)
{
    (void)state;
    run_probes("abcdkl", is_in_process);
}

static void a_crash_elsewhere_costs_no_more_than_the_worker(void **state)
{
    (void)state;
    run_probes("ghij", is_in_process);
}

static void what_the_boundary_cannot_catch_is_replaced_or_refused(void **state)
{
    (void)state;
    run_probes(MATRIX_COLUMNS, is_beyond);
}

static void a_worker_ends_in_order_whatever_close_does(void **state)
{
    static const char *const whats[] = {"std", "int", "noexcept", "terminate"};
    struct scene scene;
    char *path, *log;

    (void)state;
    scene_open(&scene);
    path = strdup(scene.srv->log);
    scene_close(&scene);
    log = file_read(path);
    for (size_t i = 0; i < N(whats); i++) {
        char line[128];

        snprintf(line, sizeof line, "worker 0: plugin 't_close_%s': close() crashed with SIGABRT",
                 whats[i]);
        if (strstr(log, line) == NULL)
            fail_msg("the log does not say: %s", line);
    }
    observed[7]['g' - 'a'] = 'R';
    free(log);
    free(path);
}

static void a_plugin_that_faults_while_it_is_loaded_is_refused(void **state)
{
    (void)state;
    assert_int_equal(refusal_run(observed, only), 0);
}

static void what_cannot_hurt_while_loading_is_not_refused(void **state)
{
    (void)state;
    assert_int_equal(refusal_spared(observed, only), 0);
}

static void every_difference_from_the_specification_has_a_reason(void **state)
{
    (void)state;
    for (int row = 0; row < MATRIX_ROWS; row++) {
        if (matrix_unexplained(row) != '\0')
            fail_msg("row %d, column %c", row + 1, matrix_unexplained(row));
    }
}

static void the_page_is_up_to_date(void **state)
{
    const char *sdk = getenv("BULKHEAD_SDK");
    char path[4096], *page, *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    (void)state;
    assert_non_null(out);
    matrix_markdown(out);
    fclose(out);
    snprintf(path, sizeof path, "%s/../docs/crash-model.md", sdk != NULL ? sdk : "sdk");
    page = file_read(path);
    if (page == NULL || strcmp(page, text) != 0)
        fail_msg(
            "docs/crash-model.md is out of date: test_matrix --markdown > docs/crash-model.md");
    free(page);
    free(text);
}

/* Better is worth knowing, too. Only what was not tried may be left open. */
static void the_table_says_what_was_seen(void **state)
{
    int n = 0;

    (void)state;
    for (int row = 0; row < MATRIX_ROWS && only == NULL; row++) {
        for (int c = 0; c < MATRIX_N_COLUMNS; c++) {
            char says = matrix[row].actual[c];

            if (says == CELL_NONE || observed[row][c] == says)
                continue;
            print_error("row %d, column %c: the table says %c, what was seen is %c\n", row + 1,
                        MATRIX_COLUMNS[c], says, observed[row][c]);
            n++;
        }
    }
    assert_int_equal(n, 0);
}

/* ---- parts, side by side --------------------------------------------------------------------- */

struct part {
    const char *name;
    struct CMUnitTest tests[4];
    size_t n;
    pid_t pid;
    FILE *output;
};

static struct part parts[] = {
    {"matrix: hooks", {cmocka_unit_test(a_crash_in_a_hook_costs_one_request)}, 1, 0, NULL},
    {"matrix: elsewhere",
     {cmocka_unit_test(a_crash_elsewhere_costs_no_more_than_the_worker),
      cmocka_unit_test(a_worker_ends_in_order_whatever_close_does)},
     2,
     0,
     NULL},
    {"matrix: beyond the boundary",
     {cmocka_unit_test(what_the_boundary_cannot_catch_is_replaced_or_refused)},
     1,
     0,
     NULL},
    {"matrix: loading",
     {cmocka_unit_test(a_plugin_that_faults_while_it_is_loaded_is_refused),
      cmocka_unit_test(what_cannot_hurt_while_loading_is_not_refused)},
     2,
     0,
     NULL},
};

static void start_part(struct part *part)
{
    pid_t parent = getpid();

    part->output = tmpfile();
    if (part->output == NULL)
        abort();
    fflush(NULL);
    part->pid = fork();
    if (part->pid != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* the servers have the same, and follow */
    if (getppid() != parent)
        _exit(1);
    dup2(fileno(part->output), STDOUT_FILENO);
    dup2(fileno(part->output), STDERR_FILENO);
    exit(_cmocka_run_group_tests(part->name, part->tests, part->n, NULL, NULL) != 0);
}

/* True when all of it went well. */
static bool finish_part(struct part *part)
{
    char buf[4096];
    size_t n;
    int status = -1;

    waitpid(part->pid, &status, 0);
    rewind(part->output);
    while ((n = fread(buf, 1, sizeof buf, part->output)) > 0)
        fwrite(buf, 1, n, stdout);
    fclose(part->output);
    return status == 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest about_the_table[] = {
        cmocka_unit_test(every_difference_from_the_specification_has_a_reason),
        cmocka_unit_test(the_page_is_up_to_date),
        cmocka_unit_test(the_table_says_what_was_seen),
    };
    const char *requests = getenv("BULKHEAD_MATRIX_REQUESTS");
    bool is_well = true;

    if (argc > 1 && strcmp(argv[1], "--markdown") == 0) {
        matrix_markdown(stdout);
        return 0;
    }
    only = getenv("BULKHEAD_MATRIX_ONLY");
    if (requests != NULL)
        n_next = (int)strtol(requests, NULL, 10);
    observed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (observed == MAP_FAILED)
        return 1;
    memset(observed, CELL_UNRUN, sizeof(char[MATRIX_ROWS][MATRIX_N_COLUMNS]));
    for (size_t i = 0; i < N(parts); i++)
        start_part(&parts[i]);
    for (size_t i = 0; i < N(parts); i++)
        is_well &= finish_part(&parts[i]);
    is_well &= cmocka_run_group_tests_name("matrix: the table", about_the_table, NULL, NULL) == 0;
    matrix_print(stdout, observed);
    return is_well ? 0 : 1;
}
