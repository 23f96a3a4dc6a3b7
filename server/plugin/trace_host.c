/*
 * trace_host.c - spans, attributes and events that plugins add to a request that is recorded.
 */
#include <string.h>

#include "plugin/instance.h"
#include "plugin/request.h"
#include "plugin/trace.h"
#include "plugin/trace_internal.h"

/* NULL: it is not recorded, or has ended. */
static struct span *find_span(struct bh_req *req, uint64_t span)
{
    struct trace *t;

    if (!request_is(req) || req->trace == NULL)
        return NULL;
    t = req->trace;
    if (span == BH_SPAN_REQUEST)
        return t->span[0];
    if (span == BH_SPAN_CALL)
        return t->hook != NULL ? t->hook : t->span[0];
    return span > 0 && span < t->n_spans && t->span[span]->end_ns < 0 ? t->span[span] : NULL;
}

static uint64_t host_span_begin(bh_req *req, const char *name)
{
    struct trace *t;
    struct span *s;
    const char *copy;

    if (!request_is(req) || req->trace == NULL || name == NULL)
        return 0;
    t = req->trace;
    copy = arena_strndup(&req->arena, name, strnlen(name, SPAN_NAME_MAX));
    s = copy != NULL
            ? trace_add_span(req, t->top, t->hook != NULL ? t->hook->inst : NULL, HOOK_NONE)
            : NULL;
    if (s == NULL)
        return 0;
    s->name = copy;
    s->start_ns = trace_now_ns(t);
    t->top = s;
    return t->n_spans - 1;
}

static void host_span_end(bh_req *req, uint64_t span)
{
    struct span *s = span < TRACE_SPANS ? find_span(req, span) : NULL;

    if (s == NULL || s->hook != HOOK_NONE)
        return;
    s->end_ns = trace_now_ns(req->trace);
    if (req->trace->top == s)
        req->trace->top = s->parent->end_ns < 0 ? s->parent : req->trace->span[0];
}

/* A plugin adds an attribute. NULL: there is no room for it. */
static struct trace_attribute *own_attribute(bh_req *req, struct span *s, const char *key,
                                             enum span_type type)
{
    if (s->n_attributes < TRACE_OWN)
        return trace_attribute(req, s, key, type);
    for (struct trace_attribute *a = s->attributes; a != NULL; a = a->next)
        if (strcmp(a->key, key) == 0)
            return trace_attribute(req, s, key, type);
    s->dropped_attributes += s->dropped_attributes < UINT16_MAX;
    return NULL;
}

static bh_rc host_span_text(bh_req *req, uint64_t span, const char *key, const char *v, size_t n)
{
    struct span *s = find_span(req, span);
    struct trace_attribute *a;
    const char *key_copy, *copy;

    if (s == NULL)
        return BH_ENOENT;
    if (key == NULL || key[0] == '\0' || (v == NULL && n > 0))
        return BH_EINVAL;
    if (n > SPAN_VALUE_MAX)
        n = SPAN_VALUE_MAX;
    key_copy = arena_strndup(&req->arena, key, strnlen(key, SPAN_NAME_MAX));
    copy = arena_strndup(&req->arena, v != NULL ? v : "", n);
    if (key_copy == NULL || copy == NULL)
        return BH_ENOMEM;
    a = own_attribute(req, s, key_copy, SPAN_TEXT);
    if (a == NULL)
        return BH_ELIMIT;
    a->text = bh_sn(copy, n);
    return BH_OK;
}

static bh_rc host_span_number(bh_req *req, uint64_t span, const char *key, double v)
{
    struct span *s = find_span(req, span);
    struct trace_attribute *a;
    const char *copy;
    bool is_whole;

    if (s == NULL)
        return BH_ENOENT;
    if (key == NULL || key[0] == '\0')
        return BH_EINVAL;
    copy = arena_strndup(&req->arena, key, strnlen(key, SPAN_NAME_MAX));
    if (copy == NULL)
        return BH_ENOMEM;
    /* Whole numbers are told as such: doubles hold them up to 2^53. */
    is_whole = v > -9007199254740992.0 && v < 9007199254740992.0 && v == (double)(int64_t)v;
    a = own_attribute(req, s, copy, is_whole ? SPAN_INT : SPAN_DOUBLE);
    if (a == NULL)
        return BH_ELIMIT;
    if (is_whole)
        a->number = (int64_t)v;
    else
        a->real = v;
    return BH_OK;
}

static bh_rc host_span_event(bh_req *req, uint64_t span, const char *name)
{
    struct span *s = find_span(req, span);
    const char *copy;

    if (s == NULL)
        return BH_ENOENT;
    if (name == NULL)
        return BH_EINVAL;
    copy = arena_strndup(&req->arena, name, strnlen(name, SPAN_NAME_MAX));
    if (copy == NULL)
        return BH_ENOMEM;
    return trace_add_event(req, s, copy) != NULL ? BH_OK : BH_ELIMIT;
}

void trace_fill(bh_host *h)
{
    h->span_begin = host_span_begin;
    h->span_end = host_span_end;
    h->span_text = host_span_text;
    h->span_number = host_span_number;
    h->span_event = host_span_event;
}
