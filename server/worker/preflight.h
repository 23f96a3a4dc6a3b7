/*
 * preflight.h - tries every plugin in a process that may die of it.
 */
#ifndef WORKER_PREFLIGHT_H
#define WORKER_PREFLIGHT_H

struct config;
struct setup;
struct shm;

/* The preflight role of master.h. */
/* As above, with restore() of what is in state_fd. */
int worker_rehearse(const struct config *cfg, const struct setup *setup, struct shm *shm,
                    int report_fd, int state_fd);
int worker_preflight(const struct config *cfg, const struct setup *setup, struct shm *shm,
                     int report_fd, int validate_only);

#endif
