/*
 * backlog.c - a queue of lines, each with its length before it. What is free at the beginning is won
 * back by moving the rest there, once the end is reached: seldom, as a queue that is emptied starts anew.
 */
#include "backlog.h"

#include <stdlib.h>

void backlog_init(struct backlog *b, size_t size)
{
    memset(b, 0, sizeof *b);
    b->size = size;
}

void backlog_fini(struct backlog *b)
{
    free(b->p);
    b->p = NULL;
}

int backlog_put(struct backlog *b, const char *line, size_t n)
{
    uint32_t length = (uint32_t)n;

    if (b->p == NULL && (b->p = malloc(b->size)) == NULL)
        return 0;
    if (n + sizeof length > b->size - (b->end - b->begin))
        return 0;
    if (n + sizeof length > b->size - b->end) {
        memmove(b->p, b->p + b->begin, b->end - b->begin);
        b->end -= b->begin;
        b->begin = 0;
    }
    memcpy(b->p + b->end, &length, sizeof length);
    memcpy(b->p + b->end + sizeof length, line, n);
    b->end += sizeof length + n;
    b->n++;
    return 1;
}

bh_str backlog_first(const struct backlog *b)
{
    uint32_t length;

    if (b->n == 0)
        return bh_sn(NULL, 0);
    memcpy(&length, b->p + b->begin, sizeof length);
    return bh_sn(b->p + b->begin + sizeof length, length);
}

void backlog_drop_first(struct backlog *b)
{
    b->begin += sizeof(uint32_t) + backlog_first(b).n;
    if (--b->n == 0)
        b->begin = b->end = 0;
}
