#include "plugin/orphans.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define SUFFIX     6   /* of mkdtemp() */
#define MOST       256 /* at a time: a start is not to take for ever */
#define OPEN_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int mark_fd = -1;

void orphans_mark(const char *dir)
{
    fd_close(&mark_fd);
    mark_fd = open(dir, OPEN_FLAGS);
    if (mark_fd >= 0)
        flock(mark_fd, LOCK_EX | LOCK_NB);
}

/* Takes over fd. */
static void empty_flat(int fd)
{
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e;

    if (d == NULL) {
        fd_close(&fd);
        return;
    }
    while ((e = readdir(d)) != NULL)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
}

void orphans_empty(int dir_fd)
{
    empty_flat(openat(dir_fd, "fresh", OPEN_FLAGS));
    unlinkat(dir_fd, "fresh", AT_REMOVEDIR);
    empty_flat(openat(dir_fd, ".", OPEN_FLAGS));
}

/* "bulkhead-PID-XXXXXX", and no process of that number lives: another one may have the folder, but not yet
 * its lock. */
static bool is_of_a_dead_one(const char *name)
{
    const char *at = name + sizeof ORPHANS_PREFIX - 1;
    char *end;
    long pid;

    if (strncmp(name, ORPHANS_PREFIX, sizeof ORPHANS_PREFIX - 1) != 0 || *at < '1' || *at > '9')
        return false;
    errno = 0;
    pid = strtol(at, &end, 10);
    return errno == 0 && pid == (pid_t)pid && *end == '-' && strlen(end + 1) == SUFFIX &&
           kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

static void remove_one(int tmp_fd, const char *name)
{
    int fd = openat(tmp_fd, name, OPEN_FLAGS);
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() &&
        flock(fd, LOCK_EX | LOCK_NB) == 0) {
        orphans_empty(fd);
        unlinkat(tmp_fd, name, AT_REMOVEDIR); /* of a link that took its place: no */
    }
    fd_close(&fd);
}

void orphans_remove(const char *tmp)
{
    DIR *d = opendir(tmp);
    const struct dirent *e;
    int n = 0;

    while (d != NULL && n < MOST && (e = readdir(d)) != NULL)
        if (is_of_a_dead_one(e->d_name)) {
            remove_one(dirfd(d), e->d_name);
            n++;
        }
    if (d != NULL)
        closedir(d);
}
