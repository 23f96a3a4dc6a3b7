#include "plugin/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What was written in one piece is passed on in one, to filters and as a chunk, for as long as few wait.
 * From here on small writes share blocks: those that a slow reader of events leaves waiting would else
 * cost more than the bytes in them. */
#define SHARE_FROM 16
#define BLOCK_MIN  4000

struct block {
    struct block *next;
    size_t n, size;
    char data[];
};

struct stream {
    struct block *first, **last;
    struct block *tail;          /* of the list, or NULL */
    struct stream *next, **prev; /* of the same writer */
    size_t waiting, n_blocks;
    uint64_t taken, len; /* bytes; len: as announced, or STREAM_ANY */
    bool is_closed, is_broken, is_gone;
    bool is_lent; /* the first block: it must not grow */
    void (*on_data)(void *);
    void *arg;
    hook_fn *wish;
    uint64_t taken_at_wish;
};

static void disown(struct stream *s)
{
    if (s->prev == NULL)
        return;
    *s->prev = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    s->prev = NULL;
    s->next = NULL;
}

struct stream *stream_create(uint64_t len, struct stream **owners)
{
    struct stream *s = calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->last = &s->first;
    s->len = len;
    s->taken_at_wish = UINT64_MAX;
    if (owners != NULL) {
        s->next = *owners;
        s->prev = owners;
        if (s->next != NULL)
            s->next->prev = &s->next;
        *owners = s;
    }
    return s;
}

void stream_put(struct stream **sp)
{
    struct stream *s = *sp;

    *sp = NULL;
    if (s == NULL)
        return;
    disown(s);
    while (s->first != NULL)
        stream_pop(s);
    free(s);
}

static void tell(const struct stream *s)
{
    if (s->on_data != NULL)
        s->on_data(s->arg);
}

/* Copies first: a bad pointer faults while nothing has changed. */
static bool add(struct stream *s, const char *p, size_t n)
{
    struct block *b = s->tail;
    size_t size = n < BLOCK_MIN && s->n_blocks >= SHARE_FROM ? BLOCK_MIN : n;

    if (b != NULL && !(s->is_lent && b == s->first) && n <= b->size - b->n) {
        memcpy(b->data + b->n, p, n);
        b->n += n;
        return true;
    }
    b = size > PTRDIFF_MAX - sizeof *b ? NULL : malloc(sizeof *b + size);
    if (b == NULL)
        return false;
    memcpy(b->data, p, n);
    b->next = NULL;
    b->size = size;
    b->n = n;
    *s->last = b;
    s->last = &b->next;
    s->tail = b;
    s->n_blocks++;
    return true;
}

int stream_append(struct stream *s, const void *p, size_t n, bool end)
{
    if (s->is_gone)
        return -ECONNRESET;
    if (s->is_broken)
        return -EMSGSIZE;
    if (s->is_closed)
        return -EPIPE;
    if (n > 0 && s->waiting > 0 && s->waiting + n > STREAM_MAX)
        return -EAGAIN;
    if (s->len != STREAM_ANY && (n > s->len - s->taken || (end && n < s->len - s->taken))) {
        s->is_broken = true;
        tell(s);
        return -EMSGSIZE;
    }
    if (n > 0 && !add(s, p, n))
        return -ENOMEM;
    s->waiting += n;
    s->taken += n;
    s->is_closed = end;
    tell(s);
    return 0;
}

bool stream_peek(struct stream *s, const char **p, size_t *n)
{
    if (s->first == NULL)
        return false;
    s->is_lent = true;
    *p = s->first->data;
    *n = s->first->n;
    return true;
}

void stream_pop(struct stream *s)
{
    struct block *b = s->first;

    s->is_lent = false;
    s->first = b->next;
    if (s->first == NULL) {
        s->last = &s->first;
        s->tail = NULL;
    }
    s->waiting -= b->n;
    s->n_blocks--;
    free(b);
}

bool stream_has_ended(const struct stream *s)
{
    return s->is_closed && s->first == NULL;
}

bool stream_is_broken(const struct stream *s)
{
    return s->is_broken;
}

void stream_lose(struct stream *s)
{
    s->is_gone = true;
}

void stream_on_data(struct stream *s, void (*fn)(void *), void *arg)
{
    s->on_data = fn;
    s->arg = arg;
}

/* ---- room ---- */

bool stream_want_room(struct stream *s, hook_fn *fn)
{
    if (s->taken == s->taken_at_wish)
        return false;
    s->wish = fn;
    if (s->waiting <= STREAM_LOW)
        tell(s);
    return true;
}

bool stream_has_wish(const struct stream *s)
{
    return s->wish != NULL;
}

hook_fn *stream_take_wish(struct stream *s)
{
    hook_fn *fn = s->wish;

    if (fn == NULL || s->waiting > STREAM_LOW || s->is_closed || s->is_broken)
        return NULL;
    s->wish = NULL;
    s->taken_at_wish = s->taken;
    return fn;
}

/* ---- the streams of one writer ---- */

void streams_break(struct stream *first)
{
    for (struct stream *s = first; s != NULL; s = s->next) {
        if (s->is_closed) /* all of it was written */
            continue;
        s->is_broken = true;
        tell(s);
    }
}

void streams_disown(struct stream **first)
{
    while (*first != NULL)
        disown(*first);
}
