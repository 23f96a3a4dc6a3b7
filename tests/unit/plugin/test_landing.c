/*
 * test_landing.c - what a crash leaves behind in its thread is set right.
 */
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "plugin/boundary.h"
#include "plugin/landing.h"
#include "recovering.h"

/* link: @interpose */

static struct shm *shm;
static int *volatile nowhere;

static int group_set_up(void **state)
{
    (void)state;
    return recovering_set_up(&shm, 4);
}

static void (*mess)(void);

FAULTY static bh_rc makes_a_mess(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    mess();
    *nowhere = 1;
    return 0;
}

static void crash_after(void (*what)(void))
{
    bh_rc rc;

    recovering_begin(shm);
    mess = what;
    assert_false(boundary_hook(1, HOOK_REQUEST, makes_a_mess, NULL, NULL, NULL, &rc));
}

static void set_errno(void)
{
    errno = 42;
}

static void errno_is_0(void **state)
{
    (void)state;
    crash_after(set_errno);
    assert_int_equal(errno, 0);
}

static void set_umask(void)
{
    umask(0777);
}

static void umask_is_put_back(void **state)
{
    mode_t mode = umask(022);

    (void)state;
    umask(mode);
    crash_after(set_umask);
    assert_int_equal(umask(mode), mode);
}

static void leave_directory(void)
{
    if (chdir("/proc") < 0)
        abort();
}

static void the_working_directory_is_put_back(void **state)
{
    char before[4096], after[4096];

    (void)state;
    assert_non_null(getcwd(before, sizeof before));
    crash_after(leave_directory);
    assert_non_null(getcwd(after, sizeof after));
    assert_string_equal(after, before);
}

static void round_upward(void)
{
    fesetround(FE_UPWARD);
}

static void rounding_is_put_back(void **state)
{
    volatile double one = 1, three = 3;
    volatile long double long_one = 1, long_three = 3;
    double before = one / three;
    long double long_before = long_one / long_three;

    (void)state;
    crash_after(round_upward);
    assert_int_equal(fegetround(), FE_TONEAREST);
    assert_true(one / three == before);
    assert_true(long_one / long_three == long_before);
}

static void unmask_exceptions(void)
{
    feenableexcept(FE_ALL_EXCEPT);
}

static void floating_point_exceptions_do_not_trap(void **state)
{
    volatile double one = 1, zero = 0;
    volatile long double long_one = 1, long_zero = 0;

    (void)state;
    crash_after(unmask_exceptions);
    assert_int_equal(fegetexcept(), 0);
    assert_true(one / zero > 1 && long_one / long_zero > 1);
}

static void use_other_locale(void)
{
    uselocale(newlocale(LC_ALL_MASK, "C", (locale_t)0));
}

static void the_threads_locale_is_the_global_one(void **state)
{
    (void)state;
    crash_after(use_other_locale);
    assert_ptr_equal(uselocale((locale_t)0), LC_GLOBAL_LOCALE);
}

static void allow_cancellation(void)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL); /* NOLINT: as a bad plugin does */
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
}

static void cancellation_is_off_and_deferred(void **state)
{
    int cancel, type;

    (void)state;
    crash_after(allow_cancellation);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
    assert_int_equal(cancel, PTHREAD_CANCEL_DISABLE);
    assert_int_equal(type, PTHREAD_CANCEL_DEFERRED);
}

/* pthread_cleanup_push(), and what libc's own waits use: lists whose heads are the thread's. */
extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *b, void (*fn)(void *), void *arg);
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *b, int execute);

static struct _pthread_cleanup_buffer pushed_below;
static __pthread_unwind_buf_t pushed;

static void push_cleanups(void)
{
    _pthread_cleanup_push(&pushed_below, NULL, NULL);
    __pthread_register_cancel(&pushed);
}

