/*
 * log_repeat.h - equal lines of the log: the first few are written, the others counted and told.
 *
 * A plugin that logs the same line in each request would else fill the disk and hide the rest. What a
 * newcomer would get wrong: lines come from any thread, and from handlers of faults, so there is no lock
 * to wait for. Each slot has a flag; who finds it set writes its line as if there was no limit.
 */
#ifndef OBS_LOG_REPEAT_H
#define OBS_LOG_REPEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_REPEAT_MS 10000 /* equal ones are counted for so long */

typedef void log_repeat_tell(int level, const char *who, const char *msg, size_t n,
                             uint32_t repeats);

/* Lines to write within LOG_REPEAT_MS; 0: all. */
void log_repeat_limit(uint32_t most);
/* Forgets what was counted. */
void log_repeat_reset(void);
/* Shall it be written? Else it has been counted. Tells what was counted in a window that is over. */
bool log_repeat_admit(int level, const char *who, const char *msg, size_t n, int64_t now_ms,
                      log_repeat_tell *tell);
/* Tells, once each, of those whose window is over. INT64_MAX: of all. */
void log_repeat_flush(int64_t now_ms, log_repeat_tell *tell);
int64_t log_repeat_next_ms(void);

#endif
