/*
 * rollout_internal.h - what the files of the rollout share.
 */
#ifndef MASTER_ROLLOUT_INTERNAL_H
#define MASTER_ROLLOUT_INTERNAL_H

#include "ipc/rollout.h"
#include "master/gate.h"
#include "master/rollout.h"

const char *rollout_phase_name(enum rollout_phase phase);
const char *rollout_end_name(enum rollout_end end); /* "rolled back" */
/* The counters of an arm, as of now. */
void rollout_read(const struct master *m, enum rollout_arm arm, struct gate_counts *out);
/* May it go on to the next step, as far as gates and samples say? Why not, in why. */
enum gate_verdict rollout_judge(const struct master *m, char *why, size_t size);
/* It is decided. */
void rollout_leave(struct master *m, enum rollout_end end, const char *why);

#endif
