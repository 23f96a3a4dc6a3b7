#include "scene.h"

#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "matrix.h"

static const char *const throw_places[] = {
    "on_request", "on_request_body", "on_response", "on_response_body", "on_error",
    "on_log",     "defer",           "close",       "offload",          "post",
    "thread"};
static const char *const throw_whats[] = {"std", "int", "noexcept", "terminate"};

#define N(ARRAY) (sizeof(ARRAY) / sizeof(ARRAY)[0])

/* ---- the server ------------------------------------------------------------------------------ */

/* Faults that are committed in close(): an instance and a route each. The others of column g would
 * end the trial run of the plugins, and the server would not start. */
static bool is_for_close(const struct matrix_fault *f, int row)
{
    return strchr(f->columns, 'g') != NULL && matrix_expected(row, f, 'g') != 'F' &&
           strchr(f->name, ':') == NULL;
}

/* So that row 19 comes to its end soon. */
#define LIMITS "memory: 4MiB, descriptors: 40, threads: 8"

/* Faults that wait for a deadline do so in instances of their own. What others do takes its time, too: an overflow
 * of the stack two thousand page faults, on a machine that has other things to do. */
#define SOON "150ms"
#define LATE "20s"

static void write_plugins(FILE *out)
{
    fputs("plugins:\n"
          "  f: {module: fault, deadline: " LATE ", " LIMITS ", config: {from_request: true}}\n"
          "  f_soon: {module: fault, deadline: " SOON ", " LIMITS
          ", config: {from_request: true}}\n"
          "  e: {module: fault, deadline: " LATE ", " LIMITS ",\n"
          "    config: {from_request: true, reply: false}}\n"
          "  e_soon: {module: fault, deadline: " SOON ", " LIMITS ",\n"
          "    config: {from_request: true, reply: false}}\n"
          "  inside: {module: inside, deadline: " LATE "}\n"
          "  inside_soon: {module: inside, deadline: 600ms}\n"
          "  stream: {module: fault, config: {stream: true}}\n"
          "  hold: {module: hold}\n",
          out);
    for (int row = 0; row < MATRIX_ROWS; row++) {
        for (const struct matrix_fault *f = matrix[row].fault; f->name != NULL; f++) {
            if (is_for_close(f, row))
                fprintf(out,
                        "  g_%s: {module: fault, deadline: %s, " LIMITS ",\n"
                        "    config: {from_request: true, at: close, fault: %s}}\n",
                        f->name, matrix_is_deadline(f) ? SOON : LATE, f->name);
        }
    }
    for (size_t i = 0; i < N(throw_places); i++) {
        bool replies = strcmp(throw_places[i], "on_error") != 0 &&
                       strcmp(throw_places[i], "on_response_body") != 0;

        for (size_t k = 0; k < N(throw_whats); k++)
            fprintf(out, "  t_%s_%s: {module: throw, config: {at: %s, what: %s, reply: %s}}\n",
                    throw_places[i], throw_whats[k], throw_places[i], throw_whats[k],
                    replies ? "true" : "false");
    }
}

static void write_routes(FILE *out)
{
    fputs("routes:\n"
          "  - {match: {path: /f/**}, chain: [f]}\n"
          "  - {match: {path: /f_soon/**}, chain: [f_soon]}\n"
          "  - {match: {path: /e/**}, chain: [e, hold]}\n"
          "  - {match: {path: /e_soon/**}, chain: [e_soon, hold]}\n"
          "  - {match: {path: /inside/**}, chain: [inside]}\n"
          "  - {match: {path: /inside_soon/**}, chain: [inside_soon]}\n",
          out);
    for (int row = 0; row < MATRIX_ROWS; row++) {
        for (const struct matrix_fault *f = matrix[row].fault; f->name != NULL; f++) {
            if (is_for_close(f, row))
                fprintf(out, "  - {match: {path: /g/%s}, chain: [g_%s]}\n", f->name, f->name);
        }
    }
    for (size_t i = 0; i < N(throw_places); i++) {
        const char *place = throw_places[i];
        const char *behind = strcmp(place, "on_error") == 0           ? ", hold"
                             : strcmp(place, "on_response_body") == 0 ? ", stream"
                                                                      : "";

        for (size_t k = 0; k < N(throw_whats); k++)
            fprintf(out, "  - {match: {path: /throw/%s/%s/**}, chain: [t_%s_%s%s]}\n", place,
                    throw_whats[k], place, throw_whats[k], behind);
    }
    fputs("  - {match: {path: /**}, chain: [hold]}\n", out);
}

static char *make_config(void)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    assert_non_null(out);
    fputs("version: 1\n"
          "server: {workers: 1}\n"
          "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
          "modules: {path: [@PLUGINS@, @MODULES@]}\n"
          "limits: {timeouts: {body: 10m, request: 700ms, drain: 2s}}\n"
          "crash: {dir: @DIR@/crashes, keep: 10000}\n"
          "respawn: {restarts: 1000}\n"
          "breaker: {crashes: 0}\n",
          out);
    write_plugins(out);
    write_routes(out);
    fclose(out);
    return text;
}

static pid_t wait_for_worker(const struct scene *scene, pid_t other_than)
{
    pid_t pid = 0;

    eventually(server_children(scene->srv, "bh-worker", &pid, 1) == 1 && pid != other_than);
    return pid;
}

void scene_open(struct scene *scene)
{
    char *config = make_config();

    memset(scene, 0, sizeof *scene);
    scene->srv = server_start("%s", config);
    free(config);
    scene->worker = wait_for_worker(scene, 0);
    scene->n_records = server_crash_count(scene->srv);
}

void scene_close(struct scene *scene)
{
    scene_disperse(scene);
    assert_int_equal(server_stop(&scene->srv), 0);
}

