/*
 * listeners.c - addresses to listen on.
 *
 * Numeric only: a name that resolves differently tomorrow has no place in a config that is checked
 * today, and checking does no I/O.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "conf/draft.h"
#include "conf/yaml.h"

#define DEFAULT_MODE 0660
#define MODE_GIVEN   010000 /* in a draft only: beyond all permission bits */

static const char forms[] = "127.0.0.1:8080, [::1]:8080 or unix:/run/bulkhead.sock";

static int parse_inet(const char *text, struct config_listener *l)
{
    const char *colon = strrchr(text, ':'), *why;
    char host[INET6_ADDRSTRLEN + 2];
    long long port;
    size_t n;

    if (colon == NULL || (n = (size_t)(colon - text)) >= sizeof host ||
        value_int(colon + 1, &port, &why) < 0 || colon[1] == '+' || port < 1 || port > 65535)
        return -EINVAL;
    memcpy(host, text, n);
    host[n] = '\0';
    memset(&l->addr, 0, sizeof l->addr);
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        l->addr.in6.sin6_family = AF_INET6;
        l->addr.in6.sin6_port = htons((uint16_t)port);
        l->addr_len = sizeof l->addr.in6;
        return inet_pton(AF_INET6, host + 1, &l->addr.in6.sin6_addr) == 1 ? 0 : -EINVAL;
    }
    l->addr.in.sin_family = AF_INET;
    l->addr.in.sin_port = htons((uint16_t)port);
    l->addr_len = sizeof l->addr.in;
    return inet_pton(AF_INET, host, &l->addr.in.sin_addr) == 1 ? 0 : -EINVAL;
}

int listener_read_address(struct schema_reader *r, const struct yaml_node *node, const char *path,
                          void *listener)
{
    struct config_listener *l = listener;

    if (strncmp(node->text, "unix:", 5) == 0) {
        l->addr.un.sun_family = AF_UNIX; /* its path needs the config's folder: settled later */
        if (node->text[5] == '\0') {
            schema_error(r, node, path, forms, "a path is missing after unix:");
            return -EINVAL;
        }
    } else if (parse_inet(node->text, l) < 0) {
        schema_error(r, node, path, forms,
                     "'%.100s' is not a numeric address with a port from 1 to 65535", node->text);
        return -EINVAL;
    }
    l->address = node->text;
    return 0;
}

int listener_read_mode(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       void *listener)
{
    struct config_listener *l = listener;
    char *end;
    long mode = strtol(node->text, &end, 8);

    if (*end != '\0' || node->len < 3 || node->len > 4 || mode < 0 || mode > 0777) {
        schema_error(r, node, path, NULL, "expected an octal number such as 0660, not '%.20s'",
                     node->text);
        return -EINVAL;
    }
    l->mode = (mode_t)mode | MODE_GIVEN;
    return 0;
}

void listener_settle_unix(struct schema_reader *r, const struct config *cfg,
                          struct config_listener *l, const char *where)
{
    struct yaml_node place = {.line = l->pos.line, .column = l->pos.column};
    const char *path = config_path(cfg, l->address + 5);

    if (path == NULL || strlen(path) >= sizeof l->addr.un.sun_path) {
        schema_error(r, &place, where, NULL, "the path of '%.100s' is too long: at most %d",
                     l->address, (int)sizeof l->addr.un.sun_path - 1);
        return;
    }
    memcpy(l->addr.un.sun_path, path, strlen(path) + 1);
    l->addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
}

void listeners_settle(struct schema_reader *r, struct draft *d)
{
    struct config *cfg = &d->cfg;
    const struct yaml_node *list = yaml_get(cfg->root, "listeners");

    for (int i = 0; i < cfg->n_listeners; i++) {
        struct config_listener *l = &cfg->listener[i];
        struct yaml_node place = {.line = l->pos.line, .column = l->pos.column};

        if (l->address != NULL && l->addr.sa.sa_family == AF_UNIX)
            listener_settle_unix(r, cfg, l, "listeners");
        else if (l->address != NULL && l->mode != 0)
            schema_error(r, &place, "listeners", NULL, "mode is for Unix sockets only");
        if (l->address != NULL && l->addr.sa.sa_family != AF_UNIX &&
            (l->owner != NULL || l->group != NULL))
            schema_error(r, &place, "listeners", NULL, "%s is for Unix sockets only",
                         l->owner != NULL ? "owner" : "group");
        if (l->is_dual_stack && l->address != NULL &&
            (l->addr.sa.sa_family != AF_INET6 || !IN6_IS_ADDR_UNSPECIFIED(&l->addr.in6.sin6_addr)))
            schema_error(r, &place, "listeners",
                         "a listener each for 0.0.0.0 and [::] does the same",
                         "dual_stack is for [::] only");
        l->mode = l->mode != 0 ? l->mode & 0777 : DEFAULT_MODE;
        if (l->name == NULL)
            l->name = arena_printf(cfg->arena, "listener %d", i + 1);
        tls_settle(r, cfg, l, list->item[i]);
        for (int j = 0; j < i; j++) {
            const struct config_listener *other = &cfg->listener[j];

            if (l->name != NULL && other->name != NULL && strcmp(l->name, other->name) == 0)
                schema_error(r, &place, "listeners", NULL,
                             "the name '%.60s' is taken by the listener in line %d", l->name,
                             other->pos.line);
            if (l->addr_len != 0 && l->addr_len == other->addr_len &&
                memcmp(&l->addr, &other->addr, l->addr_len) == 0)
                schema_error(r, &place, "listeners", NULL,
                             "the listener in line %d has the same address", other->pos.line);
        }
    }
}
