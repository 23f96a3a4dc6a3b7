#include "plugin/trace.h"

#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "conf/config.h"
#include "obs/traceparent.h"
#include "plugin/instance.h"
#include "plugin/recover.h"
#include "plugin/request.h"
#include "plugin/trace_internal.h"

bool trace_is_on;

static struct {
    const struct config *cfg;
    struct shm_worker *shared;
    uint64_t seed[4]; /* of ids, which need not be secret, only different */
} tracing;

void trace_init(const struct config *cfg, struct shm_worker *shared)
{
    trace_is_on = cfg->tracing.endpoint != NULL;
    tracing.cfg = cfg;
    tracing.shared = shared;
    if (!trace_is_on)
        return;
    if (getrandom(tracing.seed, sizeof tracing.seed, GRND_NONBLOCK) != (ssize_t)sizeof tracing.seed)
        for (int i = 0; i < 4; i++) /* as the kernel has just been started */
            tracing.seed[i] = (uint64_t)clock_mono_ns() * 0x9e3779b97f4a7c15u +
                              (uint64_t)(uintptr_t)shared + (uint64_t)i + 1;
}

/* xoshiro256**. A system call for each span would cost more than all else here. */
static uint64_t next_random(void)
{
    uint64_t *s = tracing.seed, five = s[1] * 5, result = ((five << 7) | (five >> 57)) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}

static void make_id(uint8_t *id, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = next_random();

        v += v == 0; /* all zeros is no id */
        memcpy(id + i, &v, 8);
    }
}

/* ---- at the head ---- */

/* The one field of that name; more than one is as bad as a malformed one. */
static bool find_parent(const struct bh_req *req, struct traceparent *out)
{
    const struct fields *f = &req->hdr[BH_REQ];
    const struct field *first = fields_find(f, "traceparent", 11, 0);

    return first != NULL && fields_find(f, "traceparent", 11, 1) == NULL &&
           traceparent_parse(first->value.p, first->value.n, out);
}

static bool is_state_sound(const struct bh_req *req, size_t *len)
{
    const struct field *f;
    int n_members = 0;

    *len = 0;
    for (size_t nth = 0; (f = fields_find(&req->hdr[BH_REQ], "tracestate", 10, nth)) != NULL;
         nth++) {
        if (!tracestate_is_valid(f->value.p, f->value.n, &n_members))
            return false;
        *len += f->value.n + 1;
    }
    return true;
}

/* All fields of that name are one list (RFC 9110 5.3). A bad one is not passed on. */
static bh_str take_state(struct bh_req *req)
{
    const struct field *f;
    size_t len;
    char *all;

    if (!is_state_sound(req, &len)) {
        request_delete_field(req, BH_REQ, bh_s("tracestate"));
        return bh__none();
    }
    all = len > 0 ? arena_alloc(&req->arena, len) : NULL;
    if (all == NULL)
        return bh__none();
    len = 0;
    for (size_t nth = 0; (f = fields_find(&req->hdr[BH_REQ], "tracestate", 10, nth)) != NULL;
         nth++) {
        memcpy(all + len, f->value.p, f->value.n);
        len += f->value.n;
        all[len++] = ',';
    }
    all[--len] = '\0';
    return bh_sn(all, len);
}

/* The same for all servers that see the trace id: who records a part of a trace records all of it. */
static bool is_drawn(const uint8_t *trace_id)
{
    uint64_t low = 0;

    for (int i = 8; i < 16; i++)
        low = low << 8 | trace_id[i];
    return low >> 1 < tracing.cfg->tracing.sample;
}

struct span *trace_add_span(struct bh_req *req, struct span *parent, bh_inst *inst, enum hook hook)
{
    struct trace *t = req->trace;
    struct span *s;

    if (t->n_spans == TRACE_SPANS || (s = arena_zalloc(&req->arena, sizeof *s)) == NULL) {
        t->dropped_spans++;
        return NULL;
    }
    make_id(s->id, sizeof s->id);
    s->parent = parent;
    s->inst = inst;
    s->hook = hook;
    s->n_calls = 1;
    s->end_ns = -1;
    t->span[t->n_spans++] = s;
    return s;
}

static struct trace *record(struct bh_req *req, const struct traceparent *tp, bool has_parent,
                            bh_str state)
{
    struct trace *t = arena_zalloc(&req->arena, sizeof *t);

    if (t == NULL)
        return NULL;
    memcpy(t->trace_id, tp->trace_id, sizeof t->trace_id);
    memcpy(t->parent, tp->parent, sizeof t->parent);
    t->has_parent = has_parent;
    t->state = state;
    t->mono_ns = clock_mono_ns(); /* not the loop's: a span tells how long it really took */
    t->real_ns = clock_real_ns();
    req->trace = t;
    t->top = trace_add_span(req, NULL, NULL, HOOK_NONE);
    if (t->top == NULL)
        req->trace = NULL;
    return req->trace;
}

