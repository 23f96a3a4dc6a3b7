/*
 * object.h - a loaded plugin object: a private copy of the file, dlopen'd.
 *
 * The copy has a unique name and stays until unload, so that overwriting the original in place
 * cannot change running code, and so that debuggers and the symboliser find what really ran.
 */
#ifndef PLUGIN_OBJECT_H
#define PLUGIN_OBJECT_H

#include <bulkhead.h>
#include <stdbool.h>
#include <stdint.h>

struct diag;

struct object {
    char *path;   /* of the original */
    char *copy;   /* what is mapped */
    void *handle; /* dlopen's */
    const bh_plugin *desc;
    uintptr_t base; /* as text_object() tells it */
    uint32_t uses;  /* instances that will open another incarnation of it, and incarnations */
    bool is_held;   /* never dlclose'd: somebody may still run in it */
    void *(*cxa_globals)(void); /* the C++ run-time's per-thread state, or NULL */
};

/* Where copies go: made once, before the first fork, in $TMPDIR or /tmp, with a folder in it for those that
 * workers make (fresh.h). user: server.user, who may write there; NULL: as this process. 0 or
 * -errno. */
int object_dir_create(const char *user, struct diag *diag);
void object_dir_remove(void); /* with all copies in it; by the process that made it */
const char *object_fresh_dir(void);

/* Copies an object, with the bytes of `from`; path names the original. The malloc'd path of the copy in
 * *out. 0, or -errno and diag. */
int object_copy(const char *path, const char *from, struct diag *diag, char **out);
/* The same into dir, as "SERIAL-NAME", */
int object_copy_to(const char *dir, unsigned long serial, const char *path, const char *from,
                   struct diag *diag, char **out);

/* Loads a copy. Constructors run outside of any boundary (the loader's lock is held): a crash there
 * ends the process, and is charged to plugin (index + 1 of the first instance). The ABI note must
 * have been checked (manifest.h). path names the original in messages. 0, or -errno and diag. */
int object_load(const char *path, const char *copy, uint32_t plugin, struct diag *diag,
                struct object **out);
void object_unload(struct object **op);

#endif
