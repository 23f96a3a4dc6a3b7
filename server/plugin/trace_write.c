/*
 * trace_write.c - the spans of a request as records in the ring, with the attributes that OpenTelemetry's
 * semantic conventions for HTTP name (stable since 1.23).
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "conf/config.h"
#include "ipc/shm.h"
#include "obs/redact.h"
#include "obs/traceparent.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/request.h"
#include "plugin/trace.h"
#include "plugin/trace_internal.h"

/* ---- the request's own span ---- */

static const struct config_route *find_route(const struct config *cfg, uint32_t number)
{
    for (int i = 0; i < cfg->n_routes; i++)
        if (cfg->route[i].number == number)
            return &cfg->route[i];
    return NULL;
}

/* The pattern, not the path: few, however many requests there are. */
static bh_str route_pattern(struct bh_req *req, const struct config *cfg)
{
    const struct config_route *route = find_route(cfg, req->route_number);
    const char *text = route != NULL ? arena_printf(&req->arena, "%s%s", route->path,
                                                    route->is_prefix ? "**" : "")
                                     : NULL;

    return text != NULL ? bh_s(text) : bh__none();
}

static bool is_known_method(bh_str method)
{
    static const char *const known[] = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                        "CONNECT", "OPTIONS", "TRACE", "PATCH"};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (bh_str_eq(method, known[i]))
            return true;
    return false;
}

/* Without the values of secrets: as it stands in crash records. */
static bh_str redacted_query(struct bh_req *req)
{
    char line[8192];
    size_t n = redact_request_line(line, sizeof line, "", req->target.p, req->target.n, "");
    const char *p = n > 0 ? memchr(line, '?', n) : NULL, *copy;

    if (p == NULL)
        return bh__none();
    n -= (size_t)(p + 1 - line);
    while (n > 0 && (p[n] == '\n' || p[n] == ' '))
        n--;
    copy = arena_strndup(&req->arena, p + 1, n);
    return copy != NULL ? bh_sn(copy, n) : bh__none();
}

/* HOST, HOST:PORT or [IPv6]:PORT, which has been checked. */
static void add_server(struct bh_req *req, struct span *s)
{
    bh_str host = req->host;
    size_t n = host.n;
    const char *colon;

    if (host.p == NULL || n == 0)
        return;
    colon = memrchr(host.p, ':', n);
    if (colon != NULL && memchr(colon, ']', (size_t)(host.p + n - colon)) == NULL) {
        trace_add_number(req, s, "server.port", SPAN_INT, strtol(colon + 1, NULL, 10));
        n = (size_t)(colon - host.p);
    }
    if (n > 2 && host.p[0] == '[' && host.p[n - 1] == ']') {
        host.p++;
        n -= 2;
    }
    trace_add_text(req, s, "server.address", bh_sn(host.p, n));
}

static void add_peer(struct bh_req *req, struct span *s)
{
    bh_str port;

    if (host_peer == NULL)
        return;
    trace_add_text(req, s, "client.address", host_peer(req, HOST_CLIENT));
    trace_add_text(req, s, "network.peer.address", host_peer(req, HOST_PEER));
    port = host_peer(req, HOST_PEER_PORT);
    if (port.p != NULL)
        trace_add_number(req, s, "network.peer.port", SPAN_INT, strtol(port.p, NULL, 10));
}

static void add_variable(struct bh_req *req, struct span *s, const char *name, const char *key)
{
    for (const struct var *v = req->vars; v != NULL; v = v->next)
        if (strcmp(v->name.p, name) == 0) {
            trace_add_text(req, s, key, v->value);
            return;
        }
}

static void add_answer(struct bh_req *req, struct span *s)
{
    int status = req->reply.status;
    const char *text = arena_printf(&req->arena, "%d", status);

    if (status > 0 && !(status == 499 && req->is_aborted))
        trace_add_number(req, s, "http.response.status_code", SPAN_INT, status);
    trace_add_number(req, s, "http.response.body.size", SPAN_INT, (int64_t)req->bytes_sent);
    if (req->is_aborted)
        trace_add_number(req, s, "bulkhead.aborted", SPAN_BOOL, 1);
    if (status >= 500 && text != NULL) {
        s->status = SPAN_ERROR;
        trace_add_text(req, s, "error.type", bh_s(text));
    }
}

