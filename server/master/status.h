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

#endif
