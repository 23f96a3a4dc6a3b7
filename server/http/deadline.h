/*
 * deadline.h - how long a connection may stay as it is.
 *
 * All connections of one kind have the same time, so each kind is a list in order of expiry: the next
 * one to expire is the first, and each change costs an unlink and an append, however many there are.
 *
 * What a newcomer would get wrong: the clock here is the loop's, read once per turn, and it stands
 * still while the loop does. A plugin that blocks the loop for seconds, or a stopped process, does not
 * use up the time of clients whose bytes wait in the kernel.
 */
#ifndef HTTP_DEADLINE_H
#define HTTP_DEADLINE_H

#include <stdint.h>

#include "base/list.h"

struct config;
struct conn;
struct front;

enum deadline {
    DEADLINE_NONE,      /* paused, or at work: the plugins' own deadlines hold */
    DEADLINE_HANDSHAKE, /* TLS: from accept */
    DEADLINE_HEAD,      /* from accept, or a request's first byte, to the end of its head */
    DEADLINE_BODY,      /* intervals in each of which so much has to come */
    DEADLINE_SEND,      /* intervals in each of which so much has to be taken */
    DEADLINE_QUIET,     /* just answered: soon looked at, whether the client has closed its half */
    DEADLINE_IDLE,      /* between two requests */
    DEADLINE_KINDS,
};

struct due { /* of a connection */
    struct list node;
    int64_t at_ns;
    uint64_t moved; /* conn.moved when the interval began */
    enum deadline kind;
};

struct deadlines {   /* of a worker */
    int64_t now_ns;  /* stands still while the loop does */
    int64_t read_ns; /* the loop's clock, when it was last looked at */
    struct {
        struct list conns; /* soonest first */
        int64_t ns;
        uint64_t least; /* bytes in an interval; 0: it does not repeat */
    } of[DEADLINE_KINDS];
};

void deadline_init(struct deadlines *d, const struct config *cfg);

/* A connection comes into the state that kind is about, or begins it anew. */
void deadline_set(struct conn *c, enum deadline kind);
static inline void deadline_clear(struct due *due)
{
    due->kind = DEADLINE_NONE;
    list_remove(&due->node);
}

/* Milliseconds to the next one; -1: there is none. */
int deadline_timeout_ms(const struct front *f);
/* Once a turn, before the connections are worked on: lets the clock go on. */
void deadline_tick(struct deadlines *d);
/* After that: ends those whose time is over. */
void deadline_run(struct front *f);

/* Ends the connection that a full worker can do without most easily: one that has been at its head, or
 * has said nothing since it was accepted, for a good part of its time; else the one that has been idle for
 * longest. False: there is none. */
bool deadline_make_room(struct front *f);

#endif
