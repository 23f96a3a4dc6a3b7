#include "plugin/chain.h"

#include <string.h>

#include "base/must.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/admit.h"
#include "plugin/alarm.h"
#include "plugin/arm.h"
#include "plugin/boundary.h"
#include "plugin/failure.h"
#include "plugin/instance.h"
#include "plugin/meter.h"
#include "plugin/pending.h"
#include "plugin/recover.h"
#include "plugin/request.h"
#include "plugin/shadow.h"
#include "plugin/stream.h"
#include "plugin/trace.h"

bool chain_enter(struct bh_req *req, bh_inst *const *chain, int n)
{
    /* One more, empty: req->at is n when all were entered. Another for a shadow. */
    req->entry = arena_zalloc(&req->arena, ((size_t)n + 1 + arm_is_on) * sizeof *req->entry);
    if (req->entry == NULL)
        return false;
    for (int i = 0; i < n; i++) {
        struct entry *e = &req->entry[i];

        e->inst = chain[i];
        e->max[0] = e->max[1] = req->body_limit;
    }
    req->n_entries = n;
    req->at = 0;
    req->is_timed = meter_draw();
    return true;
}

/* ---- one call ---- */

static uint32_t last_plugin;

void chain_blame_last(void)
{
    recover_blame(last_plugin, HOOK_REQUEST);
}

/* e: entry `at`. */
static inline void begin_call(struct bh_req *req, const struct entry *e, int at, enum hook hook)
{
    if (hook == HOOK_REQUEST || hook == HOOK_REQUEST_BODY)
        last_plugin = e->inst->id;
    incarnation_run_for(e->inc, req);
    metrics_add(&e->inc->meter->calls[hook], 1);
    req->at = at;
    req->hook = hook;
    req->has_ticket = false; /* one that another call took and did not use is no reason to pause */
    req->call++;
    if (__builtin_expect(req->trace != NULL, 0))
        trace_hook_begin(req, e->inst, hook);
}

/* BH_OK-like verdicts as they are; anything unknown is BH_FAIL. FAILURE_CRASHED when it crashed. */
static bh_rc end_call(struct bh_req *req, bool came_back, bh_rc verdict)
{
    req->hook = HOOK_NONE;
    if (__builtin_expect(req->trace != NULL, 0))
        trace_hook_end(req, came_back, verdict);
    if (!came_back) {
        alarm_undo(req->entry[req->at].inc);
        pending_undo(req->entry[req->at].inc);
        request_undo(req);
        return FAILURE_CRASHED;
    }
    if (verdict == BH_CONTINUE || verdict == BH_DONE || verdict == BH_PAUSE ||
        verdict == BH_DECLINE)
        return verdict;
    request_undo(req);
    return BH_FAIL;
}

static __attribute__((noinline, cold)) bool timed_hook(struct bh_req *req, const struct entry *e,
                                                       enum hook hook, hook_fn *fn, bh_rc *verdict)
{
    int64_t began_ns = meter_begin();
    bool came_back = boundary_hook(e->inst->id, hook, fn, e->inc->self, req, e->ctx, verdict);

    meter_end(e->inst, hook, began_ns);
    return came_back;
}

static bh_rc call_hook(struct bh_req *req, int at, enum hook hook, hook_fn *fn)
{
    struct entry *e = &req->entry[at];
    bh_rc verdict = BH_FAIL;
    bool came_back;

    begin_call(req, e, at, hook);
    came_back = __builtin_expect(req->is_timed, 0)
                    ? timed_hook(req, e, hook, fn, &verdict)
                    : boundary_hook(e->inst->id, hook, fn, e->inc->self, req, e->ctx, &verdict);
    return end_call(req, came_back, verdict);
}

static bh_rc call_body(struct bh_req *req, int at, enum hook hook, hook_body_fn *fn, bh_str chunk,
                       bool end)
{
    struct entry *e = &req->entry[at];
    bh_rc verdict = BH_FAIL;
    bool came_back;
    int64_t began_ns;

    begin_call(req, e, at, hook);
    began_ns = req->is_timed ? meter_begin() : 0;
    came_back = boundary_body(e->inst->id, hook, fn, e->inc->self, req, e->ctx, chunk, end,
                              &verdict);
    if (began_ns != 0)
        meter_end(e->inst, hook, began_ns);
    return end_call(req, came_back, verdict);
}

