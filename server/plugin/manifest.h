/*
 * manifest.h - what a plugin object says about itself, read without running any of its code.
 *
 * The file's loadable segments are copied into plain memory and its relocations applied, so that
 * the descriptor can be read like in a loaded object; nothing of it is ever executed. What a
 * newcomer would get wrong: function pointers in desc only tell whether a hook is there.
 */
#ifndef PLUGIN_MANIFEST_H
#define PLUGIN_MANIFEST_H

#include <bulkhead.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"

struct arena;
struct diag;

struct manifest {
    const char *path;
    uint16_t abi_major, abi_minor, min_minor; /* of the ELF note */
    const bh_plugin *desc;    /* a copy: all strings and options are in arena, and sound */
    bool stays_mapped;        /* DF_1_NODELETE */
    bool has_static_tls;      /* DF_STATIC_TLS: initial-exec */
    uint32_t n_unique;        /* STB_GNU_UNIQUE symbols that it defines */
    char unique[64];          /* one of them */
    char build_id[65];        /* hexadecimal; empty when there is none */
    char sha256[DIGEST_TEXT]; /* of the file */
    const char **needed;      /* DT_NEEDED, NULL at the end */
    struct arena *arena;      /* owns all of the above */
};

/* 0 and the manifest in *out; or -errno and one clear mistake in diag (file: path), different for
 * each of: cannot be read, not an ELF file, truncated, wrong machine or class, not a shared object,
 * no ABI note, wrong ABI (says which is wanted), no bh_plugin_v1, no descriptor, malformed
 * descriptor, and undefined symbols that neither the object's own libraries nor the host offer
 * (names them). Bounded: objects up to 256 MiB; never trusts an offset.
 * known: the SHA-256 of an object whose symbols all were found before; NULL: there is none. Of that one
 * they are not looked for again, in libraries of megabytes; loading will tell if those have changed. */
int manifest_read(const char *path, const char *known, struct diag *diag, struct manifest **out);
/* The same for a file in memory. */
int manifest_parse(const void *file, size_t n, const char *path, const char *known,
                   struct diag *diag, struct manifest **out);
/* What the loader makes of it that a plugin's author may not expect; a sentence for trait i, from 0. False:
 * there are no more. */
bool manifest_trait(const struct manifest *m, int i, char *buf, size_t size);
void manifest_destroy(struct manifest **mp);

/* The object file for a module name: the first DIR/NAME.so of dirs that exists; or the path itself
 * when it contains '/'. 0 and an absolute path in out, or -ENOENT. */
int manifest_find(const char *module, const char *const *dirs, int n_dirs, char *out, size_t size);

/* Module names ("static") that dirs hold, sorted, for hints; malloc'd NULL-terminated list. NULL:
 * no memory. */
char **manifest_list(const char *const *dirs, int n_dirs);
void manifest_list_free(char ***listp);

#endif
