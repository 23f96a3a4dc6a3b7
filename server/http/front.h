/*
 * front.h - libmicrohttpd: one daemon per listener, driven by the worker's own event loop.
 *
 * Only this folder includes microhttpd.h. What a newcomer would get wrong: libmicrohttpd never
 * waits here. The loop waits for front_poll_fd() of each listener, then calls front_run().
 */
#ifndef HTTP_FRONT_H
#define HTTP_FRONT_H

#include <bulkhead.h>
#include <stdbool.h>

struct config;
struct exchange;
struct front;
struct shm_worker;

/* What the front asks of the worker. */
struct front_ops {
    bh_inst *const *instance;               /* per config plugin */
    void (*on_end)(struct exchange *x);     /* the request ends: forget it (tickets) */
    /* Watch a paused request's socket for the client's leaving; fn must end in exchange_abort(). */
    void (*watch)(int fd, struct exchange *x);
    void (*unwatch)(int fd);
};

/* 0, or -errno after a log line. Takes listen_fds over. */
int front_create(const struct config *cfg, const struct front_ops *ops, const int *listen_fds,
                 struct shm_worker *shared, struct front **out);
/* All connections must be gone, or the process about to end. */
void front_destroy(struct front **fp);

int front_count(const struct front *f);
int front_poll_fd(const struct front *f, int i);

/* Milliseconds the loop may wait at most; -1: for ever. */
int front_timeout_ms(struct front *f);
/* Works off what is ready. mask: bit per listener whose poll fd was readable; those with other work
 * (resumed requests, timeouts) run too. */
void front_run(struct front *f, unsigned mask);

/* Stops accepting, ends idle connections, lets the others finish with `Connection: close`. */
void front_drain(struct front *f);
bool front_is_drained(const struct front *f);

#endif
