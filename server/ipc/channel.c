#include "ipc/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAGIC       0x6268636eu /* "bhcn" */
#define HEADER_SIZE offsetof(struct channel_message, entry)

/* Room for a text and its descriptors on the way: several messages of the largest kind. */
#define BUFFER_SIZE (1 << 20)

union control {
    char buf[CMSG_SPACE(sizeof(int) * CHANNEL_FDS)];
    struct cmsghdr align;
};

int channel_open(int fds[2])
{
    int size = BUFFER_SIZE;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return -errno;
    /* Best effort: the kernel's limit may be lower, then messages queue at the sender's. */
    for (int i = 0; i < 2; i++)
        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return 0;
}

int channel_send(int fd, struct channel_message *m, const int *fds, const char *text)
{
    struct iovec iov[3] = {{m, HEADER_SIZE},
                           {m->entry, m->n * sizeof m->entry[0]},
                           {(void *)(uintptr_t)text, m->text_len}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 3};
    union control control;

    if (m->n > CHANNEL_FDS || m->text_len > CHANNEL_TEXT)
        return -EMSGSIZE;
    m->magic = MAGIC;
    if (m->n > 0) {
        struct cmsghdr *c;

        memset(&control, 0, sizeof control);
        msg.msg_control = control.buf;
        msg.msg_controllen = CMSG_SPACE(m->n * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(m->n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, m->n * sizeof(int));
    }
    for (;;) {
        if (sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno != EINTR)
            /* ETOOMANYREFS: too many descriptors are on their way already. */
            return errno == ENOBUFS || errno == ETOOMANYREFS ? -EAGAIN : -errno;
    }
}

/* All descriptors of the message, however many; those beyond CHANNEL_FDS cannot be (MSG_CTRUNC). */
static uint32_t take_fds(struct msghdr *msg, int fds[CHANNEL_FDS])
{
    uint32_t n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        size_t k;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < k && n < CHANNEL_FDS; i++, n++)
            memcpy(&fds[n], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
    }
    return n;
}

static int is_sound(const struct channel_message *m, size_t size, uint32_t n_fds, int flags)
{
    if ((flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || size < HEADER_SIZE || m->magic != MAGIC)
        return 0;
    if (m->kind == 0 || m->kind >= CHANNEL_KINDS || m->n > CHANNEL_FDS || m->n != n_fds ||
        m->text_len > CHANNEL_TEXT || size != HEADER_SIZE + m->n * sizeof m->entry[0] + m->text_len)
        return 0;
    for (uint32_t i = 0; i < m->n; i++)
        if (m->entry[i].what >= ADOPT_KINDS)
            return 0;
    return 1;
}

int channel_receive(int fd, struct channel_message *m, int fds[CHANNEL_FDS], char *text)
{
    static char buf[sizeof(struct channel_message) + CHANNEL_TEXT]; /* one thread receives */
    struct iovec iov = {buf, sizeof buf};
    union control control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.buf,
                         .msg_controllen = sizeof control.buf};
    uint32_t n_fds;
    ssize_t size;

    do {
        size = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    if (size < 0)
        return errno == EAGAIN ? 0 : errno == ECONNRESET ? -EPIPE : -errno;
    if (size == 0)
        return -EPIPE;
    n_fds = take_fds(&msg, fds);
    memset(m, 0, sizeof *m);
    memcpy(m, buf, (size_t)size < HEADER_SIZE ? (size_t)size : HEADER_SIZE);
    if (m->n <= CHANNEL_FDS && (size_t)size >= HEADER_SIZE + m->n * sizeof m->entry[0])
        memcpy(m->entry, buf + HEADER_SIZE, m->n * sizeof m->entry[0]);
    if (!is_sound(m, (size_t)size, n_fds, msg.msg_flags)) {
        for (uint32_t i = 0; i < n_fds; i++)
            close(fds[i]);
        return -EBADMSG;
    }
    memcpy(text, buf + HEADER_SIZE + m->n * sizeof m->entry[0], m->text_len);
    text[m->text_len] = '\0';
    return 1;
}
