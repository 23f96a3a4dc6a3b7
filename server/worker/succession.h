/*
 * succession.h - one worker takes the place of another: this worker's part, over the channel.
 */
#ifndef WORKER_SUCCESSION_H
#define WORKER_SUCCESSION_H

#include <stdint.h>

/* The channel is readable: serves, adopts, hands over, as the master says. */
void succession_read(void);
/* Asks for a successor: outcome Q. plugin: index + 1; 0: no plugin's fault. */
void succession_ask(uint32_t plugin, const char *why);
/* While leaving: gives the master what is idle. After each round of the loop. */
void succession_give(void);

#endif
