/*
 * surrender.h - a worker that is at its end hands its connections to the master by itself.
 *
 * The master takes them with pidfd_getfd(2) where it may; a kernel before 5.6, a container's seccomp
 * filter, or a master without CAP_SYS_PTRACE over workers of another user may deny it that.
 */
#ifndef IPC_SURRENDER_H
#define IPC_SURRENDER_H

#include "ipc/shm.h"

/* Sends each open connection of the slot's table over the channel, and that this was all. Descriptors
 * that are closed by now are left out. Async-signal-safe; waits while the channel is full, patience_ms
 * at most. 0 or -errno. */
int surrender(const struct shm *shm, uint32_t slot, int channel_fd, int patience_ms);

#endif
