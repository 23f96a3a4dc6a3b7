/*
 * host_message.c - how plugins change a message and reply to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/config.h"
#include "obs/log.h"
#include "plugin/failure.h"
#include "plugin/host.h"
#include "plugin/hostfd.h"
#include "plugin/instance.h"
#include "plugin/request.h"
#include "plugin/shadow.h"
#include "plugin/stream.h"

#define HEADER_MAX       8192   /* bytes of one value */
#define REQUEST_HEAD_MAX 262144 /* of all fields, with what plugins add */

/* ---- header fields ---- */

static bool is_token(const char *s, size_t *n)
{
    size_t i;

    for (i = 0; s[i] != '\0'; i++) {
        unsigned char c = (unsigned char)s[i];

        if (i == 256 || c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c) != NULL)
            return false;
    }
    *n = i;
    return i > 0;
}

/* What no value can have (RFC 9110 5.5); CR and LF would begin another field. */
static bool is_control(char c)
{
    return ((unsigned char)c < ' ' && c != '\t') || c == 0x7f;
}

/* Fields that frame the message or belong to the connection. */
static bool is_host_owned(const char *name, size_t n)
{
    static const char *const owned[] = {"content-length", "transfer-encoding", "connection", "date",
                                        "upgrade",        "trailer",           "keep-alive", "te"};

    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        if (strlen(owned[i]) == n && strncasecmp(owned[i], name, n) == 0)
            return true;
    return false;
}

/* Would the fields of one side, with n bytes more, pass the limit? The head of an answer that does
 * could not be sent at all: libmicrohttpd builds it in the connection's memory. */
static bool is_full(const struct bh_req *req, int32_t side, bh_str name, size_t n, bool replace)
{
    const struct fields *f = &req->hdr[side];
    size_t max = side == BH_REQ ? REQUEST_HEAD_MAX : req->head_limit;
    size_t sum = name.n + n + 4;

    if (max == 0)
        return false;
    for (uint32_t i = 0; i < f->n; i++)
        if (f->v[i].name.p != NULL && !(replace && f->v[i].name.n == name.n &&
                                        strncasecmp(f->v[i].name.p, name.p, name.n) == 0))
            sum += f->v[i].name.n + f->v[i].value.n + 4; /* ": " and CRLF */
    return sum > max;
}

static bool may_change(const bh_req *req, int32_t side)
{
    if (side == BH_REQ)
        return req->phase == PHASE_REQUEST || req->phase == PHASE_BODY;
    return req->phase < PHASE_SENDING;
}

static bh_rc change_header(bh_req *req, int32_t side, const char *name, const char *v, size_t n,
                           bool replace)
{
    size_t len;

    if (!request_is(req) || side < BH_REQ || side > BH_RESP || name == NULL || (v == NULL && n > 0))
        return BH_EINVAL;
    if (!may_change(req, side))
        return BH_EPHASE;
    if (!is_token(name, &len) || is_host_owned(name, len))
        return BH_EINVAL;
    if (n > HEADER_MAX || is_full(req, side, bh_sn(name, len), n, replace))
        return BH_ELIMIT;
    for (size_t i = 0; i < n; i++)
        if (is_control(v[i]))
            return BH_EINVAL;
    return request_set_field(req, side, bh_sn(name, len), bh_sn(v != NULL ? v : "", n), replace);
}

static bh_rc host_hdr_set(bh_req *req, int32_t side, const char *name, const char *v, size_t n)
{
    return change_header(req, side, name, v, n, true);
}

static bh_rc host_hdr_add(bh_req *req, int32_t side, const char *name, const char *v, size_t n)
{
    return change_header(req, side, name, v, n, false);
}

static bh_rc host_hdr_del(bh_req *req, int32_t side, const char *name)
{
    size_t len;

    if (!request_is(req) || side < BH_REQ || side > BH_RESP || name == NULL ||
        !is_token(name, &len))
        return BH_EINVAL;
    if (!may_change(req, side))
        return BH_EPHASE;
    return request_delete_field(req, side, bh_sn(name, len));
}

static bh_rc host_set_path(bh_req *req, const char *path, size_t n)
{
    const char *copy;

    if (!request_is(req) || path == NULL || n == 0 || path[0] != '/' ||
        memchr(path, '\0', n) != NULL)
        return BH_EINVAL;
    if (req->hook != HOOK_REQUEST)
        return BH_EPHASE;
    if (n > PATH_MAX)
        return BH_ELIMIT;
    copy = arena_strndup(&req->arena, path, n);
    if (copy == NULL)
        return BH_ENOMEM;
    request_touch(req);
    req->path = bh_sn(copy, n);
    return BH_OK;
}

