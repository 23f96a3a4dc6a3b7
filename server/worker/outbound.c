#include "worker/outbound.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>

#include "base/destination.h"
#include "conf/config.h"
#include "obs/log.h"
#include "plugin/host.h"
#include "plugin/hostfd.h"
#include "plugin/instance.h"
#include "plugin/pending.h"
#include "plugin/recover.h"
#include "worker/internal.h"
#include "worker/transfer.h"

#define TIMEOUT_MS  10000 /* when nothing is said */
#define TIMEOUT_MAX 3600000
#define BODY        (1u << 20)
#define BODY_MAX    (64u << 20)
#define TEXT_MAX    8192 /* of a path, or a header's value */
#define HEADERS     100

static const struct destination anywhere;

/* ---- what is asked for is checked ---- */

static bool is_token(const char *p, size_t n)
{
    static const char chars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    for (size_t i = 0; i < n; i++)
        if (p[i] == '\0' || strchr(chars, p[i]) == NULL)
            return false;
    return n > 0 && n <= 256;
}

/* Printable, and, in a header's value, spaces and tabs; so nothing of it can begin a line of its own. */
static bool is_clean(const char *p, size_t n, bool is_value)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];

        if (c < 0x20 ? !(is_value && c == '\t') : c == 0x7f || (c == ' ' && !is_value))
            return false;
    }
    return n <= TEXT_MAX;
}

/* What libcurl says itself. */
static bool is_ours(const char *name, size_t n)
{
    static const char *const names[] = {
        "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Expect", "TE"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == n && strncasecmp(name, names[i], n) == 0)
            return true;
    return false;
}

static char *join(const char *a, size_t a_n, const char *b, const char *c, size_t c_n)
{
    size_t b_n = strlen(b);
    char *s = malloc(a_n + b_n + c_n + 1);

    if (s == NULL)
        return NULL;
    memcpy(s, a, a_n);
    memcpy(s + a_n, b, b_n);
    if (c_n > 0)
        memcpy(s + a_n + b_n, c, c_n);
    s[a_n + b_n + c_n] = '\0';
    return s;
}

/* The host's place in the URL, and its port. False: there is none. */
static bool find_host(struct transfer *t, size_t scheme, size_t end, uint16_t *port)
{
    const char *host = t->url + scheme, *after;
    size_t n = end - scheme;
    unsigned long v;
    char *rest;

    if (n > 0 && host[0] == '[') {
        after = memchr(host, ']', n);
        if (after == NULL)
            return false;
        t->host = host + 1;
        t->host_n = (size_t)(after - host) - 1;
        after++;
    } else {
        after = memchr(host, ':', n);
        if (after == NULL)
            after = host + n;
        t->host = host;
        t->host_n = (size_t)(after - host);
    }
    *port = scheme == 8 ? 443 : 80;
    if (after == host + n)
        return t->host_n > 0;
    v = after[0] == ':' && after[1] >= '0' && after[1] <= '9' ? strtoul(after + 1, &rest, 10) : 0;
    if (v == 0 || v > 65535 || rest != host + n)
        return false;
    *port = (uint16_t)v;
    return t->host_n > 0;
}

/* "http://host[:port]", "https://..." or "unix:/path"; no user, no path. */
static bh_rc set_address(struct transfer *t, bh_str upstream, bh_str path)
{
    size_t scheme = upstream.n > 8 && strncasecmp(upstream.p, "https://", 8) == 0  ? 8
                    : upstream.n > 7 && strncasecmp(upstream.p, "http://", 7) == 0 ? 7
                                                                                   : 0;
    uint16_t port;

    if (upstream.p == NULL || path.p == NULL || path.n == 0 || path.p[0] != '/' ||
        !is_clean(upstream.p, upstream.n, false) || !is_clean(path.p, path.n, false) ||
        memchr(path.p, '#', path.n) != NULL)
        return BH_EINVAL;
    if (scheme == 0) {
        if (upstream.n < 7 || upstream.n > 100 || memcmp(upstream.p, "unix:/", 6) != 0)
            return BH_EINVAL;
        t->socket_path = join(upstream.p + 5, upstream.n - 5, "", NULL, 0);
        t->url = join("http://localhost", 16, "", path.p, path.n);
        if (t->socket_path == NULL || t->url == NULL)
            return BH_ENOMEM;
        return destination_may_use_socket(t->may, t->socket_path) ? BH_OK : BH_EPERM;
    }
    for (size_t i = scheme; i < upstream.n; i++)
        if (strchr("/?#@\\", upstream.p[i]) != NULL)
            return BH_EINVAL;
    t->url = join(upstream.p, upstream.n, "", path.p, path.n);
    if (t->url == NULL)
        return BH_ENOMEM;
    if (!find_host(t, scheme, upstream.n, &port))
        return BH_EINVAL;
    return destination_may_ask(t->may, t->host, t->host_n, port) ? BH_OK : BH_EPERM;
}

static bh_rc set_headers(struct transfer *t, const bh_str *kv, size_t n)
{
    if (n > HEADERS || (n > 0 && kv == NULL))
        return BH_EINVAL;
    t->header = calloc(n + 1, sizeof *t->header);
    if (t->header == NULL)
        return BH_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        bh_str name = kv[2 * i], value = kv[2 * i + 1];

        if (name.p == NULL || !is_token(name.p, name.n) || is_ours(name.p, name.n) ||
            (value.p == NULL && value.n > 0) || !is_clean(value.p, value.n, true))
            return BH_EINVAL;
        /* To libcurl "Name:" takes a header out, and "Name;" is an empty one. */
        t->header[i] = join(name.p, name.n, value.n > 0 ? ": " : ";", value.p, value.n);
        if (t->header[i] == NULL)
            return BH_ENOMEM;
        t->n_headers++;
    }
    return BH_OK;
}

