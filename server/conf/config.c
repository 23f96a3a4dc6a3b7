#include "conf/config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/diag.h"
#include "base/must.h"
#include "base/self.h"
#include "conf/draft.h"
#include "conf/schema.h"
#include "conf/yaml.h"

#define ARENA_LIMIT (64u << 20)

static const char *join(struct arena *arena, const char *dir, const char *path)
{
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    return arena_printf(arena, "%s%s%s", dir, dir[1] != '\0' ? "/" : "", path);
}

const char *config_path(const struct config *cfg, const char *path)
{
    return path[0] == '/' ? path : join(cfg->arena, cfg->dir, path);
}

void config_file_path(const struct config *cfg, char *buf, size_t size)
{
    const char *slash = strrchr(cfg->path, '/');

    snprintf(buf, size, "%s/%s", cfg->dir, slash != NULL ? slash + 1 : cfg->path);
}

/* The absolute folder of the file. The file itself may be a link; its folder counts. */
static const char *dir_of(struct arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash == NULL   ? arena_strndup(arena, ".", 1)
                : slash == path ? arena_strndup(arena, "/", 1)
                                : arena_strndup(arena, path, (size_t)(slash - path));
    char real[PATH_MAX];

    if (dir == NULL || realpath(dir, real) == NULL)
        return NULL;
    return arena_strndup(arena, real, strlen(real));
}

int config_default_module_dirs(struct arena *arena, const char *dirs[CONFIG_MAX_DEFAULT_DIRS])
{
    char self[PATH_MAX], *slash;
    int n = 0;

#ifdef BULKHEAD_PLUGINDIR
    dirs[n++] = BULKHEAD_PLUGINDIR;
#endif
    if (self_dir(self, sizeof self) < 0)
        return n;
    dirs[n] = join(arena, self, "plugins");
    n += dirs[n] != NULL;
    slash = strrchr(self, '/');
    if (slash == NULL || slash == self)
        return n;
    *slash = '\0';
    dirs[n] = join(arena, self, "lib/bulkhead/plugins");
    n += dirs[n] != NULL;
    return n;
}

static int settle_module_path(struct draft *d)
{
    struct config *cfg = &d->cfg;
    int n = d->module_dirs != NULL ? d->module_dirs->n : 0;
    const char **dir;

    dir = arena_alloc(cfg->arena, ((size_t)n + CONFIG_MAX_DEFAULT_DIRS) * sizeof *dir);
    if (dir == NULL)
        return -ENOMEM;
    cfg->module_path = dir;
    for (int i = 0; i < n; i++) {
        const struct yaml_node *node = d->module_dirs->item[i];

        if (node->kind != YAML_SCALAR || node->is_null)
            continue; /* reported already */
        *dir = config_path(cfg, node->text);
        if (*dir++ == NULL)
            return -ENOMEM;
    }
    dir += config_default_module_dirs(cfg->arena, dir);
    cfg->n_module_paths = (int)(dir - cfg->module_path);
    return 0;
}

/* Running a request again must do no more than running it once (RFC 9110 9.2.2). */
static void settle_replay(struct schema_reader *r, struct draft *d)
{
    static const char *by_default[] = {"GET", "HEAD", "OPTIONS"};
    struct config *cfg = &d->cfg;

    if (d->replay == NULL) {
        cfg->escrow.replay = by_default;
        cfg->escrow.n_replay = (int)(sizeof by_default / sizeof by_default[0]);
        return;
    }
    methods_read(r, d->replay, "escrow.replay", &cfg->escrow.replay, &cfg->escrow.n_replay);
    for (int i = 0; i < d->replay->n; i++) {
        const struct yaml_node *node = d->replay->item[i];

        if (node->kind == YAML_SCALAR && node->text != NULL &&
            (strcmp(node->text, "POST") == 0 || strcmp(node->text, "PATCH") == 0 ||
             strcmp(node->text, "CONNECT") == 0))
            schema_error(r, node, "escrow.replay", "GET, HEAD, OPTIONS, DELETE and the like",
                         "%s may do more when it is run twice", node->text);
    }
}

/* Keys that a plugin leaves out of its `breaker:` are those for all. */
static void breakers_settle(struct draft *d)
{
    const struct config_breaker *all = &d->cfg.breaker;

    for (int i = 0; i < d->cfg.n_plugins; i++) {
        struct config_plugin *p = &d->cfg.plugin[i];
        const struct yaml_node *own = yaml_get(yaml_get(yaml_get(d->cfg.root, "plugins"), p->name),
                                               "breaker");

        if (yaml_get(own, "crashes") == NULL)
            p->breaker.crashes = all->crashes;
        if (yaml_get(own, "window") == NULL)
            p->breaker.window_ms = all->window_ms;
        if (yaml_get(own, "open") == NULL)
            p->breaker.open_ms = all->open_ms;
        if (yaml_get(own, "trials") == NULL)
            p->breaker.trials = all->trials;
    }
}