/* ---- the request path ---- */

/* First contact of this request with a plugin. False: its breaker is open, there is no instance, or
 * no memory. From here on the request keeps to this incarnation, its object and its descriptor. */
static bool enter(struct bh_req *req, struct entry *e)
{
    const bh_plugin *d;

    req->retry_after_s = 0;
    if (__builtin_expect(e->inst->next != NULL, 0))
        arm_pick(req, e);
    if (__builtin_expect(quarantine_is_on(&e->inst->stat->quarantine), 0) && !admit_ask(req, e))
        return false;
    e->inc = incarnation_get(e->inst);
    if (__builtin_expect(e->inc == NULL, 0)) {
        req->retry_after_s = instance_retry_s(e->inst);
        return false;
    }
    d = e->inc->desc;
    if (d->ctx_size > 0) {
        e->ctx = arena_zalloc(&req->arena, d->ctx_size);
        if (e->ctx == NULL)
            return false;
    }
    e->want[BH_REQ] = d->on_request_body != NULL ? BH_BODY_STREAM : BH_BODY_NONE;
    e->want[BH_RESP] = d->on_response_body != NULL ? BH_BODY_STREAM : BH_BODY_NONE;
    e->flags |= ENTRY_ENTERED;
    return true;
}

/* What a verdict of the request path means. True: go on with the next plugin. */
static bool settle(struct bh_req *req, bh_rc verdict, enum hook hook, enum chain_step *step)
{
    struct entry *e = &req->entry[req->at];

    switch (verdict) {
    case BH_CONTINUE: return true;
    case BH_DECLINE: e->flags |= ENTRY_DECLINED; return true;
    case BH_PAUSE:
        if (req->has_ticket) {
            req->is_paused = true;
            if (__builtin_expect(req->trace != NULL, 0))
                trace_pause_begin(req, e->inst);
            *step = CHAIN_PAUSED;
            return false;
        }
        request_log(req, LOG_ERROR, "plugin '%s': %s returned BH_PAUSE without a ticket",
                    e->inst->cfg->name, hook_name(hook));
        break;
    case BH_DONE:
        if (req->reply.kind == REPLY_STREAM && stream_is_broken(req->reply.stream))
            break; /* its length is not what it announced: nothing is sent yet, so this is a 500 */
        if (req->reply.kind != REPLY_NONE) {
            *step = CHAIN_REPLY;
            return false;
        }
        request_log(req, LOG_ERROR, "plugin '%s': %s returned BH_DONE without a reply",
                    e->inst->cfg->name, hook_name(hook));
        break;
    default: break;
    }
    request_undo(req); /* also what it changed before it paused, or went on without a reply */
    if (failure_handle(req, req->at, hook,
                       verdict == FAILURE_CRASHED ? FAILURE_CRASHED : BH_E_FAIL))
        return true; /* fail_open: as if it were not there */
    *step = CHAIN_REPLY;
    return false;
}

static void resume(struct bh_req *req)
{
    req->is_paused = false;
    if (__builtin_expect(req->trace != NULL, 0))
        trace_pause_end(req);
}

enum chain_step chain_request(struct bh_req *req)
{
    enum chain_step step;

    if (req->is_paused) { /* resumed: the paused hook returned this */
        bh_rc verdict = req->resume_verdict;

        resume(req);
        if (verdict == BH_PAUSE)
            verdict = BH_FAIL;
        if (req->reply.kind != REPLY_NONE && verdict == FAILURE_CRASHED)
            return CHAIN_REPLY; /* chain_fail_paused() has answered */
        if (!settle(req, verdict, HOOK_REQUEST, &step))
            return step;
        req->at++;
    }
    for (; req->at < req->n_entries; req->at++) {
        struct entry *e = &req->entry[req->at];
        bh_rc verdict = BH_CONTINUE;

        if (__builtin_expect(!enter(req, e), 0)) {
            if (failure_handle(req, req->at, HOOK_REQUEST, BH_E_QUARANTINED))
                continue;
            return CHAIN_REPLY;
        }
        if (shadow_is_at(req, req->at))
            shadow_request(req);
        if (e->inc->desc->on_request != NULL)
            verdict = call_hook(req, req->at, HOOK_REQUEST, e->inc->desc->on_request);
        if (!settle(req, verdict, HOOK_REQUEST, &step))
            return step;
    }
    return CHAIN_NEXT;
}

