/*
 * admin.h - what the admin process inherits from the master.
 *
 * What a newcomer would get wrong: a token never stands in the memory of a worker, whose plugins could
 * read it. The master reads the file, keeps the SHA-256 of what is in it, and wipes the rest; sessions
 * of browsers are in a memory file of which only the master and the admin process have descriptors.
 */
#ifndef IPC_ADMIN_H
#define IPC_ADMIN_H

#include <stdbool.h>
#include <stdint.h>

enum admin_role { ADMIN_NOBODY, ADMIN_READER, ADMIN_OPERATOR };

struct admin_token {
    bool is_set;
    uint8_t sum[32]; /* SHA-256 */
};

struct admin_seat {
    int listen_fd;
    int channel_fd; /* a stream to the master: control_request there, control_reply and text back */
    int sessions_fd; /* ADMIN_SESSIONS_SIZE bytes, zeroed at first; outlives this process */
    int keys_fd;     /* a bundle (tls/bundle.h) of its own certificate and key; -1: no TLS */
    struct admin_token operator_token, reader_token;
};

#define ADMIN_SESSIONS_SIZE 8192

#endif
