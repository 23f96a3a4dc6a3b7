/*
 * crashes.c - crash records, as the recorder has written them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/internal.h"
#include "conf/config.h"
#include "obs/record.h"
#include "obs/record_dir.h"

#define LIST_MAX     200 /* records in one answer */
#define LIST_DEFAULT 50

static const char *const members[] = {"id",   "time",  "plugin",  "hook",   "signal",
                                      "kind", "where", "verdict", "status", "repeats"};

/* Records change by their repeats only; a file is read again when its time has changed. */
static struct kept {
    char id[RECORD_ID_SIZE];
    int64_t mtime_ns;
    json_t *summary;
} kept[LIST_MAX];

static json_t *summarise(const char *dir, const char *id)
{
    json_t *record, *summary;
    const json_t *request;

    if (record_dir_read(dir, id, &record) < 0)
        return NULL;
    summary = json_object();
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        json_object_set(summary, members[i], json_object_get(record, members[i]));
    request = json_object_get(record, "request");
    if (json_is_array(request))
        request = json_array_get(request, 0);
    json_object_set(summary, "request", (json_t *)(uintptr_t)request);
    json_decref(record);
    return summary;
}

/* Borrowed. */
static json_t *find_summary(const char *dir, const struct record_file *file)
{
    struct kept *place = NULL;

    for (int i = 0; i < LIST_MAX; i++) {
        if (kept[i].summary != NULL && strcmp(kept[i].id, file->id) == 0) {
            if (kept[i].mtime_ns == file->mtime_ns)
                return kept[i].summary;
            place = &kept[i];
            break;
        }
        if (place == NULL || (place->summary != NULL &&
                              (kept[i].summary == NULL || kept[i].mtime_ns < place->mtime_ns)))
            place = &kept[i];
    }
    json_decref(place->summary);
    place->summary = summarise(dir, file->id);
    place->mtime_ns = file->mtime_ns;
    memcpy(place->id, file->id, sizeof place->id);
    return place->summary;
}

json_t *crashes_json(const struct config *cfg, int limit, int *n_all)
{
    struct record_file *files = NULL;
    int n = record_dir_list(cfg->crash.dir, &files);
    json_t *list = json_array();

    *n_all = n > 0 ? n : 0;
    for (int i = 0; i < n && i < limit; i++)
        json_array_append(list, find_summary(cfg->crash.dir, &files[i]));
    free(files);
    return list;
}

void get_crashes(struct request *req)
{
    const char *text = request_query(req, "limit");
    long limit = text != NULL ? strtol(text, NULL, 10) : LIST_DEFAULT;
    json_t *list;
    int n_all;

    if (limit < 1 || limit > LIST_MAX) {
        reply_problem(req, 400, "Bad Request", "limit: from 1 to %d", LIST_MAX);
        return;
    }
    list = crashes_json(req->admin->cfg, (int)limit, &n_all);
    reply_json(req, 200, json_pack("{s:i, s:o}", "total", n_all, "crashes", list));
}

void get_crash(struct request *req)
{
    json_t *record;
    int r = -ENOENT;

    if (record_id_is_valid(req->argument))
        r = record_dir_read(req->admin->cfg->crash.dir, req->argument, &record);
    if (r == 0)
        reply_json(req, 200, record);
    else if (r == -ENOENT)
        reply_problem(req, 404, "Not Found", "there is no crash record of that id");
    else
        reply_problem(req, 500, "Internal Server Error", "the record could not be read: %s",
                      strerror(-r));
}
