/*
 * backend.h - where lines are shipped to. One thread calls it.
 */
#ifndef EXPOSURE_BACKEND_H
#define EXPOSURE_BACKEND_H

#include "spool.h"

#define WHY_SIZE 256

struct backend {
    const char *name; /* "postgres", "kafka" */
    void *state;
    /*
     * Sends all lines of a batch, and comes back when they are safe there: 0. Or when it is not known:
     * -errno with the reason; they will come again. *refused: lines that are never taken.
     */
    int (*send)(void *state, const struct batch *b, size_t *refused, char why[WHY_SIZE]);
    void (*close)(void *state);
};

struct postgres_options {
    const char *conninfo, *table;
    int create;
};

struct kafka_options {
    const char *brokers, *topic, *password;
    bh_map options;
    int timeout_ms;
};

/* Loads the library; connects later. 0 and *out; or -errno and the reason. */
int postgres_open(const struct postgres_options *o, struct backend *out, char why[WHY_SIZE]);
int kafka_open(const struct kafka_options *o, struct backend *out, char why[WHY_SIZE]);

/* Fills a table of pointers from a library: names end with NULL. 0, or -errno and the reason. */
int backend_load(const char *library, const char *package, const char *const *names, void **out,
                 char why[WHY_SIZE]);

#endif
