/*
 * test_matrix.c - the crash matrix, executed: each fault in each place, in company.
 */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "matrix.h"
#include "scene.h"

/* Where a fault is committed, and which request brings it there. */
struct place {
    char column;
    const char *name; /* what plugins/fault calls it */
    const char *hook; /* in the record */
};

static const struct place places[] = {
    {'a', "on_request", "on_request"},
    {'b', "on_request_body", "on_request_body"},
    {'c', "on_response_body", "on_response_body"},
    {'d', "on_log", "on_log"},
    {'g', "close", "close"},
    {'h', "offload", "offload"},
    {'h', "post", "post"},
    {'h', "thread", "thread"},
    {'i', "allocator", "on_request"},
    {'j', "loader", "on_request"},
    {'j', "stdio", "on_request"},
    {'k', "host_call", "on_request"},
    {'k', "host_call:defer", "defer"}, /* a bad function to call at the end of the request */
    {'l', "on_response", "on_response"},
    {'l', "on_error", "on_error"},
    {'l', "defer", "defer"},
};

#define N(ARRAY) (sizeof(ARRAY) / sizeof(ARRAY)[0])

static char observed[MATRIX_ROWS][MATRIX_N_COLUMNS];
static int n_wrong;
static int n_next = 50;

struct probe {
    int row;
    const struct matrix_fault *fault;
    const struct place *place;
    char instance[64];
    char target[256];
};

__attribute__((format(printf, 2, 3))) static void wrong(const struct probe *p, const char *format, ...)
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

/* ---- one probe ------------------------------------------------------------------------------- */

static void aim(struct probe *p)
{
    const char *fault = p->fault->name, *place = p->place->name;
    char column = p->place->column;

    if (strncmp(fault, "throw:", 6) == 0) {
        snprintf(p->instance, sizeof p->instance, "t_%s_%s", place, fault + 6);
        snprintf(p->target, sizeof p->target, "/throw/%s/%s%s", place, fault + 6,
                 strcmp(place, "on_error") == 0 ? "/fail" : "");
    } else if (column == 'i' || column == 'j') {
        strcpy(p->instance, "inside");
        snprintf(p->target, sizeof p->target, "/inside?fault=%s&at=%s", fault, place);
    } else if (column == 'g') {
        snprintf(p->instance, sizeof p->instance, "g_%s", fault);
        snprintf(p->target, sizeof p->target, "/g/%s?fault=segv&at=on_request", fault);
    } else if (strcmp(place, "on_error") == 0) {
        strcpy(p->instance, "e");
        snprintf(p->target, sizeof p->target, "/e/fail?fault=%s&at=on_error", fault);
    } else {
        if (strncmp(fault, "bad_", 4) == 0)
            place = "on_request"; /* they call the host by themselves */
        else if (column == 'k')
            place = "host_call";
        strcpy(p->instance, "f");
        snprintf(p->target, sizeof p->target, "/f/%s?fault=%s&at=%s%s", fault, fault, place,
                 column == 'c' ? "&stream=1&chunk=3" : "");
    }
}

static bool is_harmless(const struct probe *p)
{
    return p->row + 1 == 18 || p->row + 1 == 20;
}

static bool is_after_the_answer(const char *hook)
{
    return strcmp(hook, "on_log") == 0 || strcmp(hook, "defer") == 0 || strcmp(hook, "post") == 0 ||
           strcmp(hook, "thread") == 0;
}

static int expected_status(const struct probe *p)
{
    if (is_after_the_answer(p->place->hook))
        return 200;
    if (p->place->column == 'g')
        return 500; /* of the crash that makes the instance close */
    if (p->fault->cause != NULL && strcmp(p->fault->cause, "deadline") == 0 &&
        strcmp(p->place->hook, "on_error") != 0)
        return 504;
    return 500;
}

static const char *text_at(json_t *record, const char *key, const char *sub)
{
    const char *s = json_string_value(
        sub != NULL ? json_object_get(json_object_get(record, key), sub) : json_object_get(record, key));

    return s != NULL ? s : "nothing";
}

