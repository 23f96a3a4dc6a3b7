/*
 * test_hostfd.c - plugins cannot close the host's descriptors, and everybody else closes as ever.
 */
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/config.h"
#include "plugin/boundary.h"
#include "plugin/hostfd.h"
#include "recovering.h"

/* link: @interpose */

static struct shm *shm;
static struct config_plugin plugins[4] = {
    {.name = "a"}, {.name = "b"}, {.name = "c"}, {.name = "d"}};
static const struct config cfg = {.plugin = plugins, .n_plugins = 4};
static int hosts, own; /* descriptors */
static FILE *stream;   /* of one of the host's */

static int open_null(void)
{
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int group_set_up(void **state)
{
    (void)state;
    return recovering_set_up(&shm, 4);
}

static int begin(void **state)
{
    (void)state;
    recovering_begin(shm);
    atomic_store(&shm->plugin[0].failures, 0);
    hosts = open_null();
    hostfd_init(&cfg, shm);
    own = open_null();
    return hosts < 0 || own < 0 ? -1 : 0;
}

static int end(void **state)
{
    (void)state;
    close(own);
    close(hosts);
    return 0;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* ---- what plugins try ---- */

static int answer, error;

#define NOTE(CALL) (errno = 0, answer = (CALL), error = errno)

static void close_hosts(void)
{
    NOTE(close(hosts));
}

static void put_in_place_of_hosts(void)
{
    NOTE(dup2(own, hosts));
}

static void put_in_place_of_hosts_too(void)
{
    NOTE(dup3(own, hosts, O_CLOEXEC));
}

static void close_range_of_both(void)
{
    NOTE(close_range((unsigned)(hosts < own ? hosts : own), (unsigned)(hosts < own ? own : hosts),
                     0));
}

static void close_stream(void)
{
    NOTE(fclose(stream));
}

static bh_rc does(void *self, bh_req *req, void *ctx)
{
    (void)req, (void)ctx;
    ((void (*)(void))(uintptr_t)self)();
    return 0;
}

static void call(void (*fn)(void))
{
    assert_true(
        boundary_hook(1, HOOK_REQUEST, does, (void *)(uintptr_t)fn, NULL, NULL, &(bh_rc){0}));
}

static void a_plugin_does_not_close_what_is_the_hosts(void **state)
{
    static void (*const tries[])(void) = {close_hosts, put_in_place_of_hosts,
                                          put_in_place_of_hosts_too, close_range_of_both};

    (void)state;
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        call(tries[i]);
        if (answer != -1 || error != EBADF || !is_open(hosts) || !hostfd_has(hosts))
            fail_msg("try %zu: %d, errno %d", i, answer, error);
        assert_int_equal(shm->plugin[0].failures, i + 1);
    }
}

static void a_stream_of_the_hosts_stays_open(void **state)
{
    (void)state;
#ifdef BULKHEAD_SANITIZE
    skip(); /* stdio is not interposed there */
#endif
    stream = fdopen(hosts, "r");
    assert_non_null(stream);
    call(close_stream);
    assert_int_equal(answer, EOF);
    assert_int_equal(error, EBADF);
    assert_true(is_open(hosts));
    hosts = dup(hosts);
    fclose(stream);
}

static void close_own(void)
{
    NOTE(close(own));
}

static void a_plugin_closes_its_own(void **state)
{
    (void)state;
    call(close_own);
    assert_int_equal(answer, 0);
    assert_false(is_open(own));
    assert_int_equal(shm->plugin[0].failures, 0);
}

static void a_range_is_closed_but_for_the_hosts(void **state)
{
    (void)state;
    call(close_range_of_both);
    assert_false(is_open(own));
    assert_true(is_open(hosts));
}

static int high;

static void close_from_high(void)
{
    closefrom(high);
}

static void closefrom_spares_the_hosts(void **state)
{
    (void)state;
    high = fcntl(hosts, F_DUPFD_CLOEXEC, 500);
    assert_int_equal(dup2(own, high + 1), high + 1);
    assert_int_equal(dup2(own, high + 2), high + 2);
    hostfd_add(high + 1);
    call(close_from_high);
    assert_false(is_open(high));
    assert_true(is_open(high + 1));
    assert_false(is_open(high + 2));
    close(high + 1);
}

static void close_all_one_by_one(void)
{
    for (int fd = hosts; fd < 100; fd++)
        close(fd);
}

static void a_loop_over_all_is_one_failure(void **state)
{
    (void)state;
    hostfd_add(own);
    call(close_all_one_by_one);
    assert_true(is_open(hosts));
    assert_true(is_open(own));
    assert_int_equal(shm->plugin[0].failures, 1);
}

static void what_the_host_closes_is_off_the_list(void **state)
{
    int fd = open_null();

    (void)state;
    hostfd_add(fd);
    assert_true(hostfd_has(fd));
    assert_int_equal(close(fd), 0);
    assert_false(hostfd_has(fd)); /* the number may be a plugin's next */
    assert_int_equal(hostfd_next(100000), -1);
    hostfd_add(-1);
    hostfd_add(1 << 30);
    assert_false(hostfd_has(1 << 30));
}

static void fork_and_close(void)
{
    pid_t pid = fork();
    int status = 0;

    if (pid == 0)
        _exit(close(hosts) == 0 ? 7 : 8);
    waitpid(pid, &status, 0);
    answer = WEXITSTATUS(status);
}

static void a_child_closes_what_it_likes(void **state)
{
    (void)state;
    call(fork_and_close);
    assert_int_equal(answer, 7);
    assert_true(hostfd_has(hosts));
}

static void while_an_object_is_loaded_its_constructors_are_plugins(void **state)
{
    struct shm_call *own_call = &shm->worker[0].call;

    (void)state;
    atomic_store(&own_call->plugin, 1);
    NOTE(close(hosts));
    atomic_store(&own_call->plugin, 0);
    assert_int_equal(answer, -1);
    assert_int_equal(error, EBADF);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_plugin_does_not_close_what_is_the_hosts),
        TEST(a_stream_of_the_hosts_stays_open),
        TEST(a_plugin_closes_its_own),
        TEST(a_range_is_closed_but_for_the_hosts),
        TEST(closefrom_spares_the_hosts),
        TEST(a_loop_over_all_is_one_failure),
        TEST(what_the_host_closes_is_off_the_list),
        TEST(a_child_closes_what_it_likes),
        TEST(while_an_object_is_loaded_its_constructors_are_plugins),
    };

    return cmocka_run_group_tests_name("hostfd", tests, group_set_up, NULL);
}
