/*
 * crash_find.h - crash records by their ids, for the commands that take one.
 */
#ifndef CLI_CRASH_FIND_H
#define CLI_CRASH_FIND_H

#include <limits.h>

struct json_t;

struct crash_records {
    int n;
    struct json_t **record; /* newest first */
};

/* All records of a folder; a file that is no record is told about, and left out. command: for
 * messages. 0 and to be freed by crash_free(), or -errno. */
int crash_read_all(const char *command, const char *dir, struct crash_records *out);
void crash_free(struct crash_records *r);

/* The one whose id begins so, or NULL after saying why not. Borrowed. */
struct json_t *crash_find(const char *command, const struct crash_records *records, const char *dir,
                          const char *id);

/* crash.dir of a config. 0, or -1 after saying why not. */
int crash_dir_of(const char *command, const char *path, char dir[PATH_MAX]);

#endif
