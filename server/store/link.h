/*
 * link.h - a connection to a server, plain or TLS, that never waits.
 *
 * Its owner polls: link_fd() and link_events() say for what, link_run() goes on with what the poll found.
 * What a newcomer would get wrong: a name is looked up on a thread of its own, since getaddrinfo(3)
 * waits; until it has come back there is no descriptor, and the owner has to ask again by time.
 */
#ifndef STORE_LINK_H
#define STORE_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct link;

struct link_options {
    const char *host; /* a name or an address; NULL: a Unix socket */
    const char *port;
    const char *path; /* of that */
    bool tls;
    const char *ca;   /* PEM file; NULL: the system's */
    const char *name; /* that the certificate has to be for; NULL: host */
};

enum link_state { LINK_RESOLVING, LINK_CONNECTING, LINK_GREETING, LINK_OPEN, LINK_FAILED };

/* Begins to connect. The options must outlive it. NULL: no memory. */
struct link *link_open(const struct link_options *o);
void link_close(struct link **lp);

enum link_state link_state(const struct link *l);
const char *link_error(const struct link *l); /* once it has failed: for people */
int link_fd(const struct link *l);            /* -1: none yet */
/* Differs for each socket that it has had: a new one often has the number of the one before. */
uint64_t link_serial(const struct link *l);
/* What poll(2) shall look for; wants_out: there is something to be written. */
short link_events(const struct link *l, bool wants_out);

/* Goes on with connecting. */
enum link_state link_run(struct link *l);
/* When it is open: bytes, -EAGAIN, or -errno and it has failed (also when the peer has left). */
ssize_t link_read(struct link *l, void *buf, size_t n);
ssize_t link_write(struct link *l, const void *buf, size_t n);

/* What it needs of its files: 0, or -errno and why, for people. */
int link_check(const struct link_options *o, char *why, size_t size);

#endif
