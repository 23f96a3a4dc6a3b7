/*
 * otlp.h - spans as an ExportTraceServiceRequest of OTLP 1.x, in its JSON encoding.
 *
 * That is protobuf's JSON mapping with three exceptions: ids in hexadecimal, enums as numbers, and names
 * in lowerCamelCase only; 64-bit numbers are strings. What comes from a record is believed to be bytes,
 * nothing more: what is no UTF-8 becomes U+FFFD.
 */
#ifndef EXPORTER_OTLP_H
#define EXPORTER_OTLP_H

#include <stddef.h>
#include <stdint.h>

struct buffer;
struct config_tracing;

struct otlp_source {      /* attributes of the resource beside those of the config */
    const char *version;  /* of the server */
    const char *host;     /* NULL: not known */
    const char *instance; /* service.instance.id: of this server, until it ends */
    int pid;
};

/* Begins a request: resource and scope. */
void otlp_begin(struct buffer *b, const struct config_tracing *cfg,
                const struct otlp_source *source);
/* Adds a span's record (ipc/span.h); nth: 0 for the first of this request. 0, or -EBADMSG: it made no
 * sense, and nothing was added. */
int otlp_add(struct buffer *b, const char *record, size_t n, uint32_t nth);
void otlp_end(struct buffer *b);

#endif
