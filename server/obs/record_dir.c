#include "obs/record_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "obs/record.h"
#include "obs/timestamp.h"

#define SUFFIX      ".json"
#define TEMPORARY   ".json.tmp"
#define BODY        ".body"
#define MAX_RECORD  (4u << 20) /* bytes; they are 10 to 40 KiB */
#define MAX_RECORDS 1000000
#define MAX_BODY    (1u << 20)

/* NAME must be "ID" + suffix; copies the id. */
static bool parse_name(const char *name, const char *suffix, char id[RECORD_ID_SIZE])
{
    size_t n = strlen(name), end = strlen(suffix);

    if (n <= end || n - end >= RECORD_ID_SIZE || strcmp(name + n - end, suffix) != 0)
        return false;
    memcpy(id, name, n - end);
    id[n - end] = '\0';
    return record_id_is_valid(id);
}

static int make_path(char out[PATH_MAX], const char *dir, const char *id, const char *suffix)
{
    int n = snprintf(out, PATH_MAX, "%s/%s%s", dir, id, suffix);

    return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Is it a body whose record is gone? */
static bool is_alone(DIR *d, const char *name)
{
    char id[RECORD_ID_SIZE], record[RECORD_ID_SIZE + sizeof SUFFIX];

    if (!parse_name(name, BODY, id))
        return false;
    snprintf(record, sizeof record, "%s%s", id, SUFFIX);
    return faccessat(dirfd(d), record, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

int record_dir_open(const char *dir)
{
    int r = fd_make_dirs(dir, 0750);
    char id[RECORD_ID_SIZE];
    struct dirent *e;
    DIR *d;

    if (r < 0)
        return r;
    d = opendir(dir);
    if (d == NULL)
        return -errno;
    while ((e = readdir(d)) != NULL) {
        if (parse_name(e->d_name, TEMPORARY, id) || is_alone(d, e->d_name))
            unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
    return 0;
}

int record_dir_write(const char *dir, const char *id, const struct json_t *record)
{
    char path[PATH_MAX], temporary[PATH_MAX];
    char *text = NULL;
    int fd = -1, r;

    if (!record_id_is_valid(id))
        return -EINVAL;
    r = make_path(path, dir, id, SUFFIX);
    if (r == 0)
        r = make_path(temporary, dir, id, TEMPORARY);
    if (r < 0)
        return r;
    text = json_dumps(record, JSON_INDENT(2));
    if (text == NULL)
        return -ENOMEM;
    /* O_NOFOLLOW: who can write into the folder shall not choose what is overwritten. */
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0) {
        r = -errno;
        goto out;
    }
    r = fd_write_all(fd, text, strlen(text));
    if (r == 0)
        r = fd_write_all(fd, "\n", 1);
    if (r == 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0)
        unlink(temporary);
out:
    fd_close(&fd);
    free(text);
    return r;
}

/* Whole or not at all is no concern here: the record, which comes after it, says how long it is. */
int record_dir_write_body(const char *dir, const char *id, const void *body, size_t n)
{
    char path[PATH_MAX];
    int fd, r;

    if (!record_id_is_valid(id))
        return -EINVAL;
    r = make_path(path, dir, id, BODY);
    if (r < 0)
        return r;
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0)
        return -errno;
    r = fd_write_all(fd, body, n);
    if (r < 0)
        unlink(path);
    fd_close(&fd);
    return r;
}

int record_dir_read_body(const char *dir, const char *id, char **out, size_t *n)
{
    char path[PATH_MAX];
    int r;

    if (!record_id_is_valid(id))
        return -ENOENT;
    r = make_path(path, dir, id, BODY);
    return r < 0 ? r : fd_read_file(path, MAX_BODY, out, n);
}

int record_dir_read(const char *dir, const char *id, struct json_t **out)
{
    char path[PATH_MAX];
    json_t *record;
    char *text;
    size_t n;
    int r;

    if (!record_id_is_valid(id))
        return -ENOENT;
    r = make_path(path, dir, id, SUFFIX);
    if (r == 0)
        r = fd_read_file(path, MAX_RECORD, &text, &n);
    if (r < 0)
        return r;
    record = json_loadb(text, n, 0, NULL);
    free(text);
    if (!json_is_object(record)) {
        json_decref(record);
        return -EBADMSG;
    }
    *out = record;
    return 0;
}

int record_dir_set_repeats(const char *dir, const char *id, uint64_t count, int64_t last_ns)
{
    char last[TIMESTAMP_SIZE];
    json_t *record;
    int r = record_dir_read(dir, id, &record);

    if (r < 0)
        return r;
    timestamp_format(last_ns, last);
    r = json_object_set_new(record, "repeats",
                            json_pack("{sI ss}", "count", (json_int_t)count, "last", last));
    r = r < 0 ? -ENOMEM : record_dir_write(dir, id, record);
    json_decref(record);
    return r;
}

static int by_time_then_name(const void *a, const void *b)
{
    const struct record_file *x = a, *y = b;

    if (x->mtime_ns != y->mtime_ns)
        return x->mtime_ns < y->mtime_ns ? 1 : -1;
    return strcmp(y->id, x->id);
}

int record_dir_list(const char *dir, struct record_file **out)
{
    struct record_file *list = NULL;
    size_t n = 0, cap = 0;
    struct dirent *e;
    DIR *d = opendir(dir);

    if (d == NULL)
        return -errno;
    while ((e = readdir(d)) != NULL && n < MAX_RECORDS) {
        struct record_file file;
        struct stat st;

        if (!parse_name(e->d_name, SUFFIX, file.id) ||
            fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        file.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        if (n == cap) {
            struct record_file *more = realloc(list, (cap = cap * 2 + 64) * sizeof *list);

            if (more == NULL) {
                free(list);
                closedir(d);
                return -ENOMEM;
            }
            list = more;
        }
        list[n++] = file;
    }
    closedir(d);
    if (n > 0)
        qsort(list, n, sizeof *list, by_time_then_name);
    *out = list;
    return (int)n;
}

int record_dir_prune(const char *dir, uint32_t keep)
{
    struct record_file *list = NULL;
    char path[PATH_MAX];
    int n, gone = 0;

    if (keep == 0)
        return 0;
    n = record_dir_list(dir, &list);
    for (int i = (int)(keep < MAX_RECORDS ? keep : MAX_RECORDS); i < n; i++) {
        if (make_path(path, dir, list[i].id, SUFFIX) == 0 && unlink(path) == 0)
            gone++;
        if (make_path(path, dir, list[i].id, BODY) == 0)
            unlink(path); /* few have one */
    }
    free(list);
    return n < 0 ? n : gone;
}
