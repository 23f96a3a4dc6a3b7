/*
 * sample.h - reads the text of metrics back: one line, its name, labels, value.
 *
 * That is how alerts see metrics: all that /metrics shows, built in or a plugin's, under the same name.
 */
#ifndef OBS_SAMPLE_H
#define OBS_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>

struct sample {
    const char *name;
    size_t name_n;
    const char *labels; /* between the braces, as written: a="b",c="d" */
    size_t labels_n;
    double value;
};

/* A line of the format 0.0.4, NUL-terminated in place of its newline. False: a comment, a blank one, or
 * no sample. */
bool sample_read(const char *line, struct sample *out);

/* The next label of such a text; the value, its escapes undone, is cut to size. *at is moved on. False:
 * that was the last one, or it makes no sense. */
bool sample_next_label(const char **at, const char *end, const char **name, size_t *name_n,
                       char *value, size_t size);
/* The value of the label of that name. */
bool sample_label(const char *labels, size_t n, const char *name, char *value, size_t size);

#endif
