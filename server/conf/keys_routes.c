/*
 * keys_routes.c - `chains:` and `routes:`.
 */
#include "conf/keys.h"

const struct schema chain_keys[] = {
    {"", SCHEMA_STRINGS, OFF(struct draft_chain, list),
     .help = "Names of plugins and other chains"},
    {NULL, SCHEMA_END},
};

const struct schema_items chain_items = {
    sizeof(struct draft_chain), offsetof(struct draft, chain), offsetof(struct draft, n_chains),
    offsetof(struct draft_chain, pos), offsetof(struct draft_chain, name)};

static const struct schema match_keys[] = {
    {"path", SCHEMA_CUSTOM, .def = "/**", .read = route_read_path,
     .form = "/x (exactly), /x/** (/x and all below it), /x/*/y or /** (all)",
     .pattern = "^/([^*]|\\*(?!\\*))*(/\\*\\*)?$|^/\\*\\*$",
     .help = "Path of the request, decoded"},
    {"methods", SCHEMA_STRINGS, OFF(struct draft_route, methods), .min = 1, .max = 32,
     .help = "Methods, such as GET; \"*\": every one; absent: the standard ones"},
    {"host", SCHEMA_CUSTOM, .form = "a host, *.DOMAIN for all below it; with a port or without",
     .read = route_read_host, .help = "Host that the request names; absent: any"},
    {"headers", SCHEMA_NODE, OFF(struct draft_route, headers),
     .help = "Header fields, NAME: VALUE, all of which must be there; \"*\": any value"},
    {"query", SCHEMA_NODE, OFF(struct draft_route, query),
     .help = "Query parameters, NAME: VALUE, all of which must be there; \"*\": any value"},
    {NULL, SCHEMA_END},
};

const struct schema route_keys[] = {
    {"name", SCHEMA_STRING, OFF(struct draft_route, route.name), .form = "a name",
     .help = "Name in logs and for plugins; default: \"route 1\" and so on"},
    {"match", SCHEMA_MAP, .keys = match_keys, .help = "Which requests; absent: all"},
    {"body", SCHEMA_SIZE, OFF(struct draft_route, route.body), .min = 1, .max = 1024 * GIB,
     .help = "Request body; more is answered 413; default: limits.body"},
    {"chain", SCHEMA_STRINGS, OFF(struct draft_route, list), .is_required = true, .min = 1,
     .help = "Plugins and chains to pass, in this order; the last one usually answers"},
    {NULL, SCHEMA_END},
};

const struct schema_items route_items = {sizeof(struct draft_route), offsetof(struct draft, route),
                                         offsetof(struct draft, n_routes),
                                         offsetof(struct draft_route, route.pos), 0};
