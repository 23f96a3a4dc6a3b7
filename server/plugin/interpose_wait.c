/*
 * interpose_wait.c - tells the deadline handler that a plugin call waits for a lock, not the host.
 *
 * Why leaving is sound there. The thread is in a futex wait (or a spin) of one of the functions
 * below, which the plugin's own code called: nothing of the host's, of the allocator's or of the
 * loader's is held (those have counters), and libc's part is this:
 * - a mutex, semaphore, spin lock: the waiter has changed nothing but "there may be waiters"; one
 *   wake-up too many follows. A robust mutex stays noted as "about to be locked", which the kernel
 *   looks at when the thread ends, and compares with the thread's number.
 * - a condition: the mutex was released before the wait, so none is held (and its owner may be any
 *   other thread). The waiter stays counted in: a later signal may be spent on it, and destroying
 *   the condition would wait for it.
 * - a read-write lock, a barrier: the waiter stays counted in, and others may wait for it for ever.
 * - pthread_join(): the other thread is marked as being joined.
 * - what libc had registered with the thread (clean-up handlers, asynchronous cancellation during a
 *   wait) is set back by recover_landed().
 * So what is damaged belongs to whoever made the lock: the plugin, or a library it uses. It would
 * block again, and is therefore taken out of the worker: outcome Q.
 *
 * What a newcomer would get wrong: pthread_once() is not here. It calls back, and while the
 * callback runs any futex wait of libc's would pass for the plugin's.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <threads.h>

#include "plugin/interpose.h"

/* Outside of plugin calls: libc's function and nothing else. */
#define CALL_UNMARKED(NAME, ARGS)                 \
    INTERPOSE_REAL(NAME);                         \
    if (__builtin_expect(!recover_is_armed(), 1)) \
        return real ARGS;

#define CALL_MARKED(TYPE, WHAT, ARGS)              \
    do {                                           \
        TYPE result;                               \
        recover_self.waits = (WHAT);               \
        atomic_signal_fence(memory_order_seq_cst); \
        result = real ARGS;                        \
        atomic_signal_fence(memory_order_seq_cst); \
        recover_self.waits = RECOVER_WAITS_NOT;    \
        return result;                             \
    } while (0)

#define WAITS(TYPE, NAME, PARAMS, ARGS)                  \
    TYPE NAME PARAMS                                     \
    {                                                    \
        CALL_UNMARKED(NAME, ARGS)                        \
        CALL_MARKED(TYPE, RECOVER_WAITS_IN_FUTEX, ARGS); \
    }

/* Most locks are free: not even a mark for those. Only where the try differs from the call in
 * nothing but not waiting. */
#define TRIES_THEN_WAITS(NAME, PARAMS, ARGS, TRY)       \
    int NAME PARAMS                                     \
    {                                                   \
        int tried;                                      \
        CALL_UNMARKED(NAME, ARGS)                       \
        tried = TRY;                                    \
        if (tried != EBUSY)                             \
            return tried;                               \
        CALL_MARKED(int, RECOVER_WAITS_IN_FUTEX, ARGS); \
    }

typedef const struct timespec *until; /* of the clock given */

/* EBUSY also stands for "this thread has it already": then the real call tells, or waits. */
TRIES_THEN_WAITS(pthread_mutex_lock, (pthread_mutex_t * m), (m), pthread_mutex_trylock(m))
WAITS(int, pthread_mutex_timedlock, (pthread_mutex_t * m, until t), (m, t))
WAITS(int, pthread_mutex_clocklock, (pthread_mutex_t * m, clockid_t c, until t), (m, c, t))
WAITS(int, mtx_lock, (mtx_t * m), (m))
WAITS(int, mtx_timedlock, (mtx_t * m, until t), (m, t))

TRIES_THEN_WAITS(pthread_rwlock_rdlock, (pthread_rwlock_t * l), (l), pthread_rwlock_tryrdlock(l))
TRIES_THEN_WAITS(pthread_rwlock_wrlock, (pthread_rwlock_t * l), (l), pthread_rwlock_trywrlock(l))
WAITS(int, pthread_rwlock_timedrdlock, (pthread_rwlock_t * l, until t), (l, t))
WAITS(int, pthread_rwlock_timedwrlock, (pthread_rwlock_t * l, until t), (l, t))
WAITS(int, pthread_rwlock_clockrdlock, (pthread_rwlock_t * l, clockid_t c, until t), (l, c, t))
WAITS(int, pthread_rwlock_clockwrlock, (pthread_rwlock_t * l, clockid_t c, until t), (l, c, t))

WAITS(int, pthread_cond_wait, (pthread_cond_t * c, pthread_mutex_t *m), (c, m))
WAITS(int, pthread_cond_timedwait, (pthread_cond_t * c, pthread_mutex_t *m, until t), (c, m, t))
WAITS(int, pthread_cond_clockwait, (pthread_cond_t * c, pthread_mutex_t *m, clockid_t id, until t),
      (c, m, id, t))
WAITS(int, cnd_wait, (cnd_t * c, mtx_t *m), (c, m))
WAITS(int, cnd_timedwait, (cnd_t * c, mtx_t *m, until t), (c, m, t))

WAITS(int, sem_wait, (sem_t * s), (s))
WAITS(int, sem_timedwait, (sem_t * s, until t), (s, t))
WAITS(int, sem_clockwait, (sem_t * s, clockid_t c, until t), (s, c, t))

WAITS(int, pthread_barrier_wait, (pthread_barrier_t * b), (b))
WAITS(int, pthread_join, (pthread_t id, void **value), (id, value))
WAITS(int, pthread_timedjoin_np, (pthread_t id, void **value, until t), (id, value, t))
WAITS(int, pthread_clockjoin_np, (pthread_t id, void **value, clockid_t c, until t),
      (id, value, c, t))
WAITS(int, thrd_join, (thrd_t id, int *value), (id, value))

int pthread_spin_lock(pthread_spinlock_t *lock)
{
    CALL_UNMARKED(pthread_spin_lock, (lock))
    CALL_MARKED(int, RECOVER_WAITS_SPINNING, (lock));
}
