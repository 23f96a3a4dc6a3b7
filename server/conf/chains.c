/*
 * chains.c - names of plugins and chains resolved, chains flattened, routes given theirs.
 *
 * Each chain is flattened once, depth first; every name of every list is looked at once, so the time
 * is bounded by the size of the file.
 */
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
    flatten(r, d, d->route[i].list, &flat);
    chain = arena_alloc(r->arena, (size_t)flat.n * sizeof *chain + 1);
    if (route->name == NULL || chain == NULL) {
        schema_error(r, &place, where, NULL, "no memory left for it");
        return;
    }
    memcpy(chain, plugin, (size_t)flat.n * sizeof *chain);
    route->chain = chain;
    route->n_chain = flat.n;
    route_settle_match(r, d, i, where);
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
