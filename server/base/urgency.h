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

#include <stdbool.h>
#include <sys/types.h>

/* As long as there are rights for it, before a change of user. */
void urgency_allow_return(void);

/* For the calling thread, and those that it makes from now on. Nothing happens where somebody has
 * chosen another policy than the usual one for the whole server. */
void urgency_yield(void);

/* Has this process yielded, and so the threads that it makes without a policy of their own? */
bool urgency_has_yielded(void);

/* Another process that has yielded, all its threads and its children do not any more; if it was made while
 * we were modest, it is as modest as we are now. n_others: of its threads so many have a policy of their own.
 * Only when there are more of them are they looked up.
 * What a newcomer would get wrong: that is not free. The kernel keeps what was looked up below
 * /proc/PID/task until the thread, and then the process, has ended, and throws it away each time: whoever
 * collects the process spins until the thread is done, milliseconds where both want the same CPU. */
void urgency_restore(pid_t pid, int n_others);
/* This one: the calling thread, tid[n], and, if that and n_others is not all, whatever else there is. */
void urgency_return(const pid_t *tid, int n, int n_others);

/* For the calling thread, and processes that it makes: it has less of the CPU where others want it, but its
 * share at once (a tenth, against one). For work that somebody waits for, but longer than for a request.
 * Nothing happens where there would be no way back, or somebody has chosen another policy. A process that
 * was made meanwhile goes back by itself, or with urgency_return() and urgency_restore(). */
void urgency_be_modest(void);
void urgency_be_usual(void);
void urgency_thread_be_usual(void); /* the calling thread alone, which one of those has made */

/* The calling thread, and those that it makes, are woken ahead of others with the same share of the CPU
 * (Linux 6.12 or later; before, nothing happens). It gets no more of it than them. */
void urgency_wake_first(void);

/* The opposite, for good: for who is about to end. Not with a long slice: on a machine where many want
 * the CPU that means a wait of seconds. */
void urgency_wake_last(void);

#endif
