/*
 * range.c - which parts of a representation a Range header asks for (RFC 9110 14.2).
 *
 * Ranges that overlap become one, so that an answer is never longer than the whole with its part
 * heads: asking for the same megabyte a thousand times is not to be answered by a gigabyte.
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

enum spec { SPEC_BAD, SPEC_OUTSIDE, SPEC_GOOD };

/* One range, up to a comma or the end. */
static enum spec take_spec(bh_str *s, uint64_t size, struct range *out)
{
    uint64_t from, to;
    bool has_from = take_number(s, &from), has_to;

    if (s->n == 0 || *s->p != '-')
        return SPEC_BAD;
    s->p++;
    s->n--;
    has_to = take_number(s, &to);
    if ((!has_from && !has_to) || (has_from && has_to && to < from))
        return SPEC_BAD;
    if (!has_from) { /* the last so many bytes */
        if (to == 0 || size == 0)
            return SPEC_OUTSIDE;
        out->len = to < size ? to : size;
        out->first = size - out->len;
        return SPEC_GOOD;
    }
    if (from >= size)
        return SPEC_OUTSIDE;
    out->first = from;
    out->len = has_to && to < size ? to - from + 1 : size - from;
    return SPEC_GOOD;
}

static bool overlap(const struct range *a, const struct range *b)
{
    return a->first < b->first + b->len && b->first < a->first + a->len;
}

/* Adds r, which takes in what it overlaps, at the place of the first of these. */
static int add(struct range *v, int n, struct range r)
{
    int at = n, k = 0;

    for (int i = 0; i < n; i++) {
        uint64_t end;

        if (v[i].len == 0 || !overlap(&v[i], &r))
            continue; /* taken in already, or apart */
        end = v[i].first + v[i].len > r.first + r.len ? v[i].first + v[i].len : r.first + r.len;
        r.first = v[i].first < r.first ? v[i].first : r.first;
        r.len = end - r.first;
        at = i < at ? i : at;
        v[i].len = 0;
        i = -1; /* it has grown, and may reach others now; each round takes one in */
    }
    v[at] = r;
    n = at == n ? n + 1 : n;
    for (int i = 0; i < n; i++)
        if (v[i].len > 0)
            v[k++] = v[i];
    return k;
}

int range_parse(bh_str value, uint64_t size, struct range out[RANGE_MAX])
{
    bool is_last_of_empty = false;
    int n = 0, specs = 0;

    if (value.p == NULL || value.n < 6 || strncasecmp(value.p, "bytes=", 6) != 0)
        return RANGE_WHOLE;
    value.p += 6;
    value.n -= 6;
    for (;;) {
        struct range r;
        enum spec spec;

        for (skip_blanks(&value); value.n > 0 && *value.p == ','; skip_blanks(&value)) {
            value.p++; /* an empty element of a list: RFC 9110 5.6.1.2 */
            value.n--;
        }
        if (value.n == 0)
            break;
        is_last_of_empty = size == 0 && *value.p == '-' && value.n > 1 && value.p[1] != '0';
        spec = take_spec(&value, size, &r);
        skip_blanks(&value);
        if (spec == SPEC_BAD || (value.n > 0 && *value.p != ',') || ++specs > RANGE_MAX)
            return RANGE_WHOLE;
        if (spec == SPEC_GOOD)
            n = add(out, n, r);
    }
    if (specs == 0 || (specs == 1 && is_last_of_empty))
        return RANGE_WHOLE; /* satisfiable, says the RFC, but Content-Range cannot say so */
    return n > 0 ? n : RANGE_UNSATISFIABLE;
}
