/*
 * guard_value.c - the values of the fields that frame a request, or say whom it is for.
 *
 * What a newcomer would get wrong: space after a value is legal, but the library compares the whole
 * value. So it is taken out here; whatever follows it that is not the end of the line is refused.
 */
#include <strings.h>

#include "http/guard_internal.h"

enum part {             /* of a value; each reader uses some */
            PART_SPACE, /* before it; in a list: before a member */
            PART_VALUE,
            PART_AFTER, /* only space can follow */
            PART_PARAMETER,
            PART_LITERAL, /* [...] */
            PART_LITERAL_END,
            PART_PORT,
};

enum coding_flag { CODING_CHUNKED = 1, CODING_OTHER = 2, CODING_BAD = 4 };

#define PORT_DIGITS 5
#define LITERAL_MAX 45 /* the longest address in brackets */
#define AT_OTHER    UINT8_MAX

enum field guard_field_of(const char *name, size_t n)
{
    switch (n) {
    case 4: return strncasecmp(name, "host", n) == 0 ? FIELD_HOST : FIELD_OTHER;
    case 6:
        return strncasecmp(name, "cookie", n) == 0   ? FIELD_COOKIE
               : strncasecmp(name, "expect", n) == 0 ? FIELD_EXPECT
                                                     : FIELD_OTHER;
    case 14: return strncasecmp(name, "content-length", n) == 0 ? FIELD_LENGTH : FIELD_OTHER;
    case 17: return strncasecmp(name, "transfer-encoding", n) == 0 ? FIELD_CODING : FIELD_OTHER;
    default: return FIELD_OTHER;
    }
}

/* Space: before the value it stays, after it it goes. False: p is at something else. */
static bool skip_space(struct pass *ps)
{
    struct guard *g = ps->g;

    if (!is_space(*ps->p))
        return false;
    if (g->part == PART_SPACE) {
        ps->p++;
    } else {
        g->part = PART_AFTER;
        drop(ps);
    }
    return true;
}

/* ---- Content-Length ---- */

static bool read_length(struct pass *ps)
{
    struct guard *g = ps->g;

    while (ps->p < ps->stop && *ps->p != '\r') {
        unsigned digit = (unsigned)*ps->p - '0';

        if (skip_space(ps))
            continue;
        if (digit > 9 || g->part == PART_AFTER || g->body_n > ((uint64_t)INT64_MAX - digit) / 10)
            return refuse(ps, *ps->p == '\n' ? REFUSAL_LINE_END : REFUSAL_LENGTH);
        g->part = PART_VALUE;
        g->body_n = g->body_n * 10 + digit;
        ps->p++;
    }
    if (ps->p < ps->stop && g->part == PART_SPACE)
        return refuse(ps, REFUSAL_LENGTH);
    return true;
}

/* ---- Transfer-Encoding ---- */

/* `at` is how much of "chunked" the member has been so far. */
static void end_member(struct guard *g)
{
    if ((g->flags & CODING_CHUNKED) != 0)
        g->flags |= CODING_BAD; /* it has to be the last one */
    g->flags |= g->at == 7 ? CODING_CHUNKED : CODING_OTHER;
    g->at = 0;
}

static void read_member(struct guard *g, char c)
{
    static const char chunked[] = "chunked";

    if (g->at < 7 && (c | 0x20) == chunked[g->at])
        g->at++;
    else
        g->at = AT_OTHER;
}

static bool read_coding_byte(struct pass *ps)
{
    struct guard *g = ps->g;
    char c = *ps->p;

    if (c == ',') {
        if (g->part == PART_SPACE)
            return refuse(ps, REFUSAL_CODING);
        if (g->part == PART_VALUE)
            end_member(g);
        g->part = PART_SPACE;
    } else if (c == ';' && (g->part == PART_VALUE || g->part == PART_AFTER)) {
        g->at = AT_OTHER; /* chunked has no parameters */
        end_member(g);
        g->part = PART_PARAMETER;
    } else if (g->part == PART_PARAMETER) {
        if (!is_class(c, IS_VALUE))
            return refuse(ps, c == '\n' ? REFUSAL_LINE_END : REFUSAL_FIELD_VALUE);
    } else if (is_class(c, IS_TCHAR) && g->part != PART_AFTER) {
        g->part = PART_VALUE;
        read_member(g, c);
    } else {
        return refuse(ps, c == '\n' ? REFUSAL_LINE_END : REFUSAL_CODING);
    }
    ps->p++;
    return true;
}

