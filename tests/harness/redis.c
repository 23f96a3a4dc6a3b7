#include "redis.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

bool redis_is_there(void)
{
    return run_command(NULL, "command -v redis-server || command -v redis-check-rdb") == 0;
}

void redis_restart(struct redis_server *r)
{
    char path[256], log[256];

    snprintf(path, sizeof path, "%s/redis.conf", r->dir);
    snprintf(log, sizeof log, "%s/redis.log", r->dir);
    file_write(path,
               "bind 127.0.0.1\nport %d\nunixsocket %s/redis.sock\nunixsocketperm 777\ndir %s\n"
               "save \"\"\nrequirepass " REDIS_PASSWORD "\n",
               r->port, r->dir, r->dir);
    r->pid = fork();
    if (r->pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fd, 1);
        dup2(fd, 2);
        execlp("redis-server", "redis-server", path, (char *)NULL);
        execlp("redis-check-rdb", "redis-server", path, (char *)NULL); /* its name decides */
        _exit(127);
    }
    eventually(run_command(NULL, "grep -q 'Ready to accept' %s", log) == 0);
}

struct redis_server *redis_start(void)
{
    struct redis_server *r = calloc(1, sizeof *r);

    assert_non_null(r);
    r->dir = tmp_dir();
    assert_int_equal(run_command(NULL, "chmod 755 %s", r->dir), 0);
    r->port = free_port_claimed(&r->claim_fd);
    redis_restart(r);
    return r;
}

void redis_kill(struct redis_server *r)
{
    char log[256];

    kill(r->pid, SIGKILL);
    waitpid(r->pid, NULL, 0);
    snprintf(log, sizeof log, "%s/redis.log", r->dir);
    unlink(log);
}

void redis_stop(struct redis_server **rp)
{
    redis_kill(*rp);
    close((*rp)->claim_fd);
    free((*rp)->dir);
    free(*rp);
    *rp = NULL;
}
