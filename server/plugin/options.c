/*
 * options.c - one function per option type: text in, a member of the plugin's struct out.
 *
 * The declaration comes from the plugin, so it is checked first (options_check): after that every
 * write stays within cfg_size.
 */
#include "plugin/options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "conf/yaml.h"

/* Why a value was refused. */
struct why {
    char text[256];
};

__attribute__((format(printf, 2, 3))) static int refuse(struct why *why, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

/* ---- Types -------------------------------------------------------------------------------- */

const char *options_type_name(int32_t type)
{
    static const char *const names[] = {
        [BH_T_BOOL] = "bool",
        [BH_T_INT] = "int",
        [BH_T_DOUBLE] = "number",
        [BH_T_STR] = "string",
        [BH_T_DURATION_MS] = "duration",
        [BH_T_SIZE] = "size",
        [BH_T_ENUM] = "enum",
        [BH_T_STRLIST] = "list of strings",
        [BH_T_SECRET] = "secret",
        [BH_T_CIDRLIST] = "list of networks",
        [BH_T_MAP] = "map of strings",
    };

    return type >= BH_T_BOOL && type <= BH_T_MAP ? names[type] : "?";
}

static bool is_integer(int32_t type)
{
    return type == BH_T_BOOL || type == BH_T_INT || type == BH_T_DURATION_MS || type == BH_T_SIZE ||
           type == BH_T_ENUM;
}

static bool has_range(const bh_opt *o)
{
    return o->min != 0 || o->max != 0;
}

static bool size_fits(const bh_opt *o)
{
    switch (o->type) {
    case BH_T_DOUBLE: return o->size == sizeof(double) || o->size == sizeof(float);
    case BH_T_STR:
    case BH_T_SECRET: return o->size == sizeof(char *) || o->size == sizeof(bh_str);
    case BH_T_STRLIST: return o->size == sizeof(bh_strlist);
    case BH_T_CIDRLIST: return o->size == sizeof(bh_cidrlist);
    case BH_T_MAP: return o->size == sizeof(bh_map);
    default: return o->size == 1 || o->size == 2 || o->size == 4 || o->size == 8;
    }
}

void options_print_number(const bh_opt *o, double v, char *buf, size_t size)
{
    if (o->type == BH_T_DURATION_MS && v >= 0 && v < 1e18)
        value_print_duration((unsigned long long)v, buf, size);
    else if (o->type == BH_T_SIZE && v >= 0 && v < 1e18)
        value_print_size((unsigned long long)v, buf, size);
    else
        snprintf(buf, size, "%.10g", v);
}

/* What the member can hold. Its sign is not known: a range that is declared decides, otherwise what
 * fits either way. */
static int check_width(const bh_opt *o, long long v, struct why *why)
{
    unsigned bits = (unsigned)o->size * 8;
    long long top = bits == 64                    ? INT64_MAX
                    : o->min >= 0 && has_range(o) ? (1ll << bits) - 1
                                                  : (1ll << (bits - 1)) - 1;
    long long bottom = bits == 64 ? INT64_MIN : -(1ll << (bits - 1));

    return v > top || v < bottom ? refuse(why, "is too large for this option") : 0;
}

static int check_range(const bh_opt *o, double v, struct why *why)
{
    char min[40], max[40];

    if (!has_range(o) || (v >= o->min && v <= o->max))
        return 0;
    options_print_number(o, o->min, min, sizeof min);
    options_print_number(o, o->max, max, sizeof max);
    return refuse(why, "must be from %s to %s", min, max);
}

static int parse_enum(const bh_opt *o, const char *text, long long *out, struct why *why)
{
    char names[160];
    size_t len = 0;
    long long i = 0;

    for (const char *p = o->choices; *p != '\0'; i++) {
        size_t n = strcspn(p, "|");

        if (n == strlen(text) && memcmp(p, text, n) == 0) {
            *out = i;
            return 0;
        }
        p += n + (p[n] == '|');
    }
    for (const char *p = o->choices; *p != '\0' && len < sizeof names;) {
        size_t n = strcspn(p, "|");

        len += (size_t)snprintf(names + len, sizeof names - len, "%s%.*s",
                                p == o->choices ? ""
                                : p[n] == '\0'  ? " or "
                                                : ", ",
                                (int)n, p);
        p += n + (p[n] == '|');
    }
    return refuse(why, "expected %s, not '%.60s'", names, text);
}

static int parse_integer(const bh_opt *o, const char *text, long long *out, struct why *why)
{
    const char *expected = "";
    unsigned long long u = 0;
    bool yes = false;
    int r;

    switch (o->type) {
    case BH_T_BOOL:
        r = value_bool(text, &yes, &expected);
        *out = yes;
        break;
    case BH_T_INT: r = value_int(text, out, &expected); break;
    case BH_T_ENUM: return parse_enum(o, text, out, why);
    default:
        r = o->type == BH_T_SIZE ? value_size(text, &u, &expected)
                                 : value_duration_ms(text, &u, &expected);
        if (r == 0 && u > INT64_MAX)
            r = -EINVAL;
        *out = (long long)u;
    }
    if (r < 0)
        return refuse(why, "expected %s, not '%.60s'", expected, text);
    if (o->type == BH_T_BOOL)
        return 0;
    r = check_range(o, (double)*out, why);
    return r < 0 ? r : check_width(o, *out, why);
}

static int parse_cidr(const char *text, bh_cidr *out)
{
    const char *slash = strchr(text, '/'), *why;
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
    bool is_v6 = memchr(text, ':', n) != NULL;
    long long bits = is_v6 ? 128 : 32;
    char addr[INET6_ADDRSTRLEN];

    memset(out, 0, sizeof *out);
    if (n >= sizeof addr)
        return -EINVAL;
    memcpy(addr, text, n);
    addr[n] = '\0';
    if (slash != NULL && (value_int(slash + 1, &bits, &why) < 0 || slash[1] == '+'))
        return -EINVAL;
    if (bits < 0 || bits > (is_v6 ? 128 : 32))
        return -EINVAL;
    if (is_v6) {
        out->bits = (uint8_t)bits;
        return inet_pton(AF_INET6, addr, out->addr) == 1 ? 0 : -EINVAL;
    }
    out->addr[10] = out->addr[11] = 0xff;
    out->bits = (uint8_t)(bits + 96);
    return inet_pton(AF_INET, addr, out->addr + 12) == 1 ? 0 : -EINVAL;
}

/* ---- Values ------------------------------------------------------------------------------- */

/* Where values go, and whom to tell. cfg NULL: only check. */
struct target {
    char *cfg;
    struct arena *arena;
    struct why *why;
    const struct yaml_node *culprit; /* set with a refusal: the item to point at */
};

static int no_memory(struct target *t)
{
    refuse(t->why, "no memory left for it");
    return -ENOMEM;
}

static void put(const struct target *t, const bh_opt *o, const void *value)
{
    if (t->cfg != NULL)
        memcpy(t->cfg + o->off, value, o->size);
}

static bool is_text(const struct yaml_node *node)
{
    return node->kind == YAML_SCALAR && !node->is_null;
}

static int apply_scalar(const bh_opt *o, const struct yaml_node *node, struct target *t)
{
    bh_str str = {node->text, node->len};
    long long v = 0;
    double d = 0;
    float f;
    int r;

    if (o->type == BH_T_STR || o->type == BH_T_SECRET) {
        if (t->cfg != NULL && t->arena != NULL) {
            str.p = arena_strndup(t->arena, node->text, node->len);
            if (str.p == NULL)
                return no_memory(t);
        }
        put(t, o, &str); /* a char * is the first half of a bh_str */
        return 0;
    }
    if (is_integer(o->type)) {
        r = parse_integer(o, node->text, &v, t->why);
        if (r == 0)
            put(t, o, &v); /* little-endian: any width */
        return r;
    }
    if (value_double(node->text, &d, &(const char *){NULL}) < 0)
        return refuse(t->why, "expected a number, not '%.60s'", node->text);
    r = check_range(o, d, t->why);
    if (r < 0)
        return r;
    f = (float)d;
    put(t, o, o->size == sizeof f ? (const void *)&f : (const void *)&d);
    return 0;
}

static int apply_list(const bh_opt *o, const struct yaml_node *node, struct target *t)
{
    const struct yaml_node *const *item = node->kind == YAML_SCALAR ? &node : node->item;
    size_t n = node->kind == YAML_SCALAR ? 1 : (size_t)node->n;
    bh_cidr *cidrs = NULL;
    bh_str *strs = NULL;

    if (n > 0 && o->type == BH_T_CIDRLIST)
        cidrs = arena_alloc(t->arena, n * sizeof *cidrs);
    else if (n > 0)
        strs = arena_alloc(t->arena, n * sizeof *strs);
    if (n > 0 && cidrs == NULL && strs == NULL)
        return no_memory(t);
    for (size_t i = 0; i < n; i++) {
        t->culprit = item[i];
        if (!is_text(item[i]))
            return refuse(t->why, "item %zu: expected a single value", i + 1);
        if (cidrs != NULL && parse_cidr(item[i]->text, &cidrs[i]) < 0)
            return refuse(t->why, "expected a network such as 10.0.0.0/8 or ::1, not '%.60s'",
                          item[i]->text);
        if (strs == NULL)
            continue;
        strs[i] = (bh_str){arena_strndup(t->arena, item[i]->text, item[i]->len), item[i]->len};
        if (strs[i].p == NULL)
            return no_memory(t);
    }
    if (o->type == BH_T_CIDRLIST)
        put(t, o, &(bh_cidrlist){cidrs, n});
    else
        put(t, o, &(bh_strlist){strs, n});
    return 0;
}

static int apply_map(const bh_opt *o, const struct yaml_node *node, struct target *t)
{
    bh_pair *pairs = NULL;
    size_t n = (size_t)node->n;

    if (n > 0 && (pairs = arena_alloc(t->arena, n * sizeof *pairs)) == NULL)
        return no_memory(t);
    for (size_t i = 0; i < n; i++) {
        const struct yaml_node *k = node->key[i], *v = node->item[i];

        t->culprit = v;
        if (!is_text(v))
            return refuse(t->why, "'%.60s': expected a single value", k->text);
        pairs[i].k = (bh_str){arena_strndup(t->arena, k->text, k->len), k->len};
        pairs[i].v = (bh_str){arena_strndup(t->arena, v->text, v->len), v->len};
        if (pairs[i].k.p == NULL || pairs[i].v.p == NULL)
            return no_memory(t);
    }
    put(t, o, &(bh_map){pairs, n});
    return 0;
}

static int apply_one(const bh_opt *o, const struct yaml_node *node, struct target *t)
{
    bool is_list = o->type == BH_T_STRLIST || o->type == BH_T_CIDRLIST;

    t->culprit = node;
    if (node->kind == YAML_SCALAR && node->is_null)
        return refuse(t->why, "has no value: give one, or leave the option out");
    if (o->type == BH_T_MAP)
        return node->kind == YAML_MAP ? apply_map(o, node, t)
                                      : refuse(t->why, "expected a mapping (key: value)");
    if (is_list)
        return node->kind != YAML_MAP ? apply_list(o, node, t) : refuse(t->why, "expected a list");
    if (node->kind != YAML_SCALAR)
        return refuse(t->why, "expected a single value (%s), not a %s", options_type_name(o->type),
                      node->kind == YAML_LIST ? "list" : "mapping");
    return apply_scalar(o, node, t);
}

int options_default_node(const bh_opt *o, struct arena *arena, struct yaml_node *scratch,
                         const struct yaml_node **out)
{
    bool is_yaml = (o->type == BH_T_STRLIST || o->type == BH_T_CIDRLIST || o->type == BH_T_MAP) &&
                   (o->def[0] == '[' || o->def[0] == '{');

    if (is_yaml)
        return yaml_parse(o->def, strlen(o->def), NULL, false, arena, NULL, out);
    *scratch = (struct yaml_node){.kind = YAML_SCALAR, .text = o->def, .len = strlen(o->def)};
    *out = scratch;
    return 0;
}

static int apply_default(const bh_opt *o, struct target *t)
{
    const struct yaml_node *node = NULL;
    struct yaml_node scratch;
    int r;

    if (o->def == NULL)
        return 0;
    if (options_default_node(o, t->arena, &scratch, &node) < 0)
        return refuse(t->why, "is not YAML");
    r = apply_one(o, node, t);
    t->culprit = NULL; /* no place in the file */
    return r;
}

/* ---- The whole ---------------------------------------------------------------------------- */

static const bh_opt *find_option(const bh_plugin *desc, const char *name)
{
    for (const bh_opt *o = desc->options; o != NULL && o->name != NULL; o++)
        if (strcmp(o->name, name) == 0)
            return o;
    return NULL;
}

int options_check(const bh_plugin *desc, char *what, size_t size)
{
    struct arena arena;
    struct why why;
    int r = 0, n = 0;

    arena_init(&arena, 1u << 20);
    for (const bh_opt *o = desc->options; o != NULL && o->name != NULL && r == 0; o++) {
        struct target t = {.arena = &arena, .why = &why};

        r = -EINVAL;
        if (++n > OPTIONS_MAX)
            snprintf(what, size, "it declares more than %d options", OPTIONS_MAX);
        else if (o->name[0] == '\0' || find_option(desc, o->name) != o)
            snprintf(what, size, "option %d has no name, or that of another ('%.60s')", n, o->name);
        else if (o->type < BH_T_BOOL || o->type > BH_T_MAP)
            snprintf(what, size, "option '%.60s' has an unknown type (%d)", o->name, o->type);
        else if (!size_fits(o))
            snprintf(what, size, "option '%.60s': a member of %zu bytes cannot hold a %s", o->name,
                     o->size, options_type_name(o->type));
        else if (o->off > desc->cfg_size || o->size > desc->cfg_size - o->off)
            snprintf(what, size, "option '%.60s' lies outside of the config struct", o->name);
        else if (!isfinite(o->min) || !isfinite(o->max) || o->min > o->max)
            snprintf(what, size, "option '%.60s' has an impossible range", o->name);
        else if (o->type == BH_T_ENUM && (o->choices == NULL || o->choices[0] == '\0'))
            snprintf(what, size, "option '%.60s' is an enum without choices", o->name);
        else if (apply_default(o, &t) < 0)
            snprintf(what, size, "option '%.60s': its own default '%.60s' is refused: %s", o->name,
                     o->def, why.text);
        else
            r = 0;
    }
    arena_fini(&arena);
    return r;
}

static void report_unknown(const bh_plugin *desc, const char *instance, const char *where,
                           const struct yaml_node *key, struct diag *diag)
{
    const char *names[OPTIONS_MAX], *near;
    char hint[512];
    size_t len;
    int n = 0;

    for (const bh_opt *o = desc->options; o != NULL && o->name != NULL; o++)
        names[n++] = o->name;
    near = value_nearest(key->text, names, n);
    if (near != NULL)
        snprintf(hint, sizeof hint, "did you mean '%s'?", near);
    else
        len = (size_t)snprintf(hint, sizeof hint, n > 0 ? "its options are " : "it has no options");
    for (int i = 0; near == NULL && i < n && len < sizeof hint; i++)
        len += (size_t)snprintf(hint + len, sizeof hint - len, "%s%s", i > 0 ? ", " : "", names[i]);
    diag_add(diag, where, key->line, key->column, hint,
             "plugins.%s.config: unknown option '%.80s' (module %s)", instance, key->text,
             desc->name);
}

int options_apply(const bh_plugin *desc, const char *instance, const char *where,
                  const struct yaml_node *node, int line, int column, struct arena *arena,
                  void *cfg, struct diag *diag)
{
    struct target t = {.cfg = cfg, .arena = arena};
    struct why why;
    int bad = 0;

    t.why = &why;
    if (options_check(desc, why.text, sizeof why.text) < 0) {
        diag_add(diag, where, line, column, NULL, "plugins.%s: malformed descriptor: %s", instance,
                 why.text);
        return -EINVAL;
    }
    if (cfg != NULL)
        memset(cfg, 0, desc->cfg_size);
    if (node != NULL && node->kind != YAML_MAP) {
        diag_add(diag, where, node->line, node->column, NULL,
                 "plugins.%s.config: expected a mapping (option: value)", instance);
        return -EINVAL;
    }
    for (int i = 0; node != NULL && i < node->n; i++) {
        if (find_option(desc, node->key[i]->text) != NULL)
            continue;
        if (bad++ < DIAG_MAX)
            report_unknown(desc, instance, where, node->key[i], diag);
    }
    for (const bh_opt *o = desc->options; o != NULL && o->name != NULL; o++) {
        const struct yaml_node *value = yaml_get(node, o->name);
        int r = value != NULL ? apply_one(o, value, &t) : apply_default(o, &t);

        if (value == NULL && (o->flags & BH_O_REQUIRED)) {
            diag_add(diag, where, node != NULL ? node->line : line,
                     node != NULL ? node->column : column, o->help,
                     "plugins.%s.config: '%s' is missing", instance, o->name);
            bad++;
        } else if (r < 0) {
            const struct yaml_node *at = value != NULL ? t.culprit : NULL;

            diag_add(diag, where, at != NULL ? at->line : line, at != NULL ? at->column : column,
                     NULL, "plugins.%s.config.%s: %s", instance, o->name, why.text);
            bad++;
        }
    }
    return bad > 0 ? -EINVAL : 0;
}
