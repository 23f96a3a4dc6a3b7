#include "master/admin.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fd.h"
#include "master/internal.h"

void admin_init(struct admin *a)
{
    *a = (struct admin){.sessions_fd = -1, .client.fd = -1, .door.keys.fd = -1, .next.keys.fd = -1};
}

/* ---- the door ---- */

/* Tokens and keys first: a door without them must not open. */
static int open_door(struct admin_door *door, const struct config *cfg, struct inherit *in,
                     bool opens_socket, struct diag *diag)
{
    int r = token_load(cfg->admin.token_file, "token_file", cfg, diag, &door->operator_token);

    if (r == 0)
        r = token_load(cfg->admin.read_token_file, "read_token_file", cfg, diag,
                       &door->reader_token);
    if (r == 0 && door->reader_token.is_set &&
        memcmp(door->operator_token.sum, door->reader_token.sum, sizeof door->reader_token.sum) ==
            0) {
        diag_add(diag, cfg->path, cfg->admin.pos.line, cfg->admin.pos.column, NULL,
                 "admin: token_file and read_token_file hold the same token");
        r = -EINVAL;
    }
    if (r == 0)
        r = admin_keys_load(&door->keys, cfg, diag);
    if (r < 0 || !opens_socket)
        return r;
    door->listener = cfg->admin.listener;
    door->listener.tls = (struct config_tls){.is_on = cfg->admin.listener.tls.is_on};
    snprintf(door->address, sizeof door->address, "%s", cfg->admin.listener.address);
    door->listener.address = door->address;
    door->only = (struct config){.path = cfg->path,
                                 .dir = cfg->dir,
                                 .n_workers = 1,
                                 .listener = &door->listener,
                                 .n_listeners = 1};
    r = listen_open(&door->set, &door->only, in, diag);
    door->listener.owner = door->listener.group = NULL; /* of the config, which may go */
    door->only.path = door->only.dir = NULL;
    door->is_open = r == 0;
    return r;
}

static void close_door(struct admin_door *door)
{
    if (door->is_open)
        listen_close(&door->set);
    admin_keys_close(&door->keys);
    *door = (struct admin_door){.keys.fd = -1};
}

/* The pointers within it point within it. */
static void move_door(struct admin_door *to, struct admin_door *from)
{
    *to = *from;
    to->listener.address = to->address;
    to->only.listener = &to->listener;
    to->set.cfg = &to->only;
    *from = (struct admin_door){.keys.fd = -1};
}

static bool is_same_place(const struct admin_door *door, const struct config *cfg)
{
    const struct config_listener *a = &door->listener, *b = &cfg->admin.listener;

    return door->is_open && a->addr_len == b->addr_len &&
           memcmp(&a->addr, &b->addr, a->addr_len) == 0 && a->mode == b->mode;
}

int admin_open(struct master *m, struct inherit *in, struct diag *diag)
{
    if (!m->cfg->admin.is_on || m->roles->admin == NULL)
        return 0;
    return open_door(&m->admin.door, m->cfg, in, true, diag);
}

int admin_prepare(struct master *m, const struct config *next, struct diag *diag)
{
    struct admin *a = &m->admin;
    int r = 0;

    close_door(&a->next);
    if (next->admin.is_on && m->roles->admin != NULL)
        r = open_door(&a->next, next, NULL, !is_same_place(&a->door, next), diag);
    return r;
}

void admin_abandon(struct master *m)
{
    close_door(&m->admin.next);
}

/* The old process makes room, and the next one is started when it has. */
void admin_commit(struct master *m)
{
    struct admin *a = &m->admin;

    if (m->roles->admin == NULL)
        return;
    if (!m->cfg->admin.is_on) {
        close_door(&a->door);
    } else if (a->next.is_open) {
        close_door(&a->door);
        move_door(&a->door, &a->next);
    } else if (a->door.is_open) {
        a->door.operator_token = a->next.operator_token;
        a->door.reader_token = a->next.reader_token;
        admin_keys_close(&a->door.keys);
        a->door.keys = a->next.keys;
        a->next.keys = (struct admin_keys){.fd = -1};
        a->door.listener.tls.is_on = a->door.keys.fd >= 0;
    }
    close_door(&a->next);
    if (!child_is_alive(&m->admin_child)) /* else it follows: follow.c */
        admin_start(m);
}

void admin_describe(const struct master *m, char *buf, size_t size)
{
    buf[0] = '\0';
    if (m->admin.door.is_open)
        listen_describe(&m->admin.door.set, 0, buf, size);
}

/* ---- the process ---- */

static int make_sessions(struct admin *a)
{
    if (a->sessions_fd >= 0)
        return 0;
    a->sessions_fd = memfd_create("bulkhead-sessions", MFD_CLOEXEC);
    if (a->sessions_fd < 0 || ftruncate(a->sessions_fd, ADMIN_SESSIONS_SIZE) < 0)
        return -errno;
    return 0;
}

