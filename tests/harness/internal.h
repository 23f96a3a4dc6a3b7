/*
 * internal.h - what the harness' own files share.
 */
#ifndef HARNESS_INTERNAL_H
#define HARNESS_INTERNAL_H

#include <stdarg.h>
#include <stddef.h>

#define FAIL(...) harness_fail(__FILE__, __LINE__, __VA_ARGS__)

/* Zeroed; a failure fails the test. The strings are freed by the caller. */
void *harness_alloc(size_t n);
char *harness_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *harness_vprintf(const char *format, va_list args) __attribute__((format(printf, 1, 0)));

/* A connected socket, or -1 with errno. */
int harness_connect_inet(int port);

#endif
