#include "ipc/tally.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/address.h"

static const uint64_t key[2] = {0x0123456789abcdef, 0xfedcba9876543210};
static struct tally *tally;

static int set_up(void **state)
{
    (void)state;
    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return tally == MAP_FAILED ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return munmap(tally, sizeof *tally);
}

static int64_t add(const char *text, uint32_t limit)
{
    struct address a;

    assert_true(address_parse(&a, text, strlen(text), false));
    return tally_add(tally, key, &a, 64, limit);
}

static void an_address_has_its_limit_and_no_other_ones(void **state)
{
    int64_t seat = add("192.0.2.1", 2);

    (void)state;
    assert_true(seat > 0);
    assert_int_equal(add("192.0.2.1", 2), seat);
    assert_int_equal(add("192.0.2.1", 2), -EAGAIN);
    assert_int_equal(add("::ffff:192.0.2.1", 2), -EAGAIN);
    assert_true(add("192.0.2.2", 2) > 0);
    assert_int_equal(tally_count(tally, (uint32_t)seat), 2);
    tally_drop(tally, (uint32_t)seat);
    assert_int_equal(add("192.0.2.1", 2), seat);
}

static void an_ipv6_address_counts_by_its_prefix(void **state)
{
    struct address a, b;

    (void)state;
    assert_true(add("2001:db8:0:1::1", 2) > 0);
    assert_true(add("2001:db8:0:1:ffff::2", 2) > 0);
    assert_int_equal(add("2001:db8:0:1::3", 2), -EAGAIN);
    assert_true(add("2001:db8:0:2::1", 2) > 0);

    assert_true(address_parse(&a, "2001:db8::f0", 12, false));
    assert_true(address_parse(&b, "2001:db8::ef", 12, false));
    assert_true(tally_add(tally, key, &a, 124, 1) > 0);
    assert_true(tally_add(tally, key, &b, 124, 1) > 0);
    assert_int_equal(tally_add(tally, key, &b, 124, 1), -EAGAIN);
}

static void what_was_given_back_is_free_for_others(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        static int64_t seat[20000];
        char text[32];

        for (int i = 0; i < 20000; i++) {
            snprintf(text, sizeof text, "10.%d.%d.%d", round, i / 256, i % 256);
            seat[i] = add(text, 1);
            assert_true(seat[i] >= 0);
        }
        for (int i = 0; i < 20000; i++)
            tally_drop(tally, (uint32_t)seat[i]);
    }
    for (size_t i = 0; i < TALLY_SETS * TALLY_WAYS; i++)
        assert_int_equal(tally_count(tally, (uint32_t)i + 1), 0);
}

/* Most that would come together have a place; those that have none are let in. */
static void a_full_table_lets_in_and_does_not_count(void **state)
{
    size_t n_counted = 0, n_free = 0;
    char text[32];

    (void)state;
    for (int i = 0; i < 1 << 18; i++) {
        int64_t seat;

        snprintf(text, sizeof text, "11.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        seat = add(text, 1);
        assert_true(seat >= 0);
        n_counted += seat > 0;
        n_free += seat == 0;
    }
    assert_true(n_counted > TALLY_SETS * TALLY_WAYS * 9 / 10);
    assert_true(n_free > 0);
}

static void what_is_no_seat_is_left_alone(void **state)
{
    struct address unix_peer = {.family = AF_UNIX};

    (void)state;
    tally_drop(tally, 0);
    tally_drop(tally, UINT32_MAX);
    tally_drop(tally, 5); /* empty */
    assert_int_equal(tally_count(tally, 5), 0);
    assert_int_equal(tally_add(tally, key, &unix_peer, 64, 1), 0);
}

/* Processes that come and go for the same addresses: never more than the limit, and nothing is left. */
static void workers_agree_without_locks(void **state)
{
    enum { N = 4, ROUNDS = 20000, LIMIT = 3 };
    pid_t pid[N];

    (void)state;
    for (int i = 0; i < N; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            for (int k = 0; k < ROUNDS; k++) {
                int64_t seat = add(k % 2 ? "192.0.2.1" : "192.0.2.2", LIMIT);

                if (seat > 0 && tally_count(tally, (uint32_t)seat) > LIMIT)
                    _exit(1);
                if (seat > 0)
                    tally_drop(tally, (uint32_t)seat);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < N; i++) {
        int status;

        assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
        assert_int_equal(status, 0);
    }
    for (size_t i = 0; i < TALLY_SETS * TALLY_WAYS; i++)
        assert_int_equal(tally_count(tally, (uint32_t)i + 1), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_address_has_its_limit_and_no_other_ones),
        TEST(an_ipv6_address_counts_by_its_prefix),
        TEST(what_was_given_back_is_free_for_others),
        TEST(a_full_table_lets_in_and_does_not_count),
        TEST(what_is_no_seat_is_left_alone),
        TEST(workers_agree_without_locks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
