/*
 * test_thread.c - threads and timers that a plugin starts: what their crash costs, and that all else
 * about them is as libc has it.
 *
 * What must end the process is tried in a forked child.
 */
#include "plugin/thread.h"

/* link: @interpose */

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/config.h"
#include "plugin/boundary.h"
#include "plugin/eject.h"
#include "recovering.h"

enum { PLUGIN = 2, LIMITED = 3, LEAKY = 4, N_PLUGINS = 4 };

static struct shm *shm;
static struct config_plugin plugins[N_PLUGINS] = {
    {.name = "one", .threads = 1000},
    {.name = "two", .threads = 1000},
    {.name = "limited", .threads = 2},
    {.name = "leaky", .threads = 1},
};
static const struct config cfg = {.plugin = plugins, .n_plugins = N_PLUGINS};

static int *volatile nowhere;
static volatile int zero;

static int group_set_up(void **state)
{
    int r;

    (void)state;
    r = recovering_set_up(&shm, N_PLUGINS);
    if (r == 0)
        thread_init(&cfg, &shm->worker[0]);
    return r;
}

static void begin(void)
{
    recovering_begin(shm);
    eject_init(-1);
}

/* Polls for what other threads do. */
static bool comes_true(bool (*is_true)(void))
{
    struct timespec moment = {.tv_nsec = 2000000};

    for (int i = 0; i < 5000; i++) {
        if (is_true())
            return true;
        nanosleep(&moment, NULL);
    }
    return false;
}

static bool nobody_is_shown(void)
{
    for (int i = 0; i < SHM_THREADS; i++)
        if (atomic_load(&shm->worker[0].thread[i].tid) != 0)
            return false;
    return true;
}

static bool somebody_is_out(void)
{
    return eject_is_out(PLUGIN);
}

/* ---- a plugin call that starts a thread ---- */

struct start {
    void *(*fn)(void *);
    void *arg;
    pthread_attr_t *attr;
    pthread_t thread;
    int result;
};

static bh_rc starts(void *self, bh_req *req, void *ctx)
{
    struct start *s = self;

    (void)req, (void)ctx;
    s->result = pthread_create(&s->thread, s->attr, s->fn, s->arg);
    return BH_OK;
}

static int start(uint32_t plugin, struct start *s)
{
    bh_rc rc;

    assert_true(boundary_hook(plugin, HOOK_REQUEST, starts, s, NULL, NULL, &rc));
    return s->result;
}

/* Starts one for PLUGIN, and waits for its end: what its join gives. */
static void *run(void *(*fn)(void *), void *arg)
{
    struct start s = {.fn = fn, .arg = arg};
    void *result = NULL;

    assert_int_equal(start(PLUGIN, &s), 0);
    assert_int_equal(pthread_join(s.thread, &result), 0);
    return result;
}

static void assert_charged(int signo, const char *kind)
{
    const struct shm_crash *record = recovering_record(shm);
    uint32_t plugin = 0;
    const char *why;

    assert_int_equal(atomic_load(&record->state), SHM_CRASH_FULL);
    assert_int_equal(record->plugin, PLUGIN);
    assert_int_equal(record->hook, HOOK_THREAD);
    assert_int_equal(record->verdict, SHM_EJECTED);
    assert_int_equal(record->signo, signo);
    assert_string_equal(record->kind, kind);
    assert_true(eject_take(&plugin, &why));
    assert_int_equal(plugin, PLUGIN);
}

/* ---- what threads do ---- */

FAULTY static void *segv(void *arg)
{
    (void)arg;
    *nowhere = 1;
    return NULL;
}

static void *exits(void *arg)
{
    (void)arg;
    exit(3);
}

static void *aborts(void *arg)
{
    (void)arg;
    abort();
}

FAULTY static size_t deeper(size_t depth)
{
    volatile char frame[1024];

    frame[depth % sizeof frame] = (char)depth;
    if (zero)
        return depth;
    return deeper(depth + 1) + (size_t)frame[depth % sizeof frame];
}

static void *overflows(void *arg)
{
    (void)arg;
    return (void *)deeper(0);
}

