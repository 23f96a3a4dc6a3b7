/*
 * test_memory.c - the memory store: the contract, and its allocator. What a killed writer leaves is in
 * test_killed.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "contract.h"
#include "sound.h"
#include "store/memory.h"
#include "store/memory_internal.h"

static struct store_memory *memory;
static int64_t clock_ns = 1000000000000000000;

static int64_t fake_now_ns(void)
{
    return clock_ns;
}

static struct store *open_memory(void)
{
    struct store *s = NULL;

    assert_int_equal(store_memory_create(4 << 20, &memory), 0);
    assert_int_equal(store_memory_open(memory, &s), 0);
    return s;
}

static void close_memory(struct store *s)
{
    store_close(&s);
    store_memory_destroy(&memory);
}

static struct store_key key(const char *text)
{
    return (struct store_key){text, strlen(text)};
}

static void the_whole_store_can_be_used_again_and_again(void **state)
{
    struct store *s = open_memory();
    struct store_ns ns = {0};
    struct store_memory_stat stat;
    char k[32], *v = calloc(1, STORE_VALUE_MAX);
    int least = 0;

    (void)state;
    s->now_ns = fake_now_ns;
    assert_int_equal(s->ops->open_ns(s, "ns", &ns), 0);
    for (int round = 0; round < 3; round++) {
        static const size_t sizes[] = {20, 700, STORE_VALUE_MAX, 100, 5000};
        int n = 0, refused = 0;

        for (int i = 0; refused < 100; i++) {
            snprintf(k, sizeof k, "%d", i);
            if (s->ops->set(s, &ns, key(k), v, sizes[i % 5], 1000, 0) == 0)
                n++;
            else
                refused++;
        }
        expect_sound(memory);
        if (round == 0)
            least = n;
        assert_int_equal(n, least); /* nothing is lost to a leak or to bits and pieces */
        clock_ns += 2000000000;
    }
    store_memory_stat(memory, &stat);
    assert_true(stat.refused >= 300 && stat.expired > 0);
    free(v);
    close_memory(s);
}

static void another_process_sees_it_by_its_descriptor(void **state)
{
    struct store *s = open_memory(), *again = NULL;
    struct store_memory *other = NULL;
    struct store_ns ns = {0};
    uint64_t version;
    char v[16];
    size_t n = sizeof v;
    int fd = open("/dev/null", 0);

    (void)state;
    assert_int_equal(s->ops->open_ns(s, "ns", &ns), 0);
    assert_int_equal(s->ops->set(s, &ns, key("k"), "v", 1, 0, 0), 0);
    assert_int_equal(store_memory_attach(store_memory_fd(memory), 8 << 20, &other), -EINVAL);
    assert_int_equal(store_memory_attach(fd, 4 << 20, &other), -EINVAL);
    assert_int_equal(store_memory_attach(store_memory_fd(memory), 4 << 20, &other), 0);
    assert_int_equal(store_memory_open(other, &again), 0);
    assert_int_equal(again->ops->get(again, &ns, key("k"), v, &n, &version), 0);
    assert_int_equal(n, 1);
    store_close(&again);
    store_memory_destroy(&other);
    close(fd);
    close_memory(s);
}

static size_t fill(uint32_t number, char *out)
{
    size_t n = 4 + number % 300;

    memcpy(out, &number, 4);
    for (size_t i = 4; i < n; i++)
        out[i] = (char)(number * 31 + i);
    return n;
}

/* Somebody wrote over an entry: that one is lost, and what its chain had behind it. */
static void what_was_scribbled_on_is_cut_off(void **state)
{
    struct store *s = open_memory();
    struct store_ns ns = {0};
    char k[16], value[512], want[512];
    uint64_t version;
    int n_left = 0;

    (void)state;
    s->now_ns = fake_now_ns;
    assert_int_equal(s->ops->open_ns(s, "ns", &ns), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        snprintf(k, sizeof k, "%u", i);
        assert_int_equal(s->ops->set(s, &ns, key(k), value, fill(i, value), 0, 0), 0);
    }
    for (uint32_t i = 0; i < MEMORY_SHARDS; i++) {
        struct view v = shard_view(memory->seg, i);
        uint32_t c = 0;

        while (v.chain[c] == NOWHERE)
            c++;
        memset(cell_at(&v, v.chain[c]), 0xa5, sizeof(struct entry));
        while (v.chain[++c] == NOWHERE)
            continue;
        ((struct entry *)cell_at(&v, v.chain[c]))->next = v.chain[c]; /* a loop */
        shard_repair(&v);
    }
    expect_sound(memory);
    for (uint32_t i = 0; i < 1000; i++) {
        size_t n = sizeof value;

        snprintf(k, sizeof k, "%u", i);
        if (s->ops->get(s, &ns, key(k), value, &n, &version) < 0)
            continue;
        n_left++;
        assert_int_equal(n, fill(i, want));
        assert_memory_equal(value, want, n);
    }
    assert_in_range(n_left, 900, 1000 - MEMORY_SHARDS);
    close_memory(s);
}

int main(void)
{
    static const struct contract_backend backend = {
        .name = "memory", .open = open_memory, .close = close_memory, .has_quota = true};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_whole_store_can_be_used_again_and_again),
        cmocka_unit_test(another_process_sees_it_by_its_descriptor),
        cmocka_unit_test(what_was_scribbled_on_is_cut_off),
    };
    int failed = contract_run(&backend);

    return failed + cmocka_run_group_tests_name("memory store", tests, NULL, NULL);
}
