/*
 * sinks.h - the files that log lines go to.
 *
 * Lines are gathered and written in one go. A file that cannot be written is told about once, not
 * once per line, and tried again with the next batch.
 */
#ifndef RECORDER_SINKS_H
#define RECORDER_SINKS_H

#include <stddef.h>
#include <stdint.h>

struct shm;

/* One line without newline for a sink of shm's. A number that nobody has registered: dropped. */
void sinks_put(const struct shm *shm, uint32_t sink, const char *line, size_t n);

/* Writes all that was gathered. */
void sinks_flush(void);

/* Closes all files; the next line opens them anew. */
void sinks_reopen(void);

#endif
