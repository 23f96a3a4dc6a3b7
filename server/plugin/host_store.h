/*
 * host_store.h - the store's functions in the table that plugins call.
 */
#ifndef PLUGIN_HOST_STORE_H
#define PLUGIN_HOST_STORE_H

#include <bulkhead.h>

struct store;

/* Fills the table's members with calls into s, which stays the caller's and has to outlive all plugins.
 * The calling thread is the loop's. */
void host_store_init(bh_host *h, struct store *s);

#endif