/* A limit that would not be kept is a mistake: whoever wrote it relies on it. */
static void heaps_settle(struct schema_reader *r, struct draft *d)
{
    for (int i = 0; i < d->cfg.n_plugins; i++) {
        struct config_plugin *p = &d->cfg.plugin[i];
        const struct yaml_node *own = yaml_get(yaml_get(d->cfg.root, "plugins"), p->name);
        const struct yaml_node *memory = yaml_get(own, "memory");
        bool is_own = yaml_get(own, "heap") != NULL;
        char path[160];

        if (!is_own)
            p->heap = d->cfg.heap;
        if (p->heap != CONFIG_HEAP_SHARED || memory == NULL || p->memory == 0)
            continue;
        snprintf(path, sizeof path, "plugins.%s.memory", p->name);
        schema_error(r, memory, path,
                     is_own ? "take one of the two out; recycle.memory limits a worker as a whole"
                            : "`heap: private` for this plugin, or no limit; recycle.memory limits "
                              "a worker as a whole",
                     "a limit has no effect on the server's heap, which this plugin shares%s",
                     is_own ? " (`heap: shared`)" : " (`heap: shared` for all)");
    }
}

static void rollouts_settle(struct schema_reader *r, struct draft *d)
{
    for (int i = 0; i < d->cfg.n_plugins; i++) {
        struct config_plugin *p = &d->cfg.plugin[i];
        const struct yaml_node *node = yaml_get(yaml_get(yaml_get(d->cfg.root, "plugins"), p->name),
                                                "rollout");
        char path[128];

        snprintf(path, sizeof path, "plugins.%s.rollout", p->name);
        if (node != NULL && node->kind == YAML_MAP)
            plan_settle(r, &p->plan, node, path);
    }
}

/* Beside the crash records: that folder has to be writable as well. */
static int settle_state_dir(struct config *cfg)
{
    const char *env = getenv("STATE_DIRECTORY"), *slash;

    if (cfg->state.dir != NULL)
        cfg->state.dir = config_path(cfg, cfg->state.dir);
    else if (env != NULL && env[0] == '/')
        cfg->state.dir = arena_strndup(cfg->arena, env, strcspn(env, ":"));
    else if (cfg->crash.dir != NULL && (slash = strrchr(cfg->crash.dir, '/')) != NULL)
        cfg->state.dir = arena_printf(cfg->arena, "%.*s/state", (int)(slash - cfg->crash.dir),
                                      cfg->crash.dir);
    return cfg->state.dir != NULL || cfg->crash.dir == NULL ? 0 : -ENOMEM;
}

static int settle(struct schema_reader *r, struct draft *d)
{
    struct config *cfg = &d->cfg;

    listeners_settle(r, d);
    if (proxies_settle(r, d) < 0)
        return -ENOMEM;
    if (admin_settle(r, d) < 0)
        return -ENOMEM;
    chains_settle(r, d);
    settle_replay(r, d);
    breakers_settle(d);
    heaps_settle(r, d);
    if (tracing_settle(r, d) < 0 || alerts_settle(r, d) < 0)
        return -ENOMEM;
    if (destinations_settle(r, d) < 0)
        return -ENOMEM;
    if (store_settle(r, d) < 0)
        return -ENOMEM;
    rollouts_settle(r, d);
    if (cfg->log.path != NULL && strcmp(cfg->log.path, "-") != 0)
        cfg->log.path = config_path(cfg, cfg->log.path);
    if (cfg->crash.dir != NULL)
        cfg->crash.dir = config_path(cfg, cfg->crash.dir);
    if (settle_state_dir(cfg) < 0)
        return -ENOMEM;
    if (cfg->control.socket != NULL && strcmp(cfg->control.socket, "off") != 0) {
        cfg->control.socket = config_path(cfg, cfg->control.socket);
        if (cfg->control.socket == NULL)
            return -ENOMEM;
    }
    if (r->n_bad == 0 && (cfg->log.path == NULL || cfg->crash.dir == NULL))
        return -ENOMEM;
    return settle_module_path(d);
}

int config_load(const char *path, struct diag *diag, struct config **out)
{
    const struct yaml_node *root = NULL;
    struct schema_reader reader = {.file = path, .diag = diag};
    struct draft *d = NULL;
    struct config *cfg;
    struct arena *arena;
    int r, bad_yaml;

    must(path != NULL && out != NULL);
    arena = malloc(sizeof *arena);
    if (arena == NULL)
        return -ENOMEM;
    arena_init(arena, ARENA_LIMIT);
    r = bad_yaml = yaml_load(path, arena, diag, &root);
    if (root == NULL)
        goto fail;

    r = -ENOMEM;
    d = arena_zalloc(arena, sizeof *d);
    if (d == NULL)
        goto fail;
    cfg = &d->cfg;
    cfg->arena = arena;
    cfg->root = root;
    cfg->path = arena_strndup(arena, path, strlen(path));
    cfg->dir = dir_of(arena, path);
    if (cfg->path == NULL || cfg->dir == NULL)
        goto fail;
    reader.arena = arena;
    schema_read(&reader, config_keys, root, "", d);
    r = settle(&reader, d);
    if (r == 0 && (reader.n_bad > 0 || bad_yaml < 0))
        r = -EINVAL;
    if (r < 0)
        goto fail;
    *out = cfg;
    return 0;

fail:
    if (r == -ENOMEM)
        diag_add(diag, path, 0, 0, NULL, "too large: no memory left for it");
    if (diag != NULL)
        diag_sort(diag);
    arena_fini(arena);
    free(arena);
    return r;
}

const char *config_route_name(const struct config *cfg, uint32_t number)
{
    for (int i = 0; i < cfg->n_routes; i++)
        if (cfg->route[i].number == number)
            return cfg->route[i].name;
    return NULL;
}

void config_destroy(struct config **cfgp)
{
    struct config *cfg = *cfgp;
    struct arena *arena;

    if (cfg == NULL)
        return;
    arena = cfg->arena; /* the config itself lies in it */
    arena_fini(arena);
    free(arena);
    *cfgp = NULL;
}
