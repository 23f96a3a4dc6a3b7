/*
 * wire.c - what goes over the clients' sockets, between libmicrohttpd and the kernel.
 *
 * The Makefile links the recv() and its kin that the library calls to the __wrap_ functions below.
 * They keep the table of connections in shared memory (struct shm_conn) true, and can put bytes in
 * front of those of the socket. Only the loop thread gets here with a client's descriptor.
 *
 * What a newcomer would get wrong: they stand in for every call of this executable, the server's own
 * included, and so must leave descriptors that they do not know alone.
 *
 * Where a request ends in what was received is not told by the library, but follows: between requests
 * it moves what it has not used yet to the start of its buffer (`base`, constant for a connection), so
 * a pointer into the buffer, less base, is an offset in what was received since. After a body whose
 * length on the wire is unknown (chunked) the pointer of the next recv() tells.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "base/must.h"
#include "http/internal.h"
#include "http/tls.h"
#include "ipc/shm.h"
#include "plugin/hostfd.h"

ssize_t __real_recv(int fd, void *buf, size_t size, int flags);
ssize_t __real_send(int fd, const void *buf, size_t size, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __real_sendfile64(int fd, int from, off64_t *at, size_t size);
ssize_t __wrap_recv(int fd, void *buf, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t size, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendfile64(int fd, int from, off64_t *at, size_t size);

static struct conn **conn_of; /* by descriptor */
static size_t n_conn_of;

int wire_init(void)
{
    struct rlimit limit;
    size_t n = SHM_FDS;
    void *p;

    if (conn_of != NULL)
        return 0;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < n)
        n = limit.rlim_max;
    p = mmap(NULL, n * sizeof *conn_of, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); /* touched as far as it is used */
    if (p == MAP_FAILED)
        return -ENOMEM;
    conn_of = p;
    n_conn_of = n;
    return 0;
}

static inline struct conn *find(int fd)
{
    return (size_t)(unsigned)fd < n_conn_of ? conn_of[fd] : NULL;
}

bool wire_has_room(int fd)
{
    return (size_t)(unsigned)fd < n_conn_of;
}

void wire_set_flags(struct conn *c, uint32_t on, uint32_t off)
{
    uint32_t flags = (c->flags & ~off) | on;

    if (flags == c->flags)
        return;
    c->flags = flags;
    if (c->shared != NULL)
        atomic_store_explicit(&c->shared->flags, flags, memory_order_relaxed);
}

void wire_open(struct conn *c)
{
    const struct front *f = c->listener->front;

    c->consumed = WIRE_UNKNOWN;
    c->shared = shm_conn(f->shm, f->slot, c->fd);
    if (c->shared != NULL)
        c->shared->replay_at = c->shared->replay_len = 0;
    admission_take(c);
    wire_set_flags(c,
                   SHM_CONN_OPEN | (c->listener->is_tls ? SHM_CONN_TLS : 0) |
                       (uint32_t)(c->listener - f->listener) << SHM_CONN_LISTENER_SHIFT,
                   0);
    if (wire_has_room(c->fd))
        conn_of[c->fd] = c;
}

void wire_close(struct conn *c)
{
    tls_close(c); /* by what its flags say */
    wire_set_flags(c, 0, UINT32_MAX);
    list_remove(&c->unsure);
    deadline_clear(&c->due);
    admission_leave(c);
    free(c->pending);
    c->pending = NULL;
    if (wire_has_room(c->fd))
        conn_of[c->fd] = NULL;
}

/* ---- a connection's requests ---- */

void wire_begin(struct conn *c, struct exchange *x)
{
    c->x = x;
    c->consumed = WIRE_UNKNOWN;
    c->drops_last_chunk = false;
    wire_set_flags(c, SHM_CONN_BUSY, SHM_CONN_EXTRA | SHM_CONN_SENT | SHM_CONN_AGAIN);
}

static void note_extra(struct conn *c)
{
    if (c->received > c->consumed) /* never, when it is WIRE_UNKNOWN */
        wire_set_flags(c, SHM_CONN_EXTRA, 0);
}

void wire_head(struct conn *c, const char *method, uint64_t body_len)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        c->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    uint64_t before; /* blank lines that the library skipped */

    if (info == NULL || body_len == WIRE_UNKNOWN)
        return;
    before = (uintptr_t)method - (uintptr_t)c->base;
    if (before > c->received || info->header_size > c->received - before)
        return; /* the buffer was moved */
    c->consumed = before + info->header_size + body_len;
    note_extra(c);
}

void wire_end(struct conn *c)
{
    bool is_idle = c->received == c->consumed;

    c->x = NULL;
    c->is_replay = false;
    c->consumed = WIRE_UNKNOWN;
    deadline_set(c, is_idle ? DEADLINE_IDLE : DEADLINE_HEAD);
    if (is_idle) {
        c->received = 0;
        wire_set_flags(c, 0, SHM_CONN_BUSY | SHM_CONN_SENT | SHM_CONN_AGAIN | SHM_CONN_EXTRA);
        return;
    }
    wire_set_flags(c, SHM_CONN_BUSY | SHM_CONN_EXTRA, SHM_CONN_SENT | SHM_CONN_AGAIN);
    if (list_is_empty(&c->unsure))
        list_append(&c->listener->front->unsure, &c->unsure);
}

