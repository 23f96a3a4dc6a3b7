/*
 * alerts.h - rules of the config, judged once a second, and who is told.
 *
 * What a newcomer would get wrong: states are kept in shared memory (struct shm_alert), since a reload
 * replaces this process; what fires goes on firing, and nobody is told twice.
 */
#ifndef EXPORTER_ALERTS_H
#define EXPORTER_ALERTS_H

#include <stdbool.h>
#include <stdint.h>

struct config;
struct outbox;
struct shm;

/* 0 or -ENOMEM. cfg stays. */
int alerts_open(const struct config *cfg, struct shm *shm, struct outbox *outbox);
void alerts_run(int64_t now_ms);
/* How long until there is something to do; -1: nothing. */
int alerts_wait_ms(int64_t now_ms);
/* Before the outbox is closed: what is dropped from here on is told by the next exporter. */
void alerts_end(void);

#endif
