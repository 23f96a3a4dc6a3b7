/*
 * inherit.h - what a new master takes over from the one that executed it (upgrade.h).
 *
 * One environment variable holds numbers of descriptors: the channel to the old master, then its
 * listening sockets. What a newcomer would get wrong: it is removed at once, or plugins and their
 * children would take it for theirs.
 *
 * systemd's socket activation (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS) is the same thing from somebody
 * else: sockets that are bound already. What has the address of a listener is taken for it.
 */
#ifndef MASTER_INHERIT_H
#define MASTER_INHERIT_H

#include <stdbool.h>
#include <sys/socket.h>

#define INHERIT_ENV       "BULKHEAD_UPGRADE"
#define INHERIT_STORE_ENV "BULKHEAD_STORE" /* the descriptor of the memory store */

struct inherit {
    int channel_fd; /* -1: nobody executed us */
    int *fd;        /* listening sockets; -1: given out */
    int n;
    bool is_activated; /* systemd's, not an old master's: their files are not ours to remove */
};

/* Reads the variables and removes them. Descriptors that are no listening sockets are left alone, with
 * a warning. 0, or -ENOMEM. */
int inherit_read(struct inherit *in);

/* A listening socket bound to that address, which is now the caller's; -1: none. TCP port 0 is any
 * port. */
int inherit_take(struct inherit *in, const struct sockaddr *addr, socklen_t len);
/* Is there one? */
bool inherit_has(const struct inherit *in, const struct sockaddr *addr, socklen_t len);

/* Closes what nobody took, but not the channel; says so, where it is somebody else's. */
void inherit_close(struct inherit *in);

/* Are they the same, as far as a listener is concerned? any_port: port 0 of `wanted` matches all;
 * any_host: so does its "all interfaces". */
bool inherit_is_same(const struct sockaddr *wanted, const struct sockaddr *have, bool any_host);

#endif
