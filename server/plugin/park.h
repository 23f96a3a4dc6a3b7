/*
 * park.h - outcome X: a worker that cannot go on stands still, so that its connections can be saved.
 *
 * Dying would close the sockets. So the faulting thread stays in its handler: it completes the crash
 * record, notes which requests could be run again, tells the master, and waits to be killed. The master takes the descriptors
 * meanwhile (master/escrow.c), or asks for them where it is not allowed to. What a newcomer would get wrong: anything in this process may be
 * broken by now, locks are held, the heap may be damaged. Only system calls and plain memory are
 * used, and a second fault in here is expected: it goes on with the next step.
 */
#ifndef PLUGIN_PARK_H
#define PLUGIN_PARK_H

#include <stdbool.h>
#include <stdint.h>

struct shm;
struct shm_crash;

/* Called by the loop thread. slot: the worker's own in shm. channel_fd: to the master (ipc/channel.h); -1: there is none, nothing is
 * ever parked. note: writes down what the master needs; runs in a fault handler. stop_signal: makes
 * the loop thread call park_stand_still(). */
void park_init(struct shm *shm, uint32_t slot, int channel_fd, void (*note)(void), int stop_signal);

/* In a handler, or anywhere: any thread. record: of what happened, without the request yet; it is completed
 * and given to the recorder in any case. NULL: there is none. Returns only where nothing can be parked, or when the master
 * has not ended this process within a few seconds: then it must end by itself. */
void park(struct shm_crash *record);

/* The master wants this process parked though nothing here has failed: its loop does not turn. */
bool park_is_wanted(void);
/* Has this thread begun to park? A fault that strikes it now belongs into park() again. */
bool park_is_mine(void);
/* Has any thread? */
bool park_has_begun(void);
/* For other threads: waits for the end. */
void park_stand_still(void);

#endif
