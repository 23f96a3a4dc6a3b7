/*
 * routes.c - which requests a route matches: hosts, paths, methods, fields, read and judged.
 *
 * http/route.c compares what is written down here with requests.
 */
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/diag.h"
#include "base/text.h"
#include "conf/draft.h"
#include "conf/yaml.h"

#define MAX_CONDITIONS 16

/* ---- paths ---- */

int route_read_path(struct schema_reader *r, const struct yaml_node *node, const char *path,
                    void *base)
{
    struct config_route *route = &((struct draft_route *)base)->route;
    const char *s = node->text, *stars = strstr(s, "**");
    size_t n = node->len;

    if (s[0] != '/') {
        schema_error(r, node, path, "/api/** is /api and all below it, /** is everything",
                     "'%.100s' does not begin with '/'", s);
        return -EINVAL;
    }
    if (stars != NULL && (stars[2] != '\0' || stars[-1] != '/')) {
        schema_error(r, node, path,
                     "/x/** is /x and all below it, /x/*/y has anything for one segment",
                     "'%.100s': two stars can only stand in a final /**", s);
        return -EINVAL;
    }
    if (strpbrk(s, "?#") != NULL) {
        schema_error(r, node, path, "match.query is for parameters",
                     "'%.100s': the query is not part of the path", s);
        return -EINVAL;
    }
    if (strstr(s, "//") != NULL || strstr(s, "/./") != NULL || strstr(s, "/../") != NULL ||
        (n >= 2 && strcmp(s + n - 2, "/.") == 0) || (n >= 3 && strcmp(s + n - 3, "/..") == 0)) {
        schema_error(r, node, path, "paths are compared after //, . and .. are resolved",
                     "'%.100s' can never match", s);
        return -EINVAL;
    }
    route->is_prefix = stars != NULL;
    route->path_len = stars != NULL ? n - 2 : n;
    route->path = arena_strndup(r->arena, s, route->path_len);
    route->has_stars = route->path != NULL && strchr(route->path, '*') != NULL;
    return 0;
}

/* ---- hosts ---- */

