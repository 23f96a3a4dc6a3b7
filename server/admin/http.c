/*
 * http.c - requests and replies of the admin interface.
 *
 * libmicrohttpd without a listening socket: visitor.c accepts, and stands between it and the clients.
 * What a newcomer would get wrong: what comes from there has been checked by the wire guard, which
 * completes a request that it refuses: it looks whole, and is to be answered with the refusal.
 */
#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "admin/internal.h"
#include "base/clock.h"
#include "base/must.h"
#include "ipc/refusal.h"
#include "obs/log.h"

#define HEAD_MS    10000 /* for a request's line and headers, from the last answer */
#define REQUEST_MS 30000 /* from there to the end of the answer */

/* ---- requests ---- */

const char *request_header(const struct request *req, const char *name)
{
    return MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, name);
}

/* The guard has hidden their names from the library, which would take apart what is in them. */
static enum MHD_Result find_cookie(void *arg, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    const char **found = arg;
    char copy[GUARD_COOKIE + 2];
    size_t n = strlen(name);

    (void)kind;
    if (n > GUARD_COOKIE + 1)
        return MHD_YES;
    memcpy(copy, name, n + 1);
    guard_restore_name(copy, n);
    if (strcasecmp(copy, "Cookie") != 0)
        return MHD_YES;
    *found = value;
    return MHD_NO;
}

const char *request_cookie(const struct request *req)
{
    const char *found = NULL;

    MHD_get_connection_values(req->mhd, MHD_HEADER_KIND, find_cookie, &found);
    return found;
}

const char *request_query(const struct request *req, const char *name)
{
    return MHD_lookup_connection_value(req->mhd, MHD_GET_ARGUMENT_KIND, name);
}

void request_suspend(struct request *req)
{
    req->is_suspended = true;
    if (req->visitor != NULL)
        req->visitor->is_waiting = true;
    MHD_suspend_connection(req->mhd);
}

void request_resume(struct request *req)
{
    must(req->is_suspended && req->response != NULL);
    req->is_suspended = false;
    if (req->visitor != NULL)
        req->visitor->is_waiting = false;
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
    if (req->admin->hsts[0] != '\0')
        MHD_add_response_header(response, "Strict-Transport-Security", req->admin->hsts);
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
    if (req->visitor != NULL)
        req->visitor->n_begun++;
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

/* True: the guard found a fault in it; it has its answer. */
static bool is_refused(struct request *req)
{
    enum http_refusal why = req->visitor != NULL ? visitor_refusal(req->visitor) : REFUSAL_NONE;
    unsigned status;

    if (why == REFUSAL_NONE || refusal_status(why) == 0)
        return false;
    status = (unsigned)refusal_status(why);
    reply_problem(req, status, MHD_get_reason_phrase_for(status), "%s", refusal_detail(why));
    reply_header(req, "Connection", "close");
    return true;
}

/* False: it has its answer already. */
static bool begin(struct request *req, const char *url, const char *method)
{
    if (req->visitor != NULL) {
        req->visitor->state = VISITOR_REQUEST;
        req->visitor->due_ms = clock_mono_ms() + REQUEST_MS;
    }
    snprintf(req->method, sizeof req->method, "%s", method);
    decode(req->path, sizeof req->path, url);
    if (is_refused(req))
        return false;
    if (request_header(req, "Transfer-Encoding") != NULL) {
        reply_problem(req, 411, "Length Required", "send the body with a Content-Length");
        return false;
    }
    return auth_admit(req->admin->auth, req, clock_mono_ms());
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
        if (is_refused(req))
            return send_it(req);
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
    if (req == NULL)
        return;
    req->admin->n_open--;
    if (req->visitor != NULL) {
        req->visitor->state = VISITOR_HEAD;
        req->visitor->is_known = req->visitor->is_waiting = false;
        req->visitor->is_cut |= code != MHD_REQUEST_TERMINATED_COMPLETED_OK;
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
    struct admin *a = cls;

    (void)mhd;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*context != NULL)
            visitor_release(*context);
        *context = NULL;
    } else if (a->arriving != NULL) {
        a->arriving->is_in_library = true;
        *context = a->arriving;
    }
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

int http_open(struct admin *a)
{
    a->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
        NULL, NULL, on_data, a, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
        MHD_OPTION_CONNECTION_LIMIT, ADMIN_CONNECTIONS + ADMIN_SPARE + 8u,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)2 * ADMIN_HEAD + 512, /* as front_pool_size() */
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, a, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        a, MHD_OPTION_URI_LOG_CALLBACK, on_uri, a, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_END);
    return a->daemon != NULL ? 0 : -ENOMEM;
}

int http_add(struct visitor *v, int library_fd)
{
    struct sockaddr addr = {.sa_family = AF_UNIX}; /* a socket pair; who it is, v says */
    struct admin *a = v->admin;
    enum MHD_Result r;

    a->arriving = v;
    r = MHD_add_connection(a->daemon, library_fd, &addr, sizeof addr.sa_family);
    a->arriving = NULL;
    return r == MHD_YES && v->is_in_library ? 0 : -ECONNABORTED;
}

int http_poll_fd(const struct admin *a)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_EPOLL_FD);

    return info != NULL ? info->epoll_fd : -1;
}

int http_run(struct admin *a)
{
    MHD_UNSIGNED_LONG_LONG ms;

    MHD_run(a->daemon);
    if (MHD_get_timeout(a->daemon, &ms) != MHD_YES)
        return -1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}
