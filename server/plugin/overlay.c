#include "plugin/overlay.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/diag.h"
#include "conf/config.h"
#include "conf/overlay.h"
#include "conf/yaml.h"
#include "obs/log.h"
#include "plugin/manifest.h"
#include "plugin/options.h"
#include "plugin/setup.h"

static int find_plugin(const struct config *cfg, const char *name)
{
    for (int i = 0; i < cfg->n_plugins; i++)
        if (!cfg->plugin[i].is_removed && strcmp(cfg->plugin[i].name, name) == 0)
            return i;
    return -1;
}

void overlay_sign(const struct config *cfg, int i, char out[DIGEST_TEXT])
{
    const struct config_plugin *p = &cfg->plugin[i];
    const char *module = strchr(p->module, '/') != NULL ? config_path(cfg, p->module) : p->module;
    char path[PATH_MAX], object[DIGEST_TEXT] = "none", *text;
    bh_str options = options_json(p->options, cfg->arena);
    int n;

    if (module != NULL &&
        manifest_find(module, cfg->module_path, cfg->n_module_paths, path, sizeof path) == 0)
        digest_file(path, object);
    n = asprintf(&text, "%s\n%s\n%s", p->module, object, options.p != NULL ? options.p : "");
    out[0] = '\0';
    if (n < 0)
        return;
    digest_bytes(text, (size_t)n, out);
    free(text);
}

static int read_options(struct config *cfg, const struct overlay_variant *v,
                        struct config_plugin *p, struct diag *diag)
{
    const struct yaml_node *node = NULL;
    char name[160];
    int r;

    if (v->options == NULL)
        return 0;
    snprintf(name, sizeof name, "options of %s", v->plugin);
    r = yaml_parse(v->options, strlen(v->options), arena_strndup(cfg->arena, name, strlen(name)),
                   false, cfg->arena, diag, &node);
    if (r == 0 && (node == NULL || node->kind != YAML_MAP)) {
        diag_add(diag, cfg->path, p->pos.line, p->pos.column, NULL, "%s: expected a mapping", name);
        r = -EINVAL;
    }
    if (r == 0) {
        p->options = node;
        p->options_from = arena_strndup(cfg->arena, name, strlen(name));
    }
    return r;
}

static int apply_variant(struct config *cfg, const struct overlay_variant *v,
                         struct config_plugin *p, struct diag *diag)
{
    if (v->module != NULL)
        p->module = arena_strndup(cfg->arena, v->module, strlen(v->module));
    if (v->object != NULL)
        p->object = arena_strndup(cfg->arena, v->object, strlen(v->object));
    if (p->module == NULL || (v->object != NULL && p->object == NULL))
        return -ENOMEM;
    return read_options(cfg, v, p, diag);
}

/* Behind all others; config_align() gives it its place. */
static int add_candidate(struct config *cfg, const struct overlay *o, struct diag *diag)
{
    const struct overlay_variant *v = &o->rollout.candidate;
    int i = find_plugin(cfg, v->plugin);
    struct config_plugin *all, *p;
    int r;

    if (i < 0) {
        diag_add(diag, cfg->path, 0, 0, "end that first: bulkhead rollout abort",
                 "plugins.%s is gone, but another version of it is being rolled out", v->plugin);
        return -EINVAL;
    }
    if (cfg->n_plugins >= CONFIG_MAX_PLUGINS) {
        diag_add(diag, cfg->path, 0, 0, NULL, "no place for a candidate beside %d plugins",
                 cfg->n_plugins);
        return -ENOSPC;
    }
    all = arena_zalloc(cfg->arena, ((size_t)cfg->n_plugins + 1) * sizeof *all);
    if (all == NULL)
        return -ENOMEM;
    memcpy(all, cfg->plugin, (size_t)cfg->n_plugins * sizeof *all);
    p = &all[cfg->n_plugins];
    *p = all[i];
    p->candidate_of = all[i].name;
    p->name = arena_printf(cfg->arena, "%s" OVERLAY_CANDIDATE, all[i].name);
    p->object = NULL;
    if (p->name == NULL)
        return -ENOMEM;
    r = apply_variant(cfg, v, p, diag);
    if (r < 0)
        return r;
    cfg->plugin = all;
    cfg->n_plugins++;
    cfg->rollout.number = o->rollout.number;
    memcpy(cfg->rollout.salt, o->rollout.salt, sizeof cfg->rollout.salt);
    cfg->rollout.key = o->rollout.key;
    if (o->rollout.key_name == NULL)
        return 0;
    cfg->rollout.key_name = arena_strndup(cfg->arena, o->rollout.key_name,
                                          strlen(o->rollout.key_name));
    return cfg->rollout.key_name != NULL ? 0 : -ENOMEM;
}

