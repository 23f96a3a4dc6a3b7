/*
 * config.c - the config as it is in force: what the file says after ${ENV}, and the defaults of what
 * it leaves out; without secrets.
 *
 * What a newcomer would get wrong: which option of a plugin is a secret only the plugin knows, and it
 * may not have said so. So names that sound like one count as well, and passwords within URLs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/internal.h"
#include "base/must.h"
#include "conf/config.h"
#include "conf/schema.h"
#include "conf/yaml.h"
#include "obs/redact.h"

static const char hidden[] = "[redacted]";

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);

    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Where something is to be found is no secret. */
static bool is_place(const char *name)
{
    return ends_with(name, "file") || ends_with(name, "path") || ends_with(name, "dir") ||
           ends_with(name, "header");
}

static bool sounds_secret(const char *name)
{
    return !is_place(name) && (redact_is_secret_argument(name, strlen(name)) ||
                               redact_is_secret_header(name, strlen(name)));
}

/* What a URL may carry that is nobody's business: "redis://user:pass@host", "https://host/hook?key=...".
 */
static void add(char **at, const char *end, const char *p, size_t n)
{
    n = n < (size_t)(end - *at) ? n : (size_t)(end - *at);
    memcpy(*at, p, n);
    *at += n;
}

static json_t *url_json(const char *text, size_t n, const char *host)
{
    size_t room = 4 * n + 64; /* "a=b" grows most */
    char *out = malloc(room), *at = out;
    const char *end = text + n, *to_end;
    const char *path = host + strcspn(host, "/?#"), *sign, *arg;
    json_t *json;

    if (out == NULL)
        return NULL;
    to_end = out + room;
    sign = memrchr(host, '@', (size_t)(path - host));
    add(&at, to_end, text, (size_t)(host - text));
    if (sign != NULL)
        add(&at, to_end, hidden, strlen(hidden));
    arg = path + strcspn(path, "?");
    add(&at, to_end, sign != NULL ? sign : host, (size_t)(arg - (sign != NULL ? sign : host)));
    while (arg < end) {
        size_t name = strcspn(arg + 1, "=&#"), whole = strcspn(arg + 1, "&#");

        add(&at, to_end, arg, 1 + name);
        if (name < whole && redact_is_secret_argument(arg + 1, name)) {
            add(&at, to_end, "=", 1);
            add(&at, to_end, hidden, strlen(hidden));
        } else {
            add(&at, to_end, arg + 1 + name, whole - name);
        }
        arg += 1 + whole;
    }
    json = json_stringn(out, (size_t)(at - out));
    free(out);
    return json;
}

static json_t *text_json(const char *text, size_t n)
{
    const char *scheme = strstr(text, "://");
    json_t *json = scheme != NULL && strchr(text, ' ') == NULL ? url_json(text, n, scheme + 3)
                                                               : json_stringn(text, n);

    return json != NULL ? json : json_string("[not UTF-8]");
}

/* A node of which no schema tells what it is. */
static json_t *node_json(const struct yaml_node *node)
{
    json_t *json;

    switch (node->kind) {
    case YAML_LIST:
        json = json_array();
        for (int i = 0; i < node->n; i++)
            json_array_append_new(json, node_json(node->item[i]));
        return json;
    case YAML_MAP:
        json = json_object();
        for (int i = 0; i < node->n; i++)
            json_object_set_new(json, node->key[i]->text,
                                sounds_secret(node->key[i]->text) ? json_string(hidden)
                                                                  : node_json(node->item[i]));
        return json;
    default: return node->is_null ? json_null() : text_json(node->text, node->len);
    }
}

static json_t *options_json(const struct admin_view *view, const char *plugin,
                            const struct yaml_node *options)
{
    json_t *json = json_object();
    int place = -1;

    for (int i = 0; i < view->cfg->n_plugins; i++)
        if (strcmp(view->cfg->plugin[i].name, plugin) == 0)
            place = i;
    for (int i = 0; i < options->n; i++) {
        const char *name = options->key[i]->text;
        bool is_secret = place < 0 || sounds_secret(name) ||
                         view->is_secret(view->context, place, name);

        json_object_set_new(json, name,
                            is_secret ? json_string(hidden) : node_json(options->item[i]));
    }
    return json;
}

/* Names, as they are, and no values. */
static json_t *hidden_json(const struct yaml_node *map)
{
    json_t *json = json_object();

    for (int i = 0; i < map->n; i++)
        json_object_set_new(json, map->key[i]->text, json_string(hidden));
    return json;
}

