/*
 * digest.h - SHA-256 of a file: what tells one version of it from another.
 */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stddef.h>

#define DIGEST_TEXT 65 /* hexadecimal, and a NUL */

/* 0 or -errno. */
int digest_file(const char *path, char out[DIGEST_TEXT]);
int digest_bytes(const void *p, size_t n, char out[DIGEST_TEXT]);

#endif
