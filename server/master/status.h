/*
 * status.h - how the server is, for `bulkhead status`.
 */
#ifndef MASTER_STATUS_H
#define MASTER_STATUS_H

#include <stdint.h>
#include <sys/types.h>

struct child;
struct master;

#define HISTORY_ENDS 8

struct history { /* of the workers that are no more */
    int64_t started_ms, started_real_ns;
    uint64_t n_ended;
    uint64_t n_requests; /* answered by them */
    struct {
        int64_t time_ns; /* real; 0: none */
        int slot;
        pid_t pid;
        char why[256];
    } end[HISTORY_ENDS]; /* a ring: n_ended is the next */
};

void history_init(struct history *h);
/* A worker has ended. Before its slot is cleared. */
void history_add(struct master *m, const struct child *c, pid_t pid, const char *why);

/* Everything, as a JSON object; malloc'd; NULL: no memory. */
char *status_json(const struct master *m);

/* ---- figures.c ---- */

struct json_t;
/* Requests and their times, by listener; since the server was started. */
struct json_t *figures_listeners(const struct master *m);
/* How often the plugin was called, and how long that took, into json. */
void figures_add_calls(const struct master *m, int plugin, struct json_t *json);

#endif
