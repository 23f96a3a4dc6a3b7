#include "conf/plan.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "conf/config.h"
#include "conf/draft.h"
#include "conf/schema.h"
#include "conf/yaml.h"

#define ALL               1000000u
#define PERCENT           "a percentage such as 5%"
#define PATTERN           "^[0-9]+(\\.[0-9]+)? *%$"
#define OFF(TYPE, MEMBER) .off = offsetof(TYPE, MEMBER), .size = sizeof(((TYPE *)0)->MEMBER)

/* "9.2%" is 92000 parts. At most max. */
static int parse_parts(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       double max, uint32_t *out)
{
    char *end;
    double value;

    if (node->text[0] < '0' || node->text[0] > '9')
        goto bad;
    value = strtod(node->text, &end);
    while (*end == ' ')
        end++;
    if (strcmp(end, "%") != 0)
        goto bad;
    if (!(value > 0 && value <= max)) {
        schema_error(r, node, path, NULL, "must be more than 0%% and at most %.0f%%, not %.40s",
                     max, node->text);
        return -EINVAL;
    }
    *out = (uint32_t)(value * (ALL / 100.0) + 0.5);
    if (*out == 0)
        *out = 1;
    return 0;

bad:
    schema_error(r, node, path, NULL, "expected %s, not '%.40s'", PERCENT, node->text);
    return -EINVAL;
}

static int read_shadow(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       void *base)
{
    return parse_parts(r, node, path, 100, &((struct plan_step *)base)->shadow);
}

static int read_canary(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       void *base)
{
    return parse_parts(r, node, path, 100, &((struct plan_step *)base)->canary);
}

static struct plan *plan_of(void *base)
{
    return &((struct config_plugin *)base)->plan;
}

static int read_improves(struct schema_reader *r, const struct yaml_node *node, const char *path,
                         void *base)
{
    return parse_parts(r, node, path, 1000, &plan_of(base)->gate.improves_by);
}

static int read_worsens(struct schema_reader *r, const struct yaml_node *node, const char *path,
                        void *base)
{
    return parse_parts(r, node, path, 1000, &plan_of(base)->gate.worsens_by);
}

static bool is_token(const char *s)
{
    return s[0] != '\0' && strlen(s) < 128 &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                     "!#$%&'*+-.^_`|~") == strlen(s);
}

static int read_key(struct schema_reader *r, const struct yaml_node *node, const char *path,
                    void *base)
{
    struct plan *plan = plan_of(base);
    const char *s = node->text;

    if (strcmp(s, "client") == 0) {
        plan->key = PLAN_KEY_CLIENT;
    } else if (strcmp(s, "request") == 0) {
        plan->key = PLAN_KEY_REQUEST;
    } else if (strncmp(s, "header:", 7) == 0 && is_token(s + 7)) {
        plan->key = PLAN_KEY_HEADER;
        plan->key_name = s + 7;
    } else if (strncmp(s, "cookie:", 7) == 0 && is_token(s + 7)) {
        plan->key = PLAN_KEY_COOKIE;
        plan->key_name = s + 7;
    } else {
        schema_error(r, node, path, NULL,
                     "expected client, header:NAME, cookie:NAME or request, not '%.60s'", s);
        return -EINVAL;
    }
    return 0;
}

static const struct schema step_keys[] = {
    {"shadow", SCHEMA_CUSTOM, .read = read_shadow, .form = PERCENT, .pattern = PATTERN,
     .help =
         "So many run through the candidate as well, to be thrown away; outside effects are not undone"},
    {"canary", SCHEMA_CUSTOM, .read = read_canary, .form = PERCENT, .pattern = PATTERN,
     .help = "So many requests are the candidate's; 100%: it is promoted"},
    {"for", SCHEMA_DURATION, OFF(struct plan_step, for_ms), .def = "10m", .min = 0,
     .max = 30LL * 24 * 3600 * 1000, .help = "At least so long"},
    {"samples", SCHEMA_INT, OFF(struct plan_step, samples), .def = "500", .min = 0,
     .max = 1000000000, .help = "At least so many requests in the candidate"},
    {NULL, SCHEMA_END},
};

static const struct schema_items step_items = {
    sizeof(struct plan_step), offsetof(struct config_plugin, plan.step),
    offsetof(struct config_plugin, plan.n_steps), offsetof(struct plan_step, pos), 0};

static const struct schema gate_keys[] = {
    {"metric", SCHEMA_STRING, OFF(struct config_plugin, plan.gate.metric),
     .form = "a metric's name", .help = "A metric of the plugin's own, which both versions report"},
    {"improves_by", SCHEMA_CUSTOM, .read = read_improves, .form = PERCENT, .pattern = PATTERN,
     .help = "No promotion until it is so much better in the candidate than in the stable one"},
    {"worsens_by", SCHEMA_CUSTOM, .read = read_worsens, .form = PERCENT, .pattern = PATTERN,
     .help = "Rolled back when it is so much worse in the candidate"},
    {"better", SCHEMA_ENUM, OFF(struct config_plugin, plan.gate.lower_is_better), .def = "higher",
     .form = "higher|lower", .help = "Which values are the better ones"},
    {NULL, SCHEMA_END},
};

