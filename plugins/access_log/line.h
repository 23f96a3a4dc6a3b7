/*
 * line.h - a log line of bounded length, into which nothing gets unescaped.
 */
#ifndef ACCESS_LOG_LINE_H
#define ACCESS_LOG_LINE_H

#include <bulkhead.h>

/* What a sink takes in one piece. */
#define LINE_MAX_BYTES 8000

struct line {
    size_t n;
    char p[LINE_MAX_BYTES];
};

/* Which characters have to be escaped, and how. */
#define LINE_TEXT 0 /* inside double quotes; \" \\ \xHH */
#define LINE_WORD 1 /* unquoted: spaces are escaped, too; nothing at all is "-" */
#define LINE_JSON 2 /* inside double quotes; \uXXXX, and UTF-8 that is none becomes U+FFFD */

/* Our own text, as it is. What does not fit is left out. */
void line_add(struct line *l, const char *text);
/* Foreign text, escaped, at most max bytes of output ("..." at the end when it was cut). */
void line_add_escaped(struct line *l, int style, bh_str s, size_t max);
/* The same, for a URL: the values of query arguments with those names become "REDACTED". */
void line_add_url(struct line *l, int style, bh_str url, const bh_strlist *redact, size_t max);

#endif
