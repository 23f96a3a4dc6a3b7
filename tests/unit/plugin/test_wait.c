/*
 * test_wait.c - calls that wait for a lock are left at their deadline, and others do as libc does.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "plugin/boundary.h"
#include "plugin/eject.h"
#include "recovering.h"

/* link: @interpose */

static struct shm *shm;

static int group_set_up(void **state)
{
    (void)state;
    return recovering_set_up(&shm, 4);
}

/* ---- what waits for ever ---- */

static void lock_mutex(void)
{
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;

    pthread_mutex_lock(&m);
    pthread_mutex_lock(&m);
}

static void lock_robust_mutex(void)
{
    pthread_mutexattr_t attr;
    static pthread_mutex_t m; /* libc keeps a list of those that are held */

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&m, &attr);
    pthread_mutex_lock(&m);
    pthread_mutex_lock(&m);
}

static void lock_mutex_for_long(void)
{
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    struct timespec later = {.tv_sec = time(NULL) + 3600};

    pthread_mutex_lock(&m);
    pthread_mutex_timedlock(&m, &later);
}

static void read_lock(void)
{
    pthread_rwlock_t l = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
    pthread_rwlock_wrlock(&l);
    l.__data.__cur_writer = 0; /* as if another thread had it: libc would answer EDEADLK */
    pthread_rwlock_rdlock(&l);
}

static void write_lock(void)
{
    pthread_rwlock_t l = PTHREAD_RWLOCK_INITIALIZER;

    pthread_rwlock_rdlock(&l);
    pthread_rwlock_wrlock(&l);
}

static void wait_on_condition(void)
{
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t c = PTHREAD_COND_INITIALIZER;

    pthread_mutex_lock(&m);
    pthread_cond_wait(&c, &m);
}

static void wait_long_on_condition(void)
{
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t c = PTHREAD_COND_INITIALIZER;
    struct timespec later = {.tv_sec = time(NULL) + 3600};

    pthread_mutex_lock(&m);
    pthread_cond_timedwait(&c, &m, &later);
}

static void wait_on_semaphore(void)
{
    sem_t s;

    sem_init(&s, 0, 0);
    while (sem_wait(&s) < 0 && errno == EINTR)
        ;
}

static void wait_at_barrier(void)
{
    pthread_barrier_t b;

    pthread_barrier_init(&b, NULL, 2);
    pthread_barrier_wait(&b);
}

static void *sleep_for_ever(void *arg)
{
    for (;;)
        pause();
    return arg;
}

static void join(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, sleep_for_ever, NULL) == 0)
        pthread_join(thread, NULL);
}

static void spin(void)
{
    pthread_spinlock_t lock;

    pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE);
    pthread_spin_lock(&lock);
    pthread_spin_lock(&lock);
}

static void lock_c11_mutex(void)
{
    mtx_t m;

    mtx_init(&m, mtx_plain);
    mtx_lock(&m);
    mtx_lock(&m);
}

static void wait_on_c11_condition(void)
{
    mtx_t m;
    cnd_t c;

    mtx_init(&m, mtx_plain);
    cnd_init(&c);
    mtx_lock(&m);
    cnd_wait(&c, &m);
}

/* ---- calling it, with a watchdog ---- */

static void (*doing)(void);

static bh_rc does(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    doing();
    return 0;
}

static struct {
    pid_t tid;
    bool is_last;
    _Atomic bool is_over;
} watched;

/* The deadline signal of whatever call runs, again and again. */
static void *watch(void *arg)
{
    const struct shm_call *call = &shm->worker[0].call;
    struct timespec pause = {.tv_nsec = 2000000};

    for (int i = 0; !atomic_load(&watched.is_over); i++) {
        nanosleep(&pause, NULL);
        if (atomic_load(&call->plugin) != 0)
            recover_deadline(watched.tid, atomic_load(&call->seq), watched.is_last && i >= 20);
    }
    return arg;
}

static bool call_watched(void (*what)(void))
{
    pthread_t thread;
    bool came_back;
    bh_rc rc;

    doing = what;
    watched.tid = gettid();
    atomic_store(&watched.is_over, false);
    assert_int_equal(pthread_create(&thread, NULL, watch, NULL), 0);
    came_back = boundary_hook(1, HOOK_REQUEST, does, NULL, NULL, NULL, &rc);
    atomic_store(&watched.is_over, true);
    pthread_join(thread, NULL);
    return came_back;
}

static void a_call_that_waits_for_a_lock_is_left_and_its_plugin_taken_out(void **state)
{
    static const struct {
        const char *name;
        void (*fn)(void);
    } rows[] = {{"mutex", lock_mutex},
                {"robust mutex", lock_robust_mutex},
                {"timed mutex", lock_mutex_for_long},
                {"read lock", read_lock},
                {"write lock", write_lock},
                {"condition", wait_on_condition},
                {"timed condition", wait_long_on_condition},
                {"semaphore", wait_on_semaphore},
                {"barrier", wait_at_barrier},
                {"join", join},
                {"spin lock", spin},
                {"C11 mutex", lock_c11_mutex},
                {"C11 condition", wait_on_c11_condition}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        recovering_begin(shm);
        eject_init(-1);
        if (call_watched(rows[i].fn) || !recover_self.fault.is_deadline ||
            recover_self.waits != RECOVER_WAITS_NOT || recover_self.depth != 0)
            fail_msg("%s", rows[i].name);
        assert_int_equal(recovering_record(shm)->verdict, SHM_EJECTED);
        assert_string_equal(recovering_record(shm)->kind, "deadline");
        assert_true(eject_is_out(1));
        assert_false(eject_is_out(2));
        recover_record_done(recover_self.fault.record);
    }
}

