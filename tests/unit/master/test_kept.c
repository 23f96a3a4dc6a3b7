/*
 * test_kept.c - objects that are kept over a restart.
 */
#include "master/kept.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "conf/config.h"

static char dir[64];

static void write_file(const char *path, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "an object", 9), 9);
    close(fd);
}

/* Root may write to everything: as somebody else. 0: the object is there, as it was. */
static int keep_as_nobody(const char *from)
{
    const struct config cfg = {.path = "c.yaml", .dir = dir, .state.dir = dir};
    char sum[DIGEST_TEXT], is[DIGEST_TEXT], part[256], *path = NULL, *again = NULL;
    int status;
    pid_t pid = fork();

    if (pid != 0) {
        waitpid(pid, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
        _exit(10);
    if (digest_file(from, sum) < 0 || kept_object(&cfg, from, sum, &path) < 0)
        _exit(11);
    /* Killed while it was copied, an earlier time. */
    if (unlink(path) < 0)
        _exit(12);
    snprintf(part, sizeof part, "%s.part", path);
    write_file(part, 0500);
    if (kept_object(&cfg, from, sum, &again) < 0)
        _exit(13);
    _exit(digest_file(again, is) == 0 && strcmp(is, sum) == 0 ? 0 : 14);
}

static void half_a_copy_of_one_who_was_killed_is_in_nobodys_way(void **state)
{
    char from[128], command[128];

    (void)state;
    strcpy(dir, "/tmp/kept-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0777), 0);
    snprintf(from, sizeof from, "%s/x.so", dir);
    write_file(from, 0644);
    assert_int_equal(keep_as_nobody(from), 0);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_a_copy_of_one_who_was_killed_is_in_nobodys_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
