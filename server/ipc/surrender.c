#include "ipc/surrender.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ipc/channel.h"

struct sender {
    int channel_fd, patience_ms;
};

/* libc's nanosleep() is a cancellation point. */
static void sleep_a_ms(void)
{
    struct timespec t = {0, 1000000};

    syscall(SYS_nanosleep, &t, NULL);
}

static int send_patiently(struct sender *s, struct channel_message *m, const int *fds)
{
    int r;

    while ((r = channel_send(s->channel_fd, m, fds, NULL)) == -EAGAIN && s->patience_ms-- > 0)
        sleep_a_ms();
    return r;
}

/* One that is closed would keep the whole message back. */
static int send_batch(struct sender *s, struct channel_message *m, const int *fds)
{
    int r = send_patiently(s, m, fds);

    if (r != -EBADF)
        return r;
    for (uint32_t i = 0; i < m->n; i++) {
        struct channel_message one = {.kind = CHANNEL_SURRENDER, .n = 1, .entry = {m->entry[i]}};

        r = send_patiently(s, &one, &fds[i]);
        if (r < 0 && r != -EBADF)
            return r;
    }
    return 0;
}

int surrender(const struct shm *shm, uint32_t slot, int channel_fd, int patience_ms)
{
    struct sender s = {channel_fd, patience_ms};
    struct channel_message m = {.kind = CHANNEL_SURRENDER};
    int fds[CHANNEL_FDS], r = 0;

    for (int fd = 0; fd < (int)shm->n_fds && r >= 0; fd++) {
        struct shm_conn *conn = shm_conn(shm, slot, fd);

        if (conn == NULL || (atomic_load(&conn->flags) & SHM_CONN_OPEN) == 0)
            continue;
        fds[m.n] = fd;
        m.entry[m.n++] = (struct channel_entry){.fd = fd};
        if (m.n == CHANNEL_FDS) {
            r = send_batch(&s, &m, fds);
            m.n = 0;
        }
    }
    if (r >= 0 && m.n > 0)
        r = send_batch(&s, &m, fds);
    m.n = 0;
    return r < 0 ? r : send_patiently(&s, &m, NULL);
}
