/*
 * admit.h - what the breakers (ipc/quarantine.h) mean for a plugin: who may enter it, and what its
 * crashes count for.
 *
 * Loop thread only, but for admit_charge(). What a newcomer would get wrong: while all is closed a
 * request pays for one load and a branch, in chain.c; everything here is off that path.
 */
#ifndef PLUGIN_ADMIT_H
#define PLUGIN_ADMIT_H

#include <bulkhead.h>
#include <stdbool.h>

struct bh_req;
struct entry;
struct recover_fault;

/* To be asked when quarantine_is_on(). False: it may not enter now; req->retry_after_s says when to
 * come again. Where it is let in as a trial, that is noted in the entry. */
bool admit_ask(struct bh_req *req, struct entry *e);

/* The request has ended: so have its trials of this entry. */
void admit_trials_end(struct entry *e);
/* A stream that has gone on for long enough has passed, though it has not ended. */
void admit_streams(struct bh_req *req);

/* The plugin crashed. req: in which request, NULL: in none. Any thread, with req NULL. */
void admit_charge(bh_inst *inst, const struct bh_req *req, const struct recover_fault *fault);
/* It was taken out of this worker (eject.h). */
void admit_charge_eject(bh_inst *inst);

#endif
