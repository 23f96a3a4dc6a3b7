/*
 * guard_chunk.c - bodies in chunks (RFC 9112 7.1).
 *
 * What a newcomer would get wrong: of a chunk only its data go to the library as they come. The line
 * with its size is read whole first, and then written anew, without leading zeros or extensions, and
 * with the CR LF that ends the data before it; the trailer is read whole and left out. Thus a body can
 * be ended in an orderly way wherever a fault is found, and nothing the library looks for the end of
 * is longer than GUARD_ROOM.
 */
#include "http/guard_internal.h"

enum part {             /* of a chunk extension: what may come next */
            EXT_SPACE,  /* before a semicolon, which has to come */
            EXT_BEGIN,  /* a name */
            EXT_NAME,   /* more of it, or what follows it */
            EXT_NAMED,  /* space has: an equals sign, or as EXT_SPACE, or the end */
            EXT_EQUALS, /* a value */
            EXT_TOKEN,
            EXT_QUOTED,
            EXT_ESCAPED,
            EXT_END, /* after a quoted value: space, a semicolon, or the end */
};

#define SIZE_DIGITS 16
#define LINE_MAX_N  1024  /* bytes of a line with a chunk's size */
#define EXCESS_MAX  16384 /* bytes of such lines in a request that its data do not pay for */

/* ---- extensions: read, and left out ---- */

static int next_part(enum part part, char c)
{
    bool is_tchar = is_class(c, IS_TCHAR);

    switch (part) {
    case EXT_SPACE: return is_space(c) ? EXT_SPACE : c == ';' ? EXT_BEGIN : -1;
    case EXT_BEGIN: return is_space(c) ? EXT_BEGIN : is_tchar ? EXT_NAME : -1;
    case EXT_NAME:
        if (is_tchar)
            return EXT_NAME;
        __attribute__((fallthrough));
    case EXT_NAMED:
        return is_space(c) ? EXT_NAMED : c == '=' ? EXT_EQUALS : c == ';' ? EXT_BEGIN : -1;
    case EXT_EQUALS:
        return is_space(c) ? EXT_EQUALS : c == '"' ? EXT_QUOTED : is_tchar ? EXT_TOKEN : -1;
    case EXT_TOKEN: return is_tchar ? EXT_TOKEN : next_part(EXT_END, c);
    case EXT_QUOTED:
        return c == '"'                 ? EXT_END
               : c == '\\'              ? EXT_ESCAPED
               : is_class(c, IS_QUOTED) ? EXT_QUOTED
                                        : -1;
    case EXT_ESCAPED: return is_class(c, IS_VALUE) ? EXT_QUOTED : -1;
    case EXT_END: return is_space(c) ? EXT_SPACE : c == ';' ? EXT_BEGIN : -1;
    }
    return -1;
}

static bool may_end(enum part part)
{
    return part == EXT_NAME || part == EXT_TOKEN || part == EXT_END;
}

static bool read_extension(struct pass *ps)
{
    struct guard *g = ps->g;

    for (; ps->p < ps->end; ps->p++) {
        int part;

        if (*ps->p == '\r' && may_end(g->part)) {
            ps->p++;
            g->state = ST_SIZE_LF;
            return true;
        }
        part = next_part(g->part, *ps->p);
        if (part < 0)
            return refuse(ps, *ps->p == '\n' ? REFUSAL_LINE_END : REFUSAL_CHUNK_EXTENSION);
        if (++g->line_n > LINE_MAX_N)
            return refuse(ps, REFUSAL_CHUNK_EXTENSION);
        g->part = (uint8_t)part;
    }
    return true;
}

/* ---- sizes ---- */

static bool read_size(struct pass *ps)
{
    struct guard *g = ps->g;
    char c = *ps->p;

    if (is_class(c, IS_HEX)) {
        if (++g->at > SIZE_DIGITS)
            return refuse(ps, REFUSAL_CHUNK_SIZE);
        g->left = g->left << 4 | hex_value(c);
    } else if (c == '\r') {
        g->state = ST_SIZE_LF;
    } else if (c == ';' || is_space(c)) {
        g->part = c == ';' ? EXT_BEGIN : EXT_SPACE;
        g->state = ST_EXTENSION;
    } else {
        return refuse(ps, c == '\n' ? REFUSAL_LINE_END : REFUSAL_CHUNK_SIZE);
    }
    ps->p++;
    g->line_n++;
    return true;
}

static void put(struct pass *ps, const char *text, size_t n)
{
    memcpy(ps->out, text, n);
    ps->out += n;
}

/* The line is whole: ahead of p there is room for what it becomes. */
static void put_size(struct pass *ps)
{
    static const char digits[] = "0123456789abcdef";
    int shift = 60;

    if (ps->g->has_data)
        put(ps, "\r\n", 2);
    while (ps->g->left >> shift == 0)
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        *ps->out++ = digits[ps->g->left >> shift & 15];
    put(ps, "\r\n", 2);
}