/* As the place, or, where that is one of the header's inline functions, as its caller. */
static bool names_function(json_t *record, const char *function)
{
    const json_t *frames = json_object_get(record, "backtrace");

    if (function == NULL || strstr(text_at(record, "where", "function"), function) != NULL)
        return true;
    for (size_t i = 0; i < json_array_size(frames) && i < 12; i++) {
        const char *name = json_string_value(json_object_get(json_array_get(frames, i), "function"));

        if (name != NULL && strstr(name, function) != NULL)
            return true;
    }
    return false;
}

/* Some places have a function of their own that faults. */
static const char *faulting_function(const struct probe *p)
{
    if (p->place->column == 'i')
        return "inside_";
    if (p->place->column == 'k' && strncmp(p->fault->name, "bad_", 4) != 0)
        return strcmp(p->fault->name, "jump") == 0 ? NULL : "fault_host_call";
    return p->fault->function;
}

/* Charged to whom, for what, where? */
static void check_record(const struct probe *p, json_t *record, char outcome)
{
    const char *verdict = text_at(record, "verdict", NULL), *cause = p->fault->cause;
    const char *instance = text_at(record, "plugin", "instance");
    const char *signal = text_at(record, "signal", "name"), *kind = text_at(record, "kind", NULL);

    if (strcmp(instance, p->instance) != 0 && strcmp(p->place->hook, "thread") != 0)
        wrong(p, "charged to %s instead of %s", instance, p->instance);
    if (verdict[0] != outcome)
        wrong(p, "the record's verdict is %s, not %c", verdict, outcome);
    if (cause == NULL)
        return;
    if (strcmp(text_at(record, "hook", NULL), p->place->hook) != 0)
        wrong(p, "charged to the hook %s", text_at(record, "hook", NULL));
    if (strcmp(signal, cause) != 0 && strcmp(kind, cause) != 0)
        wrong(p, "the record says %s, signal %s instead of %s", kind, signal, cause);
    if (!names_function(record, faulting_function(p)))
        wrong(p, "the record names %s instead of %s", text_at(record, "where", "function"),
              faulting_function(p));
}

static char judge(const struct probe *p, const struct response *res, bool is_replaced,
                  const json_t *record)
{
    if (is_replaced)
        return 'X';
    if (p->place->column == 'c' && res->status == 200 && res->truncated)
        return 'T';
    if (record != NULL || res->status >= 500)
        return 'R';
    return is_harmless(p) && res->status == 200 ? 'R' : 'N';
}

static char expected_outcome(const struct probe *p)
{
    return matrix[p->row].actual[p->place->column - 'a'];
}

