#include "http/deadline.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "conf/config.h"
#include "http/internal.h"
#include "http/tls.h"
#include "ipc/shm.h"
#include "plugin/host.h"

#define STALL_NS 2000000000 /* the loop turns at least once a second */
#define RUN_MAX  1024       /* in one turn: each may cost an answer */
#define QUIET_MS 100

static void set_kind(struct deadlines *d, enum deadline kind, uint32_t ms, uint32_t rate)
{
    d->of[kind].ns = (int64_t)ms * 1000000;
    d->of[kind].least = (uint64_t)rate * ms / 1000;
}

void deadline_init(struct deadlines *d, const struct config *cfg)
{
    d->read_ns = host_loop_mono_ns;
    for (int i = 0; i < DEADLINE_KINDS; i++)
        list_init(&d->of[i].conns);
    set_kind(d, DEADLINE_HANDSHAKE, cfg->limits.head_ms, 0);
    set_kind(d, DEADLINE_HEAD, cfg->limits.head_ms, 0);
    set_kind(d, DEADLINE_BODY, cfg->limits.body_ms, cfg->limits.body_rate);
    set_kind(d, DEADLINE_SEND, cfg->limits.send_ms, cfg->limits.send_rate);
    set_kind(d, DEADLINE_QUIET, QUIET_MS < cfg->limits.idle_ms ? QUIET_MS : cfg->limits.idle_ms, 0);
    set_kind(d, DEADLINE_IDLE, cfg->limits.idle_ms, 0);
    if (d->of[DEADLINE_BODY].least == 0)
        d->of[DEADLINE_BODY].least = 1;
    if (d->of[DEADLINE_SEND].least == 0)
        d->of[DEADLINE_SEND].least = 1;
}

void deadline_set(struct conn *c, enum deadline kind)
{
    struct deadlines *d = &c->listener->front->deadlines;

    list_remove(&c->due.node);
    c->due.kind = kind;
    c->due.at_ns = d->now_ns + d->of[kind].ns;
    c->due.moved = c->moved;
    list_append(&d->of[kind].conns, &c->due.node);
}

/* ---- from the loop ---- */

int deadline_timeout_ms(const struct front *f)
{
    const struct deadlines *d = &f->deadlines;
    int64_t least = INT64_MAX;

    for (int i = DEADLINE_HANDSHAKE; i < DEADLINE_KINDS; i++) {
        const struct list *conns = &d->of[i].conns;

        if (!list_is_empty(conns) &&
            list_entry(conns->next, struct conn, due.node)->due.at_ns < least)
            least = list_entry(conns->next, struct conn, due.node)->due.at_ns;
    }
    if (least == INT64_MAX)
        return -1;
    least -= d->now_ns;
    return least <= 0 ? 0 : least > 60000000000 ? 60000 : (int)(least / 1000000) + 1;
}

void deadline_tick(struct deadlines *d)
{
    int64_t step = host_loop_mono_ns - d->read_ns;

    d->read_ns = host_loop_mono_ns;
    if (step > 0)
        d->now_ns += step < STALL_NS ? step : STALL_NS;
}

static void shut(struct conn *c)
{
    deadline_clear(&c->due);
    tls_bye(c);
    c->is_ended = true;
    c->listener->front->n_ended++;
    shutdown(c->fd, SHUT_RDWR);
}

/* The library is told by an event, and closes. What the kernel still has to send is given up: its
 * memory is what a slow reader is after, and it would keep that of a closed connection for minutes. */
static void end(struct conn *c, enum shm_limit why)
{
    struct linger none = {.l_onoff = 1};
    int unsent = 0;

    front_count_limit(c->listener->front, why);
    if (ioctl(c->fd, SIOCOUTQ, &unsent) == 0 && unsent > 0)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    shut(c);
}

/* A client that closes its half right behind its request is answered, and then nothing would happen
 * any more: its end came in one event with the request, and the library, whose epoll set is
 * edge-triggered, read no further. A look at the socket after each request would cost a system call;
 * so it is had only by those connections that stay idle for a moment. */
static bool has_left(const struct conn *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    int unread = 0;

    return !c->is_diverted && poll(&p, 1, 0) > 0 && ioctl(c->fd, FIONREAD, &unread) == 0 &&
           unread == 0;
}

/* Its request is answered in the usual callbacks. */
static void refuse(struct conn *c, enum http_refusal reason, enum shm_limit why)
{
    if ((c->flags & SHM_CONN_SENT) != 0 || !wire_refuse_request(c, reason)) {
        end(c, why);
        return;
    }
    front_count_limit(c->listener->front, why);
    deadline_set(c, DEADLINE_SEND);
}

static void expire(struct conn *c)
{
    struct deadlines *d = &c->listener->front->deadlines;
    enum deadline kind = c->due.kind;

    if (c->moved - c->due.moved >= d->of[kind].least && d->of[kind].least > 0) {
        deadline_set(c, kind);
        return;
    }
    switch (kind) {
    case DEADLINE_HEAD:
        if (c->wants_proxy)
            end(c, SHM_LIMIT_PROXY);
        else if (c->is_busy)
            deadline_clear(&c->due); /* the head is there, it is being worked on */
        else if (c->flags & SHM_CONN_BUSY)
            refuse(c, REFUSAL_HEAD_TIME, SHM_LIMIT_HEAD);
        else
            end(c, SHM_LIMIT_SILENT);
        break;
    case DEADLINE_BODY: refuse(c, REFUSAL_BODY_TIME, SHM_LIMIT_BODY); break;
    case DEADLINE_HANDSHAKE: end(c, SHM_LIMIT_HANDSHAKE); break;
    case DEADLINE_SEND: end(c, SHM_LIMIT_SEND); break;
    case DEADLINE_QUIET:
        if (has_left(c))
            shut(c);
        else
            deadline_set(c, DEADLINE_IDLE);
        break;
    case DEADLINE_IDLE: end(c, SHM_LIMIT_IDLE); break;
    case DEADLINE_NONE:
    case DEADLINE_KINDS: deadline_clear(&c->due); break;
    }
}

void deadline_run(struct front *f)
{
    struct deadlines *d = &f->deadlines;
    int n = 0;

    for (int i = DEADLINE_HANDSHAKE; i < DEADLINE_KINDS; i++)
        while (!list_is_empty(&d->of[i].conns) && n++ < RUN_MAX) {
            struct conn *c = list_entry(d->of[i].conns.next, struct conn, due.node);

            if (c->due.at_ns > d->now_ns)
                break;
            expire(c);
        }
}

bool deadline_make_room(struct front *f)
{
    struct deadlines *d = &f->deadlines;
    struct list *heads = &d->of[DEADLINE_HEAD].conns, *idle = &d->of[DEADLINE_IDLE].conns;
    struct conn *c = list_entry(heads->next, struct conn, due.node);

    if (list_is_empty(heads) || c->is_busy ||
        c->due.at_ns - d->now_ns > d->of[DEADLINE_HEAD].ns / 4 * 3) {
        if (list_is_empty(idle))
            idle = &d->of[DEADLINE_QUIET].conns;
        if (list_is_empty(idle))
            return false;
        c = list_entry(idle->next, struct conn, due.node);
    }
    end(c, SHM_LIMIT_EVICTED);
    return true;
}
