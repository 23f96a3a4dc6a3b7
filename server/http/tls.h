/*
 * tls.h - connections with TLS, for the files of this folder.
 *
 * A struct conn with `tls` is one. What goes over its socket passes these in wire.c, which are as
 * recv(2), send(2), sendmsg(2) and sendfile(2): -1 and errno when they fail.
 */
#ifndef HTTP_TLS_H
#define HTTP_TLS_H

#include <bulkhead.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

struct conn;
struct front;

/* Just accepted; fills c->tls. False: it cannot, and the connection must be closed. */
bool tls_begin(struct conn *c);
/* tls_bye(), and frees c->tls; NULL is fine. c->fd is still open. */
void tls_close(struct conn *c);
/* Says good-bye, once, unless an answer was cut short. Without TLS: does nothing. */
void tls_bye(struct conn *c);
/* An idle connection: what its client has sent already is answered, then it is closed. */
void tls_leave(struct conn *c);

ssize_t tls_recv(struct conn *c, void *buf, size_t size);
ssize_t tls_send(struct conn *c, const void *buf, size_t size);
ssize_t tls_sendmsg(struct conn *c, const struct msghdr *msg);
ssize_t tls_sendfile(struct conn *c, int from, off64_t *at, size_t size);

int tls_timeout_ms(const struct front *f);
void tls_run(struct front *f);

/* bh_attr() of "tls...." */
bh_str tls_text(bh_req *req, const char *key);

#endif