/* libc's own waits register with the thread: gone with the frames they lie in. */
static void nothing_of_a_wait_stays_with_the_thread(void **state)
{
    int type;

    (void)state;
    recovering_begin(shm);
    eject_init(-1);
    assert_false(call_watched(wait_on_condition));
    recover_record_done(recover_self.fault.record);
    assert_int_equal(pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type), 0);
    assert_int_equal(type, PTHREAD_CANCEL_DEFERRED);
}

/* ---- what is held ---- */

__attribute__((unused)) static void wait_with_stdio_locked(void)
{
    flockfile(stderr);
    lock_mutex();
}

static void wait_in_a_critical_section(void)
{
    recover_critical_enter();
    lock_mutex();
}

/* A futex wait of libc's that is not the plugin's own: pthread_once() calls back. */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void begin_again(void)
{
    pthread_once(&once, begin_again);
}

static void wait_for_once(void)
{
    pthread_once(&once, begin_again);
}

static void assert_dies(void (*what)(void), const char *reason)
{
    const struct shm_crash *record;
    int status = 0;
    pid_t pid;

    recovering_begin(shm);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (recover_init(shm, 0) < 0)
            _exit(1);
        watched.is_last = true;
        _exit(call_watched(what) ? 0x7e : 0x7f);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    record = recovering_record(shm);
    assert_int_equal(record->verdict, SHM_WORKER_DIED);
    assert_string_equal(record->kind, "deadline");
    assert_int_equal(record->plugin, 1);
    assert_non_null(strstr(record->reason, reason));
}

static void a_wait_with_something_held_ends_the_process(void **state)
{
    (void)state;
    assert_dies(wait_in_a_critical_section, "critical section");
#ifndef BULKHEAD_SANITIZE
    assert_dies(wait_with_stdio_locked, "inside libc");
#endif
}

static void a_wait_that_nobody_knows_ends_the_process(void **state)
{
    (void)state;
    assert_dies(wait_for_once, "outside plugin code");
}

/* ---- as libc does ---- */

static int answers[16], n_answers;

#define NOTE(CALL) answers[n_answers++] = (CALL)

static void lock_in_all_ways(void)
{
    pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER,
                    twice = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP,
                    checked = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    struct timespec past = {.tv_sec = 1};
    sem_t sem;

    n_answers = 0;
    NOTE(pthread_mutex_lock(&plain));
    NOTE(pthread_mutex_timedlock(&plain, &past));
    NOTE(pthread_cond_timedwait(&cond, &plain, &past));
    NOTE(pthread_mutex_unlock(&plain));
    NOTE(pthread_mutex_lock(&twice));
    NOTE(pthread_mutex_lock(&twice));
    NOTE(pthread_mutex_lock(&checked));
    NOTE(pthread_mutex_lock(&checked));
    NOTE(pthread_rwlock_wrlock(&rw));
    NOTE(pthread_rwlock_rdlock(&rw));
    sem_init(&sem, 0, 1);
    NOTE(sem_wait(&sem));
    NOTE(sem_timedwait(&sem, &past));
    NOTE(errno);
    NOTE(pthread_join(pthread_self(), NULL));
}

static void waits_answer_what_libc_answers(void **state)
{
    static const int wanted[] = {0,       ETIMEDOUT, ETIMEDOUT, 0, 0,  0,         0,
                                 EDEADLK, 0,         EDEADLK,   0, -1, ETIMEDOUT, EDEADLK};

    (void)state;
    recovering_begin(shm);
    for (int inside = 0; inside < 2; inside++) {
        doing = lock_in_all_ways;
        if (inside)
            assert_true(boundary_hook(1, HOOK_REQUEST, does, NULL, NULL, NULL, &(bh_rc){0}));
        else
            doing();
        assert_int_equal(n_answers, sizeof wanted / sizeof wanted[0]);
        for (int i = 0; i < n_answers; i++)
            if (answers[i] != wanted[i])
                fail_msg("%s: answer %d is %d", inside ? "inside" : "outside", i, answers[i]);
        assert_int_equal(recover_self.waits, RECOVER_WAITS_NOT);
    }
}

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n;
} table = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

static void *play(void *arg)
{
    int odd = arg != NULL;

    pthread_mutex_lock(&table.lock);
    while (table.n < 1000) {
        if (table.n % 2 == odd) {
            table.n++;
            pthread_cond_broadcast(&table.changed);
        } else {
            pthread_cond_wait(&table.changed, &table.lock);
        }
    }
    pthread_mutex_unlock(&table.lock);
    return NULL;
}

static void play_with_another(void)
{
    play(&table);
}

static void a_call_is_woken_by_another_thread(void **state)
{
    pthread_t thread;

    (void)state;
    recovering_begin(shm);
    assert_int_equal(pthread_create(&thread, NULL, play, NULL), 0);
    doing = play_with_another;
    assert_true(boundary_hook(1, HOOK_REQUEST, does, NULL, NULL, NULL, &(bh_rc){0}));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(table.n, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_waits_for_a_lock_is_left_and_its_plugin_taken_out),
        cmocka_unit_test(nothing_of_a_wait_stays_with_the_thread),
        cmocka_unit_test(a_wait_with_something_held_ends_the_process),
        cmocka_unit_test(a_wait_that_nobody_knows_ends_the_process),
        cmocka_unit_test(waits_answer_what_libc_answers),
        cmocka_unit_test(a_call_is_woken_by_another_thread),
    };

    return cmocka_run_group_tests_name("wait", tests, group_set_up, NULL);
}
