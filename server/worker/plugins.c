#include "worker/plugins.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/arm.h"
#include "plugin/heap.h"
#include "plugin/hook.h"
#include "plugin/hostfd.h"
#include "plugin/instance.h"
#include "plugin/object.h"
#include "plugin/ration.h"
#include "plugin/setup.h"
#include "plugin/thread.h"

/* By the copy: the same file may be there in two versions. */
static struct object *find_object(const struct plugins *p, const char *copy)
{
    for (int i = 0; i < p->n_objects; i++)
        if (p->object[i] != NULL && strcmp(p->object[i]->copy, copy) == 0)
            return p->object[i];
    return NULL;
}

int plugins_load(const struct config *cfg, const struct setup *setup, struct shm *shm, int worker,
                 plugins_progress *progress, void *arg, struct diag *diag, struct plugins *out)
{
    int r = 0;

    memset(out, 0, sizeof *out);
    hostfd_init(cfg, shm);
    ration_init(cfg, &shm->worker[worker]);
    heap_init(cfg, &shm->worker[worker]);
    out->inst = calloc((size_t)cfg->n_plugins + 1, sizeof(bh_inst *));
    out->object = calloc((size_t)cfg->n_plugins + 1, sizeof(struct object *));
    out->loaded = calloc((size_t)cfg->n_plugins + 1, sizeof(struct object *));
    if (out->inst == NULL || out->object == NULL || out->loaded == NULL) {
        free(out->inst);
        free(out->object);
        free(out->loaded);
        memset(out, 0, sizeof *out);
        return -ENOMEM;
    }
    for (int i = 0; r == 0 && i < cfg->n_plugins; i++) {
        const struct setup_plugin *s = &setup->plugin[i];
        struct object *object;

        out->n = i + 1;
        if (cfg->plugin[i].is_removed)
            continue;
        object = find_object(out, s->copy);
        if (object == NULL) {
            if (progress != NULL)
                progress(arg, cfg->plugin[i].name, hook_name(HOOK_LOAD), s->object);
            r = object_load(s->object, s->copy, (uint32_t)i + 1, diag, &object);
            if (r == 0)
                out->object[out->n_objects++] = object;
        }
        out->loaded[i] = r == 0 ? object : NULL;
        if (r == 0)
            r = instance_create(cfg, i, object, shm, worker, diag, &out->inst[i]);
    }
    if (r == 0 && cfg->rollout.number != 0) {
        bh_inst *stable = out->inst[cfg->rollout.stable];

        arm_is_on = true;
        stable->next = out->inst[cfg->rollout.candidate];
        stable->rollout = stable->next->rollout = &shm->rollout;
    }
    if (r < 0)
        plugins_unload(out);
    return r;
}

uint32_t plugins_jobs(const struct plugins *p)
{
    uint32_t n = 0;

    for (int i = 0; i < p->n; i++)
        if (p->inst[i] != NULL)
            n += atomic_load(&p->inst[i]->n_jobs);
    return n;
}

/* close() ought to have ended its threads, but is not called when the plugin was ejected. */
static void unload(struct plugins *p, int i)
{
    struct object *object = p->loaded[i]; /* the instance may have a fresh copy of it */
    uint32_t n_jobs = p->inst[i] != NULL ? atomic_load(&p->inst[i]->n_jobs) : 0;

    if (n_jobs > 0) {
        log_warn("plugin '%s' is not closed: %u offloaded call%s of it go%s on",
                 p->inst[i]->cfg->name, n_jobs, n_jobs == 1 ? "" : "s", n_jobs == 1 ? "es" : "");
        object->is_held = true;
        return;
    }
    instance_destroy(&p->inst[i]);
    if (object != NULL && thread_count((uint32_t)i + 1) > 0)
        object->is_held = true;
}

void plugins_unload(struct plugins *p)
{
    for (int i = p->n - 1; i >= 0; i--)
        unload(p, i);
    for (int i = p->n_objects - 1; i >= 0; i--)
        object_unload(&p->object[i]);
    free(p->inst);
    free(p->object);
    free(p->loaded);
    memset(p, 0, sizeof *p);
}