static void *returns(void *arg)
{
    return arg;
}

/* ---- a crash ---- */

static void a_crash_ends_that_thread_alone(void **state)
{
    (void)state;
    begin();
    assert_ptr_equal(run(segv, NULL), PTHREAD_CANCELED);
    assert_charged(SIGSEGV, "signal");
}

static void exit_in_a_thread_ends_that_thread_alone(void **state)
{
    (void)state;
    begin();
    assert_ptr_equal(run(exits, NULL), PTHREAD_CANCELED);
    assert_charged(0, "exit");
}

static void abort_in_a_thread_ends_that_thread_alone(void **state)
{
    (void)state;
    begin();
    assert_ptr_equal(run(aborts, NULL), PTHREAD_CANCELED);
    assert_charged(SIGABRT, "abort");
}

static void a_stack_overflow_ends_that_thread_alone(void **state)
{
    (void)state;
    begin();
    assert_ptr_equal(run(overflows, NULL), PTHREAD_CANCELED);
    assert_charged(SIGSEGV, "signal");
}

static void a_crash_on_the_smallest_stack_is_left_too(void **state)
{
    struct start s = {.fn = segv};
    pthread_attr_t attr;
    void *result = NULL;

    (void)state;
    begin();
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstacksize(&attr, (size_t)sysconf(_SC_THREAD_STACK_MIN)), 0);
    s.attr = &attr;
    assert_int_equal(start(PLUGIN, &s), 0);
    assert_int_equal(pthread_join(s.thread, &result), 0);
    assert_ptr_equal(result, PTHREAD_CANCELED);
    assert_charged(SIGSEGV, "signal");
    pthread_attr_destroy(&attr);
}

static void *starts_another(void *arg)
{
    pthread_t thread;
    void *result = NULL;

    (void)arg;
    if (pthread_create(&thread, NULL, segv, NULL) != 0 || pthread_join(thread, &result) != 0)
        return NULL;
    return result == PTHREAD_CANCELED ? (void *)1 : NULL;
}

static void a_threads_thread_is_the_same_plugins(void **state)
{
    (void)state;
    begin();
    assert_ptr_equal(run(starts_another, NULL), (void *)1);
    assert_charged(SIGSEGV, "signal");
}

