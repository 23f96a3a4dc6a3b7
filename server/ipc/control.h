/*
 * control.h - how commands ask a running server: a Unix socket that the master serves.
 *
 * A client sends one control_request, fixed in size, with some commands a text behind it, reads one control_reply and the text that
 * follows it, and is disconnected. What a newcomer would get wrong: nobody is told where the socket
 * is. Server and client work it out from the same config file, by control_path().
 */
#ifndef IPC_CONTROL_H
#define IPC_CONTROL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CONTROL_MAGIC    0x6c746368u
#define CONTROL_VERSION  1
#define CONTROL_PATH_MAX 108         /* of a sockaddr_un */
#define CONTROL_TEXT_MAX (4u << 20)  /* of a reply */
#define CONTROL_ASK_MAX  (64u << 10) /* of a request */

enum control_command {
    CONTROL_PING,    /* no text */
    CONTROL_STATUS,  /* a JSON object */
    CONTROL_RECYCLE, /* argument: slot of the worker; -1: all. A JSON object */
    CONTROL_RELOAD, /* argument: 1: only say what would change; | 2: what the file says, though it is
                      * quarantined or was rolled back. {"id": N}, for the next one: */
    CONTROL_RELOAD_RESULT, /* argument: that number. A JSON object, whose state may be "running" */
    CONTROL_METRICS,       /* argument: enum metrics_format. Text */
    CONTROL_BREAKER,       /* argument: control_breaker(). No text. -EOPNOTSUPP: it is off */
    CONTROL_LOG_LEVEL,     /* argument: control_log_level(), or -1: as they are. A JSON object */

    /* Staged rollouts (master/rollout.h). */
    CONTROL_ROLLOUT_START, /* text: a JSON object, see rollout_start(). {"id": N} as of a reload, or,
                             * {"error": "...", "is_input": whether the request is wrong} */
    CONTROL_ROLLOUT_STATUS, /* a JSON object; null: there was none */
    CONTROL_ROLLOUT_DO,     /* argument: enum control_rollout; text: who asks, or "". An object with
                             * "error", or what becomes of it in "says" */

    CONTROL_EVENTS, /* argument: the last one that is known, 0: none; {"events": [...], "last": N} */

    CONTROL_ALERTS, /* {"rules", "receivers", "alerts": [...], "running": whether they are judged} */

    CONTROL_FOLLOW, /* argument: as of CONTROL_EVENTS. That reply, and then one for what has happened
                     * since, whenever something has, until one of the two closes. -EUSERS: too many do */
};

enum control_rollout {
    CONTROL_ROLLOUT_PAUSE,
    CONTROL_ROLLOUT_RESUME,
    CONTROL_ROLLOUT_STEP,    /* the next step, now */
    CONTROL_ROLLOUT_PROMOTE, /* to the end, now */
    CONTROL_ROLLOUT_ABORT,   /* back to the stable version; it may be tried again */
    CONTROL_ROLLOUT_BACK,    /* the same, and the candidate's object is quarantined */
};

/* place: of the plugin, from 1; 0: all that have no level of their own. level: BH_LOG_*; 0: as the
 * config says. */
static inline int control_log_level(int place, int level)
{
    return place << 8 | level;
}

enum control_breaker_action { CONTROL_BREAKER_RESET, CONTROL_BREAKER_OPEN };

/* place: of the plugin, from 1. */
static inline int control_breaker(int place, enum control_breaker_action action)
{
    return place << 8 | (int)action;
}

struct control_request {
    uint32_t magic;
    uint16_t version;
    uint16_t command;
    int32_t argument;
    uint32_t text_len; /* of the text that follows; at most CONTROL_ASK_MAX */
};

#define CONTROL_IS_ENDING 1u /* flags: the server is stopping, another may take its place */
#define CONTROL_IS_NEWS \
    2u /* flags: no reply: to the admin process, that there are events which it does
                              * not know. Once, until it has asked for them */

struct control_reply {
    uint32_t magic;
    uint16_t version;
    uint16_t reserved;
    int32_t result; /* 0, or -errno and no text */
    uint32_t flags;
    uint32_t text_len;
};

/*
 * Where the socket of a config file is that does not name it: the i-th place, from 0. dir: absolute,
 * of the file; base: its name there. 0; -EAGAIN: not on this machine or not for this user, ask for the
 * next; -ENOENT: there are no more.
 *
 *   0  the first folder of $RUNTIME_DIRECTORY
 *   1  /run/bulkhead
 *   2  $XDG_RUNTIME_DIR/bulkhead
 *   3  /tmp/bulkhead-UID
 */
int control_path(const char *dir, const char *base, int i, char path[CONTROL_PATH_MAX]);

/* Asks; said (NULL: nothing) goes with it; waits up to timeout_ms for each step. 0 and the reply; its text, NUL-terminated, malloc'd, in
 * *text (which may be NULL, and gets NULL where there is none). Or -errno: -ENOENT, -ECONNREFUSED:
 * nobody is there; -EACCES; -ETIMEDOUT; -EPROTO: that is no Bulkhead, or of another version. *pid is
 * who listens, as soon as somebody does. */
int control_ask(const char *path, enum control_command command, int argument, const char *said,
                int timeout_ms, struct control_reply *reply, char **text, pid_t *pid);

/* A connection on which replies come as there are events. */
struct control_stream {
    int fd;
    pid_t master; /* whose events are numbered so; 0: nobody's yet */
    int last;     /* the number of the one that is known */
};

/* The same for CONTROL_FOLLOW. 0: s->fd is to be closed. Another master than the last time numbers from 1
 * again: then s->last is 0. */
int control_follow(const char *path, int timeout_ms, struct control_stream *s,
                   struct control_reply *reply, char **text);
/* The next of them, when there is one to read. 0 or -errno; -EPROTO: it was closed. */
int control_next(const struct control_stream *s, struct control_reply *reply, char **text);

#endif