void admin_start(struct master *m)
{
    struct child *c = &m->admin_child;
    int r;

    if (!m->admin.door.is_open || child_is_alive(c))
        return;
    respawn_started(&c->respawn, clock_mono_ms());
    m->admin.is_renewing = false;
    r = make_sessions(&m->admin);
    if (r == 0)
        r = child_start(m, c, -1, m->generation);
    if (r < 0) {
        helper_start_later(c, strerror(-r));
        return;
    }
    m->admin.client = (struct control_client){.fd = c->channel_fd};
    m->admin.is_writing = m->admin.wants_news = false;
    c->channel_fd = -1;
}

void admin_tick(struct master *m, int64_t now_ms)
{
    admin_keys_tick(m, now_ms);
    if (helper_next_ms(&m->admin_child) <= now_ms)
        admin_start(m);
}

static void forget_client(struct admin *a)
{
    free(a->client.reply);
    free(a->client.said);
    fd_close(&a->client.fd);
    a->client = (struct control_client){.fd = -1};
}

void admin_ended(struct master *m, int status)
{
    forget_client(&m->admin);
    if (m->phase >= MASTER_FLUSHING || m->is_succeeded || !m->admin.door.is_open)
        return;
    if ((m->admin.is_renewing && WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
        helper_ended(m, &m->admin_child, status))
        admin_start(m);
}

void admin_stop(struct master *m)
{
    if (m->is_succeeded)
        listen_leave_paths(&m->admin.door.set);
    close_door(&m->admin.door);
    close_door(&m->admin.next);
    helper_stop(&m->admin_child);
}

void admin_close(struct master *m)
{
    forget_client(&m->admin);
    close_door(&m->admin.door);
    close_door(&m->admin.next);
    fd_close(&m->admin.sessions_fd);
}

/* ---- in children ---- */

void admin_forget(struct admin *a)
{
    fd_close(&a->client.fd);
    fd_close(&a->sessions_fd);
    fd_close(&a->door.keys.fd);
    fd_close(&a->next.keys.fd);
    if (a->door.is_open)
        listen_close_others(&a->door.set, -1);
    if (a->next.is_open)
        listen_close_others(&a->next.set, -1);
}

struct admin_seat admin_take_seat(struct admin *a, int channel_fd)
{
    struct admin_seat seat = {.listen_fd = a->door.set.fd[0],
                              .channel_fd = channel_fd,
                              .sessions_fd = a->sessions_fd,
                              .keys_fd = a->door.keys.fd,
                              .operator_token = a->door.operator_token,
                              .reader_token = a->door.reader_token};

    a->door.set.fd[0] = -1;
    a->sessions_fd = -1;
    a->door.keys.fd = -1;
    return seat;
}

/* ---- its questions ---- */

static void watch_for(struct master *m, bool is_writing)
{
    struct epoll_event event = {.events = is_writing ? EPOLLOUT : EPOLLIN,
                                .data.u32 = MASTER_ADMIN_EVENT};

    if (m->admin.is_writing == is_writing)
        return;
    m->admin.is_writing = is_writing;
    epoll_ctl(m->epoll_fd, EPOLL_CTL_MOD, m->admin.client.fd, &event);
}

/* False: not all of it went out. */
static bool send_reply(struct admin *a)
{
    struct control_client *c = &a->client;

    while (c->n_sent < c->reply_len) {
        ssize_t n = send(c->fd, c->reply + c->n_sent, c->reply_len - c->n_sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false; /* full; or gone, then it is reaped */
        c->n_sent += (size_t)n;
    }
    free(c->reply);
    free(c->said);
    c->reply = c->said = NULL;
    c->n_read = c->n_sent = c->reply_len = 0;
    return true;
}

/* Bounded: it is a server for strangers, and must not keep the master from its work. */
void admin_read(struct master *m)
{
    struct admin *a = &m->admin;
    struct control_client *c = &a->client;

    for (int i = 0; i < 16 && c->fd >= 0; i++) {
        int r;

        if (c->reply != NULL && !send_reply(a)) {
            watch_for(m, true);
            return;
        }
        watch_for(m, false);
        r = control_read_request(c);
        if (r == 0)
            return;
        if (r > 0)
            control_make_reply(m, c);
        if (r > 0 && c->request.command == CONTROL_EVENTS) {
            a->wants_news = true;
            a->told_events = m->events.n;
        }
        if (r < 0 || c->reply == NULL) { /* its end, nonsense, or no memory: it has to come again */
            fd_close(&c->fd);
            return;
        }
    }
}

/* Between two replies only; a stream that is full has one to read anyway, and is tried again. */
void admin_tell_news(struct master *m)
{
    static const struct control_reply news = {
        .magic = CONTROL_MAGIC, .version = CONTROL_VERSION, .flags = CONTROL_IS_NEWS};
    struct admin *a = &m->admin;
    ssize_t n;

    if (!a->wants_news || a->told_events == m->events.n || a->client.fd < 0 ||
        a->client.reply != NULL)
        return;
    n = send(a->client.fd, &news, sizeof news, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n == (ssize_t)sizeof news)
        a->wants_news = false;
    else if (n >= 0)
        fd_close(&a->client.fd); /* part of one: it has to come again */
}
