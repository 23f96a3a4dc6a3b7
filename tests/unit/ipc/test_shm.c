#include "ipc/shm.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char line[SHM_LINE_MAX];

static int make_shm(void **state)
{
    struct shm *shm = NULL;

    if (shm_create(2, 3, &shm) < 0)
        return -1;
    *state = shm;
    return 0;
}

static int drop_shm(void **state)
{
    struct shm *shm = *state;

    shm_destroy(&shm);
    return 0;
}

static bool is_kicked(const struct shm *shm)
{
    uint64_t n;

    return read(shm->wake_fd, &n, sizeof n) == (ssize_t)sizeof n;
}

static void put(struct shm *shm, const char *text)
{
    assert_int_equal(shm_ring_write(shm, &shm->worker[0], 1, text, strlen(text)), 0);
}

static void is_shared_with_children_at_the_same_address(void **state)
{
    struct shm *shm = *state;
    pid_t pid;

    assert_int_equal(shm->n_workers, 2);
    assert_int_equal(shm->n_plugins, 3);
    assert_int_equal((uintptr_t)shm->worker % 64, 0);
    pid = fork();
    if (pid == 0) {
        atomic_store(&shm->plugin[2].crashes, 7);
        atomic_store(&shm->worker[1].requests, 8);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(atomic_load(&shm->plugin[2].crashes), 7);
    assert_int_equal(atomic_load(&shm->worker[1].requests), 8);
}

static void lines_come_out_as_they_went_in(void **state)
{
    struct shm *shm = *state;
    struct shm_ring *ring = &shm->worker[0].ring;
    uint32_t sink = 99;

    assert_int_equal(shm_ring_read(ring, &sink, line), -EAGAIN);
    put(shm, "first");
    put(shm, "");
    assert_int_equal(shm_ring_read(ring, &sink, line), 5);
    assert_int_equal(sink, 1);
    assert_memory_equal(line, "first", 5);
    assert_int_equal(shm_ring_read(ring, &sink, line), 0);
    assert_int_equal(shm_ring_read(ring, &sink, line), -EAGAIN);
}

/* Lengths that are no divisor of the size: headers and bytes fall on both sides of the end. */
static void lines_survive_the_end_of_the_ring(void **state)
{
    struct shm *shm = *state;
    struct shm_ring *ring = &shm->worker[0].ring;
    char text[1000];
    uint32_t sink;

    for (int i = 0; i < 20000; i++) {
        size_t n = (size_t)(i * 7 % 991);

        memset(text, 'a' + i % 26, sizeof text);
        assert_int_equal(shm_ring_write(shm, &shm->worker[0], (uint32_t)i % SHM_SINKS, text, n), 0);
        assert_int_equal(shm_ring_read(ring, &sink, line), n);
        assert_int_equal(sink, i % SHM_SINKS);
        assert_memory_equal(line, text, n);
    }
    assert_true(atomic_load(&ring->head) > 5 * SHM_RING_SIZE);
}

static void a_full_ring_counts_what_it_drops_and_recovers(void **state)
{
    struct shm *shm = *state;
    struct shm_ring *ring = &shm->worker[0].ring;
    static char text[SHM_LINE_MAX];
    uint32_t sink;
    int n = 0;

    while (shm_ring_write(shm, &shm->worker[0], 0, text, sizeof text) == 0)
        n++;
    assert_int_equal(n, SHM_RING_SIZE / (SHM_LINE_MAX + 4));
    assert_int_equal(atomic_load(&ring->dropped), 1);
    assert_int_equal(shm_ring_read(ring, &sink, line), sizeof text);
    assert_int_equal(shm_ring_write(shm, &shm->worker[0], 0, text, sizeof text), 0);
    while (n-- > 0)
        assert_int_equal(shm_ring_read(ring, &sink, line), sizeof text);
    assert_int_equal(shm_ring_read(ring, &sink, line), -EAGAIN);
}

static void a_longer_line_is_cut(void **state)
{
    struct shm *shm = *state;
    static char text[SHM_LINE_MAX + 100];
    uint32_t sink;

    assert_int_equal(shm_ring_write(shm, &shm->worker[0], 0, text, sizeof text), 0);
    assert_int_equal(shm_ring_read(&shm->worker[0].ring, &sink, line), SHM_LINE_MAX);
}

static void nonsense_in_a_ring_is_given_up(void **state)
{
    struct shm *shm = *state;
    struct shm_ring *ring = &shm->worker[0].ring;
    const uint64_t heads[] = {3, SHM_RING_SIZE + 1, UINT64_MAX, 1000};
    uint32_t sink;

    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        memset(ring->data, 0xff, sizeof ring->data); /* lengths of 65535 */
        atomic_store(&ring->tail, 0);
        atomic_store(&ring->head, heads[i]);
        assert_int_equal(shm_ring_read(ring, &sink, line), -EBADMSG);
        assert_int_equal(shm_ring_read(ring, &sink, line), -EAGAIN);
        put(shm, "after");
        assert_int_equal(shm_ring_read(ring, &sink, line), 5);
    }
}

