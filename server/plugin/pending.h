/*
 * pending.h - what a plugin has asked for and is to be called back about: the store's answers, outbound
 * HTTP.
 *
 * As with timers (alarm.h), a call that waits belongs to the incarnation whose code asked, and ends with
 * it. It is named by a number, so that an answer to what was cancelled, or whose incarnation is gone, or
 * that a call which crashed had asked for, finds nothing. What a newcomer would get wrong: whoever brings
 * the answer keeps the number, never a pointer.
 *
 * Loop thread only.
 */
#ifndef PLUGIN_PENDING_H
#define PLUGIN_PENDING_H

#include <bulkhead.h>
#include <stdbool.h>
#include <stdint.h>

struct incarnation;

#define PENDING_MAX 16384 /* of one incarnation */

typedef void pending_fn(void); /* of any type: see pending_finish() */

/* dropped(owner): it was cancelled, and no answer is wanted any more; NULL: nobody needs to know.
 * BH_OK and a number, which is not 0; BH_EPHASE, BH_ELIMIT, BH_ENOMEM. */
bh_rc pending_add(bh_inst *inst, pending_fn *fn, void *arg, void (*dropped)(void *owner),
                  void *owner, uint64_t *id);
bool pending_is(uint64_t id);

/* Calls fn(self, result, arg), or with a ticket fn(self, ticket, result, arg), in a boundary; then it is
 * over. Nothing happens when it is so already. */
void pending_finish(uint64_t id, const void *result);
void pending_finish_with(uint64_t id, bh_ticket *ticket, const void *result);

/* For plugins: over, and dropped(). BH_ENOENT: there is none of that number, of that instance. */
bh_rc pending_cancel(bh_inst *inst, uint64_t id);
/* The call that was last made on this thread has crashed: what it asked for is cancelled. */
void pending_undo(struct incarnation *inc);
/* inc is closed, or was taken out. */
void pending_drop_all(struct incarnation *inc);

#endif
