/*
 * crashes.c - `bulkhead crashes`: what the recorder has written, as a table or one by one.
 *
 * Reads files only, so that it works while the server is down, and on a copy of the folder.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "cli/cli.h"
#include "cli/crash_report.h"
#include "conf/config.h"
#include "obs/record_dir.h"

static const char help[] =
    "usage: bulkhead crashes list [-c FILE | --dir DIR] [--json]\n"
    "       bulkhead crashes show ID | --last [-c FILE | --dir DIR] [--json]\n"
    "\n"
    "list shows the crash records, newest first; show prints one in full. The beginning of an ID is\n"
    "enough where no other record begins like it.\n"
    "\n"
    "  -c, --config FILE   take the folder from this config (crash.dir); default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --dir DIR       the folder itself\n"
    "      --last          the newest record\n"
    "      --json          print JSON: show prints the record as it is, list a summary of each\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 no such record, or the arguments or the config\n"
    "are wrong.\n";

struct records {
    int n;
    json_t **record; /* newest first */
};

static int newest_first(const void *a, const void *b)
{
    const char *x = crash_text(*(json_t *const *)a, "time");
    const char *y = crash_text(*(json_t *const *)b, "time");
    int r = strcmp(y != NULL ? y : "", x != NULL ? x : "");

    if (r == 0) {
        x = crash_text(*(json_t *const *)a, "id");
        y = crash_text(*(json_t *const *)b, "id");
        r = strcmp(y != NULL ? y : "", x != NULL ? x : "");
    }
    return r;
}

static void free_records(struct records *r)
{
    for (int i = 0; i < r->n; i++)
        json_decref(r->record[i]);
    free(r->record);
}

/* A file that is not a record is told about, and left out. */
static int read_records(const char *dir, struct records *out)
{
    struct record_file *files = NULL;
    int n = record_dir_list(dir, &files);

    if (n < 0)
        return n;
    *out = (struct records){.record = calloc((size_t)n + 1, sizeof(json_t *))};
    for (int i = 0; i < n && out->record != NULL; i++) {
        json_t *record;
        int r = record_dir_read(dir, files[i].id, &record);

        if (r == 0)
            out->record[out->n++] = record;
        else if (r != -ENOENT) /* removed meanwhile, to make room */
            fprintf(stderr, "bulkhead crashes: %s/%s.json: %s\n", dir, files[i].id,
                    r == -EBADMSG ? "not a crash record" : strerror(-r));
    }
    free(files);
    if (out->record == NULL)
        return -ENOMEM;
    qsort(out->record, (size_t)out->n, sizeof(json_t *), newest_first);
    return 0;
}

/* ---- list ---- */

enum { TIME, ID, PLUGIN, HOOK, HOW, WHERE, VERDICT, REPEATS, N_COLUMNS };

struct row {
    char text[N_COLUMNS][160];
};

static void fill_row(const json_t *record, struct row *row)
{
    const char *from[N_COLUMNS] = {
        [TIME] = crash_text(record, "time"),
        [ID] = crash_text(record, "id"),
        [PLUGIN] = crash_text(record, "plugin.instance"),
        [HOOK] = crash_text(record, "hook"),
        [HOW] = crash_how(record),
        [VERDICT] = crash_text(record, "verdict"),
    };

    for (int i = 0; i < N_COLUMNS; i++)
        snprintf(row->text[i], sizeof row->text[i], "%s", from[i] != NULL ? from[i] : "-");
    crash_place(record, row->text[WHERE], sizeof row->text[WHERE]);
    snprintf(row->text[REPEATS], sizeof row->text[REPEATS], "%lld",
             crash_number(record, "repeats.count"));
}

static void print_row(const struct row *row, const int *width)
{
    for (int i = 0; i < N_COLUMNS; i++) {
        int pad = i + 1 < N_COLUMNS ? width[i] - (int)strlen(row->text[i]) : 0;

        crash_print_clean(stdout, row->text[i]);
        printf("%*s", pad > 0 ? pad + 2 : i + 1 < N_COLUMNS ? 2 : 0, "");
    }
    putchar('\n');
}

