/*
 * redis.h - a real redis-server for a test: on a free port and a Unix socket, with a password.
 */
#ifndef HARNESS_REDIS_H
#define HARNESS_REDIS_H

#include <stdbool.h>
#include <sys/types.h>

struct redis_server {
    pid_t pid;
    int port, claim_fd;
    char *dir; /* its socket is DIR/redis.sock */
};

#define REDIS_PASSWORD "opensesame"

bool redis_is_there(void); /* else a test had better skip() */
struct redis_server *redis_start(void);
void redis_kill(struct redis_server *r);    /* what it had is gone */
void redis_restart(struct redis_server *r); /* at the same places */
void redis_stop(struct redis_server **rp);

#endif
