#include "recorder/symbolise.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/shm.h"
#include "obs/record.h"
#include "plugin/capture.h"

/* The process under examination crashes for real, in a child; this executable stands in for the
 * plugin's object, and the worker's own code takes the picture. */

static char exe[4096];
static struct recorder_plugin plugin = {.instance = "boom", .module = "boom", .object = exe};
static struct shm *shm;
static struct shm_crash copy;
static struct record_trace trace;
static volatile int zero;
static int *volatile nowhere;
static volatile uint32_t *fault_line; /* shared memory: the victim says where it is going to fail */

/* A sanitizer must not be faster than the fault. */
#define VICTIM(how) __attribute__((how, no_sanitize("undefined"), no_sanitize("address")))

#define NEXT_LINE_FAULTS() (fault_line[0] = __LINE__ + 1)

VICTIM(noinline) static void writes_to_null(int n)
{
    NEXT_LINE_FAULTS();
    *nowhere = n;
    zero++; /* no tail call */
}

VICTIM(noinline) static void jumps_to_bad_address(int n)
{
    void (*volatile f)(int) = (void (*)(int))(uintptr_t)0x1234;

    NEXT_LINE_FAULTS();
    f(n);
    zero++;
}

VICTIM(noinline) static void jumps_to_data(int n)
{
    void (*volatile f)(int) = (void (*)(int))(uintptr_t)&zero;

    f(n);
    zero++;
}

VICTIM(noinline) static void aborts(int n)
{
    zero += n;
    NEXT_LINE_FAULTS();
    abort();
}

VICTIM(always_inline) static inline void inlined(int n)
{
    NEXT_LINE_FAULTS();
    *nowhere = n;
}

VICTIM(noinline) static void has_inlined(int n)
{
    zero += n;
    fault_line[1] = __LINE__ + 1;
    inlined(n);
    zero++;
}

VICTIM(noinline) static int recurses(int n)
{
    volatile char big[1000];

    NEXT_LINE_FAULTS();
    big[n % 1000] = (char)n;
    return zero < 0 ? 0 : recurses(n + 1) + big[zero];
}

static void overflows_the_stack(int n)
{
    zero = recurses(n);
}

/* Nothing above this frame makes sense any more. */
VICTIM(noinline) static void loses_its_stack(int n)
{
    volatile uint64_t *frame = __builtin_frame_address(0);

    frame[0] = 0x1111;
    frame[1] = 0x2222; /* the return address */
    *nowhere = n;
    zero++;
}

VICTIM(noinline) static void calls(void (*f)(int))
{
    f(zero + 7);
    zero++;
}

static void on_crash(int signo, siginfo_t *si, void *uc)
{
    uint64_t reg[SHM_REGS];
    struct capture c = {.signo = signo,
                        .code = si->si_code,
                        .fault_addr = (uintptr_t)si->si_addr,
                        .kind = "signal",
                        .reason = "test",
                        .verdict = SHM_RECOVERED,
                        .plugin = 1,
                        .hook = 1,
                        .reg = reg};
    struct shm_crash *record;
    char id[40];

    capture_registers(uc, reg);
    capture_crash(&c, &record, id);
    _exit(record != NULL ? 0 : 1);
}

static _Noreturn void be_the_victim(void (*f)(int))
{
    static char alt[1 << 16];
    stack_t ss = {.ss_sp = alt, .ss_size = sizeof alt};
    struct sigaction sa = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigaltstack(&ss, NULL);
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGABRT, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGILL, &sa, NULL);
    capture_init(shm, 0);
    calls(f);
    _exit(2);
}

