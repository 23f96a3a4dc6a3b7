/*
 * relay.c - bytes of a connection of the admin interface, from the client's socket to the library and back.
 *
 * Inwards through TLS, if there is any, and the wire guard (http/guard.h), the one that stands before the
 * workers' library as well; outwards at a pace that the client keeps up with. One piece in each direction is
 * on its way at most. When a connection begins and ends is visitor.c's.
 *
 * What a newcomer would get wrong: a request that the guard refuses is completed by it, so that the library
 * calls back as for any other; http.c answers it then (visitor_refusal()).
 */
#include <errno.h>
#include <sys/socket.h>

#include "admin/internal.h"
#include "ipc/shm.h"
#include "obs/log.h"

static const struct guard_limits limits = {.uri = ADMIN_HEAD,
                                           .head = ADMIN_HEAD,
                                           .fields = ADMIN_FIELDS,
                                           .memory = 2 * ADMIN_HEAD,
                                           .body = ADMIN_BODY};

bool relay_wants_input(const struct visitor *v)
{
    return v->in_at == v->in_n && !v->has_ended && v->guard.refusal == REFUSAL_NONE;
}

static ssize_t outer_recv(struct visitor *v, void *buf, size_t size)
{
    ssize_t n = v->seal != NULL ? seal_recv(v->seal, buf, size)
                                : recv(v->fd, buf, size, MSG_DONTWAIT);

    return n < 0 && v->seal == NULL ? -errno : n;
}

static ssize_t outer_send(struct visitor *v, const void *buf, size_t size)
{
    ssize_t n = v->seal != NULL ? seal_send(v->seal, buf, size)
                                : send(v->fd, buf, size, MSG_DONTWAIT | MSG_NOSIGNAL);

    return n < 0 && v->seal == NULL ? -errno : n;
}

static void note_refusal(const struct visitor *v)
{
    atomic_fetch_add(&v->admin->shm->admin->refused[v->guard.refusal], 1);
    log_debug("the admin interface refuses a request: %s",
              refusal_name((enum http_refusal)v->guard.refusal));
}

void relay_refuse(struct visitor *v, enum http_refusal why)
{
    guard_refuse(&v->guard, why);
    note_refusal(v);
}

/* More for the library. -errno: the connection is broken; 0: nothing just now; 1: it may go on. */
static int take_in(struct visitor *v)
{
    size_t room = guard_room(&v->guard);
    ssize_t n;

    v->in_at = v->in_n = 0;
    if (v->guard.refusal != REFUSAL_NONE) {
        if (!guard_is_complete(&v->guard))
            v->in_n = guard_complete(&v->guard, v->in, sizeof v->in);
        return v->in_n > 0;
    }
    if (v->has_ended)
        return 0;
    n = outer_recv(v, v->in + room, sizeof v->in - room);
    if (n < 0)
        return n == -EAGAIN || n == -EINTR ? 0 : (int)n;
    if (n == 0) {
        v->has_ended = true;
        return 1;
    }
    v->in_n = guard_pass(&v->guard, &limits, v->in, v->in + room, (size_t)n);
    if (v->guard.refusal != REFUSAL_NONE)
        note_refusal(v);
    return 1;
}

/* Inwards; true: something happened. */
static bool pump_in(struct visitor *v, int *error)
{
    ssize_t n;
    int r;

    if (v->in_at == v->in_n) {
        r = take_in(v);
        if (r <= 0) {
            *error = r;
            return false;
        }
    }
    if (v->inner_is_deaf) {
        v->in_at = v->in_n;
        return true;
    }
    if (v->in_at < v->in_n) {
        n = send(v->inner_fd, v->in + v->in_at, v->in_n - v->in_at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return false;
        if (n < 0)
            v->inner_is_deaf = true;
        v->in_at = n < 0 ? v->in_n : v->in_at + (size_t)n;
    }
    if (v->in_at == v->in_n && v->has_ended) {
        shutdown(v->inner_fd, SHUT_WR);
        v->inner_is_deaf = true;
        return false;
    }
    return true;
}

/* Outwards; true: something happened. *is_over: the library has closed, and all of it went out. */
static bool pump_out(struct visitor *v, int64_t now_ms, bool *is_over, int *error)
{
    ssize_t n;

    if (v->out_at == v->out_n) {
        n = recv(v->inner_fd, v->out, sizeof v->out, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            *is_over = true;
        if (n <= 0)
            return false;
        v->out_at = 0;
        v->out_n = (size_t)n;
    }
    n = outer_send(v, v->out + v->out_at, v->out_n - v->out_at);
    if (n == -EAGAIN || n == -EINTR) {
        if (v->send_due_ms == 0) {
            v->send_due_ms = now_ms + RELAY_SEND_MS;
            v->n_sent = 0;
        }
        return false;
    }
    if (n < 0) {
        *error = (int)n;
        return false;
    }
    v->n_sent += (size_t)n;
    v->out_at += (size_t)n;
    return true;
}

int relay_move(struct visitor *v, int64_t now_ms, bool *is_over)
{
    bool moved;
    int error = 0;

    do {
        moved = pump_in(v, &error);
        if (error == 0)
            moved |= pump_out(v, now_ms, is_over, &error);
    } while (moved && error == 0 && !*is_over);
    return error;
}
