/*
 * multipart.h - several ranges in one answer (RFC 9110 14.6).
 */
#ifndef STATIC_MULTIPART_H
#define STATIC_MULTIPART_H

#include "range.h"

#include <stdbool.h>

#define MULTIPART_TYPE_SIZE 64

struct multipart {
    const char *type; /* of what the ranges are taken from */
    uint64_t size;    /* all of it */
    char boundary[17];
};

/* False: there are no random numbers. */
bool multipart_init(struct multipart *m, const char *type, uint64_t size);
/* The answer's own Content-Type. */
void multipart_type(const struct multipart *m, char out[MULTIPART_TYPE_SIZE]);
/* What stands before a part, and after the last one (range NULL), as snprintf(): its length. */
size_t multipart_head(const struct multipart *m, bool is_first, const struct range *range,
                      char *buf, size_t buf_size);

#endif