static void a_writer_does_not_follow_a_broken_tail(void **state)
{
    struct shm *shm = *state;
    struct shm_ring *ring = &shm->worker[0].ring;

    atomic_store(&ring->tail, 12345);
    assert_int_equal(shm_ring_write(shm, &shm->worker[0], 0, "x", 1), -EAGAIN);
    assert_int_equal(atomic_load(&ring->dropped), 1);
}

static void only_a_sleeper_is_woken(void **state)
{
    struct shm *shm = *state;

    put(shm, "x");
    shm_kick(shm);
    assert_false(is_kicked(shm));
    atomic_store(&shm->asleep, SHM_ASLEEP);
    put(shm, "x");
    assert_true(is_kicked(shm));
    shm_kick(shm);
    assert_true(is_kicked(shm));
}

static void a_nap_ends_when_a_ring_is_half_full(void **state)
{
    struct shm *shm = *state;
    static char text[SHM_RING_SIZE / 20];

    atomic_store(&shm->asleep, SHM_NAPPING);
    shm_kick(shm);
    for (int i = 0; i < 10; i++)
        assert_int_equal(shm_ring_write(shm, &shm->worker[0], 0, text, sizeof text), 0);
    assert_false(is_kicked(shm));
    for (int i = 0; i < 2; i++)
        assert_int_equal(shm_ring_write(shm, &shm->worker[0], 0, text, sizeof text), 0);
    assert_true(is_kicked(shm));
}

static void kicking_keeps_errno(void **state)
{
    struct shm *shm = *state;

    atomic_store(&shm->asleep, SHM_ASLEEP);
    close(shm->wake_fd);
    errno = EXDEV;
    shm_kick(shm);
    assert_int_equal(errno, EXDEV);
}

static void one_path_has_one_sink(void **state)
{
    struct shm *shm = *state;
    uint32_t a = 99, b = 99, c = 99;
    char path[PATH_MAX + 1];

    assert_int_equal(shm_sink_open(shm, "/a", &a), 0);
    assert_int_equal(shm_sink_open(shm, "/b", &b), 0);
    assert_int_equal(shm_sink_open(shm, "/a", &c), 0);
    assert_int_equal(a, c);
    assert_int_not_equal(a, b);
    for (int i = 2; i < SHM_SINKS; i++) {
        snprintf(path, sizeof path, "/%d", i);
        assert_int_equal(shm_sink_open(shm, path, &c), 0);
    }
    assert_int_equal(shm_sink_open(shm, "/too/many", &c), -ENOSPC);
    memset(path, 'x', PATH_MAX);
    path[PATH_MAX] = '\0';
    assert_int_equal(shm_sink_open(shm, path, &c), -ENAMETOOLONG);
}

static void a_sink_that_its_worker_died_over_is_passed_by(void **state)
{
    struct shm *shm = *state;
    uint32_t sink = 99;

    atomic_store(&shm->sink[0].state, SHM_SINK_CLAIMED);
    assert_int_equal(shm_sink_open(shm, "/a", &sink), 0);
    assert_int_equal(sink, 1);
}

/* Each line says how long it is and what number it has. */
static _Noreturn void write_for_ever(struct shm *shm)
{
    char text[600];

    for (uint64_t i = 0;; i++) {
        int n = snprintf(text, sizeof text, "%" PRIu64 " ", i);

        memset(text + n, 'a' + (int)(i % 26), sizeof text - (size_t)n);
        while (shm_ring_write(shm, &shm->worker[0], (uint32_t)(i % 26), text,
                              (size_t)n + i * 31 % 500) == -EAGAIN)
            ;
    }
}

static void read_and_check(struct shm *shm, uint64_t *n_lines)
{
    uint32_t sink;
    ssize_t n;

    while ((n = shm_ring_read(&shm->worker[0].ring, &sink, line)) != -EAGAIN) {
        uint64_t i;
        char *end;
        size_t head;

        assert_true(n > 0 && n < 600);
        line[n] = '\0';
        i = strtoull(line, &end, 10);
        head = (size_t)(end - line) + 1;
        assert_int_equal(n, head + i * 31 % 500);
        assert_int_equal(sink, i % 26);
        assert_true(strspn(line + head, (const char[]){(char)('a' + i % 26), '\0'}) ==
                    (size_t)n - head);
        ++*n_lines;
    }
}

