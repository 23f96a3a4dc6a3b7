/*
 * mime.h - which Content-Type a file name stands for.
 */
#ifndef STATIC_MIME_H
#define STATIC_MIME_H

#include <bulkhead.h>

/* By the last extension, in any case; extra (extension without dot -> type) goes first. Never
 * NULL: "application/octet-stream" when it is unknown. Lives as long as extra. */
const char *mime_type(const char *file_name, const bh_map *extra);

#endif
