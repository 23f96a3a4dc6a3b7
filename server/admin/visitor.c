/*
 * visitor.c - connections of the admin interface: who comes, who makes room, when time is up.
 *
 * libmicrohttpd never has a client's socket. It has one end of a socket pair, and relay.c moves bytes
 * between the two. All that a connection can take has a bound here: time for each stage, and a share of
 * the connections.
 *
 * What a newcomer would get wrong: who makes room when all connections are taken is the address that has
 * most of them, not who came first: a flood displaces itself.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/internal.h"
#include "base/clock.h"
#include "base/fd.h"

#define HEAD_MS   10000 /* for a request's line and headers, from connecting or the last answer */
#define GRACE_MS  2000  /* for a last answer: that the time is over, say; for a client to leave */
#define SEND_N    10240 /* a client has to take so much in RELAY_SEND_MS, or all */
#define ACCEPTS   16    /* in one turn of the loop */
#define EVENTS    64
#define PAIR_SIZE 32768 /* bytes that the kernel keeps between the library and us */

static const char wrong_port[] = "HTTP/1.1 400 Bad Request\r\n"
                                 "Content-Type: text/plain\r\n"
                                 "Content-Length: 34\r\n"
                                 "Connection: close\r\n"
                                 "\r\n"
                                 "this port speaks TLS: use https://";

/* ---- hosts ---- */

static struct address who_is(const struct sockaddr_storage *addr, socklen_t len, int fd)
{
    struct address who = {.family = 0};
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (addr->ss_family == AF_UNIX) { /* users of this machine can be told apart here */
        who.family = AF_UNIX;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
            memcpy(who.ip, &peer.uid, sizeof peer.uid);
        return who;
    }
    address_from_sockaddr(&who, (const struct sockaddr *)addr, len);
    who.port = 0;
    if (who.family == AF_INET6)
        memset(who.ip + 8, 0, 8); /* a host has many addresses of one /64 */
    return who;
}

/* There is always one: as many as connections. */
static struct host *find_host(struct admin *a, const struct address *who)
{
    struct host *free_one = NULL;

    for (size_t i = 0; i < sizeof a->host / sizeof a->host[0]; i++) {
        struct host *h = &a->host[i];

        if (h->n > 0 && h->who.family == who->family &&
            memcmp(h->who.ip, who->ip, sizeof who->ip) == 0)
            return h;
        if (h->n == 0 && free_one == NULL)
            free_one = h;
    }
    if (free_one != NULL)
        *free_one = (struct host){.who = *who};
    return free_one;
}

/* ---- watching ---- */

static void watch_one(struct visitor *v, int fd, uint32_t *watched, uint32_t wanted, uintptr_t tag)
{
    struct epoll_event event = {.events = wanted, .data.u64 = (uintptr_t)v | tag};
    int op = wanted == 0 ? EPOLL_CTL_DEL : *watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

    if (fd < 0 || wanted == *watched)
        return;
    if (epoll_ctl(v->admin->relay_fd, op, fd, &event) == 0)
        *watched = wanted;
}

/* A descriptor of which nothing is wanted is not watched at all: else its end would be told for ever. */
static void watch(struct visitor *v)
{
    uint32_t outer = 0, inner = 0;

    switch (v->phase) {
    case VISITOR_HANDSHAKE: outer = seal_wants_to_write(v->seal) ? EPOLLOUT : EPOLLIN; break;
    case VISITOR_LINGERS: outer = EPOLLIN; break;
    case VISITOR_GONE: return;
    case VISITOR_OPEN:
        outer = (relay_wants_input(v) ? EPOLLIN : 0u) | (v->out_at < v->out_n ? EPOLLOUT : 0u);
        inner = (v->in_at < v->in_n ? EPOLLOUT : 0u) | (v->out_at == v->out_n ? EPOLLIN : 0u);
        break;
    }
    watch_one(v, v->fd, &v->watched, outer, 0);
    watch_one(v, v->inner_fd, &v->inner_watched, inner, 1);
}

/* ---- the end ---- */

static void free_visitor(struct visitor *v)
{
    list_remove(&v->node);
    v->admin->n_visitors--;
    v->host->n--;
    free(v);
}

/* The library learns of it by the end of its own descriptor, and calls visitor_release(). */
static void end(struct visitor *v)
{
    seal_destroy(&v->seal);
    fd_close(&v->fd);
    fd_close(&v->inner_fd);
    v->phase = VISITOR_GONE;
}

void visitor_cut(struct visitor *v)
{
    v->is_cut = true;
    end(v);
}

void visitor_release(struct visitor *v)
{
    v->is_in_library = false; /* what it has said may still be on its way; else: sweep() */
}

