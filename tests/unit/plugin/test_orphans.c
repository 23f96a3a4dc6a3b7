/*
 * test_orphans.c - folders of masters that were killed go; those of others, and what only looks like one, stay.
 */
#include "plugin/orphans.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char tmp[128];
static pid_t dead; /* was somebody's */

static int set_up(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    snprintf(tmp, sizeof tmp, "%s/orphans-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(tmp) == NULL)
        return -1;
    dead = fork();
    if (dead == 0)
        _exit(0);
    waitpid(dead, NULL, 0);
    return 0;
}

static int tear_down(void **state)
{
    char command[256];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", tmp);
    return system(command);
}

static char *in_tmp(char *buf, const char *name)
{
    snprintf(buf, 256, "%s/%s", tmp, name);
    return buf;
}

static void touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

/* A folder with copies, as a master of that number has it. */
static void make(pid_t pid, const char *suffix, char *path)
{
    char file[512];

    snprintf(path, 256, "%s/bulkhead-%d-%s", tmp, (int)pid, suffix);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(file, sizeof file, "%s/fresh", path);
    assert_int_equal(mkdir(file, 0700), 0);
    snprintf(file, sizeof file, "%s/fresh/1-x.so", path);
    touch(file);
    snprintf(file, sizeof file, "%s/1-x.so", path);
    touch(file);
}

static void those_of_dead_masters_go(void **state)
{
    char a[256], b[256];

    (void)state;
    make(dead, "abcdef", a);
    make(dead, "ABCDEF", b);
    orphans_remove(tmp);
    assert_int_equal(access(a, F_OK), -1);
    assert_int_equal(access(b, F_OK), -1);
}

static void those_of_the_living_stay(void **state)
{
    char by_pid[256], by_lock[256];
    int fd;

    (void)state;
    make(getpid(), "abcdef", by_pid);
    make(dead, "locked", by_lock); /* of another pid namespace, say: the lock tells */
    fd = open(by_lock, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    orphans_remove(tmp);
    assert_int_equal(access(by_pid, F_OK), 0);
    assert_int_equal(access(by_lock, F_OK), 0);
    close(fd);
    orphans_remove(tmp);
    assert_int_equal(access(by_lock, F_OK), -1);
}

/* The lock outlives the process that took it for as long as one of its children has it. */
static void a_child_of_a_dead_master_keeps_its_folder(void **state)
{
    char path[256], byte;
    int ready[2], end[2];
    pid_t master;

    (void)state;
    make(dead, "parent", path);
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(end), 0);
    master = fork();
    if (master == 0) {
        orphans_mark(path);
        if (fork() == 0) {
            close(end[1]);
            if (write(ready[1], "", 1) != 1 || read(end[0], &byte, 1) != 0)
                _exit(1);
        }
        _exit(0);
    }
    waitpid(master, NULL, 0);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    orphans_remove(tmp);
    assert_int_equal(access(path, F_OK), 0);
    close(end[1]); /* it ends */
    for (int i = 0; i < 500 && access(path, F_OK) == 0; i++) {
        usleep(10000);
        orphans_remove(tmp);
    }
    assert_int_equal(access(path, F_OK), -1);
    close(end[0]);
    close(ready[0]);
    close(ready[1]);
}

static void nothing_is_followed_or_guessed(void **state)
{
    static const char *const names[] = {"bulkhead-x-abcdef", "bulkhead--1-abcdef",
                                        "bulkhead-test-abcdef", "bulkhead-0-abcdef",
                                        "other-1-abcdef"};
    char path[256], target[256], file[300], link_name[64];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(mkdir(in_tmp(path, names[i]), 0755), 0);
    assert_int_equal(mkdir(in_tmp(target, "precious"), 0755), 0);
    snprintf(file, sizeof file, "%s/x", target);
    touch(file);
    snprintf(link_name, sizeof link_name, "bulkhead-%d-linked", (int)dead);
    assert_int_equal(symlink(target, in_tmp(path, link_name)), 0);
    orphans_remove(tmp);
    assert_int_equal(access(file, F_OK), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(access(in_tmp(path, names[i]), F_OK), 0);
}

/* Whoever may write into "fresh" puts a link in its place. */
static void a_link_within_is_removed_and_not_followed(void **state)
{
    char path[256], target[256], file[300], fresh[300];

    (void)state;
    make(dead, "within", path);
    snprintf(file, sizeof file, "%s/fresh/1-x.so", path);
    assert_int_equal(unlink(file), 0);
    snprintf(fresh, sizeof fresh, "%s/fresh", path);
    assert_int_equal(rmdir(fresh), 0);
    assert_int_equal(mkdir(in_tmp(target, "precious"), 0755), 0);
    snprintf(file, sizeof file, "%s/x", target);
    touch(file);
    assert_int_equal(symlink(target, fresh), 0);
    orphans_remove(tmp);
    assert_int_equal(access(file, F_OK), 0);
    assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
#define T(NAME) cmocka_unit_test_setup_teardown(NAME, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(those_of_dead_masters_go),
        T(those_of_the_living_stay),
        T(a_child_of_a_dead_master_keeps_its_folder),
        T(nothing_is_followed_or_guessed),
        T(a_link_within_is_removed_and_not_followed),
    };

    return cmocka_run_group_tests_name("orphans", tests, NULL, NULL);
}