static void note(const struct probe *p, char outcome)
{
    char *cell = &observed[p->row][p->place->column - 'a'];

    if (*cell == CELL_UNRUN || matrix_rank(outcome) > matrix_rank(*cell))
        *cell = outcome;
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

/* The boundary stands as before: one more crash is one more 500. */
static const char *crash_once_more(struct scene *scene)
{
    struct response *res = server_get(scene->srv, "/f/proof?fault=segv&at=on_request");
    bool is_right = res->status == 500;

    response_free(&res);
    json_decref(scene_record(scene, NULL, HARNESS_WAIT_MS));
    return is_right ? NULL : "the boundary does not work after it";
}

/* Everything else goes on, in the same worker? NULL, or what does not. */
static const char *look_around(struct scene *scene, const struct probe *p)
{
    const char *harm = scene_harm(scene);

    if (harm == NULL)
        harm = scene_next(scene, n_next);
    if (harm == NULL && is_harmless(p))
        harm = crash_once_more(scene);
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

static json_t *find_record(struct scene *scene, const struct probe *p, bool is_replaced)
{
    if (is_replaced)
        return scene_record(scene, NULL, HARNESS_WAIT_MS);
    if (p->fault->cause == NULL || expected_outcome(p) == 'N')
        return NULL;
    return scene_record(scene, p->place->hook, HARNESS_WAIT_MS);
}

static void run_probe(struct scene *scene, struct probe *p)
{
    char expected = expected_outcome(p), outcome;
    struct response *res;
    const char *harm = NULL;
    bool is_replaced;
    json_t *record;

int64_t t0 = harness_now_ms();
    aim(p);
    scene_gather(scene);
    res = commit(scene, p);
    if (matrix_rank(expected) < matrix_rank('X'))
        harm = look_around(scene, p);
    is_replaced = waits_for_new_worker(scene, expected == 'X' ? 1500 : 0);
    record = find_record(scene, p, is_replaced);
    outcome = judge(p, res, is_replaced, record);
    note(p, outcome);

    if (matrix_rank(outcome) > matrix_rank(expected))
        wrong(p, "came to %c instead of %c", outcome, expected);
    else if (harm != NULL)
        wrong(p, "%s", harm);
    if (record != NULL)
        check_record(p, record, outcome);
    else if (outcome != 'N' && p->fault->cause != NULL)
        wrong(p, "there is no crash record");
    if (outcome == 'R' && !is_harmless(p) && res->status != expected_status(p))
        wrong(p, "answered %d instead of %d", res->status, expected_status(p));
    json_decref(record);
    response_free(&res);

    if (is_replaced || matrix_rank(expected) >= matrix_rank('X')) {
        scene_disperse(scene);
        harm = scene_next(scene, n_next);
        if (harm != NULL)
            wrong(p, "%s", harm);
        if (!is_replaced) { /* what it has done silently shall not fall upon the next */
            scene_renew_worker(scene);
            json_decref(scene_record(scene, NULL, HARNESS_WAIT_MS));
        }
    }
if (getenv("SLOW") && harness_now_ms()-t0 > 400) fprintf(stderr,"SLOW %s %s %d\n", p->fault->name, p->place->name, (int)(harness_now_ms()-t0));
}

/* ---- the tests ------------------------------------------------------------------------------- */

/* The table says so; and not every fault can be brought about in every place of a column. */
static bool is_tried(const struct probe *p)
{
    char expected = expected_outcome(p);
    const char *place = p->place->name;

    if (strchr(p->fault->columns, p->place->column) == NULL || expected == CELL_NONE ||
        expected == CELL_UNRUN || expected == 'F')
        return false;
    if (strncmp(p->fault->name, "throw:", 6) == 0 && strcmp(place, "thread") == 0)
        return false; /* throw.cc starts none */
    return p->place->column != 'k' ||
           (strcmp(p->fault->name, "jump") == 0) == (strcmp(place, "host_call:defer") == 0);
}

static void run_rows(struct scene *scene, const char *columns, bool (*wants)(int row))
{
    const char *only = getenv("BULKHEAD_MATRIX_ONLY"); /* a fault: for whoever looks into one */

    for (int row = 0; row < MATRIX_ROWS; row++) {
        for (const struct matrix_fault *f = matrix[row].fault; wants(row + 1) && f->name; f++) {
            for (size_t i = 0; i < N(places); i++) {
                struct probe p = {.row = row, .fault = f, .place = &places[i]};

                if (strchr(columns, p.place->column) != NULL && is_tried(&p) &&
                    (only == NULL || strcmp(only, f->name) == 0))
                    run_probe(scene, &p);
            }
        }
    }
}

static bool is_in_process(int row)
{
    return row <= 9 || row == 11;
}

static bool is_beyond(int row)
{
    return !is_in_process(row);
}

static void what_the_boundary_catches_costs_one_request(void **state)
{
    struct scene scene;

    (void)state;
    n_wrong = 0;
    scene_open(&scene);
    run_rows(&scene, "abcdkl", is_in_process);
    scene_close(&scene);
    assert_int_equal(n_wrong, 0);
}

static void what_it_does_not_catch_costs_the_worker(void **state)
{
    struct scene scene;

    (void)state;
    n_wrong = 0;
    scene_open(&scene);
    run_rows(&scene, "ghij", is_in_process);
    run_rows(&scene, MATRIX_COLUMNS, is_beyond);
    scene_close(&scene);
    assert_int_equal(n_wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_boundary_catches_costs_one_request),
        cmocka_unit_test(what_it_does_not_catch_costs_the_worker),
    };

    memset(observed, CELL_UNRUN, sizeof observed);
    int r = cmocka_run_group_tests_name("matrix", tests, NULL, NULL);
    for (int i = 0; i < MATRIX_ROWS; i++) {
        printf("%2d  %s\n    %s\n    %.12s\n", i + 1, matrix[i].specified, matrix[i].actual, observed[i]);
    }
    return r;
}
