/*
 * log.h - the error log: one line, one write(2).
 *
 * Written at once and unbuffered, so that what a dying process said is not lost; the access log,
 * which is busy, goes through shared memory instead (ipc/shm.h). Any thread, any process.
 *
 *     2026-11-23T21:00:00.123Z error worker 0: message
 *     {"time":"2026-11-23T21:00:00.123Z","level":"error","role":"worker 0","message":"message"}
 *
 * Control characters are escaped in both, so that nothing that a peer sent can forge a line. Lines
 * are cut at 4 KiB. No memory is allocated and no lock is taken.
 */
#ifndef OBS_LOG_H
#define OBS_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_ERROR = 1, LOG_WARN, LOG_INFO, LOG_DEBUG }; /* as BH_LOG_* */

/* Where to and how much. path "-": stderr. role: "master", "worker 0", ... 0 or -errno. Called by
 * the master before the first fork; until then: stderr, text, LOG_INFO. */
int log_open(const char *path, int level, bool is_json);
void log_set_role(const char *role); /* copied; after fork */

/* Opens the file anew, after a rotation; this process only. 0 or -errno, then the old file stays. */
int log_reopen(void);

bool log_is_on(int level);

__attribute__((format(printf, 2, 3))) void log_write(int level, const char *fmt, ...);

/* A line of a plugin's: who is the instance. */
void log_plugin(int level, const char *who, const char *msg, size_t n);

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)

#endif
