/*
 * hostfd.h - which file descriptors belong to the host, so that plugins do not close them.
 *
 * A descriptor that a plugin closes under the host's hands is worse than a crash: the next socket
 * gets its number, and the host writes into that. So everything that is open when plugins begin to
 * be loaded is the host's, and whatever it opens later and says so (connections, their epoll, files
 * it is sending). close() and its kin (interpose_fd.c) refuse them to plugins with EBADF.
 *
 * What a newcomer would get wrong: only plugins are refused. The host closes as ever, which takes
 * the descriptor off the list by itself; but where it does so inside a plugin call (a host function),
 * it looks like the plugin: hostfd_remove() comes first there.
 */
#ifndef PLUGIN_HOSTFD_H
#define PLUGIN_HOSTFD_H

#include <stdbool.h>

struct config;
struct shm;

/* Notes all that are open now. Once per process, before any plugin is loaded. */
void hostfd_init(const struct config *cfg, struct shm *shm);

/* Any thread; -1 and numbers beyond the table (a million) are ignored. */
void hostfd_add(int fd);
void hostfd_remove(int fd);
bool hostfd_has(int fd);

/* The lowest from `from` up that is the host's; -1: none. */
int hostfd_next(int from);

/* Is this a plugin's call (made from `caller`), of which the host's descriptors are kept? */
bool hostfd_is_guarded(const void *caller);

/* Such a call wanted to close fd: charged to the plugin, and logged once a call and a second. */
void hostfd_note(const char *function, int fd, const void *caller);

#endif
