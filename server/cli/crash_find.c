#include "cli/crash_find.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "cli/crash_report.h"
#include "conf/config.h"
#include "obs/record_dir.h"

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

void crash_free(struct crash_records *r)
{
    for (int i = 0; i < r->n; i++)
        json_decref(r->record[i]);
    free(r->record);
}

int crash_read_all(const char *command, const char *dir, struct crash_records *out)
{
    struct record_file *files = NULL;
    int n = record_dir_list(dir, &files);

    if (n < 0)
        return n;
    *out = (struct crash_records){.record = calloc((size_t)n + 1, sizeof(json_t *))};
    for (int i = 0; i < n && out->record != NULL; i++) {
        json_t *record;
        int r = record_dir_read(dir, files[i].id, &record);

        if (r == 0)
            out->record[out->n++] = record;
        else if (r != -ENOENT) /* removed meanwhile, to make room */
            fprintf(stderr, "%s: %s/%s.json: %s\n", command, dir, files[i].id,
                    r == -EBADMSG ? "not a crash record" : strerror(-r));
    }
    free(files);
    if (out->record == NULL)
        return -ENOMEM;
    qsort(out->record, (size_t)out->n, sizeof(json_t *), newest_first);
    return 0;
}

json_t *crash_find(const char *command, const struct crash_records *records, const char *dir,
                   const char *id)
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
        fprintf(stderr, "%s: no record '%s' in %s; `bulkhead crashes list` shows them all\n",
                command, id, dir);
        return NULL;
    }
    fprintf(stderr, "%s: %d records begin with '%s'; give more of the id:\n", command, n_found, id);
    for (int i = 0, shown = 0; i < records->n && shown < 5; i++) {
        const char *has = crash_text(records->record[i], "id");

        if (has != NULL && strncmp(has, id, strlen(id)) == 0) {
            fprintf(stderr, "  %s\n", has);
            shown++;
        }
    }
    return NULL;
}

int crash_dir_of(const char *command, const char *path, char dir[PATH_MAX])
{
    struct config *cfg;
    struct diag diag;
    int r;

    diag_init(&diag);
    r = config_load(path, &diag, &cfg);
    diag_print(&diag, stderr);
    diag_fini(&diag);
    if (r < 0) {
        fprintf(stderr, "%s: which folder? Name it with --dir DIR, or a config with -c FILE\n",
                command);
        return -1;
    }
    snprintf(dir, PATH_MAX, "%s", cfg->crash.dir);
    config_destroy(&cfg);
    return 0;
}
