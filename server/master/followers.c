#include "master/followers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "master/internal.h"

#define SEND_MS 5000 /* for one reply; a pager may stand still for longer, and comes again */

void followers_init(struct control *c)
{
    for (int i = 0; i < CONTROL_FOLLOWERS; i++)
        c->follower[i] = (struct control_follower){.fd = -1};
}

static void drop(struct control_follower *f)
{
    free(f->out);
    fd_close(&f->fd);
    *f = (struct control_follower){.fd = -1};
}

bool followers_is_sending(const struct control *c)
{
    bool is = false;

    for (int i = 0; i < CONTROL_FOLLOWERS; i++)
        is |= c->follower[i].out != NULL;
    return is;
}

/* For its end, and for room if there is something to send. */
static void watch(struct control *c, int i)
{
    struct control_follower *f = &c->follower[i];
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (f->out != NULL ? EPOLLOUT : 0u),
                                .data.u32 = CONTROL_EVENT_FOLLOWER + (uint32_t)i};

    if (f->fd >= 0 && epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, f->fd, &event) < 0)
        drop(f);
}

/* False: it is gone. */
static bool send_some(struct control_follower *f)
{
    while (f->n_sent < f->len) {
        ssize_t n = send(f->fd, f->out + f->n_sent, f->len - f->n_sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        f->n_sent += (size_t)n;
    }
    free(f->out);
    f->out = NULL;
    return true;
}

static void tell(struct master *m, struct control_follower *f)
{
    char *text = events_json(&m->events, f->last);

    f->out = text != NULL ? control_frame(m, 0, text, &f->len) : NULL;
    free(text);
    f->n_sent = 0;
    f->last = m->events.n;
    f->end_ms = clock_mono_ms() + SEND_MS;
    if (f->out == NULL || !send_some(f)) /* no memory: it asks once more, from where it was */
        drop(f);
}

bool followers_begin(struct master *m, struct control_client *client)
{
    const struct control_request *q = &client->request;
    struct control *c = &m->control;
    int i = 0;

    if (q->magic != CONTROL_MAGIC || q->version != CONTROL_VERSION || q->command != CONTROL_FOLLOW)
        return false;
    while (i < CONTROL_FOLLOWERS && c->follower[i].fd >= 0)
        i++;
    if (i == CONTROL_FOLLOWERS)
        return false;
    c->follower[i] = (struct control_follower){.fd = client->fd,
                                               .last = q->argument < 0 ? 0 : (uint32_t)q->argument};
    free(client->said);
    *client = (struct control_client){.fd = -1};
    tell(m, &c->follower[i]);
    watch(c, i);
    return true;
}

void followers_run(struct master *m, int i, uint32_t epoll_events)
{
    struct control_follower *f = &m->control.follower[i];

    if (f->fd < 0)
        return;
    /* It has nothing more to say: that is its end, or nonsense. */
    if ((epoll_events & ~(uint32_t)EPOLLOUT) != 0 || !send_some(f)) {
        drop(f);
        return;
    }
    if (f->out == NULL && f->last != m->events.n)
        tell(m, f);
    watch(&m->control, i);
}

void followers_push(struct master *m)
{
    bool has_told = false;

    for (int i = 0; i < CONTROL_FOLLOWERS; i++) {
        struct control_follower *f = &m->control.follower[i];

        if (f->fd < 0 || f->out != NULL || f->last == m->events.n)
            continue;
        tell(m, f);
        watch(&m->control, i);
        has_told = true;
    }
    if (has_told)
        control_adapt(&m->control);
}

void followers_drop_late(struct control *c, int64_t now_ms)
{
    for (int i = 0; i < CONTROL_FOLLOWERS; i++)
        if (c->follower[i].out != NULL && c->follower[i].end_ms <= now_ms)
            drop(&c->follower[i]);
}

void followers_forget(struct control *c)
{
    for (int i = 0; i < CONTROL_FOLLOWERS; i++)
        fd_close(&c->follower[i].fd);
}

void followers_close(struct control *c)
{
    for (int i = 0; i < CONTROL_FOLLOWERS; i++)
        drop(&c->follower[i]);
}
