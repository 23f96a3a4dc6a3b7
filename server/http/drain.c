/*
 * drain.c - how a worker's connections come to their end.
 *
 * No request is lost by it: one that has begun, be it by the first byte of its head, is answered, with
 * `Connection: close`; uploads and streams go on. A connection that has just been accepted may carry
 * its first request any moment, so it gets a second. Those between two requests are closed: the client
 * sees the end of the connection, and knows that nothing was begun.
 *
 * What a newcomer would get wrong: a connection becomes idle also after this has begun, when the head of
 * its answer was out before. So the idle ones are looked for again and again.
 */
#include <poll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "http/internal.h"
#include "http/tls.h"
#include "ipc/shm.h"
#include "plugin/host.h"

#define ACCEPT_RUNS_MAX 1024     /* at the limit of connections the queue never gets empty */
#define ACCEPT_NS       25000000 /* for handshakes that had begun; new ones the master keeps out */
#define FRESH_NS        1000000000
#define LOOK_NS         50000000

/* Takes in what waits to be accepted: the library accepts some ten connections at a time, and those
 * still in the queue are reset when the socket is closed. */
static void accept_rest(struct MHD_Daemon *daemon)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_LISTEN_FD);
    struct pollfd queue = {.events = POLLIN};

    MHD_run(daemon);
    if (info == NULL)
        return;
    queue.fd = info->listen_fd;
    for (int i = 0; i < ACCEPT_RUNS_MAX && poll(&queue, 1, 0) > 0; i++)
        MHD_run(daemon);
}

static void stop_accepting(struct listener *l)
{
    int fd;

    if (l->is_quiet)
        return;
    l->is_quiet = true;
    admission_close(l);
    fd = MHD_quiesce_daemon(l->daemon);
    fd_close(&fd);
}

void front_stop_accepting(struct front *f, unsigned last)
{
    f->drain_fresh_ns = host_loop_mono_ns + FRESH_NS;
    for (int i = 0; i < f->n_listeners; i++) {
        f->listener[i].is_ending = i <= 30 && (last & 1u << i) != 0;
        if (!f->listener[i].is_ending)
            stop_accepting(&f->listener[i]);
        else if (!f->listener[i].is_quiet)
            f->drain_accept_ns = host_loop_mono_ns + ACCEPT_NS;
    }
}

static void stop_accepting_last(struct front *f)
{
    f->drain_accept_ns = 0;
    f->drain_fresh_ns = host_loop_mono_ns + FRESH_NS;
    for (int i = 0; i < f->n_listeners; i++) {
        if (!f->listener[i].is_quiet)
            accept_rest(f->listener[i].daemon);
        stop_accepting(&f->listener[i]);
    }
}

static bool is_idle(const struct conn *c)
{
    return c->x == NULL && !c->is_busy && !c->is_diverted && c->fd >= 0 &&
           (c->flags & SHM_CONN_BUSY) == 0;
}

void drain_tls(struct conn *c)
{
    c->is_last = true;
    if (is_idle(c) && (c->has_served || host_loop_mono_ns >= c->listener->front->drain_fresh_ns))
        tls_leave(c);
}

/* What the client has sent already can still be read; then comes the end. */
static void end_idle(struct front *f)
{
    bool spares_fresh = host_loop_mono_ns < f->drain_fresh_ns;

    for (struct list *node = f->conns.next; node != &f->conns; node = node->next) {
        struct conn *c = list_entry(node, struct conn, node);

        if (c->tls != NULL)
            drain_tls(c);
        else if (is_idle(c) && (c->has_served || !spares_fresh))
            shutdown(c->fd, SHUT_RD);
    }
}

void front_drain(struct front *f)
{
    bool accepts = false;

    f->is_draining = true;
    f->drain_fresh_ns = host_loop_mono_ns + FRESH_NS;
    for (int i = 0; i < f->n_listeners; i++) {
        accepts |= !f->listener[i].is_quiet;
        f->listener[i].needs_run = true;
    }
    f->drain_accept_ns = accepts ? host_loop_mono_ns + ACCEPT_NS : 0;
}

void drain_run(struct front *f)
{
    if (f->drain_accept_ns != 0 && host_loop_mono_ns >= f->drain_accept_ns)
        stop_accepting_last(f);
    if (!f->is_draining || host_loop_mono_ns < f->drain_next_ns)
        return;
    f->drain_next_ns = host_loop_mono_ns + LOOK_NS;
    end_idle(f);
}

int front_cut(struct front *f)
{
    int n = 0;

    for (struct list *node = f->conns.next; node != &f->conns; node = node->next) {
        struct conn *c = list_entry(node, struct conn, node);

        if (c->is_given || c->fd < 0)
            continue;
        if (c->x != NULL) {
            n++;
            if (c->x->req.reply.status == 0)
                c->x->req.reply.status = 503; /* for on_log: it was not the client who left */
            exchange_abandon(c->x);
        }
        shutdown(c->fd, SHUT_RDWR);
        c->listener->needs_run = true;
    }
    return n;
}

bool front_is_drained(const struct front *f)
{
    return list_is_empty(&f->conns) && farewell_is_over(f) && f->drain_accept_ns == 0;
}
