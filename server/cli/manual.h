/*
 * manual.h - manual pages in mdoc(7): what their makers share.
 */
#ifndef CLI_MANUAL_H
#define CLI_MANUAL_H

#include <stddef.h>

#define MANUAL_DATE "November 27, 2026"

/* .Dd to .Nd. */
void manual_heading(const char *name, const char *section, const char *what);

/* Prose: what roff would take for its own is escaped, `code` is bold, sentences begin lines. */
void manual_text(const char *s, size_t n);

/* bulkhead.yaml(5), to stdout. An exit status. */
int manual_print_config_page(void);

#endif
