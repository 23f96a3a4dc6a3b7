/*
 * internal.h - what the files of this folder share.
 */
#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include <microhttpd.h>

#include "base/address.h"
#include "base/list.h"
#include "http/deadline.h"
#include "http/exchange.h"
#include "http/front.h"
#include "http/guard.h"
#include "ipc/shm.h"
#include "plugin/request.h"

#define WIRE_UNKNOWN UINT64_MAX

struct conn { /* one connection */
    struct list node;
    struct list unsure; /* in front.unsure, or alone */
    struct listener *listener;
    struct MHD_Connection *mhd;
    struct tls_conn *tls; /* NULL: it is plain */
    struct exchange *x;   /* the request being worked on; NULL: its first line is not whole yet */
    struct shm_conn *shared; /* NULL: the table ends before this descriptor */
    uint32_t flags;          /* as in *shared: enum shm_conn_flag */
    int fd;
    bool is_busy;    /* between the head of a request and the end of its answer */
    bool has_served; /* a request has come to its end on it */
    bool is_last;    /* its next answer says Connection: close */
    bool is_poked;   /* there may be bytes to be had, though the library was told otherwise */
    bool lingers;    /* closed slowly: the client may still be sending */
    bool is_whole;   /* its last answer went out in full */
    bool is_replay;  /* its request was begun by a worker that died: not a third time */
    bool is_given;   /* another process has it: the socket is not to be touched */
    bool drops_last_chunk, cuts_length; /* of an answer that has no body: response.c */
    bool is_diverted;                   /* is_given, or there is something pending */
    char *pending;                      /* to be read before the socket's own bytes; owned */
    size_t pending_at, pending_n;
    /* Where its requests lie in what was received: wire.c */
    const char *base;            /* of the library's buffer */
    uint64_t received, consumed; /* since base; of the current request, or WIRE_UNKNOWN */
    enum http_refusal refuse_soon;
    uint32_t n_begun; /* requests of which the library has read the first line */
    struct guard guard;
    bool has_preface;      /* a PROXY header, or the rest of one, comes before all else */
    bool wants_proxy;      /* nothing of it has been read */
    bool is_over_limit;    /* the client that it names */
    uint32_t proxy_left;   /* bytes of it that are not of interest */
    struct address peer;   /* the socket's other end */
    struct address client; /* whom a PROXY header named instead; family 0: nobody */
    bool is_proxy;         /* client, or else peer, is in server.trusted_proxies */
    bool is_ended;         /* shut down by a limit; the library will notice */
    uint64_t moved;        /* bytes received and sent: what rates are taken of */
    struct due due;
};

struct arrival { /* a connection between accept() and the library's notice of it */
    int fd;      /* -1: none */
    struct address peer;
    bool is_proxy;
    uint32_t seat; /* in the tally of addresses */
};

struct listener {
    struct front *front;
    const char *name;
    struct metrics_listener *meter; /* of this worker */
    struct MHD_Daemon *daemon;
    bool is_tls;
    char hsts[80]; /* Strict-Transport-Security, or "" */
    int listen_fd; /* -1: accepts no more */
    int poll_fd;
    uint32_t n_conns;
    bool is_ending; /* no other process has it: who came in by it cannot go on elsewhere */
    bool needs_run; /* a request was resumed */
    bool is_quiet;  /* accepts no more */
};

struct front {
    const struct config *cfg;
    const struct front_ops *ops;
    struct shm *shm;
    uint32_t slot; /* of this process in shm */
    struct shm_worker *shared;
    bh_inst *const **chain;             /* per route */
    struct metrics_route **route_meter; /* per route: of this worker */
    struct deadlines deadlines;
    struct arrival arrival; /* accepted, not yet a connection of the library */
    uint32_t most_conns;    /* over all listeners */
    uint32_t n_conns, n_ended;
    int64_t told_ns[2]; /* when a refusal was last logged: admission.c */
    struct list conns;
    struct list unsure; /* of conns of which it is not known whether they are idle, or poked */
    struct guard_limits guard_limits;
    struct conn *adopted;      /* being added just now */
    struct farewell *farewell; /* NULL: none yet */
    struct tls_set *tls;       /* for new connections; NULL: none */
    struct list tls_ended;     /* struct tls_conn: to be told the library */
    struct list tls_blocked;   /* struct tls_conn: to be tried again ... */
    int64_t tls_next_ms;       /* ... then */
    bool has_given;            /* some in conns are no longer ours */
    struct exchange *spare;    /* free list */
    int n_spare;
    bool is_draining; /* drain.c */
    int64_t drain_fresh_ns, drain_accept_ns,
        drain_next_ns; /* drain.c; accept: 0: it does no more */
    int n_listeners;
    struct listener listener[];
};

