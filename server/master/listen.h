/*
 * listen.h - the listening sockets of the server.
 *
 * A TCP address has one SO_REUSEPORT socket per worker, a Unix address one socket of which every
 * worker has a descriptor. The master keeps all of them open: closing one would lose the
 * connections that the kernel has queued at it.
 */
#ifndef MASTER_LISTEN_H
#define MASTER_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct config;
struct diag;

struct listen_path { /* the file of a Unix socket, as we made it */
    dev_t dev;
    ino_t ino;
    bool is_inherited; /* made by another, who may go on with it */
};

struct listen_set {
    const struct config *cfg;
    int *fd;                  /* [worker * n_listeners + listener]; -1: none */
    struct listen_path *path; /* per listener; ino 0: none */
};

/* Opens all, or none. Those of an old master (inherit.h; NULL: there was none) are taken as they are.
 * Every address that fails is in diag; 0 or the -errno of the first. */
struct inherit;
int listen_open(struct listen_set *set, const struct config *cfg, struct inherit *inherited,
                struct diag *diag);

/* The listener that a connection came in by, judged by its local address; -1: none of ours. */
int listen_find(const struct listen_set *set, int conn_fd);
/* The files of Unix sockets are another server's now: listen_close() leaves them. */
void listen_leave_paths(struct listen_set *set);
/* Those that both have are `to`'s from now on, as far as files go. */
void listen_share_paths(struct listen_set *from, const struct listen_set *to);

/* One per listener. */
const int *listen_fds(const struct listen_set *set, int worker);

/* In a child: closes all that are not this worker's. worker -1: all. No path is removed. */
void listen_close_others(struct listen_set *set, int worker);

/* Nobody comes in any more, and who has come in can be accepted still. Holds for the sockets in all
 * processes, for good; not for those that `but` has too (NULL: all are to end). */
void listen_shut_door(const struct listen_set *set, const struct listen_set *but);

/* Closes all, and removes the Unix sockets' files that are still ours. May be called twice. */
void listen_close(struct listen_set *set);

/* "http://0.0.0.0:8080" or "unix:/run/x"; with the port that the socket has. */
void listen_describe(const struct listen_set *set, int listener, char *buf, size_t size);
/* What a person on this machine would open in a browser; "" when no listener is a TCP one. */
void listen_url(const struct listen_set *set, char *buf, size_t size);

#endif
