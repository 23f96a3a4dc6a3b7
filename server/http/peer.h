/*
 * peer.h - who is at the other end: the socket's peer, the client that a PROXY header names, the client
 * that a request's headers name. Each is believed only as far as server.trusted_proxies goes.
 */
#ifndef HTTP_PEER_H
#define HTTP_PEER_H

#include <bulkhead.h>
#include <stdbool.h>
#include <sys/types.h>

#include "plugin/host.h"

struct conn;
struct exchange;

/* Takes the PROXY header that begins c's bytes off its socket, or what there is of it. True: it is gone,
 * c is to be read from. False: *result is what recv() shall answer, with errno. */
bool peer_take_header(struct conn *c, ssize_t *result);

/* The head is there: sets the client, and the scheme and host that it asked for, where a trusted proxy
 * tells; takes such fields of others out where the config says so. */
void peer_read_head(struct exchange *x);

/* For bh_attr(). */
bh_str peer_text(bh_req *req, enum host_peer what);

#endif
