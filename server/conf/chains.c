/*
 * chains.c - names of plugins and chains resolved, chains flattened, routes made.
 *
 * Each chain is flattened once, depth first; every name of every list is looked at once, so the time
 * is bounded by the size of the file.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "conf/draft.h"
#include "conf/yaml.h"

static int find_plugin(const struct draft *d, const char *name)
{
    for (int i = 0; i < d->cfg.n_plugins; i++)
        if (strcmp(d->cfg.plugin[i].name, name) == 0)
            return i;
    return -1;
}

static struct draft_chain *find_chain(const struct draft *d, const char *name)
{
    for (int i = 0; i < d->n_chains; i++)
        if (strcmp(d->chain[i].name, name) == 0)
            return &d->chain[i];
    return NULL;
}

static void unknown_name(struct schema_reader *r, const struct draft *d,
                         const struct yaml_node *node, const char *where)
{
    const char *names[CONFIG_MAX_PLUGINS + 256], *near = NULL;
    char hint[128];
    int n = 0;

    for (int i = 0; i < d->cfg.n_plugins; i++)
        names[n++] = d->cfg.plugin[i].name;
    for (int i = 0; i < d->n_chains; i++)
        names[n++] = d->chain[i].name;
    if (r->n_bad < DIAG_MAX)
        near = value_nearest(node->text, names, n);
    if (near != NULL)
        snprintf(hint, sizeof hint, "did you mean '%.64s'?", near);
    schema_error(r, node, where, near != NULL ? hint : "declare it under plugins or chains",
                 "there is no plugin or chain '%.80s'", node->text);
}

/* A list of names being flattened. */
struct flat {
    const char *where; /* for messages */
    int *plugin;       /* CONFIG_MAX_CHAIN */
    int n;
    bool is_bad;
};

static void append(struct schema_reader *r, const struct draft *d, const struct yaml_node *node,
                   struct flat *flat, int plugin)
{
    if (flat->is_bad)
        return; /* its length and its repetitions were told */
    for (int i = 0; i < flat->n; i++) {
        if (flat->plugin[i] != plugin)
            continue;
        /* Its per-request context would be shared by two places of the chain. */
        schema_error(r, node, flat->where, "declare a second instance under plugins",
                     "plugin '%.60s' would be passed twice", d->cfg.plugin[plugin].name);
        flat->is_bad = true;
        return;
    }
    if (flat->n == CONFIG_MAX_CHAIN) {
        schema_error(r, node, flat->where, NULL, "more than %d plugins", CONFIG_MAX_CHAIN);
        flat->is_bad = true;
        return;
    }
    flat->plugin[flat->n++] = plugin;
}

static void flatten_chain(struct schema_reader *r, struct draft *d, struct draft_chain *chain);

static void flatten(struct schema_reader *r, struct draft *d, const struct yaml_node *list,
                    struct flat *flat)
{
    for (int i = 0; list != NULL && i < list->n; i++) {
        const struct yaml_node *node = list->item[i];
        struct draft_chain *chain;
        int plugin;

        if (node->kind != YAML_SCALAR || node->is_null || node->len == 0)
            continue; /* reported already */
        plugin = find_plugin(d, node->text);
        chain = find_chain(d, node->text);
        if (plugin >= 0) {
            append(r, d, node, flat, plugin);
        } else if (chain == NULL) {
            unknown_name(r, d, node, flat->where);
        } else if (chain->state == CHAIN_OPEN) {
            schema_error(r, node, flat->where, NULL, "a cycle: chain '%.60s' contains itself",
                         chain->name);
        } else {
            flatten_chain(r, d, chain);
            for (int j = 0; j < chain->n; j++)
                append(r, d, node, flat, chain->plugin[j]);
        }
    }
}

static void flatten_chain(struct schema_reader *r, struct draft *d, struct draft_chain *chain)
{
    char where[96];
    struct flat flat = {where, chain->plugin, 0, false};

    if (chain->state != CHAIN_NEW)
        return;
    chain->state = CHAIN_OPEN;
    snprintf(where, sizeof where, "chains.%.64s", chain->name);
    flatten(r, d, chain->list, &flat);
    chain->n = flat.n;
    chain->state = CHAIN_DONE;
}

static void settle_names(struct schema_reader *r, const struct draft *d)
{
    for (int i = 0; i < d->n_chains; i++) {
        struct yaml_node place = {.line = d->chain[i].pos.line, .column = d->chain[i].pos.column};
        int plugin = find_plugin(d, d->chain[i].name);

        if (plugin >= 0)
            schema_error(r, &place, "chains", "give one of them another name",
                         "'%.60s' is the name of a plugin already (line %d)", d->chain[i].name,
                         d->cfg.plugin[plugin].pos.line);
    }
}

