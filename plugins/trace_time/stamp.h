/*
 * stamp.h - times as text: seconds since 1970 with milliseconds, "1767225600.123".
 */
#ifndef STAMP_H
#define STAMP_H

#include <bulkhead.h>

#define STAMP_SIZE 24 /* bytes for stamp_print(), the NUL included */

/*
 * Reads what a client sent: 9 to 11 digits (1973 to the year 5138), and, after a point, 1 to 9 more,
 * of which three count. Nothing else: no sign, no blank, no exponent. 1 and *ms, or 0.
 */
int stamp_parse(bh_str text, int64_t *ms);

/* Reads an offset in milliseconds: a sign perhaps, up to 12 digits, a fraction, which is dropped.
 * 1 and *ms, or 0. */
int stamp_parse_offset(bh_str text, int64_t *ms);

/* ms >= 0, up to the year 9999. Returns a view of buf. */
bh_str stamp_print(int64_t ms, char buf[STAMP_SIZE]);

#endif