/* ---- bodies ---- */

static bh_rc host_body_want(bh_req *req, int32_t side, int32_t mode, size_t max)
{
    struct entry *e;

    if (!request_is(req) || side < BH_REQ || side > BH_RESP || mode < BH_BODY_NONE ||
        mode > BH_BODY_BUFFER)
        return BH_EINVAL;
    if (req->hook != HOOK_REQUEST && !(side == BH_RESP && req->hook == HOOK_RESPONSE))
        return BH_EPHASE;
    e = &req->entry[req->at];
    e->want[side] = (uint8_t)mode;
    e->max[side] = max == 0 || max > req->body_limit ? req->body_limit : max;
    return BH_OK;
}

/* A stream may run for hours: its chunks must not pile up in the arena. Two buffers in turn, since
 * what a filter sets may come from what the one before it set. */
static char *scratch_copy(bh_req *req, const void *p, size_t n)
{
    int turn = req->scratch_turn ^ 1;

    if (n + 1 > req->scratch_cap[turn]) {
        char *more = realloc(req->scratch[turn], n + 1);

        if (more == NULL)
            return NULL;
        req->scratch[turn] = more;
        req->scratch_cap[turn] = n + 1;
    }
    memcpy(req->scratch[turn], p, n);
    req->scratch[turn][n] = '\0';
    req->scratch_turn = turn;
    return req->scratch[turn];
}

static bh_rc host_body_set(bh_req *req, int32_t side, const void *p, size_t n)
{
    const char *copy;

    if (!request_is(req) || side < BH_REQ || side > BH_RESP || (p == NULL && n > 0))
        return BH_EINVAL;
    if (side == BH_REQ ? !req->body_is_whole
                       : req->hook != HOOK_RESPONSE_BODY &&
                             (req->hook != HOOK_RESPONSE || req->reply.kind != REPLY_BYTES))
        return BH_EPHASE;
    if (n > REQUEST_ALLOC_MAX)
        return BH_ELIMIT;
    if (p == NULL)
        p = "";
    copy = req->phase == PHASE_SENDING ? scratch_copy(req, p, n) : arena_strndup(&req->arena, p, n);
    if (copy == NULL)
        return BH_ENOMEM;
    request_touch(req);
    if (side == BH_RESP && req->hook == HOOK_RESPONSE) {
        req->reply.bytes = copy;
        req->reply.len = n;
    } else {
        req->body[side] = bh_sn(copy, n);
    }
    return BH_OK;
}

/* ---- replies ---- */

static bh_rc check_reply(const bh_req *req, int32_t status, const char *ctype)
{
    if (!request_is(req) || status < 200 || status > 599)
        return BH_EINVAL;
    for (size_t i = 0; ctype != NULL && ctype[i] != '\0'; i++)
        if (i == 512 || is_control(ctype[i]))
            return BH_EINVAL;
    if (req->hook != HOOK_REQUEST && req->hook != HOOK_REQUEST_BODY && req->hook != HOOK_RESPONSE &&
        req->hook != HOOK_ERROR)
        return BH_EPHASE;
    return BH_OK;
}

static bh_rc set_reply(bh_req *req, const char *ctype, const struct reply *reply)
{
    bh_rc r = ctype == NULL
                  ? BH_OK
                  : request_set_field(req, BH_RESP, bh_s("Content-Type"), bh_s(ctype), true);

    if (r == BH_OK)
        request_set_reply(req, reply);
    return r;
}

static bh_rc host_reply_ref(bh_req *req, int32_t status, const char *ctype, const void *p, size_t n)
{
    struct reply reply = {.kind = REPLY_BYTES, .status = status, .bytes = p, .len = n, .fd = -1};
    bh_rc r = check_reply(req, status, ctype);

    if (r != BH_OK || (p == NULL && n > 0))
        return r != BH_OK ? r : BH_EINVAL;
    /* Both ends are touched now, in the plugin's own call, and not later in the host's. */
    if (n > 0)
        (void)(*(const volatile char *)p + *((const volatile char *)p + n - 1));
    return set_reply(req, ctype, &reply);
}

