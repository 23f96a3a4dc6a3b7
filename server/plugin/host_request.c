/*
 * host_request.c - what plugins ask about a request.
 */
#include <string.h>
#include <strings.h>

#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/request.h"
#include "plugin/trace.h"

static const bh_str absent = {NULL, 0};

static bh_inst *host_inst(bh_req *req)
{
    return request_is(req) && req->entry != NULL ? req->entry[req->at].inst : NULL;
}

static bh_str number(bh_req *req, uint64_t value)
{
    const char *s = arena_printf(&req->arena, "%llu", (unsigned long long)value);

    return s != NULL ? bh_s(s) : absent;
}

/* In the front layer. */
bh_str (*host_tls)(bh_req *req, const char *key);
bh_str (*host_peer)(bh_req *req, enum host_peer what);

static bh_str peer_attr(bh_req *req, const char *key)
{
    static const char *const keys[] = {[HOST_CLIENT] = "client",
                                       [HOST_CLIENT_PORT] = "client_port",
                                       [HOST_PEER] = "peer",
                                       [HOST_PEER_PORT] = "peer_port"};

    for (int i = 0; i < (int)(sizeof keys / sizeof keys[0]); i++)
        if (strcmp(key, keys[i]) == 0)
            return host_peer != NULL ? host_peer(req, i) : absent;
    return absent;
}

static bh_str host_attr(bh_req *req, const char *key)
{
    if (!request_is(req) || key == NULL)
        return absent;
    switch (key[0]) {
    case 'a': return strcmp(key, "aborted") == 0 && req->is_aborted ? bh_s("1") : absent;
    case 'm': return strcmp(key, "method") == 0 ? req->method : absent;
    case 's':
        if (strcmp(key, "scheme") == 0)
            return req->scheme;
        if (strcmp(key, "span_id") == 0)
            return trace_attr(req, key);
        return strcmp(key, "status") == 0 && req->reply.status != 0
                   ? number(req, (uint64_t)req->reply.status)
                   : absent;
    case 'h': return strcmp(key, "host") == 0 ? req->host : absent;
    case 'p':
        if (strcmp(key, "path") == 0)
            return req->path;
        return strcmp(key, "protocol") == 0 ? req->protocol : peer_attr(req, key);
    case 'r':
        if (strcmp(key, "raw_path") == 0)
            return req->target;
        return strcmp(key, "route") == 0 ? bh_s(req->route) : absent;
    case 'q': return strcmp(key, "query") == 0 ? req->query : absent;
    case 'l': return strcmp(key, "listener") == 0 ? bh_s(req->listener) : absent;
    case 'i': return strcmp(key, "id") == 0 ? request_id(req) : absent;
    case 'b': return strcmp(key, "bytes") == 0 ? number(req, req->bytes_sent) : absent;
    case 'c':
        if (strcmp(key, "crash_id") == 0)
            return req->crash_id[0] != '\0' ? bh_s(req->crash_id) : absent;
        return peer_attr(req, key);
    case 't':
        if (strcmp(key, "trace_id") == 0)
            return trace_attr(req, key);
        return host_tls != NULL && strncmp(key, "tls.", 4) == 0 ? host_tls(req, key) : absent;
    default: return absent;
    }
}

static bh_str host_hdr_get(bh_req *req, int32_t side, const char *name, size_t nth)
{
    const struct field *f;

    if (!request_is(req) || name == NULL || side < BH_REQ || side > BH_RESP)
        return absent;
    f = fields_find(&req->hdr[side], name, strlen(name), nth);
    return f != NULL ? f->value : absent;
}

