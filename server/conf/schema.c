#include "conf/schema.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "base/must.h"
#include "conf/config.h"
#include "conf/yaml.h"

#define PATH_SIZE 256 /* of a dotted key path; longer ones are cut */
#define MAX_KEYS  32  /* of one mapping */

void schema_error(struct schema_reader *r, const struct yaml_node *node, const char *path,
                  const char *hint, const char *fmt, ...)
{
    char what[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    diag_add(r->diag, r->file, node->line, node->column, hint, "%s%s%s", path,
             path[0] != '\0' ? ": " : "", what);
    r->n_bad++;
}

void schema_print_choices(const char *choices, const char *last_separator, char *buf, size_t size)
{
    size_t len = 0;

    buf[0] = '\0';
    for (const char *p = choices; *p != '\0' && len < size;) {
        size_t n = strcspn(p, "|");
        const char *before = p == choices ? "" : p[n] == '\0' ? last_separator : ", ";

        len += (size_t)snprintf(buf + len, size - len, "%s%.*s", before, (int)n, p);
        p += n + (p[n] == '|');
    }
}

static const char *kind_name(enum yaml_kind kind)
{
    return kind == YAML_SCALAR ? "a single value" : kind == YAML_LIST ? "a list" : "a mapping";
}

/* An integer member of any width, little-endian. */
static void store(const struct schema *s, void *base, unsigned long long v)
{
    must(s->size == 1 || s->size == 2 || s->size == 4 || s->size == 8);
    memcpy((char *)base + s->off, &v, s->size);
}

static void print_bound(const struct schema *s, long long v, char *buf, size_t size)
{
    if (s->kind == SCHEMA_DURATION)
        value_print_duration((unsigned long long)v, buf, size);
    else if (s->kind == SCHEMA_SIZE)
        value_print_size((unsigned long long)v, buf, size);
    else
        snprintf(buf, size, "%lld", v);
}

static void read_number(struct schema_reader *r, const struct schema *s,
                        const struct yaml_node *node, const char *path, void *base)
{
    unsigned long long u = 0;
    char min[32], max[32];
    const char *why;
    long long v = 0;
    int e;

    if (s->kind == SCHEMA_INT)
        e = value_int(node->text, &v, &why);
    else if (s->kind == SCHEMA_SIZE)
        e = value_size(node->text, &u, &why);
    else
        e = value_duration_ms(node->text, &u, &why);
    if (e < 0) {
        schema_error(r, node, path, NULL, "expected %s, not '%.60s'", why, node->text);
        return;
    }
    if (s->kind != SCHEMA_INT)
        v = u > INT64_MAX ? INT64_MAX : (long long)u;
    if ((s->min != 0 || s->max != 0) && (v < s->min || v > s->max)) {
        print_bound(s, s->min, min, sizeof min);
        print_bound(s, s->max, max, sizeof max);
        if (s->min == s->max)
            schema_error(r, node, path, NULL, "must be %s, not %.60s", min, node->text);
        else
            schema_error(r, node, path, NULL, "must be from %s to %s, not %.60s", min, max,
                         node->text);
        return;
    }
    store(s, base, (unsigned long long)v);
}

static void read_enum(struct schema_reader *r, const struct schema *s, const struct yaml_node *node,
                      const char *path, void *base)
{
    char names[256];
    long long i = s->min;

    for (const char *p = s->form; *p != '\0'; i++) {
        size_t n = strcspn(p, "|");

        if (n == node->len && memcmp(p, node->text, n) == 0) {
            store(s, base, (unsigned long long)i);
            return;
        }
        p += n + (p[n] == '|');
    }
    schema_print_choices(s->form, " or ", names, sizeof names);
    schema_error(r, node, path, NULL, "expected %s, not '%.60s'", names, node->text);
}

static void read_strings(struct schema_reader *r, const struct schema *s,
                         const struct yaml_node *node, const char *path, void *base)
{
    if (node->n < s->min || (s->max != 0 && node->n > s->max))
        schema_error(r, node, path, NULL,
                     node->n < s->min ? "the list is empty" : "too long a list");
    for (int i = 0; i < node->n; i++) {
        const struct yaml_node *item = node->item[i];

        if (!item->is_bad && (item->kind != YAML_SCALAR || item->is_null || item->len == 0))
            schema_error(r, item, path, NULL, "item %d: expected a word, not %s", i + 1,
                         item->kind == YAML_SCALAR ? "nothing" : kind_name(item->kind));
    }
    memcpy((char *)base + s->off, &node, sizeof node);
}

/* Letters, digits, '_', '-' and '.': what can stand in logs and file names without quotes. */
static bool is_name(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");

    return n > 0 && n < 64 && s[n] == '\0' && s[0] != '.' && s[0] != '-';
}

static void read_value(struct schema_reader *r, const struct schema *s,
                       const struct yaml_node *node, const char *path, void *base);

static void read_items(struct schema_reader *r, const struct schema *s,
                       const struct yaml_node *node, const char *path, void *base)
{
    const struct schema_items *it = s->items;
    int n = node->n;
    char sub[PATH_SIZE], *array;

    if (s->min > n)
        schema_error(r, node, path, NULL, "at least %lld must be given", s->min);
    if (s->max != 0 && n > s->max) {
        schema_error(r, node->item[s->max], path, NULL, "more than %lld are given", s->max);
        n = (int)s->max;
    }
    array = arena_zalloc(r->arena, (size_t)n * it->size + 1);
    if (array == NULL) {
        schema_error(r, node, path, NULL, "no memory left for it");
        return;
    }
    for (int i = 0; i < n; i++) {
        const struct yaml_node *place = s->kind == SCHEMA_NAMED ? node->key[i] : node->item[i];
        struct config_pos pos = {place->line, place->column};
        char *item = array + (size_t)i * it->size;

        memcpy(item + it->pos, &pos, sizeof pos);
        if (s->kind == SCHEMA_NAMED) {
            snprintf(sub, sizeof sub, "%s.%s", path, place->text);
            memcpy(item + it->name, &place->text, sizeof place->text);
            if (!is_name(place->text))
                schema_error(r, place, path, "use letters, digits, '_', '-' and '.', at most 63",
                             "'%.80s' cannot be a name", place->text);
        } else {
            snprintf(sub, sizeof sub, "%s[%d]", path, i + 1);
        }
        if (s->keys[0].key[0] == '\0')
            read_value(r, &s->keys[0], node->item[i], sub, item);
        else
            schema_read(r, s->keys, node->item[i], sub, item);
    }
    memcpy((char *)base + it->array, &array, sizeof array);
    memcpy((char *)base + it->count, &n, sizeof n);
}

/* The kind of node that a key wants. */
static enum yaml_kind wanted_kind(enum schema_kind kind)
{
    switch (kind) {
    case SCHEMA_STRINGS:
    case SCHEMA_LIST: return YAML_LIST;
    case SCHEMA_NODE:
    case SCHEMA_MAP:
    case SCHEMA_NAMED: return YAML_MAP;
    default: return YAML_SCALAR;
    }
}

static void read_default(struct schema_reader *r, const struct schema *s,
                         const struct yaml_node *map, const char *path, void *base);

static void read_value(struct schema_reader *r, const struct schema *s,
                       const struct yaml_node *node, const char *path, void *base)
{
    enum yaml_kind want = wanted_kind(s->kind);

    if (s->kind == SCHEMA_CUSTOM && s->keys != NULL && node->kind == YAML_MAP && !node->is_bad) {
        read_default(r, s, node, path, base); /* of what the mapping leaves out */
        schema_read(r, s->keys, node, path, base);
        return;
    }
    if (s->kind == SCHEMA_ABSENT) {
        schema_error(r, node, path, NULL, "%s", s->help);
        return;
    }
    if (node->kind != want) {
        schema_error(
            r, node, path,
            want == YAML_LIST && node->kind == YAML_SCALAR ? "put it in brackets: [...]" : NULL,
            "expected %s%s, not %s", kind_name(want),
            s->kind == SCHEMA_CUSTOM && s->keys != NULL ? " or a mapping" : "",
            node->kind == YAML_SCALAR && node->is_null ? "nothing" : kind_name(node->kind));
        return;
    }
    if (node->is_bad)
        return;
    if (want == YAML_SCALAR && (node->is_null || (node->len == 0 && s->kind != SCHEMA_STRING))) {
        schema_error(r, node, path, "give one, or leave the key out", "has no value");
        return;
    }
    switch (s->kind) {
    case SCHEMA_INT:
    case SCHEMA_SIZE:
    case SCHEMA_DURATION: read_number(r, s, node, path, base); break;
    case SCHEMA_ENUM: read_enum(r, s, node, path, base); break;
    case SCHEMA_STRING:
        if (node->len == 0)
            schema_error(r, node, path, "give one, or leave the key out", "is empty");
        memcpy((char *)base + s->off, &node->text, sizeof node->text);
        break;
    case SCHEMA_NODE: memcpy((char *)base + s->off, &node, sizeof node); break;
    case SCHEMA_STRINGS: read_strings(r, s, node, path, base); break;
    case SCHEMA_CUSTOM: s->read(r, node, path, base); break;
    case SCHEMA_MAP: schema_read(r, s->keys, node, path, (char *)base + s->off); break;
    case SCHEMA_LIST:
    case SCHEMA_NAMED: read_items(r, s, node, path, base); break;
    case SCHEMA_END:
    case SCHEMA_ABSENT: must(!"reached"); break;
    }
}

/* What holds when a key is not given. map: where it could have been. */
static void read_default(struct schema_reader *r, const struct schema *s,
                         const struct yaml_node *map, const char *path, void *base)
{
    struct yaml_node node = *map;

    if (s->is_required) {
        schema_error(r, map, "", NULL, "%s is missing", path);
    } else if (s->kind == SCHEMA_MAP) {
        node.n = 0; /* its own keys have defaults */
        schema_read(r, s->keys, &node, path, (char *)base + s->off);
    } else if (s->def != NULL) {
        node.kind = YAML_SCALAR;
        node.text = s->def;
        node.len = strlen(s->def);
        node.is_null = node.is_quoted = false;
        read_value(r, s, &node, path, base);
    }
}

static void unknown_key(struct schema_reader *r, const struct schema *keys,
                        const struct yaml_node *key, const char *path)
{
    const char *names[MAX_KEYS], *near;
    char hint[512];
    size_t len;
    int n = 0;

    for (const struct schema *s = keys; s->kind != SCHEMA_END; s++) {
        must(n < MAX_KEYS);
        if (s->kind != SCHEMA_ABSENT)
            names[n++] = s->key;
    }
    /* Past DIAG_MAX nobody will see it, and a hostile file has many. */
    near = r->n_bad < DIAG_MAX ? value_nearest(key->text, names, n) : NULL;
    if (near != NULL) {
        snprintf(hint, sizeof hint, "did you mean '%s'?", near);
    } else {
        len = (size_t)snprintf(hint, sizeof hint, "the keys here are ");
        for (int i = 0; i < n && len < sizeof hint; i++)
            len += (size_t)snprintf(hint + len, sizeof hint - len, "%s%s", i > 0 ? ", " : "",
                                    names[i]);
    }
    schema_error(r, key, path, hint, "unknown key '%.80s'", key->text);
}

void schema_read(struct schema_reader *r, const struct schema *keys, const struct yaml_node *node,
                 const char *path, void *base)
{
    const char *dot = path[0] != '\0' ? "." : "";
    char sub[PATH_SIZE];

    if (node->kind != YAML_MAP) {
        schema_error(r, node, path, NULL, "expected a mapping (key: value), not %s",
                     node->kind == YAML_SCALAR && node->is_null ? "nothing"
                                                                : kind_name(node->kind));
        return;
    }
    for (int i = 0; i < node->n; i++) {
        const struct schema *s = keys;

        while (s->kind != SCHEMA_END && strcmp(s->key, node->key[i]->text) != 0)
            s++;
        if (s->kind == SCHEMA_END)
            unknown_key(r, keys, node->key[i], path);
    }
    for (const struct schema *s = keys; s->kind != SCHEMA_END; s++) {
        const struct yaml_node *value = yaml_get(node, s->key);

        snprintf(sub, sizeof sub, "%s%s%s", path, dot, s->key);
        /* `chains:` with nothing but comments below it: as if it were not there. */
        if (value != NULL && value->kind == YAML_SCALAR && value->is_null && !value->is_bad &&
            wanted_kind(s->kind) != YAML_SCALAR)
            value = NULL;
        if (value != NULL)
            read_value(r, s, value, sub, base);
        else
            read_default(r, s, node, sub, base);
    }
}
