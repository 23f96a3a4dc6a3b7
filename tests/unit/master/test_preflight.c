#include "master/master.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "master/internal.h"
#include "scene.h"

static struct config_plugin plugin[] = {{.name = "x", .module = "xmod", .pos = {12, 5}},
                                        {.name = "y", .module = "ymod", .pos = {13, 5}}};
static const struct config cfg = {
    .path = "test.yaml", .plugin = plugin, .n_plugins = 2, .log = {.path = "-", .level = 3}};
static char said[8192]; /* on stderr */
static pid_t *left_running;

/* Of the processor that it shares with a process that never waits, it gets three hundredths at most. */
static void loop_beside_another(void)
{
    cpu_set_t here;

    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    assert_int_equal(sched_setaffinity(0, sizeof here, &here), 0);
    if (fork() == 0) { /* ends with the group */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            continue;
    }
    assert_int_equal(sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}), 0);
    for (;;)
        continue;
}

static void report(int fd, const char *text)
{
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static int preflight(const struct config *c, const struct setup *setup, struct shm *shm, int fd,
                     int mode)
{
    static const struct timespec for_ever = {.tv_sec = 60};
    pid_t left;

    (void)c;
    (void)setup;
    (void)shm;
    report(fd, "plugin x stage open object /lib/x y.so\n");
    switch (mode) {
    case 'o': report(fd, "ok\n"); return 0;
    case 'n': report(fd, "ok"); return 0; /* no newline */
    case 's':
        report(fd, "ok\n");
        raise(SIGSEGV);
        return 0;
    case 'S': raise(SIGSEGV); return 0;
    case 'c':
        report(fd, "plugin x stage close\n");
        raise(SIGBUS);
        return 0;
    case 'e': return 0;
    case 'a': report(fd, "ok\nplugin x stage close\n"); return 0;
    case 'm': report(fd, "f:1:2: error: the x is \033[31mwrong\n  hint: right it\n"); return 1;
    case 't': nanosleep(&for_ever, NULL); return 0;
    case 'b': loop_beside_another(); return 0;
    case 'f':
        for (int i = 0; i < 1000000; i++)
            report(fd, "blah blah blah blah blah blah blah blah blah blah blah blah blah\n");
        return 0;
    case 'g': /* a grandchild that keeps the pipe open */
        left = fork();
        if (left == 0) {
            nanosleep(&for_ever, NULL);
            _exit(0);
        }
        *left_running = left;
        report(fd, "ok\n");
        return 0;
    case 'l':
        report(fd, "plugin y stage load\n");
        raise(SIGILL);
        return 0;
    default: return 9;
    }
}

static const struct master_roles roles = {.preflight = preflight};

/* Runs it with stderr in said[]. */
static int try(int mode)
{
    FILE *f = tmpfile();
    int before = dup(STDERR_FILENO), r;
    size_t n;

    assert_non_null(f);
    fflush(stderr);
    dup2(fileno(f), STDERR_FILENO);
    r = master_preflight(&cfg, NULL, NULL, &roles, mode);
    fflush(stderr);
    dup2(before, STDERR_FILENO);
    close(before);
    rewind(f);
    n = fread(said, 1, sizeof said - 1, f);
    said[n] = '\0';
    fclose(f);
    return r;
}

static void assert_said(const char *text)
{
    if (strstr(said, text) == NULL)
        fail_msg("'%s' is not in: %s", text, said);
}

static void ok_as_last_word_is_a_pass(void **state)
{
    (void)state;
    assert_int_equal(try('o'), 0);
    assert_string_equal(said, "");
    assert_int_equal(try('n'), 0);
}

static void crash_names_plugin_object_signal_and_stage(void **state)
{
    (void)state;
    assert_int_equal(try('S'), -1);
    assert_said("test.yaml:12:5: error: plugin 'x' (/lib/x y.so) crashed with SIGSEGV in open(); "
                "nothing was started");
}

static void object_is_remembered_over_the_stages(void **state)
{
    (void)state;
    assert_int_equal(try('c'), -1);
    assert_said("plugin 'x' (/lib/x y.so) crashed with SIGBUS in close()");
}

static void crash_of_a_constructor_is_told_so(void **state)
{
    (void)state;
    assert_int_equal(try('l'), -1);
    assert_said("plugin 'y' (ymod) crashed with SIGILL in its constructor");
}

static void exit_status_0_without_ok_is_no_pass(void **state)
{
    (void)state;
    assert_int_equal(try('e'), -1);
    assert_said("ended the process with exit(0) in open()");
}

static void ok_before_the_end_is_no_pass(void **state)
{
    (void)state;
    assert_int_equal(try('a'), -1);
    assert_said("in close()");
}

static void crash_after_ok_is_no_pass(void **state)
{
    (void)state;
    assert_int_equal(try('s'), -1);
    assert_said("SIGSEGV");
}

static void errors_are_printed_through_but_escaped(void **state)
{
    (void)state;
    assert_int_equal(try('m'), -1);
    assert_said("f:1:2: error: the x is ?[31mwrong\n  hint: right it\n");
    assert_null(strstr(said, "\033"));
    assert_null(strstr(said, "exit("));
}

static void flood_is_stopped(void **state)
{
    (void)state;
    assert_int_equal(try('f'), -1);
    assert_said("to the report in open()");
}

static void pipe_held_by_a_descendant_does_not_delay(void **state)
{
    int64_t end_ms = scene_deadline(5000);

    (void)state;
    *left_running = 0;
    assert_int_equal(try('g'), 0);
    assert_true(clock_mono_ms() < end_ms);
    /* It went with its group; init collects it, hence a zombie for a moment, or for good. */
    assert_true(*left_running > 0);
    eventually(kill(*left_running, 0) < 0 || waitpid(*left_running, NULL, WNOHANG) != 0);
}

static void pending_stop_ends_it(void **state)
{
    int64_t end_ms = scene_deadline(5000);
    sigset_t term, before;

    (void)state;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    raise(SIGTERM);
    assert_int_equal(try('t'), -1);
    assert_true(clock_mono_ms() < end_ms);
    assert_int_equal(sigtimedwait(&term, NULL, &(struct timespec){0}), SIGTERM);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static void endless_stage_is_stopped_and_named(void **state)
{
    (void)state;
    preflight_wall_ms = 1000;
    assert_int_equal(try('t'), -1);
    assert_said("did not finish within 1 s in open()");
}

/* The one whom a reload quarantines for it. */
static const char *culprit_of(int mode)
{
    static char culprit[128];
    struct preflight *p = NULL;

    assert_int_equal(preflight_start(&cfg, NULL, NULL, NULL, &roles, mode, &(struct user){0}, NULL,
                                     "nothing was changed", -1, &p),
                     0);
    while (preflight_step(p) == -EAGAIN)
        scene_pause();
    snprintf(culprit, sizeof culprit, "%s", preflight_culprit(p));
    snprintf(said, sizeof said, "%s", preflight_said(p));
    preflight_end(&p);
    return culprit;
}

static void who_does_not_end_is_the_culprit_unless_he_lacked_the_processor(void **state)
{
    (void)state;
    preflight_wall_ms = 1000;
    assert_string_equal(culprit_of('t'), "x");
    assert_string_equal(culprit_of('b'), "");
    assert_said("did not finish within 1 s in open(): for ");
    assert_said("it waited for a processor");
    assert_said("nothing was changed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ok_as_last_word_is_a_pass),
        cmocka_unit_test(crash_names_plugin_object_signal_and_stage),
        cmocka_unit_test(object_is_remembered_over_the_stages),
        cmocka_unit_test(crash_of_a_constructor_is_told_so),
        cmocka_unit_test(exit_status_0_without_ok_is_no_pass),
        cmocka_unit_test(ok_before_the_end_is_no_pass),
        cmocka_unit_test(crash_after_ok_is_no_pass),
        cmocka_unit_test(errors_are_printed_through_but_escaped),
        cmocka_unit_test(flood_is_stopped),
        cmocka_unit_test(pipe_held_by_a_descendant_does_not_delay),
        cmocka_unit_test(pending_stop_ends_it),
        cmocka_unit_test(endless_stage_is_stopped_and_named),
        cmocka_unit_test(who_does_not_end_is_the_culprit_unless_he_lacked_the_processor),
    };

    left_running = mmap(NULL, sizeof *left_running, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (left_running == MAP_FAILED)
        return 1;
    return cmocka_run_group_tests_name("preflight", tests, NULL, NULL);
}
