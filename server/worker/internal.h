/*
 * internal.h - what the files of the worker share: its one loop.
 */
#ifndef WORKER_INTERNAL_H
#define WORKER_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/plugins.h"

struct config;
struct diag;
struct front;
struct shm;
struct shm_worker;
struct tls_set;
struct worker_seat;

/* What an epoll event is about: small numbers, or a pointer to a paused exchange. */
enum source { SOURCE_WAKE, SOURCE_LISTENER, SOURCE_CHANNEL, SOURCE_STORE, SOURCE_OUTBOUND };

extern struct worker {
    const struct config *cfg;
    struct shm *shm;
    struct shm_worker *shared;
    const struct worker_seat *seat;
    struct plugins plugins;
    struct front *front; /* NULL: stands by */
    struct front
        *next_front;     /* what front will be: a post of which it is known that it will be ours */
    struct tls_set *tls; /* NULL: no listener speaks it */
    int epoll_fd, wake_fd, channel_fd;
    _Atomic uint64_t signals; /* that have come: a bit for each */
    bool must_stop;
    bool is_leaving;      /* a successor serves; what becomes idle is handed over */
    bool gives_on;        /* there is more of that at once */
    bool is_draining;     /* no successor: idle connections are ended */
    bool wants_successor; /* and the master did not hear of it: the exit status says so */
    bool has_cut;         /* leave_until_ms was over, and requests were still there */
    int64_t leave_until_ms;
} worker;

/* 0 or -errno. */
int worker_add_source(int fd, enum source source, int index);
/* All that serving that post takes, but serving it. 0 or -errno. */
int worker_prepare(int post);
/* From now on: listens, with the sockets of that post, and starts the plugins. 0 or -errno. */
int worker_serve(int post);
/* Certificates and keys for connections from now on, from a bundle of the master's. 0 or -errno. */
int worker_load_keys(int fd, struct diag *diag);
/* No new connections; idle ones are ended, others finish. */
void worker_begin_drain(void);
/* Common to both ways of leaving: the plugins are told, the time runs. */
void worker_prepare_to_leave(void);

#endif
