/*
 * shadow.h - a candidate that runs along for show.
 *
 * Where the stable version's hook is called its candidate's is called first, on the same request; what it
 * changes or answers is taken back before the stable one sees it. What a newcomer would get wrong: only
 * what the host hands out can be taken back. A file that the shadow writes is written. That is why on_log,
 * which is there to write, is not called, nor are hooks on a body that is on its way to the client already.
 */
#ifndef PLUGIN_SHADOW_H
#define PLUGIN_SHADOW_H

#include <bulkhead.h>
#include <stdbool.h>

#include "plugin/instance.h"
#include "plugin/request.h"

struct bh_req;

/* The request gets this candidate as a shadow beside its entry req->arm_at. */
void shadow_enter(struct bh_req *req, bh_inst *candidate);
void shadow_request(struct bh_req *req);
void shadow_request_body(struct bh_req *req, bh_str chunk, bool end);
void shadow_response(struct bh_req *req);
/* The request is over: counts, gives back. */
void shadow_end(struct bh_req *req);
/* It has asked for what a shadow cannot have: to pause. */
void shadow_give_up(struct bh_req *req);

/* Does the plugin at this entry have one, which is to be called? */
static inline bool shadow_is_at(const struct bh_req *req, int at)
{
    return __builtin_expect(req->shadow != NULL, 0) && at == req->arm_at;
}

/* Is it the shadow that runs? */
static inline bool shadow_runs(const struct bh_req *req)
{
    return __builtin_expect(req->shadow != NULL, 0) && req->entry + req->at == req->shadow;
}

/* Does the shadow run, in a hook or a timer of its own, while the stream is another's? */
static inline bool shadow_is_foreign(const struct bh_req *req)
{
    return __builtin_expect(req->shadow != NULL, 0) && incarnation_running == req->shadow->inc &&
           req->entry + req->reply.by != req->shadow;
}

#endif
