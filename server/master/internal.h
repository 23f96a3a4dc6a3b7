/*
 * internal.h - what the files of the master share.
 */
#ifndef MASTER_INTERNAL_H
#define MASTER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/config.h"
#include "master/listen.h"
#include "master/master.h"
#include "master/respawn.h"
#include "master/user.h"

#define MASTER_READY_MS 10000 /* from fork to "ready" */

enum master_phase {
    MASTER_STARTING, /* until every worker is ready */
    MASTER_SERVING,
    MASTER_DRAINING, /* workers finish what they have */
    MASTER_FORCING,  /* workers stop at once */
    MASTER_FLUSHING, /* workers are gone; the recorder writes the rest */
    MASTER_ENDED,
};

enum child_state {
    CHILD_DOWN,    /* and stays so */
    CHILD_WAITING, /* is started again at due_ms */
    CHILD_STARTING,
    CHILD_RUNNING,
};

#define CHILD_RECORDER (-1) /* as an index */
#define CHILD_MESSAGE  1024

struct child {
    int index; /* of the worker, or CHILD_RECORDER */
    enum child_state state;
    pid_t pid;                   /* 0 unless STARTING or RUNNING */
    int ready_fd;                /* what the worker says when it is ready, or why not; -1: closed */
    int64_t due_ms;              /* WAITING: start; STARTING: ready by then */
    bool was_told_to_end;        /* by SIGQUIT or SIGKILL of ours: however it ends is fine */
    char message[CHILD_MESSAGE]; /* why it is not ready */
    size_t message_len;
    struct respawn respawn;
};

struct master {
    const struct config *cfg;
    const struct setup *setup;
    const struct master_roles *roles;
    struct shm *shm;
    struct listen_set listeners;
    struct user user;
    enum master_phase phase;
    int64_t phase_end_ms; /* DRAINING, FORCING, FLUSHING: patience ends */
    int exit_status;
    int epoll_fd, signal_fd;
    struct child recorder;
    struct child *worker; /* cfg->n_workers */
};

/* ---- start.c ---- */

/* One line on stderr, wherever the log goes, and in the log. */
__attribute__((format(printf, 2, 3))) void master_say(const struct master *m, const char *fmt, ...);
/* "bulkhead 0.1.0 serving on ..." */
void master_announce(const struct master *m);
/* Sockets, user, folder, shared memory; 0, or -errno and it has been said. */
int master_prepare(struct master *m);

/* ---- child.c ---- */

void child_init(struct child *c, int index, const struct config *cfg);
/* Forks. When that fails, the child is WAITING for another try. */
void child_start(struct master *m, struct child *c);
bool child_is_alive(const struct child *c);
/* "worker 0", "recorder" */
void child_name(const struct child *c, char *buf, size_t size);
void child_kill(struct child *c, int signo);
/* Something came through ready_fd. The worker is RUNNING if that was the word. */
void child_read_ready(struct child *c);
/* Collects it if it has ended; true then, with *status as of waitpid(), and it is DOWN. */
bool child_reap(struct child *c, int *status, bool *was_serving);
/* WAITING: when respawn.h says. reason: why not at once, if it is not; NULL: it ended too often. */
void child_start_later(struct child *c, bool was_serving, const char *reason);
/* In a child, before its role: signals, name, user, end of the parent. Leaves when that fails. */
void child_become(const struct user *user, pid_t parent, bool ignore_quit, const char *role);

/* ---- death.c ---- */

/* "was killed by SIGSEGV", "ended with exit status 1" */
void death_describe(int status, char *buf, size_t size);
/* Where the worker is, or was when it died: "in plugin 'x', on_request, at GET /y", "outside of
 * plugins". */
void death_where(const struct master *m, int worker, char *buf, size_t size);
/* The worker died: charges the plugin, leaves a crash record to the recorder, logs the one line. */
void death_charge(const struct master *m, int worker, pid_t pid, int status);
/* Nothing of the dead one is taken for its successor's. */
void death_clear(const struct master *m, int worker);

/* ---- preflight.c ---- */

extern int preflight_wall_ms; /* patience; tests have less */

/* As master_preflight(), but -errno; -EINTR: a signal to stop is pending. listeners, which its
 * child closes, may be NULL. */
int preflight_run(const struct config *cfg, const struct setup *setup, struct shm *shm,
                  const struct master_roles *roles, int validate_only, const struct user *user,
                  struct listen_set *listeners);

#endif