static bool read_coding(struct pass *ps)
{
    struct guard *g = ps->g;

    while (ps->p < ps->stop && *ps->p != '\r') {
        if (g->part == PART_VALUE && is_space(*ps->p))
            end_member(g);
        if (g->part != PART_PARAMETER && skip_space(ps))
            continue;
        if (!read_coding_byte(ps))
            return false;
    }
    if (ps->p == ps->stop)
        return true;
    if (g->part == PART_VALUE)
        end_member(g);
    if (g->part == PART_SPACE || (g->flags & CODING_BAD) != 0)
        return refuse(ps, REFUSAL_CODING);
    return (g->flags & CODING_OTHER) == 0 || refuse(ps, REFUSAL_CODING_UNKNOWN);
}

/* ---- Expect ---- */

static bool read_expect(struct pass *ps)
{
    static const char continues[] = "100-continue";
    struct guard *g = ps->g;

    while (ps->p < ps->stop && *ps->p != '\r') {
        char c = *ps->p;

        if (skip_space(ps))
            continue;
        if (c >= 'A' && c <= 'Z')
            c = (char)(c | 0x20);
        if (!is_class(c, IS_VALUE))
            return refuse(ps, c == '\n' ? REFUSAL_LINE_END : REFUSAL_FIELD_VALUE);
        if (g->part == PART_AFTER || c != continues[g->at])
            return refuse(ps, REFUSAL_EXPECT);
        g->part = PART_VALUE;
        g->at++;
        ps->p++;
    }
    return ps->p == ps->stop || g->part == PART_SPACE || g->at == sizeof continues - 1 ||
           refuse(ps, REFUSAL_EXPECT);
}

/* ---- Host ---- */

static bool read_host_byte(struct guard *g, char c)
{
    switch ((enum part)g->part) {
    case PART_SPACE:
        g->part = c == '[' ? PART_LITERAL : PART_VALUE;
        if (c == '[')
            return true;
        g->at = c == '%' ? 2 : 0;
        return c == '%' || is_class(c, IS_HOST);
    case PART_VALUE:
        if (g->at > 0) { /* after a percent sign */
            g->at--;
            return is_class(c, IS_HEX);
        }
        if (c == ':')
            g->part = PART_PORT;
        if (c == '%')
            g->at = 2;
        return c == ':' || c == '%' || is_class(c, IS_HOST);
    case PART_LITERAL:
        if (c == ']' && g->at >= 2) {
            g->part = PART_LITERAL_END;
            return true;
        }
        return ++g->at <= LITERAL_MAX && (c == ':' || c == '.' || is_class(c, IS_HEX));
    case PART_LITERAL_END:
        g->part = PART_PORT;
        g->at = 0;
        return c == ':';
    case PART_PORT: return ++g->at <= PORT_DIGITS && is_class(c, IS_DIGIT);
    default: return false;
    }
}

static bool read_host(struct pass *ps)
{
    struct guard *g = ps->g;

    while (ps->p < ps->stop && *ps->p != '\r') {
        if (g->part != PART_LITERAL && !(g->part == PART_VALUE && g->at > 0) && skip_space(ps))
            continue;
        if (!read_host_byte(g, *ps->p))
            return refuse(ps, *ps->p == '\n' ? REFUSAL_LINE_END : REFUSAL_HOST);
        ps->p++;
    }
    if (ps->p == ps->stop)
        return true;
    if (g->part == PART_SPACE)
        g->seen |= (uint8_t)SEEN(FIELD_HOST_EMPTY);
    return (g->part != PART_LITERAL && !(g->part == PART_VALUE && g->at > 0)) ||
           refuse(ps, REFUSAL_HOST);
}

bool guard_value(struct pass *ps)
{
    switch ((enum field)ps->g->field) {
    case FIELD_HOST: return read_host(ps);
    case FIELD_LENGTH: return read_length(ps);
    case FIELD_CODING: return read_coding(ps);
    default: return read_expect(ps);
    }
}
