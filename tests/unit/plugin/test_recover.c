/*
 * test_recover.c - what lands, what is refused, and what is left in shared memory.
 *
 * What must end the process is tried in a forked child, whose record is then read here.
 */
#include "plugin/recover.h"

/* link: @interpose */

#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "plugin/boundary.h"
#include "plugin/capture.h"
#include "recovering.h"

static struct shm *shm;
static int *volatile nowhere;
static volatile int zero;

static int group_set_up(void **state)
{
    (void)state;
    return recovering_set_up(&shm, 4);
}

/* ---- what plugins do ---- */

static bh_rc returns(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    return 7;
}

FAULTY static bh_rc segv(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    *nowhere = 1;
    return 0;
}

FAULTY static bh_rc divides(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    return 1000 / zero; /* 1 / x is no division for the compiler */
}

FAULTY static bh_rc traps(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    __builtin_trap();
}

static bh_rc aborts(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    abort();
}

__attribute__((noreturn)) void __assert_fail(const char *cond, const char *file, unsigned int line,
                                             const char *function);

static bh_rc asserts(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    __assert_fail("1 == 2", "here.c", 1, "asserts");
}

static bh_rc exits(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    exit(3);
}

static bh_rc quick_exits(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    quick_exit(3);
}

static bh_rc underscore_exits(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    _exit(3);
}

static bh_rc ends_thread(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    pthread_exit(NULL);
}

static int (*volatile again)(volatile char *before); /* the compiler must not see the recursion */

FAULTY static int recurses(volatile char *before)
{
    volatile char here[4096];

    here[0] = before[0];
    return again(here) + here[0];
}

FAULTY static bh_rc overflows(void *self, bh_req *req, void *ctx)
{
    volatile char begin[1] = {0};

    (void)self, (void)req, (void)ctx;
    again = recurses;
    return again(begin);
}

FAULTY static bh_rc jumps(void *self, bh_req *req, void *ctx)
{
    void (*volatile fn)(void) = (void (*)(void))(uintptr_t)0x10;

    (void)self, (void)req, (void)ctx;
    fn();
    return 0;
}

static bool call(hook_fn *fn)
{
    bh_rc rc = -1;

    return boundary_hook(1, HOOK_REQUEST, fn, NULL, NULL, NULL, &rc);
}

/* ---- landing ---- */

static void a_call_that_returns_has_its_result(void **state)
{
    bh_rc rc = -1;

    (void)state;
    recovering_begin(shm);
    assert_true(boundary_hook(1, HOOK_REQUEST, returns, NULL, NULL, NULL, &rc));
    assert_int_equal(rc, 7);
    assert_false(recover_is_armed());
    assert_int_equal(recovering_record(shm)->state, SHM_CRASH_FREE);
}

static void each_kind_of_end_lands(void **state)
{
    static const struct {
        hook_fn *fn;
        int signo;
        const char *kind;
    } rows[] = {{segv, SIGSEGV, "signal"},        {divides, SIGFPE, "signal"},
                {traps, SIGILL, "signal"},        {aborts, SIGABRT, "abort"},
                {asserts, SIGABRT, "assert"},     {exits, 0, "exit"},
                {quick_exits, 0, "quick_exit"},   {underscore_exits, 0, "_exit"},
                {ends_thread, 0, "pthread_exit"}, {jumps, SIGSEGV, "signal"},
                {overflows, SIGSEGV, "signal"}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct shm_crash *record;

        recovering_begin(shm);
        if (call(rows[i].fn)) {
            print_error("%s, row %zu, came back\n", rows[i].kind, i);
            fail();
        }
        assert_false(recover_is_armed());
        assert_int_equal(recover_self.depth, 0);
        assert_int_equal(recover_self.fault.signo, rows[i].signo);
        assert_string_equal(recover_self.fault.kind, rows[i].kind);
        record = recovering_record(shm);
        assert_ptr_equal(record, recover_self.fault.record);
        assert_int_equal(record->state, SHM_CRASH_FILLING); /* until the worker has completed it */
        assert_int_equal(record->verdict, SHM_RECOVERED);
        assert_int_equal(record->plugin, 1);
        assert_int_equal(record->hook, HOOK_REQUEST);
        assert_int_equal(record->pid, getpid());
        recover_record_done(recover_self.fault.record);
        assert_int_equal(record->state, SHM_CRASH_FULL);
    }
}