void wire_settle(struct front *f)
{
    while (!list_is_empty(&f->unsure)) {
        struct conn *c = list_entry(f->unsure.next, struct conn, unsure);

        list_remove(&c->unsure);
        if (c->x != NULL)
            continue;                   /* the next request has begun */
        MHD_suspend_connection(c->mhd); /* a resumed connection counts as readable */
        MHD_resume_connection(c->mhd);
        c->listener->needs_run = true;
    }
}

/* The answer goes out over a duplicate, which also waits for the client's end; the library reads the
 * end of the connection from take_pending(), as of one that another process has. */
void wire_refuse(struct conn *c, int status, enum shm_limit why)
{
    struct front *f = c->listener->front;
    int copy = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);

    front_count_limit(f, why);
    deadline_clear(&c->due);
    if (copy < 0) {
        shutdown(c->fd, SHUT_RDWR);
        return;
    }
    hostfd_add(copy);
    farewell_say_over(f, copy, c->tls != NULL ? c : NULL, status);
    conn_let_go(c);
}

/* ---- in ---- */

/* Blank lines before a request are skipped (RFC 9112 2.2) and do not make one. The library puts a NUL
 * for each byte of a line's end that it has passed. */
static bool is_blank(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != '\r' && p[i] != '\n' && p[i] != '\0')
            return false;
    return true;
}

/* Before a request's first line is whole: the library asks for bytes to put at buf. What it holds of
 * the next request lies before that. */
static void locate(struct conn *c, const char *buf)
{
    if (c->base == NULL)
        c->base = buf;
    c->received = (uintptr_t)buf - (uintptr_t)c->base;
    if (!is_blank(c->base, c->received)) {
        wire_set_flags(c, 0, SHM_CONN_EXTRA);
        return;
    }
    if (c->flags & SHM_CONN_BUSY) /* it had been taken for a request */
        deadline_set(c, DEADLINE_IDLE);
    wire_set_flags(c, 0, SHM_CONN_EXTRA | SHM_CONN_BUSY);
}

static void note_received(struct conn *c, const char *buf, size_t n)
{
    c->received += n;
    c->moved += n;
    if ((c->flags & SHM_CONN_BUSY) == 0 && !is_blank(buf, n)) {
        wire_set_flags(c, SHM_CONN_BUSY, 0);
        if (c->due.kind == DEADLINE_IDLE)
            deadline_set(c, DEADLINE_HEAD);
    }
    note_extra(c);
}

static ssize_t take_pending(struct conn *c, void *buf, size_t size)
{
    size_t n = c->pending_n - c->pending_at;

    if (c->is_given)
        return 0;
    if (n > size)
        n = size;
    memcpy(buf, c->pending + c->pending_at, n);
    c->pending_at += n;
    if (c->pending_at == c->pending_n) {
        free(c->pending);
        c->pending = NULL;
        c->is_diverted = false;
    }
    return (ssize_t)n;
}

/* A short answer tells the library that nothing more is there just now, and it waits for an event:
 * so bytes may be held back here only where one is sure to come. After what was pending it is, since
 * the socket is not in the library's epoll set yet. */
ssize_t __wrap_recv(int fd, void *buf, size_t size, int flags)
{
    struct conn *c = find(fd);
    ssize_t n;

    if (c == NULL)
        return __real_recv(fd, buf, size, flags);
    if (c->x == NULL)
        locate(c, buf);
    if (__builtin_expect(c->is_diverted, 0))
        n = take_pending(c, buf, size);
    else if (c->tls != NULL)
        n = tls_recv(c, buf, size);
    else
        n = __real_recv(fd, buf, size, flags);
    if (n > 0)
        note_received(c, buf, (size_t)n);
    return n;
}

/* ---- out ---- */

static inline struct conn *find_tls(int fd)
{
    struct conn *c = find(fd);

    return c != NULL && c->tls != NULL ? c : NULL;
}

static inline void note_sent(int fd, ssize_t n)
{
    struct conn *c;

    if (n <= 0 || (c = find(fd)) == NULL)
        return;
    c->moved += (uint64_t)n;
    wire_set_flags(c, SHM_CONN_SENT, 0);
}

/* The chunk that ends a body which the answer does not have. It comes by itself, after the head. */
static bool is_to_be_dropped(int fd, const void *buf, size_t size)
{
    struct conn *c;

    if (size != 5 || memcmp(buf, "0\r\n\r\n", 5) != 0 || (c = find(fd)) == NULL ||
        !c->drops_last_chunk)
        return false;
    c->drops_last_chunk = false;
    return true;
}

ssize_t __wrap_send(int fd, const void *buf, size_t size, int flags)
{
    static const char interim[] = "HTTP/1.1 100 Continue"; /* not yet the answer */
    struct conn *c;
    ssize_t n;

    if (__builtin_expect(is_to_be_dropped(fd, buf, size), 0))
        return (ssize_t)size;
    c = find_tls(fd);
    n = c != NULL ? tls_send(c, buf, size) : __real_send(fd, buf, size, flags);

    if (size < sizeof interim - 1 || memcmp(buf, interim, sizeof interim - 1) != 0)
        note_sent(fd, n);
    return n;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct conn *c = find_tls(fd);
    ssize_t n = c != NULL ? tls_sendmsg(c, msg) : __real_sendmsg(fd, msg, flags);

    note_sent(fd, n);
    return n;
}

ssize_t __wrap_sendfile64(int fd, int from, off64_t *at, size_t size)
{
    struct conn *c = find_tls(fd);
    ssize_t n = c != NULL ? tls_sendfile(c, from, at, size) : __real_sendfile64(fd, from, at, size);

    note_sent(fd, n);
    return n;
}
