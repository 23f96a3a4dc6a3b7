/*
 * client.h - asks the servers from time to time, on a thread of its own, and tells what time it is.
 *
 * The thread owns the rules and the sources. What others need to know, it publishes in atomics: a
 * reader takes no lock. One that meets a change half done sees the old state with the new offset, or
 * the other way round, for one reading: they differ by what the change is.
 */
#ifndef TIME_SYNC_CLIENT_H
#define TIME_SYNC_CLIENT_H

#include <bulkhead.h>

#include "rules.h"
#include "source.h"

struct client;

struct client_options {
    const char *const *server; /* checked before: source_parse() */
    size_t n_servers;
    int64_t interval_ms, timeout_ms, max_distance_ms;
    struct rules rules; /* its set-up */
};

struct client_view {
    enum sync_state state;
    int64_t offset_ns, error_ns; /* error: how far off the time may be; -1: nobody knows */
    int stratum;
};

/* With no server it has no thread, and time is the machine's. NULL: no memory, or no thread. */
struct client *client_start(bh_inst *inst, const struct client_options *options);
void client_stop(struct client **cp);

/* The right time, from the machine's two clocks read together. [any thread] */
int64_t client_time(const struct client *c, int64_t real_ns, int64_t mono_ns);
/* [any thread] */
struct client_view client_view(const struct client *c, int64_t mono_ns);

#endif
