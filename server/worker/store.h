/*
 * store.h - which store this process has, and, where that is on another machine, its place in the loop.
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

/* The loop's part: what it waits for at most (-1: any time); at a turn's begin and at its end. */
int store_timeout_ms(void);
void store_read(void);
void store_turn(void);
/* Its connection is readable or writable. */
void store_wake(void);

#endif