static void a_fault_records_address_and_registers(void **state)
{
    const struct shm_crash *record;

    (void)state;
    recovering_begin(shm);
    nowhere = (int *)(uintptr_t)0x1234;
    assert_false(call(segv));
    nowhere = NULL;
    record = recovering_record(shm);
    assert_int_equal(record->fault_addr, 0x1234);
    assert_true(record->reg[SHM_RIP] - (uintptr_t)segv < 256);
    assert_true(record->stack_len > 0);
    assert_true(record->stack_addr <= record->reg[SHM_RSP]);
}

static void an_assert_records_what_it_said(void **state)
{
    (void)state;
    recovering_begin(shm);
    assert_false(call(asserts));
    assert_non_null(strstr(recovering_record(shm)->message, "1 == 2"));
}

static void the_plugin_is_charged_each_time(void **state)
{
    (void)state;
    recovering_begin(shm);
    atomic_store(&shm->plugin[0].crashes, 0);
    for (int i = 0; i < 5; i++)
        assert_false(call(segv));
    assert_int_equal(shm->plugin[0].crashes, 5);
}

static void repeats_are_counted_in_the_last_full_record(void **state)
{
    uint64_t counted = 0;
    char id[40] = "";
    int n_full = 0;

    (void)state;
    recovering_begin(shm);
    for (int i = 0; i < 50; i++) {
        assert_false(call(segv));
        if (recover_self.fault.record != NULL) {
            assert_int_equal(i, n_full); /* the first few */
            strcpy(id, recover_self.fault.record->id);
            n_full++;
        }
        assert_string_equal(recover_self.fault.record_id, id);
    }
    assert_in_range(n_full, 1, SHM_CRASH_SLOTS);
    for (int i = 0; i < SHM_FOLDS; i++)
        counted += shm->worker[0].fold[i].count;
    assert_int_equal(counted, 50 - n_full);
}

static long resident_kib(void)
{
    char line[128];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "re");

    assert_non_null(f);
    while (kib < 0 && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "RssAnon:", 8) == 0)
            kib = strtol(line + 8, NULL, 10);
    fclose(f);
    return kib;
}

static void an_overflown_stack_is_given_back(void **state)
{
    long before;

    (void)state;
    recovering_begin(shm);
    assert_false(call(segv));
    before = resident_kib();
    assert_false(call(overflows));
    assert_in_range(resident_kib(), 0, before + 1024);
}

/* However many crashes are not written yet. */
static void the_last_crash_of_a_worker_has_a_record(void **state)
{
    struct shm_crash *record = NULL;
    uint64_t reg[SHM_REGS] = {0};
    struct capture c = {.kind = "x", .verdict = SHM_RECOVERED, .reg = reg, .plugin = 1};
    char id[40];

    (void)state;
    recovering_begin(shm);
    for (int i = 0; i < 2 * SHM_CRASH_SLOTS; i++) {
        c.fingerprint = (uint64_t)i + 1; /* each is another place */
        capture_crash(&c, &record, id);
    }
    assert_null(record);
    c.verdict = SHM_WORKER_DIED;
    capture_crash(&c, &record, id);
    assert_non_null(record);
    assert_string_equal(record->id, id);
}

/* What a function owes its caller: rbx and r12 to r15 as they were. rbp by the frame pointer. */
FAULTY static bh_rc wrecks_the_registers_and_crashes(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    __asm__ volatile("xorl %%ebx, %%ebx; xorl %%r12d, %%r12d; xorl %%r13d, %%r13d;"
                     "xorl %%r14d, %%r14d; xorl %%r15d, %%r15d; movl $0, 0"
                     :
                     :
                     : "rbx", "r12", "r13", "r14", "r15", "memory");
    return 0;
}

