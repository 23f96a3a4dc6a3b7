/*
 * http.c - connections, requests and replies of the admin interface.
 *
 * libmicrohttpd without a listening socket: we accept by ourselves, so that its way of closing can't
 * shut down the socket that the master keeps for the next admin process. What a newcomer would get
 * wrong: the library has no limit on how long a request may take to come in, only on silence; so each
 * connection has a time by which its request must be there, and is cut then (http_tick()).
 */
#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/internal.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/must.h"
#include "obs/log.h"

#define HEAD_MS    10000 /* for a request's line and headers, from connecting or the last answer */
#define REQUEST_MS 30000 /* from there to the end of the answer */
#define ACCEPTS    16    /* in one turn of the loop */

/* ---- requests ---- */

const char *request_header(const struct request *req, const char *name)
{
    return MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, name);
}

struct count {
    const char *name;
    int n;
};

static enum MHD_Result count_one(void *arg, enum MHD_ValueKind kind, const char *name,
                                 const char *value)
{
    struct count *c = arg;

    (void)kind;
    (void)value;
    c->n += strcasecmp(name, c->name) == 0;
    return MHD_YES;
}

int request_count_headers(const struct request *req, const char *name)
{
    struct count c = {.name = name};

    MHD_get_connection_values(req->mhd, MHD_HEADER_KIND, count_one, &c);
    return c.n;
}

const char *request_query(const struct request *req, const char *name)
{
    return MHD_lookup_connection_value(req->mhd, MHD_GET_ARGUMENT_KIND, name);
}

void request_suspend(struct request *req)
{
    req->is_suspended = true;
    MHD_suspend_connection(req->mhd);
}

void request_resume(struct request *req)
{
    must(req->is_suspended && req->response != NULL);
    req->is_suspended = false;
    MHD_resume_connection(req->mhd);
}

/* ---- replies ---- */

static const struct {
    const char *name, *value;
} security_headers[] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' "
     "data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Permissions-Policy", "camera=(), geolocation=(), microphone=()"},
};

static void set_reply(struct request *req, unsigned status, struct MHD_Response *response,
                      const char *type)
{
    must(req->response == NULL);
    if (response == NULL)
        return; /* no memory: the connection is closed */
    for (size_t i = 0; i < sizeof security_headers / sizeof security_headers[0]; i++)
        MHD_add_response_header(response, security_headers[i].name, security_headers[i].value);
    if (type != NULL)
        MHD_add_response_header(response, "Content-Type", type);
    req->response = response;
    req->status = status;
}

void reply_header(struct request *req, const char *name, const char *value)
{
    if (req->response != NULL)
        MHD_add_response_header(req->response, name, value);
}

void reply_response(struct request *req, unsigned status, struct MHD_Response *response,
                    const char *type)
{
    set_reply(req, status, response, type);
    reply_header(req, "Cache-Control", "no-store");
}

void reply_text(struct request *req, unsigned status, const char *type, char *text, size_t n)
{
    struct MHD_Response *response =
        text != NULL ? MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE) : NULL;

    if (response == NULL)
        free(text);
    reply_response(req, status, response, type);
}

void reply_json(struct request *req, unsigned status, json_t *json)
{
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    json_decref(json);
    reply_text(req, status, "application/json", text, text != NULL ? strlen(text) : 0);
}

void reply_empty(struct request *req, unsigned status)
{
    static char nothing[1];

    reply_response(req, status, MHD_create_response_from_buffer(0, nothing, MHD_RESPMEM_PERSISTENT),
                   NULL);
}

void reply_static(struct request *req, const char *type, const void *p, size_t n, const char *etag)
{
    const char *known = request_header(req, "If-None-Match");
    bool is_known = known != NULL && strstr(known, etag) != NULL;

    set_reply(req, is_known ? 304 : 200,
              MHD_create_response_from_buffer(is_known ? 0 : n, (void *)(uintptr_t)p,
                                              MHD_RESPMEM_PERSISTENT),
              type);
    reply_header(req, "Cache-Control", "no-cache");
    reply_header(req, "ETag", etag);
}

