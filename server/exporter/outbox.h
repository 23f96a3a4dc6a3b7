/*
 * outbox.h - sends bodies to HTTP endpoints, and again when they were not taken.
 *
 * Each address has a queue of its own, bounded in bytes, and waits on its own: after 429, 502, 503, 504 or
 * a broken connection all that it has waits, first for a second, then for twice as long each time, up to
 * thirty, or as long as Retry-After says. What is too old by then, or is refused for good, is dropped and
 * counted. What a newcomer would get wrong: nobody waits in here; outbox_wait() is the only place where
 * the process sleeps.
 */
#ifndef EXPORTER_OUTBOX_H
#define EXPORTER_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config_pair;
struct outbox;
struct mailbox;
struct pollfd;

enum outbox_verdict {
    OUTBOX_TAKEN,
    OUTBOX_AGAIN,   /* later */
    OUTBOX_REFUSED, /* for good */
};

struct outbox_answer {
    long status;      /* 0: there was none */
    const char *body; /* its first bytes, NUL-terminated */
    size_t body_len;
    const char *error; /* of the connection, when status is 0 */
};

struct outbox_address {
    const char *what; /* for the log: "traces", "alerts to 'ops'" */
    const char *url;  /* its path and query are never told: they may hold a key */
    const char *ca;   /* a file; NULL: the system's */
    const char *content_type;
    const struct config_pair *header;
    int n_headers;
    bool is_gzip; /* of what is given to outbox_put() */
    uint32_t timeout_ms;
    uint32_t max_age_ms; /* of what is to be sent */
    uint32_t parallel;   /* requests at a time; 1 keeps the order */
    size_t max_bytes;    /* that wait or are on their way */
    /* What an answer means; NULL: by its status alone. May write a reason for people. */
    enum outbox_verdict (*judge)(const struct outbox_answer *answer, char *why, size_t size);
    /* It was taken (true) or dropped; tag: as given to outbox_put(). May be NULL. */
    void (*settled)(void *context, uint32_t tag, bool was_taken);
    void *context;
};

struct outbox_counts {
    uint64_t sent, again, dropped; /* requests */
};

/* 0, or -errno and why. */
int outbox_open(struct outbox **out, char *why, size_t size);
void outbox_close(struct outbox **outp); /* what is left is dropped, and counted */

/* Copies what it is told. Lives as long as the outbox. NULL: no memory. */
struct mailbox *outbox_add(struct outbox *o, const struct outbox_address *what);

/* Takes body, which is malloc'd, in any case. 0; -ENOBUFS: the queue is full; -ENOMEM: then it has been
 * dropped and counted. */
int outbox_put(struct outbox *o, struct mailbox *a, char *body, size_t n, uint32_t tag);
bool outbox_has_room(const struct mailbox *a);
size_t outbox_bytes(const struct mailbox *a);
bool outbox_is_empty(const struct outbox *o);
const struct outbox_counts *outbox_counts(const struct mailbox *a);
/* Why the last request was not taken; "": it was. */
const char *outbox_trouble(const struct mailbox *a);

/* Goes on with what is under way, begins what is due. */
void outbox_run(struct outbox *o, int64_t now_ms);
/* Sleeps until something happens, there or at fds; at most so long, and not beyond what is due. */
void outbox_wait(struct outbox *o, struct pollfd *fds, unsigned n, int timeout_ms, int64_t now_ms);

/* By the status alone. */
enum outbox_verdict outbox_judge(const struct outbox_answer *answer);
/* What a Retry-After says, in ms: seconds, or a date. -1: nothing of use. now_s: since 1970. */
int64_t outbox_retry_after_ms(const char *value, int64_t now_s);

#endif
