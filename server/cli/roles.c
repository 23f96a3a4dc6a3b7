#include "cli/roles.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/admin.h"
#include "base/diag.h"
#include "conf/align.h"
#include "conf/config.h"
#include "conf/overlay.h"
#include "exporter/exporter.h"
#include "plugin/hook.h"
#include "plugin/manifest.h"
#include "plugin/overlay.h"
#include "plugin/setup.h"
#include "recorder/recorder.h"
#include "worker/preflight.h"
#include "worker/worker.h"

static void tell_of(const struct config *cfg, const struct setup *setup, int i,
                    struct recorder_plugin *out)
{
    const struct setup_plugin *s = &setup->plugin[i];

    *out = (struct recorder_plugin){.instance = cfg->plugin[i].name,
                                    .module = cfg->plugin[i].module,
                                    .object = s->object,
                                    .copy = s->copy,
                                    .place = (uint32_t)i + 1};
    if (s->manifest == NULL)
        return; /* the place of a removed one */
    out->version = s->manifest->desc->version;
    out->build_id = s->manifest->build_id;
}

/* The plugins of the current config at their places; then those of earlier ones. */
static int run_recorder(const struct recorder_view *view, struct shm *shm)
{
    int n = view->cfg[0]->n_plugins, n_all = 0;
    struct recorder_plugin *plugin;

    for (int g = 0; g < view->n; g++)
        n_all += view->cfg[g]->n_plugins;
    plugin = calloc((size_t)n_all + 1, sizeof *plugin);
    if (plugin == NULL)
        return 1;
    n_all = 0;
    for (int g = 0; g < view->n; g++)
        for (int i = 0; i < view->cfg[g]->n_plugins; i++)
            tell_of(view->cfg[g], view->setup[g], i, &plugin[n_all++]);
    n = recorder_run(view->cfg[0], shm, plugin, n, n_all - n);
    free(plugin);
    return n;
}

/* ---- the admin process ---- */

static bool is_secret(const void *context, int i, const char *option)
{
    const struct setup *setup = context;
    const struct manifest *manifest = setup->plugin[i].manifest;

    if (manifest == NULL || manifest->desc->options == NULL)
        return true; /* nobody knows */
    for (const bh_opt *o = manifest->desc->options; o->name != NULL; o++)
        if (strcmp(o->name, option) == 0)
            return o->type == BH_T_SECRET;
    return false;
}

/* "on_request on_log" */
static void list_hooks(const bh_plugin *desc, char *buf, size_t size)
{
    const struct {
        const char *name;
        bool is_there;
    } hooks[] = {{"on_request", desc->on_request != NULL},
                 {"on_request_body", desc->on_request_body != NULL},
                 {"on_response", desc->on_response != NULL},
                 {"on_response_body", desc->on_response_body != NULL},
                 {"on_error", desc->on_error != NULL},
                 {"on_log", desc->on_log != NULL}};
    size_t n = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < sizeof hooks / sizeof hooks[0]; i++)
        if (hooks[i].is_there && n < size)
            n += (size_t)snprintf(buf + n, size - n, "%s%s", n > 0 ? " " : "", hooks[i].name);
}

static int run_admin(const struct config *cfg, const struct setup *setup, struct shm *shm,
                     const struct admin_seat *seat)
{
    struct admin_view view = {.cfg = cfg, .is_secret = is_secret, .context = setup};
    struct admin_plugin *plugin = calloc((size_t)cfg->n_plugins + 1, sizeof *plugin);

    char(*hooks)[128] = calloc((size_t)cfg->n_plugins + 1, sizeof *hooks);
    int r;

    if (plugin == NULL || hooks == NULL) {
        free(plugin);
        free(hooks);
        return 1;
    }
    for (int i = 0; i < cfg->n_plugins; i++) {
        const struct setup_plugin *s = &setup->plugin[i];

        if (s->manifest == NULL)
            continue; /* the place of a removed one */
        list_hooks(s->manifest->desc, hooks[i], sizeof hooks[i]);
        plugin[i] = (struct admin_plugin){.version = s->manifest->desc->version,
                                          .summary = s->manifest->desc->summary,
                                          .object = s->object,
                                          .sha256 = s->sha256,
                                          .hooks = hooks[i]};
    }
    view.plugin = plugin;
    r = admin_run(&view, shm, seat);
    free(hooks);
    free(plugin);
    return r;
}

