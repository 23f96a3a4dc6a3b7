#include "plugin/setup.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/diag.h"
#include "base/must.h"
#include "conf/config.h"
#include "conf/yaml.h"
#include "obs/log.h"
#include "plugin/manifest.h"
#include "plugin/object.h"
#include "plugin/options.h"

/* Values of options are built to be checked, and thrown away. */
#define SCRATCH_LIMIT (16u << 20)

/* What stands where an object should be, and is none. False: nothing does. */
static bool explain(const char *path, char *why, size_t size)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return false;
    if (!S_ISLNK(st.st_mode))
        snprintf(why, size, "%.300s is %s, not an object", path,
                 S_ISDIR(st.st_mode) ? "a folder" : "something else");
    else if (stat(path, &st) == 0)
        snprintf(why, size, "%.300s leads to a folder, not to an object", path);
    else
        snprintf(why, size, "%.300s is a symbolic link that cannot be followed: %s", path,
                 strerror(errno));
    return true;
}

/* The first of these in the folders that are searched is the one that somebody meant. */
static bool explain_any(const struct config *cfg, const struct config_plugin *p, char *why,
                        size_t size)
{
    char path[PATH_MAX];
    const char *module;

    if (strchr(p->module, '/') != NULL)
        return (module = config_path(cfg, p->module)) != NULL && explain(module, why, size);
    for (int i = 0; i < cfg->n_module_paths; i++)
        if ((size_t)snprintf(path, sizeof path, "%s/%s.so", cfg->module_path[i], p->module) <
                sizeof path &&
            explain(path, why, size))
            return true;
    return false;
}

static void report_not_found(const struct config *cfg, const struct config_plugin *p,
                             struct diag *diag)
{
    char **names = manifest_list(cfg->module_path, cfg->n_module_paths);
    bool is_path = strchr(p->module, '/') != NULL;
    const char *near = NULL;
    char hint[1024], why[512];
    size_t len = 0;
    int n = 0;

    while (names != NULL && names[n] != NULL)
        n++;
    if (explain_any(cfg, p, why, sizeof why)) {
        diag_add(diag, cfg->path, p->module_pos.line, p->module_pos.column,
                 is_path ? "DIR/NAME.so" : NULL, "plugins.%s.module: %s", p->name, why);
        manifest_list_free(&names);
        return;
    }
    if (names != NULL && !is_path)
        near = value_nearest(p->module, (const char *const *)names, n);
    hint[0] = '\0';
    if (near != NULL)
        len = (size_t)snprintf(hint, sizeof hint, "did you mean '%s'? ", near);
    if (is_path)
        snprintf(hint, sizeof hint, "relative paths are meant from the folder of the config");
    else {
        len += (size_t)snprintf(hint + len, sizeof hint - len, "looked in");
        for (int i = 0; i < cfg->n_module_paths && len < sizeof hint; i++)
            len += (size_t)snprintf(hint + len, sizeof hint - len, "%s %s", i > 0 ? "," : "",
                                    cfg->module_path[i]);
    }
    diag_add(diag, cfg->path, p->module_pos.line, p->module_pos.column, hint,
             "plugins.%s.module: there is no module '%.200s'", p->name, p->module);
    manifest_list_free(&names);
}

/* A mistake of the object is told at the place of the config that asks for the object. */
static void report_object(const struct config *cfg, const struct config_plugin *p,
                          const char *object, const struct diag *found, struct diag *diag)
{
    for (int i = 0; i < found->n; i++)
        diag_add(diag, cfg->path, p->module_pos.line, p->module_pos.column, found->item[i].hint,
                 "plugins.%s.module: %s: %s", p->name, object, found->item[i].what);
    if (found->n == 0)
        diag_add(diag, cfg->path, p->module_pos.line, p->module_pos.column, NULL,
                 "plugins.%s.module: %s cannot be read", p->name, object);
}

