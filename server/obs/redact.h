/*
 * redact.h - the text of a request as a crash record may keep it: without its secrets.
 *
 * The worker calls these while it completes a record, so that secrets never reach shared memory.
 * All of them append whole lines to a buffer that the caller owns, escape control characters as
 * \xNN, cut long values, and allocate nothing: a dying worker calls them in its
 * fault handler. What does not fit is left out.
 */
#ifndef OBS_REDACT_H
#define OBS_REDACT_H

#include <stdbool.h>
#include <stddef.h>

#define REDACT_VALUE_MAX 1024 /* bytes of one value that are kept */

/* "METHOD TARGET PROTOCOL\n" without the values of secret query arguments and without user:password
 * of an absolute target. Returns the bytes written to out, 0 when it does not fit; no NUL. */
size_t redact_request_line(char *out, size_t size, const char *method, const char *target,
                           size_t target_len, const char *protocol);

/* "Name: value\n", or "Name: [redacted N bytes]\n" when the name is that of a secret. Query
 * arguments in Referer and the like are treated as in a target. Returns as above. */
size_t redact_header(char *out, size_t size, const char *name, size_t name_len, const char *value,
                     size_t value_len);

/* Authorization, Cookie, X-Api-Key, anything with "token" in its name, ... */
bool redact_is_secret_header(const char *name, size_t n);
/* token, key, password, ...; the name may still be percent-encoded. */
bool redact_is_secret_argument(const char *name, size_t n);

#endif