bool scene_has_new_worker(struct scene *scene)
{
    pid_t pid = 0;

    if (server_children(scene->srv, "bh-worker", &pid, 1) != 1 || pid == scene->worker)
        return false;
    scene->worker = pid;
    return true;
}

void scene_renew_worker(struct scene *scene)
{
    scene_disperse(scene);
    kill(scene->worker, SIGKILL);
    scene->worker = wait_for_worker(scene, scene->worker);
    eventually(scene_next(scene, 1) == NULL);
}

/* ---- the company ----------------------------------------------------------------------------- */

static const char *expect(struct response *res, const char *body, const char *else_)
{
    bool is_right = res->status == 200 && strcmp(res->body, body) == 0;

    response_free(&res);
    return is_right ? NULL : else_;
}

void scene_gather(struct scene *scene)
{
    int port = scene->srv->port[0];

    for (size_t i = 0; i < N(scene->idle); i++) {
        if (scene->idle[i] == NULL) {
            scene->idle[i] = conn_open(port);
            expect(conn_request(scene->idle[i], "GET", "/ok", NULL, NULL, 0), "ok\n", NULL);
        }
    }
    if (scene->half == NULL)
        scene->half = conn_open(port);
    conn_sendf(scene->half, "POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf");
    if (scene->held == NULL)
        scene->held = conn_open(port);
    conn_sendf(scene->held, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually(expect(conn_request(scene->idle[0], "GET", "/held", NULL, NULL, 0), "ok\n", "no") ==
               NULL);
}

void scene_disperse(struct scene *scene)
{
    for (size_t i = 0; i < N(scene->idle); i++)
        conn_close(&scene->idle[i]);
    conn_close(&scene->half);
    conn_close(&scene->held);
}

const char *scene_harm(struct scene *scene)
{
    const char *harm = NULL;

    for (size_t i = 0; i < N(scene->idle) && harm == NULL; i++) {
        harm = expect(conn_request(scene->idle[i], "GET", "/ok", NULL, NULL, 0), "ok\n",
                      "an idle connection was harmed");
    }
    if (harm != NULL)
        return harm;
    conn_send(scene->half, "done", 4);
    harm = expect(conn_response(scene->half, "POST"), "ok\n", "a half sent request was harmed");
    if (harm != NULL)
        return harm;
    harm = expect(conn_request(scene->idle[0], "GET", "/release", NULL, NULL, 0), "ok\n",
                  "the ticket of a paused request is gone");
    if (harm != NULL)
        return harm;
    return expect(conn_response(scene->held, "GET"), "held\n", "a paused request was harmed");
}

const char *scene_harm_of_leaving(struct scene *scene)
{
    const char *harm;

    conn_send(scene->half, "done", 4);
    harm = expect(conn_response(scene->half, "POST"), "ok\n", "a half sent request was harmed");
    for (size_t i = 0; i < N(scene->idle) && harm == NULL; i++) {
        harm = expect(conn_request(scene->idle[i], "GET", "/ok", NULL, NULL, 0), "ok\n",
                      "an idle connection was harmed");
    }
    scene_disperse(scene);
    return harm;
}

const char *scene_next(struct scene *scene, int n)
{
    struct conn *conn = conn_open(scene->srv->port[0]);
    const char *wrong = NULL;

    for (int i = 0; i < n && wrong == NULL; i++)
        wrong = expect(
            conn_request(conn, "GET", i % 2 == 0 ? "/f/next" : "/f_soon/next", NULL, NULL, 0),
            "ok\n", "a request after it was answered wrong");
    conn_close(&conn);
    return wrong;
}

/* "PID (NAME) STATE PARENT ..." */
static bool is_live_child(const char *stat, pid_t parent)
{
    const char *after_name = strrchr(stat, ')');
    char state = '\0';
    int ppid = 0;

    return after_name != NULL && sscanf(after_name + 1, " %c %d", &state, &ppid) == 2 &&
           ppid == parent && state != 'Z';
}

bool scene_has_child(pid_t pid)
{
    DIR *proc = opendir("/proc");
    const struct dirent *entry;
    bool has_child = false;

    assert_non_null(proc);
    while (!has_child && (entry = readdir(proc)) != NULL) {
        char path[280], *stat;

        if (strspn(entry->d_name, "0123456789") == 0)
            continue;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        stat = file_read(path);
        has_child = stat != NULL && is_live_child(stat, pid);
        free(stat);
    }
    closedir(proc);
    return has_child;
}

/* ---- records --------------------------------------------------------------------------------- */

static json_t *load_record(const struct scene *scene, size_t nth)
{
    char *text = server_crash_record(scene->srv, nth);
    json_t *record = json_loads(text, 0, NULL);

    free(text);
    assert_non_null(record);
    return record;
}

static bool is_that(const json_t *record, pid_t worker, const char *hook, char verdict)
{
    const char *has_hook = json_string_value(json_object_get(record, "hook"));
    const char *has = json_string_value(json_object_get(record, "verdict"));
    json_t *pid = json_object_get(json_object_get(record, "worker"), "pid");

    return (worker == 0 || json_integer_value(pid) == worker) &&
           (hook == NULL || (has_hook != NULL && strcmp(has_hook, hook) == 0)) &&
           (verdict == '\0' || (has != NULL && has[0] == verdict));
}

json_t *scene_record(struct scene *scene, pid_t worker, const char *hook, char verdict)
{
    int64_t end = harness_deadline_ms(HARNESS_WAIT_MS / 2);

    do {
        while (scene->n_records < server_crash_count(scene->srv)) {
            json_t *record = load_record(scene, scene->n_records++);

            if (is_that(record, worker, hook, verdict))
                return record;
            json_decref(record);
        }
    } while (harness_pause(end));
    return NULL;
}
