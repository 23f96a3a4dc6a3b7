/*
 * schema.h - the keys of the config file as one table.
 *
 * A key's name, type, range, default and help stand in that table and nowhere else (keys*.c). The
 * reader below, `bulkhead schema` and docs/configuration.md are all made from it.
 */
#ifndef CONF_SCHEMA_H
#define CONF_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>

struct arena;
struct diag;
struct yaml_node;

enum schema_kind {
    SCHEMA_END,
    SCHEMA_INT,      /* any integer member */
    SCHEMA_SIZE,     /* any integer member, bytes */
    SCHEMA_DURATION, /* any integer member, ms */
    SCHEMA_ENUM,     /* any integer member: min + the index in form "a|b|c" */
    SCHEMA_STRING,   /* const char * */
    SCHEMA_NODE,     /* const struct yaml_node *: a mapping, kept as it stands */
    SCHEMA_STRINGS,  /* const struct yaml_node *: a list of strings, kept as it stands */
    SCHEMA_CUSTOM,   /* a scalar: read() does it. With `keys` it may also be a mapping of those */
    SCHEMA_MAP,      /* the mapping of `keys`, into the same struct, or the one at `off` in it */
    SCHEMA_LIST,     /* a list of such mappings, into an array: `items` */
    SCHEMA_NAMED,    /* NAME: such a mapping, into an array; a key "" stands for the value itself */
    SCHEMA_ABSENT,   /* of a later version: refused, help says why */
};

struct schema_reader {
    const char *file;
    struct arena *arena;
    struct diag *diag;
    int n_bad;
};

struct schema;

/* Where the items of a list go: the array and its length are members of the enclosing struct. */
struct schema_items {
    size_t size;         /* of one item */
    size_t array, count; /* offsets */
    size_t pos;          /* offset of a struct config_pos in the item */
    size_t name;         /* offset of a const char *, for SCHEMA_NAMED */
};

struct schema {
    const char *key;
    enum schema_kind kind;
    bool is_required;
    const char *def;     /* as in YAML; NULL: none, the member stays 0 */
    long long min, max;  /* of the value, or of the number of items; both 0: any */
    const char *form;    /* ENUM: the choices; STRING, CUSTOM: what it looks like, for people */
    const char *pattern; /* STRING, CUSTOM: a regular expression for the JSON Schema, or NULL */
    const char *help;    /* one line */
    const struct schema *keys; /* ends with SCHEMA_END */
    const struct schema_items *items;
    size_t off, size; /* the member */
    /* CUSTOM: writes into base (the struct that has the member) and answers 0, or reports and
     * answers -EINVAL. path names the key, for messages. */
    int (*read)(struct schema_reader *r, const struct yaml_node *node, const char *path,
                void *base);
};

/* The whole file; ends with SCHEMA_END. */
extern const struct schema config_keys[];

/* Reads a mapping into base, which must be zeroed: values, defaults, arrays. Every mistake goes to
 * r->diag and is counted in r->n_bad; what is wrong keeps its 0. path: "" for the whole file. */
void schema_read(struct schema_reader *r, const struct schema *keys, const struct yaml_node *node,
                 const char *path, void *base);

/* Reports "PATH: ..." at a node, and counts it. */
__attribute__((format(printf, 5, 6))) void schema_error(struct schema_reader *r,
                                                        const struct yaml_node *node,
                                                        const char *path, const char *hint,
                                                        const char *fmt, ...);

/* "a, b, c" or "a, b or c" of choices "a|b|c". */
void schema_print_choices(const char *choices, const char *last_separator, char *buf, size_t size);

#endif
