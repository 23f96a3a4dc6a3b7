/*
 * urgency.h - who goes first where a CPU is wanted by several processes of the server.
 *
 * Requests come before the work that a reload makes. A process that nobody waits for yet yields;
 * before it takes part it is as all others again. What a newcomer would get wrong: to run only when
 * nobody else wants to (SCHED_IDLE) takes no right, but the way back does (RLIMIT_NICE). Without it
 * a process has its share of the CPU as before, and lets those go first that have just been woken.
 */
#ifndef BASE_URGENCY_H
#define BASE_URGENCY_H

#include <sys/types.h>

/* As long as there are rights for it, before a change of user. */
void urgency_allow_return(void);

/* For the calling thread, and those that it makes from now on. Nothing happens where somebody has
 * chosen another policy than the usual one for the whole server. */
void urgency_yield(void);

/* All threads of a process that has yielded, and its children, are as they were before. Who has not,
 * stays as it is. */
void urgency_restore(pid_t pid);

/* The calling thread, and those that it makes, are woken ahead of others with the same share of the CPU
 * (Linux 6.12 or later; before, nothing happens). It gets no more of it than them. */
void urgency_wake_first(void);

/* The opposite, for good: for who is about to end. Not with a long slice: on a machine where many want
 * the CPU that means a wait of seconds. */
void urgency_wake_last(void);

#endif
