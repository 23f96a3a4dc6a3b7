/*
 * proxies.c - server.trusted_proxies: whose word about the client is taken.
 *
 * A listener with proxy_protocol and nobody to trust would take the word of anybody who can connect,
 * so that is a mistake of the config, and not a default.
 */
#include <errno.h>
#include <string.h>

#include "base/address.h"
#include "base/arena.h"
#include "conf/draft.h"
#include "conf/yaml.h"

static void read_net(struct schema_reader *r, struct config *cfg, const struct yaml_node *node)
{
    struct address_net *net = &cfg->trusted[cfg->n_trusted];
    int e;

    if (node->kind != YAML_SCALAR || node->is_null || node->is_bad)
        return; /* reported already */
    if (strcmp(node->text, "unix") == 0) {
        cfg->trusts_unix = true;
        return;
    }
    e = address_net_parse(net, node->text);
    if (e == -ERANGE) {
        bool is_v4 = strchr(node->text, ':') == NULL;
        struct address first = {.family = is_v4 ? AF_INET : AF_INET6};
        char text[ADDRESS_TEXT];

        memcpy(first.ip, net->ip, sizeof first.ip);
        address_print(&first, text);
        schema_error(r, node, "server.trusted_proxies", NULL,
                     "'%.60s' has bits set beyond its prefix: %s/%d is the network", node->text,
                     text, net->bits - (is_v4 ? 96 : 0));
    } else if (e < 0) {
        schema_error(r, node, "server.trusted_proxies",
                     "10.0.0.0/8, 192.0.2.7, 2001:db8::/32 or unix",
                     "'%.60s' is neither a network nor an address", node->text);
    } else {
        cfg->n_trusted++;
    }
}

int proxies_settle(struct schema_reader *r, struct draft *d)
{
    struct config *cfg = &d->cfg;
    int n = d->trusted != NULL ? d->trusted->n : 0;

    cfg->trusted = arena_zalloc(cfg->arena, (size_t)n * sizeof *cfg->trusted + 1);
    if (cfg->trusted == NULL)
        return -ENOMEM;
    for (int i = 0; i < n; i++)
        read_net(r, cfg, d->trusted->item[i]);
    for (int i = 0; i < cfg->n_listeners; i++) {
        const struct config_listener *l = &cfg->listener[i];
        struct yaml_node place = {.line = l->pos.line, .column = l->pos.column};
        bool is_unix = l->addr.sa.sa_family == AF_UNIX;

        if (l->proxy_protocol == CONFIG_PROXY_OFF || r->n_bad > 0 ||
            (is_unix ? cfg->trusts_unix : cfg->n_trusted > 0))
            continue;
        schema_error(r, &place, "listeners",
                     is_unix ? "server: {trusted_proxies: [unix]}"
                             : "name the proxy, such as server: {trusted_proxies: [127.0.0.1]}",
                     "proxy_protocol on '%.60s', but nobody there is in server.trusted_proxies",
                     l->name);
    }
    return 0;
}
