#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/config.h"
#include "http/front.h"
#include "ipc/shm.h"
#include "worker/warm.h"

#define CONNS 40

static struct shm *shm;
static struct config cfg = {.limits.head = 8192};

static long faults(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_minflt : -1;
}

/* The faults that so many connections cost a process that has just been forked. */
static int faults_of(int n_conns, bool is_warm)
{
    size_t size = front_conn_memory(&cfg);
    long before;
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        if (is_warm)
            warm_up(&cfg, shm, 0);
        before = faults();
        for (int i = 0; i < n_conns; i++) {
            char *p = malloc(size);

            if (p == NULL)
                _exit(255);
            memset(p, 1, size);
        }
        before = faults() - before;
        _exit(before < 254 ? (int)before : 254);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 255);
    return WEXITSTATUS(status);
}

static void as_many_connections_as_are_open_find_their_memory(void **state)
{
    int cold, warm;

    (void)state;
#ifdef BULKHEAD_SANITIZE /* has another malloc() */
    skip();
#endif
    atomic_store(&shm->worker[1].connections, CONNS);
    cold = faults_of(CONNS, false);
    warm = faults_of(CONNS, true);
    atomic_store(&shm->worker[1].connections, 0);
    assert_true(cold >= CONNS * 3);
    if (warm == cold) /* before Linux 5.14 */
        skip();
    assert_in_range(warm, 0, CONNS / 2);
}

static void a_few_do_where_none_are_open(void **state)
{
    (void)state;
#ifdef BULKHEAD_SANITIZE
    skip();
#endif
    if (faults_of(16, true) == faults_of(16, false))
        skip();
    assert_in_range(faults_of(16, true), 0, 8);
}

static void a_worker_that_says_nonsense_does_not_cost_all_memory(void **state)
{
    struct rusage usage;
    int status;
    pid_t pid;

    (void)state;
    atomic_store(&shm->worker[1].connections, UINT64_MAX);
    pid = fork();
    if (pid == 0) {
        if (getrusage(RUSAGE_SELF, &usage) < 0)
            _exit(1);
        long before = usage.ru_maxrss;

        warm_up(&cfg, shm, 0);
        _exit(getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_maxrss - before < 16384 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    atomic_store(&shm->worker[1].connections, 0);
    assert_int_equal(status, 0);
}

static int make_shm(void **state)
{
    (void)state;
    return shm_create(2, 1, &shm);
}

static int drop_shm(void **state)
{
    (void)state;
    shm_destroy(&shm);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_connections_as_are_open_find_their_memory),
        cmocka_unit_test(a_few_do_where_none_are_open),
        cmocka_unit_test(a_worker_that_says_nonsense_does_not_cost_all_memory),
    };

    return cmocka_run_group_tests(tests, make_shm, drop_shm);
}
