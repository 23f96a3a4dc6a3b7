/*
 * guard.h - checks the framing of requests (RFC 9112) before libmicrohttpd sees them.
 *
 * Bytes go through guard_pass() as they come, in whatever pieces. What it lets pass is a sequence of
 * requests that everybody frames alike: what is legal but misread by the library comes out in a form
 * that it understands (chunk extensions and trailers are taken out, so is space around values that
 * frame). At the first byte that is wrong it stops for good, with a reason in `refusal`.
 *
 * What a newcomer would get wrong: it does not hold back a request until all of it is there. The
 * library may have read half of the bad one by then. guard_complete() gives the bytes that make a
 * well-formed request of that half, so that it comes to the callbacks, where it is answered.
 *
 * Pure: no system calls, no memory of its own, nothing of libmicrohttpd.
 */
#ifndef HTTP_GUARD_H
#define HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/refusal.h"

#define GUARD_ROOM   24 /* guard_room() asks for no more */
#define GUARD_COOKIE 6  /* length of the name that is hidden: guard_restore_name() */

/* One for all connections. */
struct guard_limits {
    uint32_t uri;    /* bytes of the request target */
    uint32_t head;   /* bytes of request line and header fields */
    uint32_t fields; /* header fields, and trailer fields */
    uint32_t memory; /* bytes of the head and GUARD_FIELD_COST for each field, together */
    uint64_t body;   /* bytes of a body */
};

#define GUARD_FIELD_COST 64 /* of a field in the library's memory, beside its text */

struct guard {
    uint8_t state;       /* enum state, guard.c */
    uint8_t refusal;     /* enum http_refusal */
    uint8_t field;       /* whose value is being read: enum field, guard_value.c */
    uint8_t seen;        /* of those fields: a bit for each */
    uint8_t part;        /* of what has a grammar of its own: a value, a chunk extension */
    uint8_t at;          /* how far a literal or a number has been read */
    uint8_t flags;       /* enum coding_flag, of the value of Transfer-Encoding */
    uint8_t minor;       /* of HTTP/1.minor */
    uint8_t n_blank;     /* lines before the request */
    bool is_origin;      /* the target begins with a slash */
    bool has_data;       /* a chunk has come before */
    uint8_t name_n;      /* of name; NAME_LONG: it is none that matters */
    char name[20];       /* a field's, as far as it came in earlier pieces */
    uint32_t n_requests; /* begun */
    uint32_t n_fields;   /* of the head, or of the trailer */
    uint32_t head_n;     /* bytes of the head, or of the trailer */
    uint32_t target_n;   /* bytes of the method, then of the target */
    uint32_t line_n;     /* bytes of the line that gives a chunk's size */
    uint32_t excess;     /* bytes of such lines beyond what is usual */
    uint64_t left;       /* of the body, or of the chunk; while it is read, its length */
    uint64_t body_n;     /* of all chunks so far */
};

void guard_init(struct guard *g);

/* The next piece's first byte has to lie at least so many bytes behind `out`. */
size_t guard_room(const struct guard *g);

/* Reads n bytes at in, writes what the library may have to out (in - out >= guard_room(); both may be
 * the same), and answers how much that is. Once refused, it is not called again. */
size_t guard_pass(struct guard *g, const struct guard_limits *limits, char *out, char *in,
                  size_t n);

/* All that came belongs to requests that are over. */
bool guard_is_idle(const struct guard *g);
/* Some of a head, or none of it, was read: no request is in the library's hands as a whole. */
bool guard_is_in_head(const struct guard *g);
bool guard_is_in_body(const struct guard *g);

/* Refuses the request being read, or the next one, for a reason that others have found. */
void guard_refuse(struct guard *g, enum http_refusal reason);

/* After a refusal: up to size bytes of what makes the library call back; its length, 0 when that was
 * all. A body's missing bytes are left as they lie in buf: nobody looks at them any more. */
size_t guard_complete(struct guard *g, char *buf, size_t size);
bool guard_is_complete(const struct guard *g);

/* Cookie fields are passed on under a name that the library does not know: it would copy and take
 * apart what nobody asks it for. This gives the name back, in place, and its length. */
size_t guard_restore_name(char *name, size_t n);

#endif
