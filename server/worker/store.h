/*
 * store.h - which store this process has.
 */
#ifndef WORKER_STORE_H
#define WORKER_STORE_H

#include <bulkhead.h>

struct config;
struct diag;
struct store_memory;

/* Opens the config's store and fills the host table's members. memory: the master's segment; NULL: this
 * is a trial, which gets an empty one of its own, whatever the config says. 0, or -errno and diag. */
int store_open(bh_host *h, const struct config *cfg, struct store_memory *memory,
               struct diag *diag);

#endif