void trace_begin(struct bh_req *req, bool is_trusted)
{
    enum config_trace_parent whose = tracing.cfg->tracing.parent;
    char text[TRACEPARENT_LEN + 1];
    struct traceparent tp;
    bool has_parent = (whose == CONFIG_PARENT_FOLLOW ||
                       (whose == CONFIG_PARENT_TRUSTED && is_trusted)) &&
                      find_parent(req, &tp);
    bh_str state = bh__none();

    req->call++; /* what is changed here is not a plugin's to undo */
    if (has_parent) {
        state = take_state(req);
        if ((tp.flags & TRACEPARENT_SAMPLED) == 0)
            return; /* passed on as it came */
    } else {
        request_delete_field(req, BH_REQ, bh_s("tracestate"));
        memset(&tp, 0, sizeof tp);
        make_id(tp.trace_id, sizeof tp.trace_id);
        tp.flags = is_drawn(tp.trace_id) ? TRACEPARENT_SAMPLED : 0;
    }
    if ((tp.flags & TRACEPARENT_SAMPLED) == 0)
        make_id(tp.parent, sizeof tp.parent);
    else if (record(req, &tp, has_parent, state) != NULL)
        memcpy(tp.parent, req->trace->top->id, sizeof tp.parent);
    else
        return;
    traceparent_format(&tp, text);
    request_set_field(req, BH_REQ, bh_s("traceparent"), bh_s(text), true);
    req->call++;
}

bh_str trace_attr(struct bh_req *req, const char *key)
{
    struct trace *t = req->trace;

    if (t == NULL)
        return bh__none();
    if (strcmp(key, "trace_id") == 0) {
        trace_hex(t->trace_id, sizeof t->trace_id, t->hex);
        return bh_s(t->hex);
    }
    if (strcmp(key, "span_id") != 0)
        return bh__none();
    trace_hex(t->span[0]->id, sizeof t->span[0]->id, t->own_hex);
    return bh_s(t->own_hex);
}

/* ---- attributes and events ---- */

int64_t trace_now_ns(const struct trace *t)
{
    return clock_mono_ns() - t->mono_ns;
}

static struct trace_attribute *make_attribute(struct bh_req *req, const char *key,
                                              enum span_type type)
{
    struct trace_attribute *a = arena_zalloc(&req->arena, sizeof *a);

    if (a != NULL) {
        a->key = key;
        a->type = type;
    }
    return a;
}

struct trace_attribute *trace_attribute(struct bh_req *req, struct span *s, const char *key,
                                        enum span_type type)
{
    struct trace_attribute *a;

    for (a = s->attributes; a != NULL; a = a->next)
        if (strcmp(a->key, key) == 0) {
            a->type = type;
            return a;
        }
    a = s->n_attributes < SPAN_ATTRIBUTES ? make_attribute(req, key, type) : NULL;
    if (a == NULL) {
        s->dropped_attributes += s->dropped_attributes < UINT16_MAX;
        return NULL;
    }
    a->next = s->attributes;
    s->attributes = a;
    s->n_attributes++;
    return a;
}

void trace_add_text(struct bh_req *req, struct span *s, const char *key, bh_str text)
{
    struct trace_attribute *a = text.p != NULL ? trace_attribute(req, s, key, SPAN_TEXT) : NULL;

    if (a != NULL)
        a->text = text;
}

void trace_add_number(struct bh_req *req, struct span *s, const char *key, enum span_type type,
                      int64_t number)
{
    struct trace_attribute *a = trace_attribute(req, s, key, type);

    if (a != NULL)
        a->number = number;
}

struct trace_event *trace_add_event(struct bh_req *req, struct span *s, const char *name)
{
    struct trace_event *e = s->n_events < SPAN_EVENTS ? arena_zalloc(&req->arena, sizeof *e) : NULL;

    if (e == NULL) {
        s->dropped_events += s->dropped_events < UINT16_MAX;
        return NULL;
    }
    e->at_ns = trace_now_ns(req->trace);
    e->name = name;
    e->next = s->events;
    s->events = e;
    s->n_events++;
    return e;
}

void trace_add_to_event(struct bh_req *req, struct trace_event *e, const char *key, bh_str text)
{
    struct trace_attribute *a = e->n_attributes < SPAN_ATTRIBUTES
                                    ? make_attribute(req, key, SPAN_TEXT)
                                    : NULL;

    if (a == NULL)
        return;
    a->text = text;
    a->next = e->attributes;
    e->attributes = a;
    e->n_attributes++;
}

