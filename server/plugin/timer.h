/*
 * timer.h - timers of plugins whose expiry calls a function (SIGEV_THREAD).
 *
 * libc makes a thread for each expiry, by a way that cannot be interposed. So the timer is created
 * with a function of ours, which runs the plugin's as if it had started a thread (thread.h).
 */
#ifndef PLUGIN_TIMER_H
#define PLUGIN_TIMER_H

#include <signal.h>
#include <stdint.h>
#include <time.h>

#define TIMERS_MAX 256 /* of all plugins, in one process */

/* timer_create() for a plugin, ev->sigev_notify being SIGEV_THREAD. 0, or -1 and errno; EAGAIN when there
 * are TIMERS_MAX. */
int timer_open(uint32_t plugin, clockid_t clock, const struct sigevent *ev, timer_t *out);
/* timer_delete(), for any timer. */
int timer_close(timer_t timer);

/* The function of one that this plugin has not deleted; NULL: there is none. */
const void *timer_function(uint32_t plugin);

/* libc's own. */
int timer_libc_create(clockid_t clock, struct sigevent *ev, timer_t *out);

#endif
