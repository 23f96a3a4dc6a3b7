/*
 * crashes.h - raw crash records of shared memory become files.
 */
#ifndef RECORDER_CRASHES_H
#define RECORDER_CRASHES_H

#include <stdbool.h>
#include <stdint.h>

struct config;
struct recorder_plugin;
struct shm;

/* Once; all that is passed stays the caller's and must stay. */
void crashes_init(const struct config *cfg, struct shm *shm, const struct recorder_plugin *plugin,
                  int n_plugins, int n_older);

/* Writes the records of one worker that are complete, those that a dead worker left incomplete, and
 * new counts of repeats. is_last: the recorder ends, waits for nothing. True when something was
 * done, or will have to be done soon. */
bool crashes_write(uint32_t worker, bool is_last);

#endif
