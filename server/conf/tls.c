/*
 * tls.c - the `tls:` of a listener.
 *
 * What a newcomer would get wrong: nothing is opened here. Whether the files are there, and whether
 * they fit together, is found out by server/tls, with the places that are noted here.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "conf/draft.h"
#include "conf/yaml.h"

#define DAY_MS 86400000ull

static int read_file(const struct yaml_node *node, struct config_file *file)
{
    file->path = node->text; /* made absolute by tls_settle() */
    file->pos = (struct config_pos){node->line, node->column};
    return 0;
}

int tls_read_cert(struct schema_reader *r, const struct yaml_node *node, const char *path,
                  void *listener)
{
    (void)r;
    (void)path;
    return read_file(node, &((struct config_listener *)listener)->tls.first.cert);
}

int tls_read_key(struct schema_reader *r, const struct yaml_node *node, const char *path,
                 void *listener)
{
    (void)r;
    (void)path;
    return read_file(node, &((struct config_listener *)listener)->tls.first.key);
}

int tls_read_more_cert(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       void *certificate)
{
    (void)r;
    (void)path;
    return read_file(node, &((struct config_certificate *)certificate)->cert);
}

int tls_read_more_key(struct schema_reader *r, const struct yaml_node *node, const char *path,
                      void *certificate)
{
    (void)r;
    (void)path;
    return read_file(node, &((struct config_certificate *)certificate)->key);
}

int tls_read_client_ca(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       void *listener)
{
    (void)r;
    (void)path;
    return read_file(node, &((struct config_listener *)listener)->tls.client_ca);
}

int tls_read_priority(struct schema_reader *r, const struct yaml_node *node, const char *path,
                      void *listener)
{
    struct config_tls *tls = &((struct config_listener *)listener)->tls;

    (void)r;
    (void)path;
    tls->priority = node->text;
    tls->priority_pos = (struct config_pos){node->line, node->column};
    return 0;
}

int tls_read_hsts(struct schema_reader *r, const struct yaml_node *node, const char *path,
                  void *listener)
{
    struct config_tls *tls = &((struct config_listener *)listener)->tls;
    unsigned long long ms;
    const char *why;

    if (strcmp(node->text, "off") == 0)
        return 0;
    if (value_duration_ms(node->text, &ms, &why) < 0 || (ms != 0 && ms < 1000) ||
        ms > 3650 * DAY_MS) {
        schema_error(r, node, path, "365d is what is usual",
                     "expected off, or a duration from 1s to 3650d, not '%.60s'", node->text);
        return -EINVAL;
    }
    tls->hsts.max_age_ms = ms;
    return 0;
}

/* ---- what needs more than one key ---- */

static void settle_file(const struct config *cfg, struct config_file *file)
{
    if (file->path != NULL)
        file->path = config_path(cfg, file->path);
}

/* A host name, or one with a star for its first label. */
static bool is_server_name(const char *s, size_t n)
{
    if (n > 2 && s[0] == '*' && s[1] == '.') {
        s += 2;
        n -= 2;
    }
    if (n == 0 || n > 253 || s[0] == '.' || s[n - 1] == '.')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '-' && s[i] != '.' && s[i] != '_')
            return false;
    return true;
}

static void settle_names(struct schema_reader *r, struct config *cfg, struct config_certificate *c)
{
    const struct yaml_node *list = c->name_list;

    if (list == NULL)
        return;
    c->names = arena_zalloc(cfg->arena, ((size_t)list->n + 1) * sizeof c->names[0]);
    for (int i = 0; i < list->n && c->names != NULL; i++) {
        const struct yaml_node *node = list->item[i];
        char *name;

        if (node->kind != YAML_SCALAR || node->is_null || node->is_bad || node->len == 0)
            continue; /* reported already */
        if (!is_server_name(node->text, node->len)) {
            schema_error(r, node, "names", "www.example.org, or *.example.org",
                         "'%.80s' is not a host name", node->text);
            continue;
        }
        name = arena_strndup(cfg->arena, node->text, node->len);
        for (char *p = name; p != NULL && *p != '\0'; p++)
            *p = (char)tolower((unsigned char)*p);
        if (name != NULL)
            c->names[c->n_names++] = name;
    }
}

void tls_settle(struct schema_reader *r, struct config *cfg, struct config_listener *l,
                const struct yaml_node *node)
{
    const struct yaml_node *given = yaml_get(node, "tls");
    struct config_tls *tls = &l->tls;
    struct config_certificate *all;

    if (given == NULL || given->kind != YAML_MAP)
        return;
    tls->is_on = true;
    tls->pos = (struct config_pos){given->line, given->column};
    if (yaml_get(given, "cert") == NULL || yaml_get(given, "key") == NULL)
        schema_error(r, given, "tls", "tls: {cert: /etc/ssl/x.pem, key: /etc/ssl/x.key}",
                     "%s is missing", yaml_get(given, "cert") == NULL ? "cert" : "key");
    if (tls->client_auth != CONFIG_CLIENT_NONE && tls->client_ca.path == NULL)
        schema_error(r, yaml_get(given, "client_auth"), "tls.client_auth", NULL,
                     "needs client_ca: the certificates that clients' ones must be signed by");
    if (tls->client_auth == CONFIG_CLIENT_NONE && tls->client_ca.path != NULL)
        schema_error(r, yaml_get(given, "client_ca"), "tls.client_ca",
                     "add client_auth: required, or optional", "no certificate is asked for");
    if (tls->priority != NULL && yaml_get(given, "min_version") != NULL)
        schema_error(r, yaml_get(given, "min_version"), "tls.min_version", "leave one of them out",
                     "priority says which versions there are");

    all = arena_zalloc(cfg->arena, ((size_t)tls->n_certificates + 1) * sizeof *all);
    if (all == NULL) {
        schema_error(r, given, "tls", NULL, "no memory left for it");
        return;
    }
    all[0] = tls->first;
    all[0].pos = tls->pos;
    if (tls->n_certificates > 0)
        memcpy(all + 1, tls->certificate, (size_t)tls->n_certificates * sizeof *all);
    tls->certificate = all;
    tls->n_certificates++;
    for (int i = 0; i < tls->n_certificates; i++) {
        settle_file(cfg, &all[i].cert);
        settle_file(cfg, &all[i].key);
        settle_names(r, cfg, &all[i]);
    }
    settle_file(cfg, &tls->client_ca);
}
