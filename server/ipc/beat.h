/*
 * beat.h - signs of life of the processes beside the workers: the recorder, the admin process, the exporter.
 *
 * They count in a page of their own, since the admin process can't write to the shared memory, and the
 * master looks whether the number changes. Each of their loops turns at least every BEAT_MS.
 */
#ifndef IPC_BEAT_H
#define IPC_BEAT_H

#include <stdatomic.h>
#include <stdint.h>

#define BEAT_MS 5000 /* the longest sleep */

enum { BEAT_RECORDER, BEAT_ADMIN, BEAT_EXPORTER, BEATS };

/* In the master, before it forks: BEATS numbers, shared with what it forks; NULL: out of memory. */
_Atomic uint32_t *beats_create(void);
void beats_destroy(_Atomic uint32_t **beatsp);

/* In the process: which of them is its own. */
void beat_is(_Atomic uint32_t *own);
/* Once for each turn of its loop. */
void beat(void);

#endif
