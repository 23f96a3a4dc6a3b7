/*
 * options.h - a plugin's declared options: checked, defaulted, written into its config struct.
 */
#ifndef PLUGIN_OPTIONS_H
#define PLUGIN_OPTIONS_H

#include <bulkhead.h>

struct arena;
struct diag;
struct yaml_node;

#define OPTIONS_MAX 256 /* that one plugin declares */

/* Is the declaration itself sound: types, sizes within cfg_size, ranges, defaults? Its strings must
 * be readable (manifest.c sees to that). 0, or -EINVAL and one line about it in what. */
int options_check(const bh_plugin *desc, char *what, size_t size);

/* "duration", ...; "?" for an unknown type. */
const char *options_type_name(int32_t type);
/* A bound of the option with its unit: 10s, 8KiB, 599. */
void options_print_number(const bh_opt *o, double v, char *buf, size_t size);

/*
 * Checks node (the plugin's `config:` mapping, NULL when absent) against the declaration and, when
 * cfg is not NULL, writes the values into it (desc->cfg_size bytes, zeroed here). Strings and lists
 * are allocated from arena. where: the file name for diag. Reports all mistakes: unknown options
 * with the nearest known one, wrong types, values out of range, missing required ones, each with
 * file:line:column. 0 or -EINVAL.
 */
int options_apply(const bh_plugin *desc, const char *instance, const char *where,
                  const struct yaml_node *node, int line, int column, struct arena *arena,
                  void *cfg, struct diag *diag);

/* The default (o->def is not NULL) as a node: YAML for lists and maps that look like it, a text, in
 * *scratch, for all else. 0 or -errno. */
int options_default_node(const bh_opt *o, struct arena *arena, struct yaml_node *scratch,
                         const struct yaml_node **out);

/* The declaration as a JSON Schema object (jansson), for `bulkhead schema`. NULL: no memory. */
struct json_t *options_schema(const bh_plugin *desc);

/* The node as JSON text in arena ("{}" for NULL). */
bh_str options_json(const struct yaml_node *node, struct arena *arena);

#endif
