/*
 * farewell.c - the last answer on connections that another process left, and slow ends.
 *
 * What a newcomer would get wrong: a socket that is closed while it has unread input is reset, and
 * the reset may overtake the answer. So after the answer only one half is closed; what still comes in
 * is thrown away until the client closes, or for LINGER_MS.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/internal.h"
#include "obs/log.h"
#include "plugin/hostfd.h"

#define LINGER_MAX      1024
#define LINGER_MS       2000
#define TURNED_AWAY_MAX 256
#define STEP_MS         50 /* between looks at those that linger: their clients have been answered */

struct lingering {
    int fd;
    int64_t until_ms;
};

struct farewell {
    int n;
    int64_t next_ms;
    struct lingering v[LINGER_MAX];
};

/* A reset: an answer whose end is that of the connection would else look whole. */
static void cut(int fd)
{
    struct linger none = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(fd);
}

/* True: the client has closed too. */
static bool discard(int fd)
{
    char junk[16384];

    for (int i = 0; i < 16; i++) { /* bounded: it may send for ever */
        ssize_t n = recv(fd, junk, sizeof junk, MSG_DONTWAIT);

        if (n < 0)
            return errno != EAGAIN && errno != EINTR;
        if (n == 0)
            return true;
    }
    return false;
}

static void linger(struct front *f, int fd)
{
    struct farewell *w = f->farewell;
    int64_t now = clock_mono_ms();

    if (w == NULL)
        w = f->farewell = calloc(1, sizeof *w);
    if (w == NULL || w->n == LINGER_MAX) {
        close(fd);
        return;
    }
    if (w->n == 0)
        w->next_ms = now + STEP_MS;
    hostfd_add(
        fd); /* closed by a plugin, its number would be a stranger's, who would be read and cut */
    w->v[w->n++] = (struct lingering){.fd = fd, .until_ms = now + LINGER_MS};
}

/* Takes fd over. */
static void leave(struct front *f, int fd)
{
    shutdown(fd, SHUT_WR);
    if (discard(fd))
        close(fd);
    else
        linger(f, fd);
}

static int duplicate(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (copy >= 0)
        hostfd_add(copy);
    return copy;
}

void farewell_linger(struct front *f, int fd)
{
    int copy = duplicate(fd);

    if (copy >= 0)
        leave(f, copy);
}

void farewell_wrong_port(struct front *f, int fd)
{
    static const char body[] = "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,"
                               "\"detail\":\"this port speaks https, not http\"}\n";
    char text[512];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                     sizeof body - 1, body);
    int copy = duplicate(fd); /* what is sent over fd is encrypted */

    if (copy < 0)
        return;
    (void)send(copy, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    leave(f, copy);
}

static const char *title_of(int status)
{
    switch (status) {
    case 408: return "Request Timeout";
    case 503: return "Service Unavailable";
    default: return "Internal Server Error";
    }
}

int farewell_say(struct front *f, int fd, int status)
{
    char body[128], text[512];
    ssize_t sent;
    int n;

    snprintf(body, sizeof body, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d}\n",
             title_of(status), status);
    n = snprintf(text, sizeof text,
                 "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\n"
                 "Content-Length: %zu\r\n%sConnection: close\r\n\r\n%s",
                 status, title_of(status), strlen(body), status == 503 ? "Retry-After: 1\r\n" : "",
                 body);
    sent = send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent != n) {
        int r = sent < 0 ? -errno : -EAGAIN;

        cut(fd);
        return r;
    }
    leave(f, fd);
    return 0;
}

void farewell_turn_away(struct front *f, int fd, int status)
{
    if (f->farewell != NULL && f->farewell->n > TURNED_AWAY_MAX)
        close(fd);
    else
        farewell_say(f, fd, status);
}

int front_refuse(struct front *f, int fd, int status, const char *record_id)
{
    log_debug("a request that died with another process is %s; crash record %s",
              status <= 0 ? "cut short" : title_of(status),
              record_id != NULL ? record_id : "unknown");
    if (status == 0) {
        cut(fd);
        return 0;
    }
    if (status < 0) { /* without close_notify the client sees what is cut short */
        leave(f, fd);
        return 0;
    }
    return farewell_say(f, fd, status);
}

/* ---- from the loop ---- */

int farewell_timeout_ms(const struct front *f)
{
    return f->farewell != NULL && f->farewell->n > 0 ? STEP_MS : -1;
}

void farewell_run(struct front *f)
{
    struct farewell *w = f->farewell;
    int64_t now;

    if (w == NULL || w->n == 0)
        return;
    now = clock_mono_ms();
    if (now < w->next_ms)
        return;
    w->next_ms = now + STEP_MS;
    for (int i = w->n - 1; i >= 0; i--) {
        if (now < w->v[i].until_ms && !discard(w->v[i].fd))
            continue;
        close(w->v[i].fd);
        w->v[i] = w->v[--w->n];
    }
}

bool farewell_is_over(const struct front *f)
{
    return f->farewell == NULL || f->farewell->n == 0;
}

void farewell_destroy(struct front *f)
{
    while (!farewell_is_over(f))
        close(f->farewell->v[--f->farewell->n].fd);
    free(f->farewell);
    f->farewell = NULL;
}
