/*
 * traces.h - from the spans' rings to the collector.
 */
#ifndef EXPORTER_TRACES_H
#define EXPORTER_TRACES_H

#include <stdbool.h>
#include <stdint.h>

struct config;
struct outbox;
struct shm;

/* 0 or -ENOMEM. cfg has an endpoint, and stays. */
int traces_open(const struct config *cfg, struct shm *shm, struct outbox *outbox);
/* Takes what is there, as far as there is room, and puts full or old batches into the outbox; all of
 * them, when it is the last time. */
void traces_run(int64_t now_ms, bool is_last);
/* How long until there may be something to do. */
int traces_wait_ms(int64_t now_ms);

#endif
