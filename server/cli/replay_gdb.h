/*
 * replay_gdb.h - the debugger at the place where a replayed request crashes.
 */
#ifndef CLI_REPLAY_GDB_H
#define CLI_REPLAY_GDB_H

#include <stddef.h>

struct replay_server;

/* Runs gdb on the worker, which goes on and gets the request; arguments: more for gdb, NULL-terminated.
 * Returns when gdb has ended, with an exit status. */
int replay_gdb(struct replay_server *s, const char *request, size_t len, char *const *arguments);

#endif
