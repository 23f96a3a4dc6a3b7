/*
 * diff.h - what is different between two configs, and what it takes to put the new one to work.
 *
 * Both are compared as they were written, key by key, after ${ENV}; comments and layout do not count.
 * Values of plugin options are never told: some of them are secrets, and only the plugin knows which.
 */
#ifndef CONF_DIFF_H
#define CONF_DIFF_H

#include <stdbool.h>

struct config;

enum change_how {
    CHANGE_WORKERS,  /* workers with the new config take over from those with the old one */
    CHANGE_ROLLOUT,  /* new workers, but some requests after the other: master/rollout.h */
    CHANGE_LISTENER, /* the same, and listening sockets are opened or closed */
    CHANGE_RESTART,  /* not by a reload */
};

#define CHANGE_TEXT 96

struct change {
    char path[160];                          /* "plugins.limit.config.rate" */
    char from[CHANGE_TEXT], to[CHANGE_TEXT]; /* "" where there is nothing to tell */
    char what;                               /* '+' is new, '-' is gone, '~' is another */
    enum change_how how;
};

struct changes {
    struct change *item;
    int n, cap;
    bool is_cut; /* there are more: out of memory, or of patience */
};

#define CHANGES_MAX 1000

/* Adds what differs; `before` is what is served now. */
void config_diff(const struct config *before, const struct config *cfg, struct changes *out);
void changes_add(struct changes *out, char what, enum change_how how, const char *path,
                 const char *from, const char *to);
void changes_fini(struct changes *c);

/* "new workers", ... for people and programs. */
const char *change_how_text(enum change_how how);

#endif
