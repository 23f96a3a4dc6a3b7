/*
 * interpose_thread.c - threads and timers that plugins start get a boundary of their own.
 *
 * std::thread comes by here as well, as libstdc++ calls pthread_create(). Threads that libc makes for
 * its own functions (aio_*, getaddrinfo_a(), mq_notify()) and those of a raw clone() do not: what
 * crashes there ends the worker.
 */
#include <pthread.h>
#include <signal.h>
#include <threads.h>
#include <time.h>

#include "plugin/thread.h"
#include "plugin/timer.h"

int pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    return thread_create(thread_creator(__builtin_return_address(0)), out, attr, fn, arg);
}

int thrd_create(thrd_t *out, thrd_start_t fn, void *arg)
{
    return thread_create_c11(thread_creator(__builtin_return_address(0)), out, fn, arg);
}

int timer_create(clockid_t clock, struct sigevent *ev, timer_t *out)
{
    uint32_t plugin = thread_creator(__builtin_return_address(0));

    if (plugin == 0 || ev == NULL || ev->sigev_notify != SIGEV_THREAD)
        return timer_libc_create(clock, ev, out);
    return timer_open(plugin, clock, ev, out);
}

int timer_delete(timer_t timer)
{
    return timer_close(timer);
}
