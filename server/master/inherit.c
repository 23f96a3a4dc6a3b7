#include "master/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "obs/log.h"

union address {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

static bool is_listening(int fd)
{
    int on = 0;
    socklen_t len = sizeof on;

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on != 0;
}

static int parse_fd(const char **text)
{
    char *end;
    long v = strtol(*text, &end, 10);

    if (end == *text || v < 3 || v > 1 << 20)
        return -1;
    *text = *end == ',' ? end + 1 : end;
    return (int)v;
}

/* sd_listen_fds(3), without its library. */
static int read_activation(struct inherit *in)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    bool is_for_us = pid != NULL && count != NULL && strtol(pid, NULL, 10) == getpid();
    long n = is_for_us ? strtol(count, NULL, 10) : 0;

    if (n > 0 && n <= 1024) {
        in->fd = calloc((size_t)n, sizeof in->fd[0]);
        if (in->fd == NULL)
            return -ENOMEM;
        in->is_activated = true;
    }
    for (int fd = 3; in->fd != NULL && fd < 3 + n; fd++) {
        if (!is_listening(fd)) {
            log_warn("LISTEN_FDS: descriptor %d is no listening socket; ignored", fd);
            continue;
        }
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); /* how it was made is not known */
        in->fd[in->n++] = fd;
    }
    if (is_for_us) {
        unsetenv("LISTEN_PID");
        unsetenv("LISTEN_FDS");
        unsetenv("LISTEN_FDNAMES");
    }
    return 0;
}

int inherit_read(struct inherit *in)
{
    const char *text = getenv(INHERIT_ENV), *at = text;
    int cap = 0;

    *in = (struct inherit){.channel_fd = -1};
    if (text == NULL)
        return read_activation(in);
    in->channel_fd = parse_fd(&at);
    for (const char *p = text; *p != '\0'; p++)
        cap += *p == ',';
    in->fd = calloc((size_t)cap + 1, sizeof in->fd[0]);
    if (in->fd == NULL)
        return -ENOMEM;
    while (in->channel_fd >= 0 && *at != '\0' && in->n < cap) {
        int fd = parse_fd(&at);

        if (fd < 0 || !is_listening(fd)) {
            log_warn(INHERIT_ENV ": %s is not what an old master hands over; ignored", text);
            break;
        }
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        in->fd[in->n++] = fd;
    }
    if (in->channel_fd >= 0 && fcntl(in->channel_fd, F_SETFD, FD_CLOEXEC) < 0)
        in->channel_fd = -1;
    unsetenv(INHERIT_ENV); /* text is gone with it */
    return 0;
}

static bool is_any_host(const struct sockaddr *sa)
{
    const union address *a = (const void *)sa;

    return sa->sa_family == AF_INET    ? a->in.sin_addr.s_addr == htonl(INADDR_ANY)
           : sa->sa_family == AF_INET6 ? IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr)
                                       : false;
}

bool inherit_is_same(const struct sockaddr *wanted, const struct sockaddr *have, bool any_host)
{
    const union address *w = (const void *)wanted, *h = (const void *)have;
    bool host_matters = !(any_host && is_any_host(wanted));

    if (wanted->sa_family != have->sa_family)
        return false;
    switch (wanted->sa_family) {
    case AF_INET:
        return (w->in.sin_port == 0 || w->in.sin_port == h->in.sin_port) &&
               (!host_matters || w->in.sin_addr.s_addr == h->in.sin_addr.s_addr);
    case AF_INET6:
        return (w->in6.sin6_port == 0 || w->in6.sin6_port == h->in6.sin6_port) &&
               (!host_matters || memcmp(&w->in6.sin6_addr, &h->in6.sin6_addr, 16) == 0);
    case AF_UNIX: return strncmp(w->un.sun_path, h->un.sun_path, sizeof w->un.sun_path) == 0;
    default: return false;
    }
}

static int find(const struct inherit *in, const struct sockaddr *addr, socklen_t len)
{
    (void)len;
    for (int i = 0; i < in->n; i++) {
        union address have;
        socklen_t have_len = sizeof have;

        memset(&have, 0, sizeof have);
        if (in->fd[i] >= 0 && getsockname(in->fd[i], &have.sa, &have_len) == 0 &&
            inherit_is_same(addr, &have.sa, false))
            return i;
    }
    return -1;
}

bool inherit_has(const struct inherit *in, const struct sockaddr *addr, socklen_t len)
{
    return find(in, addr, len) >= 0;
}

int inherit_take(struct inherit *in, const struct sockaddr *addr, socklen_t len)
{
    int i = find(in, addr, len), fd;

    if (i < 0)
        return -1;
    fd = in->fd[i];
    in->fd[i] = -1;
    return fd;
}

void inherit_close(struct inherit *in)
{
    int n = 0;

    for (int i = 0; i < in->n; i++)
        n += in->fd[i] >= 0;
    if (in->is_activated && n > 0)
        log_warn("%d of the sockets that systemd opened are of no listener in the config: closed",
                 n);
    for (int i = 0; i < in->n; i++)
        fd_close(&in->fd[i]);
    free(in->fd);
    in->fd = NULL;
    in->n = 0;
}
