/*
 * yaml.c - from libyaml's events to a tree, with limits.
 *
 * libyaml hands out one event at a time, so hostile nesting is refused at the event that goes too
 * deep, and an alias is charged with the size of what it stands for: memory stays bounded by
 * YAML_MAX_NODES whatever the file says.
 */
#include "conf/yaml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/arena.h"
#include "base/diag.h"
#include "base/fd.h"
#include "conf/yaml_guess.h"
#include "conf/yaml_text.h"

struct anchor {
    const char *name;
    const struct yaml_node *node;
    int n_nodes, depth; /* of the whole subtree */
};

struct builder {
    yaml_parser_t parser;
    const char *text; /* the file */
    const char *file; /* its name */
    bool expand;
    struct arena *arena;
    struct diag *diag;
    int n_nodes;
    struct anchor anchor[YAML_MAX_ANCHORS];
    int n_anchors;
    int n_bad; /* mistakes that do not stop the parser */
};

/* A place as yaml_event_t has it counts from 0. */
#define AT(mark) (int)(mark).line + 1, (int)(mark).column + 1

static int check_text(struct builder *b, const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    int line = 1, column = 1;

    for (size_t i = 0; i < n;) {
        size_t len = yaml_utf8_length(s + i, n - i);

        if (len == 0) {
            diag_add(b->diag, b->file, line, column, "save the file as UTF-8",
                     s[i] < 0x80 ? "control character 0x%02x" : "byte 0x%02x is not UTF-8", s[i]);
            return -EINVAL;
        }
        column++;
        if (s[i] == '\n') {
            line++;
            column = 1;
        }
        i += len;
    }
    return 0;
}

/* ---- The tree ----------------------------------------------------------------------------- */

static int out_of_memory(struct builder *b)
{
    diag_add(b->diag, b->file, 0, 0, NULL, "too large: no memory left for it");
    return -ENOMEM;
}

static int syntax_error(struct builder *b)
{
    const yaml_parser_t *p = &b->parser;
    yaml_mark_t mark = p->problem_mark;
    char what[256], hint[128];

    if (p->error == YAML_MEMORY_ERROR)
        return out_of_memory(b);
    if (p->context != NULL)
        snprintf(what, sizeof what, "%s %s (line %d): ", "not YAML:", p->context,
                 (int)p->context_mark.line + 1);
    else
        snprintf(what, sizeof what, "not YAML: ");
    diag_add(b->diag, b->file, AT(mark), yaml_guess(p, b->text, hint, sizeof hint), "%s%s", what,
             p->problem != NULL ? p->problem : "it cannot be read");
    return -EINVAL;
}

static int next_event(struct builder *b, yaml_event_t *ev)
{
    return yaml_parser_parse(&b->parser, ev) ? 0 : syntax_error(b);
}

static int count_nodes(struct builder *b, const yaml_event_t *ev, int n)
{
    b->n_nodes += n;
    if (b->n_nodes <= YAML_MAX_NODES)
        return 0;
    diag_add(b->diag, b->file, AT(ev->start_mark), "an alias counts as all that it stands for",
             "more than %d values and keys", YAML_MAX_NODES);
    return -E2BIG;
}

static int refuse_tag(struct builder *b, const yaml_event_t *ev, const yaml_char_t *tag)
{
    if (tag == NULL)
        return 0;
    diag_add(b->diag, b->file, AT(ev->start_mark), NULL, "YAML tags (%.40s) are not used here",
             (const char *)tag);
    b->n_bad++;
    return 0;
}

/* Anchors are known once their node is complete: no alias can stand within what it stands for. */
static int add_anchor(struct builder *b, const yaml_event_t *ev, const yaml_char_t *name,
                      const struct yaml_node *node, int n_nodes, int depth)
{
    struct anchor *a = NULL;

    if (name == NULL)
        return 0;
    for (int i = 0; i < b->n_anchors && a == NULL; i++)
        a = strcmp(b->anchor[i].name, (const char *)name) == 0 ? &b->anchor[i] : NULL;
    if (a == NULL) {
        if (b->n_anchors == YAML_MAX_ANCHORS) {
            diag_add(b->diag, b->file, AT(ev->start_mark), NULL, "more than %d anchors",
                     YAML_MAX_ANCHORS);
            return -E2BIG;
        }
        a = &b->anchor[b->n_anchors];
        a->name = arena_strndup(b->arena, (const char *)name, strlen((const char *)name));
        if (a->name == NULL)
            return out_of_memory(b);
        b->n_anchors++;
    }
    a->node = node;
    a->n_nodes = n_nodes;
    a->depth = depth;
    return 0;
}

