/*
 * exporter.h - the process that tells others: traces to a collector, alerts to people.
 *
 * It makes connections to the network, and holds the tokens for them; so it is neither the recorder, which
 * reads what crashed workers left, nor the admin process, which serves strangers, nor the master. It reads
 * shared memory, believes nothing of it, and can be killed at any time: what it had taken from the rings
 * and not sent is lost, and counted by nobody then.
 */
#ifndef EXPORTER_EXPORTER_H
#define EXPORTER_EXPORTER_H

#include <stdbool.h>

struct config;
struct shm;

/* Is there anything for it to do? */
bool exporter_is_wanted(const struct config *cfg);

/* Returns the exit status: after SIGTERM, when the workers have ended, once all is sent or some seconds
 * are over; after SIGUSR2, since another one goes on, within a second. SIGUSR1 reopens the log. */
int exporter_run(const struct config *cfg, struct shm *shm);

#endif