void reply_problem(struct request *req, unsigned status, const char *title, const char *detail, ...)
{
    char text[1024];
    json_t *json;
    char *dump;
    va_list ap;

    va_start(ap, detail);
    vsnprintf(text, sizeof text, detail, ap);
    va_end(ap);
    json = json_pack("{s:s, s:s, s:i, s:s+}", "type", "about:blank", "title", title, "status",
                     (int)status, "detail", text, "");
    if (json == NULL) /* a part of what was sent, and no UTF-8 */
        json = json_pack("{s:s, s:s, s:i}", "type", "about:blank", "title", title, "status",
                         (int)status);
    dump = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    reply_text(req, status, "application/problem+json", dump, dump != NULL ? strlen(dump) : 0);
}

/* ---- the library's callbacks ---- */

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct admin *a = cls;
    struct request *req = calloc(1, sizeof *req);

    (void)uri;
    if (req == NULL)
        return NULL;
    req->admin = a;
    req->mhd = mhd;
    req->visitor = info != NULL ? info->socket_context : NULL;
    a->n_open++;
    return req;
}

/* Once, in place; %00 and what is no escape stay as they are, and then match nothing. */
static void decode(char *to, size_t size, const char *from)
{
    size_t n = 0;

    while (*from != '\0' && n + 1 < size) {
        unsigned value;

        if (from[0] == '%' && sscanf(from + 1, "%2x", &value) == 1 && value != 0 &&
            strspn(from + 1, "0123456789abcdefABCDEF") >= 2) {
            to[n++] = (char)value;
            from += 3;
        } else {
            to[n++] = *from++;
        }
    }
    to[*from == '\0' ? n : 0] = '\0'; /* too long: no path at all */
}

/* False: it has its answer already. */
static bool begin(struct request *req, const char *url, const char *method)
{
    const char *length = request_header(req, "Content-Length");

    if (req->visitor != NULL) {
        req->visitor->state = VISITOR_REQUEST;
        req->visitor->due_ms = clock_mono_ms() + REQUEST_MS;
    }
    snprintf(req->method, sizeof req->method, "%s", method);
    decode(req->path, sizeof req->path, url);
    if (request_header(req, "Transfer-Encoding") != NULL)
        reply_problem(req, 411, "Length Required", "send the body with a Content-Length");
    else if (request_count_headers(req, "Content-Length") > 1)
        reply_problem(req, 400, "Bad Request", "more than one Content-Length");
    else if (length != NULL && strtoull(length, NULL, 10) > ADMIN_BODY)
        reply_problem(req, 413, "Content Too Large", "at most %d bytes", ADMIN_BODY);
    else if (auth_admit(req->admin->auth, req, clock_mono_ms()))
        return true;
    return false;
}

static void take_body(struct request *req, const char *data, size_t n)
{
    char *more;

    if (req->body_len + n > ADMIN_BODY) {
        req->is_too_large = true;
        return;
    }
    more = realloc(req->body, req->body_len + n + 1);
    if (more == NULL) {
        req->is_too_large = true;
        return;
    }
    memcpy(more + req->body_len, data, n);
    req->body = more;
    req->body_len += n;
    req->body[req->body_len] = '\0';
}

static enum MHD_Result send_it(struct request *req)
{
    enum MHD_Result r;

    if (req->response == NULL)
        return MHD_NO;
    if (req->admin->is_ending)
        MHD_add_response_header(req->response, "Connection", "close");
    r = MHD_queue_response(req->mhd, req->status, req->response);
    MHD_destroy_response(req->response);
    req->response = NULL;
    return r;
}

static enum MHD_Result on_data(void *cls, struct MHD_Connection *mhd, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *size, void **context)
{
    struct request *req = *context;

    (void)cls;
    (void)mhd;
    (void)version;
    if (req == NULL)
        return MHD_NO;
    if (req->method[0] == '\0')
        return begin(req, url, method) ? MHD_YES : send_it(req);
    if (*size > 0) {
        take_body(req, data, *size);
        *size = 0;
        return MHD_YES;
    }
    if (req->response == NULL) {
        if (req->is_too_large)
            reply_problem(req, 413, "Content Too Large", "at most %d bytes", ADMIN_BODY);
        else
            api_handle(req);
        if (req->is_suspended)
            return MHD_YES; /* once more, when it is resumed */
    }
    return send_it(req);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct request *req = *context;