/* ---- the request body ---- */

static bool takes_body(const struct entry *e, int side)
{
    return (e->flags & (ENTRY_ENTERED | ENTRY_DECLINED | ENTRY_OUT)) == ENTRY_ENTERED &&
           e->want[side] != BH_BODY_NONE;
}

bool chain_wants_body(const struct bh_req *req)
{
    for (int i = 0; i < req->n_entries; i++)
        if (takes_body(&req->entry[i], BH_REQ))
            return true;
    return req->shadow != NULL && takes_body(req->shadow, BH_REQ);
}

/* Appends to a body that is kept whole. It grows by doubling, inside the arena: the waste is bounded
 * by the body itself. False: no memory. */
static bool append(struct arena *a, bh_str *body, size_t *cap, bh_str chunk)
{
    size_t need = body->n + chunk.n + 1;
    char *p = (char *)(uintptr_t)body->p;

    if (chunk.n == 0)
        return true;
    if (need > *cap) {
        size_t more = *cap < 4096 ? 4096 : *cap;

        while (more < need)
            more *= 2;
        p = arena_alloc(a, more);
        if (p == NULL)
            return false;
        if (body->n > 0)
            memcpy(p, body->p, body->n);
        *cap = more;
    }
    memcpy(p + body->n, chunk.p, chunk.n);
    body->p = p;
    body->n += chunk.n;
    p[body->n] = '\0';
    return true;
}

/* Keeps the bytes for plugins that want them whole. False: over the limit of plugin *who. */
static bool buffer_body(struct bh_req *req, bh_str chunk, int *who)
{
    bh_str *body = &req->body[BH_REQ];
    bool is_wanted = false;

    if (__builtin_expect(req->shadow != NULL, 0) && takes_body(req->shadow, BH_REQ) &&
        req->shadow->want[BH_REQ] == BH_BODY_BUFFER) {
        is_wanted = body->n + chunk.n <= req->shadow->max[BH_REQ];
        if (!is_wanted)
            shadow_give_up(req);
    }
    for (int i = 0; i < req->n_entries; i++) {
        const struct entry *e = &req->entry[i];

        if (!takes_body(e, BH_REQ) || e->want[BH_REQ] != BH_BODY_BUFFER)
            continue;
        is_wanted = true;
        *who = i;
        if (chunk.n > e->max[BH_REQ] || body->n > e->max[BH_REQ] - chunk.n)
            return false;
    }
    return !is_wanted || append(&req->arena, body, &req->body_cap, chunk);
}

enum chain_step chain_body(struct bh_req *req, bh_str chunk, bool end)
{
    enum chain_step step;
    int who = 0;

    if (req->is_paused) {
        bh_rc verdict = req->resume_verdict;

        resume(req);
        if (req->reply.kind != REPLY_NONE && verdict == FAILURE_CRASHED)
            return CHAIN_REPLY;
        if (!settle(req, verdict, HOOK_REQUEST_BODY, &step))
            return step;
        req->at++;
    } else {
        req->at = 0;
        if (!buffer_body(req, chunk, &who)) {
            failure_handle(req, who, HOOK_REQUEST_BODY, BH_E_LIMIT);
            return CHAIN_REPLY;
        }
        req->body_is_whole = end;
        if (end && req->body[BH_REQ].p == NULL)
            req->body[BH_REQ] = bh_s("");
    }
    for (; req->at < req->n_entries; req->at++) {
        struct entry *e = &req->entry[req->at];
        bool is_whole = e->want[BH_REQ] == BH_BODY_BUFFER;
        bh_rc verdict;

        if (shadow_is_at(req, req->at))
            shadow_request_body(req, chunk, end);
        if (!takes_body(e, BH_REQ) || e->inc->desc->on_request_body == NULL || (is_whole && !end) ||
            (!is_whole && !end && chunk.n == 0))
            continue;
        verdict = call_body(req, req->at, HOOK_REQUEST_BODY, e->inc->desc->on_request_body,
                            is_whole ? req->body[BH_REQ] : chunk, end);
        if (!settle(req, verdict, HOOK_REQUEST_BODY, &step))
            return step;
    }
    return CHAIN_NEXT;
}

