/*
 * early.c - an answer while the request's body still arrives.
 *
 * libmicrohttpd takes an answer before a body or after it, but not in between: the client would first
 * have to send all of what nobody wants. So such an answer is written here, the library forgets the
 * connection, and what still comes in is thrown away for a while (farewell.c): a socket that is closed
 * with unread input is reset, and the reset may overtake the answer.
 *
 * What a newcomer would get wrong: it goes past the library, and so must be sent whole, at once, and not
 * through TLS. Where that cannot be, the body is read to its end, as far as limits.body lets it come.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "http/internal.h"
#include "ipc/shm.h"
#include "plugin/chain.h"
#include "plugin/host.h"

#define ANSWER_MAX 65536 /* fits into a socket's buffer */

static bool is_possible(const struct exchange *x)
{
    return x->conn != NULL && x->conn->tls == NULL &&
           x->req.reply.kind == REPLY_BYTES && x->req.reply.len <= ANSWER_MAX;
}

/* The head, in the request's arena. */
static char *make_head(struct exchange *x, size_t *n)
{
    struct bh_req *req = &x->req;
    int status = req->reply.status;
    const struct fields *f = &req->hdr[BH_RESP];
    time_t now = (time_t)(host_loop_real_ns / 1000000000);
    size_t size = 512;
    char date[64], *p;
    struct tm tm;
    int k;

    for (uint32_t i = 0; i < f->n; i++)
        if (f->v[i].name.p != NULL)
            size += f->v[i].name.n + f->v[i].value.n + 4;
    p = arena_alloc(&req->arena, size);
    if (p == NULL || gmtime_r(&now, &tm) == NULL)
        return NULL;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    k = snprintf(p, size, "HTTP/1.1 %d %s\r\nConnection: close\r\nDate: %s\r\n", status,
                 MHD_get_reason_phrase_for((unsigned)status), date);
    if (status != 204)
        k += snprintf(p + k, size - (size_t)k, "Content-Length: %llu\r\n",
                      (unsigned long long)req->reply.len);
    for (uint32_t i = 0; i < f->n; i++)
        if (f->v[i].name.p != NULL)
            k += snprintf(p + k, size - (size_t)k, "%s: %s\r\n", f->v[i].name.p, f->v[i].value.p);
    k += snprintf(p + k, size - (size_t)k, "\r\n");
    *n = (size_t)k;
    return (size_t)k < size ? p : NULL;
}

static bool send_whole(struct exchange *x)
{
    struct reply *reply = &x->req.reply;
    bool has_body = !x->req.is_head && reply->status != 204 && reply->status != 304;
    struct iovec v[2] = {{0}, {(void *)(uintptr_t)reply->bytes, has_body ? reply->len : 0}};
    struct msghdr msg = {.msg_iov = v, .msg_iovlen = 2};

    v[0].iov_base = make_head(x, &v[0].iov_len);
    if (v[0].iov_base == NULL)
        return false;
    /* Where only a part can be sent the rest is lost, and the client sees that. */
    if (sendmsg(x->conn->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return false;
    x->req.bytes_sent = v[1].iov_len;
    return true;
}

bool early_answer(struct exchange *x)
{
    if (x->has_tried_early || !is_possible(x))
        return false;
    x->has_tried_early = true;
    chain_response(&x->req);
    if (!is_possible(x))
        return false; /* on_response has made it another answer */
    wire_set_flags(x->conn, SHM_CONN_SENT, 0);
    x->is_early = send_whole(x);
    x->req.phase = PHASE_SENDING;
    farewell_linger(x->listener->front, x->conn->fd);
    return true;
}
