/*
 * timestamp.h - points in time as RFC 3339 text, in UTC.
 *
 * Own arithmetic instead of gmtime_r(), which takes a lock in glibc: a log line must get out of a
 * process in any state.
 */
#ifndef OBS_TIMESTAMP_H
#define OBS_TIMESTAMP_H

#include <stddef.h>
#include <stdint.h>

#define TIMESTAMP_SIZE 32

/* "2026-11-23T21:00:00.123Z". real_ns: since 1970.
 * Returns the length. Async-signal-safe. */
size_t timestamp_format(int64_t real_ns, char out[TIMESTAMP_SIZE]);

#endif
