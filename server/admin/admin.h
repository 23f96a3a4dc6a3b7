/*
 * admin.h - the admin process: an HTTP server for operators, apart from the one for everybody.
 *
 * It is forked by the master, like the recorder; loads no plugin; reads what the workers write into
 * shared memory, which it can't write to; and asks the master for the rest, with the same requests as
 * `bulkhead status` and the like. What a newcomer would get wrong: its peers are strangers too. All
 * that one of them can take (connections, bytes, time, attempts to log in) has a bound.
 *
 * One thread, one loop (admin.c). A request that needs the master is suspended until that has answered;
 * the others go on.
 */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include <stdbool.h>

struct admin_seat;
struct config;
struct shm;

struct admin_plugin {
    const char *version, *summary, *object, *sha256; /* NULL: not known */
    const char *hooks;                               /* "on_request on_log"; NULL: none */
};

struct admin_view {
    const struct config *cfg;
    const struct admin_plugin *plugin; /* as cfg->plugin */
    /* Is that option of plugin i a secret, by the plugin's own word? */
    bool (*is_secret)(const void *context, int i, const char *option);
    const void *context;
};

/* Serves until SIGTERM, SIGQUIT or SIGUSR2. Returns the exit status. */
int admin_run(const struct admin_view *view, struct shm *shm, const struct admin_seat *seat);

#endif
