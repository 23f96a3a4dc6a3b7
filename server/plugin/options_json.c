/*
 * options_json.c - options as JSON: the declaration as a schema, the values for cfg_raw().
 */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "conf/yaml.h"
#include "plugin/options.h"

/* A plain scalar as YAML's core schema reads it; a quoted one is a string. */
static json_t *scalar_json(const struct yaml_node *node)
{
    const char *s = node->text, *why;
    long long i;
    double d;

    if (node->is_quoted)
        return json_stringn(s, node->len);
    if (node->is_null)
        return json_null();
    if (strcmp(s, "true") == 0 || strcmp(s, "false") == 0)
        return json_boolean(s[0] == 't');
    if (value_int(s, &i, &why) == 0)
        return json_integer(i);
    if (value_double(s, &d, &why) == 0)
        return json_real(d);
    return json_stringn(s, node->len);
}

static json_t *node_json(const struct yaml_node *node)
{
    json_t *json = node->kind == YAML_SCALAR ? scalar_json(node)
                   : node->kind == YAML_LIST ? json_array()
                                             : json_object();

    for (int i = 0; json != NULL && i < node->n; i++) {
        json_t *item = node_json(node->item[i]);
        int r = node->kind == YAML_LIST ? json_array_append_new(json, item)
                                        : json_object_set_new(json, node->key[i]->text, item);

        if (r < 0) {
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

bh_str options_json(const struct yaml_node *node, struct arena *arena)
{
    json_t *json = node != NULL ? node_json(node) : json_object();
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    bh_str out = {NULL, 0};

    if (text != NULL) {
        out.n = strlen(text);
        out.p = arena_strndup(arena, text, out.n);
        if (out.p == NULL)
            out.n = 0;
    }
    free(text);
    json_decref(json);
    return out;
}

static json_t *choices_json(const char *choices)
{
    json_t *list = json_array();

    for (const char *p = choices; *p != '\0';) {
        size_t n = strcspn(p, "|");

        json_array_append_new(list, json_stringn(p, n));
        p += n + (p[n] == '|');
    }
    return list;
}

static json_t *default_json(const bh_opt *o, struct arena *arena)
{
    const struct yaml_node *node = NULL;
    struct yaml_node scratch;

    if (o->type == BH_T_STR || o->type == BH_T_DURATION_MS || o->type == BH_T_SIZE ||
        o->type == BH_T_ENUM)
        return json_string(o->def);
    return options_default_node(o, arena, &scratch, &node) == 0 ? node_json(node) : NULL;
}

static json_t *type_json(const bh_opt *o)
{
    switch (o->type) {
    case BH_T_BOOL: return json_pack("{s:s}", "type", "boolean");
    case BH_T_INT: return json_pack("{s:s}", "type", "integer");
    case BH_T_DOUBLE: return json_pack("{s:s}", "type", "number");
    case BH_T_DURATION_MS:
        return json_pack("{s:[ss], s:s}", "type", "string", "integer", "pattern",
                         VALUE_DURATION_PATTERN);
    case BH_T_SIZE:
        return json_pack("{s:[ss], s:s}", "type", "string", "integer", "pattern",
                         VALUE_SIZE_PATTERN);
    case BH_T_ENUM: return json_pack("{s:o}", "enum", choices_json(o->choices));
    case BH_T_STRLIST:
    case BH_T_CIDRLIST:
        return json_pack("{s:[ss], s:{s:s}}", "type", "array", "string", "items", "type", "string");
    case BH_T_MAP:
        return json_pack("{s:s, s:{s:[ssss]}}", "type", "object", "additionalProperties", "type",
                         "string", "number", "boolean", "integer");
    case BH_T_SECRET: return json_pack("{s:s, s:b}", "type", "string", "writeOnly", 1);
    default: return json_pack("{s:s}", "type", "string");
    }
}

static void add_range(json_t *json, const bh_opt *o)
{
    char min[40], max[40];

    if (o->min == 0 && o->max == 0)
        return;
    if (o->type == BH_T_INT || o->type == BH_T_DOUBLE) {
        bool is_whole = o->type == BH_T_INT && fabs(o->min) < 9e15 && fabs(o->max) < 9e15;

        json_object_set_new(json, "minimum",
                            is_whole ? json_integer((json_int_t)o->min) : json_real(o->min));
        json_object_set_new(json, "maximum",
                            is_whole ? json_integer((json_int_t)o->max) : json_real(o->max));
    } else if (o->type == BH_T_DURATION_MS || o->type == BH_T_SIZE) {
        options_print_number(o, o->min, min, sizeof min);
        options_print_number(o, o->max, max, sizeof max);
        json_object_set_new(json, "x-range", json_sprintf("%s to %s", min, max));
    }
}

json_t *options_schema(const bh_plugin *desc)
{
    json_t *properties = json_object(), *required = json_array(), *schema;
    struct arena arena;

    arena_init(&arena, 1u << 20);
    for (const bh_opt *o = desc->options; o != NULL && o->name != NULL; o++) {
        json_t *json = type_json(o);

        if (json == NULL)
            continue;
        if (o->help != NULL)
            json_object_set_new(json, "description", json_string(o->help));
        add_range(json, o);
        if (o->def != NULL && o->type != BH_T_SECRET)
            json_object_set_new(json, "default", default_json(o, &arena));
        if (o->flags & BH_O_DEPRECATED)
            json_object_set_new(json, "deprecated", json_true());
        if (o->flags & BH_O_REQUIRED)
            json_array_append_new(required, json_string(o->name));
        json_object_set_new(properties, o->name, json);
    }
    arena_fini(&arena);
    schema = json_pack("{s:s, s:b, s:o}", "type", "object", "additionalProperties", 0, "properties",
                       properties);
    if (schema != NULL && json_array_size(required) > 0)
        json_object_set(schema, "required", required);
    json_decref(required);
    return schema;
}
