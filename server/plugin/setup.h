/*
 * setup.h - from a config to plugins whose manifests and options are known to be good.
 *
 * Runs no plugin code: used by `bulkhead check` and by the master before it starts anything.
 */
#ifndef PLUGIN_SETUP_H
#define PLUGIN_SETUP_H

struct config;
struct diag;
struct manifest;

struct setup_plugin {
    char *object;              /* absolute path of the .so */
    char *copy;                /* the private copy that is loaded; after setup_copy() */
    struct manifest *manifest; /* shared by instances of one object */
};

struct setup {
    int n; /* as config->n_plugins, same order */
    struct setup_plugin plugin[];
};

/* Finds each object, reads its manifest, checks the options. All mistakes in diag, at the places in
 * the config file that name the module or the option. 0 or -errno. */
int setup_create(const struct config *cfg, struct diag *diag, struct setup **out);
/* Makes the private copies that are loaded, before anything is forked. object_dir_remove() when all
 * is over. */
int setup_copy(const struct config *cfg, struct setup *s, struct diag *diag);
void setup_destroy(struct setup **sp);

#endif
