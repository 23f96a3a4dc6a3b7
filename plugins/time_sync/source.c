/*
 * source.c - one question and its answer, on a thread that may wait.
 *
 * A question goes out on a new socket, so on a new port: who wants to forge the answer must guess that
 * and the 64 random bits in the question. Forged or late answers are not failures; the right one may
 * still come.
 */
#include "source.h"

#include "wire.h"

#include <bulkhead.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define NS_PER_MS    1000000LL
#define PAUSE_MAX_NS (24 * 3600 * 1000000000LL)
#define SECOND_NS    1000000000LL

__attribute__((format(printf, 2, 3))) static int refuse(char why[SOURCE_WHY], const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, SOURCE_WHY, fmt, ap);
    va_end(ap);
    return -EIO;
}

/* ---- names -------------------------------------------------------------------------------- */

static int is_port(const char *p)
{
    size_t n = strlen(p);

    return n > 0 && n <= 5 && strspn(p, "0123456789") == n && atoi(p) > 0 && atoi(p) < 65536;
}

const char *source_parse(const char *text, struct source *out)
{
    static const struct {
        const char *prefix, *port;
        enum source_kind kind;
    } schemes[] = {{"ntp://", "123", SOURCE_NTP},
                   {"time+udp://", "37", SOURCE_TIME_UDP},
                   {"time+tcp://", "37", SOURCE_TIME_TCP}};
    const char *port = "123", *at = text, *end;
    size_t n;

    memset(out, 0, sizeof *out);
    out->kind = SOURCE_NTP;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        n = strlen(schemes[i].prefix);
        if (strncmp(text, schemes[i].prefix, n) != 0)
            continue;
        out->kind = schemes[i].kind;
        port = schemes[i].port;
        at = text + n;
    }
    if (strstr(at, "://") != NULL)
        return "is none of ntp://, time+udp:// and time+tcp://";
    if (*at == '[') {
        end = strchr(++at, ']');
        n = end != NULL ? (size_t)(end - at) : 0;
        end = end != NULL ? end + 1 : at;
    } else {
        n = strcspn(at, ":");
        end = at + n;
        if (*end == ':' && strchr(end + 1, ':') != NULL)
            return "has an IPv6 address without brackets: [::1]:123";
    }
    if (*end == ':')
        port = end + 1;
    else if (*end != '\0')
        return "has something behind the host that is not a port";
    if (n == 0 || n >= sizeof out->host)
        return "names no host";
    if (!is_port(port))
        return "has a port that is not 1 to 65535";
    memcpy(out->host, at, n);
    snprintf(out->port, sizeof out->port, "%s", port);
    return NULL;
}

/* ---- asking ------------------------------------------------------------------------------- */

/* What one exchange takes along. */
struct exchange {
    struct source *source;
    int fd, stop_fd;
    int64_t deadline_ns; /* monotonic */
    int64_t sent_ns, sent_mono_ns;
    char *why;
};

static int64_t mono_ns(void)
{
    return bh_now_ns(BH_CLOCK_MONO);
}

/* Waits for fd. 0, or -errno with the reason: time over, or we are to stop. */
static int wait_for(struct exchange *x, short events)
{
    struct pollfd p[2] = {{.fd = x->fd, .events = events}, {.fd = x->stop_fd, .events = POLLIN}};

    for (;;) {
        int64_t left = x->deadline_ns - mono_ns();
        int r = left > 0 ? poll(p, 2, (int)(left / NS_PER_MS) + 1) : 0;

        if (r == 0) {
            refuse(x->why, "no answer in time");
            return -ETIMEDOUT;
        }
        if (r < 0 && errno != EINTR)
            return refuse(x->why, "poll: %s", strerror(errno));
        if (r > 0 && p[1].revents != 0) {
            refuse(x->why, "stopped");
            return -ECANCELED;
        }
        if (r > 0 && p[0].revents != 0)
            return 0;
    }
}

static void mark_sent(struct exchange *x)
{
    x->sent_ns = bh_now_ns(BH_CLOCK_REAL);
    x->sent_mono_ns = mono_ns();
}

/* Our clock at the answer, as it would be had nobody set it meanwhile. */
static int64_t received_ns(const struct exchange *x)
{
    return x->sent_ns + (mono_ns() - x->sent_mono_ns);
}

static int open_socket(struct exchange *x)
{
    struct source *s = x->source;
    int type = s->kind == SOURCE_TIME_TCP ? SOCK_STREAM : SOCK_DGRAM, r, error = 0;
    struct addrinfo hints = {.ai_socktype = type}, *list = NULL;
    socklen_t len = sizeof error;

    r = getaddrinfo(s->host, s->port, &hints, &list);
    if (r != 0)
        return refuse(x->why, "%s", gai_strerror(r));
    r = -EIO;
    for (struct addrinfo *a = list; a != NULL && r < 0; a = a->ai_next) {
        x->fd = socket(a->ai_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (x->fd < 0) {
            refuse(x->why, "socket: %s", strerror(errno));
            continue;
        }
        mark_sent(x); /* of TCP, it is the SYN */
        if (connect(x->fd, a->ai_addr, a->ai_addrlen) == 0) {
            r = 0;
        } else if (errno != EINPROGRESS) {
            error = errno;
        } else if ((r = wait_for(x, POLLOUT)) == 0) {
            getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &error, &len);
            r = error != 0 ? -EIO : 0;
        }
        if (r == 0)
            break;
        if (error != 0)
            refuse(x->why, "connect: %s", strerror(error));
        close(x->fd);
        x->fd = -1;
        if (r == -ECANCELED)
            break;
    }
    freeaddrinfo(list);
    return r;
}

