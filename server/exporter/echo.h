/*
 * echo.h - answers that repeat what was sent: the key of a webhook, say, in "no such hook: KEY".
 *
 * What a newcomer would get wrong: what a receiver answers goes into logs and to operators, so it counts as
 * a place where secrets can come out.
 */
#ifndef EXPORTER_ECHO_H
#define EXPORTER_ECHO_H

#include <stdbool.h>

/* Is a part of the URL's path or query in text? Short words of a path, such as "traces", do not count. */
bool echo_has_url(const char *text, const char *url);
/* line: "Name: value". Is a word of the value in text? */
bool echo_has_header(const char *text, const char *line);

#endif
