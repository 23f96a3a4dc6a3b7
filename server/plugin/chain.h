/*
 * chain.h - takes a request through its plugins.
 *
 *     chain_enter ── chain_request ── chain_body ── chain_response ──(send)── chain_log
 *                        └────────── a crash, failure or deadline ──────────┘
 *                              on_error, in reverse over those entered
 *
 * What a newcomer would get wrong: a failed hook never reaches the caller. These functions always
 * end with a reply to send, a pause, or the wish for more; errors have become a reply by then.
 */
#ifndef PLUGIN_CHAIN_H
#define PLUGIN_CHAIN_H

#include <bulkhead.h>
#include <stdbool.h>

struct bh_req;

enum chain_step {
    CHAIN_NEXT,   /* came to the end of the chain: no reply yet */
    CHAIN_REPLY,  /* req->reply is to be sent */
    CHAIN_PAUSED, /* a plugin holds it; call again after resume */
};

/* Gives the request a chain of n instances. False: no memory. */
bool chain_enter(struct bh_req *req, bh_inst *const *chain, int n);

/* on_request from where it stands (again after a pause: req->resume_verdict was set). */
enum chain_step chain_request(struct bh_req *req);

/* Does any plugin of the chain want the request body? */
bool chain_wants_body(const struct bh_req *req);
/* on_request_body for one chunk. After CHAIN_PAUSED call again with the same chunk. */
enum chain_step chain_body(struct bh_req *req, bh_str chunk, bool end);

/* on_response, and on_response_body of a whole reply. Ends with a reply, whatever happens. */
void chain_response(struct bh_req *req);

/* Does a plugin want to see the bytes that are streamed? */
bool chain_filters_body(const struct bh_req *req);
/* on_response_body of one chunk after the head was sent; false: cut the connection. */
bool chain_response_chunk(struct bh_req *req, bh_str *chunk, bool end);

/* Lets the plugin that writes a streamed reply write more, if it has asked for that and there is room.
 * False: cut the connection. */
bool chain_writable(struct bh_req *req);

/* The host itself answers: problem document of RFC 9457, before or instead of the chain. */
void chain_host_reply(struct bh_req *req, int status, const char *detail);

/* The paused request failed: its ticket's time is over, or its offloaded job crashed. */
void chain_fail_paused(struct bh_req *req, int kind);

/* Deferred clean-ups, on_log; drops the references. Exactly once per request that was entered. */
void chain_log(struct bh_req *req);

/* The host cannot go on, and it is not known why: the plugin is charged whose on_request or
 * on_request_body ran last. */
void chain_blame_last(void);

#endif