static int find_alias(struct builder *b, const yaml_event_t *ev, int depth,
                      const struct yaml_node **out, int *height)
{
    const char *name = (const char *)ev->data.alias.anchor;

    for (int i = 0; i < b->n_anchors; i++) {
        const struct anchor *a = &b->anchor[i];

        if (strcmp(a->name, name) != 0)
            continue;
        if (depth + a->depth > YAML_MAX_DEPTH) {
            diag_add(b->diag, b->file, AT(ev->start_mark), NULL, "nested deeper than %d levels",
                     YAML_MAX_DEPTH);
            return -E2BIG;
        }
        *out = a->node;
        *height = a->depth;
        return count_nodes(b, ev, a->n_nodes);
    }
    diag_add(b->diag, b->file, AT(ev->start_mark), "an anchor (&NAME) stands before its aliases",
             "unknown alias *%.60s", name);
    return -EINVAL;
}

static struct yaml_node *new_node(struct builder *b, const yaml_event_t *ev, enum yaml_kind kind)
{
    struct yaml_node *node = arena_zalloc(b->arena, sizeof *node);

    if (node == NULL)
        return NULL;
    node->kind = kind;
    node->line = (int)ev->start_mark.line + 1;
    node->column = (int)ev->start_mark.column + 1;
    return node;
}

static int build_scalar(struct builder *b, const yaml_event_t *ev, bool is_key,
                        const struct yaml_node **out)
{
    const char *s = (const char *)ev->data.scalar.value;
    yaml_scalar_style_t style = ev->data.scalar.style;
    struct yaml_node *node = new_node(b, ev, YAML_SCALAR);
    size_t n = ev->data.scalar.length;
    char *text;

    if (node == NULL)
        return out_of_memory(b);
    if (memchr(s, '\0', n) != NULL) {
        diag_add(b->diag, b->file, AT(ev->start_mark), NULL, "a NUL character cannot be used");
        b->n_bad++;
    }
    node->is_quoted = style != YAML_PLAIN_SCALAR_STYLE;
    node->is_null = !node->is_quoted && (n == 0 || strcmp(s, "~") == 0 || strcmp(s, "null") == 0);
    if (b->expand && !is_key && memchr(s, '$', n) != NULL &&
        (style == YAML_PLAIN_SCALAR_STYLE || style == YAML_DOUBLE_QUOTED_SCALAR_STYLE)) {
        ssize_t len = yaml_expand(b->diag, b->file, AT(ev->start_mark), s, n, NULL);

        if (len < 0) {
            b->n_bad++;
            node->is_bad = true;
            len = 0;
            text = arena_strndup(b->arena, "", 0);
        } else if ((text = arena_alloc_aligned(b->arena, (size_t)len + 1, 1)) != NULL) {
            yaml_expand(b->diag, b->file, AT(ev->start_mark), s, n, text);
            text[len] = '\0';
        }
        n = (size_t)len;
        node->is_null = !node->is_quoted && n == 0;
    } else {
        text = arena_strndup(b->arena, s, n);
    }
    if (text == NULL)
        return out_of_memory(b);
    node->text = text;
    node->len = n;
    *out = node;
    return 0;
}

/* Children while their number is not known. */
struct children {
    const struct yaml_node **item, **key;
    int n, cap;
};

static int add_child(struct children *c, const struct yaml_node *key, const struct yaml_node *item)
{
    if (c->n == c->cap) {
        int cap = c->cap != 0 ? 2 * c->cap : 8;
        const struct yaml_node **items, **keys;

        items = reallocarray(c->item, (size_t)cap, sizeof *items);
        if (items == NULL)
            return -ENOMEM;
        c->item = items;
        keys = reallocarray(c->key, (size_t)cap, sizeof *keys);
        if (keys == NULL)
            return -ENOMEM;
        c->key = keys;
        c->cap = cap;
    }
    c->key[c->n] = key;
    c->item[c->n++] = item;
    return 0;
}

