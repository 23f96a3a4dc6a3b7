/*
 * route.h - which chain answers a request: the first route that matches.
 */
#ifndef HTTP_ROUTE_H
#define HTTP_ROUTE_H

#include <bulkhead.h>

struct config;
struct config_route;

/* The route for host (as in the Host field, port and all), path and method; or NULL. Then
 * *other_method is a route that matched but for its methods (405). */
const struct config_route *route_find(const struct config *cfg, bh_str host, bh_str path,
                                      bh_str method, const struct config_route **other_method);

#endif
