/*
 * admin.c - `admin:`, where and for whom the admin interface listens.
 *
 * What a newcomer would get wrong: without TLS it listens where only this machine can reach it, since
 * tokens travel; any other address has to be allowed in so many words.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "conf/draft.h"
#include "conf/yaml.h"

#define DEFAULT_MODE 0600

static const char forms[] = "listen: \"127.0.0.1:9900\", or unix:/run/bulkhead/admin.sock";

int admin_read_listen(struct schema_reader *r, const struct yaml_node *node, const char *path,
                      void *draft)
{
    struct draft *d = draft;

    d->cfg.admin.listener.pos = (struct config_pos){node->line, node->column};
    return listener_read_address(r, node, path, &d->cfg.admin.listener);
}

int admin_read_mode(struct schema_reader *r, const struct yaml_node *node, const char *path,
                    void *draft)
{
    struct draft *d = draft;

    return listener_read_mode(r, node, path, &d->cfg.admin.listener);
}

static bool is_local(const struct config_listener *l)
{
    switch (l->addr.sa.sa_family) {
    case AF_UNIX: return true;
    case AF_INET: return (ntohl(l->addr.in.sin_addr.s_addr) >> 24) == 127;
    default: return IN6_IS_ADDR_LOOPBACK(&l->addr.in6.sin6_addr) != 0;
    }
}

static void settle_tcp(struct schema_reader *r, const struct config_admin *a,
                       const struct yaml_node *node)
{
    if (a->listener.mode != 0 || a->listener.owner != NULL || a->listener.group != NULL)
        schema_error(r, node, "admin", NULL, "%s is for Unix sockets only",
                     a->listener.mode != 0       ? "mode"
                     : a->listener.owner != NULL ? "owner"
                                                 : "group");
    if (a->token_file == NULL)
        schema_error(r, node, "admin",
                     "token_file: admin.token (made, with a random token, when it is missing)",
                     "token_file is missing: everybody on this machine can reach %s",
                     a->listener.address);
    if (!is_local(&a->listener) && !a->allows_plaintext && !a->listener.tls.is_on) {
        struct yaml_node place = {.line = a->listener.pos.line, .column = a->listener.pos.column};

        schema_error(r, &place, "admin.listen",
                     "add tls: {cert: admin.crt, key: admin.key}; or listen on 127.0.0.1 or a Unix "
                     "socket; or, in a network that you trust, say `plaintext: anywhere`",
                     "%s can be reached from other machines, and tokens would travel in plain text",
                     a->listener.address);
    }
}

static int settle_hosts(struct schema_reader *r, struct draft *d)
{
    struct config *cfg = &d->cfg;
    const char **host;

    if (d->admin_hosts == NULL)
        return 0;
    host = arena_alloc(cfg->arena, ((size_t)d->admin_hosts->n + 1) * sizeof *host);
    if (host == NULL)
        return -ENOMEM;
    cfg->admin.host = host;
    for (int i = 0; i < d->admin_hosts->n; i++) {
        const struct yaml_node *node = d->admin_hosts->item[i];

        if (node->kind != YAML_SCALAR || node->is_null || node->text == NULL)
            continue; /* reported already */
        if (strpbrk(node->text, "/:@* ") != NULL)
            schema_error(r, node, "admin.hosts", "admin.example.org, say",
                         "'%.100s' is not a host's name (no port, no path, no stars)", node->text);
        else
            host[cfg->admin.n_hosts++] = node->text;
    }
    return 0;
}

static const char *absolute(const struct config *cfg, const char *path)
{
    return path != NULL ? config_path(cfg, path) : NULL;
}

int admin_settle(struct schema_reader *r, struct draft *d)
{
    struct config *cfg = &d->cfg;
    struct config_admin *a = &cfg->admin;
    const struct yaml_node *node = yaml_get(cfg->root, "admin");
    bool has_token = a->token_file != NULL, has_reader = a->read_token_file != NULL;

    if (node == NULL || node->kind != YAML_MAP)
        return 0;
    a->pos = (struct config_pos){node->line, node->column};
    a->listener.name = "admin";
    if (yaml_get(node, "listen") == NULL)
        schema_error(r, node, "admin", forms, "listen is missing");
    if (a->listener.address == NULL)
        return 0;
    tls_settle(r, cfg, &a->listener, node);
    if (a->listener.addr.sa.sa_family == AF_UNIX)
        listener_settle_unix(r, cfg, &a->listener, "admin.listen");
    else
        settle_tcp(r, a, node);
    a->listener.mode = a->listener.mode != 0 ? a->listener.mode & 0777 : DEFAULT_MODE;
    for (int i = 0; i < cfg->n_listeners; i++)
        if (cfg->listener[i].address != NULL && cfg->listener[i].addr_len == a->listener.addr_len &&
            memcmp(&cfg->listener[i].addr, &a->listener.addr, a->listener.addr_len) == 0)
            schema_error(r, node, "admin.listen", NULL, "the listener in line %d has that address",
                         cfg->listener[i].pos.line);
    if (has_reader && !has_token)
        schema_error(r, node, "admin", "token_file: admin.token",
                     "read_token_file without token_file: nobody could act");
    a->token_file = absolute(cfg, a->token_file);
    a->read_token_file = absolute(cfg, a->read_token_file);
    if ((has_token && a->token_file == NULL) || (has_reader && a->read_token_file == NULL))
        return -ENOMEM;
    if (has_token && has_reader && strcmp(a->token_file, a->read_token_file) == 0)
        schema_error(r, node, "admin", NULL, "token_file and read_token_file are the same file");
    a->is_on = true;
    return settle_hosts(r, d);
}