static int build(struct builder *b, const yaml_event_t *ev, int depth, const struct yaml_node **out,
                 int *height);

/* The event of a key, up to its node; a bad key is reported, and its value still read. */
static int build_key(struct builder *b, const yaml_event_t *ev, const struct children *seen,
                     const struct yaml_node **out)
{
    int r;

    if (ev->type != YAML_SCALAR_EVENT) {
        diag_add(b->diag, b->file, AT(ev->start_mark), NULL, "a key must be a plain word");
        return -EINVAL; /* nobody writes this by mistake */
    }
    r = count_nodes(b, ev, 1);
    if (r == 0)
        r = build_scalar(b, ev, true, out);
    if (r == 0)
        r = add_anchor(b, ev, ev->data.scalar.anchor, *out, 1, 1);
    if (r < 0)
        return r;
    refuse_tag(b, ev, ev->data.scalar.tag);
    if (strcmp((*out)->text, "<<") == 0 && !(*out)->is_quoted) {
        diag_add(b->diag, b->file, AT(ev->start_mark), "write the keys out",
                 "merge keys (<<) are not used here");
        b->n_bad++;
    }
    for (int i = 0; i < seen->n; i++) {
        const struct yaml_node *other = seen->key[i];

        if (other->len == (*out)->len && memcmp(other->text, (*out)->text, other->len) == 0) {
            diag_add(b->diag, b->file, AT(ev->start_mark), NULL,
                     "duplicate key '%.60s': it stands in line %d already", (*out)->text,
                     other->line);
            b->n_bad++;
            break;
        }
    }
    return 0;
}

static int build_children(struct builder *b, struct yaml_node *node, int depth,
                          struct children *all, int *height)
{
    yaml_event_type_t end = node->kind == YAML_MAP ? YAML_MAPPING_END_EVENT
                                                   : YAML_SEQUENCE_END_EVENT;
    yaml_event_t ev;
    int r;

    for (;;) {
        const struct yaml_node *key = NULL, *item;
        int below = 0;

        r = next_event(b, &ev);
        if (r < 0)
            return r;
        if (ev.type == end) {
            yaml_event_delete(&ev);
            return 0;
        }
        if (node->kind == YAML_MAP) {
            r = build_key(b, &ev, all, &key);
            yaml_event_delete(&ev);
            if (r == 0)
                r = next_event(b, &ev);
            if (r < 0)
                return r;
        }
        r = build(b, &ev, depth + 1, &item, &below);
        yaml_event_delete(&ev);
        if (r < 0)
            return r;
        if (below + 1 > *height)
            *height = below + 1;
        if (add_child(all, key, item) < 0)
            return out_of_memory(b);
    }
}

static int build_collection(struct builder *b, const yaml_event_t *ev, enum yaml_kind kind,
                            int depth, const struct yaml_node **out, int *height)
{
    struct yaml_node *node = new_node(b, ev, kind);
    struct children all = {0};
    size_t size;
    int r;

    if (node == NULL)
        return out_of_memory(b);
    *height = 1;
    r = build_children(b, node, depth, &all, height);
    if (r < 0)
        goto out;
    node->n = all.n;
    size = (size_t)all.n * sizeof node->item[0];
    node->item = arena_alloc(b->arena, size + 1);
    node->key = kind == YAML_MAP ? arena_alloc(b->arena, size + 1) : NULL;
    if (node->item == NULL || (kind == YAML_MAP && node->key == NULL)) {
        r = out_of_memory(b);
        goto out;
    }
    if (all.n > 0)
        memcpy(node->item, all.item, size);
    if (all.n > 0 && kind == YAML_MAP)
        memcpy(node->key, all.key, size);
    *out = node;

out:
    free(all.item);
    free(all.key);
    return r;
}

