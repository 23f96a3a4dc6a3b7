/*
 * backlog.h - lines that the log could not take just now, in their order and in bounded memory.
 */
#ifndef EXPOSURE_BACKLOG_H
#define EXPOSURE_BACKLOG_H

#include <bulkhead.h>

struct backlog {
    char *p; /* size bytes, taken with the first line */
    size_t size, begin, end;
    size_t n; /* lines */
};

void backlog_init(struct backlog *b, size_t size);
void backlog_fini(struct backlog *b);

/* 0: it does not fit, or there is no memory. */
int backlog_put(struct backlog *b, const char *line, size_t n);
/* The oldest, valid until the next call; absent: there is none. */
bh_str backlog_first(const struct backlog *b);
void backlog_drop_first(struct backlog *b);

#endif
