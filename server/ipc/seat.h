/*
 * seat.h - what a worker inherits from the master, and what its end means.
 */
#ifndef IPC_SEAT_H
#define IPC_SEAT_H

#include <stdbool.h>

struct store_memory;

struct worker_seat {
    int slot;       /* in shared memory: its own as long as it lives */
    int post;       /* of listening sockets that it serves, or will; -1: CHANNEL_SERVE says which */
    bool stands_by; /* until CHANNEL_SERVE */
    int n_posts;
    const int *listen_fds; /* one per cfg->listener, non-blocking, for post 0; then post 1...; -1:
                            * closed already, as are all others once it has a post. A Unix socket's
                            * queue is shared by all workers. */
    int ready_fd;
    int channel_fd;             /* ipc/channel.h */
    int keys_fd;                /* tls/bundle.h; -1: none */
    struct store_memory *store; /* store/memory.h */
};

/* A worker's exit status. Any other end that was not asked for is a death: charged to the plugin that
 * shm_worker.call names, and recorded. */
enum {
    WORKER_STOPPED = 0,   /* was told to, or had handed over all it had */
    WORKER_NOT_READY = 3, /* could not come up, and wrote why to ready_fd */
    WORKER_REPLACE = 4,   /* drained by itself and asks for a successor; charged to nobody */
};

#endif
