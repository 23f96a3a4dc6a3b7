/*
 * watchdog.h - deadlines of plugin calls, without a clock read in any call.
 *
 * A thread samples the call sequence number. A number that stands still for longer than the
 * deadline of its plugin and hook gets the deadline signal; see recover.h for what follows. A deadline is
 * therefore kept to within a quarter of the shortest one configured (at least 5 ms).
 */
#ifndef WORKER_WATCHDOG_H
#define WORKER_WATCHDOG_H

struct config;
struct shm_call;

/* Watches the calling thread's calls. 0 or -errno; 0 also when no plugin has a deadline. */
int watchdog_start(const struct config *cfg, const struct shm_call *call);

#endif
