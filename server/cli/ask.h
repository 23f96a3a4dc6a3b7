/*
 * ask.h - asking a running server, for the commands that do.
 */
#ifndef CLI_ASK_H
#define CLI_ASK_H

#include <stdbool.h>

#include "ipc/control.h"

struct ask {
    const char *command;           /* "bulkhead status", for messages */
    const char *config;            /* NULL: the usual one */
    const char *socket;            /* NULL: of that config */
    const char *said;              /* a text that goes with the command; NULL: none */
    bool is_patient;               /* -ETIMEDOUT is no news: it will be asked again */
    struct control_stream *stream; /* of CONTROL_FOLLOW; NULL: it is another command */
};

/* The options of a command that only asks: -c, --socket, --json, --help. True: go on, from optind. False:
 * the command is over, with that exit status. */
bool ask_options(int argc, char **argv, const char *help, struct ask *ask, bool *is_json,
                 int *status);

/* 0; what the server answers to the command (0 or -errno) in *result, and the text of it, malloc'd or
 * NULL, in *text. Or -errno: it could not be asked, and it has been said why and what to do. */
int ask_server(const struct ask *ask, enum control_command command, int argument, int *result,
               char **text);

#endif
