/*
 * fuzz_channel.c - any message of a worker to the master, and any file of plugins' state.
 *
 * libFuzzer. The first byte chooses: a message, with up to seven descriptors, or a state file.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "ipc/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void send_raw(int fd, const uint8_t *data, size_t n, unsigned n_fds)
{
    struct iovec iov = {(void *)(uintptr_t)data, n};
    union {
        char buf[CMSG_SPACE(7 * sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds > 0) {
        struct cmsghdr *c;
        int fds[7];

        for (unsigned i = 0; i < n_fds; i++)
            fds[i] = STDERR_FILENO;
        msg.msg_control = control.buf;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    (void)sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void receive(const uint8_t *data, size_t n, unsigned n_fds)
{
    static char text[CHANNEL_TEXT + 1];
    struct channel_message m;
    int pair[2], fds[CHANNEL_FDS];

    if (channel_open(pair) < 0)
        return;
    send_raw(pair[0], data, n, n_fds);
    if (channel_receive(pair[1], &m, fds, text) == 1) {
        if (m.n > n_fds || m.kind >= CHANNEL_KINDS || strlen(text) > m.text_len)
            abort();
        for (uint32_t i = 0; i < m.n; i++)
            if (m.entry[i].what >= ADOPT_KINDS || close(fds[i]) < 0)
                abort();
    }
    close(pair[0]);
    close(pair[1]);
}

static void find(const uint8_t *data, size_t n)
{
    int fd = state_create();
    const struct state_record *r;
    const void *bytes;
    const char *map;
    size_t size;

    if (fd < 0 || write(fd, data, n) != (ssize_t)n || state_map(fd, &map, &size) < 0) {
        close(fd);
        return;
    }
    r = state_find(map, size, "a", &bytes);
    if (r != NULL) {
        volatile uint32_t sum = 0;

        for (uint32_t i = 0; i < r->len; i++)
            sum += ((const uint8_t *)bytes)[i];
    }
    munmap((void *)(uintptr_t)map, size);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    if ((data[0] & 1) != 0)
        find(data + 1, n - 1);
    else
        receive(data + 1, n - 1, data[0] >> 1 & 7);
    return 0;
}
