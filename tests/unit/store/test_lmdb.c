/*
 * test_lmdb.c - the contract on LMDB; that it is there again; and writers that are killed.
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "contract.h"
#include "store/lmdb.h"
#include "store/store.h"

static char dir[] = "/tmp/bulkhead-lmdb-XXXXXX";

static struct store *open_at(const char *name)
{
    char path[64], why[256] = "";
    struct store *s = NULL;
    int r;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    r = lmdb_open(path, 4 << 20, 200, why, sizeof why, &s);
    if (r == -ENOSYS)
        print_message("%s\n", why);
    else if (r < 0)
        fail_msg("%s", why);
    return s;
}

static struct store *open_new(void)
{
    static int n;
    char name[16];

    snprintf(name, sizeof name, "%d", n++);
    return open_at(name);
}

static void close_it(struct store *s)
{
    store_close(&s);
}

static struct store_key key(const char *text)
{
    return (struct store_key){text, strlen(text)};
}

static void it_is_there_again(void **state)
{
    struct store *s = open_at("again");
    struct store_ns ns = {0};
    char v[16];
    size_t n = sizeof v;
    uint64_t version;
    int64_t sum;

    (void)state;
    if (s == NULL) {
        skip();
        return;
    }
    assert_int_equal(s->ops->open_ns(s, "ns", &ns), 0);
    assert_int_equal(s->ops->set(s, &ns, key("k"), "value", 5, 0, 0), 0);
    assert_int_equal(s->ops->add(s, &ns, key("n"), 41, 0, &sum), 0);
    store_close(&s);
    s = open_at("again");
    if (s == NULL)
        return;
    assert_int_equal(s->ops->get(s, &ns, key("k"), v, &n, &version), 0);
    assert_int_equal(n, 5);
    assert_int_equal(s->ops->add(s, &ns, key("n"), 1, 0, &sum), 0);
    assert_int_equal(sum, 42);
    store_close(&s);
}

static void the_whole_store_can_be_used_again_and_again(void **state)
{
    struct store *s = open_new();
    struct store_ns ns = {0};
    char k[16], v[5000] = "";
    int first = 0;

    (void)state;
    if (s == NULL) {
        skip();
        return;
    }
    assert_int_equal(s->ops->open_ns(s, "ns", &ns), 0);
    for (int round = 0; round < 3; round++) {
        int n = 0, r;

        do {
            snprintf(k, sizeof k, "%d", n);
            r = s->ops->set(s, &ns, key(k), v, sizeof v, 0, 0);
        } while (r == 0 && n++ < 10000);
        assert_int_equal(r, -ENOSPC);
        if (round == 0)
            first = n;
        assert_int_equal(n, first);
        for (int i = 0; i < n; i++) {
            snprintf(k, sizeof k, "%d", i);
            assert_int_equal(s->ops->del(s, &ns, key(k)), 0);
        }
    }
    assert_true(first > 800);
    store_close(&s);
}

/* Four at a time count the same counter. */
static void writers_that_are_killed_lose_nothing(void **state)
{
    _Atomic long *acks = mmap(NULL, 2 * sizeof *acks, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct store_ns ns = {.name = "ns"};
    struct store *s = open_at("kill");
    int64_t n = 0;

    (void)state;
    if (s == NULL) {
        skip();
        return;
    }
    store_close(&s); /* nobody inherits it */
    for (int round = 0; round < 50; round++) {
        pid_t pid[4];

        for (int i = 0; i < 4; i++) {
            pid[i] = fork();
            if (pid[i] == 0)
                for (s = open_at("kill");;) {
                    int64_t sum;

                    acks[0]++;
                    if (s->ops->add(s, &ns, key("n"), 1, 0, &sum) == 0)
                        acks[1]++;
                }
        }
        /* Once they are at it, and then at some instruction or other. */
        for (int i = 0; i < 50000 && acks[1] < n + 4; i++)
            usleep(100);
        usleep((useconds_t)round * 331 % 3000);
        for (int i = 0; i < 4; i++)
            kill(pid[i], SIGKILL);
        for (int i = 0; i < 4; i++)
            waitpid(pid[i], NULL, 0);
        s = open_at("kill");
        if (s == NULL)
            return;
        assert_int_equal(s->ops->add(s, &ns, key("n"), 0, 0, &n), 0);
        store_close(&s);
        assert_in_range(n, acks[1], acks[0]);
    }
    print_message("%ld counted\n", (long)n);
    assert_true(n > 100);
    munmap((void *)acks, 2 * sizeof *acks);
}

int main(void)
{
    static const struct contract_backend backend = {
        .name = "lmdb", .open = open_new, .close = close_it, .has_quota = true};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_there_again),
        cmocka_unit_test(the_whole_store_can_be_used_again_and_again),
        cmocka_unit_test(writers_that_are_killed_lose_nothing),
    };
    char command[64];
    int failed;

    if (mkdtemp(dir) == NULL)
        return 1;
    failed = contract_run(&backend) + cmocka_run_group_tests_name("lmdb", tests, NULL, NULL);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return failed + (system(command) != 0);
}
