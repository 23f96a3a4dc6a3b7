/*
 * ship.h - a thread that brings the lines of the log to a backend, batch by batch.
 */
#ifndef EXPOSURE_SHIP_H
#define EXPOSURE_SHIP_H

#include "backend.h"

struct shipper;

struct ship_options {
    const char *path; /* absolute; copied */
    int keep;
    size_t batch;
    int64_t linger_ms, retry_ms;
};

/* Takes the backend, also when it fails. NULL: no memory, or no thread. */
struct shipper *shipper_start(bh_inst *inst, const struct ship_options *o,
                              const struct backend *backend);
/* Waits for two seconds at most: then the thread ends by itself, later. */
void shipper_stop(struct shipper **sp);

#endif
