/*
 * crash_id.h - the names of crash records.
 *
 * "20260131T235959-123456-w3": UTC to the microsecond, the worker. So names sort by
 * time, and a worker that was respawned within the same second does not reuse a name.
 */
#ifndef IPC_CRASH_ID_H
#define IPC_CRASH_ID_H

#include <stdint.h>

#define RECORD_ID_SIZE 40 /* as shm_crash.id */

/* now_ns: clock_real_ns(). No two calls of one process give the same name, be they within one
 * microsecond. Async-signal-safe, any thread. */
void record_id_make(char id[RECORD_ID_SIZE], int worker, int64_t now_ns);

#endif
