/*
 * alarm.h - timers of plugins (bh_timer), on the worker's loop.
 *
 * One heap for all, driven by the loop's clock and the time-out of its epoll_wait(): a timer costs no
 * descriptor and no system call. What a newcomer would get wrong: a timer belongs to the incarnation
 * whose code set it, not to the instance. That one's streams need their heartbeats for as long as it
 * has requests, also when a fresh incarnation serves the new ones; its timers end when it is closed.
 *
 * Loop thread only. (timer.h is about timer_create(), which plugins may use by themselves.)
 */
#ifndef PLUGIN_ALARM_H
#define PLUGIN_ALARM_H

#include <bulkhead.h>
#include <stddef.h>
#include <stdint.h>

struct incarnation;

#define ALARMS_MAX 16384 /* of one incarnation */

/* Fills the table's members. The calling thread is the loop's. */
void alarm_fill(bh_host *h);

/* Milliseconds until the next one is due, rounded up; -1: there is none. */
int alarm_timeout_ms(void);
/* Calls what is due by the loop's clock. What these calls set runs in a later turn at the earliest. */
void alarm_run(void);

/* inc is closed, or was taken out: its timers are gone. */
void alarm_drop_all(struct incarnation *inc);
/* The call that was last made on this thread has crashed: the timers that it set are gone. */
void alarm_undo(struct incarnation *inc);

#endif
