/*
 * handover.c - connections on their way from one worker process to another.
 *
 * The socket itself goes through a Unix socket (SCM_RIGHTS), by others' hands: both processes then
 * have a descriptor of it, so the giver must do nothing that the other end of the connection could
 * notice, such as shutdown(), and must take it out of its epoll set before it closes it, for the set
 * would go on reporting the socket as long as the other process has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "conf/config.h"
#include "http/internal.h"
#include "ipc/shm.h"
#include "plugin/host.h"

/* ---- in ---- */

static int peer_of(int fd, struct sockaddr_storage *addr, socklen_t *len)
{
    *len = sizeof *addr;
    if (getpeername(fd, (struct sockaddr *)addr, len) < 0)
        return -errno;                   /* the client has gone already */
    if (*len < sizeof addr->ss_family) { /* of a Unix socket's nameless peer */
        addr->ss_family = AF_UNIX;
        *len = sizeof addr->ss_family;
    }
    return 0;
}

static struct conn *make_conn(const char *pending, size_t n, bool close_after)
{
    struct conn *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->is_last = close_after;
    c->has_served = true;
    if (n == 0)
        return c;
    c->pending = malloc(n);
    if (c->pending == NULL) {
        free(c);
        return NULL;
    }
    memcpy(c->pending, pending, n);
    c->pending_n = n;
    c->is_replay = c->is_diverted = true;
    return c;
}

int front_adopt(struct front *f, int listener, int fd, const struct address *client,
                const char *pending, size_t n, bool close_after)
{
    struct listener *l = &f->listener[listener];
    struct sockaddr_storage addr;
    socklen_t len;
    int copy, r;

    if (listener < 0 || listener >= f->n_listeners)
        return -EINVAL;
    if (f->n_conns >= f->most_conns || f->n_conns >= f->cfg->limits.connections)
        return -ENFILE;
    r = peer_of(fd, &addr, &len);
    if (r < 0)
        return r;
    /* The library closes what it is given when it fails. */
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return -errno;
    r = -ENOMEM;
    if (!wire_has_room(copy))
        goto fail;
    f->adopted = make_conn(pending, n, close_after);
    if (f->adopted == NULL)
        goto fail;
    address_from_sockaddr(&f->adopted->peer, (struct sockaddr *)&addr, len);
    if (client != NULL)
        f->adopted->client = *client;
    errno = 0;
    if (MHD_add_connection(l->daemon, copy, (struct sockaddr *)&addr, len) != MHD_YES) {
        copy = -1;
        r = errno != 0 ? -errno : -ENOMEM;
        if (f->adopted != NULL)
            free(f->adopted->pending);
        free(f->adopted);
        f->adopted = NULL;
        goto fail;
    }
    l->needs_run = true;
    fd_close(&fd);
    return 0;

fail:
    fd_close(&copy);
    return r;
}

/* ---- out ---- */

/* The library is made to ask for more, is told that the client has closed (wire.c), and closes its
 * descriptor; on a listener with MHD_USE_TURBO it does no shutdown() before. */
void conn_let_go(struct conn *c)
{
    c->is_given = c->is_diverted = true;
    deadline_clear(&c->due);        /* its end would be a shutdown() of what others have by now */
    MHD_suspend_connection(c->mhd); /* out of its epoll set */
    MHD_resume_connection(c->mhd);
    c->listener->needs_run = c->listener->front->has_given = true;
}

/* Whoever takes over a connection of a listener that is gone closes it. One that was just accepted has
 * its first request on the way, so it gets the time that it has in a drain. */
static bool is_expected_to_ask(const struct conn *c)
{
    return c->listener->is_ending && !c->has_served &&
           host_loop_mono_ns < c->listener->front->drain_fresh_ns;
}

int front_give_idle(struct front *f, int most,
                    bool (*give)(void *arg, int listener, int fd, const struct address *client),
                    void *arg)
{
    struct list *node, *next;
    int n = 0;

    for (node = f->conns.next; node != &f->conns && n < most; node = next) {
        struct conn *c = list_entry(node, struct conn, node);
        uint32_t flags = c->flags;

        next = node->next;
        if (c->tls != NULL)
            drain_tls(c);
        if (c->x != NULL || c->is_diverted || (flags & (SHM_CONN_BUSY | SHM_CONN_TLS)) != 0 ||
            is_expected_to_ask(c))
            continue;
        /* Should this process die in between, nobody may take it for one that is still here. */
        wire_set_flags(c, 0, UINT32_MAX);
        if (give(arg, (int)(c->listener - f->listener), c->fd, &c->client)) {
            conn_let_go(c);
            n++;
        } else {
            wire_set_flags(c, flags, 0);
        }
    }
    return n;
}