/* The digest of the copy that comes from there; NULL: it has none. */
static const char *digest_of(const struct setup *s, const struct setup_plugin *like)
{
    for (int i = 0; s != NULL && i < s->n; i++)
        if (s->plugin[i].copy != NULL && strcmp(s->plugin[i].object, like->object) == 0 &&
            strcmp(s->plugin[i].source, like->source) == 0)
            return s->plugin[i].sha256;
    return NULL;
}

static int read_object(const struct config *cfg, struct setup *s, int i, const struct setup *before,
                       struct diag *diag)
{
    const struct config_plugin *p = &cfg->plugin[i];
    struct setup_plugin *sp = &s->plugin[i];
    const char *module = p->module;
    struct diag found;
    char path[PATH_MAX];
    int r;

    if (strchr(module, '/') != NULL && (module = config_path(cfg, module)) == NULL)
        return -ENOMEM;
    if (manifest_find(module, cfg->module_path, cfg->n_module_paths, path, sizeof path) < 0 &&
        (p->object == NULL || snprintf(path, sizeof path, "%s", p->object) >= (int)sizeof path)) {
        report_not_found(cfg, p, diag);
        return -ENOENT;
    }
    sp->object = strdup(path);
    sp->source = strdup(p->object != NULL ? p->object : path);
    if (sp->object == NULL || sp->source == NULL)
        return -ENOMEM;
    for (int j = 0; j < i; j++) {
        if (s->plugin[j].source == NULL || strcmp(s->plugin[j].source, sp->source) != 0)
            continue;
        sp->manifest = s->plugin[j].manifest; /* NULL when it was refused: told once */
        return sp->manifest != NULL ? 0 : -ENOEXEC;
    }
    diag_init(&found);
    r = manifest_read(sp->source, digest_of(before, sp), &found, &sp->manifest);
    if (r < 0)
        report_object(cfg, p, path, &found, diag);
    diag_fini(&found);
    return r;
}

static int check_plugin(const struct config *cfg, const struct config_plugin *p,
                        const struct manifest *m, struct diag *diag)
{
    struct arena scratch;
    int r;

    if (m->desc->flags & BH_F_OWN_PROC) {
        diag_add(
            diag, cfg->path, p->module_pos.line, p->module_pos.column, NULL,
            "plugins.%s.module: %s insists on a process of its own, which is not in this version",
            p->name, p->module);
        return -ENOTSUP;
    }
    arena_init(&scratch, SCRATCH_LIMIT);
    r = options_apply(m->desc, p->name, p->options_from != NULL ? p->options_from : cfg->path,
                      p->options, p->pos.line, p->pos.column, &scratch, NULL, diag);
    arena_fini(&scratch);
    return r;
}

int setup_create(const struct config *cfg, const struct setup *before, struct diag *diag,
                 struct setup **out)
{
    struct setup *s;
    int result = 0;

    must(cfg != NULL && out != NULL);
    s = calloc(1, sizeof *s + (size_t)cfg->n_plugins * sizeof s->plugin[0]);
    if (s == NULL)
        return -ENOMEM;
    s->n = cfg->n_plugins;
    for (int i = 0; i < s->n; i++) {
        int r = 0;

        if (cfg->plugin[i].is_removed)
            continue;
        r = read_object(cfg, s, i, before, diag);
        if (r == 0)
            r = check_plugin(cfg, &cfg->plugin[i], s->plugin[i].manifest, diag);
        if (r < 0 && result == 0)
            result = r;
    }
    if (result < 0)
        setup_destroy(&s);
    else
        *out = s;
    return result;
}

/* The place in `in` of the same object, of the same bytes. -1: it has none. */
static int find_copy(const struct setup *in, int n, const char *object, const char *sha256)
{
    for (int i = 0; i < n; i++) {
        const struct setup_plugin *sp = &in->plugin[i];

        if (sp->copy != NULL && strcmp(sp->object, object) == 0 && strcmp(sp->sha256, sha256) == 0)
            return i;
    }
    return -1;
}

