/*
 * watchdog.h - deadlines of plugin calls, without a clock read in any call.
 *
 * A thread samples the call sequence numbers of the threads that make calls: the loop, and those of the
 * offload pool. A number that stands still for longer than the deadline of its plugin and hook gets the
 * deadline signal; see recover.h for what follows. A deadline is therefore kept to within a quarter of
 * the shortest one configured (at least 5 ms).
 *
 * What a newcomer would get wrong: a thread that a plugin started is not watched. Its function is not a
 * call that somebody waits for; it may run for as long as the process.
 */
#ifndef WORKER_WATCHDOG_H
#define WORKER_WATCHDOG_H

#include <signal.h>

struct config;
struct shm_call;

/* Watches the calling thread's calls. 0 or -errno; 0 also when no plugin has a deadline. on_signal: is
 * told, in the watchdog's thread, of the signals in watchdog_signals(), which all threads must block;
 * NULL: it waits for none. */
int watchdog_start(const struct config *cfg, const struct shm_call *call,
                   void (*on_signal)(int signo));

/* Those that tell a worker what to do. */
void watchdog_signals(sigset_t *out);

/* From now on the calling thread's calls are watched, too, for as long as the process lives. call: where
 * it publishes them. At most OFFLOAD_THREADS threads. */
void watchdog_add(const struct shm_call *call);

#endif
