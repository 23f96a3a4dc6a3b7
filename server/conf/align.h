/*
 * align.h - a config gets the places of the one before it.
 *
 * Counters, breakers, attribution and crash records know plugins and routes by number, and outlive a
 * reload; workers of both configs live side by side for a while. So a plugin keeps its place
 * (plugin[i]) as long as its name is the same, and a route its number as long as it matches the same
 * requests under the same name. What a newcomer would get wrong: after this there may be places of
 * plugins that are no longer there (is_removed), which keep their names for what is still told of
 * them, and which every loop over plugin[] has to skip.
 */
#ifndef CONF_ALIGN_H
#define CONF_ALIGN_H

#include <stdbool.h>

struct config;

#define CONFIG_MAX_PLACES 1024 /* of plugins, removed ones included */

/* cfg was loaded just now, and nobody else has it yet. in_use[i], for each place of `before`: a worker
 * may still work for the plugin there, so that its place can't be another's. is_fresh[i], of
 * CONFIG_MAX_PLACES, is set for each place of cfg whose plugin was not there before: its counters
 * begin anew. 0, -ENOMEM, or -ENOSPC: too many plugins have come and gone while old workers live. */
int config_align(struct config *cfg, const struct config *before, const bool *in_use,
                 bool *is_fresh);

#endif