/* ":443" at the end of a host; 0: there is none. -1: no number. */
static long take_port(const char *text, size_t *host_len)
{
    const char *colon = strrchr(text, ':');
    char *end;
    long port;

    *host_len = strlen(text);
    if (colon == NULL || strchr(colon, ']') != NULL) /* in an IPv6 address */
        return 0;
    *host_len = (size_t)(colon - text);
    if (colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return -1;
    errno = 0;
    port = strtol(colon + 1, &end, 10);
    return errno == 0 && port > 0 && port <= UINT16_MAX ? port : -1;
}

int route_read_host(struct schema_reader *r, const struct yaml_node *node, const char *path,
                    void *base)
{
    struct config_route *route = &((struct draft_route *)base)->route;
    bool is_below = strncmp(node->text, "*.", 2) == 0;
    const char *text = node->text + is_below; /* ".example.org" */
    size_t n;
    long port = take_port(text, &n);
    char *host;

    if (port < 0 || n <= (size_t)is_below || strpbrk(text, "/*? \t@") != NULL ||
        (memchr(text, ':', n) != NULL && text[0] != '[')) {
        schema_error(r, node, path, "example.com, *.example.com, 192.0.2.1:8080 or [2001:db8::1]",
                     "'%.100s' is not a host, with a port or without", node->text);
        return -EINVAL;
    }
    if (n > 1 && text[n - 1] == '.')
        n--; /* of a name that is spelt out to the root */
    host = arena_strndup(r->arena, text, n);
    for (char *c = host; c != NULL && *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    route->host = host;
    route->host_len = n;
    route->port = (uint16_t)port;
    return 0;
}

/* ---- methods ---- */

void methods_read(struct schema_reader *r, const struct yaml_node *list, const char *where,
                  const char ***methods, int *n_methods)
{
    /* RFC 9110 5.6.2: a token; its letters upper-case, as every method in use has them. */
    static const char token[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
    char upper[40];

    *methods = NULL;
    *n_methods = 0;
    if (list == NULL)
        return;
    *methods = arena_alloc(r->arena, (size_t)list->n * sizeof **methods + 1);
    if (*methods == NULL) {
        schema_error(r, list, where, NULL, "no memory left for it");
        return;
    }
    for (int i = 0; i < list->n; i++) {
        const struct yaml_node *node = list->item[i];
        size_t n = 0;

        if (node->kind != YAML_SCALAR || node->is_null || node->len == 0)
            continue;
        if (node->text[strspn(node->text, token)] != '\0' || node->len > 32) {
            for (; n < 32 && node->text[n] != '\0'; n++)
                upper[n] = (char)toupper((unsigned char)node->text[n]);
            upper[n] = '\0';
            schema_error(r, node, where, upper[strspn(upper, token)] == '\0' ? upper : NULL,
                         "'%.40s' is not a method in upper case", node->text);
            continue;
        }
        for (int j = 0; j < *n_methods; j++)
            if (strcmp((*methods)[j], node->text) == 0)
                schema_error(r, node, where, NULL, "%s stands there twice", node->text);
        (*methods)[(*n_methods)++] = node->text;
    }
}

static void settle_methods(struct schema_reader *r, const struct yaml_node *list, const char *where,
                           struct config_route *route)
{
    methods_read(r, list, where, &route->methods, &route->n_methods);
    for (int i = 0; i < route->n_methods; i++) {
        if (strcmp(route->methods[i], "*") == 0)
            route->is_any_method = true;
        else if (strcmp(route->methods[i], "CONNECT") == 0 ||
                 strcmp(route->methods[i], "TRACE") == 0)
            schema_error(r, list, where, "it is refused for every path, with 405",
                         "%s cannot be served", route->methods[i]);
    }
}

/* ---- fields and parameters ---- */

static bool is_field_name(const char *s)
{
    static const char token[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789!#$%&'*+-.^_`|~";

    return s[0] != '\0' && s[strspn(s, token)] == '\0';
}

/* NAME: VALUE of a mapping; "*" is any value. */
static int settle_conditions(struct schema_reader *r, const struct yaml_node *map,
                             const char *where, const char *what, bool are_fields,
                             const struct config_condition **out)
{
    char sub[128];
    struct config_condition *v;
    int n = 0;

    if (map == NULL)
        return 0;
    snprintf(sub, sizeof sub, "%.96s.match.%s", where, what);
    v = arena_alloc(r->arena, (size_t)map->n * sizeof *v + 1);
    if (v == NULL || map->n > MAX_CONDITIONS) {
        schema_error(r, map, sub, NULL, v == NULL ? "no memory left for it" : "too many");
        return 0;
    }
    for (int i = 0; i < map->n; i++) {
        const struct yaml_node *value = map->item[i], *key = map->key[i];

        if (value->is_bad)
            continue;
        if (are_fields ? !is_field_name(key->text) : key->len == 0)
            schema_error(r, key, sub, NULL, "'%.80s' cannot be a name", key->text);
        else if (are_fields && strcasecmp(key->text, "host") == 0)
            schema_error(r, key, sub, "match.host is for that", "host is not matched here");
        else if (value->kind != YAML_SCALAR || value->is_null)
            schema_error(r, value, sub, "a text, or \"*\" for any", "%.80s wants a value",
                         key->text);
        else
            v[n++] = (struct config_condition){key->text,
                                               strcmp(value->text, "*") == 0 ? NULL : value->text};
    }
    *out = v;
    return n;
}

/* ---- routes ---- */

static bool same_conditions(const struct config_condition *a, int n_a,
                            const struct config_condition *b, int n_b)
{
    for (int i = 0; n_a == n_b && i < n_a; i++)
        if (strcmp(a[i].name, b[i].name) != 0 || !text_is_same(a[i].value, b[i].value))
            return false;
    return n_a == n_b;
}

bool config_route_is_same(const struct config_route *a, const struct config_route *b)
{
    if (!text_is_same(a->host, b->host) || a->port != b->port || !text_is_same(a->path, b->path) ||
        a->is_prefix != b->is_prefix || a->n_methods != b->n_methods ||
        !same_conditions(a->header, a->n_headers, b->header, b->n_headers) ||
        !same_conditions(a->query, a->n_queries, b->query, b->n_queries))
        return false;
    for (int i = 0; i < a->n_methods; i++)
        if (strcmp(a->methods[i], b->methods[i]) != 0)
            return false;
    return true;
}

void route_settle_match(struct schema_reader *r, struct draft *d, int i, const char *where)
{
    struct config_route *route = &d->route[i].route;
    struct yaml_node place = {.line = route->pos.line, .column = route->pos.column};

    settle_methods(r, d->route[i].methods, where, route);
    route->n_headers = settle_conditions(r, d->route[i].headers, where, "headers", true,
                                         &route->header);
    route->n_queries = settle_conditions(r, d->route[i].query, where, "query", false,
                                         &route->query);
    for (int j = 0; j < i; j++) {
        const struct config_route *other = &d->route[j].route;

        if (route->path != NULL && config_route_is_same(route, other)) {
            schema_error(r, &place, where, "the first match wins",
                         "can never match: the route in line %d matches the same", other->pos.line);
            break;
        }
    }
}
