#include "conf/diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "conf/config.h"
#include "conf/yaml.h"

/* Longest prefix wins. What is not here is the business of the workers. */
static const struct {
    const char *prefix;
    enum change_how how;
} rules[] = {
    {"listeners", CHANGE_LISTENER},   {"admin.listen", CHANGE_LISTENER},
    {"admin.mode", CHANGE_LISTENER},  {"admin.owner", CHANGE_LISTENER},
    {"admin.group", CHANGE_LISTENER}, {"server.workers", CHANGE_RESTART},
    {"server.user", CHANGE_RESTART},  {"control", CHANGE_RESTART},
    {"store.size", CHANGE_RESTART},
};

const char *change_how_text(enum change_how how)
{
    static const char *const texts[] = {[CHANGE_WORKERS] = "new workers",
                                        [CHANGE_ROLLOUT] = "staged rollout",
                                        [CHANGE_LISTENER] = "listener",
                                        [CHANGE_RESTART] = "restart only"};

    return texts[how];
}

static bool begins_with_key(const char *path, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(path, prefix, n) == 0 && (path[n] == '\0' || path[n] == '.' || path[n] == '[');
}

static enum change_how judge(const char *path)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (begins_with_key(path, rules[i].prefix))
            return rules[i].how;
    return CHANGE_WORKERS;
}

/* Values that are never told. Of receivers none is: what follows their names, which may hold anything
 * and are cut when they are long, can't be told for sure. */
static bool is_secret(const char *path)
{
    return begins_with_key(path, "tracing.headers") ||
           begins_with_key(path, "store.redis.password") ||
           strncmp(path, "alerts.receivers[", 17) == 0;
}

static bool is_option(const char *path)
{
    const char *dot = strncmp(path, "plugins.", 8) == 0 ? strchr(path + 8, '.') : NULL;

    return dot != NULL && begins_with_key(dot + 1, "config");
}

void changes_add(struct changes *out, char what, enum change_how how, const char *path,
                 const char *from, const char *to)
{
    struct change *c;

    if (out->n == out->cap && out->cap < CHANGES_MAX) {
        int cap = out->cap == 0 ? 16 : out->cap * 2 > CHANGES_MAX ? CHANGES_MAX : out->cap * 2;
        struct change *item = realloc(out->item, (size_t)cap * sizeof *item);

        if (item != NULL) {
            out->item = item;
            out->cap = cap;
        }
    }
    if (out->n == out->cap) {
        out->is_cut = true;
        return;
    }
    c = &out->item[out->n++];
    *c = (struct change){.what = what, .how = how};
    snprintf(c->path, sizeof c->path, "%s", path);
    snprintf(c->from, sizeof c->from, "%s", from != NULL ? from : "");
    snprintf(c->to, sizeof c->to, "%s", to != NULL ? to : "");
}

void changes_fini(struct changes *c)
{
    free(c->item);
    *c = (struct changes){0};
}

/* ---- walking both trees ---- */

/* A short text of a value: a scalar, or a list of scalars. */
static const char *show(const struct yaml_node *node, const char *path, char *buf, size_t size)
{
    size_t n = 1;

    buf[0] = '\0';
    if (node == NULL || is_option(path) || is_secret(path))
        return buf;
    if (node->kind == YAML_SCALAR) {
        snprintf(buf, size, "%s", node->text != NULL ? node->text : "");
    } else if (node->kind == YAML_LIST) {
        snprintf(buf, size, "[");
        for (int i = 0; i < node->n && n < size; i++)
            n += (size_t)snprintf(buf + n, size - n, "%s%s", i > 0 ? ", " : "",
                                  node->item[i]->kind == YAML_SCALAR ? node->item[i]->text : "...");
        if (n < size)
            snprintf(buf + n, size - n, "]");
    }
    return buf;
}

static bool is_flat(const struct yaml_node *list)
{
    for (int i = 0; i < list->n; i++)
        if (list->item[i]->kind != YAML_SCALAR)
            return false;
    return true;
}

static bool is_equal(const struct yaml_node *a, const struct yaml_node *b)
{
    if (a == b)
        return true;
    if (a == NULL || b == NULL || a->kind != b->kind || a->n != b->n)
        return false;
    if (a->kind == YAML_SCALAR)
        return a->is_null == b->is_null && a->len == b->len &&
               memcmp(a->text, b->text, a->len) == 0;
    for (int i = 0; i < a->n; i++) {
        const struct yaml_node *other = b->item[i];

        if (a->kind == YAML_MAP) /* the order of keys says nothing */
            other = yaml_get(b, a->key[i]->text);
        if (other == NULL || !is_equal(a->item[i], other))
            return false;
    }
    return true;
}

