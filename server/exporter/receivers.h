/*
 * receivers.h - those who are told of alerts, and what has become of telling them.
 *
 * Each of them is told on its own: what one has got stands in alert.is.told[], by its place in the config. What a
 * newcomer would get wrong: an exporter that ends tells nobody "not arrived"; what it could not deliver is
 * untold again, and the next one's.
 */
#ifndef EXPORTER_RECEIVERS_H
#define EXPORTER_RECEIVERS_H

#include <stdbool.h>
#include <stdint.h>

struct alert;
struct config_alerts;
struct outbox;
struct shm;

/* 0 or -ENOMEM. All stay; alert: SHM_ALERTS of them, as the exporter before has left them. */
int receivers_open(const struct config_alerts *cfg, struct shm *shm, struct outbox *outbox,
                   struct alert *alert);
/* Tells who is to be told by now. */
void receivers_tell(int64_t now_ms, int64_t now_ns);
/* How each of them is, for others to see. */
void receivers_publish(void);
void receivers_end(void);

#endif
