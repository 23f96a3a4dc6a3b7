/*
 * setup.h - from a config to plugins whose manifests and options are known to be good.
 *
 * Runs no plugin code: used by `bulkhead check` and by the master before it starts anything.
 */
#ifndef PLUGIN_SETUP_H
#define PLUGIN_SETUP_H

#include "base/digest.h"

struct config;
struct diag;
struct manifest;

struct setup_plugin {          /* all zero: the place of a removed plugin (conf/align.h) */
    char *object;              /* absolute path of the .so */
    char *source;              /* whose bytes are taken; the same, but for a variant (overlay.h) */
    char *copy;                /* the private copy that is loaded; after setup_copy() */
    char sha256[DIGEST_TEXT];  /* of the copy */
    struct manifest *manifest; /* shared by instances of one object */
};

struct setup {
    int n; /* as config->n_plugins, same order */
    struct setup_plugin plugin[];
};

/* Finds each object, reads its manifest, checks the options. All mistakes in diag, at the places in
 * the config file that name the module or the option. What `before` (NULL: none) has already, byte for
 * byte, is looked at less closely. 0 or -errno. */
int setup_create(const struct config *cfg, const struct setup *before, struct diag *diag,
                 struct setup **out);
/* Makes the private copies that are loaded, before anything is forked. What `before` (NULL: none) has
 * already, byte for byte, is taken from there. object_dir_remove() when all is over. */
int setup_copy(const struct config *cfg, struct setup *s, const struct setup *before,
               struct diag *diag);
/* Logs what the loader makes of objects, as far as `before` (NULL: none) does not have them. */
void setup_tell_traits(const struct config *cfg, const struct setup *s, const struct setup *before);
/* Removes the copies that none of the others uses. */
void setup_remove_copies(struct setup *s, const struct setup *const *others, int n);
void setup_destroy(struct setup **sp);

#endif
