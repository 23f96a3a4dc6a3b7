/*
 * offload.h - blocking work of plugins, on a few threads of the worker's.
 */
#ifndef WORKER_OFFLOAD_H
#define WORKER_OFFLOAD_H

#include <bulkhead.h>

#define OFFLOAD_THREADS 4
#define OFFLOAD_MAX     1024 /* jobs waiting */

struct shm_call;

/* Fills the host table's member. Threads start with the first job. loop: where the loop's calls are
 * published. */
void offload_init(bh_host *h, const struct shm_call *loop);

#endif
