/*
 * fresh.h - a fresh copy of a plugin's object, with fresh static variables, for after crashes.
 *
 * The loader gives back the old mapping for a file that it knows, so the file is copied once more,
 * by the worker, into a folder that the master has made for that. What a newcomer would get wrong:
 * the copy that crashed is never unloaded: its destructors would run on what the crash left, and
 * requests may still be inside. So their number is bounded.
 */
#ifndef PLUGIN_FRESH_H
#define PLUGIN_FRESH_H

#include <stdbool.h>
#include <stdint.h>

struct diag;
struct object;

#define FRESH_MAX 4 /* in one worker */

/* Copies and loads it; constructors run, outside of any boundary, charged to plugin (index + 1). 0, or
 * -errno and diag. Loop thread. */
int fresh_load(const struct object *old, uint32_t plugin, struct diag *diag, struct object **out);
/* FRESH_MAX were loaded in this process. */
bool fresh_is_exhausted(void);

#endif