/* How an item of a list is named, and found again in the other list. */
static const char *name_of(const struct yaml_node *node)
{
    const struct yaml_node *name = node->kind == YAML_MAP ? yaml_get(node, "name") : NULL;

    return name != NULL && name->kind == YAML_SCALAR ? name->text : NULL;
}

static const struct yaml_node *find_item(const struct yaml_node *list, const struct yaml_node *item,
                                         int i)
{
    const char *name = name_of(item);

    for (int k = 0; name != NULL && k < list->n; k++) {
        const char *other = name_of(list->item[k]);

        if (other != NULL && strcmp(other, name) == 0)
            return list->item[k];
    }
    return name == NULL && i < list->n && name_of(list->item[i]) == NULL ? list->item[i] : NULL;
}

static void walk(const struct yaml_node *a, const struct yaml_node *b, const char *path,
                 struct changes *out);

static void tell(const struct yaml_node *a, const struct yaml_node *b, const char *path,
                 struct changes *out)
{
    char from[CHANGE_TEXT], to[CHANGE_TEXT];

    changes_add(out,
                a == NULL   ? '+'
                : b == NULL ? '-'
                            : '~',
                judge(path), path, show(a, path, from, sizeof from), show(b, path, to, sizeof to));
}

static void walk_map(const struct yaml_node *a, const struct yaml_node *b, const char *path,
                     struct changes *out)
{
    char below[160];

    for (int i = 0; i < a->n; i++) {
        snprintf(below, sizeof below, "%s%s%s", path, path[0] != '\0' ? "." : "", a->key[i]->text);
        walk(a->item[i], yaml_get(b, a->key[i]->text), below, out);
    }
    for (int i = 0; i < b->n; i++) {
        if (yaml_get(a, b->key[i]->text) != NULL)
            continue;
        snprintf(below, sizeof below, "%s%s%s", path, path[0] != '\0' ? "." : "", b->key[i]->text);
        walk(NULL, b->item[i], below, out);
    }
}

static void walk_items(const struct yaml_node *a, const struct yaml_node *b, const char *path,
                       bool is_back, struct changes *out)
{
    char below[160];

    for (int i = 0; i < a->n; i++) {
        const struct yaml_node *other = find_item(b, a->item[i], i);
        const char *name = name_of(a->item[i]);

        if (is_back && other != NULL)
            continue; /* told the other way round */
        if (name != NULL)
            snprintf(below, sizeof below, "%s[%s]", path, name);
        else
            snprintf(below, sizeof below, "%s[%d]", path, i + 1);
        if (is_back)
            tell(NULL, a->item[i], below, out);
        else
            walk(a->item[i], other, below, out);
    }
}

/* Lists of names are one value; those of mappings are compared item by item, and their order, which
 * counts in routes, last. */
static void walk_list(const struct yaml_node *a, const struct yaml_node *b, const char *path,
                      struct changes *out)
{
    int before = out->n;

    if (is_flat(a) && is_flat(b)) {
        tell(a, b, path, out);
        return;
    }
    walk_items(a, b, path, false, out);
    walk_items(b, a, path, true, out);
    if (out->n == before)
        changes_add(out, '~', judge(path), path, "", "in another order");
}

static void walk(const struct yaml_node *a, const struct yaml_node *b, const char *path,
                 struct changes *out)
{
    if (is_equal(a, b))
        return;
    if (a != NULL && b != NULL && a->kind == YAML_MAP && b->kind == YAML_MAP)
        walk_map(a, b, path, out);
    else if (a != NULL && b != NULL && a->kind == YAML_LIST && b->kind == YAML_LIST)
        walk_list(a, b, path, out);
    else
        tell(a, b, path, out);
}

void config_diff(const struct config *before, const struct config *cfg, struct changes *out)
{
    int first = out->n;

    walk(before->root, cfg->root, "", out);
    for (int i = first; i < out->n; i++) {
        struct change *c = &out->item[i];

        /* `auto` for the number that it stands for, or the same user again, asks for nothing. */
        if (strncmp(c->path, "server", 6) == 0 && c->how == CHANGE_RESTART &&
            before->n_workers == cfg->n_workers && text_is_same(before->user, cfg->user))
            c->how = CHANGE_WORKERS;
    }
    if (before->n_workers != cfg->n_workers || !text_is_same(before->user, cfg->user)) {
        bool is_told = false;

        for (int i = first; i < out->n; i++)
            is_told |= out->item[i].how == CHANGE_RESTART;
        if (!is_told) /* a mapping as a whole, or the number of CPUs */
            changes_add(out, '~', CHANGE_RESTART,
                        before->n_workers != cfg->n_workers ? "server.workers" : "server.user", "",
                        "");
    }
}
