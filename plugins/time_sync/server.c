/*
 * server.c - the TIME service: four bytes to whoever asks.
 *
 * All workers listen at the same addresses (SO_REUSEPORT). A datagram from a port at which another
 * such service may listen is not answered, so that nobody can set two of them against each other.
 */
#include "server.h"

#include "source.h"
#include "wire.h"

#include <bulkhead.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PER_SECOND \
    5000         /* answers; the rest is dropped. The thread must not take a CPU for itself */
#define BATCH 64 /* of one socket, before another gets its turn */

struct time_server {
    pthread_t thread;
    int stop_fd;
    struct pollfd fd[LISTEN_MAX + 1]; /* the last: stop_fd */
    uint8_t is_tcp[LISTEN_MAX];
    size_t n;
    int64_t (*now)(void *);
    void *arg;
    int64_t second;
    unsigned answered; /* in that second */
};

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

/* As a source with another scheme. */
static const char *parse(const char *address, int *is_tcp, struct source *out)
{
    char text[300];

    *is_tcp = strncmp(address, "tcp://", 6) == 0;
    if (!*is_tcp && strncmp(address, "udp://", 6) != 0)
        return "is neither udp://ADDRESS:PORT nor tcp://ADDRESS:PORT";
    snprintf(text, sizeof text, "time+%s", address);
    return source_parse(text, out);
}

const char *time_server_check(const char *address)
{
    struct source s;
    int is_tcp;

    return parse(address, &is_tcp, &s);
}

static int listen_at(const char *address, int *is_tcp, char *why, size_t size)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE}, *list = NULL;
    struct source s;
    int fd, r, one = 1;

    if (parse(address, is_tcp, &s) != NULL)
        return -EINVAL;
    hints.ai_socktype = *is_tcp ? SOCK_STREAM : SOCK_DGRAM;
    r = getaddrinfo(s.host, s.port, &hints, &list);
    if (r != 0) {
        snprintf(why, size, "%s: %s", address, gai_strerror(r));
        return -EINVAL;
    }
    fd = socket(list->ai_family, hints.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        (list->ai_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) != 0) ||
        bind(fd, list->ai_addr, list->ai_addrlen) != 0 || (*is_tcp && listen(fd, 64) != 0)) {
        snprintf(why, size, "%s: %s%s", address, strerror(errno),
                 errno == EACCES ? " (ports below 1024 need CAP_NET_BIND_SERVICE)" : "");
        if (fd >= 0)
            close(fd);
        fd = -EIO;
    }
    freeaddrinfo(list);
    return fd;
}

static int may_answer(struct time_server *s)
{
    int64_t second = bh_now_ns(BH_CLOCK_MONO) / 1000000000;

    if (second != s->second) {
        s->second = second;
        s->answered = 0;
    }
    return s->answered++ < PER_SECOND;
}

/* echo, discard, daytime, chargen, time, ntp, and 0: services that answer an answer, or nobody. */
static int is_service(const union address *from)
{
    static const uint16_t ports[] = {0, 7, 9, 13, 17, 19, 37, 123};
    /* At the same place in both families. */
    uint16_t port = ntohs(from->in.sin_port);

    for (size_t i = 0; i < sizeof ports / sizeof ports[0]; i++)
        if (port == ports[i])
            return 1;
    return 0;
}

static void serve_udp(struct time_server *s, int fd)
{
    unsigned char out[TIME_BYTES], in[8];

    for (int i = 0; i < BATCH; i++) {
        union address from = {.in = {0}};
        socklen_t len = sizeof from;

        if (recvfrom(fd, in, sizeof in, 0, &from.any, &len) < 0)
            return;
        if (is_service(&from) || !may_answer(s))
            continue;
        time_to_wire(s->now(s->arg), out);
        sendto(fd, out, sizeof out, MSG_NOSIGNAL, &from.any, len);
    }
}

/* Four bytes always fit into a new connection's buffer. */
static void serve_tcp(struct time_server *s, int fd)
{
    unsigned char out[TIME_BYTES];

    for (int i = 0; i < BATCH; i++) {
        int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (client < 0) {
            if (errno == EMFILE || errno == ENFILE)
                poll(NULL, 0, 10); /* it stays ready: do not spin */
            return;
        }
        if (may_answer(s)) {
            time_to_wire(s->now(s->arg), out);
            send(client, out, sizeof out, MSG_NOSIGNAL);
        }
        close(client);
    }
}

static void *run(void *arg)
{
    struct time_server *s = arg;

    while (poll(s->fd, s->n + 1, -1) >= 0 || errno == EINTR) {
        if (s->fd[s->n].revents != 0)
            break;
        for (size_t i = 0; i < s->n; i++) {
            if (s->fd[i].revents != 0 && s->is_tcp[i])
                serve_tcp(s, s->fd[i].fd);
            else if (s->fd[i].revents != 0)
                serve_udp(s, s->fd[i].fd);
        }
    }
    return NULL;
}

static void destroy(struct time_server *s)
{
    for (size_t i = 0; i < s->n; i++)
        close(s->fd[i].fd);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    free(s);
}

struct time_server *time_server_start(const char *const *address, size_t n, int64_t (*now)(void *),
                                      void *arg, char *why, size_t size)
{
    struct time_server *s = calloc(1, sizeof *s);
    int r = ENOMEM;

    if (s == NULL)
        return NULL;
    s->now = now;
    s->arg = arg;
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (size_t i = 0; i < n && i < LISTEN_MAX; i++) {
        int is_tcp, fd = listen_at(address[i], &is_tcp, why, size);

        if (fd < 0) {
            destroy(s);
            return NULL;
        }
        s->is_tcp[i] = (uint8_t)is_tcp;
        s->fd[s->n++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    s->fd[s->n] = (struct pollfd){.fd = s->stop_fd, .events = POLLIN};
    if (s->stop_fd < 0 || (r = pthread_create(&s->thread, NULL, run, s)) != 0) {
        snprintf(why, size, "cannot start a thread: %s", strerror(r));
        destroy(s);
        return NULL;
    }
    return s;
}

void time_server_stop(struct time_server **sp)
{
    struct time_server *s = *sp;

    *sp = NULL;
    if (s == NULL)
        return;
    eventfd_write(s->stop_fd, 1);
    pthread_join(s->thread, NULL);
    destroy(s);
}