static bh_rc host_hdr_at(bh_req *req, int32_t side, size_t i, bh_str *name, bh_str *value)
{
    const struct fields *f;

    if (!request_is(req) || side < BH_REQ || side > BH_RESP)
        return BH_EINVAL;
    f = &req->hdr[side];
    for (uint32_t k = 0; k < f->n; k++) {
        if (f->v[k].name.p == NULL || i-- > 0)
            continue;
        *name = f->v[k].name;
        *value = f->v[k].value;
        return BH_OK;
    }
    return BH_ENOENT;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* application/x-www-form-urlencoded, as browsers send queries. A bad escape stands for itself. */
static bh_str decode(bh_req *req, const char *p, size_t n)
{
    char *out = arena_alloc_aligned(&req->arena, n + 1, 1);
    size_t k = 0;

    if (out == NULL)
        return absent;
    for (size_t i = 0; i < n; i++) {
        int hi = p[i] == '%' && i + 2 < n ? hex(p[i + 1]) : -1;
        int lo = hi >= 0 ? hex(p[i + 2]) : -1;

        if (lo >= 0) {
            out[k++] = (char)(hi << 4 | lo);
            i += 2;
        } else {
            out[k++] = p[i] == '+' ? ' ' : p[i];
        }
    }
    out[k] = '\0';
    return bh_sn(out, k);
}

static bh_str host_query(bh_req *req, const char *name, size_t nth)
{
    const char *p, *end;
    size_t len;

    if (!request_is(req) || name == NULL || req->query.p == NULL)
        return absent;
    len = strlen(name);
    p = req->query.p;
    end = p + req->query.n;
    while (p < end) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        const char *stop = amp != NULL ? amp : end;
        const char *eq = memchr(p, '=', (size_t)(stop - p));
        const char *key_end = eq != NULL ? eq : stop;
        size_t key_n = (size_t)(key_end - p);
        bool same = key_n == len && memcmp(p, name, len) == 0;

        if (!same && key_n > len && memchr(p, '%', key_n) != NULL) {
            bh_str key = decode(req, p, key_n);

            same = key.p != NULL && key.n == len && memcmp(key.p, name, len) == 0;
        }
        if (same && nth-- == 0)
            return eq != NULL ? decode(req, eq + 1, (size_t)(stop - eq - 1)) : bh_s("");
        p = stop + 1;
    }
    return absent;
}

static bh_str host_cookie(bh_req *req, const char *name)
{
    const struct field *f;
    size_t len;

    if (!request_is(req) || name == NULL)
        return absent;
    len = strlen(name);
    for (size_t nth = 0; (f = fields_find(&req->hdr[BH_REQ], "cookie", 6, nth)) != NULL; nth++) {
        const char *p = f->value.p, *end = p + f->value.n;

        while (p < end) {
            const char *semi = memchr(p, ';', (size_t)(end - p));
            const char *stop = semi != NULL ? semi : end;

            while (p < stop && (*p == ' ' || *p == '\t'))
                p++;
            if ((size_t)(stop - p) > len && memcmp(p, name, len) == 0 && p[len] == '=') {
                const char *v = arena_strndup(&req->arena, p + len + 1,
                                              (size_t)(stop - p) - len - 1);

                return v != NULL ? bh_sn(v, (size_t)(stop - p) - len - 1) : absent;
            }
            p = stop + 1;
        }
    }
    return absent;
}

static bh_rc host_body(bh_req *req, int32_t side, bh_str *out)
{
    bh_str body;

    if (!request_is(req) || side < BH_REQ || side > BH_RESP)
        return BH_EINVAL;
    if (side == BH_REQ) {
        if (!req->body_is_whole)
            return BH_EPHASE;
        body = req->body[BH_REQ];
    } else if (req->reply.kind == REPLY_BYTES) {
        body = bh_sn(req->reply.bytes, (size_t)req->reply.len);
    } else {
        return BH_EPHASE;
    }
    *out = body;
    return BH_OK;
}

void host_fill_request(bh_host *h)
{
    h->inst = host_inst;
    h->attr = host_attr;
    h->hdr_get = host_hdr_get;
    h->hdr_at = host_hdr_at;
    h->query = host_query;
    h->cookie = host_cookie;
    h->body = host_body;
}