void chain_fail_paused(struct bh_req *req, int kind)
{
    enum hook hook = req->phase == PHASE_BODY ? HOOK_REQUEST_BODY : HOOK_REQUEST;

    request_undo(req);
    if (failure_handle(req, req->at, hook, kind)) {
        req->resume_verdict = BH_CONTINUE; /* fail_open */
        return;
    }
    req->resume_verdict = FAILURE_CRASHED;
}

/* ---- the response path ---- */

static bool may_see_response(const struct entry *e)
{
    return (e->flags & (ENTRY_ENTERED | ENTRY_DECLINED | ENTRY_OUT)) == ENTRY_ENTERED;
}

/* One plugin's look at the head, then at a whole body. False: it failed, and a new reply stands. */
static bool show_response(struct bh_req *req, int i)
{
    struct entry *e = &req->entry[i];
    const bh_plugin *d = e->inc->desc;
    bh_rc verdict = BH_CONTINUE;
    enum hook hook = HOOK_RESPONSE;

    if (d->on_response != NULL)
        verdict = call_hook(req, i, HOOK_RESPONSE, d->on_response);
    if (verdict == BH_DECLINE)
        e->flags |= ENTRY_DECLINED;
    else if (verdict >= 0 && d->on_response_body != NULL && e->want[BH_RESP] != BH_BODY_NONE &&
             req->reply.kind == REPLY_BYTES) {
        /* For HEAD too: the length of what comes out is part of the head. */
        hook = HOOK_RESPONSE_BODY;
        if (e->want[BH_RESP] == BH_BODY_BUFFER && req->reply.len > e->max[BH_RESP])
            return failure_handle(req, i, hook, BH_E_LIMIT);
        req->body[BH_RESP] = bh_sn(req->reply.bytes, (size_t)req->reply.len);
        verdict = call_body(req, i, hook, d->on_response_body, req->body[BH_RESP], true);
        if (verdict >= 0) {
            req->reply.bytes = req->body[BH_RESP].p;
            req->reply.len = req->body[BH_RESP].n;
        }
    }
    if (verdict < 0)
        return failure_handle(req, i, hook,
                              verdict == FAILURE_CRASHED ? FAILURE_CRASHED : BH_E_FAIL);
    return true;
}

void chain_response(struct bh_req *req)
{
    req->phase = PHASE_RESPONSE;
    for (int i = req->n_entries - 1; i >= 0; i--) {
        struct entry *e = &req->entry[i];

        if (shadow_is_at(req, i))
            shadow_response(req);
        if (!may_see_response(e) || (e->flags & ENTRY_RESPONDED) != 0)
            continue;
        e->flags |= ENTRY_RESPONDED;
        /* A failure replaces the reply; the plugins before this one then see the new one. */
        show_response(req, i);
    }
    must(req->reply.kind != REPLY_NONE);
}

bool chain_filters_body(const struct bh_req *req)
{
    for (int i = 0; i < req->n_entries; i++)
        if (takes_body(&req->entry[i], BH_RESP) &&
            req->entry[i].inc->desc->on_response_body != NULL)
            return true;
    return false;
}

