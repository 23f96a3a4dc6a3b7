/*
 * worker.h - the process that serves requests: one event loop, all plugins, a watchdog.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

struct config;
struct setup;
struct shm;
struct worker_seat;

/* The worker role of master.h. */
int worker_run(const struct config *cfg, const struct setup *setup, struct shm *shm,
               const struct worker_seat *seat);

#endif
