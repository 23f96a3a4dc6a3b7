/*
 * preflight.h - tries every plugin in a process that may die of it.
 */
#ifndef WORKER_PREFLIGHT_H
#define WORKER_PREFLIGHT_H

struct config;
struct setup;
struct shm;

/* The preflight role of master.h. */
int worker_preflight(const struct config *cfg, const struct setup *setup, struct shm *shm,
                     int report_fd, int validate_only);

#endif
