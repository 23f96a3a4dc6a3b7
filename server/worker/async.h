/*
 * async.h - what comes back to the loop thread from elsewhere: tickets, posted calls.
 *
 * bh_resume() and bh_post() may be called on any thread. They push onto a lock-free stack and wake
 * the loop, which takes the whole stack at once. What a newcomer would get wrong: a request is only
 * ever resumed on the loop thread, after libmicrohttpd has been told to suspend it.
 */
#ifndef WORKER_ASYNC_H
#define WORKER_ASYNC_H

#include <bulkhead.h>
#include <stdint.h>

#include "plugin/recover.h"

struct exchange;
struct shm_call;

/* Fills the host table's members. wake_fd: an eventfd that the loop waits for. request_ms: the time
 * of a ticket without one of its own. */
void async_init(bh_host *h, int wake_fd, uint32_t request_ms);

/* On the loop: works off what has come. */
void async_run(void);
/* Milliseconds until the next ticket's time is over, or -1. */
int async_timeout_ms(void);
/* Fails the tickets whose time is over; loop clock. */
void async_expire(void);
/* The request ends: its ticket, if any, is dead. */
void async_forget(struct exchange *x);

/* For offload.c: a ticket with no time-out, fired from the pool. */
bh_ticket *async_ticket(bh_req *req, uint32_t timeout_ms);
/* Which use of the ticket this is, for async_fire(): it may serve another request by then. */
uint64_t async_use(const bh_ticket *t);
/* The job for that use runs in `call`, whose fd names the client as long as one waits for it; and it has
 * ended. Any thread. */
void async_runs_in(bh_ticket *t, uint64_t use, struct shm_call *call, int fd);
void async_ran(bh_ticket *t, struct shm_call *call);
/* crashed: whose job it was, if it crashed, and of what; NULL: it came back. Any thread. */
void async_fire(bh_ticket *t, uint64_t use, int32_t verdict, bh_inst *crashed,
                const struct recover_fault *crash);

#endif
