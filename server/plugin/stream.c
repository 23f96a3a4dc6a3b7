#include "plugin/stream.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct block {
    struct block *next;
    size_t n;
    char data[];
};

struct stream {
    struct block *first, **last;
    size_t waiting;
    bool is_closed;
    void (*on_data)(void *);
    void *arg;
};

struct stream *stream_create(void)
{
    struct stream *s = calloc(1, sizeof *s);

    if (s != NULL)
        s->last = &s->first;
    return s;
}

void stream_put(struct stream **sp)
{
    struct stream *s = *sp;

    *sp = NULL;
    if (s == NULL)
        return;
    while (s->first != NULL)
        stream_pop(s);
    free(s);
}

int stream_append(struct stream *s, const void *p, size_t n, bool end)
{
    struct block *b;

    if (s->is_closed)
        return -EPIPE;
    if (n > 0) {
        if (s->waiting > 0 && s->waiting + n > STREAM_MAX)
            return -EAGAIN;
        b = n > PTRDIFF_MAX - sizeof *b ? NULL : malloc(sizeof *b + n);
        if (b == NULL)
            return -ENOMEM;
        b->next = NULL;
        b->n = n;
        memcpy(b->data, p, n);
        *s->last = b;
        s->last = &b->next;
        s->waiting += n;
    }
    s->is_closed = end;
    if (s->on_data != NULL)
        s->on_data(s->arg);
    return 0;
}

bool stream_peek(const struct stream *s, const char **p, size_t *n)
{
    if (s->first == NULL)
        return false;
    *p = s->first->data;
    *n = s->first->n;
    return true;
}

void stream_pop(struct stream *s)
{
    struct block *b = s->first;

    s->first = b->next;
    if (s->first == NULL)
        s->last = &s->first;
    s->waiting -= b->n;
    free(b);
}

bool stream_has_ended(const struct stream *s)
{
    return s->is_closed && s->first == NULL;
}

void stream_on_data(struct stream *s, void (*fn)(void *), void *arg)
{
    s->on_data = fn;
    s->arg = arg;
}
