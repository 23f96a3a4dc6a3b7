/*
 * admin.h - the master's side of the admin process: its socket, its tokens, its questions.
 *
 * The process is forked like the recorder, and again when it dies or the config changes. The listening
 * socket stays with the master, so that who comes meanwhile waits in its queue.
 */
#ifndef MASTER_ADMIN_H
#define MASTER_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/config.h"
#include "ipc/admin.h"
#include "master/control.h"
#include "master/listen.h"

struct diag;
struct inherit;
struct master;

struct admin_keys {
    int fd;                   /* their bundle; -1: it speaks no TLS */
    uint64_t signature, seen; /* of the files: as they were read, as they were last looked at */
    int64_t next_ms;          /* when they are looked at */
};

/* A socket at one address, with what goes with it; independent of the config that it came from. */
struct admin_door {
    bool is_open;
    struct config only; /* nothing but that listener */
    struct config_listener listener;
    char address[sizeof(((struct sockaddr_un *)0)->sun_path) + 8];
    struct listen_set set;
    struct admin_token operator_token, reader_token;
    struct admin_keys keys;
};

struct admin {
    struct admin_door door, next; /* next: of a reload that is under way */
    int sessions_fd;
    struct control_client client; /* the process, as one that asks; fd: our end */
    bool is_writing;              /* it is watched for room, not for questions */
    bool wants_news;              /* it has asked for events, and been told up to told_events */
    uint32_t told_events;
    bool is_renewing; /* the process makes room for one with another certificate */
};

void admin_init(struct admin *a);
/* Opens what the config names; 0 too when it names nothing; else -errno, and why in diag. */
int admin_open(struct master *m, struct inherit *in, struct diag *diag);
/* The same for the config of a reload; nothing changes until admin_commit(). */
int admin_prepare(struct master *m, const struct config *next, struct diag *diag);
void admin_commit(struct master *m);
void admin_abandon(struct master *m);
/* Forks the process, if there is to be one. */
void admin_start(struct master *m);
void admin_tick(struct master *m, int64_t now_ms);
/* It is no more. */
void admin_ended(struct master *m, int status);
/* It asks, or takes the rest of an answer. */
void admin_read(struct master *m);
/* That there are events which it has not asked for. */
void admin_tell_news(struct master *m);
/* The server stops, or another has taken its place. */
void admin_stop(struct master *m);
void admin_close(struct master *m);
/* In a child: those descriptors are the master's. */
void admin_forget(struct admin *a);
/* In the admin process: takes what is its own, before admin_forget(). */
struct admin_seat admin_take_seat(struct admin *a, int channel_fd);
/* "http://127.0.0.1:9900"; "" when there is none. */
void admin_describe(const struct master *m, char *buf, size_t size);

/* ---- admin_keys.c ---- */

/* Reads what that config names, or forgets what there was. 0, or -errno, why in diag, *k as it was. */
int admin_keys_load(struct admin_keys *k, const struct config *cfg, struct diag *diag);
void admin_keys_close(struct admin_keys *k);
/* Has a file changed? */
void admin_keys_tick(struct master *m, int64_t now_ms);
int64_t admin_keys_next_ms(const struct master *m);

/* ---- token.c ---- */

/* The sum of a token that stands alone in a file; made with a random one where there is no such file.
 * path NULL: none. 0, or -errno and why in diag. */
int token_load(const char *path, const char *key, const struct config *cfg, struct diag *diag,
               struct admin_token *out);

#endif
