/*
 * route.h - which chain answers a request: the first route that matches.
 */
#ifndef HTTP_ROUTE_H
#define HTTP_ROUTE_H

#include <bulkhead.h>
#include <stdbool.h>

#include "http/authority.h"

struct config;
struct config_route;
struct fields;

/* Of a request, what routes are compared with. */
struct route_query {
    struct authority host; /* host.host absent: the request names none */
    uint16_t default_port; /* of a host without one */
    bh_str path;           /* absent: all paths (route_allow() for "*") */
    bh_str method, query;
    const struct fields *fields;
};

/* The route for a request, or NULL. Then *other_method says whether one matched but for its
 * methods (405). */
const struct config_route *route_find(const struct config *cfg, const struct route_query *q,
                                      bool *other_method);

/* Is it one that any request may have: standard, or named by some route (else 501)? */
bool route_knows_method(const struct config *cfg, bh_str method);

/* The value of Allow: the methods of all routes that match but for the method. OPTIONS is always
 * among them, since the host answers it. The text's length; never more than size - 1. */
size_t route_allow(const struct config *cfg, const struct route_query *q, char *text, size_t size);

#endif
