#include "plugin/failure.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/admit.h"
#include "plugin/alarm.h"
#include "plugin/boundary.h"
#include "plugin/chain.h"
#include "plugin/evidence.h"
#include "plugin/instance.h"
#include "plugin/last_words.h"
#include "plugin/meter.h"
#include "plugin/pending.h"
#include "plugin/recover.h"
#include "plugin/request.h"
#include "plugin/trace.h"

/* ---- the record ---- */

/* Takes over the record of the fault that just landed; NULL when it was folded. */
static struct shm_crash *take_record(struct bh_req *req)
{
    struct recover_fault *fault = &recover_self.fault;
    struct shm_crash *record = fault->record;

    fault->record = NULL;
    if (req == NULL)
        return record;
    memcpy(req->crash_id, fault->record_id, sizeof req->crash_id);
    if (record != NULL)
        evidence_write(record, req);
    return record;
}

static void add_step(struct shm_crash *record, const struct entry *e, bool had_hook, bool had_crash,
                     bh_rc verdict)
{
    if (record == NULL || record->n_steps == SHM_PATH_STEPS)
        return;
    record->step[record->n_steps++] = (struct shm_step){
        .plugin = e->inst->id, .verdict = verdict, .had_hook = had_hook, .had_crash = had_crash};
}

static void say(const struct bh_req *req, const bh_inst *inst, enum hook hook,
                const struct recover_fault *fault)
{
    char how[64];

    /* Folded repeats are counted in the record: one line each would flood the log. */
    if (fault->record == NULL && fault->record_id[0] != '\0')
        return;
    if (fault->is_deadline)
        snprintf(how, sizeof how, "ran past its deadline of %u ms", inst->cfg->deadline_ms[hook]);
    else if (fault->signo != 0)
        snprintf(how, sizeof how, "crashed with SIG%s", sigabbrev_np(fault->signo));
    else
        snprintf(how, sizeof how, "called %s()", fault->kind);
    request_log(req, LOG_ERROR, "plugin '%s' %s in %s%s%.*s %.*s; crash record %s", inst->cfg->name,
                how, hook_name(hook), req != NULL ? ", request " : "",
                req != NULL ? (int)req->method.n : 0, req != NULL ? req->method.p : "",
                req != NULL ? (int)req->path.n : 0, req != NULL ? req->path.p : "",
                fault->record_id[0] != '\0' ? fault->record_id : "not written, too many at once");
    if (fault->record != NULL &&
        strncmp(fault->record->message, LAST_WORDS_BEGIN, sizeof LAST_WORDS_BEGIN - 1) == 0)
        request_log(req, LOG_ERROR, "plugin '%s': %s", inst->cfg->name, fault->record->message);
}

/* ---- on_error ---- */

/* True when plugin i answered. */
static bool offer(struct bh_req *req, int i, const bh_error *err, struct shm_crash *record)
{
    struct entry *e = &req->entry[i];
    bool came_back;
    int64_t began_ns;
    bh_rc verdict = BH_FAIL;

    if (e->inc->desc->on_error == NULL) {
        add_step(record, e, false, false, BH_CONTINUE);
        return false;
    }
    incarnation_run_for(e->inc, req);
    req->at = i;
    req->hook = HOOK_ERROR;
    req->call++;
    if (__builtin_expect(req->trace != NULL, 0))
        trace_hook_begin(req, e->inst, HOOK_ERROR);
    meter_count(e->inst, HOOK_ERROR);
    began_ns = req->is_timed ? meter_begin() : 0;
    came_back = boundary_error(e->inst->id, e->inc->desc->on_error, e->inc->self, req, e->ctx, err,
                               &verdict);
    if (began_ns != 0)
        meter_end(e->inst, HOOK_ERROR, began_ns);
    req->hook = HOOK_NONE;
    if (__builtin_expect(req->trace != NULL, 0))
        trace_hook_end(req, came_back, verdict);
    if (!came_back) {
        alarm_undo(e->inc);
        pending_undo(e->inc);
        request_undo(req);
        failure_note(req, e->inst, e->inc, HOOK_ERROR);
        e->flags |= ENTRY_OUT;
        verdict = BH_FAIL;
    }
    add_step(record, e, true, !came_back, verdict);
    if (verdict == BH_DONE && req->reply.kind != REPLY_NONE)
        return true;
    if (came_back)
        request_undo(req); /* passed on: whatever it began is not kept */
    return false;
}

static int default_status(int kind, enum hook hook)
{
    switch (kind) {
    case BH_E_QUARANTINED: return 503;
    case BH_E_LIMIT:
        return hook == HOOK_REQUEST_BODY ? 413 : 500; /* a response is no fault of the client's */
    case BH_E_DEADLINE: return 504;
    default: return 500;
    }
}

/* Unless a plugin has said it already. */
static void add_retry_after(struct bh_req *req)
{
    char text[16];

    if (fields_find(&req->hdr[BH_RESP], "retry-after", 11, 0) != NULL)
        return;
    snprintf(text, sizeof text, "%u", req->retry_after_s > 0 ? req->retry_after_s : 1);
    req->call++;
    request_set_field(req, BH_RESP, bh_s("Retry-After"), bh_s(text), true);
}

static void answer(struct bh_req *req, int at, const bh_error *err, int status,
                   struct shm_crash *record)
{
    static const struct reply none = {.fd = -1};
    int i;

