/*
 * lmdb.h - the store in a file: shared by all workers of a server, and there again after a restart.
 *
 * LMDB maps the file; reads are memory, a change is one transaction: some pages written to the kernel, no
 * fsync(2). A process may be killed at any point of it (its lock is robust, and a transaction that has not
 * ended has not happened). A thread asks the kernel to write it out every sync_ms: a loss of power, or a
 * crash of the system, costs what came since; how far the file is sound then, docs/store.md says.
 */
#ifndef STORE_LMDB_H
#define STORE_LMDB_H

#include <stddef.h>
#include <stdint.h>

struct store;

/* Can it be had here? Opens nothing. -errno and a text in why. */
int lmdb_check(char *why, size_t why_size);
/* Not in a process that has it open already, nor before a fork. size: bytes of keys and values. sync_ms
 * 0: leave it to the kernel. -errno and a text in why. */
int lmdb_open(const char *path, uint64_t size, uint32_t sync_ms, char *why, size_t why_size,
              struct store **out);

#endif
