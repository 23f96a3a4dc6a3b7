/*
 * leftovers.h - what plugins have left behind in the preflight process when all of them are closed.
 *
 * Threads, timers, signal handlers and keys with a destructor would call code that is gone once the object
 * is unloaded: such a plugin is refused. What may be closed by a destructor of the object (handlers, keys)
 * is looked at again after dlclose(). A descriptor that is left open does no harm to others: a note.
 */
#ifndef WORKER_LEFTOVERS_H
#define WORKER_LEFTOVERS_H

#include <signal.h>
#include <stdint.h>

#include "worker/plugins.h"

struct config;
struct diag;

struct leftovers {
    struct sigaction action[NSIG];
    int n_tasks; /* threads that were there */
};

/* Before plugins are loaded. */
void leftovers_begin(struct leftovers *l);

/* After all instances are closed: 0, or -EBUSY and one mistake in diag for each thing. Objects may be
 * unloaded by it, which `progress` is told. */
int leftovers_check(const struct leftovers *l, const struct config *cfg, struct plugins *plugins,
                    int report_fd, plugins_progress *progress, void *arg, struct diag *diag);

#endif
