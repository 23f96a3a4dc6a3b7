/*
 * test_killed.c - writers of the memory store that are killed in the middle: 300 by the instruction, 700
 * whenever it hits them. What was there before, or is after, is there whole; nothing is lost or counted
 * twice.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

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

#define KEYS 64

/* A value that tells whether it is whole: its number, and bytes that follow from it. */
static size_t make_value(uint32_t number, char *out)
{
    size_t n = 4 + number % 300;

    memcpy(out, &number, 4);
    for (size_t i = 4; i < n; i++)
        out[i] = (char)(number * 31 + i);
    return n;
}

static void expect_whole(struct store *s, const struct store_ns *ns, const char *k)
{
    char v[512], want[512];
    size_t n = sizeof v;
    uint64_t version;
    uint32_t number;
    int r = s->ops->get(s, ns, key(k), v, &n, &version);

    if (r == -ENOENT)
        return;
    assert_int_equal(r, 0);
    assert_true(n >= 4);
    memcpy(&number, v, 4);
    assert_int_equal(n, make_value(number, want));
    assert_memory_equal(v, want, n);
}

struct acks { /* shared with the writers */
    _Atomic uint64_t begun[2], done[2];
};

static void write_something(struct store *s, const struct store_ns *ns, uint32_t seed, bool stops,
                            struct acks *a)
{
    const struct store_bucket b = {1, 1e8, 1};
    char k[16], v[512];
    size_t n = make_value(seed, v);
    int64_t out;

    snprintf(k, sizeof k, "%u", seed % KEYS);
    if (stops) /* from here on each instruction counts */
        raise(SIGSTOP);
    switch (seed / KEYS % 5) {
    case 0:
    case 1: s->ops->set(s, ns, key(k), v, n, 0, 0); break;
    case 2: s->ops->del(s, ns, key(k)); break;
    case 3:
        atomic_fetch_add(&a->begun[0], 1);
        s->ops->add(s, ns, key("counter"), 1, 0, &out);
        atomic_fetch_add(&a->done[0], 1);
        break;
    case 4:
        atomic_fetch_add(&a->begun[1], 1);
        s->ops->bucket(s, ns, key("bucket"), &b, &out);
        atomic_fetch_add(&a->done[1], 1);
        break;
    default: break;
    }
}

static int64_t tokens_taken(struct store *s, const struct store_ns *ns)
{
    const struct store_bucket look = {1, 1e8, 0};
    int64_t left = 0;

    assert_int_equal(s->ops->bucket(s, ns, key("bucket"), &look, &left), 0);
    return 100000000 - left;
}

static void expect_counted(struct store *s, const struct store_ns *ns, struct acks *a)
{
    int64_t n = 0;

    assert_int_equal(s->ops->add(s, ns, key("counter"), 0, 0, &n), 0);
    assert_in_range(n, a->done[0], a->begun[0]);
    assert_in_range(tokens_taken(s, ns), a->done[1], a->begun[1]);
    /* What was begun and is not there was never done: agree on it for the next. */
    a->begun[0] = a->done[0] = (uint64_t)n;
    a->begun[1] = a->done[1] = (uint64_t)tokens_taken(s, ns);
}

static void expect_all(struct store *s, const struct store_ns *ns, struct acks *acks)
{
    char k[16];

    for (int j = 0; j < KEYS; j++) {
        snprintf(k, sizeof k, "%d", j);
        expect_whole(s, ns, k);
    }
    expect_counted(s, ns, acks);
    expect_sound(memory);
}

/* Runs the child for so many instructions, and kills it. false: it had ended before. */
static bool kill_after(pid_t pid, long steps)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (long i = 0; i < steps && WIFSTOPPED(status); i++) {
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
    }
    if (!WIFSTOPPED(status))
        return false;
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return true;
}

