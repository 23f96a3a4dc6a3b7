/*
 * range.c - which part of a representation a Range header asks for (RFC 9110 14.2).
 *
 * One range is honoured. For several, RFC 9110 15.3.7.2 allows to send the whole, which is what
 * happens: multipart answers are a well known way to make a server work, and hardly used otherwise.
 */
#include "range.h"

#include <stdbool.h>
#include <strings.h>

static void skip_blanks(bh_str *s)
{
    while (s->n > 0 && (*s->p == ' ' || *s->p == '\t')) {
        s->p++;
        s->n--;
    }
}

/* Digits; UINT64_MAX for more than fits, which is past the end of any file. False: none. */
static bool take_number(bh_str *s, uint64_t *out)
{
    uint64_t v = 0;
    bool any = false;

    for (; s->n > 0 && *s->p >= '0' && *s->p <= '9'; s->p++, s->n--) {
        unsigned digit = (unsigned)(*s->p - '0');

        v = v > (UINT64_MAX - digit) / 10 ? UINT64_MAX : v * 10 + digit;
        any = true;
    }
    *out = v;
    return any;
}

int range_parse(bh_str value, uint64_t size, uint64_t *first, uint64_t *len)
{
    uint64_t from, to;
    bool has_from, has_to;

    if (value.p == NULL || value.n < 6 || strncasecmp(value.p, "bytes=", 6) != 0)
        return RANGE_WHOLE;
    value.p += 6;
    value.n -= 6;
    skip_blanks(&value);
    has_from = take_number(&value, &from);
    if (value.n == 0 || *value.p != '-')
        return RANGE_WHOLE;
    value.p++;
    value.n--;
    has_to = take_number(&value, &to);
    skip_blanks(&value);
    if (value.n > 0 || (!has_from && !has_to))
        return RANGE_WHOLE;

    if (!has_from) { /* the last so many bytes */
        if (to == 0)
            return RANGE_UNSATISFIABLE;
        if (size == 0)
            return RANGE_WHOLE; /* satisfiable, says the RFC, but Content-Range cannot say so */
        *len = to < size ? to : size;
        *first = size - *len;
        return RANGE_PART;
    }
    if (has_to && to < from)
        return RANGE_WHOLE;
    if (from >= size)
        return RANGE_UNSATISFIABLE;
    *first = from;
    *len = has_to && to < size ? to - from + 1 : size - from;
    return RANGE_PART;
}
