/*
 * warm.h - what a worker's first requests would wait for.
 */
#ifndef WORKER_WARM_H
#define WORKER_WARM_H

#include <stdint.h>

#include "conf/config.h"
#include "ipc/shm.h"

/* Before it serves, when it has loaded all: gets the memory that connections will want, for as many as the
 * busiest worker has now, between 16 and 128. The heap keeps it. Where the kernel cannot (before Linux
 * 5.14), or there is no memory, nothing happens. */
void warm_up(const struct config *cfg, struct shm *shm, uint32_t slot);

#endif
