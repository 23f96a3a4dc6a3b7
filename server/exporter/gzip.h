/*
 * gzip.h - a body as one gzip member (RFC 1952).
 */
#ifndef EXPORTER_GZIP_H
#define EXPORTER_GZIP_H

#include <stddef.h>

/* malloc'd, *out_n bytes; NULL: out of memory. */
char *gzip_pack(const char *p, size_t n, size_t *out_n);

#endif
