/*
 * transfer.h - outbound HTTP on the worker's loop: libcurl's multi interface, driven by descriptors and a
 * time-out that the loop waits for.
 *
 * libcurl is loaded with the first transfer, and only ever called from the loop itself, never inside a
 * plugin's call: transfer_begin() queues, transfer_turn() does. So a plugin's crash leaves nothing of it
 * half done. What a newcomer would get wrong: a transfer that nobody wants any more (transfer_drop()) is
 * taken out in the next turn, not at once.
 */
#ifndef WORKER_TRANSFER_H
#define WORKER_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRANSFER_HEAD_MAX (64u << 10) /* bytes of an answer's header */
#define TRANSFER_FIELDS   100

struct curl_slist;
struct destination;

struct transfer_field { /* of the answer; offsets in head */
    uint32_t name, name_n, value, value_n;
};

struct transfer {
    /* what is asked for; strings are the transfer's, made by malloc() */
    char *url, *socket_path; /* socket_path: of a Unix socket; NULL */
    char *method, *body;
    char **header; /* "Name: value" */
    int n_headers;
    size_t body_n, max_body;
    uint32_t timeout_ms;
    const struct destination *may; /* where it may go; outlives it. NULL: anywhere */
    const char *host;              /* in url */
    size_t host_n;
    /* the answer */
    int status;    /* 0: there was none */
    int error;     /* 0, -ETIMEDOUT, -E2BIG, -ENOSYS (no libcurl), -EPERM (it may not go there),
                    * -ECONNREFUSED (any other) */
    char why[160]; /* then: for people */
    char *head, *answer;
    size_t head_n, head_cap, answer_n, answer_cap;
    struct transfer_field field[TRANSFER_FIELDS];
    int n_fields;
    uint32_t elapsed_ms;
    /* the caller's: done() is called once, unless it was dropped; the transfer is its to free then */
    void (*done)(struct transfer *t);
    uint64_t id;
    void *inst, *ticket;
    /* transfer.c's */
    void *easy;
    struct curl_slist *list;
    struct transfer *next, **prev;
    bool is_dropped;
};

/* With all that is asked for. */
void transfer_begin(struct transfer *t);
/* done() will not be called; it is freed, and freed(t) told before that. */
void transfer_drop(struct transfer *t);
void transfer_free(struct transfer *t);
void transfer_on_free(void (*freed)(struct transfer *t));

/* The loop's part. watch: EPOLLIN | EPOLLOUT for a descriptor of libcurl's, 0: no more; is_new: it was
 * not watched before. */
void transfer_init(void (*watch)(int fd, uint32_t events, bool is_new));
void transfer_event(int fd, uint32_t events);
int transfer_timeout_ms(int64_t now_ms); /* -1: any time */
void transfer_turn(int64_t now_ms);

#endif
