/* Each in a process of its own: where rights are missing, some of it cannot be taken back. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/urgency.h"

static bool in_process(bool (*holds)(void))
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(holds() ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool has_yielded(pid_t tid)
{
    int policy = sched_getscheduler(tid);

    return policy == SCHED_IDLE || policy == SCHED_BATCH;
}

static int started_with, most; /* nice values; and how much more there can be, up to 10 */
static int said[2], may_end[2];

static void *wait_in_thread(void *arg)
{
    pid_t tid = gettid();
    char c;

    (void)arg;
    if (write(said[1], &tid, sizeof tid) == sizeof tid)
        (void)!read(may_end[0], &c, 1);
    return NULL;
}

static bool comes_back(void)
{
    pthread_t thread;
    pid_t tid, child;
    bool held;

    urgency_yield();
    if (pipe(said) < 0 || pipe(may_end) < 0 ||
        pthread_create(&thread, NULL, wait_in_thread, NULL) != 0 ||
        read(said[0], &tid, sizeof tid) != sizeof tid)
        return false;
    held = has_yielded(0) && has_yielded(tid);
    urgency_return(NULL, 0, 0);
    held = held && sched_getscheduler(0) == SCHED_OTHER && sched_getscheduler(tid) == SCHED_OTHER;
    child = fork();
    if (child == 0)
        _exit(sched_getscheduler(0) == SCHED_OTHER ? 0 : 1);
    return held && waitpid(child, NULL, 0) == child && write(may_end[1], "", 1) == 1 &&
           pthread_join(thread, NULL) == 0;
}

static void who_yields_comes_back_with_all_its_threads(void **state)
{
    (void)state;
    assert_true(in_process(comes_back));
}

/* How many of what is told to be there is not the truth: 0 or 1. */
static bool knows_threads(int n_untold)
{
    pthread_t thread;
    pid_t tid;
    bool is_well;

    urgency_yield();
    if (pipe(said) < 0 || pipe(may_end) < 0 ||
        pthread_create(&thread, NULL, wait_in_thread, NULL) != 0 ||
        read(said[0], &tid, sizeof tid) != sizeof tid)
        return false;
    is_well = urgency_has_yielded() && has_yielded(tid);
    urgency_return(&tid, 1 - n_untold, 0);
    is_well = is_well && sched_getscheduler(0) == SCHED_OTHER &&
              sched_getscheduler(tid) == SCHED_OTHER && !urgency_has_yielded();
    return is_well && write(may_end[1], "", 1) == 1 && pthread_join(thread, NULL) == 0;
}

static bool knows_all(void)
{
    return knows_threads(0);
}

static bool knows_too_few(void)
{
    return knows_threads(1);
}

static void threads_that_are_known_come_back_and_others_are_looked_for(void **state)
{
    (void)state;
    assert_true(in_process(knows_all));
    assert_true(in_process(knows_too_few));
}

static bool has_a_child(void)
{
    pid_t child;
    bool is_well;

    urgency_yield();
    if (pipe(said) < 0 || pipe(may_end) < 0)
        return false;
    child = fork();
    if (child == 0) {
        char c;

        (void)!read(may_end[0], &c, 1);
        _exit(0);
    }
    is_well = has_yielded(child);
    urgency_return(NULL, 0, 0);
    is_well = is_well && sched_getscheduler(child) == SCHED_OTHER;
    return write(may_end[1], "", 1) == 1 && waitpid(child, NULL, 0) == child && is_well;
}

static void children_that_a_plugin_made_come_back_with_it(void **state)
{
    (void)state;
    assert_true(in_process(has_a_child));
}

static bool keeps_policy(void)
{
    if (sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}) < 0)
        return false;
    urgency_yield();
    urgency_return(NULL, 0, 0);
    urgency_wake_first();
    return sched_getscheduler(0) == SCHED_BATCH;
}

static void the_policy_that_somebody_chose_stays(void **state)
{
    (void)state;
    assert_true(in_process(keeps_policy));
}

/* Of this process: it has none to a better policy or nice value any more. */
static bool drop_rights(void)
{
    return setrlimit(RLIMIT_NICE, &(struct rlimit){0, 0}) == 0 &&
           (geteuid() != 0 || setresuid(65534, 65534, 65534) == 0);
}

static bool is_batch_without_rights(void)
{
    if (!drop_rights())
        return false;
    urgency_allow_return(); /* does not help */
    urgency_yield();
    if (sched_getscheduler(0) != SCHED_BATCH)
        return false;
    urgency_return(NULL, 0, 0);
    return sched_getscheduler(0) == SCHED_OTHER;
}

