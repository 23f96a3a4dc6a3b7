/*
 * outbound.h - bh_http() and bh_http_cancel(): requests of plugins to other servers.
 */
#ifndef WORKER_OUTBOUND_H
#define WORKER_OUTBOUND_H

#include <bulkhead.h>
#include <stdint.h>

/* Fills the host table's members. */
void outbound_init(bh_host *h);

/* The loop's part. */
void outbound_event(int fd, uint32_t events);
int outbound_timeout_ms(void);
void outbound_turn(void);

#endif
