/*
 * test_fault.c - what plugins/fault promises: that each of its faults really is one.
 *
 * There is no recovery boundary here, so every fault is committed in a child process. A newcomer
 * would compare signals alone: under a sanitizer, some faults end as its report and an exit code.
 */
#include <bulkhead_test.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/* How a child ended: a signal's number, 1000 + exit status, or one of these. */
#define RETURNED 2000 /* the fault did its damage silently, or not at all */
#define HUNG     2001 /* still there after a while */

static const struct timespec tick = {.tv_nsec = 2000000};

static void be_the_child(const char *fault, const char *at, const char *stream)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    const struct rlimit none = {0, 0};
    char f[64], a[64], s[64];
    bh_error err = {.struct_size = sizeof err, .kind = BH_E_FAIL, .plugin = "x", .hook = "on_log"};
    bh_req *r;
    bht *t;

    setrlimit(RLIMIT_CORE, &none);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        signal(signals[i], SIG_DFL); /* cmocka has its own */
    if (freopen("/dev/null", "w", stderr) == NULL || freopen("/dev/null", "w", stdout) == NULL)
        _exit(99);
    snprintf(f, sizeof f, "fault=%s", fault);
    snprintf(a, sizeof a, "at=%s", at);
    snprintf(s, sizeof s, "stream=%s", stream);
    t = bht_open(f, a, s, strcmp(at, "on_error") == 0 ? "reply=false" : "reply=true", NULL);
    r = bht_request(t, "POST", "/");
    bht_body(r, "abc", 3);
    if (strcmp(at, "on_error") == 0)
        bht_next_error(r, &err);
    bht_run(r);
    bht_close(t);
    if (strcmp(at, "thread") == 0)
        sleep(1);
}

static int ending(const char *fault, const char *at, const char *stream)
{
    int status = 0;
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        be_the_child(fault, at, stream);
        _exit(200);
    }
    /* Long enough for a slow machine under valgrind, where nothing is meant to hang. */
    for (int i = 0; i < 5000; i++) {
        if (waitpid(child, &status, WNOHANG) == child) {
            if (WIFSIGNALED(status))
                return WTERMSIG(status);
            return WEXITSTATUS(status) == 200 ? RETURNED : 1000 + WEXITSTATUS(status);
        }
        nanosleep(&tick, NULL);
        if (i == 150 && (strcmp(fault, "loop") == 0 || strcmp(fault, "sleep") == 0 ||
                         strcmp(fault, "mutex") == 0))
            break;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return HUNG;
}

/* The libc checks end as SIGABRT, or under a sanitizer as its exit status. */
static void assert_ends(const char *fault, const char *at, const char *stream, int expected)
{
    int got = ending(fault, at, stream);

#ifdef BULKHEAD_SANITIZE
    if (got != RETURNED && got != HUNG)
        return;
#endif
    if (got != expected)
        fail_msg("%s at %s: ended with %d, not with %d", fault, at, got, expected);
}

static void every_memory_fault_ends_in_its_signal(void **state)
{
    static const char *const segv[] = {
        "segv",     "segv_addr",     "segv_noncanonical", "segv_text",  "jump",
        "overflow", "bigframe",      "stdio_lock",        "dl_iterate", "qsort",
        "bad_ptr",  "bad_ptr_reply", "smash_return",      "bad_req",    "bad_ptr_log"};

    (void)state;
    for (size_t i = 0; i < sizeof segv / sizeof segv[0]; i++)
        assert_ends(segv[i], "on_request", "false", SIGSEGV);
    assert_ends("bus", "on_request", "false", SIGBUS);
}

static void every_bad_instruction_ends_in_its_signal(void **state)
{
    (void)state;
    assert_ends("fpe", "on_request", "false", SIGFPE);
    assert_ends("ill", "on_request", "false", SIGILL);
    assert_ends("trap", "on_request", "false", SIGTRAP);
}

static void what_libc_notices_ends_in_abort(void **state)
{
    static const char *const faults[] = {"abort",   "assert",      "stack_smash",
                                         "fortify", "double_free", "free_fault"};

    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        assert_ends(faults[i], "on_request", "false", SIGABRT);
}

static void what_ends_the_process_ends_it_with_its_own_status(void **state)
{
    (void)state;
    assert_ends("exit", "on_request", "false", 1041);
    assert_ends("_exit", "on_request", "false", 1042);
    assert_ends("quick_exit", "on_request", "false", 1043);
    assert_ends("exit_group", "on_request", "false", 1044);
    assert_ends("sigkill", "on_request", "false", SIGKILL);
    assert_ends("pthread_exit", "on_request", "false", 1000);
    assert_ends("cancel_self", "on_request", "false", 1000);
}

