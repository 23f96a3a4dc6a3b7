/*
 * utf8.h - is it UTF-8? What peers send, and what plugins say, need not be.
 */
#ifndef OBS_UTF8_H
#define OBS_UTF8_H

#include <stddef.h>

#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Length of the well-formed sequence that p begins with (Unicode, table 3-7), 1 to 4; 0 when there
 * is none. n: bytes at p, at least 1. Async-signal-safe. */
size_t utf8_length(const char *p, size_t n);

#endif
