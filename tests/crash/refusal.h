/*
 * refusal.h - what a plugin does while it is loaded: columns e and f of the crash matrix, and where
 * the trial run of close() finds it, g.
 */
#ifndef CRASH_REFUSAL_H
#define CRASH_REFUSAL_H

#include "matrix.h"

/* Commits each fault that must be refused. `bulkhead run` must not start, `bulkhead check` must exit
 * with 2 for those in validate(), and both must say who did it and where.
 * only: a fault, or NULL. Returns how often that was not so, and prints it. */
int refusal_run(char (*observed)[MATRIX_N_COLUMNS], const char *only);

/* The others: the server must start, serve, and survive a crash. */
int refusal_spared(char (*observed)[MATRIX_N_COLUMNS], const char *only);

#endif
