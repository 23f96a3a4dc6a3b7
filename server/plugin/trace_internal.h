/*
 * trace_internal.h - what trace.c (spans come about) and trace_write.c (they are told) share.
 */
#ifndef PLUGIN_TRACE_INTERNAL_H
#define PLUGIN_TRACE_INTERNAL_H

#include <bulkhead.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/span.h"
#include "plugin/hook.h"

#define TRACE_SPANS 128 /* of one request; further ones are counted */
#define TRACE_OWN   40 /* attributes of a span that plugins may add: there is room for the host's */

struct trace_attribute {
    struct trace_attribute *next;
    const char *key;
    enum span_type type;
    bh_str text;
    int64_t number;
    double real;
};

struct trace_event {
    struct trace_event *next;
    int64_t at_ns; /* since the trace began */
    const char *name;
    struct trace_attribute *attributes; /* the last one first */
    uint16_t n_attributes;
};

struct span {
    uint8_t id[8];
    struct span *parent;      /* NULL: the one that the request came with */
    const char *name;         /* NULL: made when it is told */
    bh_inst *inst;            /* whose call it is; NULL: the request itself */
    enum hook hook;           /* HOOK_NONE: one that the plugin has begun by itself, or a pause */
    int64_t start_ns, end_ns; /* since the trace began; end: -1 while it goes on */
    uint32_t n_calls;
    enum span_status status;
    const char *message;
    const char *verdict;
    struct trace_attribute *attributes; /* the last one first, as are events */
    struct trace_event *events;
    uint16_t n_attributes, n_events, dropped_attributes, dropped_events;
};

struct trace {
    uint8_t trace_id[16], parent[8];
    bool has_parent;
    bool has_told_crash;
    bh_str state;
    int64_t mono_ns, real_ns; /* when it began */
    uint32_t n_spans, dropped_spans;
    uint32_t call_first; /* spans from this one on were begun by the call that runs */
    struct span *top;    /* innermost that goes on */
    struct span *hook;   /* of the call that runs; NULL: none */
    struct span *pause;  /* NULL: it is not paused */
    char hex[33], own_hex[17];
    struct span *span[TRACE_SPANS]; /* 0: the request's */
};

int64_t trace_now_ns(const struct trace *t);
/* NULL: there is no room. */
struct span *trace_add_span(struct bh_req *req, struct span *parent, bh_inst *inst, enum hook hook);
/* A key that is there gets the new value: keys are unique. key is not copied. NULL: there is no room. */
struct trace_attribute *trace_attribute(struct bh_req *req, struct span *s, const char *key,
                                        enum span_type type);
/* key and text are not copied. */
void trace_add_text(struct bh_req *req, struct span *s, const char *key, bh_str text);
void trace_add_number(struct bh_req *req, struct span *s, const char *key, enum span_type type,
                      int64_t number);
/* NULL: there is no room. Attributes of it by the next function. */
struct trace_event *trace_add_event(struct bh_req *req, struct span *s, const char *name);
void trace_add_to_event(struct bh_req *req, struct trace_event *e, const char *key, bh_str text);

/* All spans into the ring. */
void trace_write(struct bh_req *req, const struct config *cfg, struct shm_worker *shared);

#endif
