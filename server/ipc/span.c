#include "ipc/span.h"

#include <string.h>

/* ---- writing ---- */

static void put(struct span_writer *w, const void *p, size_t n)
{
    if (w->is_full || n > sizeof w->p - w->n) {
        w->is_full = true;
        return;
    }
    if (n > 0) /* p may be NULL then */
        memcpy(w->p + w->n, p, n);
    w->n += n;
}

static void put_text(struct span_writer *w, const char *p, size_t n, size_t max)
{
    uint16_t len = (uint16_t)(n < max ? n : max);

    put(w, &len, sizeof len);
    put(w, p, len);
}

void span_write(struct span_writer *w, const struct span_head *head, const char *name,
                size_t name_len, const char *state, size_t state_len, const char *message,
                size_t message_len)
{
    w->n = 0;
    w->is_full = false;
    put(w, head, sizeof *head);
    put_text(w, name, name_len, SPAN_NAME_MAX);
    put_text(w, state, state_len, SPAN_VALUE_MAX);
    put_text(w, message, message_len, SPAN_VALUE_MAX);
}

static void put_key(struct span_writer *w, enum span_type type, const char *key)
{
    uint8_t byte = (uint8_t)type;

    put(w, &byte, 1);
    put_text(w, key, strlen(key), SPAN_NAME_MAX);
}

void span_write_text(struct span_writer *w, const char *key, const char *value, size_t n)
{
    put_key(w, SPAN_TEXT, key);
    put_text(w, value, n, SPAN_VALUE_MAX);
}

void span_write_number(struct span_writer *w, const char *key, enum span_type type, int64_t value)
{
    put_key(w, type, key);
    put(w, &value, sizeof value);
}

void span_write_double(struct span_writer *w, const char *key, double value)
{
    put_key(w, SPAN_DOUBLE, key);
    put(w, &value, sizeof value);
}

void span_write_event(struct span_writer *w, int64_t time_ns, const char *name, uint16_t n)
{
    put(w, &time_ns, sizeof time_ns);
    put_text(w, name, strlen(name), SPAN_NAME_MAX);
    put(w, &n, sizeof n);
}

/* ---- reading ---- */

static bool get(struct span_reader *r, void *out, size_t n)
{
    if (n > (size_t)(r->end - r->p))
        return false;
    memcpy(out, r->p, n);
    r->p += n;
    return true;
}

static bool get_text(struct span_reader *r, struct span_text *out)
{
    uint16_t len;

    if (!get(r, &len, sizeof len) || len > (size_t)(r->end - r->p))
        return false;
    out->p = r->p;
    out->n = len;
    r->p += len;
    return true;
}

bool span_read(struct span_reader *r, const void *record, size_t n, struct span_head *head,
               struct span_text *name, struct span_text *state, struct span_text *message)
{
    r->p = record;
    r->end = r->p + n;
    return get(r, head, sizeof *head) && get_text(r, name) && get_text(r, state) &&
           get_text(r, message) && head->n_attributes <= SPAN_ATTRIBUTES &&
           head->n_events <= SPAN_EVENTS && head->kind >= SPAN_INTERNAL &&
           head->kind <= SPAN_SERVER && head->status <= SPAN_ERROR;
}

bool span_read_attribute(struct span_reader *r, struct span_attribute *out)
{
    uint8_t type;

    if (!get(r, &type, 1) || !get_text(r, &out->key))
        return false;
    out->type = (enum span_type)type;
    switch (type) {
    case SPAN_TEXT: return get_text(r, &out->text);
    case SPAN_INT:
    case SPAN_BOOL: return get(r, &out->number, sizeof out->number);
    case SPAN_DOUBLE: return get(r, &out->real, sizeof out->real);
    default: return false;
    }
}

bool span_read_event(struct span_reader *r, struct span_event *out)
{
    return get(r, &out->time_ns, sizeof out->time_ns) && get_text(r, &out->name) &&
           get(r, &out->n_attributes, sizeof out->n_attributes) &&
           out->n_attributes <= SPAN_ATTRIBUTES;
}
