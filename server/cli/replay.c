/*
 * replay.c - `bulkhead replay`: the request of a crash record once more, through the same plugin, in
 * processes of its own.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/crash_find.h"
#include "cli/crash_report.h"
#include "cli/replay_gdb.h"
#include "cli/replay_request.h"
#include "cli/replay_server.h"
#include "obs/record_dir.h"

#define RECORD_MAX (4u << 20)

enum { DIFFERENT = 3 };

static const char help[] =
    "usage: bulkhead replay ID | --last | FILE.json [--chain] [--body FILE] [--module FILE]\n"
    "                       [-c FILE] [--dir DIR] [--json]\n"
    "       bulkhead replay ID | --last | FILE.json --gdb [OPTION...] [-- GDB ARGUMENT...]\n"
    "\n"
    "Sends the request of a crash record once more, through the plugin that crashed, and shows what\n"
    "happens: in a server of its own, which nobody else can reach, and which ends with it. The plugin\n"
    "has the options of the config. A record has the request's line and headers, secrets in them\n"
    "redacted, and the first bytes of its body if crash.record_body is set: what is sent instead of\n"
    "what is not on record is told. What the plugin had in memory is not there either.\n"
    "\n"
    "      --last          the newest record\n"
    "  -c, --config FILE   the config that the server ran with; default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --dir DIR       the folder of the records; default: crash.dir of the config\n"
    "      --chain         all plugins of the config, and its routes: with what they do to others, to\n"
    "                      log files and backends, say\n"
    "      --body FILE     the request's body; default: what is on record of it\n"
    "      --module FILE   another object of the plugin: a build with the mistake mended, say\n"
    "      --gdb           stops in the debugger where it crashes, with no deadlines\n"
    "      --json          print JSON: result (same, other, none), status, notes, crash (the record)\n"
    "\n"
    "Exit status: 0 the same crash, 1 it could not be done, or there is no such record, 2 the config,\n"
    "the record or an argument is wrong, 3 another crash, or none.\n";

struct options {
    const char *config, *dir, *id, *body;
    struct replay_wish wish;
    bool is_last, as_json, in_gdb;
    char **gdb;             /* arguments, NULL-terminated */
    char records[PATH_MAX]; /* the folder that the record is in */
};

/* ---- the record ---- */

static json_t *read_file(const char *command, const char *path)
{
    json_error_t error;
    json_t *record = json_load_file(path, 0, &error);

    if (record == NULL || crash_text(record, "schema") == NULL) {
        fprintf(stderr, "%s: %s: %s\n", command, path,
                record == NULL ? error.text : "not a crash record");
        json_decref(record);
        return NULL;
    }
    return record;
}

/* NULL: it has been said why, and *status is what to exit with. */
static json_t *read_record(const char *command, struct options *o, int *status)
{
    struct crash_records records;
    json_t *record = NULL;
    char *dir = o->records;
    const char *slash;
    int r;

    *status = CLI_BAD_INPUT;
    if (o->id != NULL && (strchr(o->id, '/') != NULL || strstr(o->id, ".json") != NULL)) {
        slash = strrchr(o->id, '/');
        snprintf(dir, PATH_MAX, "%.*s", slash != NULL ? (int)(slash - o->id + 1) : 1,
                 slash != NULL ? o->id : ".");
        return read_file(command, o->id);
    }
    if (o->dir != NULL)
        snprintf(dir, PATH_MAX, "%s", o->dir);
    else if (crash_dir_of(command, o->config, dir) < 0)
        return NULL;
    *status = CLI_FAILED;
    r = crash_read_all(command, dir, &records);
    if (r == -ENOENT)
        records = (struct crash_records){.n = 0};
    if (r < 0 && r != -ENOENT) {
        fprintf(stderr, "%s: %s: %s\n", command, dir, strerror(-r));
        return NULL;
    }
    if (o->id != NULL)
        record = crash_find(command, &records, dir, o->id);
    else if (records.n > 0)
        record = records.record[0];
    else
        fprintf(stderr, "%s: no crash is recorded in %s yet\n", command, dir);
    json_incref(record);
    crash_free(&records);
    return record;
}

/* ---- the comparison ---- */

static bool is_same_text(const json_t *a, const json_t *b, const char *path)
{
    const char *x = crash_text(a, path), *y = crash_text(b, path);

    return strcmp(x != NULL ? x : "", y != NULL ? y : "") == 0;
}