/* ---- reload ---- */

static void unload(const struct config *cfg, const struct setup *setup,
                   const struct setup *const *others, int n_others, bool keeps_memory)
{
    /* They were made by load(): the master only borrows them as const. */
    struct config *own_cfg = (struct config *)(uintptr_t)cfg;
    struct setup *own_setup = (struct setup *)(uintptr_t)setup;

    setup_remove_copies(own_setup, others, n_others);
    if (keeps_memory)
        return;
    setup_destroy(&own_setup);
    config_destroy(&own_cfg);
}

static int load(const struct config *before, const struct setup *before_setup, const bool *in_use,
                struct overlay *overlay, bool *is_fresh, struct diag *diag,
                const struct config **out_cfg, const struct setup **out_setup)
{
    struct setup *setup = NULL;
    struct config *cfg;
    int r = config_load(before->path, diag, &cfg);

    if (r < 0)
        return r;
    r = overlay_apply(cfg, overlay, diag);
    if (r == -ENOMEM)
        diag_add(diag, cfg->path, 0, 0, NULL, "out of memory");
    if (r < 0) {
        config_destroy(&cfg);
        return r;
    }
    r = config_align(cfg, before, in_use, is_fresh);
    if (r < 0)
        diag_add(diag, cfg->path, 0, 0,
                 r == -ENOSPC ? "try again when old workers have ended" : NULL, "%s",
                 r == -ENOSPC ? "too many plugins have come and gone while workers of earlier "
                                "configs still work"
                              : "out of memory");
    if (r == 0)
        r = setup_create(cfg, before_setup, diag, &setup);
    if (r == 0)
        r = setup_copy(cfg, setup, before_setup, diag);
    if (r < 0) {
        if (setup != NULL)
            setup_remove_copies(setup, &before_setup, 1);
        setup_destroy(&setup);
        config_destroy(&cfg);
        return r;
    }
    setup_tell_traits(cfg, setup, before_setup);
    *out_cfg = cfg;
    *out_setup = setup;
    return 0;
}

/* What the file says now is asked of the file: the config in memory may have a variant. */
static int variant(const struct config *cfg, const struct setup *setup, int i,
                   struct overlay_variant *out)
{
    int r = overlay_describe(cfg, setup, i, out);
    struct config *file;

    if (r < 0)
        return r;
    r = config_load(cfg->path, NULL, &file);
    for (int k = 0; r == 0 && k < file->n_plugins; k++)
        if (strcmp(file->plugin[k].name, out->plugin) == 0)
            overlay_sign(file, k, out->signature);
    if (r == 0)
        config_destroy(&file);
    else
        overlay_variant_fini(out);
    return r;
}

static void describe(const struct setup *setup, int i, char *buf, size_t size)
{
    const struct setup_plugin *sp = &setup->plugin[i];

    if (sp->manifest != NULL)
        snprintf(buf, size, "%s sha256:%.12s", sp->manifest->desc->version, sp->sha256);
    else
        snprintf(buf, size, "%s", "");
}

static const char *object(const struct setup *setup, int i)
{
    return setup->plugin[i].object;
}

static const char *digest(const struct setup *setup, int i)
{
    return setup->plugin[i].sha256;
}

static bool moves_state(const struct setup *before, const struct setup *setup)
{
    for (int i = 0; i < before->n && i < setup->n; i++)
        if (before->plugin[i].manifest != NULL && setup->plugin[i].manifest != NULL &&
            before->plugin[i].manifest->desc->save != NULL &&
            setup->plugin[i].manifest->desc->restore != NULL)
            return true;
    return false;
}

const struct master_roles cli_roles = {
    .moves_state = moves_state,
    .object = object,
    .load = load,
    .variant = variant,
    .digest = digest,
    .describe = describe,
    .unload = unload,
    .worker = worker_run,
    .recorder = run_recorder,
    .admin = run_admin,
    .exporter = exporter_run,
    .wants_exporter = exporter_is_wanted,
    .preflight = worker_preflight,
    .rehearse = worker_rehearse,
    .hook_name = hook_name,
};
