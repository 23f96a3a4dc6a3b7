/*
 * httpdate.h - dates as HTTP writes them (RFC 9110 5.6.7).
 */
#ifndef STATIC_HTTPDATE_H
#define STATIC_HTTPDATE_H

#include <bulkhead.h>
#include <stdbool.h>

#define HTTPDATE_SIZE 30 /* "Sun, 06 Nov 1994 08:49:37 GMT" and its NUL */

void httpdate_format(int64_t unix_s, char out[HTTPDATE_SIZE]);

/* All three formats that a recipient has to read. now_s: decides the century of two-digit years. */
bool httpdate_parse(bh_str s, int64_t now_s, int64_t *unix_s);

#endif