/* Not closed at once: with unread bytes in the socket that would be a reset, which overtakes the answer. */
static void linger(struct visitor *v, int64_t now_ms)
{
    if (v->seal != NULL && !v->is_cut)
        seal_bye(v->seal);
    watch_one(v, v->inner_fd, &v->inner_watched, 0, 1);
    fd_close(&v->inner_fd);
    if (v->has_ended || shutdown(v->fd, SHUT_WR) < 0) {
        end(v);
        return;
    }
    v->phase = VISITOR_LINGERS;
    v->due_ms = now_ms + GRACE_MS;
}

/* Pointers of events that are still to be looked at stay good until here. */
static void sweep(struct admin *a)
{
    for (struct list *at = a->visitors.next, *next; at != &a->visitors; at = next) {
        struct visitor *v = list_entry(at, struct visitor, node);

        next = at->next;
        if (v->phase == VISITOR_GONE && !v->is_in_library)
            free_visitor(v);
    }
}

/* ---- bytes ---- */

enum http_refusal visitor_refusal(const struct visitor *v)
{
    return v->guard.refusal != REFUSAL_NONE && v->n_begun == v->guard.n_requests
               ? (enum http_refusal)v->guard.refusal
               : REFUSAL_NONE;
}

/* All that has gone out: from here on time counts that the client takes for its next request. */
static void note_drained(struct visitor *v, int64_t now_ms)
{
    if (v->send_due_ms == 0 || v->out_at < v->out_n)
        return;
    v->send_due_ms = 0;
    if (v->state == VISITOR_HEAD)
        v->due_ms = now_ms + HEAD_MS;
}

static void pump(struct visitor *v, int64_t now_ms)
{
    bool is_over = false;

    if (relay_move(v, now_ms, &is_over) < 0) {
        visitor_cut(v);
        return;
    }
    note_drained(v, now_ms);
    if (is_over)
        linger(v, now_ms);
    watch(v);
}

static void throw_away(struct visitor *v)
{
    ssize_t n;

    do
        n = recv(v->fd, v->in, sizeof v->in, MSG_DONTWAIT);
    while (n > 0);
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        end(v);
}

/* ---- beginning ---- */

static void meet_library(struct visitor *v, int64_t now_ms)
{
    static const int size = PAIR_SIZE;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        end(v);
        return;
    }
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    v->inner_fd = pair[0];
    if (http_add(v, pair[1]) < 0) {
        end(v);
        return;
    }
    v->phase = VISITOR_OPEN;
    v->due_ms = now_ms + HEAD_MS;
    pump(v, now_ms);
}

