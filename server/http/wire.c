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
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/must.h"
#include "http/internal.h"
#include "http/peer.h"
#include "http/socket.h"
#include "http/tls.h"
#include "ipc/shm.h"
#include "obs/log.h"
#include "plugin/recover.h"

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

struct conn *wire_find(int fd)
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

    guard_init(&c->guard);
    c->consumed = WIRE_UNKNOWN;
    c->shared = shm_conn(f->shm, f->slot, c->fd);
    if (c->shared != NULL)
        c->shared->replay_at = c->shared->replay_len = 0;
    /* A request that is to be run again is on its way from the first moment: who takes the connection over
     * before it was read must not take it for idle, and wait for a request that nobody sends any more. */
    wire_set_flags(c,
                   SHM_CONN_OPEN | (c->listener->is_tls ? SHM_CONN_TLS : 0) |
                       (c->pending != NULL ? SHM_CONN_BUSY : 0) |
                       (uint32_t)(c->listener - f->listener) << SHM_CONN_LISTENER_SHIFT,
                   0);
    admission_take(c);
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
    c->is_whole = false;
    c->n_begun++;
    c->consumed = WIRE_UNKNOWN;
    c->drops_last_chunk = c->cuts_length = false;
    wire_set_flags(c, SHM_CONN_BUSY,
                   SHM_CONN_EXTRA | SHM_CONN_SENT | SHM_CONN_AGAIN | SHM_CONN_LAST);
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

void wire_end(struct conn *c, bool is_last)
{
    bool is_idle = c->received == c->consumed;

    c->x = NULL;
    c->is_whole = true;
    c->is_replay = false;
    c->consumed = WIRE_UNKNOWN;
    if (is_last) /* the library closes it soon, after all that it has to do for others just now */
        wire_set_flags(c, SHM_CONN_LAST, 0);
    deadline_set(c, is_idle ? DEADLINE_QUIET : DEADLINE_HEAD);
    if (is_idle) {
        c->received = 0;
        wire_set_flags(c, 0, SHM_CONN_BUSY | SHM_CONN_SENT | SHM_CONN_AGAIN | SHM_CONN_EXTRA);
        return;
    }
    wire_set_flags(c, SHM_CONN_BUSY | SHM_CONN_EXTRA, SHM_CONN_SENT | SHM_CONN_AGAIN);
    if (list_is_empty(&c->unsure))
        list_append(&c->listener->front->unsure, &c->unsure);
}

/* The library waits for an event once it was told that there is nothing to read; a resumed connection
 * counts as readable. */
void wire_poke(struct conn *c)
{
    c->is_poked = true;
    if (list_is_empty(&c->unsure))
        list_append(&c->listener->front->unsure, &c->unsure);
}

void wire_settle(struct front *f)
{
    while (!list_is_empty(&f->unsure)) {
        struct conn *c = list_entry(f->unsure.next, struct conn, unsure);
        bool is_poked = c->is_poked;

        list_remove(&c->unsure);
        c->is_poked = false;
        if (c->refuse_soon != REFUSAL_NONE) {
            enum http_refusal reason = c->refuse_soon;

            c->refuse_soon = REFUSAL_NONE;
            wire_refuse_request(c, reason); /* is poked again by that */
            continue;
        }
        if (c->x != NULL && (!is_poked || c->x->is_suspended))
            continue; /* the next request has begun; it is going to be resumed */
        MHD_suspend_connection(c->mhd);
        MHD_resume_connection(c->mhd);
        c->listener->needs_run = true;
    }
}

/* ---- in ---- */

/* No plugin call runs while a connection is read or written. One was left by a jump, then, which has
 * skipped frames of the library: before it makes a mess of other connections, too. */
static inline void check_order(void)
{
    if (__builtin_expect(recover_is_armed(), 0))
        recover_out_of_order(NULL);
}

/* Before a request's first line is whole: the library asks for bytes to put at buf. What it holds of
 * the next request lies before that; the guard lets no blank lines through. */
static void locate(struct conn *c, const char *buf)
{
    if (c->base == NULL)
        c->base = buf;
    c->received = (uintptr_t)buf - (uintptr_t)c->base;
    wire_set_flags(c, 0, SHM_CONN_EXTRA);
}

