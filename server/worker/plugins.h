/*
 * plugins.h - the plugin instances of this process.
 */
#ifndef WORKER_PLUGINS_H
#define WORKER_PLUGINS_H

#include <bulkhead.h>

struct config;
struct diag;
struct setup;
struct shm;

struct plugins {
    int n;
    bh_inst **inst;         /* as config->plugin[] */
    struct object **object; /* each once */
    int n_objects;
    struct object **loaded; /* as inst: what was loaded for it at first */
};

/* Called before each stage of each plugin; NULL: nobody listens. */
typedef void plugins_progress(void *arg, const char *plugin, const char *stage, const char *object);

/* Loads every object once, makes every instance. Constructors run. 0, or -errno and diag. */
int plugins_load(const struct config *cfg, const struct setup *setup, struct shm *shm, int worker,
                 plugins_progress *progress, void *arg, struct diag *diag, struct plugins *out);
/* Offloaded calls that wait or run, of all instances. */
uint32_t plugins_jobs(const struct plugins *p);
/* Closes the instances, unloads the objects; but for those whose offloaded calls go on: their threads end
 * with the process. */
void plugins_unload(struct plugins *p);

#endif
