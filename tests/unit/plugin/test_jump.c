/*
 * test_jump.c - longjmp() inside a plugin call is the plugin's business, out of it ends the call.
 */
#undef _FORTIFY_SOURCE /* it makes all of them __longjmp_chk() */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "plugin/boundary.h"
#include "recovering.h"

/* link: @interpose */

/* What longjmp() and siglongjmp() are with _FORTIFY_SOURCE. */
__attribute__((noreturn)) void __longjmp_chk(struct __jmp_buf_tag env[1], int value);

static struct shm *shm;
static jmp_buf outside;
static void (*jump)(struct __jmp_buf_tag *env, int value);

static int group_set_up(void **state)
{
    (void)state;
    return recovering_set_up(&shm, 4);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Warray-parameter"
static void by_longjmp(struct __jmp_buf_tag *env, int value)
{
    longjmp(env, value);
}

static void by_underscore_longjmp(struct __jmp_buf_tag *env, int value)
{
    _longjmp(env, value);
}

static void by_siglongjmp(struct __jmp_buf_tag *env, int value)
{
    siglongjmp(env, value);
}

static void by_longjmp_chk(struct __jmp_buf_tag *env, int value)
{
    __longjmp_chk(env, value);
}
#pragma GCC diagnostic pop

static void (*const ways[])(struct __jmp_buf_tag *env, int value) = {
    by_longjmp, by_underscore_longjmp, by_siglongjmp, by_longjmp_chk};
#define N_WAYS (sizeof ways / sizeof ways[0])

static bh_rc jumps_out(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    jump(outside, 1);
    return 0;
}

static void a_jump_past_the_boundary_ends_the_call(void **state)
{
    (void)state;
    for (volatile size_t i = 0; i < N_WAYS; i++) {
        recovering_begin(shm);
        jump = ways[i];
        if (setjmp(outside) != 0)
            fail_msg("way %zu went through", i);
        assert_false(boundary_hook(2, HOOK_LOG, jumps_out, NULL, NULL, NULL, &(bh_rc){0}));
        assert_false(recover_is_armed());
        assert_string_equal(recover_self.fault.kind, "longjmp");
        assert_int_equal(recovering_record(shm)->verdict, SHM_RECOVERED);
        assert_int_equal(recovering_record(shm)->plugin, 2);
        assert_int_equal(recovering_record(shm)->hook, HOOK_LOG);
        recover_record_done(recover_self.fault.record);
    }
}

static bool inner_came_back;

static bh_rc calls_one_that_jumps_here(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    if (setjmp(outside) != 0)
        return 1;
    inner_came_back = boundary_hook(2, HOOK_ERROR, jumps_out, NULL, NULL, NULL, &(bh_rc){0});
    return 2;
}

static void a_jump_into_an_outer_call_ends_the_inner_one(void **state)
{
    bh_rc rc = 0;

    (void)state;
    recovering_begin(shm);
    jump = by_longjmp;
    inner_came_back = true;
    assert_true(boundary_hook(1, HOOK_REQUEST, calls_one_that_jumps_here, NULL, NULL, NULL, &rc));
    assert_int_equal(rc, 2);
    assert_false(inner_came_back);
    assert_int_equal(recovering_record(shm)->plugin, 2);
}

static bh_rc jumps_inside(void *self, bh_req *req, void *ctx)
{
    jmp_buf env;
    volatile int n = 0;

    (void)self, (void)req, (void)ctx;
    if (setjmp(env) < 5) {
        n++;
        jump(env, n);
    }
    return n;
}

static void a_jump_inside_the_call_is_libcs(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_WAYS; i++) {
        bh_rc rc = 0;

        recovering_begin(shm);
        jump = ways[i];
        assert_true(boundary_hook(1, HOOK_REQUEST, jumps_inside, NULL, NULL, NULL, &rc));
        assert_int_equal(rc, 5);
    }
}

static void a_jump_outside_of_calls_is_libcs(void **state)
{
    volatile int n = 0;

    (void)state;
    jump = by_longjmp;
    if (setjmp(outside) == 0) {
        n = 1;
        jump(outside, 1);
    }
    assert_int_equal(n, 1);
}

/* ---- coroutines: stacks of the plugin's own ---- */

static jmp_buf main_env, other_env;
static ucontext_t main_context, other_context;

static void run_other(void)
{
    if (setjmp(other_env) == 0)
        jump(main_env, 1);
    jump(main_env, 2);
}

static bh_rc uses_coroutines(void *self, bh_req *req, void *ctx)
{
    static _Alignas(16) char stack[64 << 10];
    volatile bh_rc sum = 0;
    int n;

    (void)self, (void)req, (void)ctx;
    getcontext(&other_context);
    other_context.uc_stack.ss_sp = stack;
    other_context.uc_stack.ss_size = sizeof stack;
    makecontext(&other_context, run_other, 0);
    n = setjmp(main_env);
    sum = sum + n;
    if (n == 0)
        swapcontext(&main_context, &other_context);
    else if (n == 1)
        jump(other_env, 1);
    return sum;
}

static void coroutines_may_jump_between_their_stacks(void **state)
{
    bh_rc rc = 0;

    (void)state;
    recovering_begin(shm);
    jump = by_siglongjmp; /* not __longjmp_chk(), which takes it for a mistake */
    assert_true(boundary_hook(1, HOOK_REQUEST, uses_coroutines, NULL, NULL, NULL, &rc));
    assert_int_equal(rc, 3);
}

/* ---- what goes round it ---- */

static void *unseen[5];

static bh_rc jumps_unseen(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    __builtin_longjmp(unseen, 1);
}

static bh_rc returns(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    return 7;
}

/* As the event loop does: other calls are made before it is noticed. */
static __attribute__((noinline)) void serve_on_after_the_jump(void)
{
    if (__builtin_setjmp(unseen) == 0)
        boundary_hook(2, HOOK_LOG, jumps_unseen, NULL, NULL, NULL, &(bh_rc){0});
    boundary_hook(1, HOOK_REQUEST, returns, NULL, NULL, NULL, &(bh_rc){0});
    if (recover_is_armed())
        recover_out_of_order(NULL);
}

static void a_jump_that_nobody_saw_ends_the_process_and_is_charged(void **state)
{
    const struct shm_crash *record;
    int status = 0;
    pid_t pid;

    (void)state;
    recovering_begin(shm);
    pid = fork();
    if (pid == 0) {
        if (recover_init(shm, 0) == 0)
            serve_on_after_the_jump();
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    record = recovering_record(shm);
    assert_int_equal(record->verdict, SHM_WORKER_DIED);
    assert_int_equal(record->plugin, 2);
    assert_int_equal(record->hook, HOOK_LOG);
    assert_non_null(strstr(record->reason, "past its boundary"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_jump_past_the_boundary_ends_the_call),
        cmocka_unit_test(a_jump_into_an_outer_call_ends_the_inner_one),
        cmocka_unit_test(a_jump_inside_the_call_is_libcs),
        cmocka_unit_test(a_jump_outside_of_calls_is_libcs),
        cmocka_unit_test(coroutines_may_jump_between_their_stacks),
        cmocka_unit_test(a_jump_that_nobody_saw_ends_the_process_and_is_charged),
    };

    return cmocka_run_group_tests_name("jump", tests, group_set_up, NULL);
}
