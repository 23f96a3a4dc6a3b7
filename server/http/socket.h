/*
 * socket.h - the system calls of a client's connection, as cheap as they come.
 *
 * libc's recv() and its kin are cancellation points, which costs each of them two atomic operations in
 * a process with threads. The loop thread has cancellation off (plugin/landing.c), so plain system
 * calls do the same. And sendmsg() of a head and a small body costs 0.1 us more than send() of the two
 * copied together, 2 % of a request's time.
 */
#ifndef HTTP_SOCKET_H
#define HTTP_SOCKET_H

#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SOCKET_FLAT 2048 /* bytes up to which copying is cheaper */

static inline ssize_t socket_recv(int fd, void *buf, size_t size, int flags)
{
    return syscall(SYS_recvfrom, fd, buf, size, flags, NULL, NULL);
}

static inline ssize_t socket_send(int fd, const void *buf, size_t size, int flags)
{
    return syscall(SYS_sendto, fd, buf, size, flags, NULL, 0);
}

static inline ssize_t socket_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    char flat[SOCKET_FLAT];
    size_t n = 0;

    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        if (msg->msg_iov[i].iov_len > sizeof flat - n)
            return syscall(SYS_sendmsg, fd, msg, flags);
        memcpy(flat + n, msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len);
        n += msg->msg_iov[i].iov_len;
    }
    if (msg->msg_name != NULL || msg->msg_controllen > 0)
        return syscall(SYS_sendmsg, fd, msg, flags);
    return socket_send(fd, flat, n, flags);
}

#endif
