/*
 * health.h - once a second: does this worker still hear and see?
 *
 * A plugin that closes the loop's descriptors behind its back leaves a worker that waits for ever.
 */
#ifndef WORKER_HEALTH_H
#define WORKER_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

struct config;
struct shm_worker;

void health_init(struct shm_worker *shared, const struct config *cfg);
/* fd is in the loop's epoll set, with this data. */
void health_expect(int fd, uint64_t data);
void health_forget(int fd);

/* Called on every round of the loop; does something once a second. False: a descriptor that the loop
 * lives on is gone, or is another one now. */
bool health_tick(int64_t now_ms);

#endif
