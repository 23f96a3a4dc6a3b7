/*
 * loglevel.c - levels of the error log that are changed while the server runs.
 *
 * They lie in shared memory, so that all processes heed them with the next line that they write, and
 * hold until they are changed back or the server ends: a reload keeps them. A plugin has one of its own
 * when the config or the operator has given it one; all else follows the server's.
 */
#include <errno.h>
#include <jansson.h>
#include <stdatomic.h>

#include "ipc/control.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "obs/log.h"

static _Atomic uint32_t *level_at(const struct master *m, int place)
{
    return place == 0 ? &m->shm->log_level : &m->shm->plugin[place - 1].log_level;
}

/* 0: none is set. Shared memory is not trusted. */
static int level_set(const struct master *m, int place)
{
    uint32_t level = atomic_load(level_at(m, place));

    return level >= LOG_ERROR && level <= LOG_DEBUG ? (int)level : 0;
}

static int level_in_config(const struct master *m, int place)
{
    return place == 0 ? m->cfg->log.level : m->cfg->plugin[place - 1].log_level;
}

static int level_now(const struct master *m, int place)
{
    int set = level_set(m, place), configured = level_in_config(m, place);

    return set != 0 ? set : configured != 0 ? configured : level_now(m, 0);
}

static bool is_place(const struct master *m, int place)
{
    return place == 0 ||
           (place > 0 && place <= m->cfg->n_plugins && !m->cfg->plugin[place - 1].is_removed);
}

static json_t *level_json(const struct master *m, int place)
{
    int set = level_set(m, place), configured = level_in_config(m, place);

    return json_pack("{s:s?, s:i, s:s, s:s?, s:s?}", "plugin",
                     place > 0 ? m->cfg->plugin[place - 1].name : NULL, "place", place, "level",
                     log_level_name(level_now(m, place)), "set",
                     set != 0 ? log_level_name(set) : NULL, "config",
                     configured != 0 ? log_level_name(configured) : NULL);
}

static void change(struct master *m, int place, int level)
{
    int before = level_now(m, place), now;

    atomic_store(level_at(m, place), (uint32_t)level);
    now = level_now(m, place);
    log_info("the log level of %s%s%s is %s (was %s)", place > 0 ? "plugin '" : "the server",
             place > 0 ? m->cfg->plugin[place - 1].name : "", place > 0 ? "'" : "",
             log_level_name(now), log_level_name(before));
}

int log_level_control(struct master *m, int argument, char **text)
{
    json_t *list, *json;

    if (argument != -1) {
        int place = argument >> 8, level = argument & 0xff;

        if (argument < -1 || level > LOG_DEBUG)
            return -EINVAL;
        if (!is_place(m, place))
            return -ENOENT;
        change(m, place, level);
    }
    list = json_array();
    for (int place = 0; place <= m->cfg->n_plugins; place++)
        if (is_place(m, place))
            json_array_append_new(list, level_json(m, place));
    json = json_pack("{s:o}", "levels", list);
    *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return *text != NULL ? 0 : -ENOMEM;
}