/* The place: by name and line as far as both know them. */
static bool is_same_crash(const json_t *a, const json_t *b)
{
    if (!is_same_text(a, b, "hook") || strcmp(crash_how(a), crash_how(b)) != 0 ||
        !is_same_text(a, b, "where.function"))
        return false;
    if (crash_number(a, "where.line") > 0 && crash_number(b, "where.line") > 0)
        return crash_number(a, "where.line") == crash_number(b, "where.line") &&
               is_same_text(a, b, "where.file");
    return crash_number(a, "where.offset") == crash_number(b, "where.offset");
}

/* Functions of plugin code on the stack, in order: "a < b < c". */
static void stack_of(const json_t *record, char *buf, size_t size)
{
    const json_t *frame;
    size_t i, n = 0;

    buf[0] = '\0';
    json_array_foreach(json_object_get(record, "backtrace"), i, frame)
    {
        const char *function = crash_text(frame, "function");

        if (!json_is_true(json_object_get(frame, "is_plugin")) ||
            json_is_true(json_object_get(frame, "guess")) || n + 4 >= size)
            continue;
        n += (size_t)snprintf(buf + n, size - n, "%s%s", n > 0 ? " < " : "",
                              function != NULL ? function : "?");
    }
}

/* ---- one replay ---- */

static void compare_objects(const json_t *record, const json_t *now, json_t *notes)
{
    const char *before = crash_text(record, "plugin.build_id");
    const char *after = crash_text(now, "plugin.build_id");

    if (before != NULL && after != NULL && strcmp(before, after) != 0)
        json_array_append_new(notes, json_sprintf("the object has changed since: build id %.12s... "
                                                  "then, %.12s... now",
                                                  before, after));
}

static int show(const struct options *o, const json_t *record, json_t *now, int status,
                json_t *notes)
{
    bool is_same = now != NULL && is_same_crash(record, now);
    const char *result = now == NULL ? "none" : is_same ? "same" : "other";
    char then[1024], after[1024], place[512];
    json_t *note;
    size_t i;

    if (o->as_json) {
        cli_print_json(json_pack("{s:O?, s:s, s:o, s:O, s:O?}", "record",
                                 json_object_get(record, "id"), "result", result, "status",
                                 status > 0 ? json_integer(status) : json_null(), "notes", notes,
                                 "crash", now));
        return is_same ? CLI_OK : DIFFERENT;
    }
    if (now != NULL) {
        crash_report(stdout, now);
        putchar('\n');
    }
    json_array_foreach(notes, i, note)
    {
        fputs("note: ", stdout);
        crash_print_clean(stdout, json_string_value(note));
        putchar('\n');
    }
    if (now == NULL) {
        printf("no crash: the request was answered %d%s\n", status,
               o->wish.whole_chain ? "" : "; --chain has the other plugins, too");
        return DIFFERENT;
    }
    stack_of(record, then, sizeof then);
    stack_of(now, after, sizeof after);
    crash_place(now, place, sizeof place);
    printf("%s: %s, %s; %s\n", is_same ? "the same crash" : "another crash", crash_how(now), place,
           strcmp(then, after) == 0 ? "the same stack in the plugin's code"
                                    : "another stack in the plugin's code");
    if (strcmp(then, after) != 0)
        printf("  then: %s\n  now:  %s\n", then, after);
    return is_same ? CLI_OK : DIFFERENT;
}

static int run(struct replay_server *s, const struct options *o, const json_t *record,
               const char *request, size_t len, json_t *notes)
{
    struct crash_records records = {.n = 0};
    json_t *now = NULL;
    char dir[PATH_MAX];
    int r, status;

    r = replay_send(s, request, len, &status);
    replay_end(s);
    replay_crashes(s, dir);
    if (r < 0 && r != -ETIMEDOUT) {
        fprintf(stderr, "%s: the request could not be sent: %s\n", s->command, strerror(-r));
        replay_print_log(s);
        return CLI_FAILED;
    }
    if (r == -ETIMEDOUT)
        json_array_append_new(notes, json_string("the request was not answered in time"));
    if (crash_read_all(s->command, dir, &records) == 0 && records.n > 0)
        now = records.record[records.n - 1]; /* the first one; others followed from it */
    if (now != NULL)
        compare_objects(record, now, notes);
    else if (status >= 500)
        replay_print_log(s); /* says why */
    r = show(o, record, now, status, notes);
    crash_free(&records);
    return r;
}