static bh_rc host_reply(bh_req *req, int32_t status, const char *ctype, const void *p, size_t n)
{
    bh_rc r = check_reply(req, status, ctype);
    struct reply reply;

    if (r != BH_OK || (p == NULL && n > 0))
        return r != BH_OK ? r : BH_EINVAL;
    reply = (struct reply){.kind = REPLY_BYTES, .status = status, .len = n, .fd = -1};
    reply.bytes = arena_strndup(&req->arena, p != NULL ? p : "", n);
    if (reply.bytes == NULL)
        return BH_ENOMEM;
    return set_reply(req, ctype, &reply);
}

static bh_rc host_send_fd(bh_req *req, int32_t status, const char *ctype, int32_t fd,
                          uint64_t offset, uint64_t len)
{
    struct reply reply = {
        .kind = REPLY_FILE, .status = status, .fd = fd, .offset = offset, .len = len};
    bh_rc r = check_reply(req, status, ctype);
    struct stat st;

    if (hostfd_has(fd)) /* not the plugin's to give: nor is it closed */
        return BH_EINVAL;
    if (r == BH_OK && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
                       offset > (uint64_t)st.st_size || len > (uint64_t)st.st_size - offset))
        r = BH_EINVAL;
    if (r == BH_OK)
        r = set_reply(req, ctype, &reply);
    if (r != BH_OK && fd > 2)
        close(fd);
    return r;
}

static bh_rc host_send_file(bh_req *req, const char *path, const char *ctype)
{
    bh_rc r = check_reply(req, 200, ctype);
    char full[PATH_MAX];
    struct stat st;
    int fd, n;

    if (r != BH_OK || path == NULL)
        return r != BH_OK ? r : BH_EINVAL;
    if (path[0] == '/')
        n = snprintf(full, sizeof full, "%s", path);
    else
        n = snprintf(full, sizeof full, "%s/%s", req->entry[req->at].inst->config->dir, path);
    if (n < 0 || (size_t)n >= sizeof full)
        return BH_ENOENT;
    fd = open(full, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return errno == EACCES ? BH_EPERM : BH_ENOENT;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return BH_EINVAL;
    }
    return host_send_fd(req, 200, ctype, fd, 0, (uint64_t)st.st_size);
}

static int32_t host_status(bh_req *req)
{
    return request_is(req) ? req->reply.status : 0;
}

static bh_rc host_status_set(bh_req *req, int32_t status)
{
    if (!request_is(req) || status < 200 || status > 599)
        return BH_EINVAL;
    if (req->phase >= PHASE_SENDING || req->reply.kind == REPLY_NONE)
        return BH_EPHASE;
    request_touch(req);
    req->reply.status = status;
    return BH_OK;
}

static bh_rc host_stream_begin(bh_req *req, int32_t status, int64_t len)
{
    struct reply reply = {.kind = REPLY_STREAM, .status = status, .fd = -1};
    bh_rc r = check_reply(req, status, NULL);

    if (r != BH_OK)
        return r;
    reply.len = len < 0 ? UINT64_MAX : (uint64_t)len;
    reply.by = req->at;
    /* A HEAD's body is not sent, so it may as well not be written. */
    reply.stream = stream_create(req->is_head ? STREAM_ANY : reply.len,
                                 &req->entry[req->at].inc->streams);
    if (reply.stream == NULL)
        return BH_ENOMEM;
    return set_reply(req, NULL, &reply);
}

/* Before the head is sent chain.c fails the request, and charges the plugin. */
static void note_broken(bh_req *req, bool is_end)
{
    request_log(req, LOG_ERROR,
                "plugin '%s': it streams %s than the %llu bytes that it announced, request "
                "%.*s %.*s",
                req->entry[req->reply.by].inst->cfg->name, is_end ? "other" : "more",
                (unsigned long long)req->reply.len, (int)req->method.n, req->method.p,
                (int)req->path.n, req->path.p);
    if (req->phase >= PHASE_RESPONSE)
        failure_truncate(req, req->reply.by, HOOK_WRITABLE, BH_E_FAIL);
}

