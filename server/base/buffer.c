#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST 4096
#define MOST  (1u << 30)

void buffer_fini(struct buffer *b)
{
    free(b->p);
    *b = (struct buffer){0};
}

static bool make_room(struct buffer *b, size_t n)
{
    size_t cap = b->cap > 0 ? b->cap : FIRST;
    char *p;

    if (b->has_failed)
        return false;
    if (n < b->cap - b->n) /* one more for the NUL */
        return true;
    if (n >= MOST - b->n) {
        b->has_failed = true;
        return false;
    }
    while (cap - b->n <= n)
        cap *= 2;
    p = realloc(b->p, cap);
    if (p == NULL) {
        b->has_failed = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

void buffer_add(struct buffer *b, const char *p, size_t n)
{
    if (!make_room(b, n))
        return;
    memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void buffer_text(struct buffer *b, const char *text)
{
    buffer_add(b, text, strlen(text));
}

void buffer_printf(struct buffer *b, const char *fmt, ...)
{
    va_list ap, again;
    int n;

    if (!make_room(b, 128))
        return;
    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(b->p + b->n, b->cap - b->n, fmt, ap);
    va_end(ap);
    if (n < 0)
        b->has_failed = true;
    if (n >= 0 && (size_t)n >= b->cap - b->n && make_room(b, (size_t)n))
        vsnprintf(b->p + b->n, b->cap - b->n, fmt, again);
    va_end(again);
    if (b->has_failed)
        b->p[b->n] = '\0';
    else
        b->n += (size_t)n;
}

bool buffer_append_to(char **buf, size_t *n, size_t *cap, const char *p, size_t len)
{
    if (*n + len > *cap) {
        size_t more = (*n + len) * 2;
        char *grown = realloc(*buf, more);

        if (grown == NULL)
            return false;
        *buf = grown;
        *cap = more;
    }
    memcpy(*buf + *n, p, len);
    *n += len;
    return true;
}