static void no_cleanup_of_the_dropped_frames_is_left(void **state)
{
    struct _pthread_cleanup_buffer before, after;
    __pthread_unwind_buf_t pushed_before, pushed_after;

    (void)state;
    _pthread_cleanup_push(&before, NULL, NULL);
    _pthread_cleanup_pop(&before, 0);
    __pthread_register_cancel(&pushed_before);
    __pthread_unregister_cancel(&pushed_before);
    crash_after(push_cleanups);
    _pthread_cleanup_push(&after, NULL, NULL);
    _pthread_cleanup_pop(&after, 0);
    __pthread_register_cancel(&pushed_after);
    __pthread_unregister_cancel(&pushed_after);
    assert_ptr_equal(after.__prev, before.__prev);
    assert_ptr_equal(pushed_after.__pad[0], pushed_before.__pad[0]);
}

static bh_rc blocks_signals_and_aborts(void *self, bh_req *req, void *ctx)
{
    uint64_t all = ~UINT64_C(0);

    (void)self, (void)req, (void)ctx;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof all); /* goes round what refuses it */
    abort(); /* a fault would end the process: its signal is blocked */
}

static void the_signal_mask_is_put_back(void **state)
{
    sigset_t before, after;

    (void)state;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    recovering_begin(shm);
    assert_false(
        boundary_hook(1, HOOK_REQUEST, blocks_signals_and_aborts, NULL, NULL, NULL, &(bh_rc){0}));
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int s = 1; s < NSIG; s++)
        assert_int_equal(sigismember(&after, s), sigismember(&before, s));
}

static void do_nothing(void)
{
}

static void the_signal_mask_is_whole_after_a_fault(void **state)
{
    sigset_t before, after;

    (void)state;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    crash_after(do_nothing);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int s = 1; s < NSIG; s++)
        assert_int_equal(sigismember(&after, s), sigismember(&before, s));
}

/* Not through libc, where that is refused. */
static void change_alternate_stack(void)
{
    static _Alignas(16) char stack[65536];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};

    syscall(SYS_sigaltstack, &ss, NULL);
}

static void the_alternate_stack_is_put_back(void **state)
{
    stack_t before, after;

    (void)state;
    sigaltstack(NULL, &before);
    crash_after(change_alternate_stack);
    sigaltstack(NULL, &after);
    assert_ptr_equal(after.ss_sp, before.ss_sp);
    assert_int_equal(after.ss_size, before.ss_size);
    assert_int_equal(after.ss_flags, before.ss_flags);
}

static void change_place_by_system_call(void)
{
    syscall(SYS_umask, 0777);
    syscall(SYS_chdir, "/proc");
}

static void what_went_round_libc_is_put_back_at_the_end_of_the_turn(void **state)
{
    char before[4096], after[4096];
    mode_t mode = umask(022);

    (void)state;
    umask(mode);
    assert_non_null(getcwd(before, sizeof before));
    crash_after(change_place_by_system_call);
    landing_settle();
    assert_int_equal(umask(mode), mode);
    assert_non_null(getcwd(after, sizeof after));
    assert_string_equal(after, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errno_is_0),
        cmocka_unit_test(umask_is_put_back),
        cmocka_unit_test(the_working_directory_is_put_back),
        cmocka_unit_test(rounding_is_put_back),
        cmocka_unit_test(floating_point_exceptions_do_not_trap),
        cmocka_unit_test(the_threads_locale_is_the_global_one),
        cmocka_unit_test(cancellation_is_off_and_deferred),
        cmocka_unit_test(no_cleanup_of_the_dropped_frames_is_left),
        cmocka_unit_test(the_signal_mask_is_put_back),
        cmocka_unit_test(the_signal_mask_is_whole_after_a_fault),
        cmocka_unit_test(the_alternate_stack_is_put_back),
        cmocka_unit_test(what_went_round_libc_is_put_back_at_the_end_of_the_turn),
    };

    return cmocka_run_group_tests_name("landing", tests, group_set_up, NULL);
}
