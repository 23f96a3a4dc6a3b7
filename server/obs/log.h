/*
 * log.h - the error log: one line, one write(2).
 *
 * Written at once and unbuffered, so that what a dying process said is not lost; the access log,
 * which is busy, goes through shared memory instead (ipc/shm.h). Any thread, any process.
 *
 *     2026-11-23T21:00:00.123Z error worker 0: message
 *     {"time":"2026-11-23T21:00:00.123Z","level":"error","role":"worker 0","message":"message"}
 *
 * and about a request, that of a plugin:
 *
 *     ... error worker 0: plugin auth [id 7f3a, trace time 1795474800.123]: message
 *     {...,"plugin":"auth","id":"7f3a","trace_time_anchor":"1795474800.123","message":"message"}
 *
 * Control characters are escaped in both, so that nothing that a peer sent can forge a line. Lines
 * are cut at 4 KiB. Equal lines are written a few times and then counted (log_repeat.h). No memory is
 * allocated and no lock is taken. A terminal gets colours; journald, which knows when a line came,
 * gets its priority in place of the time: "<3>error worker 0: message".
 */
#ifndef OBS_LOG_H
#define OBS_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct metrics_log;

enum log_level { LOG_ERROR = 1, LOG_WARN, LOG_INFO, LOG_DEBUG }; /* as BH_LOG_* */

enum log_format {
    LOG_TEXT,
    LOG_JSON,
    LOG_AUTO
}; /* as CONFIG_LOG_*; auto: text for people, else JSON */

/* Where to and how much. path "-": stderr. role: "master", "worker 0", ... 0 or -errno. Called by
 * the master before the first fork; until then: stderr, text, LOG_INFO. */
int log_open(const char *path, int level, enum log_format format);
void log_set_role(const char *role); /* copied; after fork */

/* Do its lines go to standard error? */
bool log_is_stderr(void);

/* Of equal lines, so many are written within ten seconds; 0: all, as it is until this is called. */
void log_limit_repeats(uint32_t most);
/* Tells of those that were not, once their ten seconds are over; all, when `at_end`. To be called once
 * a second or so. */
void log_tell_repeats(bool at_end);
/* When there will be something to tell, monotonic; INT64_MAX: nothing waits. */
int64_t log_next_ms(void);

/* A level in shared memory that overrules the one of log_open(), in all processes at once; 0 there: it
 * does not. NULL: no more. What is not a level counts as 0. */
void log_follow(const _Atomic uint32_t *level);

/* Lines that are written, and those that are not since they repeat others, are counted there, in shared
 * memory; but for plugins'. NULL: no more. */
void log_count_in(struct metrics_log *counts);

/* "error", ...; "?". And back: 0 when it is none. */
const char *log_level_name(int level);
int log_level_find(const char *name);

/* What systemd's journal wants before a line of that level on this process's stderr: "<3>"; "" when it is
 * not the journal that reads it. */
const char *log_priority(int level);

/* Opens the file anew, after a rotation; this process only. 0 or -errno, then the old file stays. */
int log_reopen(void);

bool log_is_on(int level);

__attribute__((format(printf, 2, 3))) void log_write(int level, const char *fmt, ...);

/* What a line is about: a request, as its other logs name it. p NULL: not known. Borrowed. */
struct log_word {
    const char *p;
    size_t n;
};
struct log_subject {
    struct log_word id, trace_time;
};

/* As log_write(); about may be NULL. */
__attribute__((format(printf, 3, 4))) void log_write_about(int level,
                                                           const struct log_subject *about,
                                                           const char *fmt, ...);

/* A line of a plugin's: who is the instance; counts: where the line is counted; it and about may be
 * NULL. Its level has been looked at: it is written. */
void log_plugin(int level, const char *who, struct metrics_log *counts,
                const struct log_subject *about, const char *msg, size_t n);

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)

#endif