static void crash_in(void (*f)(int))
{
    pid_t pid = fork();

    if (pid == 0)
        be_the_victim(f);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(atomic_load(&shm->worker[0].crash[0].state), SHM_CRASH_FILLING);
    memcpy(&copy, &shm->worker[0].crash[0], sizeof copy);
    atomic_store(&shm->worker[0].crash[0].state, SHM_CRASH_FREE);
    record_clean(&copy, 0, 0);
    symbolise(&copy, &plugin, 1, &trace);
    for (int i = 0; i < trace.n; i++)
        print_message("    #%d %s%s %s:%u [%s]\n", i, trace.frame[i].is_guess ? "? " : "",
                      trace.frame[i].function, trace.frame[i].file, trace.frame[i].line,
                      trace.frame[i].module);
}

static const struct record_frame *frame_of(const char *function)
{
    for (int i = 0; i < trace.n; i++) {
        if (strcmp(trace.frame[i].function, function) == 0)
            return &trace.frame[i];
    }
    return NULL;
}

/* Is it in the backtrace, and known to be there? */
static bool has_caller(const char *function)
{
    const struct record_frame *f = frame_of(function);

    return f != NULL && !f->is_guess;
}

static void is_at(const struct record_frame *f, const char *function, uint32_t line)
{
    if (f == NULL) {
        fail_msg("no frame of %s", function);
        return; /* for compilers, which cannot know that it does not come back */
    }
    assert_string_equal(f->function, function);
    assert_string_equal(f->file, "tests/unit/recorder/test_symbolise.c");
    assert_int_equal(f->line, line);
    assert_true(f->is_code);
    assert_true(f->is_plugin);
    assert_true(f->is_charged);
    assert_false(f->is_guess);
}

static int make_shm(void **state)
{
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

    (void)state;
    if (n < 0)
        return -1;
    exe[n] = '\0';
    fault_line = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return fault_line != MAP_FAILED ? shm_create(1, 1, &shm) : -1;
}

static int drop_shm(void **state)
{
    (void)state;
    symbolise_rest();
    shm_destroy(&shm);
    return munmap((void *)fault_line, 4096);
}

static void a_fault_is_named_with_file_and_line(void **state)
{
    (void)state;
    crash_in(writes_to_null);
    is_at(&trace.frame[0], "writes_to_null", fault_line[0]);
    assert_ptr_equal(record_where(&trace), &trace.frame[0]);
    assert_string_equal(trace.frame[1].function, "calls");
    assert_true(has_caller("main"));
}

static void a_jump_to_nowhere_is_shown_and_its_caller_named(void **state)
{
    (void)state;
    crash_in(jumps_to_bad_address);
    assert_int_equal(trace.frame[0].pc, 0x1234);
    assert_false(trace.frame[0].is_code);
    is_at(&trace.frame[1], "jumps_to_bad_address", fault_line[0]);
    assert_ptr_equal(record_where(&trace), &trace.frame[1]);
    assert_string_equal(trace.frame[2].function, "calls");
    assert_true(has_caller("main"));
}

static void data_is_not_code(void **state)
{
    (void)state;
    crash_in(jumps_to_data);
    assert_false(trace.frame[0].is_code);
    assert_string_equal(trace.frame[1].function, "jumps_to_data");
}

static void what_aborts_is_not_what_is_at_fault(void **state)
{
    (void)state;
    crash_in(aborts);
    assert_true(trace.n > 3);
    assert_true(trace.frame[0].is_machinery);
    is_at(record_where(&trace), "aborts", fault_line[0]);
    assert_true(has_caller("main"));
}

static void inlined_calls_are_frames_too(void **state)
{
    (void)state;
    crash_in(has_inlined);
    is_at(&trace.frame[0], "inlined", fault_line[0]);
    assert_true(trace.frame[0].is_inline);
    is_at(&trace.frame[1], "has_inlined", fault_line[1]);
    assert_false(trace.frame[1].is_inline);
    assert_int_equal(trace.frame[0].pc, trace.frame[1].pc);
}

static void a_stack_overflow_names_the_recursion(void **state)
{
    (void)state;
    crash_in(overflows_the_stack);
    assert_string_equal(record_where(&trace)->function, "recurses");
    assert_string_equal(trace.frame[1].function, "recurses");
    assert_true(trace.n > 10);
}