static bh_rc host_stream_write(bh_req *req, const void *p, size_t n, int32_t end)
{
    bool was_broken;
    int r;

    if (!request_is(req) || (p == NULL && n > 0))
        return BH_EINVAL;
    if (req->reply.kind != REPLY_STREAM || req->phase == PHASE_LOG)
        return BH_EPHASE;
    if (shadow_is_foreign(req))
        return BH_EGONE;
    was_broken = stream_is_broken(req->reply.stream);
    r = stream_append(req->reply.stream, p, n, end != 0);
    switch (r) {
    case 0: return BH_OK;
    case -EAGAIN: return BH_EAGAIN;
    case -EPIPE: return BH_EPHASE;
    case -ECONNRESET: return BH_EGONE;
    case -EMSGSIZE:
        if (!was_broken)
            note_broken(req, end != 0);
        return BH_ELIMIT;
    default: return BH_ENOMEM;
    }
}

static bh_rc host_stream_on_writable(bh_req *req, bh_rc (*fn)(void *self, bh_req *req, void *ctx))
{
    if (!request_is(req) || fn == NULL)
        return BH_EINVAL;
    if (req->reply.kind != REPLY_STREAM || req->phase == PHASE_LOG)
        return BH_EPHASE;
    if (shadow_is_foreign(req))
        return BH_EGONE;
    return stream_want_room(req->reply.stream, fn) ? BH_OK : BH_EINVAL;
}

/* ---- memory and variables ---- */

static void *host_alloc(bh_req *req, size_t n, size_t align)
{
    void *p;

    if (!request_is(req) || (align & (align - 1)) != 0 || align > 4096)
        return NULL;
    if (n > REQUEST_ALLOC_MAX - req->allocated)
        return NULL;
    p = arena_alloc_aligned(&req->arena, n, align != 0 ? align : 16);
    if (p == NULL)
        return NULL;
    req->allocated += n;
    return memset(p, 0, n);
}

static bh_rc host_defer(bh_req *req, void (*fn)(void *), void *arg)
{
    struct deferred *d;

    if (!request_is(req) || fn == NULL)
        return BH_EINVAL;
    if (req->phase == PHASE_LOG || req->entry == NULL || req->at == req->n_entries ||
        req->entry[req->at].inc == NULL)
        return BH_EPHASE;
    d = arena_alloc(&req->arena, sizeof *d);
    if (d == NULL)
        return BH_ENOMEM;
    /* Not undone by a crash: that is when it is needed most. */
    *d = (struct deferred){req->deferred, fn, arg, req->entry[req->at].inc};
    req->deferred = d;
    return BH_OK;
}

static bh_rc host_var_set(bh_req *req, const char *k, const void *v, size_t n)
{
    struct var *var;
    size_t len;

    if (!request_is(req) || k == NULL || (v == NULL && n > 0))
        return BH_EINVAL;
    len = strlen(k);
    if (len == 0 || len > 256 || n > REQUEST_ALLOC_MAX - req->allocated)
        return BH_ELIMIT;
    var = arena_alloc(&req->arena, sizeof *var);
    if (var == NULL)
        return BH_ENOMEM;
    var->name = bh_sn(arena_strndup(&req->arena, k, len), len);
    var->value = bh_sn(arena_strndup(&req->arena, v != NULL ? v : "", n), n);
    if (var->name.p == NULL || var->value.p == NULL)
        return BH_ENOMEM;
    req->allocated += n;
    request_touch(req);
    var->next = req->vars; /* the newest of a name is found first */
    req->vars = var;
    return BH_OK;
}

static bh_str host_var_get(bh_req *req, const char *k)
{
    if (request_is(req) && k != NULL)
        for (const struct var *v = req->vars; v != NULL; v = v->next)
            if (strcmp(v->name.p, k) == 0)
                return v->value;
    return (bh_str){NULL, 0};
}

void host_fill_message(bh_host *h)
{
    h->hdr_set = host_hdr_set;
    h->hdr_add = host_hdr_add;
    h->hdr_del = host_hdr_del;
    h->set_path = host_set_path;
    h->body_set = host_body_set;
    h->body_want = host_body_want;
    h->reply = host_reply;
    h->reply_ref = host_reply_ref;
    h->send_fd = host_send_fd;
    h->send_file = host_send_file;
    h->status = host_status;
    h->status_set = host_status_set;
    h->stream_begin = host_stream_begin;
    h->stream_write = host_stream_write;
    h->stream_on_writable = host_stream_on_writable;
    h->alloc = host_alloc;
    h->defer = host_defer;
    h->var_set = host_var_set;
    h->var_get = host_var_get;
}
