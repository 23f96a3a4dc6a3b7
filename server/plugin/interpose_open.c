/*
 * interpose_open.c - descriptors that plugins make are counted, and refused beyond their limit: ration.h.
 *
 * What libc opens for itself (fopen(), opendir(), getaddrinfo()) does not come by here; the streams
 * and folders of a plugin are counted in fopen() and opendir() as they are made. Closing is counted in
 * interpose_fd.c, and in fclose() and closedir(). Received over a Unix socket or made by a raw system
 * call, a descriptor is not counted.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "plugin/interpose.h"
#include "plugin/ration.h"

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#undef open
#undef open64
#undef openat
#undef openat64
#undef creat
#undef creat64

#define TAKER ration_taker(__builtin_return_address(0))

#define COUNTED(NAME, PARAMS, ARGS)                                           \
    int NAME PARAMS                                                           \
    {                                                                         \
        uint32_t plugin = TAKER;                                              \
        INTERPOSE_REAL(NAME);                                                 \
        return ration_allows(plugin, 1) ? ration_add(plugin, real ARGS) : -1; \
    }

COUNTED(creat, (const char *path, mode_t mode), (path, mode))
COUNTED(creat64, (const char *path, mode_t mode), (path, mode))
COUNTED(socket, (int domain, int type, int protocol), (domain, type, protocol))
COUNTED(accept, (int fd, struct sockaddr *addr, socklen_t *n), (fd, addr, n))
COUNTED(accept4, (int fd, struct sockaddr *addr, socklen_t *n, int flags), (fd, addr, n, flags))
COUNTED(dup, (int fd), (fd))
COUNTED(eventfd, (unsigned n, int flags), (n, flags))
COUNTED(epoll_create, (int n), (n))
COUNTED(epoll_create1, (int flags), (flags))
COUNTED(timerfd_create, (int clock, int flags), (clock, flags))
COUNTED(memfd_create, (const char *name, unsigned flags), (name, flags))
COUNTED(inotify_init, (void), ())
COUNTED(inotify_init1, (int flags), (flags))

/* The mode is there when the flags say so; read anyhow, it is of no consequence. */
#define COUNTED_OPEN(NAME, PARAMS, ARGS)                                        \
    int NAME PARAMS                                                             \
    {                                                                           \
        uint32_t plugin = TAKER;                                                \
        va_list args;                                                           \
        mode_t mode;                                                            \
                                                                                \
        INTERPOSE_REAL(NAME);                                                   \
        va_start(args, flags);                                                  \
        mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0; \
        va_end(args);                                                           \
        return ration_allows(plugin, 1) ? ration_add(plugin, real ARGS) : -1;   \
    }

COUNTED_OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
COUNTED_OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
COUNTED_OPEN(openat, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))
COUNTED_OPEN(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))

/* What the same calls become with _FORTIFY_SOURCE: without a mode. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);
COUNTED(__open_2, (const char *path, int flags), (path, flags))
COUNTED(__open64_2, (const char *path, int flags), (path, flags))
COUNTED(__openat_2, (int dir, const char *path, int flags), (dir, path, flags))
COUNTED(__openat64_2, (int dir, const char *path, int flags), (dir, path, flags))

int signalfd(int fd, const sigset_t *set, int flags)
{
    uint32_t plugin = fd < 0 ? TAKER : 0;

    INTERPOSE_REAL(signalfd);
    return ration_allows(plugin, 1) ? ration_add(plugin, real(fd, set, flags)) : -1;
}

static int add_two(uint32_t plugin, int r, const int fd[2])
{
    if (r == 0) {
        ration_add(plugin, fd[0]);
        ration_add(plugin, fd[1]);
    }
    return r;
}

int pipe(int fd[2])
{
    uint32_t plugin = TAKER;

    INTERPOSE_REAL(pipe);
    return ration_allows(plugin, 2) ? add_two(plugin, real(fd), fd) : -1;
}

int pipe2(int fd[2], int flags)
{
    uint32_t plugin = TAKER;

    INTERPOSE_REAL(pipe2);
    return ration_allows(plugin, 2) ? add_two(plugin, real(fd, flags), fd) : -1;
}

int socketpair(int domain, int type, int protocol, int fd[2])
{
    uint32_t plugin = TAKER;

    INTERPOSE_REAL(socketpair);
    return ration_allows(plugin, 2) ? add_two(plugin, real(domain, type, protocol, fd), fd) : -1;
}

/* Of fcntl()'s many commands two make a descriptor. */
#define COUNTED_FCNTL(NAME)                                                                 \
    int NAME(int fd, int command, ...)                                                      \
    {                                                                                       \
        bool makes = command == F_DUPFD || command == F_DUPFD_CLOEXEC;                      \
        uint32_t plugin = makes ? TAKER : 0;                                                \
        va_list args;                                                                       \
        void *arg;                                                                          \
                                                                                            \
        INTERPOSE_REAL(NAME);                                                               \
        va_start(args, command);                                                            \
        arg = va_arg(args, void *); /* as libc does it */                                   \
        va_end(args);                                                                       \
        if (!ration_allows(plugin, 1))                                                      \
            return -1;                                                                      \
        return makes ? ration_add(plugin, real(fd, command, arg)) : real(fd, command, arg); \
    }

COUNTED_FCNTL(fcntl)
COUNTED_FCNTL(fcntl64)

DIR *opendir(const char *path)
{
    uint32_t plugin = TAKER;
    DIR *dir;

    INTERPOSE_REAL(opendir);
    if (!ration_allows(plugin, 1))
        return NULL;
    dir = real(path);
    if (dir != NULL)
        ration_add(plugin, dirfd(dir));
    return dir;
}

int closedir(DIR *dir)
{
    int fd = dirfd(dir), r;

    INTERPOSE_REAL(closedir);
    r = real(dir);
    ration_remove(fd);
    return r;
}
