/*
 * host.h - the functions that plugins call, behind struct bh_host.
 *
 * Rule for every one of them: check the handles, copy what the plugin points to, and only then
 * change anything; a bad pointer faults while nothing is half done, and that fault is the plugin's
 * own crash. What needs the worker (tickets, offload, post, sinks) is filled in by the worker.
 */
#ifndef PLUGIN_HOST_H
#define PLUGIN_HOST_H

#include <bulkhead.h>
#include <stdbool.h>

struct diag;

struct bh_errs { /* validate() reports into it */
    bh_inst *inst;
    struct diag *diag;
    int n;
};

/* The one table of this process. The worker may fill in members before the first plugin loads. */
bh_host *host_table(void);

/* Is this the loop's thread? The one that filled the table. */
bool host_is_loop(void);

/* Read once per wake-up by the worker's loop: what the LOOP clocks answer. */
extern int64_t host_loop_mono_ns, host_loop_real_ns;

/* What bh_attr() tells of who is at the other end; in the front layer, and made when it is asked for. */
enum host_peer { HOST_CLIENT, HOST_CLIENT_PORT, HOST_PEER, HOST_PEER_PORT };
extern bh_str (*host_peer)(bh_req *req, enum host_peer what);

/* Filled into the table by host.c. */
void host_fill_request(bh_host *h);
void host_fill_message(bh_host *h);
void host_fill_metrics(bh_host *h);
void host_fill_events(bh_host *h);

#endif
