#include "exporter/otlp.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "conf/config.h"
#include "ipc/span.h"
#include "obs/traceparent.h"
#include "obs/utf8.h"

/* ---- JSON ---- */

static void put_text(struct buffer *b, const char *p, size_t n)
{
    buffer_add(b, "\"", 1);
    while (n > 0) {
        unsigned char c = (unsigned char)p[0];
        size_t len = utf8_length(p, n);

        if (c == '"' || c == '\\')
            buffer_printf(b, "\\%c", c);
        else if (c == '\0' || len == 0)
            buffer_text(
                b, UTF8_REPLACEMENT); /* also for NUL, which protobuf may have, and others not */
        else if (c < 0x20)
            buffer_printf(b, "\\u%04x", c);
        else
            buffer_add(b, p, len);
        len += len == 0;
        p += len;
        n -= len;
    }
    buffer_add(b, "\"", 1);
}

static void put_string(struct buffer *b, const char *s)
{
    put_text(b, s, strlen(s));
}

static void put_id(struct buffer *b, const char *name, const uint8_t *id, size_t n)
{
    char hex[33];

    trace_hex(id, n, hex);
    buffer_printf(b, "\"%s\":\"%s\"", name, hex);
}

/* ---- attributes ---- */

static void put_text_attribute(struct buffer *b, const char *key, const char *value)
{
    buffer_text(b, "{\"key\":");
    put_string(b, key);
    buffer_text(b, ",\"value\":{\"stringValue\":");
    put_string(b, value);
    buffer_text(b, "}}");
}

static void put_double(struct buffer *b, double v)
{
    if (isnan(v))
        buffer_text(b, "\"NaN\"");
    else if (isinf(v))
        buffer_text(b, v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    else
        buffer_printf(b, "%.17g", v);
}

static void put_attribute(struct buffer *b, const struct span_attribute *a)
{
    buffer_text(b, "{\"key\":");
    put_text(b, a->key.p, a->key.n);
    buffer_text(b, ",\"value\":{");
    switch (a->type) {
    case SPAN_TEXT:
        buffer_text(b, "\"stringValue\":");
        put_text(b, a->text.p, a->text.n);
        break;
    case SPAN_INT: buffer_printf(b, "\"intValue\":\"%" PRId64 "\"", a->number); break;
    case SPAN_BOOL: buffer_printf(b, "\"boolValue\":%s", a->number != 0 ? "true" : "false"); break;
    case SPAN_DOUBLE:
        buffer_text(b, "\"doubleValue\":");
        put_double(b, a->real);
        break;
    }
    buffer_text(b, "}}");
}

/* False: they make no sense. Records have the last one first; nobody minds the order. */
static bool put_attributes(struct buffer *b, struct span_reader *r, uint16_t n)
{
    struct span_attribute a;

    buffer_text(b, "\"attributes\":[");
    for (uint16_t i = 0; i < n; i++) {
        if (!span_read_attribute(r, &a))
            return false;
        if (i > 0)
            buffer_text(b, ",");
        put_attribute(b, &a);
    }
    buffer_text(b, "]");
    return true;
}

/* ---- the request ---- */

void otlp_begin(struct buffer *b, const struct config_tracing *cfg,
                const struct otlp_source *source)
{
    char number[16];

    snprintf(number, sizeof number, "%d", source->pid);
    buffer_text(b, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
    put_text_attribute(b, "service.name", cfg->service);
    buffer_text(b, ",");
    put_text_attribute(b, "service.version", source->version);
    buffer_text(b, ",");
    put_text_attribute(b, "service.instance.id", source->instance);
    buffer_printf(b, ",{\"key\":\"process.pid\",\"value\":{\"intValue\":\"%s\"}}", number);
    if (source->host != NULL) {
        buffer_text(b, ",");
        put_text_attribute(b, "host.name", source->host);
    }
    for (int i = 0; i < cfg->n_resources; i++) {
        buffer_text(b, ",");
        put_text_attribute(b, cfg->resource[i].name, cfg->resource[i].value);
    }
    buffer_text(b, "]},\"scopeSpans\":[{\"scope\":{\"name\":\"bulkhead\",\"version\":");
    put_string(b, source->version);
    buffer_text(b, "},\"spans\":[");
}

void otlp_end(struct buffer *b)
{
    buffer_text(b, "]}]}]}");
}

static bool put_events(struct buffer *b, struct span_reader *r, uint16_t n)
{
    struct span_event e;

    buffer_text(b, ",\"events\":[");
    for (uint16_t i = 0; i < n; i++) {
        if (!span_read_event(r, &e))
            return false;
        buffer_printf(b, "%s{\"timeUnixNano\":\"%" PRId64 "\",\"name\":", i > 0 ? "," : "",
                      e.time_ns);
        put_text(b, e.name.p, e.name.n);
        buffer_text(b, ",");
        if (!put_attributes(b, r, e.n_attributes))
            return false;
        buffer_text(b, "}");
    }
    buffer_text(b, "]");
    return true;
}

static bool is_zero(const uint8_t *id, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (id[i] != 0)
            return false;
    return true;
}

/* The field `flags` of a span: that of W3C, and since OTLP 1.1 whether the parent is remote. */
static uint32_t flags_of(const struct span_head *h)
{
    return h->flags | 0x100u | (h->parent_is_remote != 0 ? 0x200u : 0);
}

int otlp_add(struct buffer *b, const char *record, size_t n, uint32_t nth)
{
    struct span_text name, state, message;
    struct span_head h;
    struct span_reader r;
    size_t before = b->n;

    if (!span_read(&r, record, n, &h, &name, &state, &message) || is_zero(h.trace_id, 16) ||
        is_zero(h.id, 8) || h.start_ns < 0 || h.end_ns < h.start_ns)
        return -EBADMSG;
    buffer_text(b, nth > 0 ? ",{" : "{");
    put_id(b, "traceId", h.trace_id, 16);
    buffer_text(b, ",");
    put_id(b, "spanId", h.id, 8);
    buffer_text(b, ",");
    if (!is_zero(h.parent, 8)) {
        put_id(b, "parentSpanId", h.parent, 8);
        buffer_text(b, ",");
    }
    if (state.n > 0) {
        buffer_text(b, "\"traceState\":");
        put_text(b, state.p, state.n);
        buffer_text(b, ",");
    }
    buffer_printf(b, "\"flags\":%" PRIu32 ",\"name\":", flags_of(&h));
    put_text(b, name.p, name.n);
    buffer_printf(b,
                  ",\"kind\":%d,\"startTimeUnixNano\":\"%" PRId64
                  "\",\"endTimeUnixNano\":\"%" PRId64 "\",",
                  h.kind, h.start_ns, h.end_ns);
    if (!put_attributes(b, &r, h.n_attributes) || !put_events(b, &r, h.n_events)) {
        b->n = before;
        return -EBADMSG;
    }
    if (h.dropped_attributes > 0)
        buffer_printf(b, ",\"droppedAttributesCount\":%d", h.dropped_attributes);
    if (h.dropped_events > 0)
        buffer_printf(b, ",\"droppedEventsCount\":%d", h.dropped_events);
    buffer_printf(b, ",\"status\":{\"code\":%d", h.status);
    if (message.n > 0) {
        buffer_text(b, ",\"message\":");
        put_text(b, message.p, message.n);
    }
    buffer_text(b, "}}");
    return 0;
}
