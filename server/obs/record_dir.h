/*
 * record_dir.h - the folder of crash records: one file ID.json each, and ID.body beside it where bodies of
 * requests are recorded. So a record can be shown, and sent to somebody, without what a client had sent.
 *
 * A file is written under another name and renamed, so that whoever reads it sees all of it. One
 * process writes, any number may read.
 */
#ifndef OBS_RECORD_DIR_H
#define OBS_RECORD_DIR_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/crash_id.h"

struct json_t;

struct record_file {
    char id[RECORD_ID_SIZE];
    int64_t mtime_ns; /* also moved by a repeat */
};

/* The folder, mode 0750, with its parents; removes halves of files that a dead recorder left, and bodies
 * without a record. 0 or -errno. */
int record_dir_open(const char *dir);

/* 0 or -errno; nothing half written stays. */
int record_dir_write(const char *dir, const char *id, const struct json_t *record);

/* The body that goes along with a record; before that. 0 or -errno. */
int record_dir_write_body(const char *dir, const char *id, const void *body, size_t n);
/* 0 and *out malloc'd, with a NUL behind; or -errno. */
int record_dir_read_body(const char *dir, const char *id, char **out, size_t *n);

/* -ENOENT: no such record. -EBADMSG: the file is not a record. The caller decrefs *out. */
int record_dir_read(const char *dir, const char *id, struct json_t **out);

/* Writes the record anew with this many repeats. 0 or -errno as above. */
int record_dir_set_repeats(const char *dir, const char *id, uint64_t count, int64_t last_ns);

/* All records, latest first; *out is malloc'd. Their number or -errno. */
int record_dir_list(const char *dir, struct record_file **out);

/* Removes the oldest, and their bodies, until at most keep are left; keep 0: keeps all. How many went, or -errno. */
int record_dir_prune(const char *dir, uint32_t keep);

#endif
