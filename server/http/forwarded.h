/*
 * forwarded.h - whom a request comes from, and how it was asked, as trusted proxies tell.
 *
 * Each proxy appends the address that it was asked by, so the list is read from its end: as long as
 * the one who wrote an entry is trusted, the entry is believed. The client is the first address that is
 * not a trusted proxy's; what stands before it was written by the client itself, and may be anything.
 */
#ifndef HTTP_FORWARDED_H
#define HTTP_FORWARDED_H

#include <bulkhead.h>
#include <stdbool.h>

#include "base/address.h"

struct config;
struct fields;

struct forwarded {
    struct address client; /* the peer, when nothing is told or believed */
    bh_str scheme;         /* "http" or "https"; absent: not told */
    bh_str host;           /* as sent; absent: not told */
};

/* peer: a trusted one. By the header that cfg->forwarded names. Allocates nothing. */
void forwarded_read(const struct config *cfg, const struct fields *fields,
                    const struct address *peer, struct forwarded *out);

/* Is it a header by which proxies tell such things, believed here or not? */
bool forwarded_is_name(bh_str name);

#endif