static void a_creator_who_blocks_all_signals_changes_nothing(void **state)
{
    struct start s = {.fn = segv};
    sigset_t all, old;
    void *result = NULL;

    (void)state;
    begin();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    assert_int_equal(start(PLUGIN, &s), 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    assert_int_equal(pthread_join(s.thread, &result), 0);
    assert_ptr_equal(result, PTHREAD_CANCELED);
    assert_charged(SIGSEGV, "signal");
}

static void *holds_stdio(void *arg)
{
    flockfile(stderr);
    return segv(arg);
}

static void a_crash_with_a_lock_of_libc_held_ends_the_process(void **state)
{
    int status = 0;
    pid_t pid;

    (void)state;
    begin();
    fflush(NULL);
    pid = (pid_t)syscall(SYS_fork); /* as the master does it: no plugin's child */
    if (pid == 0) {
        recover_init(shm, 0);
        run(holds_stdio, NULL);
        _exit(0);
    }
    waitpid(pid, &status, 0);
#ifdef BULKHEAD_SANITIZE
    (void)status; /* stdio is not interposed */
#else
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    assert_int_equal(recovering_record(shm)->verdict, SHM_WORKER_DIED);
    assert_int_equal(recovering_record(shm)->plugin, PLUGIN);
#endif
    for (int i = 0; i < SHM_THREADS; i++) /* the dead one's */
        atomic_store(&shm->worker[0].thread[i].tid, 0);
}

/* ---- destructors ---- */

static pthread_key_t key;
static _Atomic int n_destroyed;

static void counts(void *arg)
{
    (void)arg;
    atomic_fetch_add(&n_destroyed, 1);
}

static void crashes(void *arg)
{
    segv(arg);
}

static void exits_late(void *arg)
{
    exits(arg);
}

static void overflows_late(void *arg)
{
    overflows(arg);
}

static void *sets_key(void *arg)
{
    pthread_setspecific(key, arg);
    return NULL;
}

static void run_with_destructor(void (*destructor)(void *))
{
    static char value;

    assert_int_equal(pthread_key_create(&key, destructor), 0);
    run(sets_key, &value);
    pthread_key_delete(key);
}

static void a_crash_in_a_keys_destructor_ends_that_thread_alone(void **state)
{
    (void)state;
    begin();
    run_with_destructor(crashes);
    assert_charged(SIGSEGV, "signal");
    assert_true(comes_true(nobody_is_shown));
}

static void exit_in_a_keys_destructor_ends_that_thread_alone(void **state)
{
    (void)state;
    begin();
    run_with_destructor(exits_late);
    assert_charged(0, "exit");
}

static void a_stack_overflow_in_a_keys_destructor_ends_that_thread_alone(void **state)
{
    (void)state;
    begin();
    run_with_destructor(overflows_late);
    assert_charged(SIGSEGV, "signal");
}

/* What the compiler makes of a thread_local object with a destructor. */
int __cxa_thread_atexit_impl(void (*fn)(void *), void *object, void *dso);
extern void *__dso_handle;

/* libc's note of the destructor is lost when it crashes. */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

static void *has_thread_local(void *arg)
{
    if (__lsan_disable != NULL)
        __lsan_disable();
    __cxa_thread_atexit_impl(crashes, arg, &__dso_handle);
    if (__lsan_enable != NULL)
        __lsan_enable();
    return arg;
}

static void a_crash_in_a_thread_locals_destructor_ends_that_thread_alone(void **state)
{
    (void)state;
    begin();
    run(has_thread_local, NULL);
    assert_charged(SIGSEGV, "signal");
}

static pthread_key_t other_key;

static void *sets_both_keys(void *arg)
{
    pthread_setspecific(key, arg);
    pthread_setspecific(other_key, arg);
    return NULL;
}

static void *sees_other_key(void *arg)
{
    (void)arg;
    return pthread_getspecific(other_key);
}

/* libc gives a thread the stack of one that ended, and with it whatever it left there. */
static void the_next_thread_finds_nothing_of_one_that_crashed_late(void **state)
{
    static char value;

    (void)state;
    begin();
    assert_int_equal(pthread_key_create(&key, crashes), 0);
    assert_int_equal(pthread_key_create(&other_key, counts), 0);
    run(sets_both_keys, &value);
    assert_charged(SIGSEGV, "signal");
    assert_null(run(sees_other_key, NULL));
    pthread_key_delete(key);
    pthread_key_delete(other_key);
}

static void destructors_of_keys_run(void **state)
{
    (void)state;
    begin();
    atomic_store(&n_destroyed, 0);
    run_with_destructor(counts);
    assert_int_equal(atomic_load(&n_destroyed), 1);
    assert_false(eject_is_out(PLUGIN));
}

/* ---- as libc has it ---- */

static void a_thread_gives_its_result(void **state)
{
    static char value;

    (void)state;
    begin();
    assert_ptr_equal(run(returns, &value), &value);
    assert_true(comes_true(nobody_is_shown));
    assert_false(eject_is_out(PLUGIN));
}

static void *exits_thread(void *arg)
{
    pthread_cleanup_push(counts, NULL);
    pthread_exit(arg);
    pthread_cleanup_pop(0);
}

static void pthread_exit_ends_a_thread_in_order(void **state)
{
    static char value;

    (void)state;
    begin();
    atomic_store(&n_destroyed, 0);
    assert_ptr_equal(run(exits_thread, &value), &value);
    assert_int_equal(atomic_load(&n_destroyed), 1);
    assert_true(comes_true(nobody_is_shown));
    assert_false(eject_is_out(PLUGIN));
}

static void *waits(void *arg)
{
    pthread_cleanup_push(counts, NULL);
    atomic_store((_Atomic bool *)arg, true);
    for (;;)
        pause();
    pthread_cleanup_pop(0);
}

static _Atomic bool is_waiting;

static bool waiting(void)
{
    return atomic_load(&is_waiting);
}

static void a_thread_can_be_cancelled(void **state)
{
    struct start s = {.fn = waits, .arg = (void *)&is_waiting};
    void *result = NULL;

    (void)state;
    begin();
    atomic_store(&n_destroyed, 0);
    atomic_store(&is_waiting, false);
    assert_int_equal(start(PLUGIN, &s), 0);
    assert_true(comes_true(waiting));
    assert_int_equal(pthread_cancel(s.thread), 0);
    assert_int_equal(pthread_join(s.thread, &result), 0);
    assert_ptr_equal(result, PTHREAD_CANCELED);
    assert_int_equal(atomic_load(&n_destroyed), 1);
    assert_true(comes_true(nobody_is_shown));
    assert_false(eject_is_out(PLUGIN));
}

static int gives_7(void *arg)
{
    (void)arg;
    return 7;
}

static int crashes_c11(void *arg)
{
    segv(arg);
    return 0;
}

static int run_c11(int (*fn)(void *))
{
    thrd_t thread;
    int result = 0;

    assert_int_equal(thread_create_c11(PLUGIN, &thread, fn, NULL), thrd_success);
    assert_int_equal(thrd_join(thread, &result), thrd_success);
    return result;
}

static char hosts_name[16];
static void a_c11_thread_is_guarded_as_well(void **state)
{
    (void)state;
    begin();
    assert_int_equal(run_c11(gives_7), 7);
    assert_int_equal(run_c11(crashes_c11), -1);
    assert_charged(SIGSEGV, "signal");
}

static void *forks(void *arg)
{
    pid_t pid = fork();

    if (pid != 0)
        waitpid(pid, arg, 0);
    return NULL; /* both of them */
}

static void a_child_that_a_thread_forks_ends_where_the_thread_does(void **state)
{
    int status = -1;

    (void)state;
    begin();
    run(forks, &status);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static _Atomic int is_guarded = -1;

static void *asks(void *arg)
{
    (void)arg;
    prctl(PR_GET_NAME, hosts_name);
    atomic_store(&is_guarded, recover_self.is_plugins);
    return NULL;
}

static bool has_asked(void)
{
    return atomic_load(&is_guarded) >= 0;
}

static bh_rc starts_hosts(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    return thread_start("host", asks, NULL);
}

static void a_thread_of_the_hosts_is_no_plugins(void **state)
{
    bh_rc rc = BH_FAIL;

    (void)state;
    begin();
    assert_true(boundary_hook(PLUGIN, HOOK_REQUEST, starts_hosts, NULL, NULL, NULL, &rc));
    assert_int_equal(rc, 0);
    assert_true(comes_true(has_asked));
    assert_int_equal(atomic_load(&is_guarded), false);
    assert_string_equal(hosts_name, "host");
}

/* ---- limits ---- */

static void a_plugin_gets_no_more_threads_than_it_may_have(void **state)
{
    struct start s[3];

    (void)state;
    begin();
    for (int i = 0; i < 3; i++) {
        atomic_store(&is_waiting, false);
        s[i] = (struct start){.fn = waits, .arg = (void *)&is_waiting};
        assert_int_equal(start(LIMITED, &s[i]), i < 2 ? 0 : EAGAIN);
        assert_true(i == 2 || comes_true(waiting));
    }
    pthread_cancel(s[0].thread);
    pthread_join(s[0].thread, NULL);
    assert_int_equal(start(LIMITED, &s[2]), 0);
    for (int i = 1; i < 3; i++) {
        pthread_cancel(s[i].thread);
        pthread_join(s[i].thread, NULL);
    }
    assert_true(comes_true(nobody_is_shown));
    assert_false(eject_is_out(LIMITED));
}

static void a_plugin_that_leaks_threads_is_ejected(void **state)
{
    struct start first = {.fn = waits, .arg = (void *)&is_waiting}, more = first;
    uint32_t plugin = 0;
    const char *why;
    int n = 0;

    (void)state;
    begin();
    assert_int_equal(start(LEAKY, &first), 0);
    while (!eject_is_out(LEAKY) && n < 1000) {
        assert_int_equal(start(LEAKY, &more), EAGAIN);
        n++;
    }
    assert_in_range(n, 2, 100);
    assert_true(eject_take(&plugin, &why));
    assert_int_equal(plugin, LEAKY);
    pthread_cancel(first.thread);
    pthread_join(first.thread, NULL);
}

static long count_lines(const char *path)
{
    FILE *f = fopen(path, "r");
    long n = 0;
    int c;

    assert_non_null(f);
    while ((c = fgetc(f)) != EOF)
        n += c == '\n';
    fclose(f);
    return n;
}

static void many_threads_leave_nothing_behind(void **state)
{
    long before;

    (void)state;
    begin();
    for (int i = 0; i < 100; i++)
        run(i % 2 == 0 ? returns : exits_thread, NULL);
    before = count_lines("/proc/self/maps");
    for (int i = 0; i < 2000; i++)
        run(i % 2 == 0 ? returns : exits_thread, NULL);
    assert_in_range(count_lines("/proc/self/maps"), 1, before + 8);
    assert_true(comes_true(nobody_is_shown));
}

static void *crashes_detached(void *arg)
{
    pthread_detach(pthread_self());
    return segv(arg);
}

static bool none_is_left(void)
{
    return thread_count(PLUGIN) == 0;
}

static long count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    long n = 0;

    assert_non_null(tasks);
    while (readdir(tasks) != NULL)
        n++;
    closedir(tasks);
    return n;
}

static long resident_kib(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
    fclose(f);
    return pages * 4;
}

#ifdef BULKHEAD_SANITIZE
#define MAPPINGS_MORE 64
#else
#define MAPPINGS_MORE 8
#endif

/* No memory, no mapping (an alternate stack, say), no thread, no place among those that are shown. */
static void ten_thousand_threads_that_crash_leave_nothing_behind(void **state)
{
    long mappings = 0, resident = 0, threads = 0;

    (void)state;
    begin();
    for (int i = 0; i <= 11000; i++) {
        struct start s = {.fn = crashes_detached};

        if (i % 100 == 0)
            assert_true(comes_true(none_is_left) && comes_true(nobody_is_shown));
        if (i == 1000) {
            mappings = count_lines("/proc/self/maps");
            resident = resident_kib();
            threads = count_threads();
        }
        if (i % 4 == 0)
            assert_int_equal(start(PLUGIN, &s), 0);
        else
            assert_ptr_equal(run(segv, NULL), PTHREAD_CANCELED);
    }
    assert_true(comes_true(none_is_left) && comes_true(nobody_is_shown));
    for (int i = 0; i < 5000 && count_threads() > threads; i++)
        sched_yield(); /* it is gone a moment after libc has let go of it */
    assert_in_range(count_threads(), 1, threads);
    /* A sanitizer maps memory for itself as it goes; ten thousand left-overs would be more. */
    assert_in_range(count_lines("/proc/self/maps"), 1, mappings + MAPPINGS_MORE);
#ifndef BULKHEAD_SANITIZE /* which keeps what was freed for a while */
    assert_in_range(resident_kib(), 1, resident + 512);
#endif
    (void)resident;
}

/* ---- timers ---- */

static _Atomic int n_expired;
static _Atomic uintptr_t expired_with;

static void expires(union sigval value)
{
    atomic_store(&expired_with, (uintptr_t)value.sival_ptr);
    atomic_fetch_add(&n_expired, 1);
}

FAULTY static void crashes_on_expiry(union sigval value)
{
    segv(value.sival_ptr);
}

static bool has_expired(void)
{
    return atomic_load(&n_expired) > 0;
}

static bh_rc starts_timer(void *self, bh_req *req, void *ctx)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD};
    struct itimerspec often = {.it_value.tv_nsec = 1000000, .it_interval.tv_nsec = 1000000};

    (void)req;
    event.sigev_value.sival_ptr = (void *)0x1234;
    *(void **)&event.sigev_notify_function = ctx;
    if (timer_create(CLOCK_MONOTONIC, &event, self) != 0)
        return BH_FAIL;
    return timer_settime(*(timer_t *)self, 0, &often, NULL) == 0 ? BH_OK : BH_FAIL;
}

