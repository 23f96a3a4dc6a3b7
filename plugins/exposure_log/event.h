/*
 * event.h - from the variable "ab_exposures" to the lines of the log. Pure.
 */
#ifndef EXPOSURE_EVENT_H
#define EXPOSURE_EVENT_H

#include <bulkhead.h>

#define EVENT_MAX     8000 /* bytes of a line: what a sink takes */
#define EVENT_ID_SIZE 37   /* a UUID as text, and NUL */

/* The next of the objects that stand there one behind the other, with commas between; *at goes on.
 * Absent at the end, or where there is none. */
bh_str event_next(bh_str objects, size_t *at);

/* A UUID of our own making (RFC 9562, version 8): who made it, and the how manieth it is. */
void event_id(uint64_t maker, uint64_t n, char out[EVENT_ID_SIZE]);

/* One line: {"event_id":"...","time":...,...,MEMBERS OF THE OBJECT}. Its length, or 0: it does not fit. */
size_t event_line(const char *id, int64_t now_ms, bh_str status, bh_str request_id, bh_str object,
                  char out[EVENT_MAX]);

/* The value of a text member of a line, as it stands there, escapes and all. Absent: there is none. */
bh_str event_member(bh_str line, const char *name);

/* Is it a line of this log, whole? A worker or a machine may have died in the middle of one. */
int event_is_whole(bh_str line);

#endif