/* height: levels of the node itself, 1 for a scalar. */
static int build(struct builder *b, const yaml_event_t *ev, int depth, const struct yaml_node **out,
                 int *height)
{
    const yaml_char_t *anchor = NULL;
    int n_before = b->n_nodes, r;

    if (depth > YAML_MAX_DEPTH) {
        diag_add(b->diag, b->file, AT(ev->start_mark), NULL, "nested deeper than %d levels",
                 YAML_MAX_DEPTH);
        return -E2BIG;
    }
    *height = 1;
    if (ev->type == YAML_ALIAS_EVENT)
        return find_alias(b, ev, depth, out, height);
    r = count_nodes(b, ev, 1);
    if (r < 0)
        return r;
    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        anchor = ev->data.scalar.anchor;
        refuse_tag(b, ev, ev->data.scalar.tag);
        r = build_scalar(b, ev, false, out);
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = ev->data.sequence_start.anchor;
        refuse_tag(b, ev, ev->data.sequence_start.tag);
        r = build_collection(b, ev, YAML_LIST, depth, out, height);
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = ev->data.mapping_start.anchor;
        refuse_tag(b, ev, ev->data.mapping_start.tag);
        r = build_collection(b, ev, YAML_MAP, depth, out, height);
        break;
    default:
        diag_add(b->diag, b->file, AT(ev->start_mark), NULL, "not YAML: a value was expected");
        return -EINVAL;
    }
    return r < 0 ? r : add_anchor(b, ev, anchor, *out, b->n_nodes - n_before, *height);
}

/* One document, and nothing after it. */
static int build_document(struct builder *b, const struct yaml_node **out)
{
    bool is_started = false;
    yaml_event_t ev;
    int height, r;

    for (;;) {
        yaml_event_type_t type;

        r = next_event(b, &ev);
        if (r < 0)
            return r;
        type = ev.type;
        if (type == YAML_DOCUMENT_START_EVENT && *out != NULL) {
            diag_add(b->diag, b->file, AT(ev.start_mark), NULL,
                     "a second document (---) is not used here");
            r = -EINVAL;
        } else if (type == YAML_DOCUMENT_START_EVENT) {
            is_started = true;
        } else if (is_started && *out == NULL && type != YAML_STREAM_END_EVENT) {
            r = build(b, &ev, 1, out, &height);
        }
        yaml_event_delete(&ev);
        if (r < 0)
            return r;
        if (type == YAML_STREAM_END_EVENT)
            break;
    }
    if (*out == NULL || ((*out)->kind == YAML_SCALAR && (*out)->is_null)) {
        diag_add(b->diag, b->file, 1, 1, NULL, "the file is empty");
        *out = NULL;
        return -EINVAL;
    }
    return b->n_bad > 0 ? -EINVAL : 0;
}

int yaml_parse(const char *text, size_t n, const char *name, bool expand, struct arena *arena,
               struct diag *diag, const struct yaml_node **out)
{
    const struct yaml_node *root = NULL;
    struct builder *b;
    int r;

    b = calloc(1, sizeof *b);
    if (b == NULL)
        return -ENOMEM;
    b->text = text;
    b->file = name;
    b->expand = expand;
    b->arena = arena;
    b->diag = diag;
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
        text += 3;
        n -= 3;
    }
    r = check_text(b, text, n);
    if (r == 0 && !yaml_parser_initialize(&b->parser))
        r = out_of_memory(b);
    if (r == 0) {
        yaml_parser_set_input_string(&b->parser, (const unsigned char *)text, n);
        yaml_parser_set_encoding(&b->parser, YAML_UTF8_ENCODING);
        r = build_document(b, &root);
        yaml_parser_delete(&b->parser);
    }
    free(b);
    if (root != NULL && (r == 0 || r == -EINVAL))
        *out = root; /* with mistakes, too: a caller may look for more of them */
    return r;
}

int yaml_load(const char *path, struct arena *arena, struct diag *diag,
              const struct yaml_node **out)
{
    char *text;
    size_t n;
    int r;

    r = fd_read_file(path, YAML_MAX_FILE, &text, &n);
    if (r == -EISDIR)
        diag_add(diag, path, 0, 0, "give the file itself, such as DIR/bulkhead.yaml",
                 "this is a directory");
    else if (r == -EFBIG)
        diag_add(diag, path, 0, 0, NULL, "the file is larger than 1 MiB");
    else if (r < 0)
        diag_add(diag, path, 0, 0, NULL, "cannot read it: %s", strerror(-r));
    if (r < 0)
        return r;
    r = yaml_parse(text, n, path, true, arena, diag, out);
    free(text);
    return r;
}

const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key)
{
    for (int i = 0; map != NULL && map->kind == YAML_MAP && i < map->n; i++) {
        if (strcmp(map->key[i]->text, key) == 0)
            return map->item[i];
    }
    return NULL;
}