/* A kiss of death: later, or never again (RFC 5905 7.4). */
static int heed(struct source *s, enum wire_fault fault, int64_t interval_ns)
{
    if (fault == WIRE_KOD_DENY)
        s->not_before_ns = INT64_MAX;
    if (fault != WIRE_KOD_RATE)
        return -EIO;
    s->pause_ns = s->pause_ns == 0 ? 2 * interval_ns : 2 * s->pause_ns;
    s->pause_ns = s->pause_ns < PAUSE_MAX_NS ? s->pause_ns : PAUSE_MAX_NS;
    s->not_before_ns = mono_ns() + s->pause_ns;
    return -EIO;
}

static int ask_ntp(struct exchange *x, int64_t max_distance_ns, int64_t interval_ns,
                   struct answer *out)
{
    unsigned char packet[NTP_BYTES], reply[512];
    struct ntp_sample sample;
    enum wire_fault fault;
    uint64_t nonce;
    ssize_t n;
    int r;

    if (bh_random(&nonce, sizeof nonce) != BH_OK)
        return refuse(x->why, "no random numbers");
    nonce |= 1; /* zero would mean "no time" */
    ntp_request(nonce, packet);
    mark_sent(x);
    if (send(x->fd, packet, sizeof packet, MSG_NOSIGNAL) != (ssize_t)sizeof packet)
        return refuse(x->why, "send: %s", strerror(errno));
    for (;;) {
        r = wait_for(x, POLLIN);
        if (r < 0)
            return r;
        n = recv(x->fd, reply, sizeof reply, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n < 0)
            return refuse(x->why, "%s", strerror(errno));
        fault = ntp_reply(reply, (size_t)n, nonce, x->sent_ns, received_ns(x), max_distance_ns,
                          &sample);
        if (fault != WIRE_ORIGIN && fault != WIRE_SHORT && fault != WIRE_MODE)
            break;
    }
    if (fault != WIRE_OK) {
        refuse(x->why, "%s", wire_fault_name(fault));
        return heed(x->source, fault, interval_ns);
    }
    x->source->pause_ns = 0;
    *out = (struct answer){sample.offset_ns, sample.offset_ns, sample.distance_ns, sample.stratum};
    return 0;
}

static int ask_time(struct exchange *x, struct answer *out)
{
    unsigned char reply[TIME_BYTES + 1];
    size_t have = 0;
    int64_t now, server;
    int r;

    if (x->source->kind == SOURCE_TIME_UDP) {
        mark_sent(x);
        if (send(x->fd, "", 0, MSG_NOSIGNAL) != 0)
            return refuse(x->why, "send: %s", strerror(errno));
    }
    while (have < TIME_BYTES) {
        ssize_t n;

        r = wait_for(x, POLLIN);
        if (r < 0)
            return r;
        n = recv(x->fd, reply + have, sizeof reply - have, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n < 0)
            return refuse(x->why, "%s", strerror(errno));
        have = x->source->kind == SOURCE_TIME_UDP ? (size_t)n : have + (size_t)n;
        if (n == 0 || x->source->kind == SOURCE_TIME_UDP)
            break;
    }
    if (have != TIME_BYTES)
        return refuse(x->why, "%zu bytes, not 4", have);
    now = received_ns(x);
    server = time_from_wire(reply, now);
    /* At some moment between sending and receiving its clock showed this second, or a part of it. */
    *out = (struct answer){.low_ns = server - now,
                           .high_ns = server + SECOND_NS - x->sent_ns,
                           .error_ns = (SECOND_NS + now - x->sent_ns) / 2};
    return 0;
}

int source_ask(struct source *s, int stop_fd, int timeout_ms, int64_t max_distance_ns,
               int64_t interval_ns, struct answer *out, char why[SOURCE_WHY])
{
    struct exchange x = {.source = s, .fd = -1, .stop_fd = stop_fd, .why = why};
    int r;

    x.deadline_ns = mono_ns() + timeout_ms * NS_PER_MS;
    if (s->not_before_ns > mono_ns()) {
        refuse(why, "it asked us to wait (kiss of death)");
        return -EAGAIN;
    }
    r = open_socket(&x);
    if (r == 0)
        r = s->kind == SOURCE_NTP ? ask_ntp(&x, max_distance_ns, interval_ns, out)
                                  : ask_time(&x, out);
    if (x.fd >= 0)
        close(x.fd);
    return r;
}
