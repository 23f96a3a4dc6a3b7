/*
 * yaml_text.h - the characters of a config: UTF-8, and ${NAME} for what the environment has.
 */
#ifndef CONF_YAML_TEXT_H
#define CONF_YAML_TEXT_H

#include <stddef.h>
#include <sys/types.h>

struct diag;

/* Length of the valid character at s, or 0. Surrogates, overlong forms and controls are not valid. */
size_t yaml_utf8_length(const unsigned char *s, size_t n);

/* s with the environment's values for its references. Counts when out is NULL; else out has room for
 * that. -1 after a mistake, which is told as one of file:line:column. */
ssize_t yaml_expand(struct diag *diag, const char *file, int line, int column, const char *s,
                    size_t n, char *out);

#endif