/* Each of 300 writers is killed after another number of instructions of its operation. */
static void a_writer_killed_at_any_instruction_leaves_it_whole(void **state)
{
    struct store *s = open_memory();
    struct store_ns ns = {0};
    struct store_memory_stat stat;
    struct acks *acks = mmap(NULL, sizeof *acks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                             -1, 0);
    int n_killed = 0, n_tries = 0;

    (void)state;
    s->now_ns = fake_now_ns;
    assert_int_equal(s->ops->open_ns(s, "ns", &ns), 0);
    for (uint32_t i = 0; i < KEYS * 5; i++)
        write_something(s, &ns, i, false, acks);
    expect_counted(s, &ns, acks);
    for (uint32_t i = 0; n_killed < 300; i++) {
        uint32_t seed = (i * 2654435761u) >> 8;
        long steps = 100 + i * 7919 % 600; /* with that of raise() an operation has 300 to 800 */
        pid_t pid = fork();

        if (pid == 0) {
            ptrace(PTRACE_TRACEME, 0, NULL, NULL);
            write_something(s, &ns, seed, true, acks);
            _exit(0);
        }
        n_killed += kill_after(pid, steps);
        n_tries++;
        expect_all(s, &ns, acks);
        assert_true(i < 2000);
    }
    store_memory_stat(memory, &stat);
    print_message("%d killed, %d with a lock held; %d had ended\n", n_killed, (int)stat.repaired,
                  n_tries - n_killed);
    assert_true(stat.repaired > 30); /* else they were not killed where it counts */
    munmap(acks, sizeof *acks);
    close_memory(s);
}

/* The repair itself is cut off, again and again, until it gets to its end. */
static void a_repair_that_is_killed_is_begun_anew(void **state)
{
    struct store *s = open_memory();
    struct store_ns ns = {0};
    struct view v;
    char k[16], value[512];
    bool was_whole = false;

    (void)state;
    s->now_ns = fake_now_ns;
    assert_int_equal(s->ops->open_ns(s, "ns", &ns), 0);
    for (uint32_t i = 0; i < 2000; i++) {
        snprintf(k, sizeof k, "%u", i);
        assert_int_equal(s->ops->set(s, &ns, key(k), value, make_value(i, value), 0, 0), 0);
    }
    v = shard_view(memory->seg, 3);
    for (long steps = 50; !was_whole; steps = steps * 3) {
        pid_t pid = fork();

        if (pid == 0) { /* dies with the lock; the next ones in the repair */
            int r = pthread_mutex_lock(&v.shard->lock);

            ptrace(PTRACE_TRACEME, 0, NULL, NULL);
            raise(SIGSTOP);
            if (r == EOWNERDEAD)
                shard_repair(&v);
            _exit(0);
        }
        was_whole = !kill_after(pid, steps < 200000 ? steps : 200000) || steps > 200000;
    }
    expect_sound(memory);
    for (uint32_t i = 0; i < 2000; i++) {
        snprintf(k, sizeof k, "%u", i);
        expect_whole(s, &ns, k);
    }
    close_memory(s);
}

/* 700 of them, four at a time, killed whenever it hits them. */
static void writers_at_once_that_are_killed_lose_nothing(void **state)
{
    struct store *s = open_memory();
    struct store_ns ns = {0};
    struct acks *acks = mmap(NULL, sizeof *acks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                             -1, 0);

    (void)state;
    s->now_ns = fake_now_ns;
    assert_int_equal(s->ops->open_ns(s, "ns", &ns), 0);
    for (int round = 0; round < 175; round++) {
        pid_t pid[4];

        for (int i = 0; i < 4; i++) {
            pid[i] = fork();
            if (pid[i] == 0)
                for (uint32_t n = (uint32_t)(round * 4 + i) * 7919;; n++)
                    write_something(s, &ns, n * 2654435761u >> 8, false, acks);
        }
        usleep(1000 + (useconds_t)round * 131 % 700);
        for (int i = 0; i < 4; i++)
            kill(pid[i], SIGKILL);
        for (int i = 0; i < 4; i++)
            waitpid(pid[i], NULL, 0);
        expect_all(s, &ns, acks);
    }
    munmap(acks, sizeof *acks);
    close_memory(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_writer_killed_at_any_instruction_leaves_it_whole),
        cmocka_unit_test(a_repair_that_is_killed_is_begun_anew),
        cmocka_unit_test(writers_at_once_that_are_killed_lose_nothing),
    };

    return cmocka_run_group_tests_name("killed writers", tests, NULL, NULL);
}
