/*
 * tracing.c - the `tracing:` of the config, and what other parts that send over HTTP share with it.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "conf/draft.h"
#include "conf/yaml.h"

/* As with OTEL_EXPORTER_OTLP_ENDPOINT: a URL without a path is that of the collector as a whole. */
int tracing_read_endpoint(struct schema_reader *r, const struct yaml_node *node, const char *path,
                          void *draft)
{
    struct config *cfg = &((struct draft *)draft)->cfg;
    const char *why, *rest;

    if (!url_is_sound(node->text, &why)) {
        /* Not the value: it may hold a password. */
        schema_error(r, node, path, "http://127.0.0.1:4318", "%s", why);
        return -EINVAL;
    }
    rest = strchr(strstr(node->text, "://") + 3, '/');
    cfg->tracing.endpoint = rest == NULL || rest[1] == '\0'
                                ? arena_printf(r->arena, "%s%sv1/traces", node->text,
                                               rest == NULL ? "/" : "")
                                : node->text;
    return cfg->tracing.endpoint != NULL ? 0 : -ENOMEM;
}

int tracing_read_sample(struct schema_reader *r, const struct yaml_node *node, const char *path,
                        void *draft)
{
    struct config *cfg = &((struct draft *)draft)->cfg;
    char *end;
    double share = strtod(node->text, &end);

    if (end == node->text || strcmp(end, "%") != 0 || !(share >= 0 && share <= 100)) {
        schema_error(r, node, path, "5%, or 0.1%", "expected 0%% to 100%%, not '%.60s'",
                     node->text);
        return -EINVAL;
    }
    cfg->tracing.sample = (uint64_t)ldexp(share / 100, 63);
    return 0;
}

static bool is_token(const char *s)
{
    return s[0] != '\0' && s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                       "0123456789!#$%&'*+-.^_`|~")] == '\0';
}

static bool is_one_line(const char *s)
{
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            return false;
    return true;
}

int pairs_read(struct schema_reader *r, const struct yaml_node *map, const char *path,
               bool are_headers, struct config_pair **out, int *n)
{
    if (map == NULL)
        return 0;
    *out = arena_zalloc(r->arena, (size_t)map->n * sizeof **out + 1);
    if (*out == NULL)
        return -ENOMEM;
    for (int i = 0; i < map->n; i++) {
        const struct yaml_node *key = map->key[i], *value = map->item[i];

        if (value->is_bad)
            continue;
        if (are_headers && !is_token(key->text))
            /* What follows a colon would be its value. */
            schema_error(r, key, path, NULL, "'%.*s' is no name of a header field",
                         (int)strcspn(key->text, ":=") < 80 ? (int)strcspn(key->text, ":=") : 80,
                         key->text);
        else if (value->kind != YAML_SCALAR || value->is_null || !is_one_line(value->text))
            schema_error(r, value, path, NULL, "%.80s: expected a text of one line", key->text);
        else
            (*out)[(*n)++] = (struct config_pair){key->text, value->text};
    }
    return 0;
}

int tracing_settle(struct schema_reader *r, struct draft *d)
{
    struct config_tracing *t = &d->cfg.tracing;

    if (pairs_read(r, d->trace_headers, "tracing.headers", true, &t->header, &t->n_headers) < 0 ||
        pairs_read(r, d->trace_resource, "tracing.resource", false, &t->resource, &t->n_resources) <
            0)
        return -ENOMEM;
    if (t->ca != NULL) {
        t->ca = config_path(&d->cfg, t->ca);
        if (t->ca == NULL)
            return -ENOMEM;
    }
    return 0;
}
