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

struct address;
struct config;
struct exchange;
struct front;
struct shm;

/* What the front asks of the worker. */
struct front_ops {
    bh_inst *const *instance;           /* per config plugin */
    void (*on_end)(struct exchange *x); /* the request ends: forget it (tickets) */
    /* Watch a paused request's socket for the client's end; what comes goes to exchange_hang_up().
     * is_half_closed: that it sends no more is known, and no news. */
    void (*watch)(int fd, struct exchange *x, bool is_half_closed);
    void (*unwatch)(int fd);
};

/* What a connection takes of the heap, in bytes: about that. */
size_t front_conn_memory(const struct config *cfg);

/* 0, or -errno after a log line. Takes listen_fds over. slot: of this process in shm. */
int front_create(const struct config *cfg, const struct front_ops *ops, const int *listen_fds,
                 struct shm *shm, uint32_t slot, struct front **out);
/* Certificates for connections from now on; takes a reference of its own. To be called before the first
 * front_run() where a listener speaks TLS; those who came without would be turned away. tls.c */
struct tls_set;
void front_use_tls(struct front *f, struct tls_set *set);

/* All connections must be gone, or the process about to end. */
void front_destroy(struct front **fp);

int front_count(const struct front *f);
int front_poll_fd(const struct front *f, int i);

/* Milliseconds the loop may wait at most; -1: for ever. */
int front_timeout_ms(struct front *f);
/* Works off what is ready. mask: bit per listener whose poll fd was readable; those with other work
 * (resumed requests, timeouts) run too. */
void front_run(struct front *f, unsigned mask);

/* ---- connections of other processes, handover.c ---- */

/* Takes a connected socket over, as if that listener had accepted it. pending (copied; n may be 0)
 * is the text of a request that another process had read and is to be run again: it is parsed before
 * the socket's own bytes. client: whom a PROXY header named; NULL or family 0: none did. close_after: the next answer says `Connection: close`. 0, or -errno (-ENFILE:
 * at the limit of connections), and then fd is still the caller's. */
int front_adopt(struct front *f, int listener, int fd, const struct address *client,
                const char *pending, size_t n, bool close_after);

/* Offers idle connections, that many at most, to give(), which sends a duplicate of the descriptor to another process
 * and answers true, or false: then it stays here. A given one is never touched again, and forgotten
 * by the next front_run(). Those with TLS cannot go: they are told good-bye. Their number. To be
 * repeated: those that are busy now may be idle then. */
int front_give_idle(struct front *f, int most,
                    bool (*give)(void *arg, int listener, int fd, const struct address *client),
                    void *arg);

/* Accepts no more: another process has the same listening sockets, but for those of `last` (a bit for
 * each), where handshakes that had begun come to their end first. Otherwise goes on as ever. */
void front_stop_accepting(struct front *f, unsigned last);

/* In the fault handler of a worker that is about to die: leaves the texts of the requests that
 * another may run again in the slot's replay area. Async-signal-safe; may fault, for what it reads
 * may be damaged. Not of the request that was being worked on: it may be what the worker dies of.
 * Their number. */
size_t front_note_replays(const struct front *f, const struct shm *shm, uint32_t slot);

/* Answers, on a connection that another process left, the request it did not answer: status 500 or
 * 503, or 0: the answer had begun, and is cut; or -1: it had TLS, and just ends. Takes fd over; does not wait. record_id: of the crash
 * record, or NULL; for the log. 0, or -errno when the client got no answer. farewell.c */
int front_refuse(struct front *f, int fd, int status, const char *record_id);

/* ---- the end ---- */

/* Stops accepting, ends idle connections, lets the others finish with `Connection: close`; takes until
 * front_is_drained(), with front_run() called as ever. drain.c */
void front_drain(struct front *f);
/* The time for that is over: ends what is left. How many requests that were. They are logged, and what
 * plugins deferred runs, in the next front_run(). */
int front_cut(struct front *f);
bool front_is_drained(const struct front *f);

#endif
