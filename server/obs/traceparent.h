/*
 * traceparent.h - the two header fields of W3C Trace Context, level 1.
 *
 * traceparent says which trace a request belongs to, tracestate what tracing systems want to pass on. A
 * traceparent that is not well-formed is as good as none, and then tracestate is none either; a bad
 * tracestate does not spoil a good traceparent.
 */
#ifndef OBS_TRACEPARENT_H
#define OBS_TRACEPARENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACEPARENT_LEN     55 /* 00-TRACEID-PARENTID-FLAGS */
#define TRACEPARENT_SAMPLED 1u
#define TRACESTATE_MAX      512 /* bytes, that must at least be passed on */
#define TRACESTATE_MEMBERS  32

struct traceparent {
    uint8_t trace_id[16], parent[8];
    uint8_t flags; /* of those that level 1 knows */
};

bool traceparent_parse(const char *p, size_t n, struct traceparent *out);
/* Version 00, TRACEPARENT_LEN bytes and a NUL. */
void traceparent_format(const struct traceparent *t, char out[TRACEPARENT_LEN + 1]);

/* The members of one field's value are well-formed, and their keys are of different ones; *n_members is
 * added to. Empty members are allowed. */
bool tracestate_is_valid(const char *p, size_t n, int *n_members);

/* n bytes in hexadecimal, and a NUL. */
void trace_hex(const uint8_t *id, size_t n, char *out);

#endif
