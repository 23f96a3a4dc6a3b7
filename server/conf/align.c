#include "conf/align.h"

#include <errno.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "conf/config.h"

/* A candidate's place of an earlier rollout is another's: its counters begin anew. */
static int find_place(const struct config *before, const struct config_plugin *p)
{
    for (int i = 0; i < before->n_plugins; i++)
        if (strcmp(before->plugin[i].name, p->name) == 0)
            return before->plugin[i].is_removed && p->candidate_of != NULL ? -1 : i;
    return -1;
}

static const char *copy_text(struct config *cfg, const char *text)
{
    return text != NULL ? arena_strndup(cfg->arena, text, strlen(text)) : NULL;
}

/* What is left of a plugin that the new config does not have. */
static int keep_name(struct config *cfg, struct config_plugin *p, const struct config_plugin *old)
{
    *p = (struct config_plugin){.name = copy_text(cfg, old->name),
                                .module = copy_text(cfg, old->module),
                                .on_error = old->on_error,
                                .breaker = old->breaker,
                                .is_removed = true};
    return p->name != NULL && p->module != NULL ? 0 : -ENOMEM;
}

/* Where each plugin of cfg goes: its old place, one that nobody needs, or a new one at the end. */
static int assign_places(const struct config *cfg, const struct config *before, const bool *in_use,
                         int *place, bool *is_fresh)
{
    bool is_taken[CONFIG_MAX_PLACES] = {false};
    int free_place = 0;

    for (int i = 0; i < cfg->n_plugins; i++) {
        place[i] = find_place(before, &cfg->plugin[i]);
        if (place[i] >= 0)
            is_taken[place[i]] = true;
    }
    for (int i = 0; i < before->n_plugins; i++)
        is_taken[i] |= in_use[i];
    for (int i = 0; i < cfg->n_plugins; i++) {
        if (place[i] >= 0) {
            is_fresh[place[i]] = before->plugin[place[i]].is_removed && !in_use[place[i]];
            continue;
        }
        while (free_place < CONFIG_MAX_PLACES && is_taken[free_place])
            free_place++;
        if (free_place == CONFIG_MAX_PLACES)
            return -ENOSPC;
        place[i] = free_place;
        is_taken[free_place] = is_fresh[free_place] = true;
    }
    return 0;
}

static int move_plugins(struct config *cfg, const struct config *before, const bool *in_use,
                        const int *place)
{
    struct config_plugin *moved;
    int n = 0;

    for (int i = 0; i < cfg->n_plugins; i++)
        n = place[i] >= n ? place[i] + 1 : n;
    for (int i = n; i < before->n_plugins; i++)
        n = in_use[i] ? i + 1 : n;
    moved = arena_zalloc(cfg->arena, ((size_t)n + 1) * sizeof *moved);
    if (moved == NULL)
        return -ENOMEM;
    for (int i = 0; i < cfg->n_plugins; i++) {
        moved[place[i]] = cfg->plugin[i];
        if (cfg->plugin[i].candidate_of != NULL)
            cfg->rollout.candidate = place[i];
    }
    for (int i = 0; i < n; i++) {
        /* Nobody's place: those at the end of `before` are gone, one in between keeps its name. */
        if (moved[i].name == NULL &&
            (i >= before->n_plugins || keep_name(cfg, &moved[i], &before->plugin[i]) < 0))
            return -ENOMEM;
    }
    for (int i = 0; i < n && cfg->rollout.number != 0; i++) {
        const char *of = moved[cfg->rollout.candidate].candidate_of;

        if (of != NULL && moved[i].name != NULL && !moved[i].is_removed &&
            strcmp(moved[i].name, of) == 0)
            cfg->rollout.stable = i;
    }
    cfg->plugin = moved;
    cfg->n_plugins = n;
    return 0;
}

static int move_chains(struct config *cfg, const int *place)
{
    for (int i = 0; i < cfg->n_routes; i++) {
        struct config_route *r = &cfg->route[i];
        int *chain = arena_alloc(cfg->arena, (size_t)r->n_chain * sizeof *chain + 1);

        if (chain == NULL)
            return -ENOMEM;
        for (int k = 0; k < r->n_chain; k++)
            chain[k] = place[r->chain[k]];
        r->chain = chain;
    }
    return 0;
}

static void number_routes(struct config *cfg, const struct config *before)
{
    uint32_t last = before->last_route;

    for (int i = 0; i < cfg->n_routes; i++) {
        const struct config_route *old = NULL;

        for (int k = 0; k < before->n_routes && old == NULL; k++)
            if (strcmp(before->route[k].name, cfg->route[i].name) == 0 &&
                config_route_is_same(&before->route[k], &cfg->route[i]))
                old = &before->route[k];
        cfg->route[i].number = old != NULL ? old->number : ++last;
    }
    cfg->last_route = last;
}

int config_align(struct config *cfg, const struct config *before, const bool *in_use,
                 bool *is_fresh)
{
    int place[CONFIG_MAX_PLACES], r;

    must(cfg->n_plugins <= CONFIG_MAX_PLACES && before->n_plugins <= CONFIG_MAX_PLACES);
    memset(is_fresh, 0, CONFIG_MAX_PLACES * sizeof *is_fresh);
    r = assign_places(cfg, before, in_use, place, is_fresh);
    if (r == 0)
        r = move_plugins(cfg, before, in_use, place);
    if (r == 0)
        r = move_chains(cfg, place);
    if (r == 0)
        number_routes(cfg, before);
    return r;
}