/* Does the file say the same by now? */
static bool is_as_in_file(const struct config *cfg, int i, const struct overlay_variant *v)
{
    const struct config_plugin *p = &cfg->plugin[i];
    const char *module = strchr(p->module, '/') != NULL ? config_path(cfg, p->module) : p->module;
    bh_str options = options_json(p->options, cfg->arena);
    char path[PATH_MAX], sha256[DIGEST_TEXT];

    return module != NULL && options.p != NULL &&
           (v->options == NULL || strcmp(v->options, options.p) == 0) &&
           (v->module == NULL || strcmp(v->module, p->module) == 0) &&
           manifest_find(module, cfg->module_path, cfg->n_module_paths, path, sizeof path) == 0 &&
           digest_file(path, sha256) == 0 && strcmp(sha256, v->sha256) == 0;
}

static bool is_of_rollout(const struct overlay *o, const char *plugin)
{
    return o->rollout.number != 0 && strcmp(o->rollout.candidate.plugin, plugin) == 0;
}

int overlay_apply(struct config *cfg, struct overlay *o, struct diag *diag)
{
    int r = 0;

    if (o->rollout.number != 0) /* before the plugin it is beside becomes another */
        r = add_candidate(cfg, o, diag);
    for (int k = o->n - 1; r == 0 && k >= 0; k--) {
        const struct overlay_variant *v = &o->variant[k];
        int i = find_plugin(cfg, v->plugin);
        char signature[DIGEST_TEXT] = "";

        if (i >= 0 && v->signature[0] != '\0' && !is_of_rollout(o, v->plugin)) {
            overlay_sign(cfg, i, signature);
            if (strcmp(signature, v->signature) != 0 || is_as_in_file(cfg, i, v))
                i = -1;
        }
        if (i >= 0)
            r = apply_variant(cfg, v, &cfg->plugin[i], diag);
        else
            overlay_drop(o, v->plugin);
    }
    return r;
}

static int copy_text(const char *from, char **out)
{
    *out = strdup(from);
    return *out != NULL ? 0 : -ENOMEM;
}

int overlay_describe(const struct config *cfg, const struct setup *setup, int i,
                     struct overlay_variant *out)
{
    const struct config_plugin *p = &cfg->plugin[i];
    const struct setup_plugin *sp = &setup->plugin[i];
    bh_str options = options_json(p->options, cfg->arena);
    int r;

    *out = (struct overlay_variant){.plugin = NULL};
    r = copy_text(p->candidate_of != NULL ? p->candidate_of : p->name, &out->plugin);
    if (r == 0)
        r = copy_text(p->module, &out->module);
    if (r == 0)
        r = options.p != NULL ? copy_text(options.p, &out->options) : -ENOMEM;
    if (r == 0)
        r = copy_text(sp->copy != NULL ? sp->copy : sp->object, &out->object);
    if (r < 0) {
        overlay_variant_fini(out);
        return r;
    }
    memcpy(out->sha256, sp->sha256, sizeof out->sha256);
    snprintf(out->version, sizeof out->version, "%s",
             sp->manifest != NULL ? sp->manifest->desc->version : "?");
    return 0;
}