static int list_as_table(const char *dir, const struct records *records)
{
    static const struct row titles = {
        {"TIME", "ID", "PLUGIN", "HOOK", "SIGNAL", "WHERE", "VERDICT", "REPEATS"}};
    struct row *rows = calloc((size_t)records->n + 1, sizeof *rows);
    int width[N_COLUMNS] = {0};

    if (rows == NULL)
        return CLI_FAILED;
    rows[0] = titles;
    for (int i = 0; i < records->n; i++)
        fill_row(records->record[i], &rows[i + 1]);
    for (int i = 0; i <= records->n; i++) {
        for (int c = 0; c < N_COLUMNS; c++) {
            int n = (int)strlen(rows[i].text[c]);

            if (n > width[c])
                width[c] = n;
        }
    }
    if (records->n == 0)
        printf("no crash is recorded in %s\n", dir);
    for (int i = 0; i <= records->n && records->n > 0; i++)
        print_row(&rows[i], width);
    free(rows);
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

static int list_as_json(const struct records *records)
{
    static const char *const members[] = {"id",   "time",  "plugin",  "hook",   "signal",
                                          "kind", "where", "verdict", "status", "repeats"};
    json_t *list = json_array();

    for (int i = 0; i < records->n; i++) {
        json_t *summary = json_object();

        for (size_t m = 0; m < sizeof members / sizeof members[0]; m++)
            json_object_set(summary, members[m], json_object_get(records->record[i], members[m]));
        json_array_append_new(list, summary);
    }
    return cli_print_json(list);
}

/* ---- show ---- */

/* The record whose id begins so, or NULL after saying why not. */
static json_t *find_record(const struct records *records, const char *dir, const char *id)
{
    json_t *found = NULL;
    int n_found = 0;

    for (int i = 0; i < records->n; i++) {
        const char *has = crash_text(records->record[i], "id");

        if (has == NULL || strncmp(has, id, strlen(id)) != 0)
            continue;
        if (strcmp(has, id) == 0)
            return records->record[i];
        n_found++;
        found = records->record[i];
    }
    if (n_found == 1)
        return found;
    if (n_found == 0) {
        fprintf(stderr,
                "bulkhead crashes: no record '%s' in %s; `bulkhead crashes list` shows them all\n",
                id, dir);
        return NULL;
    }
    fprintf(stderr, "bulkhead crashes: %d records begin with '%s'; give more of the id:\n", n_found,
            id);
    for (int i = 0, shown = 0; i < records->n && shown < 5; i++) {
        const char *has = crash_text(records->record[i], "id");

        if (has != NULL && strncmp(has, id, strlen(id)) == 0) {
            fprintf(stderr, "  %s\n", has);
            shown++;
        }
    }
    return NULL;
}

static int show(const struct records *records, const char *dir, const char *id, bool as_json)
{
    json_t *record = NULL;

    if (id != NULL)
        record = find_record(records, dir, id);
    else if (records->n > 0)
        record = records->record[0];
    else
        fprintf(stderr, "bulkhead crashes: no crash is recorded in %s yet\n", dir);
    if (record == NULL)
        return CLI_BAD_INPUT;
    if (as_json)
        return cli_print_json(json_incref(record));
    crash_report(stdout, record);
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

/* ---- arguments ---- */

/* crash.dir of a config. 0, or -1 after saying why not. */
static int configured_dir(const char *path, char dir[PATH_MAX])
{
    struct config *cfg;
    struct diag diag;
    int r;

    diag_init(&diag);
    r = config_load(path, &diag, &cfg);
    diag_print(&diag, stderr);
    diag_fini(&diag);
    if (r < 0) {
        fputs("bulkhead crashes: which folder? Name it with --dir DIR, or a config with -c FILE\n",
              stderr);
        return -1;
    }
    snprintf(dir, PATH_MAX, "%s", cfg->crash.dir);
    config_destroy(&cfg);
    return 0;
}

static int run(const char *dir, const char *command, const char *id, bool as_json)
{
    struct records records;
    int r = read_records(dir, &records);

    if (r == -ENOENT && strcmp(command, "list") == 0) { /* made when the server starts */
        records = (struct records){0};
    } else if (r < 0) {
        fprintf(stderr, "bulkhead crashes: %s: %s\n", dir, strerror(-r));
        return r == -ENOENT ? CLI_BAD_INPUT : CLI_FAILED;
    }
    if (strcmp(command, "show") == 0)
        r = show(&records, dir, id, as_json);
    else
        r = as_json ? list_as_json(&records) : list_as_table(dir, &records);
    free_records(&records);
    return r;
}

int cli_crashes(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"dir", required_argument, NULL, 'd'},
        {"last", no_argument, NULL, 'l'},         {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},         {0}};
    const char *path = NULL, *given_dir = NULL, *command;
    bool is_last = false, as_json = false;
    char dir[PATH_MAX];
    int c, n;

    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (c) {
        case 'c': path = optarg; break;
        case 'd': given_dir = optarg; break;
        case 'l': is_last = true; break;
        case 'j': as_json = true; break;
        case 'h': return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        default: return cli_usage_error(argv);
        }
    }
    n = argc - optind;
    command = n > 0 ? argv[optind] : "list";
    if (strcmp(command, "show") == 0 ? n + is_last != 2
                                     : strcmp(command, "list") != 0 || n > 1 || is_last)
        return cli_usage_error(argv);
    if (path != NULL && given_dir != NULL)
        return cli_usage_error(argv);
    if (given_dir == NULL && configured_dir(path != NULL ? path : cli_default_config(), dir) < 0)
        return CLI_BAD_INPUT;
    return run(given_dir != NULL ? given_dir : dir, command, n > 1 ? argv[optind + 1] : NULL,
               as_json);
}