static bh_rc copy(struct transfer *t, const bh_http_req *rq)
{
    bh_str method = rq->method.p != NULL ? rq->method : bh_s("GET");
    bh_rc rc;

    if (!is_token(method.p, method.n) || method.n > 32 || rq->max_body > BODY_MAX ||
        rq->timeout_ms > TIMEOUT_MAX || rq->body.n > BODY_MAX ||
        (rq->body.p == NULL && rq->body.n > 0))
        return BH_EINVAL;
    t->timeout_ms = rq->timeout_ms != 0 ? rq->timeout_ms : TIMEOUT_MS;
    t->max_body = rq->max_body != 0 ? rq->max_body : BODY;
    rc = set_address(t, rq->upstream, rq->path);
    if (rc == BH_OK)
        rc = set_headers(t, rq->hdr_kv, rq->nhdr);
    if (rc != BH_OK)
        return rc;
    t->method = join(method.p, method.n, "", NULL, 0);
    t->body = join(rq->body.p != NULL ? rq->body.p : "", rq->body.n, "", NULL, 0);
    t->body_n = rq->body.n;
    return t->method != NULL && t->body != NULL ? BH_OK : BH_ENOMEM;
}

/* ---- answers ---- */

static int32_t rc_of(int error)
{
    switch (error) {
    case 0: return BH_OK;
    case -ETIMEDOUT: return BH_ETIME;
    case -E2BIG: return BH_ELIMIT;
    case -ENOSYS: return BH_ENOSYS;
    case -EPERM: return BH_EPERM;
    default: return BH_EAGAIN;
    }
}

static void answered(struct transfer *t)
{
    bh_str kv[2 * TRANSFER_FIELDS];
    const bh_http_resp rs = {.struct_size = sizeof rs,
                             .status = t->error == 0 ? t->status : 0,
                             .body = bh_sn(t->answer != NULL ? t->answer : "", t->answer_n),
                             .hdr_kv = kv,
                             .nhdr = (size_t)t->n_fields,
                             .err = rc_of(t->error),
                             .elapsed_ms = t->elapsed_ms,
                             .why = bh_s(t->error != 0 ? t->why : NULL)};

    for (int i = 0; i < t->n_fields; i++) {
        kv[2 * i] = bh_sn(t->head + t->field[i].name, t->field[i].name_n);
        kv[2 * i + 1] = bh_sn(t->head + t->field[i].value, t->field[i].value_n);
    }
    pending_finish_with(t->id, t->ticket, &rs);
    transfer_free(t);
}

static void dropped(void *owner)
{
    transfer_drop(owner);
}

static void freed(struct transfer *t)
{
    bh_inst *inst = t->inst;

    if (t->id != 0)
        inst->n_outbound--;
}

/* ---- what plugins call ---- */

static bh_rc host_http(bh_inst *inst, bh_ticket *ticket, const bh_http_req *rq,
                       void (*done)(void *self, bh_ticket *t, const bh_http_resp *rs, void *arg),
                       void *arg, uint64_t *id)
{
    struct transfer *t;
    bh_http_req own;
    bh_rc rc;

    if (inst == NULL || inst->magic != INSTANCE_MAGIC || rq == NULL || done == NULL ||
        rq->struct_size < sizeof own)
        return BH_EINVAL;
    own = *rq;
    if (id != NULL)
        *(volatile uint64_t *)id = 0; /* faults here, if it must */
    if (!host_is_loop())
        return BH_EPHASE;
    if (inst->n_outbound >= inst->cfg->outbound)
        return BH_EAGAIN;
    t = calloc(1, sizeof *t);
    if (t == NULL)
        return BH_ENOMEM;
    t->inst = inst;
    t->may = inst->cfg->http != NULL ? inst->cfg->http : &anywhere;
    t->ticket = ticket;
    t->done = answered;
    rc = copy(t, &own); /* what faults in there leaks */
    if (rc == BH_OK)
        rc = pending_add(inst, (pending_fn *)done, arg, dropped, t, &t->id);
    if (rc != BH_OK) {
        t->id = 0;
        transfer_free(t);
        return rc;
    }
    recover_critical_enter();
    inst->n_outbound++;
    transfer_begin(t);
    recover_critical_leave();
    if (id != NULL)
        *id = t->id;
    return BH_OK;
}

static bh_rc host_http_cancel(bh_inst *inst, uint64_t id)
{
    return inst == NULL || inst->magic != INSTANCE_MAGIC ? BH_EINVAL : pending_cancel(inst, id);
}

/* ---- the loop's part ---- */

static void watch(int fd, uint32_t events, bool is_new)
{
    struct epoll_event ev = {.events = events, .data.u64 = SOURCE_OUTBOUND | (uint64_t)fd << 8};

    if (events == 0) {
        epoll_ctl(worker.epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return;
    }
    hostfd_add(fd);
    if (epoll_ctl(worker.epoll_fd, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev) < 0 &&
        (errno != EEXIST || epoll_ctl(worker.epoll_fd, EPOLL_CTL_MOD, fd, &ev) < 0))
        log_warn("a connection of a plugin's cannot be watched: %s", strerror(errno));
}

void outbound_event(int fd, uint32_t events)
{
    transfer_event(fd, events);
}

int outbound_timeout_ms(void)
{
    return transfer_timeout_ms(host_loop_mono_ns / 1000000);
}

void outbound_turn(void)
{
    transfer_turn(host_loop_mono_ns / 1000000);
}

void outbound_init(bh_host *h)
{
    transfer_init(watch);
    transfer_on_free(freed);
    h->http = host_http;
    h->http_cancel = host_http_cancel;
}
