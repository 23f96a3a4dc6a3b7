/*
 * buffer.h - text that grows.
 *
 * Memory that runs out is remembered, not reported by each call: look at has_failed once, at the end.
 */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
    char *p; /* NUL-terminated once something was added; owned */
    size_t n, cap;
    bool has_failed; /* memory, or over 2^30 bytes: what came after is missing */
};

/* {0} is an empty one. */
void buffer_fini(struct buffer *b);
void buffer_add(struct buffer *b, const char *p, size_t n);
void buffer_text(struct buffer *b, const char *text);
__attribute__((format(printf, 2, 3))) void buffer_printf(struct buffer *b, const char *fmt, ...);

/* Bytes with an end and a capacity of the caller's, freed by free(): no NUL. False: no memory, all as before. */
bool buffer_append_to(char **buf, size_t *n, size_t *cap, const char *p, size_t len);

#endif