struct exchange {
    struct bh_req req;
    struct listener *listener;
    struct metrics_route *route_meter; /* NULL: no route took it, or none yet */
    struct MHD_Connection *mhd;
    struct conn *conn;
    struct exchange *next_spare;
    struct bh_ticket *ticket;
    struct address client; /* peer.c */
    bh_str told_host;      /* by a trusted proxy, well-formed; absent: none did */
    char *cut;             /* where the query was cut off the target ... */
    char cut_bytes[2];     /* ... and what stood there */
    char *uri;
    bool has_begun;    /* the head was read */
    bool is_past_head; /* and on_request is through: what comes now is the body, or its end */
    bool has_reply;
    bool wants_body;
    bool waits_for_100; /* with its body, for a word from us */
    bool is_suspended;
    bool waits_for_stream;
    bool is_gone;         /* the client left */
    bool is_refused;      /* for what the guard found: wire_refuse_request() */
    uint64_t thrown_away; /* bytes of the body that nobody wants */
    bool is_half_closed;  /* it sends no more, and waits for the answer */
    bool is_last;         /* the connection ends with its answer */
    int64_t waited_ns;    /* when a streamed answer had to wait for the plugin for the first time */
    int64_t received_ns;  /* when the last of the request came, by the loop's clock */
    int64_t began_ns;     /* when its head was read, by that */
    int64_t first_ns;     /* when the first byte of the answer went out; 0: not yet */
    uint32_t n_sends;     /* of the answer */
    uint64_t body_seen;
    uint64_t content_length; /* UINT64_MAX: unknown */
    size_t chunk_len;        /* of the chunk that a plugin paused on; 0: none */
    /* the answer's body, when it goes through a callback: response.c */
    bh_str out;
    bool out_is_block, source_ended;
    uint64_t file_pos;
};

