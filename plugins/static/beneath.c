/*
 * beneath.c - opens files below a folder, and never anywhere else.
 *
 * With openat2(2) the kernel sees to it, race-free, and symbolic links that stay below the folder
 * work. Without, the path is walked one component at a time and no symbolic link is followed.
 */
#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* O_NONBLOCK: a FIFO among the files must not stop the worker. */
#define READ_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

static int open_with_openat2(int dir_fd, const char *path)
{
    struct open_how how = {
        .flags = READ_FLAGS,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd = -1;

    /* EAGAIN: something was renamed meanwhile, the kernel could not be sure. */
    for (int tries = 0; tries < 8; tries++) {
        fd = syscall(SYS_openat2, dir_fd, *path ? path : ".", &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return fd < 0 ? -errno : (int)fd;
}

static int open_by_walking(int dir_fd, const char *path)
{
    char name[NAME_MAX + 1];
    int at = openat(dir_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC), fd, error;

    for (;;) {
        size_t n;

        if (at < 0)
            return -errno;
        path += strspn(path, "/");
        n = strcspn(path, "/");
        if (n >= sizeof name || (n == 2 && memcmp(path, "..", 2) == 0)) {
            close(at);
            return n == 2 ? -EXDEV : -ENAMETOOLONG;
        }
        memcpy(name, path, n);
        name[n] = '\0';
        path += n;
        fd = *path == '\0' ? openat(at, n ? name : ".", READ_FLAGS | O_NOFOLLOW)
                           : openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        error = errno;
        close(at);
        errno = error;
        if (fd < 0 || *path == '\0')
            return fd < 0 ? -errno : fd;
        at = fd;
    }
}

int beneath_open(int dir_fd, const char *path, bool walk)
{
    return walk ? open_by_walking(dir_fd, path) : open_with_openat2(dir_fd, path);
}

bool beneath_has_openat2(int dir_fd)
{
    int fd = open_with_openat2(dir_fd, "");

    if (fd >= 0)
        close(fd);
    return fd != -ENOSYS && fd != -EPERM;
}
