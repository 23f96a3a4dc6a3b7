/*
 * overlay.h - in what the plugins that run differ from those that the config file names.
 *
 * The file says what is wanted, but not always what runs: a version that is being rolled out runs beside
 * the one before it, and one that was rolled back is still what the file names. So a config is loaded as
 * "the file, and this over it" (plugin/overlay.h). What a newcomer would get wrong: a variant holds only
 * as long as the file says of its plugin what it said when the variant was made (its signature). Whoever
 * changes the file, or the object that it names, is taken at their word.
 */
#ifndef CONF_OVERLAY_H
#define CONF_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "conf/plan.h"

#define OVERLAY_VARIANTS 32

/* All members are malloc'd texts. */
struct overlay_variant { /* of one plugin */
    char *plugin;
    char *module;             /* as a config would name it; NULL: as the file does */
    char *options;            /* its `config:` as JSON; NULL: as the file has it */
    char *object;             /* file whose bytes are loaded; NULL: the one that the module names */
    char sha256[DIGEST_TEXT]; /* of it; "": not known */
    char version[48];         /* for people */
    char signature[DIGEST_TEXT]; /* overlay_sign(); "": holds whatever the file says */
};

struct overlay {
    int n;
    struct overlay_variant variant[OVERLAY_VARIANTS];
    struct {             /* a rollout; its stable arm is one of the variants */
        uint32_t number; /* 0: there is none */
        uint64_t salt[2];
        enum plan_key key;
        char *key_name;
        struct overlay_variant candidate;
    } rollout;
};

void overlay_variant_fini(struct overlay_variant *v);
/* 0 or -ENOMEM; then *out is empty. */
int overlay_variant_copy(const struct overlay_variant *from, struct overlay_variant *out);
/* Frees what it holds; it is empty then. */
void overlay_fini(struct overlay *o);
int overlay_copy(const struct overlay *from, struct overlay *out);
/* The variant of that plugin, or NULL. */
struct overlay_variant *overlay_find(struct overlay *o, const char *plugin);
/* Takes over v, in place of an earlier one of that plugin. 0, or -ENOSPC and v stays as it is. */
int overlay_put(struct overlay *o, struct overlay_variant *v);
void overlay_drop(struct overlay *o, const char *plugin);
void overlay_drop_all(struct overlay *o); /* variants, but for the stable arm of a rollout */
void overlay_end_rollout(struct overlay *o);

/* "NAME@next": what the candidate is called. */
#define OVERLAY_CANDIDATE "@next"

#endif
