/*
 * store.c - `store:`, and the `store:` of plugins.
 */
#include <errno.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "conf/draft.h"
#include "conf/yaml.h"

int store_read_address(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       void *config)
{
    static const char forms[] =
        "10.0.0.5:6379, redis.example.org:6379, [::1]:6379 or unix:/run/redis.sock";
    struct config *cfg = config;
    const char *host = node->text, *colon = strrchr(host, ':');
    size_t n = colon != NULL ? (size_t)(colon - host) : 0;

    if (strncmp(host, "unix:", 5) == 0 && host[5] != '\0') {
        cfg->store.redis.path = host + 5; /* made absolute later */
        return 0;
    }
    if (strpbrk(host, "@/") != NULL) { /* not shown: people put passwords there */
        schema_error(
            r, node, path, forms,
            "is a host with a port, no URL; user, password and database have keys of their "
            "own");
        return -EINVAL;
    }
    if (n == 0 || (memchr(host, ':', n) != NULL && host[0] != '[') || !host_is_sound(host, n) ||
        !port_is_sound(colon + 1, strlen(colon + 1))) {
        schema_error(r, node, path, forms, "'%.100s' is not a host with a port from 1 to 65535",
                     host);
        return -EINVAL;
    }
    if (host[0] == '[' && host[n - 1] == ']')
        host++, n -= 2;
    cfg->store.redis.host = arena_strndup(r->arena, host, n);
    cfg->store.redis.port = colon + 1;
    return cfg->store.redis.host != NULL ? 0 : -ENOMEM;
}

/* A plugin's namespace is its own, and as large as any, unless it says something else. */
static void refuse_quota(struct schema_reader *r, const struct config *cfg,
                         const struct yaml_node *store, const char *path)
{
    const struct yaml_node *quota = yaml_get(store, "quota");

    if (cfg->store.backend == CONFIG_STORE_REDIS && quota != NULL)
        schema_error(r, quota, path,
                     "maxmemory and maxmemory-policy noeviction, in Redis' own config",
                     "is not watched with backend: redis");
}

int store_settle(struct schema_reader *r, struct draft *d)
{
    struct config *cfg = &d->cfg;

    refuse_quota(r, cfg, yaml_get(cfg->root, "store"), "store.quota");

    for (int i = 0; i < cfg->n_plugins; i++) {
        struct config_plugin *p = &cfg->plugin[i];
        const struct yaml_node *node = yaml_get(yaml_get(cfg->root, "plugins"), p->name);
        const struct yaml_node *own = yaml_get(node, "store");

        refuse_quota(r, cfg, own, "store.quota");
        if (yaml_get(own, "quota") == NULL)
            p->store.quota = cfg->store.quota;
        if (p->store.ns != NULL)
            continue;
        p->store.ns = p->name;
        p->store.ns_pos = p->pos;
        if (own != NULL && (strlen(p->name) >= CONFIG_STORE_NAME || strchr(p->name, ':') != NULL))
            schema_error(r, own, "store", "namespace: a name of at most 63 bytes without a colon",
                         "the plugin's own name cannot be that of a namespace");
    }
    if (cfg->store.path != NULL)
        cfg->store.path = config_path(cfg, cfg->store.path);
    else if (cfg->store.backend == CONFIG_STORE_LMDB)
        schema_error(r, yaml_get(yaml_get(cfg->root, "store"), "backend"), "store.path",
                     "path: /var/lib/bulkhead/store.lmdb, say", "is needed with backend: lmdb");
    if (cfg->store.redis.path != NULL)
        cfg->store.redis.path = config_path(cfg, cfg->store.redis.path);
    if (cfg->store.redis.ca != NULL)
        cfg->store.redis.ca = config_path(cfg, cfg->store.redis.ca);
    return 0;
}
