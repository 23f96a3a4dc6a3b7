#include "http/exchange.h"

#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "conf/config.h"
#include "http/internal.h"
#include "http/peer.h"
#include "ipc/shm.h"
#include "plugin/chain.h"
#include "plugin/evidence.h"
#include "plugin/host.h"
#include "plugin/stream.h"
#include "plugin/trace.h"

#define DISCARD_MAX   65536 /* body bytes read and thrown away to keep a connection after a refusal */
#define HALF_CLOSE_NS 100000000 /* after the last bytes of a request, see is_half_close() */

bh_req *exchange_request(struct exchange *x)
{
    return &x->req;
}

struct bh_ticket *exchange_ticket(const struct exchange *x)
{
    return x->ticket;
}

void exchange_set_ticket(struct exchange *x, struct bh_ticket *t)
{
    x->ticket = t;
    x->req.has_ticket = t != NULL;
}

int64_t exchange_since_ns(const struct exchange *x)
{
    return x->received_ns;
}

/* ---- the head ---- */

/* First word of a request. The library would parse query arguments into its pool, at a cost that
 * grows with their square: they are cut off here and put back in begin(). */
void *exchange_on_uri(void *listener, const char *uri, struct MHD_Connection *mhd)
{
    struct listener *l = listener;
    struct exchange *x = front_take_exchange(l->front);
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    if (x == NULL)
        return NULL;
    x->listener = l;
    x->mhd = mhd;
    x->conn = info != NULL ? info->socket_context : NULL;
    if (x->conn != NULL)
        wire_begin(x->conn, x);
    x->uri = (char *)(uintptr_t)uri; /* in the connection's pool, writable */
    x->cut = strchr(x->uri, '?');
    if (x->cut != NULL) {
        memcpy(x->cut_bytes, x->cut, 2);
        x->cut[0] = '\0';
        if (x->cut_bytes[1] != '\0')
            x->cut[1] = '\0';
    }
    return x;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static enum MHD_Result add_field(void *arg, enum MHD_ValueKind kind, const char *name,
                                 size_t name_len, const char *value, size_t value_len)
{
    struct exchange *x = arg;

    (void)kind;
    name_len = guard_restore_name((char *)(uintptr_t)name, name_len); /* in the connection's pool */
    if (value == NULL)
        value = "";
    /* Blanks around a value are no part of it (RFC 9110 5.5); the library leaves some. It lies in the
     * connection's pool, writable, and is to be NUL-terminated for plugins. */
    for (; value_len > 0 && is_blank(value[0]); value_len--)
        value++;
    if (value_len > 0 && is_blank(value[value_len - 1])) {
        while (is_blank(value[value_len - 1]))
            value_len--;
        ((char *)(uintptr_t)value)[value_len] = '\0';
    }
    return fields_append(&x->req.arena, &x->req.hdr[BH_REQ], bh_sn(name, name_len),
                         bh_sn(value, value_len))
               ? MHD_YES
               : MHD_NO;
}

/* What the library's memory for this connection (front_pool_size()) leaves to the fields of the
 * answer: it keeps the request's head there, and a record for each field. */
static size_t room_for_answer(const struct bh_req *req, uint32_t head)
{
    size_t pool = front_pool_size(head), used = req->target.n + 512;

    for (uint32_t i = 0; i < req->hdr[BH_REQ].n; i++) {
        const struct field *f = &req->hdr[BH_REQ].v[i];

        used += f->name.n + f->value.n + GUARD_FIELD_COST + 4;
    }
    return used + 256 > pool ? 256 : pool - used < head ? pool - used : head;
}

static uint64_t read_length(const struct field *f)
{
    uint64_t n = 0;

    for (size_t i = 0; i < f->value.n; i++) {
        if (f->value.p[i] < '0' || f->value.p[i] > '9' || n > UINT64_MAX / 10 - 10)
            return UINT64_MAX;
        n = n * 10 + (uint64_t)(f->value.p[i] - '0');
    }
    return n;
}

void exchange_refuse(struct exchange *x, int status, const char *detail)
{
    chain_host_reply(&x->req, status, detail);
    x->has_reply = true;
}

/* The connection carries a request that is not one, or was too slow or too large: answered in place of
 * whatever stood, unless that is on its way already. */
static void heed_refusal(struct exchange *x)
{
    enum http_refusal reason = wire_refusal(x->conn);

    if (reason == REFUSAL_NONE || x->is_refused || x->req.phase >= PHASE_RESPONSE)
        return;
    x->is_refused = x->is_last = true;
    x->conn->lingers = true;
    if (reason == REFUSAL_BODY_UNREAD)
        return;
    exchange_refuse(x, refusal_status(reason), refusal_detail(reason));
    if (refusal_status(reason) == 503)
        request_set_field(&x->req, BH_RESP, bh_s("Retry-After"), bh_s("1"), true);
}

/* The library says 100 (Continue) where there is nothing to continue with, and then takes the next
 * request for a body: so it must not see that. Plugins do. */
static void read_expect(struct exchange *x)
{
    struct field *f = (struct field *)(uintptr_t)fields_find(&x->req.hdr[BH_REQ], "expect", 6, 0);

    if (f == NULL || f->value.n == 0)
        return;
    x->waits_for_100 = x->req.has_body && strcmp(x->req.protocol.p, "HTTP/1.0") != 0;
    if (!x->req.has_body) {
        ((char *)(uintptr_t)f->value.p)[0] = '-';
        f->value = bh_s("100-continue");
    }
}

/* The head is there: how far the request reaches, and whether it may be run twice. Once is enough: a
 * request that a worker dies of would else take one after the other along. */
static void note_head(struct exchange *x, const char *method)
{
    const struct config *cfg = x->listener->front->cfg;
    struct conn *c = x->conn;

    c->is_busy = true;
    wire_head(c, method, x->content_length);
    if (x->req.has_body)
        deadline_set(c, DEADLINE_BODY);
    if (x->req.has_body || c->is_replay || x->is_refused)
        return;
    for (int i = 0; i < cfg->escrow.n_replay; i++)
        if (strcmp(cfg->escrow.replay[i], method) == 0) {
            wire_set_flags(c, SHM_CONN_AGAIN, 0);
            return;
        }
}

static void begin(struct exchange *x, const char *method, const char *version)
{
    struct bh_req *req = &x->req;
    const struct field *f;

    x->has_begun = true;
    x->received_ns = x->began_ns = host_loop_mono_ns;
    metrics_add(&x->listener->meter->in_flight, 1);
    if (x->cut != NULL)
        memcpy(x->cut, x->cut_bytes, 2);
    atomic_store_explicit(
        &x->listener->front->shared->requests,
        atomic_load_explicit(&x->listener->front->shared->requests, memory_order_relaxed) + 1,
        memory_order_relaxed);

    req->method = bh_s(method);
    req->is_head = strcmp(method, "HEAD") == 0;
    req->protocol = bh_s(version);
    req->target = bh_s(x->uri);
    req->scheme = bh_s(x->listener->is_tls ? "https" : "http");
    req->listener = x->listener->name;
    req->body_limit = x->listener->front->cfg->limits.body;
    req->path = req->target;
    MHD_get_connection_values_n(x->mhd, MHD_HEADER_KIND, add_field, x);
    req->head_limit = room_for_answer(req, x->listener->front->cfg->limits.head);

    f = fields_find(&req->hdr[BH_REQ], "content-length", 14, 0);
    x->content_length = f != NULL ? read_length(f) : 0;
    if (fields_find(&req->hdr[BH_REQ], "transfer-encoding", 17, 0) != NULL)
        x->content_length = UINT64_MAX;
    req->has_body = x->content_length > 0;
    read_expect(x);
    if (x->conn != NULL)
        note_head(x, method);
    peer_read_head(x);
    if (req->has_body && x->listener->front->cfg->crash.record_body > 0)
        evidence_begin(req, (uint32_t)x->listener->front->cfg->crash.record_body);
    if (__builtin_expect(trace_is_on, 0))
        trace_begin(req, x->conn != NULL && x->conn->is_proxy);
    if (!x->is_refused)
        head_admit(x);
}

/* ---- pausing ---- */

void exchange_suspend(struct exchange *x)
{
    x->is_suspended = true;
    MHD_suspend_connection(x->mhd);
    if (x->conn == NULL)
        return;
    deadline_clear(&x->conn->due); /* of the ticket, or the stream, from here */
    x->listener->front->ops->watch(x->conn->fd, x, x->is_half_closed);
}

void exchange_resume(struct exchange *x)
{
    if (!x->is_suspended)
        return;
    x->is_suspended = false;
    if (x->conn != NULL) {
        x->listener->front->ops->unwatch(x->conn->fd);
        if (x->req.phase == PHASE_SENDING)
            deadline_set(x->conn, DEADLINE_SEND);
        else if (x->req.has_body)
            deadline_set(x->conn, DEADLINE_BODY);
    }
    MHD_resume_connection(x->mhd);
    x->listener->needs_run = true;
}

void exchange_abandon(struct exchange *x)
{
    x->is_gone = true;
    if (x->req.reply.kind == REPLY_STREAM)
        stream_lose(x->req.reply.stream);
    exchange_resume(x);
}

/* A client that closes its connection and one that only shuts down its sending side (`nc -N`, some
 * libraries) look alike to TCP until something is sent to them. nginx and Envoy take both for gone while
 * a request waits. Here a client whose end comes right behind its request, or behind a body that was not
 * read yet, is taken at its word: it has sent all, and waits. One whose end comes later has given up. */
static bool is_half_close(const struct exchange *x)
{
    uint64_t left = x->content_length == UINT64_MAX ? 0 : x->content_length - x->body_seen;
    size_t held = front_pool_size(
        x->listener->front->cfg->limits.head); /* by the library, at most */
    int unread = 0;

    if (x->req.has_body && ioctl(x->conn->fd, FIONREAD, &unread) < 0)
        return false;
    if (left > (uint64_t)unread + held)
        return false; /* the body cannot become whole any more */
    if (host_loop_mono_ns - x->received_ns <= HALF_CLOSE_NS ||
        host_loop_mono_ns - x->waited_ns <= HALF_CLOSE_NS)
        return true;
    return x->wants_body && unread > 0;
}

void exchange_hang_up(struct exchange *x, bool is_whole)
{
    if (!x->is_suspended)
        return;
    if (!is_whole && !x->is_half_closed && x->conn != NULL && is_half_close(x)) {
        x->is_half_closed = x->is_last = true;
        x->listener->front->ops->watch(x->conn->fd, x, true);
        return;
    }
    exchange_abandon(x);
}

/* ---- the life of a request ---- */

/* For the crash record of a worker that dies without a word, and for its connection. */
void exchange_publish(const struct exchange *x)
{
    struct shm_call *call = &x->listener->front->shared->call;
    char *label = call->request;
    const struct bh_req *req = &x->req;
    size_t m = req->method.n < 32 ? req->method.n : 32;
    size_t p = req->path.n < SHM_LABEL - 34 ? req->path.n : SHM_LABEL - 34;

    atomic_store_explicit(&call->route, req->route_number, memory_order_relaxed);
    memcpy(label, req->method.p, m);
    label[m] = ' ';
    memcpy(label + m + 1, req->path.p, p);
    label[m + 1 + p] = '\0';
    if (x->conn != NULL && x->conn->x == x) /* not in on_log: the client has its answer by then */
        atomic_store_explicit(&call->fd, x->conn->fd, memory_order_relaxed);
}

void exchange_unpublish(const struct exchange *x)
{
    atomic_store_explicit(&x->listener->front->shared->call.fd, -1, memory_order_relaxed);
}

void exchange_fail(struct exchange *x, int kind)
{
    exchange_publish(x);
    chain_fail_paused(&x->req, kind);
    exchange_unpublish(x);
}

static enum MHD_Result send_reply(struct exchange *x)
{
    struct MHD_Response *response;
    enum MHD_Result r;

    chain_response(&x->req);
    response = response_create(x);
    if (response == NULL)
        return MHD_NO;
    x->req.phase = PHASE_SENDING;
    if (x->conn != NULL)
        deadline_set(x->conn, DEADLINE_SEND);
    r = MHD_queue_response(x->mhd, (unsigned)x->req.reply.status, response);
    MHD_destroy_response(response);
    return r;
}

static enum MHD_Result run_head(struct exchange *x)
{
    struct bh_req *req = &x->req;

    switch (chain_request(req)) {
    case CHAIN_PAUSED: exchange_suspend(x); break;
    case CHAIN_REPLY: x->has_reply = true; break;
    case CHAIN_NEXT:
        req->phase = PHASE_BODY;
        x->wants_body = req->has_body && chain_wants_body(req);
        break;
    }
    return MHD_YES;
}

/* Shows the chain what has come of the body; *size becomes what is left for later. */
static void run_body(struct exchange *x, const char *data, size_t *size, bool end)
{
    bh_str chunk = bh_sn(data, x->chunk_len != 0 ? x->chunk_len : *size);

    if (x->has_reply || !x->wants_body) {
        x->body_seen += *size;
        x->thrown_away += *size;
        *size = 0;
        return;
    }
    if (x->req.kept != NULL && x->chunk_len == 0)
        evidence_body(&x->req, chunk, x->content_length);
    x->chunk_len = 0;
    switch (chain_body(&x->req, chunk, end)) {
    case CHAIN_PAUSED:
        x->chunk_len = chunk.n; /* shown again, as long as it was, after resume */
        exchange_suspend(x);
        return;
    case CHAIN_REPLY: x->has_reply = true; break;
    case CHAIN_NEXT: break;
    }
    x->body_seen += chunk.n;
    *size -= chunk.n;
}

/* Is there more to come of the body than is worth reading, to keep the connection? */
static bool is_much_left(const struct exchange *x)
{
    return x->content_length != UINT64_MAX && x->content_length - x->body_seen > DISCARD_MAX;
}

/* One call of the library's: the first, with the head; with some of the body; the last. */
static enum MHD_Result go_on(struct exchange *x, const char *data, size_t *size)
{
    bool is_first = !x->is_past_head; /* made again by the library when it was suspended in it */

    if (!x->has_reply && x->req.phase == PHASE_REQUEST)
        run_head(x);
    if (x->is_suspended)
        return MHD_YES;
    x->is_past_head = true;
    if (is_first) {
        /* After this call the library says 100 Continue, to whom waits for it. */
        if (x->waits_for_100 && !x->has_reply && !x->wants_body)
            head_without_reply(x);
        /* A reply queued now closes the connection: only where the body is not worth reading. */
        if (x->has_reply &&
            (x->is_refused || x->waits_for_100 ||
             (x->content_length != UINT64_MAX && x->content_length > DISCARD_MAX))) {
            if (x->conn != NULL)
                x->conn->lingers = true;
            return send_reply(x);
        }
        return MHD_YES;
    }
    if (*size > 0) {
        x->received_ns = host_loop_mono_ns;
        run_body(x, data, size, false);
        if (x->body_seen > x->req.body_limit && !x->has_reply) {
            exchange_refuse(x, 413, "the body is larger than this resource takes");
            if (x->conn != NULL)
                wire_refuse_soon(x->conn, REFUSAL_BODY_LARGE);
        }
        if (x->thrown_away > DISCARD_MAX || (x->has_reply && is_much_left(x))) {
            if (x->conn == NULL)
                return MHD_NO;
            wire_stop_reading(x->conn);
        }
        return MHD_YES;
    }
    if (!x->has_reply && x->wants_body) {
        run_body(x, "", size, true);
        if (x->is_suspended)
            return MHD_YES;
    }
    if (!x->has_reply)
        head_without_reply(x);
    return send_reply(x);
}

enum MHD_Result exchange_on_data(void *listener, struct MHD_Connection *mhd, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *size, void **con)
{
    struct exchange *x = *con;
    enum MHD_Result r;

    (void)listener;
    (void)mhd;
    (void)url;
    if (x == NULL || x->is_gone)
        return MHD_NO;
    if (x->conn != NULL)
        heed_refusal(x);
    if (!x->has_begun)
        begin(x, method, version);
    exchange_publish(x);
    r = go_on(x, data, size);
    exchange_unpublish(x);
    return r;
}

static enum metrics_code code_of(const struct bh_req *req)
{
    int status = req->reply.status;

    if (req->is_aborted)
        return METRICS_ABORTED;
    return status >= 500   ? METRICS_5XX
           : status >= 400 ? METRICS_4XX
           : status >= 300 ? METRICS_3XX
                           : METRICS_2XX;
}

static void count_request(const struct exchange *x)
{
    struct metrics_listener *m = x->listener->meter;
    const struct bh_req *req = &x->req;
    int64_t end_ns = x->n_sends == 1 && !req->is_aborted ? x->first_ns : clock_mono_ns();
    uint64_t took_ns = end_ns > x->began_ns ? (uint64_t)(end_ns - x->began_ns) : 0;
    enum metrics_code code = code_of(req);

    metrics_add(&m->requests[metrics_method_of(req->method.p, req->method.n)][code], 1);
    metrics_add(&m->in_flight, UINT64_MAX);
    histogram_ns_add(&m->duration, took_ns);
    if (x->route_meter != NULL) {
        metrics_add(&x->route_meter->requests[code], 1);
        histogram_ns_add(&x->route_meter->duration, took_ns);
    }
    if (x->first_ns > x->began_ns)
        histogram_ns_add(&m->first_byte, (uint64_t)(x->first_ns - x->began_ns));
}

/* RFC 9112 9.3: does the client want the connection to end? */
static bool has_asked_to_close(const struct bh_req *req)
{
    const struct field *f = fields_find(&req->hdr[BH_REQ], "connection", 10, 0);
    bool is_old = req->protocol.p != NULL && strcmp(req->protocol.p, "HTTP/1.0") == 0;
    const char *wanted = is_old ? "keep-alive" : "close";
    size_t n = strlen(wanted);

    for (size_t at = 0; f != NULL && at + n <= f->value.n; at++)
        if (strncasecmp(f->value.p + at, wanted, n) == 0)
            return !is_old;
    return is_old;
}

/* What the library does with the connection after this answer, it does not tell. */
static bool ends_connection(const struct exchange *x)
{
    return x->is_last || x->conn->is_last || x->conn->lingers ||
           wire_refusal(x->conn) != REFUSAL_NONE || has_asked_to_close(&x->req);
}

void exchange_on_completed(void *listener, struct MHD_Connection *mhd, void **con,
                           enum MHD_RequestTerminationCode code)
{
    struct exchange *x = *con;
    struct bh_req *req;

    (void)listener;
    (void)mhd;
    *con = NULL;
    if (x == NULL)
        return;
    req = &x->req;
    /* Before on_log: whatever becomes of it there, the client has its answer. */
    if (x->conn != NULL && code == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        wire_end(x->conn, ends_connection(x));
    else if (x->conn != NULL)
        x->conn->x = NULL; /* about to be closed */
    if (x->has_begun) {
        exchange_publish(x);
        req->is_aborted = code != MHD_REQUEST_TERMINATED_COMPLETED_OK;
        if (req->is_aborted && req->reply.status == 0)
            req->reply.status = 499; /* nginx's name for a client that has left, for on_log */
        if (!req->is_aborted && req->bytes_sent == 0 && !req->is_head &&
            req->reply.kind != REPLY_STREAM && req->reply.status != 304 && req->reply.status != 204)
            req->bytes_sent = req->reply.len;
        count_request(x);
        x->listener->front->ops->on_end(x);
        if (req->n_entries > 0)
            chain_log(req);
        if (__builtin_expect(req->trace != NULL, 0))
            trace_end(req, x->listener->front->cfg);
        if (x->conn != NULL) {
            x->conn->is_busy = false;
            x->conn->has_served = true;
        }
        exchange_unpublish(x);
    }
    front_give_exchange(x->listener->front, x);
}
