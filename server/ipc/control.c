#include "ipc/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"

/* FNV-1a. */
static uint64_t hash_on(uint64_t h, const char *s)
{
    for (; *s != '\0'; s++)
        h = (h ^ (uint8_t)*s) * 0x100000001b3u;
    return h;
}

static int folder(int i, char *buf, size_t size)
{
    const char *env;
    int n;

    switch (i) {
    case 0:
        env = getenv("RUNTIME_DIRECTORY");
        if (env == NULL || env[0] != '/')
            return -EAGAIN;
        n = snprintf(buf, size, "%.*s", (int)strcspn(env, ":"), env);
        break;
    case 1: n = snprintf(buf, size, "/run/bulkhead"); break;
    case 2:
        env = getenv("XDG_RUNTIME_DIR");
        if (env == NULL || env[0] != '/')
            return -EAGAIN;
        n = snprintf(buf, size, "%s/bulkhead", env);
        break;
    case 3: n = snprintf(buf, size, "/tmp/bulkhead-%ld", (long)geteuid()); break;
    default: return -ENOENT;
    }
    return n > 0 && (size_t)n < size ? 0 : -EAGAIN;
}

int control_path(const char *dir, const char *base, int i, char path[CONTROL_PATH_MAX])
{
    uint64_t h = hash_on(hash_on(hash_on(0xcbf29ce484222325u, dir), "/"), base);
    char where[CONTROL_PATH_MAX];
    int r = folder(i, where, sizeof where);

    if (r < 0)
        return r;
    return snprintf(path, CONTROL_PATH_MAX, "%s/%016llx.sock", where, (unsigned long long)h) <
                   CONTROL_PATH_MAX
               ? 0
               : -EAGAIN;
}

/* ---- asking ---- */

static int read_all(int fd, void *p, size_t n)
{
    for (size_t got = 0; got < n;) {
        ssize_t r = recv(fd, (char *)p + got, n - got, 0);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return errno == EAGAIN ? -ETIMEDOUT : errno == ECONNRESET ? -EPROTO : -errno;
        if (r == 0)
            return -EPROTO;
        got += (size_t)r;
    }
    return 0;
}

static int open_client(const char *path, int timeout_ms, pid_t *pid)
{
    struct timeval patience = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;
    struct ucred peer;
    socklen_t len = sizeof peer;

    if (fd < 0)
        return -errno;
    if (strlen(path) >= sizeof addr.sun_path) {
        fd_close(&fd);
        return -ENAMETOOLONG;
    }
    strncpy(addr.sun_path, path, sizeof addr.sun_path - 1);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&addr, sizeof addr) < 0) {
        r = errno == EAGAIN ? -ETIMEDOUT : -errno;
        fd_close(&fd);
        return r;
    }
    if (pid != NULL && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        *pid = peer.pid;
    return fd;
}

static int read_reply(int fd, struct control_reply *reply, char **text)
{
    char *p;
    int r = read_all(fd, reply, sizeof *reply);

    if (r < 0)
        return r;
    if (reply->magic != CONTROL_MAGIC || reply->version != CONTROL_VERSION ||
        reply->text_len > CONTROL_TEXT_MAX)
        return -EPROTO;
    if (text == NULL || reply->text_len == 0)
        return 0;
    p = malloc((size_t)reply->text_len + 1);
    if (p == NULL)
        return -ENOMEM;
    r = read_all(fd, p, reply->text_len);
    if (r < 0) {
        free(p);
        return r;
    }
    p[reply->text_len] = '\0';
    *text = p;
    return 0;
}

/* Within the time-out of each step, set on the socket. */
static int send_all(int fd, const void *p, size_t n)
{
    for (size_t sent = 0; sent < n;) {
        ssize_t r = send(fd, (const char *)p + sent, n - sent, MSG_NOSIGNAL);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return errno == EAGAIN ? -ETIMEDOUT : -EPROTO;
        sent += (size_t)r;
    }
    return 0;
}

static int ask(int fd, enum control_command command, int argument, const char *said,
               struct control_reply *reply, char **text)
{
    size_t n = said != NULL ? strlen(said) : 0;
    struct control_request request = {.magic = CONTROL_MAGIC,
                                      .version = CONTROL_VERSION,
                                      .command = (uint16_t)command,
                                      .argument = argument,
                                      .text_len = (uint32_t)n};
    int r = n > CONTROL_ASK_MAX ? -EMSGSIZE : send_all(fd, &request, sizeof request);

    if (r == 0 && n > 0)
        r = send_all(fd, said, n);
    return r == 0 ? read_reply(fd, reply, text) : r;
}

int control_ask(const char *path, enum control_command command, int argument, const char *said,
                int timeout_ms, struct control_reply *reply, char **text, pid_t *pid)
{
    int fd = open_client(path, timeout_ms, pid), r;

    if (text != NULL)
        *text = NULL;
    if (fd < 0)
        return fd;
    r = ask(fd, command, argument, said, reply, text);
    fd_close(&fd);
    return r;
}

int control_follow(const char *path, int timeout_ms, struct control_stream *s,
                   struct control_reply *reply, char **text)
{
    pid_t master = 0;
    int fd = open_client(path, timeout_ms, &master), r;

    *text = NULL;
    if (fd < 0)
        return fd;
    if (master != s->master)
        s->last = 0;
    r = ask(fd, CONTROL_FOLLOW, s->last, NULL, reply, text);
    if (r < 0) {
        fd_close(&fd);
        return r;
    }
    s->fd = fd;
    s->master = master;
    return 0;
}

int control_next(const struct control_stream *s, struct control_reply *reply, char **text)
{
    *text = NULL;
    return read_reply(s->fd, reply, text);
}
