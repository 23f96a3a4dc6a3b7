/*
 * tasks.h - how many threads a process has.
 */
#ifndef BASE_TASKS_H
#define BASE_TASKS_H

#include <sys/types.h>

/* -1: not known. By the links of /proc/PID/task, which it does not look into: see urgency_restore() of what
 * that costs. */
int tasks_count(pid_t pid);

#endif