static void who_could_not_come_back_is_never_idle(void **state)
{
    (void)state;
    assert_true(in_process(is_batch_without_rights));
}

static bool parent_restores(void)
{
    char c;
    int status;
    pid_t pid;

    if (pipe(said) < 0 || pipe(may_end) < 0)
        return false;
    pid = fork();
    if (pid == 0) {
        urgency_yield();
        if (!has_yielded(0) || write(said[1], "", 1) != 1 || read(may_end[0], &c, 1) != 1)
            _exit(1);
        _exit(sched_getscheduler(0) == SCHED_OTHER ? 0 : 1);
    }
    if (read(said[0], &c, 1) != 1)
        return false;
    urgency_restore(pid, 0);
    return write(may_end[1], "", 1) == 1 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void a_child_is_restored_by_its_parent(void **state)
{
    (void)state;
    assert_true(in_process(parent_restores));
}

/* Against what this process was started with. */
static int nice_of(pid_t tid)
{
    return getpriority(PRIO_PROCESS, (id_t)tid) - started_with;
}

static bool is_modest_for_a_while(void)
{
    urgency_be_modest();
    urgency_be_modest(); /* not twice */
    if (nice_of(0) != most || sched_getscheduler(0) != SCHED_OTHER)
        return false;
    urgency_be_usual();
    return nice_of(0) == 0;
}

static void who_is_modest_is_as_usual_afterwards(void **state)
{
    (void)state;
    assert_true(in_process(is_modest_for_a_while));
}

/* As a candidate: made by a modest master, it yields, is hurried, and comes back. */
static bool child_of_the_modest_comes_back(void)
{
    pthread_t thread;
    pid_t pid, tid;
    int status;
    char c;
    bool is_well;

    urgency_be_modest();
    if (pipe(said) < 0 || pipe(may_end) < 0)
        return false;
    pid = fork();
    if (pid == 0) {
        urgency_yield();
        if (pthread_create(&thread, NULL, wait_in_thread, NULL) != 0 ||
            read(said[0], &tid, sizeof tid) != sizeof tid)
            _exit(1);
        urgency_return(&tid, 1, 0);
        is_well = sched_getscheduler(0) == SCHED_OTHER && nice_of(0) == 0 &&
                  sched_getscheduler(tid) == SCHED_OTHER && nice_of(tid) == 0;
        (void)!write(may_end[1], "", 1);
        _exit(is_well ? 0 : 1);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        return false;
    pid = fork();
    if (pid == 0) {
        urgency_yield();
        if (write(said[1], "", 1) != 1 || read(may_end[0], &c, 1) != 1)
            _exit(1);
        is_well = sched_getscheduler(0) == SCHED_OTHER &&
                  nice_of(0) == most; /* hurried, not more */
        urgency_return(NULL, 0, 0);
        _exit(is_well && nice_of(0) == 0 ? 0 : 1);
    }
    if (read(said[0], &c, 1) != 1)
        return false;
    urgency_restore(pid, 0);
    return write(may_end[1], "", 1) == 1 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void who_was_made_by_a_modest_one_comes_back_with_its_threads(void **state)
{
    (void)state;
    assert_true(in_process(child_of_the_modest_comes_back));
}

static bool is_not_modest_without_rights(void)
{
    if (!drop_rights())
        return false;
    urgency_be_modest();
    return nice_of(0) == 0;
}

static void who_could_not_come_back_is_never_modest(void **state)
{
    (void)state;
    assert_true(in_process(is_not_modest_without_rights));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_yields_comes_back_with_all_its_threads),
        cmocka_unit_test(threads_that_are_known_come_back_and_others_are_looked_for),
        cmocka_unit_test(children_that_a_plugin_made_come_back_with_it),
        cmocka_unit_test(the_policy_that_somebody_chose_stays),
        cmocka_unit_test(who_could_not_come_back_is_never_idle),
        cmocka_unit_test(a_child_is_restored_by_its_parent),
        cmocka_unit_test(who_is_modest_is_as_usual_afterwards),
        cmocka_unit_test(who_was_made_by_a_modest_one_comes_back_with_its_threads),
        cmocka_unit_test(who_could_not_come_back_is_never_modest),
    };

    started_with = getpriority(PRIO_PROCESS, 0);
    most = started_with < 9 ? 10 : 19 - started_with;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