/* A record's own body lies beside it. */
static int read_body(const char *command, const struct options *o, const json_t *record,
                     struct replay_body *out)
{
    const char *id = crash_text(record, "id");
    char *bytes = NULL;
    int r;

    *out = (struct replay_body){.is_given = o->body != NULL};
    if (o->body != NULL)
        r = fd_read_file(o->body, REPLAY_BODY_MAX, &bytes, &out->n);
    else if (id != NULL && json_is_object(json_object_get(record, "body")))
        r = record_dir_read_body(o->records, id, &bytes, &out->n);
    else
        return 0;
    if (r < 0 && o->body != NULL) {
        fprintf(stderr, "%s: %s: %s\n", command, o->body, strerror(-r));
        return r;
    }
    if (r < 0 && crash_number(record, "body.recorded") == 0)
        bytes = strdup(""); /* nothing had come */
    out->p = bytes;
    return 0;
}

static int replay(const char *command, struct options *o)
{
    struct replay_server server = {.command = command, .master = -1};
    json_t *notes = json_array(), *record;
    char *request = NULL;
    struct replay_body body = {.p = NULL};
    size_t len;
    int r, status;

    record = read_record(command, o, &status);
    if (record == NULL)
        goto out;
    status = CLI_BAD_INPUT;
    if (read_body(command, o, record, &body) < 0)
        goto out;
    o->wish.instance = crash_text(record, "plugin.instance");
    if (o->wish.instance == NULL) {
        fprintf(stderr, "%s: that crash was in no plugin\n", command);
        goto out;
    }
    r = replay_request(record, &body, notes, &request, &len);
    if (r < 0) {
        fprintf(stderr, "%s: that record has no request%s\n", command,
                r == -ENOENT ? ": it crashed in a thread or a timer, or at the start"
                             : " that could be sent again");
        goto out;
    }
    status = replay_start(&server, &o->wish);
    if (status != CLI_OK)
        goto out;
    if (o->in_gdb)
        status = replay_gdb(&server, request, len, o->gdb);
    else
        status = run(&server, o, record, request, len, notes);
    replay_end(&server);
    replay_clean(&server);

out:
    free((char *)(uintptr_t)body.p);
    free(request);
    json_decref(record);
    json_decref(notes);
    return status;
}

int cli_replay(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"dir", required_argument, NULL, 'd'},
        {"last", no_argument, NULL, 'l'},         {"chain", no_argument, NULL, 'a'},
        {"body", required_argument, NULL, 'b'},   {"module", required_argument, NULL, 'm'},
        {"gdb", no_argument, NULL, 'g'},          {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},         {0}};
    struct options o = {.config = cli_default_config()};
    char module[PATH_MAX];
    int c, n = argc;

    for (int i = 1; i < argc && n == argc; i++) /* what follows is gdb's */
        if (strcmp(argv[i], "--") == 0)
            n = i;
    o.gdb = n < argc ? argv + n + 1 : argv + argc;
    while ((c = getopt_long(n, argv, "c:h", options, NULL)) != -1) {
        switch (c) {
        case 'c': o.config = optarg; break;
        case 'd': o.dir = optarg; break;
        case 'l': o.is_last = true; break;
        case 'a': o.wish.whole_chain = true; break;
        case 'b': o.body = optarg; break;
        case 'm': o.wish.module = optarg; break;
        case 'g': o.in_gdb = o.wish.no_deadlines = true; break;
        case 'j': o.as_json = true; break;
        case 'h': return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        default: return cli_usage_error(argv);
        }
    }
    if (n - optind + o.is_last != 1 || (o.in_gdb && o.as_json) || (!o.in_gdb && n < argc))
        return cli_usage_error(argv);
    o.id = o.is_last ? NULL : argv[optind];
    o.wish.config = o.config;
    if (o.wish.module != NULL && realpath(o.wish.module, module) == NULL) {
        fprintf(stderr, "%s: %s: %s\n", argv[0], o.wish.module, strerror(errno));
        return CLI_BAD_INPUT;
    }
    if (o.wish.module != NULL)
        o.wish.module = module;
    return replay(argv[0], &o);
}