/* libmicrohttpd's callbacks, exchange.c */
void *exchange_on_uri(void *listener, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result exchange_on_data(void *listener, struct MHD_Connection *mhd, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *size, void **con);
void exchange_on_completed(void *listener, struct MHD_Connection *mhd, void **con,
                           enum MHD_RequestTerminationCode code);

/* The host's own answer: a problem document. */
void exchange_refuse(struct exchange *x, int status, const char *detail);

/* ---- head.c ---- */

/* Judges the head, which was read: finds the chain, or answers. */
void head_admit(struct exchange *x);
/* The chain is through and nobody has answered. */
void head_without_reply(struct exchange *x);

/* The reply as libmicrohttpd's response; NULL: no memory. response.c */
struct MHD_Response *response_create(struct exchange *x);

/* The library's memory for one connection. The largest head it takes is about half of that
 * (measured); no request fits into less. */
static inline size_t front_pool_size(uint32_t head)
{
    return (size_t)head * 2 + 512;
}

/* Counts what was ended or refused, for `bulkhead status`. */
static inline void front_count_limit(struct front *f, enum shm_limit why)
{
    atomic_fetch_add_explicit(&f->shm->limit[why], 1, memory_order_relaxed);
}

void exchange_suspend(struct exchange *x);
/* It ends now, unanswered. */
void exchange_abandon(struct exchange *x);
/* Says in shared memory which request plugins are working on, until exchange_unpublish(). */
void exchange_publish(const struct exchange *x);
void exchange_unpublish(const struct exchange *x);

/* ---- wire.c ---- */

/* 0 or -ENOMEM. Once a process, or more often. */
int wire_init(void);
/* Can this descriptor be a client's connection? */
bool wire_has_room(int fd);
/* From here on c gets what is received and sent over c->fd. */
void wire_open(struct conn *c);
void wire_close(struct conn *c);
/* The first line of a request was read, its head, all of it: method as the library gives it. */
void wire_begin(struct conn *c, struct exchange *x);
void wire_head(struct conn *c, const char *method, uint64_t body_len);
void wire_end(struct conn *c, bool is_last);
/* Makes the library ask for more bytes where it is not known whether it holds some. */
void wire_settle(struct front *f);
void wire_poke(struct conn *c); /* the library looks at it in its next turn, event or not */
void wire_set_flags(struct conn *c, uint32_t on, uint32_t off);

/* Where bytes come from. read() answers like recv(); `again` is what it answers when there are none
 * just now (and errno EAGAIN, where that counts). */
struct wire_source {
    ssize_t (*read)(const struct wire_source *source, void *buf, size_t size);
    ssize_t again;
    void *from;
    int fd, flags;
};

/* What the library gets of what the source gives: checked by the guard. The one way in. */
ssize_t wire_receive(struct conn *c, void *buf, size_t size, const struct wire_source *source);
/* The connection of a descriptor; NULL: not a client's. */
struct conn *wire_find(int fd);

/* Refuses the request that is being read on c, or the next one: no more of what the client sends is
 * read, and the usual callbacks come, in which it is answered (exchange.c), before the connection is
 * closed. Not from within a callback of the library. False, and nothing is done: it is all read. */
bool wire_refuse_request(struct conn *c, enum http_refusal reason);
/* The body of the request that the library works on is not worth reading to its end: as above, but from
 * within a callback, and the answer is the one it has. */
void wire_stop_reading(struct conn *c);
/* The same, from within a callback: when the library is done with this turn. */
void wire_refuse_soon(struct conn *c, enum http_refusal reason);
/* Why the request that the library began last is refused; REFUSAL_NONE: it is not. */
static inline enum http_refusal wire_refusal(const struct conn *c)
{
    return __builtin_expect(c->guard.refusal != REFUSAL_NONE, 0) &&
                   c->n_begun == c->guard.n_requests
               ? (enum http_refusal)c->guard.refusal
               : REFUSAL_NONE;
}

/* The library forgets the connection and closes its descriptor, without a word to the client: somebody
 * else has another descriptor of it. handover.c */
void conn_let_go(struct conn *c);

/* ---- admission.c ---- */

void admission_init(struct front *f);
/* What the listener accepts is looked at from here on, until its socket is closed. */
void admission_open(struct listener *l, int listen_fd);
void admission_close(struct listener *l);
/* The library has made a connection of c->fd: gives it its address, unless it was adopted with one, and
 * its seat in the tally. */
void admission_take(struct conn *c);
/* A PROXY header says whose connection c is. 0; -EAGAIN: that client has too many. */
int admission_recount(struct conn *c, const struct address *client);
void admission_leave(struct conn *c);
/* Whose connection it is, as far as that is known without the headers of requests. */
const struct address *conn_client(const struct conn *c);

/* ---- drain.c ---- */

/* Once a turn while the front is draining. */
void drain_run(struct front *f);
/* A connection with TLS of a worker that leaves, be there a successor or not: as soon as it is idle it
 * ends. To be repeated. */
void drain_tls(struct conn *c);

/* ---- farewell.c ---- */

/* Closes one half, then waits for the client, on a descriptor of its own: fd stays the caller's. */
void farewell_linger(struct front *f, int fd);
/* Sends such an answer on a connection that nobody else works on, and closes it once the client has,
 * or after a while. Takes fd over. 0, or -errno when the answer could not be sent. */
int farewell_say(struct front *f, int fd, int status);
/* The same, where nobody shall wait for long: closes at once when many linger. */
void farewell_turn_away(struct front *f, int fd, int status);
int farewell_timeout_ms(const struct front *f);
void farewell_run(struct front *f);
bool farewell_is_over(const struct front *f);
/* As farewell_linger(), after an answer in plain text: this port speaks TLS. */
void farewell_wrong_port(struct front *f, int fd);
void farewell_destroy(struct front *f);

/* Spare exchanges, so that a request costs no malloc. front.c */
struct exchange *front_take_exchange(struct front *f);
void front_give_exchange(struct front *f, struct exchange *x);

#endif
