/*
 * diag.h - what a person did wrong, with the place and what would work.
 *
 * A struct diag collects mistakes so that all of a file's are reported at once. It keeps at most
 * DIAG_MAX of them and counts the rest: hostile input cannot grow it. Not thread-safe.
 */
#ifndef BASE_DIAG_H
#define BASE_DIAG_H

#include <stdio.h>

#define DIAG_MAX 50

struct diag_item {
    char *file;       /* NULL: no file is concerned */
    int line, column; /* from 1; 0: unknown */
    char *what;       /* what is wrong, one line, no full stop */
    char *hint;       /* what would work, or NULL */
};

struct diag {
    struct diag_item item[DIAG_MAX];
    int n;        /* items kept */
    int n_errors; /* all that were reported */
};

void diag_init(struct diag *d);
void diag_fini(struct diag *d);

/* Adds one mistake. hint may be NULL. All strings are copied. d NULL: does nothing. */
__attribute__((format(printf, 6, 7))) void diag_add(struct diag *d, const char *file, int line,
                                                    int column, const char *hint, const char *fmt,
                                                    ...);

/* In the order of places, each file's apart; those without a place first. Stable. */
void diag_sort(struct diag *d);

/* "FILE:LINE:COLUMN: error: WHAT" and "  hint: HINT", a line each. */
void diag_print(const struct diag *d, FILE *out);

/* The item as one line in buf, for messages that travel. */
void diag_format(const struct diag *d, int i, char *buf, size_t size);
/* All of them, a line each; as many as there is room for. */
void diag_format_all(const struct diag *d, char *buf, size_t size);

#endif