static void what_unwinding_misses_is_guessed(void **state)
{
    (void)state;
    crash_in(loses_its_stack);
    assert_string_equal(trace.frame[0].function, "loses_its_stack");
    assert_false(trace.frame[0].is_guess);
    assert_non_null(frame_of("be_the_victim"));
    assert_false(has_caller("be_the_victim"));
}

static void the_second_crash_of_a_process_is_seen_as_well(void **state)
{
    (void)state;
    crash_in(writes_to_null);
    crash_in(has_inlined);
    is_at(&trace.frame[0], "inlined", fault_line[0]);
    assert_true(has_caller("main"));
    crash_in(jumps_to_bad_address);
    is_at(&trace.frame[1], "jumps_to_bad_address", fault_line[0]);
    assert_true(has_caller("main"));
}

static void without_files_there_are_still_addresses(void **state)
{
    (void)state;
    crash_in(writes_to_null);
    for (uint32_t i = 0; i < copy.n_modules; i++)
        snprintf(copy.module[i].path, sizeof copy.module[i].path, "/nonexistent/%u.so", i);
    symbolise(&copy, &plugin, 1, &trace);
    assert_true(trace.n >= 1);
    assert_int_equal(trace.frame[0].pc, copy.reg[SHM_RIP]);
    assert_string_equal(trace.frame[0].module, "0.so");
    copy.n_modules = 0;
    symbolise(&copy, &plugin, 1, &trace);
    assert_true(trace.n >= 1);
    assert_int_equal(trace.frame[0].pc, copy.reg[SHM_RIP]);
}

static void a_private_copy_is_known_by_its_name(void **state)
{
    (void)state;
    crash_in(writes_to_null);
    /* Gone, and the original's build id is not known: no lines, but the plugin is still blamed. */
    plugin.object = "/plugins/boom.so";
    snprintf(copy.module[0].path, sizeof copy.module[0].path, "/tmp/bulkhead-1-abc/17-boom.so");
    symbolise(&copy, &plugin, 1, &trace);
    plugin.object = exe;
    assert_string_equal(trace.frame[0].module, "boom.so");
    assert_true(trace.frame[0].is_charged);
    assert_non_null(record_where(&trace));
}

/* Registers, stack and modules as a hostile plugin might leave them. */
static void nonsense_is_survived(void **state)
{
    static struct shm_crash good;
    int rounds = getenv("BULKHEAD_TEST_SCALE") != NULL ? 10 : 150;

    (void)state;
    crash_in(writes_to_null);
    good = copy;
    srand(1);
    for (int i = 0; i < rounds; i++) {
        uint8_t *bytes = (uint8_t *)&copy;

        copy = good;
        for (int k = 0; k < 1 << (i % 12); k++) {
            size_t at = offsetof(struct shm_crash, fault_addr) +
                        (size_t)rand() % (offsetof(struct shm_crash, stack) + 2000 -
                                          offsetof(struct shm_crash, fault_addr));

            bytes[at] = (uint8_t)rand();
        }
        copy.n_modules = good.n_modules; /* else most rounds would end early */
        record_clean(&copy, 0, 0);
        symbolise(&copy, &plugin, 1, &trace);
        assert_true(trace.n >= 1 && trace.n <= RECORD_MAX_FRAMES);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_shm, drop_shm)
        TEST(a_fault_is_named_with_file_and_line),
        TEST(a_jump_to_nowhere_is_shown_and_its_caller_named),
        TEST(data_is_not_code),
        TEST(what_aborts_is_not_what_is_at_fault),
        TEST(inlined_calls_are_frames_too),
        TEST(a_stack_overflow_names_the_recursion),
        TEST(what_unwinding_misses_is_guessed),
        TEST(the_second_crash_of_a_process_is_seen_as_well),
        TEST(without_files_there_are_still_addresses),
        TEST(a_private_copy_is_known_by_its_name),
        TEST(nonsense_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
