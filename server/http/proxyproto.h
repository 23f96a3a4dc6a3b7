/*
 * proxyproto.h - the PROXY protocol, versions 1 and 2: for whom a connection was made.
 *
 * https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt. The header comes before anything else,
 * TLS included. What a newcomer would get wrong: a sender may split it anywhere, and what follows it
 * must not be read. So it is looked at in the kernel's buffer (MSG_PEEK) until as much of it is there as
 * is of interest, and only that is taken out.
 */
#ifndef HTTP_PROXYPROTO_H
#define HTTP_PROXYPROTO_H

#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "conf/config.h"

#define PROXY_PEEK \
    107 /* as much as is ever looked at: the longest v1 header; v2's addresses end before */

struct proxy_header {
    uint32_t len;          /* of all of it, up to 65,551: what lies beyond n has to be skipped */
    struct address client; /* family 0: it says nothing of that (LOCAL, UNKNOWN, UDP) */
};

/* The first n bytes of a connection, at most PROXY_PEEK needed. 1 and a header; 0: more is needed;
 * -EPROTO: it is none, or not of an allowed version. */
int proxy_parse(const void *p, size_t n, enum config_proxy_protocol allowed,
                struct proxy_header *out);

#endif
