#include "obs/log_out.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_MS 20 /* with a reader who was there a moment ago */

static _Atomic uint32_t n_lost;
static _Atomic bool has_no_room; /* the last line was lost */

int log_out_open_stderr(void)
{
    struct stat st;
    int fd = -1;

    if (fstat(STDERR_FILENO, &st) == 0 && S_ISFIFO(st.st_mode))
        fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    return fd >= 0 ? fd : STDERR_FILENO;
}

/* As write(2), but does not wait, whatever fd is; -EAGAIN. */
static ssize_t write_some(int fd, const char *p, size_t n)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    ssize_t w = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (w < 0 && errno == ENOTSOCK) {
        if (poll(&room, 1, 0) == 0)
            return -EAGAIN;
        w = write(fd, p, n);
    }
    return w < 0 ? -errno : w;
}

bool log_out_write(int fd, const char *p, size_t n)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    bool is_patient = !atomic_load(&has_no_room);

    while (n > 0) {
        ssize_t w = write_some(fd, p, n);

        if (w == -EINTR)
            continue;
        if (w == -EAGAIN && is_patient) {
            is_patient = false;
            poll(&room, 1, PATIENCE_MS);
            continue;
        }
        if (w < 0)
            break;
        p += w;
        n -= (size_t)w;
    }
    atomic_store(&has_no_room, n > 0);
    if (n > 0)
        atomic_fetch_add(&n_lost, 1);
    return n == 0;
}

uint32_t log_out_take_lost(void)
{
    return atomic_load(&has_no_room) ? 0 : atomic_exchange(&n_lost, 0);
}
