/*
 * admission.c - who is let in: limits.connections, limits.per_ip, and who may speak for others.
 *
 * Stands around the accept4() that the library calls (see wire.c for how), so that what is refused
 * costs neither it nor us a connection, and gets an answer: 503 with Retry-After. The library's own
 * limit would leave clients waiting in the kernel's queue without a word.
 *
 * What a newcomer would get wrong: between accept4() and the library's notice of a connection there is
 * the library's own set-up, which may fail. What is known of the connection waits in front.arrival; if
 * the next one finds it there, nobody took it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/config.h"
#include "http/internal.h"
#include "obs/log.h"
#include "plugin/host.h"

#define UNSENT_MAX   (128 << 10) /* bytes of one connection in the kernel */
#define ACCEPTS_MAX  64          /* listeners of all fronts of this process */
#define REFUSALS_MAX 64          /* in one call: others wait as well */
#define ENDED_MAX    512         /* shut down to make room, and not closed yet */
#define TELL_NS      10000000000 /* between two log lines about the same limit */

int __real_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);

static struct listener *accepting[ACCEPTS_MAX];

void admission_init(struct front *f)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    uint64_t most = f->cfg->limits.connections, spare;

    f->arrival.fd = -1;
    f->told_ns[0] = f->told_ns[1] = -TELL_NS;
    getrlimit(RLIMIT_NOFILE, &limit);
    spare = limit.rlim_cur / 4 < 1024 ? limit.rlim_cur / 4 : 1024; /* files, plugins, farewells */
    if (most > limit.rlim_cur - spare) {
        most = limit.rlim_cur - spare;
        log_warn("limits.connections is %u, but a process may have %llu descriptors here: %llu",
                 f->cfg->limits.connections, (unsigned long long)limit.rlim_cur,
                 (unsigned long long)most);
    }
    f->most_conns = (uint32_t)most;
}

void admission_open(struct listener *l, int listen_fd)
{
    int most = UNSENT_MAX;

    /* Accepted sockets inherit it. Without it the kernel takes megabytes for each client that does not
     * read. What is on its way does not count, so a fast one is not slowed down. */
    setsockopt(listen_fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &most, sizeof most);
    l->listen_fd = listen_fd;
    for (int i = 0; i < ACCEPTS_MAX; i++)
        if (accepting[i] == NULL) {
            accepting[i] = l;
            return;
        }
    log_warn("listener '%s': its connections are not limited", l->name); /* 32 in a config */
}

void admission_close(struct listener *l)
{
    l->listen_fd = -1;
    for (int i = 0; i < ACCEPTS_MAX; i++)
        if (accepting[i] == l)
            accepting[i] = NULL;
}

static struct listener *find(int listen_fd)
{
    for (int i = 0; i < ACCEPTS_MAX; i++)
        if (accepting[i] != NULL && accepting[i]->listen_fd == listen_fd)
            return accepting[i];
    return NULL;
}

/* ---- the limits ---- */

static bool may_tell(struct front *f, int which)
{
    if (host_loop_mono_ns - f->told_ns[which] < TELL_NS)
        return false;
    f->told_ns[which] = host_loop_mono_ns;
    return true;
}

static void tell_per_ip(struct front *f, const struct address *a)
{
    char text[ADDRESS_TEXT];

    if (!may_tell(f, 1))
        return;
    address_print(a, text);
    log_warn("%s has %u connections (limits.per_ip): more are refused", text,
             f->cfg->limits.per_ip);
}

static bool has_room(struct front *f)
{
    if (f->n_conns - f->n_ended < f->most_conns && f->n_ended < ENDED_MAX)
        return true;
    if (f->n_ended < ENDED_MAX && deadline_make_room(f))
        return true;
    if (may_tell(f, 0))
        log_warn("%u connections are open (limits.connections): more are refused", f->n_conns);
    return false;
}

static int64_t take_seat(struct front *f, const struct address *a, uint32_t limit)
{
    const struct config *cfg = f->cfg;

    return cfg->limits.per_ip == 0
               ? 0
               : tally_add(&f->shm->tally, f->shm->tally_key, a, cfg->limits.ipv6_prefix, limit);
}

/* Where TLS is spoken an answer would take a handshake: there it is closed without a word. */
static void turn_away(struct listener *l, int fd)
{
    if (l->is_tls)
        close(fd);
    else
        farewell_turn_away(l->front, fd, 503);
}

static bool is_trusted(const struct config *cfg, const struct address *a)
{
    return a->family == AF_UNIX
               ? cfg->trusts_unix
               : cfg->n_trusted > 0 && address_is_in(a, cfg->trusted, cfg->n_trusted);
}

/* Those for whom a proxy speaks are not one client: it has no limit, they have, where it says in time
 * who they are. */