/* A killed writer leaves whole lines only, and its successor goes on behind them. */
static void a_writer_killed_at_any_moment_leaves_whole_lines(void **state)
{
    struct shm *shm = *state;
    uint64_t n_lines = 0;

    srand(1);
    for (int round = 0; round < 60; round++) {
        pid_t pid = fork();
        struct timespec until = {.tv_nsec = rand() % 3000000};
        uint64_t n_before = n_lines;

        if (pid == 0)
            write_for_ever(shm);
        for (int i = 0; i < 10000 && n_lines == n_before; i++) { /* until it is at it */
            read_and_check(shm, &n_lines);
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        }
        for (int i = 0; i < 3; i++) {
            nanosleep(&until, NULL);
            read_and_check(shm, &n_lines);
        }
        kill(pid, SIGKILL);
        read_and_check(shm, &n_lines);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        read_and_check(shm, &n_lines);
        assert_int_equal(atomic_load(&shm->worker[0].ring.head),
                         atomic_load(&shm->worker[0].ring.tail));
    }
    assert_true(n_lines >= 60);
}

/* ---- connections ---- */

static void connections_of_workers_do_not_overlap(void **state)
{
    struct shm *shm = *state;
    int last = (int)shm->n_fds - 1;
    const char *end = (const char *)shm->admin; /* which is behind them */

    assert_true(shm->n_fds > 100);
    assert_non_null(shm_conn(shm, 0, last));
    assert_null(shm_conn(shm, 0, last + 1));
    assert_null(shm_conn(shm, 0, -1));
    assert_null(shm_conn(shm, 2, 0));
    assert_null(shm_replay(shm, 2));
    assert_true((char *)(shm_conn(shm, 0, last) + 1) <= shm_replay(shm, 0));
    assert_true(shm_replay(shm, 0) + SHM_REPLAY_SIZE <= (char *)shm_conn(shm, 1, 0));
    assert_true((char *)(shm->worker + shm->n_workers) <= (char *)shm_conn(shm, 0, 0));
    assert_ptr_equal(shm_replay(shm, 1) + SHM_REPLAY_SIZE, end);
    assert_int_equal(atomic_load(&shm->worker[1].call.fd), -1);
}

static struct shm_conn *conn_5(struct shm *shm, uint32_t slot)
{
    struct shm_conn *c = shm_conn(shm, slot, 5);

    if (c == NULL) /* assert_non_null() means nothing to the compiler */
        abort();
    return c;
}

static char *last_of_replay(struct shm *shm, uint32_t slot)
{
    char *area = shm_replay(shm, slot);

    if (area == NULL)
        abort();
    return area + SHM_REPLAY_SIZE - 1;
}

static void forgotten_connections_are_those_of_one_worker(void **state)
{
    struct shm *shm = *state;

    for (uint32_t slot = 0; slot < 2; slot++) {
        atomic_store(&conn_5(shm, slot)->flags, SHM_CONN_OPEN);
        *last_of_replay(shm, slot) = 'x';
    }
    shm_forget_conns(shm, 0);
    assert_int_equal(atomic_load(&conn_5(shm, 0)->flags), 0);
    assert_int_equal(*last_of_replay(shm, 0), 0);
    assert_int_equal(atomic_load(&conn_5(shm, 1)->flags), SHM_CONN_OPEN);
    assert_int_equal(*last_of_replay(shm, 1), 'x');
}

/* The admin process makes all else read-only for itself. */
static void what_the_admin_process_counts_in_has_pages_of_its_own(void **state)
{
    struct shm *shm = *state;
    char *admin = (char *)shm->admin;

    assert_int_equal((uintptr_t)admin % SHM_PAGE, 0);
    assert_ptr_equal(admin, (char *)shm + shm->size - SHM_PAGE);
    assert_true(admin >= shm->handover + shm->n_workers * shm->handover_size);
    assert_int_equal(mprotect(shm, (size_t)(admin - (char *)shm), PROT_READ), 0);
    atomic_fetch_add(&shm->admin->refused[REFUSAL_COUNT - 1], 1);
    assert_int_equal(atomic_load(&shm->admin->refused[REFUSAL_COUNT - 1]), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_shm, drop_shm)
        TEST(is_shared_with_children_at_the_same_address),
        TEST(lines_come_out_as_they_went_in),
        TEST(lines_survive_the_end_of_the_ring),
        TEST(a_full_ring_counts_what_it_drops_and_recovers),
        TEST(a_longer_line_is_cut),
        TEST(nonsense_in_a_ring_is_given_up),
        TEST(a_writer_does_not_follow_a_broken_tail),
        TEST(only_a_sleeper_is_woken),
        TEST(a_nap_ends_when_a_ring_is_half_full),
        TEST(kicking_keeps_errno),
        TEST(one_path_has_one_sink),
        TEST(a_sink_that_its_worker_died_over_is_passed_by),
        TEST(connections_of_workers_do_not_overlap),
        TEST(forgotten_connections_are_those_of_one_worker),
        TEST(what_the_admin_process_counts_in_has_pages_of_its_own),
        TEST(a_writer_killed_at_any_moment_leaves_whole_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
