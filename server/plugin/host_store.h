/*
 * host_store.h - the store's functions in the table that plugins call.
 */
#ifndef PLUGIN_HOST_STORE_H
#define PLUGIN_HOST_STORE_H

#include <bulkhead.h>
#include <stdbool.h>

#include "store/store.h"

/* A store that is asked now and answers later (redis); NULL: there is none. */
struct store_remote {
    /* As redis_store_ask() has it. */
    int (*ask)(const struct store_op *op, store_answered *done, void *arg);
    bool is_local_when_down; /* then the other one answers */
};

/* Fills the table's members with calls into s, which stays the caller's and has to outlive all plugins.
 * With a remote the calls that answer at once are BH_ENOSYS. The calling thread is the loop's. */
void host_store_init(bh_host *h, struct store *s, const struct store_remote *remote);

/* ---- host_store_async.c ---- */

/* Filled in by host_store_init(). */
void host_store_async_init(bh_host *h, struct store *s, const struct store_remote *remote);
/* On the loop: the answers that are there already. */
void host_store_run(void);
/* Are there any? */
bool host_store_has_answers(void);

/* ---- for these two ---- */

/* The instance's namespace, opened; 0 or -errno. */
int host_store_open_ns(bh_inst *inst);
/* -errno of the store as a plugin is told; what an operator has to know is logged. */
bh_rc host_store_rc(bh_inst *inst, int r);

#endif