    /* The reply that stood (a failure in on_response) is void; a status tells on_error what. */
    req->call++;
    request_set_reply(req, &none);
    req->reply.status = status;
    if (status == 503)
        add_retry_after(req); /* on_error may make it another */
    for (i = at - 1; i >= 0; i--) {
        const struct entry *e = &req->entry[i];

        if ((e->flags & (ENTRY_ENTERED | ENTRY_DECLINED | ENTRY_OUT)) == ENTRY_ENTERED &&
            offer(req, i, err, record))
            break;
    }
    if (i < 0)
        chain_host_reply(req, status, NULL);
    if (record != NULL) {
        record->answered_by = i >= 0 ? req->entry[i].inst->id : 0;
        record->status = req->reply.status;
    }
}

bool failure_handle(struct bh_req *req, int at, enum hook hook, int kind)
{
    struct entry *e = &req->entry[at];
    bh_error err = {.struct_size = sizeof err,
                    .kind = kind,
                    .plugin = e->inst->cfg->name,
                    .hook = hook_name(hook)};
    struct shm_crash *record = NULL;
    bool is_open = e->inst->cfg->on_error == CONFIG_FAIL_OPEN && kind != BH_E_LIMIT;

    e->flags |= ENTRY_OUT;
    if (kind == FAILURE_CRASHED) {
        struct recover_fault *fault = &recover_self.fault;

        say(req, e->inst, hook, fault);
        admit_charge(e->inst, req, fault);
        err.kind = fault->is_deadline ? BH_E_DEADLINE : BH_E_CRASH;
        err.signo = fault->signo;
        record = take_record(req);
        err.record_id = req->crash_id[0] != '\0' ? req->crash_id : NULL;
    } else if (kind == BH_E_FAIL) {
        atomic_fetch_add_explicit(&e->inst->stat->failures, 1, memory_order_relaxed);
    }
    if (!is_open)
        answer(req, at, &err, default_status(err.kind, hook), record);
    if (record != NULL)
        recover_record_done(record);
    if (kind == FAILURE_CRASHED)
        instance_renew(e->inst, e->inc);
    req->at = at;
    return is_open;
}

void failure_truncate(struct bh_req *req, int at, enum hook hook, int kind)
{
    struct entry *e = &req->entry[at];
    struct shm_crash *record;

    e->flags |= ENTRY_OUT;
    if (kind != FAILURE_CRASHED) {
        atomic_fetch_add_explicit(&e->inst->stat->failures, 1, memory_order_relaxed);
        return;
    }
    say(req, e->inst, hook, &recover_self.fault);
    admit_charge(e->inst, req, &recover_self.fault);
    record = take_record(req);
    if (record != NULL) {
        record->verdict = SHM_TRUNCATED;
        record->status = req->reply.status;
        recover_record_done(record);
    }
    instance_renew(e->inst, e->inc);
}

void failure_note(struct bh_req *req, bh_inst *inst, struct incarnation *inc, enum hook hook)
{
    struct shm_crash *record;

    say(req, inst, hook, &recover_self.fault);
    admit_charge(inst, req, &recover_self.fault);
    record = take_record(req);
    if (record != NULL) {
        record->status = req != NULL ? req->reply.status : 0;
        recover_record_done(record);
    }
    instance_renew(inst, inc != NULL ? inc : inst->current);
}

/* Nearly all of these answers have no detail: their texts lie ready. */
#define PROBLEM(STATUS, TITLE)                                                            \
    {                                                                                     \
        STATUS, TITLE,                                                                    \
            "{\"type\":\"about:blank\",\"title\":\"" TITLE "\",\"status\":" #STATUS "}\n" \
    }

static const struct problem {
    int status;
    const char *title, *text;
} problems[] = {PROBLEM(500, "Internal Server Error"),
                PROBLEM(503, "Service Unavailable"),
                PROBLEM(504, "Gateway Timeout"),
                PROBLEM(400, "Bad Request"),
                PROBLEM(404, "Not Found"),
                PROBLEM(405, "Method Not Allowed"),
                PROBLEM(408, "Request Timeout"),
                PROBLEM(413, "Content Too Large"),
                PROBLEM(414, "URI Too Long"),
                PROBLEM(417, "Expectation Failed"),
                PROBLEM(431, "Request Header Fields Too Large"),
                PROBLEM(501, "Not Implemented"),
                PROBLEM(505, "HTTP Version Not Supported")};

void chain_host_reply(struct bh_req *req, int status, const char *detail)
{
    struct reply reply = {.kind = REPLY_BYTES, .status = status, .fd = -1};
    const struct problem *p = NULL;
    const char *text;

    for (size_t i = 0; p == NULL && i < sizeof problems / sizeof problems[0]; i++)
        if (problems[i].status == status)
            p = &problems[i];
    if (p != NULL && detail == NULL)
        text = p->text;
    else
        text = arena_printf(
            &req->arena, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d%s%s%s}\n",
            p != NULL ? p->title : "Error", status, detail != NULL ? ",\"detail\":\"" : "",
            detail != NULL ? detail : "", detail != NULL ? "\"" : "");
    reply.bytes = text != NULL ? text : "";
    reply.len = strlen(reply.bytes);
    req->call++;
    request_set_field(req, BH_RESP, bh_s("Content-Type"), bh_s("application/problem+json"), true);
    if (status == 503)
        add_retry_after(req);
    request_set_reply(req, &reply);
}