static void describe_request(struct bh_req *req, const struct config *cfg)
{
    struct span *s = req->trace->span[0];
    const struct field *agent = fields_find(&req->hdr[BH_REQ], "user-agent", 10, 0);
    bh_str route = route_pattern(req, cfg);
    bool is_known = is_known_method(req->method);
    const char *method = is_known ? req->method.p : "_OTHER";

    s->name = arena_printf(&req->arena, "%s%s%.*s", is_known ? method : "HTTP",
                           route.p != NULL ? " " : "", (int)route.n,
                           route.p != NULL ? route.p : "");
    trace_add_text(req, s, "http.request.method", bh_s(method));
    if (!is_known)
        trace_add_text(req, s, "http.request.method_original", req->method);
    trace_add_text(req, s, "url.path", req->path);
    trace_add_text(req, s, "url.scheme", req->scheme);
    trace_add_text(req, s, "url.query", redacted_query(req));
    trace_add_text(req, s, "http.route", route);
    if (req->protocol.n > 5)
        trace_add_text(req, s, "network.protocol.version",
                       bh_sn(req->protocol.p + 5, req->protocol.n - 5));
    add_server(req, s);
    add_peer(req, s);
    if (agent != NULL)
        trace_add_text(req, s, "user_agent.original", agent->value);
    trace_add_text(req, s, "bulkhead.listener", bh_s(req->listener));
    trace_add_text(req, s, "bulkhead.route", bh_s(req->route));
    if (req->crash_id[0] != '\0')
        trace_add_text(req, s, "bulkhead.crash_record", bh_s(req->crash_id));
    add_variable(req, s, "request_id", "bulkhead.request_id");
    add_variable(req, s, "trace_time_anchor", "trace_time_anchor");
    add_answer(req, s);
    if (req->trace->dropped_spans > 0)
        trace_add_number(req, s, "bulkhead.dropped_spans", SPAN_INT, req->trace->dropped_spans);
}

/* ---- those of calls ---- */

static void describe_call(struct bh_req *req, struct span *s)
{
    if (s->inst != NULL)
        trace_add_text(req, s, "bulkhead.plugin", bh_s(s->inst->cfg->name));
    if (s->hook == HOOK_NONE || s->inst == NULL)
        return;
    s->name = arena_printf(&req->arena, "%s %s", s->inst->cfg->name, hook_name(s->hook));
    trace_add_text(req, s, "bulkhead.module", bh_s(s->inst->cfg->module));
    trace_add_text(req, s, "bulkhead.hook", bh_s(hook_name(s->hook)));
    trace_add_text(req, s, "bulkhead.verdict", bh_s(s->verdict));
    if (s->n_calls > 1)
        trace_add_number(req, s, "bulkhead.calls", SPAN_INT, s->n_calls);
}

/* ---- the record ---- */

static void write_attributes(struct span_writer *w, const struct trace_attribute *a)
{
    for (; a != NULL; a = a->next) {
        if (a->type == SPAN_TEXT)
            span_write_text(w, a->key, a->text.p, a->text.n);
        else if (a->type == SPAN_DOUBLE)
            span_write_double(w, a->key, a->real);
        else
            span_write_number(w, a->key, a->type, a->number);
    }
}

static void write_span(const struct trace *t, const struct span *s, bool has_extras,
                       struct span_writer *w)
{
    struct span_head head = {.start_ns = t->real_ns + s->start_ns,
                             .end_ns = t->real_ns + s->end_ns,
                             .kind = s == t->span[0] ? SPAN_SERVER : SPAN_INTERNAL,
                             .status = (uint8_t)s->status,
                             .flags = TRACEPARENT_SAMPLED,
                             .parent_is_remote = s->parent == NULL && t->has_parent,
                             .dropped_attributes = s->dropped_attributes,
                             .dropped_events = s->dropped_events};
    const char *name = s->name != NULL ? s->name : "?", *message = s->message;

    memcpy(head.trace_id, t->trace_id, sizeof head.trace_id);
    memcpy(head.id, s->id, sizeof head.id);
    memcpy(head.parent, s->parent != NULL ? s->parent->id : t->parent, sizeof head.parent);
    if (has_extras) {
        head.n_attributes = s->n_attributes;
        head.n_events = s->n_events;
    } else {
        head.dropped_attributes = s->n_attributes;
        head.dropped_events = s->n_events;
    }
    span_write(w, &head, name, strlen(name), t->state.p, t->state.n, message != NULL ? message : "",
               message != NULL ? strlen(message) : 0);
    if (!has_extras)
        return;
    write_attributes(w, s->attributes);
    for (const struct trace_event *e = s->events; e != NULL; e = e->next) {
        span_write_event(w, t->real_ns + e->at_ns, e->name, e->n_attributes);
        write_attributes(w, e->attributes);
    }
}

void trace_write(struct bh_req *req, const struct config *cfg, struct shm_worker *shared)
{
    static struct span_writer w;
    const struct trace *t = req->trace;

    describe_request(req, cfg);
    for (uint32_t i = 0; i < t->n_spans; i++) {
        if (i > 0)
            describe_call(req, t->span[i]);
        write_span(t, t->span[i], true, &w);
        if (w.is_full) /* 64 long texts of its own, and events: rather the span alone than nothing */
            write_span(t, t->span[i], false, &w);
        shm_ring_append(&shared->spans, 0, w.p, w.n); /* a full ring counts it */
    }
}
