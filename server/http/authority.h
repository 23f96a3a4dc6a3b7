/*
 * authority.h - what stands in a Host field, or between "//" and the path of a target.
 */
#ifndef HTTP_AUTHORITY_H
#define HTTP_AUTHORITY_H

#include <bulkhead.h>
#include <stdbool.h>
#include <stdint.h>

struct authority {
    bh_str host; /* as sent, within the text that was parsed; an IPv6 address in its brackets */
    bool has_port;
    uint16_t port; /* of "a:" with nothing behind it: none (RFC 3986 3.2.3) */
};

/* uri-host [":" port] (RFC 9110 7.2), no user in it, the host not empty. False: it is not. */
bool authority_parse(bh_str text, struct authority *out);

#endif
