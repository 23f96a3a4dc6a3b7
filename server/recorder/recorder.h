/*
 * recorder.h - the process that writes what workers leave in shared memory.
 *
 * Log lines go to their files, raw crash records become JSON files. Workers never wait for it: when
 * it is behind, or dead, rings fill up and lines are counted as dropped. It keeps its state in
 * shared memory, so that its successor carries on where it died.
 */
#ifndef RECORDER_RECORDER_H
#define RECORDER_RECORDER_H

#include "obs/record.h"

struct config;
struct shm;

/* Runs until SIGTERM, then writes what is left; returns the exit status. SIGUSR1: opens all log
 * files anew. SIGUSR2: ends at once, for a successor. To be called in a process of its own, with one thread, that ignores nothing yet.
 * plugin: as cfg->plugin, n of them; then n_older of earlier configs, whose workers may still live. */
int recorder_run(const struct config *cfg, struct shm *shm, const struct recorder_plugin *plugin,
                 int n, int n_older);

#endif