static void the_callers_registers_survive_a_crash(void **state)
{
    uint64_t in[5] = {0x1111, 0x2222, 0x3333, 0x4444, 0x5555}, out[5] = {0};
    uint64_t *from = in, *to = out, who = boundary_who(1, HOOK_REQUEST), came_back = 1;
    hook_fn *fn = wrecks_the_registers_and_crashes;

    (void)state;
    recovering_begin(shm);
    __asm__ volatile("movq 0(%[from]), %%rbx; movq 8(%[from]), %%r12; movq 16(%[from]), %%r13;"
                     "movq 24(%[from]), %%r14; movq 32(%[from]), %%r15;"
                     "pushq %[to]; pushq %[to];"
                     "call boundary_call; popq %%rcx; popq %%rcx;"
                     "movq %%rbx, 0(%%rcx); movq %%r12, 8(%%rcx); movq %%r13, 16(%%rcx);"
                     "movq %%r14, 24(%%rcx); movq %%r15, 32(%%rcx)"
                     : "=d"(came_back), [from] "+a"(from), [to] "+c"(to), "+D"(who), "+S"(fn)
                     :
                     : "rbx", "r12", "r13", "r14", "r15", "r8", "r9", "r10", "r11", "cc", "memory");
    assert_int_equal(came_back, 0);
    assert_memory_equal(out, in, sizeof in);
}

static void thousands_of_crashes_land(void **state)
{
    (void)state;
    recovering_begin(shm);
    for (int i = 0; i < 2000; i++)
        assert_false(call(i % 2 ? segv : aborts));
}

static bh_rc looks(void *self, bh_req *req, void *ctx)
{
    const struct shm_call *c = &shm->worker[0].call;

    (void)self, (void)req, (void)ctx;
    return c->plugin == 2 && c->hook == HOOK_LOG ? 1 : 0;
}

static void attribution_is_published_during_the_call_and_cleared_after(void **state)
{
    const struct shm_call *c = &shm->worker[0].call;
    uint32_t seq = c->seq;
    bh_rc rc = 0;

    (void)state;
    recovering_begin(shm);
    assert_true(boundary_hook(2, HOOK_LOG, looks, NULL, NULL, NULL, &rc));
    assert_int_equal(rc, 1);
    assert_int_equal(c->plugin, 0);
    assert_int_not_equal(c->seq, seq);
    assert_false(call(segv));
    assert_int_equal(c->plugin, 0);
}

/* ---- nesting ---- */

static bool inner_came_back;
static uint32_t seen_after;

static bh_rc calls_one_that_crashes(void *self, bh_req *req, void *ctx)
{
    bh_rc rc;

    (void)self, (void)req, (void)ctx;
    inner_came_back = boundary_hook(2, HOOK_ERROR, segv, NULL, NULL, NULL, &rc);
    seen_after = shm->worker[0].call.plugin;
    return 9;
}

static bh_rc calls_one_then_crashes(void *self, bh_req *req, void *ctx)
{
    bh_rc rc;

    (void)self, (void)req, (void)ctx;
    inner_came_back = boundary_hook(2, HOOK_ERROR, returns, NULL, NULL, NULL, &rc);
    abort();
}

static void a_crash_ends_the_innermost_call_only(void **state)
{
    bh_rc rc = 0;

    (void)state;
    recovering_begin(shm);
    inner_came_back = true;
    assert_true(boundary_hook(1, HOOK_REQUEST, calls_one_that_crashes, NULL, NULL, NULL, &rc));
    assert_int_equal(rc, 9);
    assert_false(inner_came_back);
    assert_int_equal(seen_after, 1); /* the outer one is at work again */
    assert_int_equal(recovering_record(shm)->plugin, 2);
}