/* Of a receiver of alerts: its path may be a key as well as its query. */
static json_t *place_json(const char *text)
{
    const char *scheme = strstr(text, "://");
    size_t n = scheme != NULL ? (size_t)(scheme + 3 - text) : 0;

    n += strcspn(text + n, "/?#");
    return text[n] == '\0' || strcmp(text + n, "/") == 0
               ? text_json(text, strlen(text))
               : json_sprintf("%.*s/%s", (int)n, text, hidden);
}

static json_t *scalar_json(const struct schema *s, const struct yaml_node *node)
{
    const char *text = node != NULL ? node->text : s->def, *why;
    long long v;

    if (text == NULL)
        return NULL;
    if (s->kind == SCHEMA_INT && value_int(text, &v, &why) == 0)
        return json_integer(v);
    if (strcmp(s->key, "url") == 0)
        return place_json(text);
    if (sounds_secret(s->key) && s->kind == SCHEMA_STRING)
        return json_string(hidden);
    return text_json(text, strlen(text));
}

static json_t *map_json(const struct admin_view *view, const struct schema *keys,
                        const struct yaml_node *map, const char *name);

static json_t *items_json(const struct admin_view *view, const struct schema *s,
                          const struct yaml_node *node)
{
    json_t *json = s->kind == SCHEMA_NAMED ? json_object() : json_array();

    for (int i = 0; node != NULL && i < node->n; i++) {
        const char *name = s->kind == SCHEMA_NAMED ? node->key[i]->text : "";
        json_t *item = s->keys[0].key[0] == '\0' ? node_json(node->item[i])
                                                 : map_json(view, s->keys, node->item[i], name);

        if (s->kind == SCHEMA_NAMED)
            json_object_set_new(json, name, item);
        else
            json_array_append_new(json, item);
    }
    return json;
}

/* NULL: it is not there, and has no default. */
static json_t *value_json(const struct admin_view *view, const struct schema *s,
                          const struct yaml_node *node, const char *name, bool is_top)
{
    switch (s->kind) {
    case SCHEMA_MAP:
        /* Absent, it is off (`tls`, `admin`); others, at the top, have defaults. */
        if (node == NULL && (!is_top || strcmp(s->key, "admin") == 0) &&
            strcmp(s->key, "timeouts") != 0 && strcmp(s->key, "error") != 0)
            return NULL;
        return map_json(view, s->keys, node, name);
    case SCHEMA_LIST:
    case SCHEMA_NAMED: return items_json(view, s, node);
    case SCHEMA_STRINGS: return node != NULL ? node_json(node) : NULL;
    case SCHEMA_NODE:
        if (node == NULL)
            return NULL;
        if (strcmp(s->key, "headers") == 0 && name[0] == '\0')
            return hidden_json(node); /* that are sent along, to a collector and the like */
        return strcmp(s->key, "config") == 0 ? options_json(view, name, node) : node_json(node);
    case SCHEMA_CUSTOM:
        if (node != NULL && node->kind == YAML_MAP && s->keys != NULL)
            return map_json(view, s->keys, node, name);
        return scalar_json(s, node);
    case SCHEMA_ABSENT: return NULL;
    default: return scalar_json(s, node);
    }
}

/* name: of the plugin, where it is one's. */
static json_t *map_json(const struct admin_view *view, const struct schema *keys,
                        const struct yaml_node *map, const char *name)
{
    json_t *json = json_object();

    for (const struct schema *s = keys; s->kind != SCHEMA_END; s++) {
        const struct yaml_node *node = map != NULL ? yaml_get(map, s->key) : NULL;
        json_t *value;

        if (node != NULL && node->kind == YAML_SCALAR && node->is_null)
            node = NULL;
        value = value_json(view, s, node, name, keys == config_keys);
        if (value != NULL)
            json_object_set_new(json, s->key, value);
    }
    return json;
}

json_t *config_json(const struct admin_view *view)
{
    return map_json(view, config_keys, view->cfg->root, "");
}

void get_config(struct request *req)
{
    char path[4352];

    config_file_path(req->admin->cfg, path, sizeof path);
    reply_json(req, 200,
               json_pack("{s:o, s:o}", "file", text_json(path, strlen(path)), "config",
                         config_json(req->admin->view)));
}
