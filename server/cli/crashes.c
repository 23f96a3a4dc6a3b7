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

#include "cli/cli.h"
#include "cli/crash_find.h"
#include "cli/crash_report.h"
#include "cli/crash_watch.h"

static const char command[] = "bulkhead crashes";

static const char help[] =
    "usage: bulkhead crashes list [-c FILE | --dir DIR] [--json]\n"
    "       bulkhead crashes show ID | --last [-c FILE | --dir DIR] [--json]\n"
    "       bulkhead crashes watch [-c FILE | --dir DIR] [--json]\n"
    "\n"
    "list shows the crash records, newest first; show prints one in full. The beginning of an ID is\n"
    "enough where no other record begins like it. watch prints a line for each record that comes, and\n"
    "each time that one is repeated (at most once a second), until it is interrupted.\n"
    "\n"
    "  -c, --config FILE   take the folder from this config (crash.dir); default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --dir DIR       the folder itself\n"
    "      --last          the newest record\n"
    "      --json          print JSON: show prints the record as it is, list an array with a summary\n"
    "                      of each, watch such a summary a line\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, or there is no such record, 2 the arguments or the\n"
    "config are wrong.\n";

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

static int list_as_table(const char *dir, const struct crash_records *records)
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

json_t *crash_summary(const json_t *record)
{
    static const char *const members[] = {"id",   "time",  "plugin",  "hook",   "signal",
                                          "kind", "where", "verdict", "status", "repeats"};
    json_t *summary = json_object();

    for (size_t m = 0; m < sizeof members / sizeof members[0]; m++)
        json_object_set(summary, members[m], json_object_get(record, members[m]));
    return summary;
}

static int list_as_json(const struct crash_records *records)
{
    json_t *list = json_array();

    for (int i = 0; i < records->n; i++)
        json_array_append_new(list, crash_summary(records->record[i]));
    return cli_print_json(list);
}

/* ---- show ---- */

static int show(const struct crash_records *records, const char *dir, const char *id, bool as_json)
{
    json_t *record = NULL;

    if (id != NULL)
        record = crash_find(command, records, dir, id);
    else if (records->n > 0)
        record = records->record[0];
    else
        fprintf(stderr, "%s: no crash is recorded in %s yet\n", command, dir);
    if (record == NULL)
        return CLI_FAILED;
    if (as_json)
        return cli_print_json(json_incref(record));
    crash_report(stdout, record);
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

/* ---- arguments ---- */

static int run(const char *dir, const char *what, const char *id, bool as_json)
{
    struct crash_records records;
    int r;

    if (strcmp(what, "watch") == 0)
        return crash_watch(command, dir, as_json);
    r = crash_read_all(command, dir, &records);
    if (r == -ENOENT) { /* made when the server starts */
        records = (struct crash_records){0};
    } else if (r < 0) {
        fprintf(stderr, "%s: %s: %s\n", command, dir, strerror(-r));
        return CLI_FAILED;
    }
    if (strcmp(what, "show") == 0)
        r = show(&records, dir, id, as_json);
    else
        r = as_json ? list_as_json(&records) : list_as_table(dir, &records);
    crash_free(&records);
    return r;
}

int cli_crashes(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"dir", required_argument, NULL, 'd'},
        {"last", no_argument, NULL, 'l'},         {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},         {0}};
    const char *path = NULL, *given_dir = NULL, *what;
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
    what = n > 0 ? argv[optind] : "list";
    if (strcmp(what, "show") == 0
            ? n + is_last != 2
            : (strcmp(what, "list") != 0 && strcmp(what, "watch") != 0) || n > 1 || is_last)
        return cli_usage_error(argv);
    if (path != NULL && given_dir != NULL)
        return cli_usage_error(argv);
    if (given_dir == NULL &&
        crash_dir_of(command, path != NULL ? path : cli_default_config(), dir) < 0)
        return CLI_BAD_INPUT;
    return run(given_dir != NULL ? given_dir : dir, what, n > 1 ? argv[optind + 1] : NULL, as_json);
}