static void the_outer_call_may_crash_after_the_inner(void **state)
{
    (void)state;
    recovering_begin(shm);
    inner_came_back = false;
    assert_false(call(calls_one_then_crashes));
    assert_true(inner_came_back);
    assert_int_equal(recovering_record(shm)->plugin, 1);
    assert_int_equal(recovering_record(shm)->hook, HOOK_REQUEST);
}

/* ---- threads ---- */

static struct shm_call thread_call;

static void *on_thread(void *arg)
{
    bool *landed = arg;

    if (recover_thread_init(&thread_call) < 0)
        return NULL;
    *landed = !call(segv) && !call(overflows) && !call(ends_thread) && call(returns);
    recover_thread_fini();
    return NULL;
}

static void other_threads_land_on_their_own_stacks(void **state)
{
    bool landed[4] = {false};
    pthread_t thread;

    (void)state;
    recovering_begin(shm);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&thread, NULL, on_thread, &landed[i]), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_true(landed[i]);
    }
}

/* ---- what is refused: in a child ---- */

FAULTY static bh_rc crashes_in_a_critical_section(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    recover_critical_enter();
    *nowhere = 1;
    recover_critical_leave();
    return 0;
}

FAULTY static bh_rc crashes_with_stdio_locked(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    flockfile(stderr);
    *nowhere = 1;
    return 0;
}

FAULTY static bh_rc crashes_in_the_allocator(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    recover_self.depth += RECOVER_ALLOC;
    *nowhere = 1;
    return 0;
}

FAULTY static bh_rc smashes_the_frame_and_crashes(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    recover_self.top->guard = (const void *)0x4141414141414141;
    *nowhere = 1;
    return 0;
}

FAULTY static bh_rc smashes_the_return_address_and_crashes(void *self, bh_req *req, void *ctx)
{
    uintptr_t *above = (uintptr_t *)(recover_self.top + 1); /* rbp, return address */

    (void)self, (void)req, (void)ctx;
    above[1] = 0x4141414141414141;
    *nowhere = 1;
    return 0;
}

static bh_rc exits_in_a_critical_section(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    recover_critical_enter();
    exit(0);
}

static bh_rc sends_itself_a_signal(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    raise(SIGSEGV);
    return 5;
}

/* Runs fn in a boundary in a child that belongs to the boundary as a worker would. Its wait status;
 * 0x7f00 when the call landed, 0x7e00 when it came back. */
static int in_child(hook_fn *fn)
{
    pid_t pid;
    int status = 0;

    recovering_begin(shm);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct shm_call *own = &shm->worker[0].call;

        if (recover_init(shm, 0) < 0 || recover_thread_init(own) < 0)
            _exit(1);
        _exit(call(fn) ? 0x7e : 0x7f);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void assert_dies_with(hook_fn *fn, int signo, const char *reason)
{
    int status = in_child(fn);
    const struct shm_crash *record = recovering_record(shm);

    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signo);
    assert_int_equal(record->state, SHM_CRASH_FULL);
    assert_int_equal(record->verdict, SHM_WORKER_DIED);
    assert_int_equal(record->plugin, 1);
    assert_int_equal(record->hook, HOOK_REQUEST);
    assert_non_null(strstr(record->reason, reason));
}

static void a_child_lands_like_a_worker(void **state)
{
    (void)state;
    assert_int_equal(WEXITSTATUS(in_child(segv)), 0x7f);
    assert_int_equal(recovering_record(shm)->verdict, SHM_RECOVERED);
}

/* The bounds of its stack are those that were found out before. */
static void what_was_prepared_is_true_in_a_child(void **state)
{
    (void)state;
    recover_prepare();
    assert_int_equal(WEXITSTATUS(in_child(segv)), 0x7f);
    assert_int_equal(WEXITSTATUS(in_child(overflows)), 0x7f);
    assert_int_equal(WEXITSTATUS(in_child(sends_itself_a_signal)), 0x7f);
    assert_dies_with(smashes_the_frame_and_crashes, SIGSEGV, "overwritten");
}