static bool begin_data(struct pass *ps)
{
    struct guard *g = ps->g;
    uint64_t paid = 16 + 2 * g->left;

    if (*ps->p != '\n')
        return refuse(ps, REFUSAL_LINE_END);
    if (g->left == 0) {
        ps->p++;
        ps->mark = ps->p;
        ps->stop = (size_t)(ps->end - ps->p) > ps->limits->head ? ps->p + ps->limits->head
                                                                : ps->end;
        g->head_n = g->n_fields = 0;
        g->state = ST_TRAILER;
        return true;
    }
    if (g->left > ps->limits->body - g->body_n)
        return refuse(ps, REFUSAL_BODY_LARGE);
    g->excess = g->excess + g->line_n > paid ? g->excess + g->line_n - (uint32_t)paid : 0;
    if (g->excess > EXCESS_MAX)
        return refuse(ps, REFUSAL_CHUNK_EXTENSION);
    ps->p++;
    put_size(ps);
    ps->kept = ps->p;
    g->has_data = true;
    g->body_n += g->left;
    g->state = ST_DATA;
    return true;
}

static bool pass_data(struct pass *ps)
{
    struct guard *g = ps->g;
    size_t n = (size_t)(ps->end - ps->p);

    if (n < g->left) {
        g->left -= n;
        ps->p = ps->end;
        return true;
    }
    ps->p += g->left;
    g->left = 0;
    keep_to(ps, ps->p);
    g->state = ST_DATA_CR;
    return true;
}

/* ---- trailers: read, and left out ---- */

static bool begin_trailer(struct pass *ps)
{
    char c = *ps->p;

    if (c != '\r' && !is_class(c, IS_TCHAR))
        return refuse(ps, c == '\n' ? REFUSAL_LINE_END : REFUSAL_TRAILER);
    ps->p++;
    ps->g->state = c == '\r' ? ST_TRAILER_LF : ST_TRAILER_NAME;
    return true;
}

static bool read_trailer(struct pass *ps, unsigned class, char last, enum state next)
{
    while (ps->p < ps->stop && is_class(*ps->p, class))
        ps->p++;
    if (ps->p == ps->stop)
        return true;
    if (*ps->p != last)
        return refuse(ps, *ps->p == '\n' ? REFUSAL_LINE_END : REFUSAL_TRAILER);
    ps->p++;
    ps->g->state = (uint8_t)next;
    return true;
}

static bool end_trailer_line(struct pass *ps)
{
    if (*ps->p != '\n')
        return refuse(ps, REFUSAL_LINE_END);
    if (++ps->g->n_fields > ps->limits->fields)
        return refuse(ps, REFUSAL_TRAILER);
    ps->p++;
    ps->g->state = ST_TRAILER;
    return true;
}

static bool end_body(struct pass *ps)
{
    if (*ps->p != '\n')
        return refuse(ps, REFUSAL_LINE_END);
    ps->p++;
    if (ps->g->has_data)
        put(ps, "\r\n", 2);
    put(ps, "0\r\n\r\n", 5);
    ps->kept = ps->p;
    guard_request_over(ps);
    return true;
}

bool guard_chunk(struct pass *ps)
{
    struct guard *g = ps->g;

    switch ((enum state)g->state) {
    case ST_CHUNK:
        if (!is_class(*ps->p, IS_HEX))
            return refuse(ps, *ps->p == '\n' ? REFUSAL_LINE_END : REFUSAL_CHUNK_SIZE);
        g->left = g->line_n = g->at = 0;
        g->state = ST_SIZE;
        return true;
    case ST_SIZE: return read_size(ps);
    case ST_EXTENSION: return read_extension(ps);
    case ST_SIZE_LF: return begin_data(ps);
    case ST_DATA: return pass_data(ps);
    case ST_DATA_CR:
    case ST_DATA_LF:
        if (*ps->p != (g->state == ST_DATA_CR ? '\r' : '\n'))
            return refuse(ps, REFUSAL_CHUNK_END);
        ps->p++;
        g->state = g->state == ST_DATA_CR ? ST_DATA_LF : ST_CHUNK;
        return true;
    case ST_TRAILER: return begin_trailer(ps);
    case ST_TRAILER_NAME: return read_trailer(ps, IS_TCHAR, ':', ST_TRAILER_VALUE);
    case ST_TRAILER_VALUE: return read_trailer(ps, IS_VALUE, '\r', ST_TRAILER_VALUE_LF);
    case ST_TRAILER_VALUE_LF: return end_trailer_line(ps);
    default: return end_body(ps);
    }
}