static timer_t start_timer(void (*fn)(union sigval))
{
    timer_t timer = NULL;
    bh_rc rc = BH_FAIL;
    void *at;

    *(void (**)(union sigval)) & at = fn;
    assert_true(boundary_hook(PLUGIN, HOOK_REQUEST, starts_timer, &timer, NULL, at, &rc));
    assert_int_equal(rc, BH_OK);
    return timer;
}

static void a_timers_function_gets_its_value(void **state)
{
    timer_t timer;

    (void)state;
    begin();
    atomic_store(&n_expired, 0);
    timer = start_timer(expires);
    assert_true(comes_true(has_expired));
    assert_int_equal(timer_delete(timer), 0);
    assert_int_equal(atomic_load(&expired_with), 0x1234);
    assert_true(comes_true(nobody_is_shown));
    assert_false(eject_is_out(PLUGIN));
}

static void a_crash_in_a_timers_function_ends_that_call_alone(void **state)
{
    timer_t timer;

    (void)state;
    begin();
    timer = start_timer(crashes_on_expiry);
    assert_true(comes_true(somebody_is_out));
    assert_int_equal(timer_delete(timer), 0);
    assert_true(comes_true(nobody_is_shown));
    /* It may have expired more than once before the first crash was known. */
    assert_int_equal(shm->worker[0].crash[0].plugin, PLUGIN);
    assert_int_equal(shm->worker[0].crash[0].verdict, SHM_EJECTED);
    assert_int_not_equal(atomic_load(&shm->worker[0].crash[0].state), SHM_CRASH_FREE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_ends_that_thread_alone),
        cmocka_unit_test(exit_in_a_thread_ends_that_thread_alone),
        cmocka_unit_test(abort_in_a_thread_ends_that_thread_alone),
        cmocka_unit_test(a_stack_overflow_ends_that_thread_alone),
        cmocka_unit_test(a_crash_on_the_smallest_stack_is_left_too),
        cmocka_unit_test(a_threads_thread_is_the_same_plugins),
        cmocka_unit_test(a_creator_who_blocks_all_signals_changes_nothing),
        cmocka_unit_test(a_crash_with_a_lock_of_libc_held_ends_the_process),
        cmocka_unit_test(a_crash_in_a_keys_destructor_ends_that_thread_alone),
        cmocka_unit_test(exit_in_a_keys_destructor_ends_that_thread_alone),
        cmocka_unit_test(a_stack_overflow_in_a_keys_destructor_ends_that_thread_alone),
        cmocka_unit_test(a_crash_in_a_thread_locals_destructor_ends_that_thread_alone),
        cmocka_unit_test(the_next_thread_finds_nothing_of_one_that_crashed_late),
        cmocka_unit_test(destructors_of_keys_run),
        cmocka_unit_test(a_thread_gives_its_result),
        cmocka_unit_test(pthread_exit_ends_a_thread_in_order),
        cmocka_unit_test(a_thread_can_be_cancelled),
        cmocka_unit_test(a_c11_thread_is_guarded_as_well),
        cmocka_unit_test(a_child_that_a_thread_forks_ends_where_the_thread_does),
        cmocka_unit_test(a_thread_of_the_hosts_is_no_plugins),
        cmocka_unit_test(a_plugin_gets_no_more_threads_than_it_may_have),
        cmocka_unit_test(a_plugin_that_leaks_threads_is_ejected),
        cmocka_unit_test(many_threads_leave_nothing_behind),
        cmocka_unit_test(ten_thousand_threads_that_crash_leave_nothing_behind),
        cmocka_unit_test(a_timers_function_gets_its_value),
        cmocka_unit_test(a_crash_in_a_timers_function_ends_that_call_alone),
    };

    return cmocka_run_group_tests_name("thread", tests, group_set_up, NULL);
}
