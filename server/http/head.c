/*
 * head.c - what the head of a request must be before a chain sees it, and which chain that is.
 *
 * Framing is the wire guard's; this is the meaning: target, Host, method, route. What is refused here
 * is refused by the host, without any plugin. The order is that of RFC 9110 15.5 read as a server
 * would: what cannot be understood (400) before what is not implemented (501), before what is not
 * there (404) or not allowed (405).
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "conf/config.h"
#include "http/internal.h"
#include "http/route.h"
#include "http/target.h"
#include "ipc/shm.h"
#include "plugin/chain.h"

#define ALLOW_MAX 512

static void refuse(struct exchange *x, int status, const char *detail)
{
    exchange_refuse(x, status, detail);
    /* Who sends what is no request may mean another end of it than we do. */
    if (status == 400)
        x->is_last = true;
}

/* ---- Host ---- */

/* RFC 9112 3.2: once, and well-formed; in HTTP/1.0 it may be missing. The authority of an
 * absolute-form target counts in its place (3.2.2), for plugins too. */
static bool read_host(struct exchange *x, const struct target *t, struct authority *out)
{
    struct bh_req *req = &x->req;
    struct fields *fields = &req->hdr[BH_REQ];
    struct field *host = NULL;

    for (uint32_t i = 0; i < fields->n; i++) {
        struct field *f = &fields->v[i];

        if (f->name.n != 4 || strncasecmp(f->name.p, "host", 4) != 0)
            continue;
        if (host != NULL) {
            refuse(x, 400, "there is more than one Host");
            return false;
        }
        host = f;
    }
    if (host == NULL && strcmp(req->protocol.p, "HTTP/1.0") != 0) {
        refuse(x, 400, "Host is missing");
        return false;
    }
    if (host != NULL && !authority_parse(host->value, out)) {
        refuse(x, 400, "Host is malformed");
        return false;
    }
    if (host != NULL)
        req->host = host->value;
    if (t->form == TARGET_ABSOLUTE) {
        const char *copy = arena_strndup(&req->arena, t->host.p, t->host.n);

        if (copy == NULL) {
            refuse(x, 503, "out of memory");
            return false;
        }
        *out = t->authority;
        req->host = bh_sn(copy, t->host.n);
        if (host != NULL)
            host->value = req->host;
    }
    return true;
}

/* ---- methods ---- */

static void add_allow(struct exchange *x, const struct route_query *q)
{
    char allow[ALLOW_MAX];
    size_t n = route_allow(x->listener->front->cfg, q, allow, sizeof allow);

    request_set_field(&x->req, BH_RESP, bh_s("Allow"), bh_sn(allow, n), true);
}

static void refuse_method(struct exchange *x, const struct route_query *q, const char *detail)
{
    refuse(x, 405, detail);
    add_allow(x, q);
}

/* RFC 9110 9.3.7: an answer, with what may be asked, and without a body. */
static void answer_options(struct exchange *x, const struct route_query *q)
{
    static const struct reply empty = {.kind = REPLY_BYTES, .status = 200, .bytes = "", .fd = -1};

    x->req.call++;
    request_set_reply(&x->req, &empty);
    x->has_reply = true;
    add_allow(x, q);
}

/* The methods that have a form of target of their own, or none here. True: it is answered. */
static bool is_special(struct exchange *x, const struct target *t, struct route_query *q)
{
    bool is_connect = bh_str_eq(q->method, "CONNECT");

    if (is_connect != (t->form == TARGET_AUTHORITY)) {
        refuse(x, 400, is_connect ? "CONNECT wants HOST:PORT" : "the request target is malformed");
        return true;
    }
    if (t->form == TARGET_ASTERISK) {
        q->path = bh__none(); /* the server as a whole: all paths */
        if (!bh_str_eq(q->method, "OPTIONS"))
            refuse(x, 400, "* is a target of OPTIONS only");
        else
            answer_options(x, q);
        return true;
    }
    if (is_connect) {
        q->path = bh__none();
        refuse_method(x, q, "this server is no proxy");
        x->is_last = true; /* what comes now may be meant for the tunnel */
        return true;
    }
    if (bh_str_eq(q->method, "TRACE")) {
        refuse_method(x, q, "TRACE would show what proxies added to the request");
        return true;
    }
    return false;
}

static bool is_token(bh_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", s.p[i]) != NULL)
            return false;
    return s.n > 0;
}

/* ---- routes ---- */

static struct route_query query_of(const struct exchange *x, const struct authority *host)
{
    const struct bh_req *req = &x->req;

    return (struct route_query){.host = *host,
                                .default_port = bh_str_eq(req->scheme, "https") ? 443 : 80,
                                .path = req->path,
                                .method = req->method,
                                .query = req->query,
                                .fields = &req->hdr[BH_REQ]};
}

static void find_chain(struct exchange *x, const struct route_query *q)
{
    struct bh_req *req = &x->req;
    const struct front *f = x->listener->front;
    bool other_method;
    const struct config_route *route = route_find(f->cfg, q, &other_method);

    if (route != NULL) {
        req->route = route->name;
        req->route_number = route->number;
        x->route_meter = f->route_meter[route - f->cfg->route];
        if (route->body > 0)
            req->body_limit = route->body;
        if (x->content_length != UINT64_MAX && x->content_length > req->body_limit)
            refuse(x, 413, "the body is larger than this resource takes");
        else if (!chain_enter(req, f->chain[route - f->cfg->route], route->n_chain))
            refuse(x, 503, "out of memory");
    } else if (!other_method) {
        refuse(x, 404, "no route matches");
    } else if (bh_str_eq(q->method, "OPTIONS")) {
        answer_options(x, q);
    } else {
        refuse_method(x, q, "the resource is there, but not for this method");
    }
}

void head_admit(struct exchange *x)
{
    struct bh_req *req = &x->req;
    const struct config *cfg = x->listener->front->cfg;
    struct authority host = {.host = bh__none()};
    struct route_query q;
    struct target t;

    if (!target_parse(&req->arena, req->target, &t)) {
        refuse(x, 400, "the request target is malformed");
        return;
    }
    req->path = t.path;
    req->query = t.query;
    if (!read_host(x, &t, &host))
        return;
    if (x->told_host.p != NULL && authority_parse(x->told_host, &host))
        req->host = x->told_host;
    q = query_of(x, &host);
    if (is_special(x, &t, &q))
        return;
    if (!route_knows_method(cfg, req->method)) {
        if (is_token(req->method))
            refuse(x, 501, "the method is not known here");
        else
            refuse(x, 400, "the method is malformed");
        return;
    }
    find_chain(x, &q);
}

void head_without_reply(struct exchange *x)
{
    struct authority host = {.host = bh__none()};
    struct route_query q;

    if (!bh_str_eq(x->req.method, "OPTIONS")) {
        exchange_refuse(x, 404, "no plugin of the chain answers");
        return;
    }
    if (x->req.host.p != NULL)
        authority_parse(x->req.host, &host);
    q = query_of(x, &host);
    answer_options(x, &q);
}
