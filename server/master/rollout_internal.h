/*
 * rollout_internal.h - what the files of the rollout share.
 */
#ifndef MASTER_ROLLOUT_INTERNAL_H
#define MASTER_ROLLOUT_INTERNAL_H

#include "ipc/rollout.h"
#include "master/events.h"
#include "master/gate.h"
#include "master/rollout.h"

const char *rollout_phase_name(enum rollout_phase phase);
const char *rollout_end_name(enum rollout_end end); /* "rolled back" */
/* The counters of an arm, as of now. */
void rollout_read(const struct master *m, enum rollout_arm arm, struct gate_counts *out);
/* May it go on to the next step, as far as gates and samples say? Why not, in why. */
enum gate_verdict rollout_judge(const struct master *m, char *why, size_t size);
/* What the candidate has done that ends a rollout at once; NULL: nothing. */
const char *rollout_find_crash(const struct master *m);
/* The metric of its gate, as it is now that a step begins. */
void rollout_note_metric(struct master *m);
/* The one place where the phase changes. */
void rollout_set_phase(struct rollout_run *r, enum rollout_phase phase);
/* An event, and a line in the log. */
__attribute__((format(printf, 3, 4))) void rollout_tell(struct master *m, enum event_kind kind,
                                                        const char *fmt, ...);
/* {"error": ..., "is_input": ...}, malloc'd; NULL: no memory. */
__attribute__((format(printf, 2, 3))) char *rollout_refuse(bool is_input, const char *fmt, ...);
/* Why roles->variant() could not tell what serves. */
const char *rollout_no_variant(int result);
/* Copies a variant's object to where it outlives the server. 0 or -errno. */
int rollout_keep(struct master *m, struct overlay_variant *v);
/* Step 0, 1, ...; behind the last: the promotion. */
void rollout_begin_step(struct master *m, int step);
/* It is decided. */
void rollout_leave(struct master *m, enum rollout_end end, const char *why);

#endif