/* One of those before i that takes its bytes from there as well. */
static int find_source(const struct setup *s, int i)
{
    for (int k = 0; k < i; k++)
        if (s->plugin[k].copy != NULL && strcmp(s->plugin[k].source, s->plugin[i].source) == 0)
            return k;
    return -1;
}

static int take_copy(struct setup_plugin *sp, const struct setup_plugin *from)
{
    sp->copy = strdup(from->copy);
    memcpy(sp->sha256, from->sha256, sizeof sp->sha256);
    return sp->copy != NULL ? 0 : -ENOMEM;
}

/* What the copy says of itself: the file was replaced after it had been looked at. */
static int read_copy(struct setup *s, struct setup_plugin *sp, struct diag *diag)
{
    struct manifest *old = sp->manifest, *now;
    int r = manifest_read(sp->copy, NULL, diag, &now);

    if (r < 0)
        return r;
    for (int i = 0; i < s->n; i++)
        if (s->plugin[i].manifest == old)
            s->plugin[i].manifest = now; /* instances share it */
    manifest_destroy(&old);
    return 0;
}

/* A copy first, and then its digest: the file may change under our hands. */
static int copy_object(struct setup *s, struct setup_plugin *sp, const struct setup *before,
                       struct diag *diag)
{
    int r = object_copy(sp->object, sp->source, diag, &sp->copy), k;

    if (r == 0)
        r = digest_file(sp->copy, sp->sha256);
    if (r == 0 && strcmp(sp->sha256, sp->manifest->sha256) != 0)
        r = read_copy(s, sp, diag);
    k = r == 0 && before != NULL ? find_copy(before, before->n, sp->object, sp->sha256) : -1;
    if (k < 0)
        return r;
    unlink(sp->copy);
    free(sp->copy);
    return take_copy(sp, &before->plugin[k]);
}

int setup_copy(const struct config *cfg, struct setup *s, const struct setup *before,
               struct diag *diag)
{
    int r = object_dir_create(cfg->user, diag);

    for (int i = 0; r == 0 && i < s->n; i++) {
        struct setup_plugin *sp = &s->plugin[i];
        int k;

        if (sp->object == NULL)
            continue;
        k = find_source(s, i);
        r = k >= 0 ? take_copy(sp, &s->plugin[k]) : copy_object(s, sp, before, diag);
    }
    return r;
}

void setup_tell_traits(const struct config *cfg, const struct setup *s, const struct setup *before)
{
    char trait[320];

    for (int i = 0; i < s->n; i++) {
        const struct setup_plugin *sp = &s->plugin[i];

        if (sp->copy == NULL || find_source(s, i) >= 0 ||
            (before != NULL && find_copy(before, before->n, sp->object, sp->sha256) >= 0))
            continue;
        for (int k = 0; manifest_trait(sp->manifest, k, trait, sizeof trait); k++)
            log_warn("plugin '%s': %s %s", cfg->plugin[i].name, sp->object, trait);
    }
}

void setup_remove_copies(struct setup *s, const struct setup *const *others, int n)
{
    for (int i = 0; i < s->n; i++) {
        struct setup_plugin *sp = &s->plugin[i];
        bool is_used = sp->copy == NULL;

        for (int k = 0; k < n && !is_used; k++)
            is_used = find_copy(others[k], others[k]->n, sp->object, sp->sha256) >= 0;
        if (!is_used)
            unlink(sp->copy); /* by several instances: more than once */
    }
}

void setup_destroy(struct setup **sp)
{
    struct setup *s = *sp;

    if (s == NULL)
        return;
    for (int i = 0; i < s->n; i++) {
        struct manifest *m = s->plugin[i].manifest;

        for (int j = i + 1; j < s->n; j++)
            if (s->plugin[j].manifest == m)
                s->plugin[j].manifest = NULL; /* instances share it */
        manifest_destroy(&m);
        free(s->plugin[i].object);
        free(s->plugin[i].source);
        free(s->plugin[i].copy);
    }
    free(s);
    *sp = NULL;
}
