/*
 * request.h - one request as plugins see it, and what one plugin call changed of it.
 *
 * Knows nothing of libmicrohttpd. All of it lives in the request's arena and is thrown away whole.
 * Changes that a call makes are journalled, so that those of a crashed call can be taken back.
 */
#ifndef PLUGIN_REQUEST_H
#define PLUGIN_REQUEST_H

#include <bulkhead.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "obs/log.h"
#include "plugin/hook.h"

struct incarnation;
struct kept_body;
struct shm_crash;
struct stream;
struct trace;
struct trials;

#define REQUEST_MAGIC     0x72657173u
#define REQUEST_ARENA_MAX (64u << 20)
#define REQUEST_ALLOC_MAX (16u << 20)

struct field {
    bh_str name; /* p == NULL: deleted */
    bh_str value;
};

struct fields {
    struct field *v;
    uint32_t n, cap;
};

enum reply_kind { REPLY_NONE, REPLY_BYTES, REPLY_FILE, REPLY_STREAM };

struct reply {
    enum reply_kind kind;
    int32_t status;
    const char *bytes; /* REPLY_BYTES */
    uint64_t len;      /* bytes; of the file part; of the stream, UINT64_MAX when unknown */
    int fd;            /* REPLY_FILE; owned */
    uint64_t offset;
    struct stream *stream; /* REPLY_STREAM; owned */
    int by;                /* REPLY_STREAM: the entry that began it */
};

struct var {
    struct var *next;
    bh_str name, value;
};

struct deferred {
    struct deferred *next;
    void (*fn)(void *);
    void *arg;
    struct incarnation *inc;
};

enum entry_flag {
    ENTRY_ENTERED = 1,   /* has seen on_request */
    ENTRY_DECLINED = 2,  /* wants no later hook */
    ENTRY_OUT = 4,       /* crashed or failed: no later hook */
    ENTRY_RESPONDED = 8, /* has seen on_response */
    /* Of a shadow (shadow.h): */
    ENTRY_FAILED = 16,     /* it crashed, failed, or would have answered 5xx */
    ENTRY_UNFINISHED = 32, /* it wanted to pause */
};

struct entry { /* one plugin of the chain, for this request */
    bh_inst *inst;
    struct incarnation *inc; /* referenced from on_request on */
    void *ctx;
    uint8_t flags;
    uint8_t want[2]; /* BH_BODY_* by side */
    uint64_t max[2];
    struct trials *trials; /* it was let in on trial: admit.c; NULL: as usual */
    bh_str held;           /* of a response it wants whole, while that is streamed */
    size_t held_cap;
};

enum request_arm { ARM_NONE, ARM_STABLE, ARM_CANDIDATE };

enum phase {
    PHASE_REQUEST,  /* on_request */
    PHASE_BODY,     /* on_request_body */
    PHASE_RESPONSE, /* on_response, on_response_body of a whole reply */
    PHASE_SENDING,  /* the head is out */
    PHASE_LOG,      /* over */
};

struct journal_entry {
    struct fields *fields;
    uint32_t index;
    struct field old;
};

struct undo {        /* what the running call has changed */
    uint32_t call;   /* req->call it belongs to; else stale */
    uint32_t n, cap; /* journal of header fields */
    struct journal_entry *v;
    struct reply reply;
    struct var *vars;
    bh_str path;
    bh_str body[2];
};

struct bh_req {
    uint32_t magic;
    struct arena arena;
    size_t allocated; /* by alloc(), against REQUEST_ALLOC_MAX */

    bh_str method, target, path, query, protocol, scheme, host;
    struct fields hdr[2];
    bool has_body;
    bool is_head; /* HEAD: no body is sent */
    uint64_t body_limit;
    size_t head_limit; /* of the answer's fields; 0: none */
    bh_str body[2];    /* REQ: buffered; RESP: the chunk or body that a hook looks at */
    size_t body_cap;   /* room behind body[BH_REQ].p while it is buffered */
    bool body_is_whole;
    struct kept_body *kept; /* its first bytes, for a crash record: evidence.h; NULL: none are */
    const char *route, *listener;
    uint32_t route_number; /* config_route.number; 0: none */

    struct entry *entry;
    int n_entries;
    int at;         /* the entry whose hook runs, or runs next */
    enum hook hook; /* that runs now; HOOK_NONE outside */
    enum phase phase;
    uint32_t call;   /* number of the hook call */
    bool has_ticket; /* the running hook took a ticket, or offloaded */
    bool is_paused;  /* between BH_PAUSE and resume */
    bh_rc resume_verdict;

    struct reply reply;
    struct undo undo;
    struct var *vars;
    struct deferred *deferred;

    char *scratch[2]; /* malloc'd; what body_set() gives while a body streams, in turn */
    size_t scratch_cap[2];
    int scratch_turn;

    char crash_id[40];      /* of the last crash in this request */
    uint32_t retry_after_s; /* for a 503: when a plugin may be entered again; 0: not known */
    bool has_trials;        /* some entry has */
    struct trace *trace;    /* it is recorded: trace.h; NULL: it is not */
    bool is_timed;          /* its calls of plugins are: meter.h */
    uint8_t arm;            /* enum request_arm, of arm_at */
    int arm_at;             /* the entry whose plugin is being rolled out */
    int64_t arm_ns;         /* when it was entered */
    struct entry *shadow;   /* the candidate's, beside arm_at; NULL: there is none */
    uint64_t bytes_sent;
    bool is_aborted;

    void *up; /* the exchange that this belongs to */
};

/* Is it one, as far as can be told? What a plugin passes may be anything: this may fault. */
static inline bool request_is(const struct bh_req *req)
{
    return req != NULL && req->magic == REQUEST_MAGIC;
}

/* Wipes everything but the arena's first chunk. */
void request_init(struct bh_req *req);
/* Closes what a reply still owns; frees the arena's chunks but one. */
void request_reset(struct bh_req *req);

/* Header fields. value is not copied by fields_append(). NULL/false: out of memory. */
bool fields_append(struct arena *a, struct fields *f, bh_str name, bh_str value);
const struct field *fields_find(const struct fields *f, const char *name, size_t len, size_t nth);

/* Journalled changes, for the running call. name and value are copied. */
bh_rc request_set_field(struct bh_req *req, int side, bh_str name, bh_str value, bool replace);
bh_rc request_delete_field(struct bh_req *req, int side, bh_str name);

/* To be called before the running call changes reply, vars, path or body. */
void request_touch(struct bh_req *req);
/* Takes back what call `req->call` did. */
void request_undo(struct bh_req *req);

/* Replaces the reply, closing what the old one owned (but not what an undo would bring back). */
void request_set_reply(struct bh_req *req, const struct reply *reply);
void reply_dispose(struct reply *reply);

/* What the request_id plugin has called it, or the client; p NULL: nobody. */
bh_str request_id(const struct bh_req *req);
const struct var *request_var(const struct bh_req *req, const char *name);
/* For lines of the log; valid as long as the request does not change. */
struct log_subject request_subject(const struct bh_req *req);
/* A line of the host's about it (enum log_level); req may be NULL. */
__attribute__((format(printf, 3, 4))) void request_log(const struct bh_req *req, int level,
                                                       const char *fmt, ...);

#endif
