/*
 * overlay.h - lays the variants of plugins that run over a config as the file has it (conf/overlay.h).
 */
#ifndef PLUGIN_OVERLAY_H
#define PLUGIN_OVERLAY_H

#include "base/digest.h"

struct config;
struct diag;
struct overlay;
struct overlay_variant;
struct setup;

/* What the file says of plugin i, in short: its module's bytes and its options. */
void overlay_sign(const struct config *cfg, int i, char out[DIGEST_TEXT]);

/* cfg was loaded just now: sets module, options and object of plugins that have a variant that holds, adds
 * the candidate. Those that do not hold any more are dropped from o. 0, or -errno and diag. */
int overlay_apply(struct config *cfg, struct overlay *o, struct diag *diag);

/* Plugin i as it runs. All but the signature. 0 or -ENOMEM. */
int overlay_describe(const struct config *cfg, const struct setup *setup, int i,
                     struct overlay_variant *out);

#endif
