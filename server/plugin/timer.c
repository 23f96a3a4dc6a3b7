#include "plugin/timer.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "plugin/eject.h"
#include "plugin/heap.h"
#include "plugin/recover.h"
#include "plugin/thread.h"

/* libc may start an expiry's thread before timer_delete() and run it after. So what it is given is no
 * pointer, but a place and which use of it was meant. */
struct entry {
    bool is_taken;
    uint32_t use;
    uint32_t plugin;
    struct heap *heap; /* of the incarnation that made it, pinned as long as it is there */
    timer_t timer;
    void (*fn)(union sigval);
    union sigval value;
};

static struct {
    pthread_mutex_t lock;
    struct entry entry[TIMERS_MAX];
} timers = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lock(void)
{
    recover_critical_enter();
    pthread_mutex_lock(&timers.lock);
}

static void unlock(void)
{
    pthread_mutex_unlock(&timers.lock);
    recover_critical_leave();
}

/* Runs on libc's thread. */
static void expire(union sigval value)
{
    uint64_t token = (uint64_t)(uintptr_t)value.sival_ptr;
    const struct entry *at = &timers.entry[(token & UINT32_MAX) % TIMERS_MAX];
    struct entry e;

    lock();
    e = *at;
    unlock();
    if (e.is_taken && e.use == token >> 32 && !eject_is_out(e.plugin))
        thread_run_timer(e.plugin, e.heap, e.fn, e.value);
}

static struct entry *take(void)
{
    for (int i = 0; i < TIMERS_MAX; i++) {
        if (!timers.entry[i].is_taken)
            return &timers.entry[i];
    }
    return NULL;
}

int timer_open(uint32_t plugin, clockid_t clock, const struct sigevent *ev, timer_t *out)
{
    struct sigevent ours = *ev;
    struct entry *e;
    int r = -1;

    if (ours.sigev_notify_attributes != NULL) /* a bad pointer faults here */
        (void)*(const volatile char *)ours.sigev_notify_attributes;
    *(volatile timer_t *)out = NULL;
    lock();
    e = take();
    if (e == NULL) {
        errno = EAGAIN;
    } else {
        e->use++;
        ours.sigev_notify_function = expire;
        ours.sigev_value.sival_ptr = (void *)(uintptr_t)((uint64_t)e->use << 32 |
                                                         (uint64_t)(e - timers.entry));
        r = timer_libc_create(clock, &ours, &e->timer);
        if (r == 0) {
            e->is_taken = true;
            e->plugin = plugin;
            e->heap = recover_is_armed() ? recover_self.heap : NULL;
            heap_pin(e->heap);
            e->fn = ev->sigev_notify_function;
            e->value = ev->sigev_value;
            *out = e->timer;
        }
    }
    unlock();
    return r;
}

int timer_close(timer_t timer)
{
    static int (*real)(timer_t);

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "timer_delete");
    lock();
    for (int i = 0; i < TIMERS_MAX; i++) {
        if (timers.entry[i].is_taken && timers.entry[i].timer == timer) {
            timers.entry[i].is_taken = false;
            heap_unpin(timers.entry[i].heap);
        }
    }
    unlock();
    return real(timer);
}

const void *timer_function(uint32_t plugin)
{
    const void *fn = NULL;

    lock();
    for (int i = 0; i < TIMERS_MAX; i++)
        if (timers.entry[i].is_taken && timers.entry[i].plugin == plugin)
            fn = *(const void *const *)&timers.entry[i].fn;
    unlock();
    return fn;
}

int timer_libc_create(clockid_t clock, struct sigevent *ev, timer_t *out)
{
    static int (*real)(clockid_t, struct sigevent *, timer_t *);

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "timer_create");
    return real(clock, ev, out);
}
