/*
 * crash_watch.h - crash records as they come: `bulkhead crashes watch`.
 */
#ifndef CLI_CRASH_WATCH_H
#define CLI_CRASH_WATCH_H

#include <stdbool.h>

struct json_t;

/* Prints a line for each record that is written from now on, until a signal ends the process. Waits
 * for the folder if it is not there yet. Returns CLI_FAILED when it cannot go on. */
int crash_watch(const char *command, const char *dir, bool as_json);

/* What there is to know at a glance: crashes.c. */
struct json_t *crash_summary(const struct json_t *record);

#endif
