#include "plugin/shadow.h"

#include <string.h>

#include "base/arena.h"
#include "ipc/rollout.h"
#include "plugin/alarm.h"
#include "plugin/boundary.h"
#include "plugin/failure.h"
#include "plugin/instance.h"
#include "plugin/pending.h"

struct saved { /* of the request, around a call */
    int at;
    size_t allocated;
    bool has_ticket;
    char crash_id[sizeof((struct bh_req *)0)->crash_id];
};

void shadow_enter(struct bh_req *req, bh_inst *candidate)
{
    struct entry *e = &req->entry[req->n_entries + 1];
    const bh_plugin *d;

    *e = (struct entry){.inst = candidate, .inc = incarnation_get(candidate)};
    if (e->inc == NULL)
        return;
    d = e->inc->desc;
    e->max[BH_REQ] = e->max[BH_RESP] = req->body_limit;
    e->want[BH_REQ] = d->on_request_body != NULL ? BH_BODY_STREAM : BH_BODY_NONE;
    e->want[BH_RESP] = d->on_response_body != NULL ? BH_BODY_STREAM : BH_BODY_NONE;
    e->flags = ENTRY_ENTERED;
    if (d->ctx_size > 0 && (e->ctx = arena_zalloc(&req->arena, d->ctx_size)) == NULL)
        e->flags |= ENTRY_OUT;
    req->shadow = e;
}

static bool is_in(const struct bh_req *req)
{
    return (req->shadow->flags & (ENTRY_ENTERED | ENTRY_DECLINED | ENTRY_OUT)) == ENTRY_ENTERED;
}

void shadow_give_up(struct bh_req *req)
{
    req->shadow->flags |= ENTRY_OUT | ENTRY_UNFINISHED;
}

static void begin(struct bh_req *req, enum hook hook, struct saved *s)
{
    s->at = req->at;
    s->allocated = req->allocated;
    s->has_ticket = req->has_ticket;
    memcpy(s->crash_id, req->crash_id, sizeof s->crash_id);
    incarnation_run_for(req->shadow->inc, req);
    req->at = (int)(req->shadow - req->entry);
    req->hook = hook;
    req->call++;
}

/* Whatever it did is undone; what it thought of it is kept. */
static void end(struct bh_req *req, enum hook hook, bool came_back, bh_rc verdict,
                const struct saved *s)
{
    struct entry *e = req->shadow;
    bool is_bad_reply = came_back && verdict == BH_DONE && req->reply.status >= 500;

    req->hook = HOOK_NONE;
    if (!came_back) {
        alarm_undo(e->inc);
        pending_undo(e->inc);
    }
    request_undo(req);
    if (!came_back) {
        e->flags |= ENTRY_OUT | ENTRY_FAILED;
        failure_note(req, e->inst, e->inc, hook); /* charges it, which ends the rollout */
    } else if ((e->flags & ENTRY_UNFINISHED) == 0) {
        if (verdict == BH_PAUSE)
            shadow_give_up(req);
        else if (verdict == BH_DECLINE)
            e->flags |= ENTRY_DECLINED;
        else if (verdict < 0 || verdict > BH_DECLINE || is_bad_reply)
            e->flags |= ENTRY_FAILED | (is_bad_reply ? 0 : ENTRY_OUT);
    }
    req->at = s->at;
    req->allocated = s->allocated;
    req->has_ticket = s->has_ticket;
    memcpy(req->crash_id, s->crash_id, sizeof s->crash_id);
    req->call++; /* the next to change something is another call */
}

static void call(struct bh_req *req, enum hook hook, hook_fn *fn)
{
    const struct entry *e = req->shadow;
    bh_rc verdict = BH_FAIL;
    struct saved s;
    bool came_back;

    if (fn == NULL || !is_in(req))
        return;
    begin(req, hook, &s);
    came_back = boundary_hook(e->inst->id, hook, fn, e->inc->self, req, e->ctx, &verdict);
    end(req, hook, came_back, verdict, &s);
}

static void call_body(struct bh_req *req, enum hook hook, hook_body_fn *fn, bh_str chunk,
                      bool is_end)
{
    const struct entry *e = req->shadow;
    bh_rc verdict = BH_FAIL;
    struct saved s;
    bool came_back;

    if (fn == NULL || !is_in(req))
        return;
    begin(req, hook, &s);
    came_back = boundary_body(e->inst->id, hook, fn, e->inc->self, req, e->ctx, chunk, is_end,
                              &verdict);
    end(req, hook, came_back, verdict, &s);
}

void shadow_request(struct bh_req *req)
{
    call(req, HOOK_REQUEST, req->shadow->inc->desc->on_request);
}

void shadow_request_body(struct bh_req *req, bh_str chunk, bool is_end)
{
    const struct entry *e = req->shadow;
    bool is_whole = e->want[BH_REQ] == BH_BODY_BUFFER;

    if (e->want[BH_REQ] == BH_BODY_NONE || (is_whole && !is_end) ||
        (!is_whole && !is_end && chunk.n == 0))
        return;
    call_body(req, HOOK_REQUEST_BODY, e->inc->desc->on_request_body,
              is_whole ? req->body[BH_REQ] : chunk, is_end);
}

void shadow_response(struct bh_req *req)
{
    const struct entry *e = req->shadow;
    bh_str before = req->body[BH_RESP];

    call(req, HOOK_RESPONSE, e->inc->desc->on_response);
    if (e->want[BH_RESP] == BH_BODY_NONE || req->reply.kind != REPLY_BYTES)
        return;
    req->body[BH_RESP] = bh_sn(req->reply.bytes, (size_t)req->reply.len);
    call_body(req, HOOK_RESPONSE_BODY, e->inc->desc->on_response_body, req->body[BH_RESP], true);
    req->body[BH_RESP] = before;
}

void shadow_end(struct bh_req *req)
{
    const struct entry *e = req->shadow;

    req->shadow = NULL;
    rollout_count_shadow(e->inst->rollout, (e->flags & ENTRY_FAILED) != 0,
                         (e->flags & ENTRY_UNFINISHED) != 0);
    incarnation_put(e->inc);
}