/* ---- Routes ------------------------------------------------------------------------------- */

int route_read_path(struct schema_reader *r, const struct yaml_node *node, const char *path,
                    void *base)
{
    struct config_route *route = &((struct draft_route *)base)->route;
    const char *s = node->text, *star = strchr(s, '*');
    size_t n = node->len;

    if (s[0] != '/') {
        schema_error(r, node, path, NULL, "'%.100s' does not begin with '/'", s);
        return -EINVAL;
    }
    if (star != NULL && strcmp(star - 1, "/**") != 0) {
        schema_error(r, node, path, "/x is one path, /x/** is /x and all below it, /** is all",
                     "'%.100s': a star can only stand in a final /**", s);
        return -EINVAL;
    }
    if (strpbrk(s, "?#") != NULL) {
        schema_error(r, node, path, NULL, "'%.100s': the query is not part of the path", s);
        return -EINVAL;
    }
    if (strstr(s, "//") != NULL || strstr(s, "/./") != NULL || strstr(s, "/../") != NULL) {
        schema_error(r, node, path, "paths are compared after //, . and .. are resolved",
                     "'%.100s' can never match", s);
        return -EINVAL;
    }
    route->is_prefix = star != NULL;
    route->path = arena_strndup(r->arena, s, star != NULL ? n - 2 : n);
    return 0;
}

int route_read_host(struct schema_reader *r, const struct yaml_node *node, const char *path,
                    void *base)
{
    struct config_route *route = &((struct draft_route *)base)->route;
    char *host = arena_strndup(r->arena, node->text, node->len);

    if (strpbrk(node->text, "/*? \t@") != NULL ||
        (strchr(node->text, ':') != NULL && node->text[0] != '[')) {
        schema_error(r, node, path, "example.com, 192.0.2.1 or [2001:db8::1]",
                     "'%.100s' is not a host name without a port", node->text);
        return -EINVAL;
    }
    for (char *c = host; c != NULL && *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    route->host = host;
    return 0;
}

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

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool config_route_is_same(const struct config_route *a, const struct config_route *b)
{
    if (!same_text(a->host, b->host) || !same_text(a->path, b->path) ||
        a->is_prefix != b->is_prefix || a->n_methods != b->n_methods)
        return false;
    for (int i = 0; i < a->n_methods; i++)
        if (strcmp(a->methods[i], b->methods[i]) != 0)
            return false;
    return true;
}

static void settle_route(struct schema_reader *r, struct draft *d, int i)
{
    struct config_route *route = &d->route[i].route;
    struct yaml_node place = {.line = route->pos.line, .column = route->pos.column};
    int plugin[CONFIG_MAX_CHAIN], *chain;
    char where[96];
    struct flat flat = {where, plugin, 0, false};

    snprintf(where, sizeof where, "routes[%d]", i + 1);
    if (route->name == NULL)
        route->name = arena_printf(r->arena, "route %d", i + 1);
    methods_read(r, d->route[i].methods, where, &route->methods, &route->n_methods);
    flatten(r, d, d->route[i].list, &flat);
    chain = arena_alloc(r->arena, (size_t)flat.n * sizeof *chain + 1);
    if (route->name == NULL || chain == NULL) {
        schema_error(r, &place, where, NULL, "no memory left for it");
        return;
    }
    memcpy(chain, plugin, (size_t)flat.n * sizeof *chain);
    route->chain = chain;
    route->n_chain = flat.n;
    for (int j = 0; j < i; j++) {
        const struct config_route *other = &d->route[j].route;

        if (route->path != NULL && config_route_is_same(route, other)) {
            schema_error(r, &place, where, "the first match wins",
                         "can never match: the route in line %d matches the same", other->pos.line);
            break;
        }
    }
}

void chains_settle(struct schema_reader *r, struct draft *d)
{
    struct config *cfg = &d->cfg;

    settle_names(r, d);
    for (int i = 0; i < d->n_chains; i++)
        flatten_chain(r, d, &d->chain[i]);
    cfg->route = arena_alloc(r->arena, (size_t)d->n_routes * sizeof cfg->route[0] + 1);
    if (cfg->route == NULL) {
        diag_add(r->diag, r->file, 0, 0, NULL, "too large: no memory left for it");
        r->n_bad++;
        return;
    }
    for (int i = 0; i < d->n_routes; i++) {
        settle_route(r, d, i);
        cfg->route[i] = d->route[i].route;
        cfg->route[i].number = (uint32_t)i + 1;
    }
    cfg->n_routes = d->n_routes;
    cfg->last_route = (uint32_t)d->n_routes;
}