static void note_received(struct conn *c, size_t n)
{
    c->received += n;
    if (c->x == NULL && c->received == 0 && guard_is_idle(&c->guard)) {
        if ((c->flags & SHM_CONN_BUSY) != 0) /* it had been taken for a request */
            deadline_set(c, DEADLINE_IDLE);
        wire_set_flags(c, 0, SHM_CONN_BUSY | SHM_CONN_READING);
    } else if ((c->flags & SHM_CONN_BUSY) == 0) {
        wire_set_flags(c, SHM_CONN_BUSY, SHM_CONN_READING);
        if (c->due.kind == DEADLINE_IDLE || c->due.kind == DEADLINE_QUIET)
            deadline_set(c, DEADLINE_HEAD);
    } else {
        wire_set_flags(c, 0, SHM_CONN_READING);
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

/* ---- through the guard ---- */

static void note_refusal(struct conn *c)
{
    struct shm_worker *shared = c->listener->front->shared;
    _Atomic uint64_t *n = &shared->refused[c->guard.refusal];

    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    log_debug("a request is refused: %s", refusal_name((enum http_refusal)c->guard.refusal));
}

/* What makes a request of what the library has of the refused one. */
static size_t complete(struct conn *c, char *buf, size_t size)
{
    size_t n = size > 0 ? guard_complete(&c->guard, buf, size) : 0;

    if (!guard_is_complete(&c->guard))
        wire_poke(c);
    return n;
}

/* Some of the source, checked. *kept: how much of it the library gets; what the source answered. */
static ssize_t take(struct conn *c, char *buf, size_t size, const struct wire_source *source,
                    size_t *kept)
{
    struct front *f = c->listener->front;
    size_t room = guard_room(&c->guard);
    ssize_t n;

    *kept = 0;
    if (__builtin_expect(size <= room,
                         0)) { /* the library makes room when it has worked off some */
        wire_poke(c);
        return source->again;
    }
    if (__builtin_expect(c->is_diverted, 0))
        n = take_pending(c, buf + room, size - room);
    else
        n = source->read(source, buf + room, size - room);
    if (n <= 0)
        return n;
    c->moved += (uint64_t)n;
    metrics_add(&c->listener->meter->received, (uint64_t)n);
    *kept = guard_pass(&c->guard, &f->guard_limits, buf, buf + room, (size_t)n);
    if (__builtin_expect(c->guard.refusal != REFUSAL_NONE, 0)) {
        note_refusal(c);
        *kept += complete(c, buf + *kept, size - *kept);
    } else if ((size_t)n == size - room && *kept < size) {
        wire_poke(c); /* there may be more */
    }
    return n;
}

/* A short answer tells the library that nothing more is there just now, and it waits for an event:
 * so where that may not be true it is poked. After what was pending it is, since the socket is not in
 * the library's epoll set yet. */
ssize_t wire_receive(struct conn *c, void *buf, size_t size, const struct wire_source *source)
{
    size_t kept;
    ssize_t n;

    if (c->x == NULL)
        locate(c, buf);
    /* Another thread may end the worker while the bytes are nowhere but on this one's stack. */
    wire_set_flags(c, SHM_CONN_READING, 0);
    if (__builtin_expect(c->guard.refusal != REFUSAL_NONE, 0)) {
        if (c->is_given)
            return 0;
        kept = complete(c, buf, size);
        n = kept > 0 ? (ssize_t)kept : source->again;
    } else {
        do /* what is taken out entirely is not the end of what there is */
            n = take(c, buf, size, source, &kept);
        while (n > 0 && kept == 0);
    }
    if (n > 0) {
        note_received(c, kept);
        n = (ssize_t)kept;
    } else if (n == source->again) {
        note_received(c, 0);
    } else {
        wire_set_flags(c, 0, SHM_CONN_READING);
    }
    return n;
}

bool wire_refuse_request(struct conn *c, enum http_refusal reason)
{
    if (c->is_given || c->guard.refusal != REFUSAL_NONE ||
        (c->x != NULL && (guard_is_idle(&c->guard) || c->n_begun != c->guard.n_requests)))
        return false;
    guard_refuse(&c->guard, reason);
    note_refusal(c);
    wire_poke(c);
    c->listener->needs_run = true;
    return true;
}

void wire_stop_reading(struct conn *c)
{
    c->lingers = true;
    if (c->guard.refusal != REFUSAL_NONE || c->n_begun != c->guard.n_requests ||
        !guard_is_in_body(&c->guard))
        return; /* all of it has come */
    guard_refuse(&c->guard, REFUSAL_BODY_UNREAD);
    note_refusal(c);
    wire_poke(c);
}

void wire_refuse_soon(struct conn *c, enum http_refusal reason)
{
    c->refuse_soon = reason;
    wire_poke(c);
}

static ssize_t read_socket(const struct wire_source *source, void *buf, size_t size)
{
    return socket_recv(source->fd, buf, size, source->flags);
}

/* After less than it has asked for the library waits for an event. Where the client's end came along with
 * these bytes that was it, and one who has broken off its request would be noticed by its deadline only. */
static void look_for_end(struct conn *c)
{
    char byte;

    if (__real_recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        wire_poke(c);
}

static ssize_t read_tls(const struct wire_source *source, void *buf, size_t size)
{
    return tls_recv(wire_find(source->fd), buf, size);
}

ssize_t __wrap_recv(int fd, void *buf, size_t size, int flags)
{
    struct wire_source source = {.read = read_socket, .again = -1, .fd = fd, .flags = flags};
    struct conn *c = wire_find(fd);
    ssize_t n;

    if (c == NULL)
        return __real_recv(fd, buf, size, flags);
    check_order();
    if (c->tls != NULL)
        source.read = read_tls;
    if (__builtin_expect(c->has_preface, 0) && !c->is_diverted && !peer_take_header(c, &n))
        return n;
    errno = EAGAIN;
    n = wire_receive(c, buf, size, &source);
    if (n > 0 && (size_t)n < size && !guard_is_idle(&c->guard))
        look_for_end(c);
    return n;
}

/* ---- out ---- */

/* Before the system call: another thread may end the worker between it and whatever comes next, and an
 * answer of which bytes are out must not be given again. True: these are its first bytes. */
static inline bool note_sending(struct conn *c)
{
    if ((c->flags & SHM_CONN_SENT) != 0)
        return false;
    wire_set_flags(c, SHM_CONN_SENT, 0);
    return true;
}

static inline void note_sent(struct conn *c, ssize_t n, bool is_first)
{
    if (n <= 0) {
        if (is_first)
            wire_set_flags(c, 0, SHM_CONN_SENT);
        return;
    }
    c->moved += (uint64_t)n;
    metrics_add(&c->listener->meter->sent, (uint64_t)n);
    if (c->x != NULL && c->x->n_sends++ == 0)
        /* The one reading of the clock for most requests, whose answer goes out at once and is over by
         * that: the loop's clock stands still while they are worked on. */
        c->x->first_ns = clock_mono_ns();
}

static inline ssize_t send_some(struct conn *c, const void *buf, size_t size, int flags)
{
    return c->tls != NULL ? tls_send(c, buf, size) : socket_send(c->fd, buf, size, flags);
}

/* A head that goes out without its last line, which says that there is no body: 304. It lies in the
 * library's buffer, and is sent from there; what did not go out is as it was, for the next try. */
static ssize_t send_without_length(struct conn *c, char *buf, size_t size, int flags)
{
    static const char line[] = "Content-Length: 0\r\n\r\n";
    size_t n = sizeof line - 1, keep = size - n;
    ssize_t sent;

    if (size < n || memcmp(buf + keep, line, n) != 0)
        return send_some(c, buf, size, flags);
    memcpy(buf + keep, "\r\n", 2);
    sent = send_some(c, buf, keep + 2, flags);
    memcpy(buf + keep, line, 2);
    if (sent <= (ssize_t)keep)
        return sent;
    return (ssize_t)size - (sent == (ssize_t)keep + 1); /* else the last LF is still to come */
}

/* The chunk that ends a body which the answer does not have. It comes by itself, after the head. */
static bool is_to_be_dropped(struct conn *c, const void *buf, size_t size)
{
    if (!c->drops_last_chunk || size != 5 || memcmp(buf, "0\r\n\r\n", 5) != 0)
        return false;
    c->drops_last_chunk = false;
    return true;
}

ssize_t __wrap_send(int fd, const void *buf, size_t size, int flags)
{
    static const char interim[] = "HTTP/1.1 100 Continue"; /* not yet the answer */
    struct conn *c = wire_find(fd);
    bool is_answer, is_first;
    ssize_t n;

    if (c == NULL)
        return __real_send(fd, buf, size, flags);
    check_order();
    if (__builtin_expect(is_to_be_dropped(c, buf, size), 0))
        return (ssize_t)size;
    is_answer = size < sizeof interim - 1 || memcmp(buf, interim, sizeof interim - 1) != 0;
    is_first = is_answer && note_sending(c);
    if (__builtin_expect(c->cuts_length, 0))
        n = send_without_length(c, (char *)(uintptr_t)buf, size, flags);
    else
        n = send_some(c, buf, size, flags);
    if (is_answer)
        note_sent(c, n, is_first);
    return n;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct conn *c = wire_find(fd);
    bool is_first;
    ssize_t n;

    if (c == NULL)
        return __real_sendmsg(fd, msg, flags);
    check_order();
    is_first = note_sending(c);
    n = c->tls != NULL ? tls_sendmsg(c, msg) : socket_sendmsg(fd, msg, flags);
    note_sent(c, n, is_first);
    return n;
}

ssize_t __wrap_sendfile64(int fd, int from, off64_t *at, size_t size)
{
    struct conn *c = wire_find(fd);
    bool is_first;
    ssize_t n;

    if (c == NULL)
        return __real_sendfile64(fd, from, at, size);
    check_order();
    is_first = note_sending(c);
    n = c->tls != NULL ? tls_sendfile(c, from, at, size) : __real_sendfile64(fd, from, at, size);
    note_sent(c, n, is_first);
    return n;
}
