/*
 * exchange.h - one request and its answer, between libmicrohttpd and the chain.
 */
#ifndef HTTP_EXCHANGE_H
#define HTTP_EXCHANGE_H

#include <stdbool.h>

#include "plugin/request.h"

struct bh_ticket;
struct exchange;

/* The exchange that a request belongs to. */
static inline struct exchange *exchange_of(const bh_req *req)
{
    return req->up;
}

bh_req *exchange_request(struct exchange *x);

/* The ticket that a paused request waits for; the worker's. */
struct bh_ticket *exchange_ticket(const struct exchange *x);
void exchange_set_ticket(struct exchange *x, struct bh_ticket *t);

/* When, on the loop's monotonic clock, its head was read, or last something of its body: from there on
 * the client waits. */
int64_t exchange_since_ns(const struct exchange *x);

/* Goes on with a paused request; req->resume_verdict says how. */
void exchange_resume(struct exchange *x);
/* The paused request failed (chain_fail_paused()); exchange_resume() is to follow. */
void exchange_fail(struct exchange *x, int kind);
/* While the request was paused, its client closed the connection; or, !is_whole, said that it sends no
 * more, which may be all it means: exchange.c has the rule. Unless it is, the request ends. */
void exchange_hang_up(struct exchange *x, bool is_whole);

#endif
