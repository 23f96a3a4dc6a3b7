#include "http/peer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "conf/config.h"
#include "http/authority.h"
#include "http/forwarded.h"
#include "http/internal.h"
#include "http/proxyproto.h"

/* ---- the connection ---- */

static bool refuse_header(struct conn *c, ssize_t *result)
{
    front_count_limit(c->listener->front, SHM_LIMIT_PROXY);
    *result = 0; /* the library closes */
    return false;
}

/* 1: it was read, c->proxy_left bytes of it are still in the socket. 0: not yet. -1: it is none. */
static int read_header(struct conn *c)
{
    const struct front *f = c->listener->front;
    char buf[PROXY_PEEK];
    struct proxy_header h;
    ssize_t n = recvfrom(c->fd, buf, sizeof buf, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
    int r;

    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    r = proxy_parse(buf, (size_t)n, f->cfg->listener[c->listener - f->listener].proxy_protocol, &h);
    if (r <= 0)
        return r;
    c->proxy_left = h.len;
    c->wants_proxy = false;
    if (h.client.family != 0 && admission_recount(c, &h.client) < 0)
        c->is_over_limit = true;
    return 1;
}

static int skip_header(struct conn *c)
{
    char junk[1024];

    while (c->proxy_left > 0) {
        size_t want = c->proxy_left < sizeof junk ? c->proxy_left : sizeof junk;
        ssize_t n = recvfrom(c->fd, junk, want, MSG_DONTWAIT, NULL, NULL);

        if (n <= 0)
            return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
        c->proxy_left -= (uint32_t)n;
    }
    return 1;
}

bool peer_take_header(struct conn *c, ssize_t *result)
{
    int r = c->wants_proxy ? read_header(c) : 1;

    if (r > 0)
        r = skip_header(c);
    if (r < 0)
        return refuse_header(c, result);
    if (r == 0) {
        errno = EAGAIN;
        *result = -1;
        return false;
    }
    c->has_preface = false;
    wire_set_flags(c, 0, SHM_CONN_BUSY);
    if (c->is_over_limit) {
        front_count_limit(c->listener->front, SHM_LIMIT_PER_IP);
        if (c->listener->is_tls) { /* nothing can be said before the handshake */
            *result = 0;
            return false;
        }
        guard_refuse(&c->guard, REFUSAL_PER_IP);
    }
    return true;
}

/* ---- the request ---- */

static void strip(struct fields *fields)
{
    for (uint32_t i = 0; i < fields->n; i++)
        if (fields->v[i].name.p != NULL && forwarded_is_name(fields->v[i].name))
            fields->v[i].name = bh__none();
}

void peer_read_head(struct exchange *x)
{
    const struct config *cfg = x->listener->front->cfg;
    struct bh_req *req = &x->req;
    struct authority authority;
    struct forwarded told;

    if (x->conn == NULL)
        return;
    x->client = *conn_client(x->conn);
    if (!x->conn->is_proxy) {
        if (cfg->strips_forwarded)
            strip(&req->hdr[BH_REQ]);
        return;
    }
    forwarded_read(cfg, &req->hdr[BH_REQ], &x->client, &told);
    x->client = told.client;
    if (told.scheme.p != NULL)
        req->scheme = told.scheme;
    if (told.host.p != NULL && authority_parse(told.host, &authority)) {
        const char *copy = arena_strndup(&req->arena, told.host.p, told.host.n);

        if (copy != NULL)
            x->told_host = bh_sn(copy, told.host.n);
    }
}

/* ---- what plugins ask ---- */

bh_str peer_text(bh_req *req, enum host_peer what)
{
    const struct exchange *x = exchange_of(req);
    bool is_port = what == HOST_CLIENT_PORT || what == HOST_PEER_PORT;
    const struct address *a = &x->client;
    char text[ADDRESS_TEXT];
    const char *s;

    if (x->conn == NULL)
        return bh__none();
    if (what == HOST_PEER || what == HOST_PEER_PORT)
        a = &x->conn->peer;
    if (is_port)
        s = a->port != 0 ? arena_printf(&req->arena, "%u", a->port) : NULL;
    else if (a->family == AF_UNIX)
        s = "unix"; /* it has no name */
    else
        s = address_print(a, text) ? arena_strndup(&req->arena, text, strlen(text)) : NULL;
    return s != NULL ? bh_s(s) : bh__none();
}