    (void)cls;
    (void)mhd;
    (void)code;
    if (req == NULL)
        return;
    req->admin->n_open--;
    if (req->visitor != NULL) {
        req->visitor->state = VISITOR_HEAD;
        req->visitor->due_ms = clock_mono_ms() + HEAD_MS;
    }
    if (req->response != NULL)
        MHD_destroy_response(req->response);
    free(req->context);
    free(req->body);
    free(req);
    *context = NULL;
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    const union MHD_ConnectionInfo *info;
    struct visitor *v = *context;
    struct admin *a = cls;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (v == NULL)
            return;
        list_remove(&v->node);
        a->n_visitors--;
        free(v);
        *context = NULL;
        return;
    }
    v = calloc(1, sizeof *v);
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (v == NULL || info == NULL) { /* without a limit in time: better not */
        if (info != NULL)
            shutdown(info->connect_fd, SHUT_RDWR);
        free(v);
        return;
    }
    v->fd = info->connect_fd;
    v->due_ms = clock_mono_ms() + HEAD_MS;
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info != NULL && info->client_addr != NULL)
        address_from_sockaddr(&v->address, info->client_addr,
                              info->client_addr->sa_family == AF_INET6
                                  ? sizeof(struct sockaddr_in6)
                                  : sizeof(struct sockaddr_in));
    list_append(&a->visitors, &v->node);
    a->n_visitors++;
    *context = v;
}

static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls;
    (void)mhd;
    return strlen(s); /* decode() does it, and once */
}

static void on_mhd_log(void *cls, const char *fmt, va_list ap)
{
    char text[512];

    (void)cls;
    if (!log_is_on(LOG_DEBUG))
        return;
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    log_debug("libmicrohttpd: %s", text);
}

/* ---- the daemon ---- */

int http_open(struct admin *a, int listen_fd)
{
    a->listen_fd = listen_fd;
    list_init(&a->visitors);
    a->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
        NULL, NULL, on_data, a, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
        MHD_OPTION_CONNECTION_LIMIT, ADMIN_CONNECTIONS + 8u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)ADMIN_HEAD, MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_NOTIFY_CONNECTION, on_connection, a,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, a, MHD_OPTION_URI_LOG_CALLBACK, on_uri, a,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_END);
    return a->daemon != NULL ? 0 : -ENOMEM;
}

int http_poll_fd(const struct admin *a)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_EPOLL_FD);

    return info != NULL ? info->epoll_fd : -1;
}

/* Room for one who comes, at the cost of the one that has waited longest with nothing to answer. */
static void evict_one(struct admin *a)
{
    for (struct list *at = a->visitors.next; at != &a->visitors; at = at->next) {
        struct visitor *v = list_entry(at, struct visitor, node);

        if (v->state != VISITOR_HEAD || v->due_ms == 0)
            continue;
        v->due_ms = 0;
        shutdown(v->fd, SHUT_RDWR);
        return;
    }
}

void http_accept(struct admin *a)
{
    for (int i = 0; i < ACCEPTS; i++) {
        struct sockaddr_storage addr;
        socklen_t len = sizeof addr;
        int fd;

        memset(&addr, 0, sizeof addr);
        fd = accept4(a->listen_fd, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        if (a->n_visitors >= ADMIN_CONNECTIONS) {
            evict_one(a);
            if (a->n_visitors >= ADMIN_CONNECTIONS + 4) {
                fd_close(&fd);
                continue;
            }
        }
        if (len < sizeof addr.ss_family) { /* of a Unix socket's nameless peer */
            addr.ss_family = AF_UNIX;
            len = sizeof addr.ss_family;
        }
        /* Closes fd when it fails. */
        MHD_add_connection(a->daemon, fd, (struct sockaddr *)&addr, len);
    }
}

int http_run(struct admin *a)
{
    MHD_UNSIGNED_LONG_LONG ms;

    MHD_run(a->daemon);
    if (MHD_get_timeout(a->daemon, &ms) != MHD_YES)
        return -1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

void http_tick(struct admin *a, int64_t now_ms)
{
    for (struct list *at = a->visitors.next; at != &a->visitors; at = at->next) {
        struct visitor *v = list_entry(at, struct visitor, node);

        if (v->state == VISITOR_STREAM || v->due_ms == 0 || v->due_ms > now_ms)
            continue;
        v->due_ms = 0;
        shutdown(v->fd, SHUT_RDWR);
    }
}
