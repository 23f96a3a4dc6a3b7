/*
 * interpose_thread.c - threads and timers that plugins start get a boundary of their own.
 *
 * std::thread comes by here as well, as libstdc++ calls pthread_create(). Threads that libc makes for
 * its own functions (aio_*, getaddrinfo_a(), mq_notify()) and those of a raw clone() do not: what
 * crashes there ends the worker.
 *
 * Keys of thread-specific data are noted for the preflight (specific.h), and are libc's otherwise.
 */
#include <pthread.h>
#include <signal.h>
#include <threads.h>
#include <time.h>

#include "plugin/interpose.h"
#include "plugin/specific.h"
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

int pthread_key_create(pthread_key_t *out, void (*destructor)(void *))
{
    int r;

    INTERPOSE_REAL(pthread_key_create);
    r = real(out, destructor);
    if (r == 0)
        specific_add(*out, destructor);
    return r;
}

int pthread_key_delete(pthread_key_t key)
{
    INTERPOSE_REAL(pthread_key_delete);
    specific_remove(key);
    return real(key);
}

int tss_create(tss_t *out, tss_dtor_t destructor)
{
    int r;

    INTERPOSE_REAL(tss_create);
    r = real(out, destructor);
    if (r == thrd_success)
        specific_add(*out, destructor);
    return r;
}

void tss_delete(tss_t key)
{
    INTERPOSE_REAL(tss_delete);
    specific_remove(key);
    real(key);
}
