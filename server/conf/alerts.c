/*
 * alerts.c - the `alerts:` of the config.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "conf/draft.h"
#include "conf/yaml.h"

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

/* Longer ones first. */
static const struct {
    const char *text;
    enum config_compare compare;
} operators[] = {{">=", CONFIG_AT_LEAST},  {"<=", CONFIG_AT_MOST}, {"==", CONFIG_EQUAL},
                 {"!=", CONFIG_NOT_EQUAL}, {">", CONFIG_ABOVE},    {"<", CONFIG_BELOW}};

int alert_read_when(struct schema_reader *r, const struct yaml_node *node, const char *path,
                    void *base)
{
    struct config_rule *rule = base;

    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        size_t n = strlen(operators[i].text);
        const char *p = node->text + n;
        char *end;

        if (strncmp(node->text, operators[i].text, n) != 0)
            continue;
        rule->threshold = strtod(p, &end);
        if (end == p || end[strspn(end, " ")] != '\0' || !isfinite(rule->threshold))
            break;
        rule->compare = operators[i].compare;
        rule->when = node->text;
        return 0;
    }
    schema_error(r, node, path, "\"> 50\": the quotes are YAML's",
                 "expected >, >=, <, <=, == or != and a number, not '%.60s'", node->text);
    return -EINVAL;
}

int alert_read_metric(struct schema_reader *r, const struct yaml_node *node, const char *path,
                      void *rule)
{
    if (node->text[strspn(node->text, NAME_CHARS ":")] != '\0') {
        schema_error(r, node, path, "labels go under `match`", "'%.80s' is no name of a metric",
                     node->text);
        return -EINVAL;
    }
    ((struct config_rule *)rule)->metric = node->text;
    return 0;
}

int alert_read_url(struct schema_reader *r, const struct yaml_node *node, const char *path,
                   void *receiver)
{
    const char *why;

    if (!url_is_sound(node->text, &why)) {
        schema_error(r, node, path, "https://alerts.example.org:8443/hook", "%s",
                     why); /* not the value: it may hold a key */
        return -EINVAL;
    }
    ((struct config_receiver *)receiver)->url = node->text;
    return 0;
}

static struct yaml_node place_of(struct config_pos pos)
{
    return (struct yaml_node){.line = pos.line, .column = pos.column};
}

static void check_label_names(struct schema_reader *r, const struct yaml_node *map,
                              const char *path)
{
    for (int i = 0; map != NULL && i < map->n; i++) {
        const char *name = map->key[i]->text;

        if (name[strspn(name, NAME_CHARS)] != '\0' || (name[0] >= '0' && name[0] <= '9') ||
            strcmp(name, "alertname") == 0)
            schema_error(r, map->key[i], path, "letters, digits and underscores",
                         "'%.80s' cannot be the name of a label", name);
    }
}

static void settle_receivers_of(struct schema_reader *r, const struct config_alerts *a,
                                struct config_rule *rule)
{
    const struct yaml_node *list = rule->receiver_list;

    if (list == NULL)
        rule->receivers = (1u << a->n_receivers) - 1;
    for (int i = 0; list != NULL && i < list->n; i++) {
        bool is_known = false;

        if (list->item[i]->kind != YAML_SCALAR || list->item[i]->text == NULL)
            continue;
        for (int k = 0; k < a->n_receivers; k++)
            if (a->receiver[k].name != NULL &&
                strcmp(a->receiver[k].name, list->item[i]->text) == 0) {
                rule->receivers |= 1u << k;
                is_known = true;
            }
        if (!is_known)
            schema_error(r, list->item[i], "alerts.rules", "they stand under alerts.receivers",
                         "there is no receiver '%.60s'", list->item[i]->text);
    }
}

static int settle_rule(struct schema_reader *r, const struct config_alerts *a, int i)
{
    struct config_rule *rule = &a->rule[i];
    struct yaml_node place = place_of(rule->pos);

    settle_receivers_of(r, a, rule);
    for (int k = 0; k < i && rule->name != NULL; k++)
        if (a->rule[k].name != NULL && strcmp(a->rule[k].name, rule->name) == 0)
            schema_error(r, &place, "alerts.rules", NULL, "there are two rules '%.60s'",
                         rule->name);
    if (rule->name != NULL && strlen(rule->name) > 63)
        schema_error(r, &place, "alerts.rules", NULL, "the name is longer than 63 bytes");
    check_label_names(r, rule->match_map, "alerts.rules: match");
    check_label_names(r, rule->label_map, "alerts.rules: labels");
    if (pairs_read(r, rule->match_map, "alerts.rules: match", false, &rule->match,
                   &rule->n_matches) < 0 ||
        pairs_read(r, rule->label_map, "alerts.rules: labels", false, &rule->label,
                   &rule->n_labels) < 0)
        return -ENOMEM;
    return pairs_read(r, rule->annotation_map, "alerts.rules: annotations", false,
                      &rule->annotation, &rule->n_annotations);
}

static int settle_receiver(struct schema_reader *r, struct config *cfg, int i)
{
    struct config_receiver *to = &cfg->alerts.receiver[i];
    struct yaml_node place = place_of(to->pos);

    for (int k = 0; k < i && to->name != NULL; k++)
        if (cfg->alerts.receiver[k].name != NULL &&
            strcmp(cfg->alerts.receiver[k].name, to->name) == 0)
            schema_error(r, &place, "alerts.receivers", NULL, "there are two receivers '%.60s'",
                         to->name);
    if (to->type == CONFIG_ALERTMANAGER && to->url != NULL) {
        const char *slash = strchr(strstr(to->url, "://") + 3, '/');

        if (slash == NULL || slash[1] == '\0')
            to->url = arena_printf(r->arena, "%s%sapi/v2/alerts", to->url,
                                   slash == NULL ? "/" : "");
        if (to->url == NULL)
            return -ENOMEM;
    }
    if (to->ca != NULL && (to->ca = config_path(cfg, to->ca)) == NULL)
        return -ENOMEM;
    return pairs_read(r, to->header_map, "alerts.receivers: headers", true, &to->header,
                      &to->n_headers);
}

int alerts_settle(struct schema_reader *r, struct draft *d)
{
    struct config_alerts *a = &d->cfg.alerts;

    for (int i = 0; i < a->n_receivers; i++)
        if (settle_receiver(r, &d->cfg, i) < 0)
            return -ENOMEM;
    for (int i = 0; i < a->n_rules; i++)
        if (settle_rule(r, a, i) < 0)
            return -ENOMEM;
    return 0;
}
