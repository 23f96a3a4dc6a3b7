/*
 * threads.c - a plugin that starts threads and does nothing wrong with them.
 *
 * ?n=100: so many, one after the other; they end in all the ways there are, and have something
 * thread-specific that is destroyed. ?timers=5 expires so many timers. The answer says how many came
 * to their end as they should.
 */
#include <bulkhead.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic long n_destroyed, n_expired;
static sem_t expired;

static void destroy(void *p)
{
    free(p);
    atomic_fetch_add(&n_destroyed, 1);
}

static void init(void)
{
    pthread_key_create(&key, destroy);
    sem_init(&expired, 0, 0);
}

static void *by_return(void *arg)
{
    pthread_setspecific(key, malloc(100));
    return arg;
}

static void *by_exit(void *arg)
{
    pthread_setspecific(key, malloc(100));
    pthread_exit(arg);
}

static void *by_cancellation(void *arg)
{
    pthread_setspecific(key, malloc(100));
    for (;;)
        pause();
    return arg;
}

static int by_c11(void *arg)
{
    pthread_setspecific(key, malloc(100));
    return (int)(intptr_t)arg;
}

/* 1 when it came to its end. */
static long run(long i)
{
    void *(*const how[])(void *) = {by_return, by_exit, by_cancellation};
    void *arg = (void *)(intptr_t)(i + 1), *result = NULL;
    pthread_t thread;

    if (i % 4 == 3) {
        int status = 0;
        thrd_t c11;

        return thrd_create(&c11, by_c11, arg) == thrd_success &&
               thrd_join(c11, &status) == thrd_success && status == i + 1;
    }
    if (pthread_create(&thread, NULL, how[i % 4], arg) != 0)
        return 0;
    if (i % 4 == 2)
        pthread_cancel(thread);
    pthread_join(thread, &result);
    return result == (i % 4 == 2 ? PTHREAD_CANCELED : arg);
}

static void expire(union sigval value)
{
    (void)value;
    atomic_fetch_add(&n_expired, 1);
    sem_post(&expired);
}

static long run_timer(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD};
    struct itimerspec soon = {.it_value.tv_nsec = 100000};
    timer_t timer;

    event.sigev_notify_function = expire;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
        return 0;
    timer_settime(timer, 0, &soon, NULL);
    while (sem_wait(&expired) != 0)
        ;
    timer_delete(timer);
    return 1;
}

static long number(bh_str s)
{
    return s.p != NULL ? strtol(s.p, NULL, 10) : 0;
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    long n = number(bh_query(req, "n")), timers = number(bh_query(req, "timers")), n_well = 0;
    char text[32];

    (void)self, (void)ctx;
    pthread_once(&once, init);
    for (long i = 0; i < n; i++)
        n_well += run(i);
    for (long i = 0; i < timers; i++)
        n_well += run_timer();
    snprintf(text, sizeof text, "%ld\n", n_well);
    return bh_reply(req, 200, "text/plain", text);
}

BH_PLUGIN("threads", "1.0.0", .summary = "Starts threads that end well", .on_request = on_request)
