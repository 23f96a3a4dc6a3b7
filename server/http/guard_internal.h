/*
 * guard_internal.h - what the files of the guard share.
 */
#ifndef HTTP_GUARD_INTERNAL_H
#define HTTP_GUARD_INTERNAL_H

#include <string.h>

#include "http/guard.h"

/* The order matters: see is_held(), guard_is_in_head(). */
enum state {
    ST_BLANK, /* before a request */
    ST_BLANK_LF,
    ST_METHOD,
    ST_TARGET,
    ST_VERSION,
    ST_LINE_CR,
    ST_LINE_LF,
    ST_FIELD, /* first byte of a header line */
    ST_NAME,
    ST_VALUE,
    ST_VALUE_LF,
    ST_HEAD_LF,
    ST_BODY,
    ST_DATA, /* of a chunk */
    /* From here on nothing is passed on until it is whole. */
    ST_DATA_CR,
    ST_DATA_LF,
    ST_CHUNK, /* first byte of its size */
    ST_SIZE,
    ST_EXTENSION,
    ST_SIZE_LF,
    ST_TRAILER, /* first byte of a trailer line */
    ST_TRAILER_NAME,
    ST_TRAILER_VALUE,
    ST_TRAILER_VALUE_LF,
    ST_TRAILER_LF,
};

enum field {
    FIELD_OTHER,
    FIELD_COOKIE,
    FIELD_EXPECT,
    FIELD_HOST, /* these frame, and may come once */
    FIELD_LENGTH,
    FIELD_CODING,
    FIELD_HOST_EMPTY, /* only as a bit of seen */
};

#define SEEN(field) (1u << (field))

/* One call of guard_pass(). */
struct pass {
    struct guard *g;
    const struct guard_limits *limits;
    char *out;  /* written up to here */
    char *kept; /* what is passed on unchanged, but not moved yet: from here to p */
    char *p;    /* the byte to look at */
    char *end;
    char *mark; /* of the head or trailer, what is not counted in head_n yet: from here to p */
    char *stop; /* end, or where the head would be too large */
};

/* ---- classes of bytes, guard.c ---- */

enum {
    IS_TCHAR = 1, /* of a token */
    IS_TARGET = 2,
    IS_VALUE = 4, /* of a field's value; also space and tab */
    IS_HEX = 8,
    IS_DIGIT = 16,
    IS_HOST = 32,   /* of a registered name, % aside */
    IS_QUOTED = 64, /* within quotes, quote and backslash aside */
};

extern const uint8_t guard_class[256];

static inline bool is_class(char c, unsigned class)
{
    return (guard_class[(unsigned char)c] & class) != 0;
}

static inline bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static inline unsigned hex_value(char c)
{
    return c <= '9' ? (unsigned)c - '0' : ((unsigned)c | 0x20) - 'a' + 10;
}

/* ---- passing on ---- */

static inline void keep_to(struct pass *ps, char *to)
{
    size_t n = (size_t)(to - ps->kept);

    if (ps->out != ps->kept)
        memmove(ps->out, ps->kept, n);
    ps->out += n;
    ps->kept = to;
}

/* Takes out the byte at p. */
static inline void drop(struct pass *ps)
{
    keep_to(ps, ps->p);
    ps->kept = ++ps->p;
}

/* Where no request has begun, one does: it is the one that is answered. */
static inline void guard_note_refusal(struct guard *g, enum http_refusal reason)
{
    g->refusal = (uint8_t)reason;
    if (g->state <= ST_BLANK_LF)
        g->n_requests++;
}

/* Always false: the byte at p, and what follows it, is not passed on. */
static inline bool refuse(struct pass *ps, enum http_refusal reason)
{
    guard_note_refusal(ps->g, reason);
    return false;
}

/* ---- steps: they go on from p as far as they can; false: refused ---- */

/* guard_value.c */
enum field guard_field_of(const char *name, size_t n);
bool guard_value(struct pass *ps); /* of the fields that have a grammar here, up to their CR */

/* guard_chunk.c */
bool guard_chunk(struct pass *ps);

/* guard.c */
void guard_request_over(struct pass *ps);

#endif
