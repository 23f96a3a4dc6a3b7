/*
 * channel.h - what the master and a worker tell each other: messages of a bounded size, with
 * descriptors of client connections in them.
 *
 * A socket pair (SOCK_SEQPACKET) per worker, made before it is forked. What a newcomer would get
 * wrong: a descriptor that was sent is the receiver's, and the sender still has its own, which it
 * has to close: close(), never shutdown(), which would end the connection for both.
 *
 * The word of a worker is not trusted: kinds, counts and lengths are checked when a message is
 * received, and descriptors that do not belong are closed.
 */
#ifndef IPC_CHANNEL_H
#define IPC_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

#define CHANNEL_FDS  64     /* connections in one message */
#define CHANNEL_TEXT 65536u /* bytes of a request in one message */

enum channel_kind {
    /* master to worker */
    CHANNEL_SERVE =
        1, /* to one that stands by: serve post `number`; a descriptor: its plugins' state */
    CHANNEL_ADOPT,     /* connections to take over, as their entries say */
    CHANNEL_HAND_OVER, /* a successor serves: accept no more, give back what is or becomes idle.
                        * number: bits of listeners that nobody else has: take in what waits there */
    CHANNEL_SAVE, /* a successor is ready: write the plugins' state to this descriptor, say when */
    CHANNEL_KEYS, /* one descriptor: certificates and keys from now on (tls/bundle.h) */
    /* worker to master */
    CHANNEL_SAVED,   /* done */
    CHANNEL_GIVE,    /* idle connections, for whoever serves now */
    CHANNEL_REPLACE, /* I want a successor: outcome Q; number: plugin (index + 1), or 0; text: why */
    CHANNEL_PARKED, /* I stand still for ever: take my connections and end me. Sent by a fault handler */
    CHANNEL_SURRENDER, /* of one that is parked: what it has; with no descriptors: that was all */
    /* old master to new master and back (upgrade.c) */
    CHANNEL_LISTENERS, /* listening sockets of post `number`, in the order of the text's addresses */
    CHANNEL_READY,     /* the new master serves; number: its pid */
    CHANNEL_KINDS,
};

/* What to do with a connection. */
enum channel_adopt {
    ADOPT_IDLE,   /* between two requests: keep it */
    ADOPT_REPLAY, /* its request, in the text, is run again; alone in its message */
    ADOPT_REFUSE, /* its request died with another worker: 503, and the client may try again */
    ADOPT_FAILED, /* its request killed that worker: 500; text: id of the crash record */
    ADOPT_CUT,    /* its answer had begun: close it */
    ADOPT_END,    /* nobody else can go on with it (TLS): close it, without a reset */
    ADOPT_KINDS,
};

struct channel_entry {
    uint16_t listener; /* index in the config */
    uint16_t what;     /* enum channel_adopt */
    uint32_t is_last;  /* ADOPT_REPLAY: more was read than the request; close after its answer */
    int32_t fd;        /* CHANNEL_SURRENDER: its number at the sender's */
    struct address client; /* whom a PROXY header named; family 0: nobody */
};

struct channel_message {
    uint32_t magic, kind;
    int32_t number;
    uint32_t n; /* entries, and descriptors */
    uint32_t text_len;
    struct channel_entry entry[CHANNEL_FDS];
};

/* 0 and a pair of non-blocking sockets, or -errno. */
int channel_open(int fds[2]);

/* text may be NULL when text_len is 0. magic is set here. 0; -EAGAIN: not now; -EPIPE: nobody there;
 * or another -errno. Async-signal-safe. */
int channel_send(int fd, struct channel_message *m, const int *fds, const char *text);

/* 1 and a message, whose text (NUL-terminated, CHANNEL_TEXT + 1 bytes of room) and m->n descriptors
 * (close-on-exec, now the caller's) are there; 0: there is none just now; -EPIPE: the other end is
 * closed; -EBADMSG: it made no sense, and is dropped. */
int channel_receive(int fd, struct channel_message *m, int fds[CHANNEL_FDS], char *text);

#endif
