/*
 * interpose_fd.c - plugins do not close the host's descriptors: hostfd.h.
 *
 * Refused with EBADF, as if the descriptor were not there, which for a plugin is the truth. Its own
 * it closes as ever. Raw system calls go round it, and so do freopen() of a standard stream and
 * closing on exec, which is harmless.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "plugin/hostfd.h"
#include "plugin/interpose.h"
#include "plugin/ration.h"

static bool is_refused(const char *function, int fd, const void *caller)
{
    if (!hostfd_has(fd) || !hostfd_is_guarded(caller))
        return false;
    hostfd_note(function, fd, caller);
    errno = EBADF;
    return true;
}

int close(int fd)
{
    INTERPOSE_REAL(close);
    if (hostfd_has(fd)) {
        if (is_refused("close()", fd, __builtin_return_address(0)))
            return -1;
        if (!recover_self.is_child_of_fork) /* whose table is a copy, but not after vfork() */
            hostfd_remove(fd);
    }
    if (!recover_self.is_child_of_fork)
        ration_remove(fd); /* before its number can be another one's */
    return real(fd);
}

/* What `to` was is closed, and what it becomes is that plugin's. */
static int count_copy(uint32_t plugin, int from, int to, int r)
{
    if (r >= 0 && from != to && !recover_self.is_child_of_fork) {
        ration_remove(to);
        ration_add(plugin, r);
    }
    return r;
}

int dup2(int from, int to)
{
    uint32_t plugin = ration_taker(__builtin_return_address(0));

    INTERPOSE_REAL(dup2);
    if (from != to && is_refused("dup2()", to, __builtin_return_address(0)))
        return -1;
    if (!ration_allows(plugin, 1))
        return -1;
    return count_copy(plugin, from, to, real(from, to));
}

int dup3(int from, int to, int flags)
{
    uint32_t plugin = ration_taker(__builtin_return_address(0));

    INTERPOSE_REAL(dup3);
    if (from != to && is_refused("dup3()", to, __builtin_return_address(0)))
        return -1;
    if (!ration_allows(plugin, 1))
        return -1;
    return count_copy(plugin, from, to, real(from, to, flags));
}

/* What lies between the host's descriptors is closed. -1 and EBADF: some were the host's. */
static int close_others(const char *function, unsigned first, unsigned last, unsigned flags,
                        const void *caller)
{
    bool is_whole = true;

    while (first <= last) {
        int host = hostfd_next(first > INT32_MAX ? INT32_MAX : (int)first);
        unsigned end = host >= 0 && (unsigned)host <= last ? (unsigned)host : last + 1;

        if (end != first)
            ration_remove_range(first, end - 1);
        if (end != first && syscall(SYS_close_range, first, end - 1, flags) < 0)
            return -1;
        if (end == last + 1)
            break;
        hostfd_note(function, host, caller);
        is_whole = false;
        first = end + 1;
    }
    if (!is_whole)
        errno = EBADF;
    return is_whole ? 0 : -1;
}

int close_range(unsigned first, unsigned last, int flags)
{
    INTERPOSE_REAL(close_range);
    if ((flags & (int)CLOSE_RANGE_CLOEXEC) != 0 || first > last ||
        !hostfd_is_guarded(__builtin_return_address(0)))
        return real(first, last, flags);
    return close_others("close_range()", first, last > INT32_MAX ? INT32_MAX : last,
                        (unsigned)flags, __builtin_return_address(0));
}

void closefrom(int first)
{
    INTERPOSE_REAL(closefrom);
    if (!hostfd_is_guarded(__builtin_return_address(0)))
        real(first);
    else
        close_others("closefrom()", first < 0 ? 0 : (unsigned)first, INT32_MAX, 0,
                     __builtin_return_address(0));
}
