/*
 * tasks.h - how many threads a process has, and what its first one gets of the processors.
 */
#ifndef BASE_TASKS_H
#define BASE_TASKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* -1: not known. By the links of /proc/PID/task, which it does not look into: see urgency_restore() of what
 * that costs. */
int tasks_count(pid_t pid);

/* Of the first thread, since it began. What it waits for just now is not in waited_ms yet: then it is ready. */
struct tasks_time {
    int64_t ran_ms, waited_ms; /* for a processor, while it was ready to run */
    bool is_ready;             /* runs, or would if it could */
};

/* -errno: the kernel does not tell (/proc/PID/schedstat). */
int tasks_time(pid_t pid, struct tasks_time *out);

#endif
