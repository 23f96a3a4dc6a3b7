/*
 * internal.h - what the files of this folder share.
 */
#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include <microhttpd.h>

#include "base/list.h"
#include "http/exchange.h"
#include "http/front.h"
#include "plugin/request.h"

struct conn { /* one connection */
    struct list node;
    int fd;
    bool is_busy; /* between the head of a request and the end of its answer */
};

struct listener {
    struct front *front;
    const char *name;
    struct MHD_Daemon *daemon;
    int poll_fd;
    bool needs_run; /* a request was resumed */
};

struct front {
    const struct config *cfg;
    const struct front_ops *ops;
    struct shm_worker *shared;
    bh_inst *const **chain; /* per route */
    struct list conns;
    struct exchange *spare; /* free list */
    int n_spare;
    bool is_draining;
    int n_listeners;
    struct listener listener[];
};

struct exchange {
    struct bh_req req;
    struct listener *listener;
    struct MHD_Connection *mhd;
    struct conn *conn;
    struct exchange *next_spare;
    struct bh_ticket *ticket;
    char *cut;         /* where the query was cut off the target ... */
    char cut_bytes[2]; /* ... and what stood there */
    char *uri;
    bool has_begun;    /* the head was read */
    bool is_past_head; /* and on_request is through: what comes now is the body, or its end */
    bool has_reply;
    bool wants_body;
    bool is_suspended;
    bool waits_for_stream;
    bool is_gone;      /* the client left */
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

/* The reply as libmicrohttpd's response; NULL: no memory. response.c */
struct MHD_Response *response_create(struct exchange *x);

/* The library's memory for one connection. The largest head it takes is about half of that
 * (measured); no request fits into less. */
static inline size_t front_pool_size(uint32_t head)
{
    return (size_t)head * 2 + 512;
}

void exchange_suspend(struct exchange *x);

/* Spare exchanges, so that a request costs no malloc. front.c */
struct exchange *front_take_exchange(struct front *f);
void front_give_exchange(struct front *f, struct exchange *x);

#endif
