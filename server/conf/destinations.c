/*
 * destinations.c - `plugins.NAME.http.allow`: where requests of plugins may go.
 */
#include <errno.h>

#include "base/arena.h"
#include "base/destination.h"
#include "conf/draft.h"
#include "conf/yaml.h"

static void read_rule(struct schema_reader *r, struct destination *d, struct destination_rule *rule,
                      const struct yaml_node *node)
{
    int e;

    if (node->kind != YAML_SCALAR || node->is_null || node->is_bad)
        return; /* reported already */
    e = destination_parse(rule, node->text);
    if (e == -ERANGE)
        schema_error(r, node, "plugins.http.allow", NULL, "'%.60s' has bits set beyond its prefix",
                     node->text);
    else if (e < 0 && strchr(node->text, '@') != NULL)
        schema_error(r, node, "plugins.http.allow", "api.example.org:443",
                     "a host, without a user and without a path; what stands there is not shown");
    else if (e < 0)
        schema_error(r, node, "plugins.http.allow",
                     "api.example.org:443, *.example.org, 10.0.0.0/8, [::1]:8080, public, any or "
                     "unix:/run/auth.sock",
                     "'%.60s' is no destination", node->text);
    else
        d->n_rules++;
}

int destinations_settle(struct schema_reader *r, struct draft *d)
{
    struct config *cfg = &d->cfg;

    for (int i = 0; i < cfg->n_plugins; i++) {
        struct config_plugin *p = &cfg->plugin[i];
        const struct yaml_node *list = p->http_allow;
        struct destination *to;
        struct destination_rule *rule;

        if (list == NULL)
            continue;
        rule = arena_zalloc(cfg->arena, (size_t)list->n * sizeof *rule + 1);
        to = arena_zalloc(cfg->arena, sizeof *to);
        if (rule == NULL || to == NULL)
            return -ENOMEM;
        to->has_rules = true;
        to->rule = rule;
        for (int k = 0; k < list->n; k++)
            read_rule(r, to, &rule[to->n_rules], list->item[k]);
        p->http = to;
    }
    return 0;
}
