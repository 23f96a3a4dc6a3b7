/*
 * trace.h - the trace of one request: a span for itself, one for each call into a plugin.
 *
 * Only requests that are recorded have a struct trace (req->trace); for all others each place that asks
 * costs one branch. It lives in the request's arena, and becomes bytes in the spans' ring at the end
 * (ipc/span.h). Without `tracing:` trace_is_on is false and nothing here is ever called.
 *
 * What a newcomer would get wrong: traceparent and tracestate are passed on by way of the request's
 * header fields, as later plugins see them; whoever sends a request on takes them along.
 */
#ifndef PLUGIN_TRACE_H
#define PLUGIN_TRACE_H

#include <bulkhead.h>
#include <stdbool.h>
#include <stdint.h>

#include "plugin/hook.h"

struct config;
struct shm_worker;
struct trace;

extern bool trace_is_on;

/* Before the first request. */
void trace_init(const struct config *cfg, struct shm_worker *shared);
/* span_begin() and so on. */
void trace_fill(bh_host *h);

/* The head is there: whose trace it belongs to, whether it is recorded. is_trusted: the peer is in
 * server.trusted_proxies. */
void trace_begin(struct bh_req *req, bool is_trusted);

/* Around each call. req->trace is not NULL. verdict: BH_*; came_back false: it crashed, as
 * recover_self.fault says. */
void trace_hook_begin(struct bh_req *req, bh_inst *inst, enum hook hook);
void trace_hook_end(struct bh_req *req, bool came_back, bh_rc verdict);
/* A plugin holds the request; it goes on. */
void trace_pause_begin(struct bh_req *req, bh_inst *inst);
void trace_pause_end(struct bh_req *req);

/* The request is over. cfg: for the patterns of routes. */
void trace_end(struct bh_req *req, const struct config *cfg);

/* "trace_id" or "span_id" (of the request's own span) of one that is recorded; else absent. */
bh_str trace_attr(struct bh_req *req, const char *key);

#endif
