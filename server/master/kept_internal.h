/*
 * kept_internal.h - files that are kept, for kept.c and bans.c.
 */
#ifndef MASTER_KEPT_INTERNAL_H
#define MASTER_KEPT_INTERNAL_H

#include <jansson.h>

struct config;

/* Where a file of the server with this config is. 0 or -ENAMETOOLONG, -ENOMEM. path: PATH_MAX. */
int kept_path(const struct config *cfg, const char *what, char *path);
int kept_make_folder(const char *path);
/* In the place of what is there, in one step. 0 or -errno. */
int kept_write(const char *path, const char *text);
/* An object of "version" 1; NULL: there is none, or it made no sense and was moved aside. */
json_t *kept_read(const char *path);

#endif
