/*
 * sinks.h - log files of plugins: bh_sink_open(), bh_sink_write().
 */
#ifndef WORKER_SINKS_H
#define WORKER_SINKS_H

#include <bulkhead.h>

struct shm;
struct shm_worker;

void sinks_init(bh_host *h, struct shm *shm, struct shm_worker *shared);

#endif
