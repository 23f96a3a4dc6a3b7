/*
 * redis.h - a Redis server, asked without waiting: commands go out in a row, answers come in that order.
 *
 * One connection, which its owner drives: redis_fd() and redis_events() say what to poll for,
 * redis_timeout_ms() when to come at the latest, redis_run() goes on. hiredis speaks the protocol; it is
 * loaded when the first of these is opened, and its own connections are not used, since those of Debian
 * 12's version know no TLS.
 *
 * The breaker. A connection that fails, or whose oldest command is not answered in time, is closed, and
 * all that wait for it fail. Then comes a pause, from 100 ms, doubling to 10 s; in it commands fail at
 * once. After it a new connection is the trial: only when the server has taken the password, the
 * database and the scripts do commands go out again. Those that come while it is being made wait for it,
 * as long as they have time.
 */
#ifndef STORE_REDIS_H
#define STORE_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/link.h"

#define REDIS_QUEUE_MAX 10000       /* commands that wait for an answer */
#define REDIS_BYTES_MAX (16u << 20) /* that wait to be sent */
#define REDIS_SCRIPTS   4

struct redis;
struct redisReply;

struct redis_options {
    struct link_options link;
    const char *user, *password; /* NULL: none */
    unsigned database;
    uint32_t timeout_ms;
    const char *script[REDIS_SCRIPTS]; /* loaded into each connection; NULL: the last */
};

struct redis_arg {
    const char *p;
    size_t n;
};

/* r: 0 and the answer, which may be an error of Redis'; -ETIMEDOUT; -ENOTCONN: there is no connection,
 * or it has failed before the answer; whether the command was carried out is not known then. */
typedef void redis_done(void *arg, int r, const struct redisReply *reply);

/* The options must outlive it. -ENOSYS and a text in why: hiredis is not there. */
int redis_open(const struct redis_options *o, char *why, size_t size, struct redis **out);
/* Those that wait are told -ENOTCONN. */
void redis_close(struct redis **rp);

/* 0, and done is called later, never in here; -EAGAIN: too much waits; -ENOTCONN: in a pause. */
int redis_send(struct redis *r, const struct redis_arg *args, int n, redis_done *done, void *arg,
               int64_t now_ns);
/* The same with EVALSHA of script[i], one key. */
int redis_eval(struct redis *r, int script, const struct redis_arg *args, int n, redis_done *done,
               void *arg, int64_t now_ns);

/* Called when it has gone down (why: for people) or come up again; not for the first connection, unless that
 * fails. */
void redis_on_change(struct redis *r, void (*tell)(bool is_up, const char *why));

bool redis_is_up(const struct redis *r);
int redis_fd(const struct redis *r);          /* changes with each connection; -1: none */
uint64_t redis_serial(const struct redis *r); /* link_serial() */
short redis_events(const struct redis *r);
int redis_timeout_ms(const struct redis *r, int64_t now_ns); /* -1: no hurry */
void redis_run(struct redis *r, int64_t now_ns);

#endif