static void what_takes_for_ever_does_not_return(void **state)
{
    (void)state;
    assert_ends("loop", "on_request", "false", HUNG);
    assert_ends("sleep", "on_request", "false", HUNG);
    assert_ends("mutex", "on_request", "false", HUNG);
}

static void silent_faults_return(void **state)
{
    static const char *const faults[] = {"none", "sigaction",   "sigmask", "altstack",
                                         "leak", "leak_thread", "leak_fd", "close_fds"};

    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        assert_ends(faults[i], "on_request", "false", RETURNED);
}

static void a_bent_heap_kills_malloc(void **state)
{
    (void)state;
#ifdef BULKHEAD_SANITIZE
    skip(); /* another allocator, without that list */
#endif
    assert_ends("malloc_fault", "on_request", "false", SIGSEGV);
}

static void strikes_in_the_place_it_is_told_to(void **state)
{
    static const char *const places[] = {
        "on_request",       "on_request_body", "on_response", "on_log",
        "on_response_body", "on_error",        "defer",       "open",
        "validate",         "start",           "drain",       "close",
        "host_call",        "offload",         "post",        "thread"};

    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        assert_ends("segv", places[i], "false", SIGSEGV);
    assert_ends("segv", "on_response_body", "true", SIGSEGV);
    assert_ends("bus", "host_call", "false", SIGBUS);
    assert_ends("jump", "host_call", "false", SIGSEGV);
}

static void answers_ok_when_nothing_is_due(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_status(r), 200);
    assert_string_equal(bht_resp_body(r), "ok\n");
    bht_close(t);
}

static void lets_requests_pass_when_it_is_told_to(void **state)
{
    bht *t = bht_open("reply=false", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_run(r);
    assert_true(bht_passed(r));
    bht_close(t);
}

static void streams_five_chunks(void **state)
{
    bht *t = bht_open("stream=true", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_kind(r), BHT_STREAM);
    assert_string_equal(bht_resp_body(r), "chunk 1\nchunk 2\nchunk 3\nchunk 4\nchunk 5\n");
    bht_close(t);
}

static void spares_all_but_every_nth_request(void **state)
{
    bht *t = bht_open("fault=leak_fd", "every=3", NULL);
    int before, after;

    (void)state;
    before = dup(0);
    close(before);
    for (int i = 0; i < 7; i++)
        bht_run(bht_request(t, "GET", "/"));
    after = dup(0);
    close(after);
    assert_int_equal(after - before, 2);
    close(before);
    close(before + 1);
    bht_close(t);
}

static void obeys_the_query_only_where_the_option_allows_it(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "GET", "/?fault=abort&at=on_request");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_status(r), 200);
    bht_close(t);

    t = bht_open("from_request=true", NULL);
    r = bht_request(t, "GET", "/?stream=1");
    bht_run(r);
    assert_int_equal(bht_kind(r), BHT_STREAM);
    bht_close(t);
}

static void an_unknown_fault_in_the_query_gets_the_list(void **state)
{
    bht *t = bht_open("from_request=true", NULL);
    bh_req *r = bht_request(t, "GET", "/?fault=nonsense");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_status(r), 400);
    assert_non_null(strstr(bht_resp_body(r), "double_free"));
    assert_non_null(strstr(bht_resp_body(r), "on_response_body"));
    bht_close(t);
}

static void an_unknown_fault_in_the_options_is_refused(void **state)
{
    bht *t = bht_try("fault=nonsense", NULL);

    (void)state;
    assert_int_equal(bht_rc(t), BH_FAIL);
    assert_non_null(strstr(bht_errors(t), "fault: "));
    bht_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_memory_fault_ends_in_its_signal),
        cmocka_unit_test(every_bad_instruction_ends_in_its_signal),
        cmocka_unit_test(what_libc_notices_ends_in_abort),
        cmocka_unit_test(what_ends_the_process_ends_it_with_its_own_status),
        cmocka_unit_test(what_takes_for_ever_does_not_return),
        cmocka_unit_test(silent_faults_return),
        cmocka_unit_test(a_bent_heap_kills_malloc),
        cmocka_unit_test(strikes_in_the_place_it_is_told_to),
        cmocka_unit_test(answers_ok_when_nothing_is_due),
        cmocka_unit_test(lets_requests_pass_when_it_is_told_to),
        cmocka_unit_test(streams_five_chunks),
        cmocka_unit_test(spares_all_but_every_nth_request),
        cmocka_unit_test(obeys_the_query_only_where_the_option_allows_it),
        cmocka_unit_test(an_unknown_fault_in_the_query_gets_the_list),
        cmocka_unit_test(an_unknown_fault_in_the_options_is_refused),
    };

    return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
