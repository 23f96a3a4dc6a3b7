/*
 * span.h - a span of a trace on its way from a worker to the exporter, through a ring in shared memory.
 *
 * Put together by the worker, once the span is over; taken apart by the exporter, which believes nothing
 * of it: a plugin may have written there. So a reader bounds every length, and ends where it makes no
 * sense. Texts are bytes: whoever makes JSON of them cleans them.
 */
#ifndef IPC_SPAN_H
#define IPC_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPAN_MAX        65535 /* bytes; what a ring takes */
#define SPAN_ATTRIBUTES 64    /* of one span or event; further ones are counted */
#define SPAN_EVENTS     64
#define SPAN_VALUE_MAX  1024 /* bytes of one text; longer ones are cut */
#define SPAN_NAME_MAX   255

enum span_kind { SPAN_INTERNAL = 1, SPAN_SERVER = 2 }; /* numbers of OTLP */
enum span_status { SPAN_UNSET, SPAN_OK, SPAN_ERROR };  /* as well */

enum span_type { SPAN_TEXT = 1, SPAN_INT, SPAN_DOUBLE, SPAN_BOOL };

struct span_head {
    uint8_t trace_id[16], id[8], parent[8]; /* parent: zeros where there is none */
    int64_t start_ns, end_ns;               /* since 1970 */
    uint8_t kind, status, flags;            /* flags: of W3C Trace Context */
    uint8_t parent_is_remote;
    uint16_t n_attributes, n_events;
    uint16_t dropped_attributes, dropped_events;
};

/* ---- writing: head, name, state, message, attributes, then events, each followed by its attributes ---- */

struct span_writer {
    size_t n;
    bool is_full; /* something did not fit: the record is not to be used */
    char p[SPAN_MAX];
};

void span_write(struct span_writer *w, const struct span_head *head, const char *name,
                size_t name_len, const char *state, size_t state_len, const char *message,
                size_t message_len);
void span_write_text(struct span_writer *w, const char *key, const char *value, size_t n);
void span_write_number(struct span_writer *w, const char *key, enum span_type type, int64_t value);
void span_write_double(struct span_writer *w, const char *key, double value);
/* n attributes follow. */
void span_write_event(struct span_writer *w, int64_t time_ns, const char *name, uint16_t n);

/* ---- reading ---- */

struct span_text {
    const char *p;
    size_t n;
};

struct span_attribute {
    struct span_text key, text;
    enum span_type type;
    int64_t number; /* INT, BOOL */
    double real;
};

struct span_event {
    int64_t time_ns;
    struct span_text name;
    uint16_t n_attributes;
};

struct span_reader {
    const char *p, *end;
};

/* False: it makes no sense. Counts in head are bounded by SPAN_ATTRIBUTES and SPAN_EVENTS. */
bool span_read(struct span_reader *r, const void *record, size_t n, struct span_head *head,
               struct span_text *name, struct span_text *state, struct span_text *message);
bool span_read_attribute(struct span_reader *r, struct span_attribute *out);
bool span_read_event(struct span_reader *r, struct span_event *out);

#endif