/* ---- calls ---- */

static bool is_repeated(enum hook hook)
{
    return hook == HOOK_REQUEST_BODY || hook == HOOK_RESPONSE_BODY || hook == HOOK_WRITABLE;
}

/* A body comes in many pieces: one span for all of them. */
static struct span *find_again(const struct trace *t, const bh_inst *inst, enum hook hook)
{
    for (uint32_t i = t->n_spans; i-- > 1;)
        if (t->span[i]->hook == hook && t->span[i]->inst == inst)
            return t->span[i];
    return NULL;
}

void trace_hook_begin(struct bh_req *req, bh_inst *inst, enum hook hook)
{
    struct trace *t = req->trace;
    struct span *s = is_repeated(hook) ? find_again(t, inst, hook) : NULL;

    if (s != NULL) {
        s->n_calls++;
    } else {
        s = trace_add_span(req, t->span[0], inst, hook);
        if (s != NULL)
            s->start_ns = trace_now_ns(t);
    }
    t->hook = s;
    t->top = s != NULL ? s : t->span[0];
    t->call_first = t->n_spans;
}

static const char *verdict_name(bh_rc verdict)
{
    switch (verdict) {
    case BH_CONTINUE: return "continue";
    case BH_DONE: return "done";
    case BH_PAUSE: return "pause";
    case BH_DECLINE: return "decline";
    default: return "fail";
    }
}

static void tell_crash(struct bh_req *req, struct span *s)
{
    const struct recover_fault *fault = &recover_self.fault;
    struct trace_event *e = trace_add_event(req, s, "exception");
    const char *type = fault->is_deadline ? "deadline"
                       : fault->signo == 0
                           ? arena_strndup(&req->arena, fault->kind, strlen(fault->kind))
                           : arena_printf(&req->arena, "SIG%s", sigabbrev_np(fault->signo));
    const char *id = arena_strndup(&req->arena, fault->record_id, strlen(fault->record_id));

    if (type == NULL)
        type = "crash";
    s->status = SPAN_ERROR;
    s->message = type;
    s->verdict = "crash";
    req->trace->has_told_crash = true;
    if (e == NULL)
        return;
    trace_add_to_event(req, e, "exception.type", bh_s(type));
    if (id != NULL && id[0] != '\0')
        trace_add_to_event(req, e, "bulkhead.crash_record", bh_s(id));
}

void trace_hook_end(struct bh_req *req, bool came_back, bh_rc verdict)
{
    struct trace *t = req->trace;
    struct span *s = t->hook;

    t->hook = NULL;
    t->top = t->span[0];
    if (s == NULL)
        return;
    s->end_ns = trace_now_ns(t);
    s->verdict = verdict_name(verdict);
    if (!came_back)
        tell_crash(req, s);
    else if (strcmp(s->verdict, "fail") == 0)
        s->status = SPAN_ERROR;
    for (uint32_t i = t->call_first; !came_back && i < t->n_spans; i++)
        if (t->span[i]->end_ns < 0) { /* what the crashed call had begun */
            t->span[i]->end_ns = s->end_ns;
            t->span[i]->status = SPAN_ERROR;
        }
}

void trace_pause_begin(struct bh_req *req, bh_inst *inst)
{
    struct trace *t = req->trace;

    t->pause = trace_add_span(req, t->span[0], inst, HOOK_NONE);
    if (t->pause == NULL)
        return;
    t->pause->start_ns = trace_now_ns(t);
    t->pause->name = arena_printf(&req->arena, "%s paused", inst->cfg->name);
}

void trace_pause_end(struct bh_req *req)
{
    struct trace *t = req->trace;

    if (t->pause != NULL)
        t->pause->end_ns = trace_now_ns(t);
    t->pause = NULL;
}

void trace_end(struct bh_req *req, const struct config *cfg)
{
    struct trace *t = req->trace;
    int64_t end_ns = trace_now_ns(t);

    for (uint32_t i = 0; i < t->n_spans; i++)
        if (t->span[i]->end_ns < 0)
            t->span[i]->end_ns = end_ns;
    if (req->crash_id[0] != '\0' && !t->has_told_crash) { /* of an offloaded job, a clean-up */
        struct trace_event *e = trace_add_event(req, t->span[0], "exception");

        if (e != NULL) {
            trace_add_to_event(req, e, "exception.type", bh_s("crash"));
            trace_add_to_event(req, e, "bulkhead.crash_record", bh_s(req->crash_id));
        }
    }
    trace_write(req, cfg, tracing.shared);
    req->trace = NULL;
}
