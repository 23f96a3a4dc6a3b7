/*
 * yaml.h - a YAML file as a tree of nodes that remember where they stood.
 *
 * Built on libyaml's parser events. Aliases are resolved (sharing nodes); merge keys, tags and
 * several documents are refused. Duplicate keys are a mistake. ${ENV} and ${ENV:-default} are
 * replaced in plain and double-quoted scalars ($${ stands for a literal ${); in single quotes they
 * are left alone. Limits keep hostile files cheap: see yaml_load().
 */
#ifndef CONF_YAML_H
#define CONF_YAML_H

#include <stdbool.h>
#include <stddef.h>

struct arena;
struct diag;

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

struct yaml_node {
    enum yaml_kind kind;
    int line, column; /* from 1 */
    /* YAML_SCALAR */
    const char *text; /* NUL-terminated */
    size_t len;
    bool is_quoted;
    bool is_null; /* plain and empty, ~ or null */
    bool is_bad;  /* its ${ENV} was refused, and reported: do not judge the text */
    /* YAML_LIST, YAML_MAP: children in order; for a map, key[i] belongs to item[i] */
    const struct yaml_node **item;
    const struct yaml_node **key;
    int n;
};

#define YAML_MAX_FILE  (1u << 20)
#define YAML_MAX_DEPTH 32
/* Keys included; an alias counts as all that it stands for. As many routes as there may be take 8 to 11 each. */
#define YAML_MAX_NODES   50000
#define YAML_MAX_ANCHORS 100

/* 0 and the tree in *out, or -errno and the reasons in diag: every bad key and variable, but only
 * the first error of syntax. After -EINVAL *out may be set all the same (start with NULL): the file
 * is wrong, but the tree can be searched for more mistakes. Nodes live in arena. */
int yaml_load(const char *path, struct arena *arena, struct diag *diag,
              const struct yaml_node **out);

/* The same for text in memory; name stands for the file in diag. With expand false ${ENV} is left
 * as it is. text[n] must be a NUL; it is needed only during the call. */
int yaml_parse(const char *text, size_t n, const char *name, bool expand, struct arena *arena,
               struct diag *diag, const struct yaml_node **out);

/* The value of a key in a map, or NULL. */
const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key);

/* Parsers of scalar text, shared with plugin options. 0, or -EINVAL with *why a short phrase
 * ("a duration such as 50ms, 10s, 5m, 1h"). Values in the unit named; never overflow. */
int value_bool(const char *s, bool *out, const char **why); /* true false yes no on off */
int value_int(const char *s, long long *out, const char **why);
int value_double(const char *s, double *out, const char **why);
int value_duration_ms(const char *s, unsigned long long *out, const char **why);
int value_size(const char *s, unsigned long long *out, const char **why); /* bytes; kB, KiB, ... */
/* The same as regular expressions, for JSON Schemas. */
#define VALUE_DURATION_PATTERN "^(0|[0-9]+(\\.[0-9]+)? *(ms|s|m|h|d))$"
#define VALUE_SIZE_PATTERN     "^[0-9]+(\\.[0-9]+)? *(B|[kK]B|[KMGT]iB|[MGT]B)?$"

/* The shortest text that those parsers read back: 10s, 1500ms, 0; 8KiB, 1000. */
void value_print_duration(unsigned long long ms, char *buf, size_t size);
void value_print_size(unsigned long long bytes, char *buf, size_t size);

/* The candidate nearest to word (edit distance at most a third of its length), or NULL. */
const char *value_nearest(const char *word, const char *const *candidates, int n);

#endif
