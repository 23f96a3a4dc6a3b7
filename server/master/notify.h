/*
 * notify.h - tells systemd how the service is doing (sd_notify(3), without the library).
 */
#ifndef MASTER_NOTIFY_H
#define MASTER_NOTIFY_H

/* state: "READY=1", "STOPPING=1". Does nothing without $NOTIFY_SOCKET; never blocks. */
void notify_systemd(const char *state);

#endif
