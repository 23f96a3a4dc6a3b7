/*
 * control.h - the master's end of the control socket (ipc/control.h).
 *
 * An event loop inside the master's: the master waits for one descriptor and calls control_run().
 * What a newcomer would get wrong: the master never waits for a client. There are few at a time, each
 * has a deadline, and whoever finds no place waits in the socket's queue.
 */
#ifndef MASTER_CONTROL_H
#define MASTER_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/control.h"

#define CONTROL_CLIENTS   8
#define CONTROL_FOLLOWERS 16 /* besides: they stay */

/* What an event of its epoll set is about: the number of a client, or one of these. */
enum {
    CONTROL_EVENT_LISTEN = CONTROL_CLIENTS,
    CONTROL_EVENT_TIMER,
    CONTROL_EVENT_FOLLOWER, /* the first place */
};

struct master;

struct control_client {
    int fd; /* -1: no client */
    int64_t end_ms;
    struct control_request request;
    size_t n_read; /* of the request and its text */
    char *said;    /* malloc'd */
    char *reply;   /* malloc'd; NULL: still reading */
    size_t reply_len, n_sent;
};

struct control_follower { /* of events: followers.c */
    int fd;               /* -1: none */
    uint32_t last;        /* the event that it was told of last */
    char *out;            /* malloc'd: a reply that has not gone out yet; NULL: none */
    size_t len, n_sent;
    int64_t end_ms; /* by then it has */
};

struct control {
    int epoll_fd, listen_fd, timer_fd; /* -1: there is none */
    char path[CONTROL_PATH_MAX];
    dev_t dev; /* of the socket's file: whether it is still ours */
    ino_t ino;
    bool is_full; /* the listening socket is not looked at */
    bool is_ticking;
    struct control_client client[CONTROL_CLIENTS];
    struct control_follower follower[CONTROL_FOLLOWERS];
};

void control_init(struct control *c);
/* Opens the socket that the config names, or its usual place. 0 too when it is off, or when there is
 * no usual place to be had (and a warning has been said); -errno and it has been said. */
int control_open(struct master *m);
/* Serves what there is to serve. */
void control_run(struct master *m);
/* Closes all and removes the socket, if it is still ours. */
void control_close(struct control *c);
/* client->request is whole: its reply. NULL when there is no memory. */
void control_make_reply(struct master *m, struct control_client *client);
/* A reply as it goes out; malloc'd, NULL: no memory. text may be NULL. */
char *control_frame(const struct master *m, int result, const char *text, size_t *len);
/* The request, then its text. 1: it is whole; 0: not yet; -1: there is no more, or it is too much. */
int control_read_request(struct control_client *client);
/* After clients or followers have come or gone, or have something to be told or not any more. */
void control_adapt(struct control *c);
/* In a child: those descriptors are the master's. */
void control_forget(struct control *c);

#endif