bool chain_response_chunk(struct bh_req *req, bh_str *chunk, bool end)
{
    if (__builtin_expect(req->has_trials, 0))
        admit_streams(req);
    for (int i = req->n_entries - 1; i >= 0; i--) {
        struct entry *e = &req->entry[i];
        bh_rc verdict;

        if (!takes_body(e, BH_RESP) || e->inc->desc->on_response_body == NULL)
            continue;
        if (e->want[BH_RESP] == BH_BODY_BUFFER) {
            if (chunk->n > e->max[BH_RESP] || e->held.n > e->max[BH_RESP] - chunk->n ||
                !append(&req->arena, &e->held, &e->held_cap, *chunk)) {
                request_log(req, LOG_ERROR,
                            "plugin '%s': the response is larger than the %llu bytes it buffers",
                            e->inst->cfg->name, (unsigned long long)e->max[BH_RESP]);
                failure_truncate(req, i, HOOK_RESPONSE_BODY, BH_E_LIMIT);
                return false;
            }
            *chunk = end && e->held.n > 0 ? e->held : bh_s("");
            if (!end)
                return true; /* nothing for anybody until it is whole */
        }
        req->body[BH_RESP] = *chunk;
        verdict = call_body(req, i, HOOK_RESPONSE_BODY, e->inc->desc->on_response_body, *chunk,
                            end);
        if (verdict < 0) {
            failure_truncate(req, i, HOOK_RESPONSE_BODY,
                             verdict == FAILURE_CRASHED ? FAILURE_CRASHED : BH_E_FAIL);
            return false;
        }
        *chunk = req->body[BH_RESP];
    }
    return true;
}

bool chain_writable(struct bh_req *req)
{
    int at = req->reply.by;
    hook_fn *fn = stream_take_wish(req->reply.stream);
    bh_rc verdict;

    if (fn == NULL)
        return true;
    if ((req->entry[at].flags & ENTRY_OUT) != 0)
        return false;
    verdict = call_hook(req, at, HOOK_WRITABLE, fn);
    if (verdict >= 0)
        return true;
    failure_truncate(req, at, HOOK_WRITABLE,
                     verdict == FAILURE_CRASHED ? FAILURE_CRASHED : BH_E_FAIL);
    return false;
}

/* ---- the end ---- */

static void run_deferred(struct bh_req *req)
{
    while (req->deferred != NULL) {
        struct deferred *d = req->deferred;
        int64_t began_ns;
        bool came_back;

        req->deferred = d->next;
        incarnation_run_for(d->inc, req);
        meter_count(d->inc->inst, HOOK_DEFER);
        began_ns = req->is_timed ? meter_begin() : 0;
        came_back = boundary_void(d->inc->inst->id, HOOK_DEFER, d->fn, d->arg);
        if (began_ns != 0)
            meter_end(d->inc->inst, HOOK_DEFER, began_ns);
        if (!came_back) {
            alarm_undo(d->inc);
            pending_undo(d->inc);
            failure_note(req, d->inc->inst, d->inc, HOOK_DEFER);
        }
    }
}

static void call_log(struct bh_req *req, int at)
{
    struct entry *e = &req->entry[at];
    int64_t began_ns;
    bool came_back;

    begin_call(req, e, at, HOOK_LOG);
    began_ns = req->is_timed ? meter_begin() : 0;
    came_back = boundary_log(e->inst->id, e->inc->desc->on_log, e->inc->self, req, e->ctx);
    if (__builtin_expect(began_ns != 0, 0))
        meter_end(e->inst, HOOK_LOG, began_ns);
    if (__builtin_expect(req->trace != NULL, 0))
        trace_hook_end(req, came_back, BH_CONTINUE);
    if (!came_back) {
        alarm_undo(e->inc);
        pending_undo(e->inc);
        failure_note(req, e->inst, e->inc, HOOK_LOG);
    }
    req->hook = HOOK_NONE;
}

void chain_log(struct bh_req *req)
{
    req->phase = PHASE_LOG;
    run_deferred(req);
    for (int i = req->n_entries - 1; i >= 0; i--) {
        struct entry *e = &req->entry[i];

        if (e->inc == NULL)
            continue;
        if (may_see_response(e) && e->inc->desc->on_log != NULL)
            call_log(req, i);
    }
    if (__builtin_expect(req->has_trials, 0))
        for (int i = 0; i < req->n_entries; i++)
            if (req->entry[i].trials != NULL)
                admit_trials_end(&req->entry[i]);
    if (__builtin_expect(req->arm != ARM_NONE, 0))
        arm_count(req);
    if (__builtin_expect(req->shadow != NULL, 0))
        shadow_end(req);
    for (int i = 0; i < req->n_entries; i++)
        if (req->entry[i].inc != NULL)
            incarnation_put(req->entry[i].inc);
    req->n_entries = 0;
}
