/*
 * replay_server.h - a server for one request, that nobody else can reach: `bulkhead replay`.
 *
 * Real master, recorder and worker, so that what crashes there crashes as it did, and leaves a record of
 * the same kind; on a Unix socket in a folder of its own, with the one plugin, or all of a config.
 * What a newcomer would get wrong: it is made of a config of its own into which the plugin is put, and
 * not of the given one with things left out. So nothing that a later version adds (exporters,
 * listeners, admin interfaces) runs in here by accident.
 */
#ifndef CLI_REPLAY_SERVER_H
#define CLI_REPLAY_SERVER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct config;
struct setup;

struct replay_server {
    const char *command; /* for messages */
    char dir[64];        /* of its own; removed by replay_stop() */
    struct config *given, *cfg;
    struct setup *setup;
    int plugin; /* in cfg */
    pid_t master;
};

struct replay_wish {
    const char *config;   /* the file */
    const char *instance; /* of the plugin */
    const char *module;   /* another object; NULL: the config's */
    bool whole_chain;     /* all plugins and routes of the config */
    bool no_deadlines;
};

/* Starts it. CLI_OK, or another exit status and it has been said why; then there is nothing to stop. */
int replay_start(struct replay_server *s, const struct replay_wish *wish);

/* Sends the bytes, reads the answer to its end. *status: of the answer, 0: there was none. 0 or -errno. */
int replay_send(const struct replay_server *s, const char *request, size_t len, int *status);

/* The process that the request will crash; -1: it cannot be seen. */
pid_t replay_worker(const struct replay_server *s);

/* Ends the server, which writes all records before. replay_clean() after they have been read: gives all
 * back. */
void replay_end(struct replay_server *s);
void replay_clean(struct replay_server *s);

/* The folder of its crash records. */
void replay_crashes(const struct replay_server *s, char dir[PATH_MAX]);
/* Its log, to stderr. */
void replay_print_log(const struct replay_server *s);

#endif