/* The client speaks first; a request in plain text would wait in vain for an answer that it understands. */
static bool speaks_plainly(struct visitor *v)
{
    char first;

    if (recv(v->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) != 1 || first < 'A' || first > 'Z')
        return false;
    (void)send(v->fd, wrong_port, sizeof wrong_port - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    return true;
}

static void shake_hands(struct visitor *v, int64_t now_ms)
{
    int r = speaks_plainly(v) ? -EPROTO : seal_shake_hands(v->seal);

    if (r < 0) {
        v->is_cut = true;
        linger(v, now_ms);
        watch(v);
    } else if (r > 0) {
        meet_library(v, now_ms);
    } else {
        watch(v);
    }
}

/* How little is lost with it; -1: it stays. */
static int cheapness(const struct visitor *v)
{
    if (v->phase == VISITOR_GONE || v->is_known || v->is_waiting)
        return -1;
    if (v->phase != VISITOR_OPEN || (v->state == VISITOR_HEAD && v->send_due_ms == 0))
        return 2;
    return guard_is_in_body(&v->guard) ? 1 : 0;
}

/* Room for one who comes: of the address that has most connections, the cheapest, the longest there. */
static void evict_one(struct admin *a)
{
    struct visitor *victim = NULL;

    for (struct list *at = a->visitors.next; at != &a->visitors; at = at->next) {
        struct visitor *v = list_entry(at, struct visitor, node);

        if (cheapness(v) < 0)
            continue;
        if (victim == NULL || v->host->n > victim->host->n ||
            (v->host->n == victim->host->n && cheapness(v) > cheapness(victim)))
            victim = v;
    }
    if (victim != NULL)
        visitor_cut(victim);
}

static void begin(struct admin *a, int fd, const struct sockaddr_storage *addr, socklen_t len,
                  int64_t now_ms)
{
    static const int on = 1;
    struct address who = who_is(addr, len, fd);
    struct host *host = find_host(a, &who);
    struct visitor *v = host != NULL ? calloc(1, sizeof *v) : NULL;

    if (v == NULL) {
        fd_close(&fd);
        return;
    }
    v->admin = a;
    v->host = host;
    v->fd = fd;
    v->inner_fd = -1;
    v->due_ms = now_ms + HEAD_MS;
    host->n++;
    a->n_visitors++;
    list_append(&a->visitors, &v->node);
    guard_init(&v->guard);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (a->tls == NULL) {
        meet_library(v, now_ms);
        return;
    }
    v->phase = VISITOR_HANDSHAKE;
    v->seal = seal_create(a->tls, fd);
    if (v->seal == NULL)
        end(v);
    watch(v);
}

int visitors_open(struct admin *a, int listen_fd)
{
    a->listen_fd = listen_fd;
    list_init(&a->visitors);
    a->relay_fd = epoll_create1(EPOLL_CLOEXEC);
    return a->relay_fd < 0 ? -errno : 0;
}

/* Is it to be answered, or is its answer on the way to it? May its first request be? */
static bool is_waited_for(const struct visitor *v, bool counts_fresh)
{
    int unread = 0;

    switch (v->phase) {
    case VISITOR_HANDSHAKE:
    case VISITOR_LINGERS: return counts_fresh; /* with a moment to read, and to close first */
    case VISITOR_GONE: return false;
    case VISITOR_OPEN: break;
    }
    if (v->guard.n_requests == 0 && guard_is_idle(&v->guard))
        return counts_fresh;
    return v->n_begun < v->guard.n_requests || !guard_is_idle(&v->guard) || v->out_at < v->out_n ||
           (ioctl(v->inner_fd, FIONREAD, &unread) == 0 && unread > 0);
}

bool visitors_are_waited_for(const struct admin *a, bool counts_fresh)
{
    for (struct list *at = a->visitors.next; at != &a->visitors; at = at->next)
        if (is_waited_for(list_entry(at, struct visitor, node), counts_fresh))
            return true;
    return false;
}

void visitors_accept(struct admin *a)
{
    for (int i = 0; i < ACCEPTS; i++) {
        struct sockaddr_storage addr;
        socklen_t len = sizeof addr;
        int fd;

        memset(&addr, 0, sizeof addr);
        fd = accept4(a->listen_fd, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        if (len < sizeof addr.ss_family) /* of a Unix socket's nameless peer */
            addr.ss_family = AF_UNIX;
        if (a->n_visitors >= ADMIN_CONNECTIONS) {
            evict_one(a);
            sweep(a);
            if (a->n_visitors >= ADMIN_CONNECTIONS + ADMIN_SPARE) {
                fd_close(&fd);
                continue;
            }
        }
        begin(a, fd, &addr, len, clock_mono_ms());
    }
}

/* ---- from the loop ---- */

static void look_at(struct visitor *v, bool is_inner, uint32_t events, int64_t now_ms)
{
    if (v->phase == VISITOR_GONE)
        return; /* by an event before this one */
    if (!is_inner && (events & (EPOLLERR | EPOLLHUP)) != 0) {
        visitor_cut(v);
        return;
    }
    if (v->phase == VISITOR_HANDSHAKE)
        shake_hands(v, now_ms);
    else if (v->phase == VISITOR_LINGERS)
        throw_away(v);
    else
        pump(v, now_ms);
}

void visitors_run(struct admin *a)
{
    struct epoll_event event[EVENTS];
    int64_t now_ms = clock_mono_ms();
    int n = epoll_wait(a->relay_fd, event, EVENTS, 0);

    for (int i = 0; i < n; i++)
        look_at((struct visitor *)((uintptr_t)event[i].data.u64 & ~(uintptr_t)1),
                (event[i].data.u64 & 1) != 0, event[i].events, now_ms);
    sweep(a);
}

/* What it is late with tells how it ends: with 408, or by itself. */
static void time_is_up(struct visitor *v, int64_t now_ms)
{
    bool is_head = v->state == VISITOR_HEAD;

    if (v->phase != VISITOR_OPEN || v->guard.refusal != REFUSAL_NONE ||
        (is_head && guard_is_idle(&v->guard) && v->seal == NULL)) {
        visitor_cut(v);
    } else if (is_head && guard_is_idle(&v->guard)) {
        linger(v, now_ms); /* so that TLS says good-bye */
        watch(v);
    } else if (is_head || (guard_is_in_body(&v->guard) && v->n_begun == v->guard.n_requests)) {
        relay_refuse(v, is_head ? REFUSAL_HEAD_TIME : REFUSAL_BODY_TIME);
        v->due_ms = now_ms + GRACE_MS;
        pump(v, now_ms);
    } else {
        visitor_cut(v);
    }
}

void visitors_tick(struct admin *a, int64_t now_ms)
{
    for (struct list *at = a->visitors.next, *next; at != &a->visitors; at = next) {
        struct visitor *v = list_entry(at, struct visitor, node);

        next = at->next;
        if (v->phase == VISITOR_GONE)
            continue;
        if (v->send_due_ms != 0 && v->send_due_ms <= now_ms) {
            if (v->n_sent < SEND_N) {
                visitor_cut(v);
                continue;
            }
            v->send_due_ms = now_ms + RELAY_SEND_MS;
            v->n_sent = 0;
        }
        if (v->due_ms <= now_ms && (v->phase != VISITOR_OPEN || v->state == VISITOR_REQUEST ||
                                    (v->state == VISITOR_HEAD && v->send_due_ms == 0)))
            time_is_up(v, now_ms);
    }
    sweep(a);
}
