/*
 * schema.c - `bulkhead schema`: the table of keys as JSON Schema, for editors.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "cli/cli.h"
#include "conf/config.h"
#include "conf/schema.h"
#include "conf/yaml.h"
#include "plugin/manifest.h"
#include "plugin/options.h"

static const char help[] =
    "usage: bulkhead schema [-c FILE] [--modules DIR]... [--json | --markdown]\n"
    "\n"
    "Prints the JSON Schema of the config file, options of the plugins included.\n"
    "\n"
    "  -c, --config FILE   look for plugins where this config file does (modules.path)\n"
    "      --modules DIR   look for plugins there; default: those that come with Bulkhead\n"
    "      --json          what it prints anyway, unless told otherwise\n"
    "      --markdown      print the reference of the config file instead, without plugins\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 the config is wrong.\n";

static json_t *keys_json(const struct schema *keys);

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

static json_t *strings_json(void)
{
    return json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "string");
}

static json_t *string_json(const struct schema *s)
{
    return s->pattern != NULL
               ? json_pack("{s:[ss], s:s}", "type", "string", "integer", "pattern", s->pattern)
               : json_pack("{s:s}", "type", "string");
}

static json_t *type_json(const struct schema *s)
{
    switch (s->kind) {
    case SCHEMA_INT: return json_pack("{s:s}", "type", "integer");
    case SCHEMA_SIZE:
        return json_pack("{s:[ss], s:s}", "type", "string", "integer", "pattern",
                         VALUE_SIZE_PATTERN);
    case SCHEMA_DURATION:
        return json_pack("{s:[ss], s:s}", "type", "string", "integer", "pattern",
                         VALUE_DURATION_PATTERN);
    case SCHEMA_ENUM: return json_pack("{s:o}", "enum", choices_json(s->form));
    case SCHEMA_CUSTOM:
        if (s->keys != NULL)
            return json_pack("{s:[o,o]}", "anyOf", string_json(s), keys_json(s->keys));
        return string_json(s);
    case SCHEMA_STRING: return string_json(s);
    case SCHEMA_NODE: return json_pack("{s:s}", "type", "object");
    case SCHEMA_STRINGS: return strings_json();
    case SCHEMA_LIST: return json_pack("{s:s, s:o}", "type", "array", "items", keys_json(s->keys));
    case SCHEMA_NAMED:
        return json_pack("{s:s, s:o}", "type", "object", "additionalProperties",
                         s->keys[0].key[0] == '\0' ? strings_json() : keys_json(s->keys));
    default: return keys_json(s->keys);
    }
}

static json_t *key_json(const struct schema *s)
{
    json_t *json = type_json(s);

    json_object_set_new(json, "description", json_string(s->help));
    if (s->def != NULL && s->kind == SCHEMA_INT)
        json_object_set_new(json, "default", json_integer(atoll(s->def)));
    else if (s->def != NULL)
        json_object_set_new(json, "default", json_string(s->def));
    if (s->kind == SCHEMA_INT && (s->min != 0 || s->max != 0)) {
        json_object_set_new(json, "minimum", json_integer(s->min));
        json_object_set_new(json, "maximum", json_integer(s->max));
    }
    if (s->kind == SCHEMA_LIST || s->kind == SCHEMA_STRINGS) {
        if (s->min != 0)
            json_object_set_new(json, "minItems", json_integer(s->min));
        if (s->max != 0)
            json_object_set_new(json, "maxItems", json_integer(s->max));
    }
    return json;
}

static json_t *keys_json(const struct schema *keys)
{
    json_t *properties = json_object(), *required = json_array(), *json;

    for (const struct schema *s = keys; s->kind != SCHEMA_END; s++) {
        if (s->kind == SCHEMA_ABSENT)
            continue;
        json_object_set_new(properties, s->key, key_json(s));
        if (s->is_required)
            json_array_append_new(required, json_string(s->key));
    }
    json = json_pack("{s:s, s:b, s:o}", "type", "object", "additionalProperties", 0, "properties",
                     properties);
    if (json_array_size(required) > 0)
        json_object_set(json, "required", required);
    json_decref(required);
    return json;
}

/* {"if": {module is NAME}, "then": {config is the plugin's}} for each module found. */
static json_t *module_conditions(const char *const *dirs, int n)
{
    char **names = manifest_list(dirs, n), path[4096];
    json_t *list = json_array();

    for (char **name = names; name != NULL && *name != NULL; name++) {
        struct manifest *m;

        if (manifest_find(*name, dirs, n, path, sizeof path) < 0 ||
            manifest_read(path, NULL, NULL, &m) < 0)
            continue;
        json_array_append_new(list, json_pack("{s:{s:{s:{s:s}}}, s:{s:{s:o}}}", "if", "properties",
                                              "module", "const", *name, "then", "properties",
                                              "config", options_schema(m->desc)));
        manifest_destroy(&m);
    }
    manifest_list_free(&names);
    return list;
}

static int print_schema(const char *const *dirs, int n)
{
    json_t *schema = keys_json(config_keys), *conditions = module_conditions(dirs, n), *plugin;

    json_object_set_new(schema, "$schema", json_string("http://json-schema.org/draft-07/schema#"));
    json_object_set_new(schema, "title", json_string("Configuration of Bulkhead"));
    plugin = json_object_get(json_object_get(json_object_get(schema, "properties"), "plugins"),
                             "additionalProperties");
    if (json_array_size(conditions) > 0)
        json_object_set(plugin, "allOf", conditions);
    json_decref(conditions);
    return cli_print_json(schema);
}

/* module_path of a config file that may be wrong in other places. */
static int print_for_config(const char *path)
{
    struct config *cfg;
    struct diag diag;
    int r;

    diag_init(&diag);
    r = config_load(path, &diag, &cfg);
    diag_print(&diag, stderr);
    diag_fini(&diag);
    if (r < 0)
        return CLI_BAD_INPUT;
    r = print_schema(cfg->module_path, cfg->n_module_paths);
    config_destroy(&cfg);
    return r;
}

int cli_schema(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"modules", required_argument, NULL, 'm'},
        {"json", no_argument, NULL, 'j'},         {"markdown", no_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},         {0}};
    const char *path = NULL, *dirs[32];
    bool as_markdown = false, as_json = false;
    struct arena arena;
    int c, n = 0, r;

    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        if (c == 'h')
            return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        if (c == 'c')
            path = optarg;
        else if (c == 'd')
            as_markdown = true;
        else if (c == 'j')
            as_json = true;
        else if (c == 'm' && n < (int)(sizeof dirs / sizeof dirs[0]))
            dirs[n++] = optarg;
        else
            return cli_usage_error(argv);
    }
    if (optind < argc || (path != NULL && n > 0) || (as_json && as_markdown))
        return cli_usage_error(argv);
    if (as_markdown) {
        cli_print_markdown();
        return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
    }
    if (path != NULL)
        return print_for_config(path);
    arena_init(&arena, 64u << 10);
    if (n == 0)
        n = config_default_module_dirs(&arena, dirs);
    r = print_schema(dirs, n);
    arena_fini(&arena);
    return r;
}
