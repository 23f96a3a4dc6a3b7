/*
 * alert_text.h - what receivers are sent.
 */
#ifndef EXPORTER_ALERT_TEXT_H
#define EXPORTER_ALERT_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct alert;
struct config_receiver;

#define ALERT_RESEND_MS 60000 /* Alertmanager forgets what it is not told again */

struct alert_message {
    const struct config_receiver *to;
    const struct alert *const *alert;
    int n;
    const char *instance; /* label of that name; NULL: none */
    int64_t now_ns;       /* since 1970 */
};

/* malloc'd, NUL-terminated JSON, its length in *n; NULL: no memory. */
char *alert_text(const struct alert_message *m, size_t *n);

#endif