static void a_fault_in_a_critical_section_ends_the_process(void **state)
{
    (void)state;
    assert_dies_with(crashes_in_a_critical_section, SIGSEGV, "critical section");
}

static void an_exit_in_a_critical_section_ends_the_process(void **state)
{
    (void)state;
    assert_dies_with(exits_in_a_critical_section, SIGABRT, "critical section");
}

static void a_fault_in_the_allocator_ends_the_process(void **state)
{
    (void)state;
    assert_dies_with(crashes_in_the_allocator, SIGSEGV, "allocator");
}

static void a_fault_with_stdio_locked_ends_the_process(void **state)
{
    (void)state;
#ifdef BULKHEAD_SANITIZE
    skip(); /* locks are not counted: the sanitizers have interceptors of their own */
#endif
    assert_dies_with(crashes_with_stdio_locked, SIGSEGV, "libc");
}

static void a_fault_with_the_frame_overwritten_ends_the_process(void **state)
{
    (void)state;
    assert_dies_with(smashes_the_frame_and_crashes, SIGSEGV, "overwritten");
    assert_dies_with(smashes_the_return_address_and_crashes, SIGSEGV, "overwritten");
}

static void a_raised_fault_signal_lands_like_a_fault(void **state)
{
    (void)state;
    assert_int_equal(WEXITSTATUS(in_child(sends_itself_a_signal)), 0x7f);
}

FAULTY static void write_to_null(void)
{
    *nowhere = 1;
}

static void a_fault_outside_of_any_call_is_the_hosts_death(void **state)
{
    pid_t pid;
    int status;
    const struct shm_crash *record;

    (void)state;
    recovering_begin(shm);
    pid = fork();
    if (pid == 0) {
        if (recover_init(shm, 0) == 0)
            write_to_null();
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    record = recovering_record(shm);
    assert_int_equal(record->state, SHM_CRASH_FULL);
    assert_int_equal(record->plugin, 0);
    assert_int_equal(record->verdict, SHM_WORKER_DIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_returns_has_its_result),
        cmocka_unit_test(each_kind_of_end_lands),
        cmocka_unit_test(a_fault_records_address_and_registers),
        cmocka_unit_test(an_assert_records_what_it_said),
        cmocka_unit_test(the_plugin_is_charged_each_time),
        cmocka_unit_test(repeats_are_counted_in_the_last_full_record),
        cmocka_unit_test(the_callers_registers_survive_a_crash),
        cmocka_unit_test(an_overflown_stack_is_given_back),
        cmocka_unit_test(the_last_crash_of_a_worker_has_a_record),
        cmocka_unit_test(thousands_of_crashes_land),
        cmocka_unit_test(attribution_is_published_during_the_call_and_cleared_after),
        cmocka_unit_test(a_crash_ends_the_innermost_call_only),
        cmocka_unit_test(the_outer_call_may_crash_after_the_inner),
        cmocka_unit_test(other_threads_land_on_their_own_stacks),
        cmocka_unit_test(a_child_lands_like_a_worker),
        cmocka_unit_test(what_was_prepared_is_true_in_a_child),
        cmocka_unit_test(a_fault_in_a_critical_section_ends_the_process),
        cmocka_unit_test(an_exit_in_a_critical_section_ends_the_process),
        cmocka_unit_test(a_fault_in_the_allocator_ends_the_process),
        cmocka_unit_test(a_fault_with_stdio_locked_ends_the_process),
        cmocka_unit_test(a_fault_with_the_frame_overwritten_ends_the_process),
        cmocka_unit_test(a_raised_fault_signal_lands_like_a_fault),
        cmocka_unit_test(a_fault_outside_of_any_call_is_the_hosts_death),
    };

    return cmocka_run_group_tests_name("recover", tests, group_set_up, NULL);
}
