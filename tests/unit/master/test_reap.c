/*
 * test_reap.c - the first process of a container collects what lost its parent, and of its own children
 * only what it looks for.
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "master/internal.h"
#include "scene.h"

static pid_t ended_child(void)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(0);
    return pid;
}

/* It has ended, or will soon, and so has its parent. */
static pid_t orphan(void)
{
    int ends[2];
    pid_t child, it = 0;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        it = fork();
        if (it == 0)
            _exit(0);
        _exit(write(ends[1], &it, sizeof it) == sizeof it ? 0 : 1);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(read(ends[0], &it, sizeof it), sizeof it);
    close(ends[0]);
    close(ends[1]);
    return it;
}

static bool is_ended(pid_t pid)
{
    siginfo_t si = {.si_pid = 0};

    return waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid == pid;
}

static void what_lost_its_parent_is_collected(void **state)
{
    static struct master m;
    pid_t it;

    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    it = orphan();
    eventually(is_ended(it));
    reap_children(&m);
    assert_int_equal(waitpid(it, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

static void a_child_that_somebody_waits_for_is_left_to_him(void **state)
{
    static struct master m;
    pid_t mine = ended_child();

    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    eventually(is_ended(mine));
    m.upgrade.pid = mine;
    m.is_succeeded = true; /* it is not looked for any more */
    reap_children(&m);
    assert_int_equal(waitpid(mine, NULL, WNOHANG), mine);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

static void who_is_not_the_first_process_collects_no_stranger(void **state)
{
    static struct master m;
    pid_t stranger = ended_child();

    (void)state;
    eventually(is_ended(stranger));
    reap_children(&m);
    assert_int_equal(waitpid(stranger, NULL, WNOHANG), stranger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_lost_its_parent_is_collected),
        cmocka_unit_test(a_child_that_somebody_waits_for_is_left_to_him),
        cmocka_unit_test(who_is_not_the_first_process_collects_no_stranger),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