const struct schema plan_keys[] = {
    {"steps", SCHEMA_LIST, .keys = step_keys, .items = &step_items, .min = 1, .max = PLAN_STEPS,
     .help = "One after the other; default: shadow 0.1%, canary 5%, then all"},
    {"key", SCHEMA_CUSTOM, .def = "client", .read = read_key,
     .form = "client, header:NAME, cookie:NAME or request",
     .pattern = "^(client|request|header:.+|cookie:.+)$",
     .help = "Requests with the same one get the same version; request: each for itself"},
    {"errors", SCHEMA_ENUM, OFF(struct config_plugin, plan.has_errors), .def = "on",
     .form = "off|on", .help = "Roll back when it fails or answers 5xx more often than the other"},
    {"latency", SCHEMA_ENUM, OFF(struct config_plugin, plan.has_latency), .def = "on",
     .form = "off|on", .help = "Roll back when it is slow more often than the other"},
    {"samples", SCHEMA_INT, OFF(struct config_plugin, plan.samples), .def = "500", .min = 1,
     .max = 1000000000, .help = "Requests in the candidate before these two are judged"},
    {"gate", SCHEMA_MAP, .keys = gate_keys, .help = "A metric that decides as well"},
    {"promote", SCHEMA_ENUM, OFF(struct config_plugin, plan.is_manual), .def = "auto",
     .form = "auto|manual", .help = "manual: steps are taken by `bulkhead rollout promote`"},
    {NULL, SCHEMA_END},
};

/* As the usual grey release goes: a look, a few, all. */
static struct plan_step usual[] = {
    {.shadow = ALL / 1000, .for_ms = 600000, .samples = 500},
    {.canary = ALL / 20, .for_ms = 600000, .samples = 500},
};

void plan_settle(struct schema_reader *r, struct plan *plan, const struct yaml_node *node,
                 const char *path)
{
    const struct yaml_node *steps = yaml_get(node, "steps"), *gate = yaml_get(node, "gate");
    char where[160];

    plan->is_on = true;
    if (steps == NULL) {
        plan->step = usual;
        plan->n_steps = (int)(sizeof usual / sizeof usual[0]);
    }
    for (int i = 0; steps != NULL && i < plan->n_steps && i < steps->n; i++) {
        const struct plan_step *s = &plan->step[i];
        const struct yaml_node *item = steps->item[i];
        bool has_both = yaml_get(item, "shadow") != NULL && yaml_get(item, "canary") != NULL;

        snprintf(where, sizeof where, "%s.steps[%d]", path, i + 1);
        if (item->kind != YAML_MAP)
            continue; /* told already */
        if (has_both || (yaml_get(item, "shadow") == NULL && yaml_get(item, "canary") == NULL))
            schema_error(r, item, where, "{shadow: 0.1%} or {canary: 5%}",
                         has_both ? "a step is shadow or canary, not both"
                                  : "either shadow or canary must be given");
        if (i > 0 && s->shadow != 0 && plan->step[i - 1].canary != 0)
            schema_error(r, item, where, NULL, "shadow steps come before canary steps");
        if (i > 0 && ((s->shadow != 0 && s->shadow < plan->step[i - 1].shadow) ||
                      (s->canary != 0 && s->canary < plan->step[i - 1].canary)))
            schema_error(r, item, where, NULL, "the share must not become smaller");
    }
    if (gate == NULL || gate->kind != YAML_MAP)
        return;
    snprintf(where, sizeof where, "%s.gate", path);
    if (plan->gate.metric == NULL || (plan->gate.improves_by == 0 && plan->gate.worsens_by == 0))
        schema_error(r, gate, where, "gate: {metric: NAME, improves_by: 9.2%}",
                     "a gate needs a metric, and improves_by or worsens_by");
}

int plan_parse(const char *text, const char *name, struct arena *arena, struct diag *diag,
               struct plan *out)
{
    struct schema_reader r = {.file = name, .arena = arena, .diag = diag};
    const struct yaml_node *node = NULL;
    struct config_plugin p = {.name = NULL};
    int result;

    if (text == NULL || text[0] == '\0')
        text = "{}";
    result = yaml_parse(text, strlen(text), name, false, arena, diag, &node);
    if (result < 0)
        return result;
    if (node == NULL || node->kind != YAML_MAP) {
        diag_add(diag, name, 0, 0, NULL, "expected a mapping");
        return -EINVAL;
    }
    schema_read(&r, plan_keys, node, "rollout", &p);
    plan_settle(&r, &p.plan, node, "rollout");
    if (r.n_bad > 0)
        return -EINVAL;
    *out = p.plan;
    return 0;
}

int plan_copy(const struct plan *from, struct arena *arena, struct plan *out)
{
    struct plan copy = *from;

    copy.step = arena_alloc(arena, (size_t)from->n_steps * sizeof *copy.step + 1);
    if (copy.step == NULL)
        return -ENOMEM;
    memcpy(copy.step, from->step, (size_t)from->n_steps * sizeof *copy.step);
    if (from->key_name != NULL)
        copy.key_name = arena_strndup(arena, from->key_name, strlen(from->key_name));
    if (from->gate.metric != NULL)
        copy.gate.metric = arena_strndup(arena, from->gate.metric, strlen(from->gate.metric));
    if ((from->key_name != NULL && copy.key_name == NULL) ||
        (from->gate.metric != NULL && copy.gate.metric == NULL))
        return -ENOMEM;
    *out = copy;
    return 0;
}

void plan_print_parts(uint32_t parts, char *buf, unsigned size)
{
    snprintf(buf, size, "%.10g%%", (double)parts / (ALL / 100.0));
}
