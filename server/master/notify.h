/*
 * notify.h - tells systemd how the service is doing (sd_notify(3), without the library).
 */
#ifndef MASTER_NOTIFY_H
#define MASTER_NOTIFY_H

#include <stdint.h>

struct master;

/* state: "READY=1", "STOPPING=1". Does nothing without $NOTIFY_SOCKET; never blocks. */
void notify_systemd(const char *state);
/* RELOADING=1, with the time that Type=notify-reload asks for; READY=1 ends it. */
void notify_reloading(void);

/*
 * WatchdogSec: reads how long systemd waits for a sign of life. The master gives one only while its
 * workers' loops turn: as long as some of them do, the others are its own business (posts.c), and
 * cheaper to mend than by a restart, which costs all connections.
 */
void watchdog_init(struct master *m);
/* A worker's loop has turned. */
void watchdog_saw_turn(struct master *m, int64_t now_ms);
/* Gives the sign of life when it is due. */
void watchdog_tick(struct master *m, int64_t now_ms);
int64_t watchdog_next_ms(const struct master *m);

/* In the child that becomes the new master: the signs of life that are waited for are its own. */
void watchdog_inherit(void);

#endif
