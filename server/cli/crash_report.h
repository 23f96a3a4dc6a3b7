/*
 * crash_report.h - a crash record as text, for somebody who was woken up by it.
 */
#ifndef CLI_CRASH_REPORT_H
#define CLI_CRASH_REPORT_H

#include <stdio.h>

struct json_t;

/* The record's string at a path of members ("where.function"), or NULL. Borrowed. */
const char *crash_text(const struct json_t *record, const char *path);
long long crash_number(const struct json_t *record, const char *path); /* 0 when absent */

/* "handler() at crash.c:42", "crash.so+0x1234", or "-". */
void crash_place(const struct json_t *record, char *buf, size_t size);
/* "SIGSEGV", or the kind ("exit", "deadline") when there was no signal. */
const char *crash_how(const struct json_t *record);

/* Prints text without what would steer a terminal. */
void crash_print_clean(FILE *out, const char *text);

void crash_report(FILE *out, const struct json_t *record);

#endif