static bool admit(struct listener *l, int fd, const struct sockaddr *addr, socklen_t len)
{
    const struct config *cfg = l->front->cfg;
    struct front *f = l->front;
    struct arrival *a = &f->arrival;
    int64_t seat = 0;

    tally_drop(&f->shm->tally, a->seat);
    *a = (struct arrival){.fd = -1};
    address_from_sockaddr(&a->peer, addr, len);
    a->is_proxy = is_trusted(cfg, &a->peer);
    if (cfg->listener[l - f->listener].proxy_protocol != CONFIG_PROXY_OFF && !a->is_proxy) {
        front_count_limit(f, SHM_LIMIT_UNTRUSTED);
        close(fd);
        return false;
    }
    if (!has_room(f)) {
        front_count_limit(f, SHM_LIMIT_FULL);
        turn_away(l, fd);
        return false;
    }
    if (!a->is_proxy)
        seat = take_seat(f, &a->peer, cfg->limits.per_ip);
    if (seat < 0) {
        front_count_limit(f, SHM_LIMIT_PER_IP);
        tell_per_ip(f, &a->peer);
        turn_away(l, fd);
        return false;
    }
    a->seat = (uint32_t)seat;
    a->fd = fd;
    return true;
}

int __wrap_accept4(int listen_fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    struct listener *l = find(listen_fd);
    socklen_t room = len != NULL ? *len : 0;

    if (l == NULL || addr == NULL || len == NULL)
        return __real_accept4(listen_fd, addr, len, flags);
    for (int i = 0; i < REFUSALS_MAX; i++) {
        int fd;

        *len = room;
        fd = __real_accept4(listen_fd, addr, len, flags);
        if (fd < 0)
            return fd;
        if (*len > room) /* a Unix socket's client may be bound to a longer path than fits */
            *len = room;
        if (admit(l, fd, addr, *len))
            return fd;
    }
    errno = EAGAIN; /* the event comes again */
    return -1;
}

/* ---- connections ---- */

static void set_seat(struct conn *c, uint32_t seat)
{
    struct front *f = c->listener->front;
    uint32_t end;

    if (c->shared == NULL) { /* the table ends before it: nobody could give it back */
        tally_drop(&f->shm->tally, seat);
        return;
    }
    end = (uint32_t)c->fd + 1;
    if (atomic_load_explicit(&f->shared->fds_end, memory_order_relaxed) < end)
        atomic_store_explicit(&f->shared->fds_end, end, memory_order_relaxed);
    atomic_store_explicit(&c->shared->seat, seat, memory_order_relaxed);
}

/* As far as it is known without the headers of requests. */
const struct address *conn_client(const struct conn *c)
{
    return c->client.family != 0 ? &c->client : &c->peer;
}

/* For one that another process had admitted there is no limit: it is there already. */
static void admit_adopted(struct conn *c)
{
    struct front *f = c->listener->front;
    int64_t seat = 0;

    c->is_proxy = is_trusted(f->cfg, conn_client(c));
    if (!c->is_proxy)
        seat = take_seat(f, conn_client(c), UINT32_MAX);
    set_seat(c, seat > 0 ? (uint32_t)seat : 0);
    if (c->shared != NULL)
        c->shared->client = c->client;
}

void admission_take(struct conn *c)
{
    const struct front *f = c->listener->front;
    struct arrival *a = &c->listener->front->arrival;

    if (a->fd != c->fd) {
        metrics_add(&c->listener->meter->adopted, 1);
        admit_adopted(c);
        return;
    }
    metrics_add(&c->listener->meter->accepted, 1);
    c->peer = a->peer;
    c->is_proxy = a->is_proxy;
    set_seat(c, a->seat);
    if (f->cfg->listener[c->listener - f->listener].proxy_protocol != CONFIG_PROXY_OFF) {
        c->has_preface = c->wants_proxy = true;
        wire_set_flags(c, SHM_CONN_BUSY, 0); /* another process would not know that it is to come */
    }
    *a = (struct arrival){.fd = -1};
}

int admission_recount(struct conn *c, const struct address *client)
{
    struct front *f = c->listener->front;
    bool is_proxy = is_trusted(f->cfg, client);
    int64_t seat = is_proxy ? 0 : take_seat(f, client, f->cfg->limits.per_ip);

    if (seat < 0) {
        tell_per_ip(f, client);
        return -EAGAIN;
    }
    admission_leave(c);
    set_seat(c, (uint32_t)seat);
    c->client = *client;
    c->is_proxy = is_proxy;
    if (c->shared != NULL)
        c->shared->client = *client;
    return 0;
}

void admission_leave(struct conn *c)
{
    struct front *f = c->listener->front;

    if (c->shared == NULL)
        return;
    tally_drop(&f->shm->tally, atomic_exchange_explicit(&c->shared->seat, 0, memory_order_relaxed));
    c->shared->client.family = 0;
}
