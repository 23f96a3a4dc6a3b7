#include "http/guard.h"

#include "base/must.h"
#include "http/guard_internal.h"

#define METHOD_MAX 32 /* bytes; the longest registered one has 18 */
#define BLANK_MAX  8  /* empty lines before a request */
#define NAME_LONG  UINT8_MAX

static const char version[] = "HTTP/1.";

/* ---- classes of bytes ---- */

#define IN(c, from, to) ((c) >= (from) && (c) <= (to))
#define ALNUM(c)        (IN(c, '0', '9') || IN(c, 'a', 'z') || IN(c, 'A', 'Z'))
#define TCHAR(c)                                                                          \
    (ALNUM(c) || (c) == '!' || (c) == '#' || (c) == '$' || (c) == '%' || (c) == '&' ||    \
     (c) == '\'' || (c) == '*' || (c) == '+' || (c) == '-' || (c) == '.' || (c) == '^' || \
     (c) == '_' || (c) == '`' || (c) == '|' || (c) == '~')
/* Browsers leave more unescaped than RFC 3986 has in a URI; a fragment no client may send. */
#define TARGET(c) (IN(c, 0x21, 0x7e) && (c) != '#')
#define VALUE(c)  ((c) == '\t' || IN(c, 0x20, 0x7e) || (c) >= 0x80)
#define HEX(c)    (IN(c, '0', '9') || IN(c, 'a', 'f') || IN(c, 'A', 'F'))
/* No comma, although RFC 3986 has it: it stands for two hosts. */
#define HOST(c)                                                                           \
    (ALNUM(c) || (c) == '-' || (c) == '.' || (c) == '_' || (c) == '~' || (c) == '!' ||    \
     (c) == '$' || (c) == '&' || (c) == '\'' || (c) == '(' || (c) == ')' || (c) == '*' || \
     (c) == '+' || (c) == ';' || (c) == '=')
#define CLASS(c)                                                                           \
    ((TCHAR(c) ? IS_TCHAR : 0) | (TARGET(c) ? IS_TARGET : 0) | (VALUE(c) ? IS_VALUE : 0) | \
     (HEX(c) ? IS_HEX : 0) | (IN(c, '0', '9') ? IS_DIGIT : 0) | (HOST(c) ? IS_HOST : 0) |  \
     (VALUE(c) && (c) != '"' && (c) != '\\' ? IS_QUOTED : 0))
#define ROW4(c)  CLASS(c), CLASS((c) + 1), CLASS((c) + 2), CLASS((c) + 3)
#define ROW16(c) ROW4(c), ROW4((c) + 4), ROW4((c) + 8), ROW4((c) + 12)
#define ROW64(c) ROW16(c), ROW16((c) + 16), ROW16((c) + 32), ROW16((c) + 48)

const uint8_t guard_class[256] = {ROW64(0), ROW64(64), ROW64(128), ROW64(192)};

/* ---- between requests ---- */

static void begin_request(struct pass *ps)
{
    struct guard *g = ps->g;
    size_t left = (size_t)(ps->end - ps->p);

    *g = (struct guard){.state = ST_METHOD, .n_requests = g->n_requests + 1};
    ps->mark = ps->p;
    ps->stop = left > ps->limits->head ? ps->p + ps->limits->head : ps->end;
}

void guard_request_over(struct pass *ps)
{
    ps->g->state = ST_BLANK;
    ps->g->n_blank = 0;
    ps->stop = ps->end;
}

/* Blank lines before a request are no part of it (RFC 9112 2.2), and taken out. */
static bool skip_blank(struct pass *ps)
{
    struct guard *g = ps->g;
    char c = *ps->p;

    if (g->state == ST_BLANK_LF) {
        if (c != '\n' || ++g->n_blank > BLANK_MAX)
            return refuse(ps, REFUSAL_LINE_END);
        drop(ps);
        g->state = ST_BLANK;
        return true;
    }
    if (c == '\r') {
        drop(ps);
        g->state = ST_BLANK_LF;
        return true;
    }
    if (is_class(c, IS_TCHAR)) {
        begin_request(ps);
        return true;
    }
    return refuse(ps, c == '\n'     ? REFUSAL_LINE_END
                      : c == '\x16' ? REFUSAL_TLS /* a handshake record */
                                    : REFUSAL_METHOD);
}

/* ---- the request line ---- */

static bool read_method(struct pass *ps)
{
    struct guard *g = ps->g;

    for (; ps->p < ps->stop; ps->p++) {
        if (is_class(*ps->p, IS_TCHAR)) {
            if (++g->target_n > METHOD_MAX)
                return refuse(ps, REFUSAL_METHOD_LONG);
            continue;
        }
        if (*ps->p != ' ')
            return refuse(ps, REFUSAL_METHOD);
        ps->p++;
        g->target_n = 0;
        g->state = ST_TARGET;
        return true;
    }
    return true;
}

static bool read_target(struct pass *ps)
{
    struct guard *g = ps->g;
    char *start = ps->p, *p = start;

    if (g->target_n == 0)
        g->is_origin = *p == '/';
    while (p < ps->stop && is_class(*p, IS_TARGET))
        p++;
    ps->p = p;
    g->target_n += (uint32_t)(p - start);
    if (g->target_n > ps->limits->uri) {
        ps->p -= g->target_n - ps->limits->uri;
        return refuse(ps, REFUSAL_URI_LONG);
    }
    if (p == ps->stop)
        return true;
    if (*p == '\r' && g->target_n > 0)
        return refuse(ps, REFUSAL_VERSION); /* HTTP/0.9 */
    if (*p != ' ' || g->target_n == 0)
        return refuse(ps, *p == '\n' ? REFUSAL_LINE_END : REFUSAL_TARGET);
    ps->p++;
    g->at = 0;
    g->state = ST_VERSION;
    return true;
}

static bool read_version(struct pass *ps)
{
    struct guard *g = ps->g;

    for (; ps->p < ps->stop; ps->p++) {
        char c = *ps->p;

        if (g->at == sizeof version - 1) {
            if (!is_class(c, IS_DIGIT))
                return refuse(ps, REFUSAL_VERSION);
            g->minor = (uint8_t)(c - '0');
            ps->p++;
            g->state = ST_LINE_CR;
            return true;
        }
        if (c != version[g->at])
            return refuse(ps, g->at == 5 && is_class(c, IS_DIGIT) ? REFUSAL_VERSION_MAJOR
                                                                  : REFUSAL_VERSION);
        g->at++;
    }
    return true;
}

static bool end_line(struct pass *ps, char want, enum http_refusal or_else, enum state next)
{
    if (*ps->p != want)
        return refuse(ps, *ps->p == '\n' ? REFUSAL_LINE_END : or_else);
    ps->p++;
    ps->g->state = (uint8_t)next;
    return true;
}

/* ---- the fields ---- */

static bool begin_field(struct pass *ps)
{
    struct guard *g = ps->g;
    char c = *ps->p;

    if (is_class(c, IS_TCHAR)) {
        g->name_n = 0;
        g->state = ST_NAME;
        return true;
    }
    if (c == '\r') {
        ps->p++;
        g->state = ST_HEAD_LF;
        return true;
    }
    return refuse(ps, is_space(c) ? REFUSAL_FIELD_FOLD
                      : c == '\n' ? REFUSAL_LINE_END
                                  : REFUSAL_FIELD_NAME);
}

/* What of the name has come, for the next piece. */
static void note_name(struct guard *g, const char *name, size_t n)
{
    if (g->name_n == NAME_LONG || n > sizeof g->name - g->name_n) {
        g->name_n = NAME_LONG;
        return;
    }
    memcpy(g->name + g->name_n, name, n);
    g->name_n = (uint8_t)(g->name_n + n);
}

/* See guard_restore_name(). The colon is at p; there is room for a byte if the name's last one is not
 * in this piece. */
static void hide_cookie(struct pass *ps)
{
    if (ps->p > ps->kept) {
        ps->p[-1] = ps->p[-1] == 'e' ? '\x01' : '\x02';
        return;
    }
    *ps->out++ = '\x03';
}

static bool read_name(struct pass *ps)
{
    struct guard *g = ps->g;
    char *name = ps->p, *p = name;
    size_t n;

    while (p < ps->stop && is_class(*p, IS_TCHAR))
        p++;
    ps->p = p;
    n = (size_t)(p - name);
    if (p == ps->stop) {
        note_name(g, name, n);
        return true;
    }
    if (*p != ':')
        return refuse(ps, is_space(*p) ? REFUSAL_FIELD_SPACE : REFUSAL_FIELD_NAME);
    if (g->name_n > 0) {
        note_name(g, name, n);
        name = g->name;
        n = g->name_n;
    }
    g->field = (uint8_t)guard_field_of(name, n);
    switch ((enum field)g->field) {
    case FIELD_HOST:
        if ((g->seen & SEEN(FIELD_HOST)) != 0)
            return refuse(ps, REFUSAL_HOST_MANY);
        break;
    case FIELD_LENGTH:
        if ((g->seen & SEEN(FIELD_LENGTH)) != 0)
            return refuse(ps, REFUSAL_LENGTH_MANY);
        break;
    case FIELD_CODING:
        if (g->minor == 0)
            return refuse(ps, REFUSAL_CODING_OLD);
        if ((g->seen & SEEN(FIELD_CODING)) != 0)
            return refuse(ps, REFUSAL_CODING);
        break;
    case FIELD_EXPECT:
        if (g->minor == 0) /* to be ignored: RFC 9110 10.1.1 */
            g->field = FIELD_OTHER;
        break;
    case FIELD_COOKIE: hide_cookie(ps); break;
    default: break;
    }
    g->seen |= (uint8_t)SEEN(g->field);
    g->part = g->at = g->flags = 0;
    ps->p++;
    g->state = ST_VALUE;
    return true;
}

static bool read_value(struct pass *ps)
{
    char *p = ps->p;

    if (ps->g->field >= FIELD_EXPECT) {
        if (!guard_value(ps))
            return false;
        p = ps->p;
    } else {
        while (p < ps->stop && is_class(*p, IS_VALUE))
            p++;
        ps->p = p;
    }
    if (p == ps->stop)
        return true;
    return end_line(ps, '\r', REFUSAL_FIELD_VALUE, ST_VALUE_LF);
}

static bool end_field(struct pass *ps)
{
    struct guard *g = ps->g;
    size_t head_n = g->head_n + (size_t)(ps->p - ps->mark);

    if (*ps->p != '\n')
        return refuse(ps, REFUSAL_LINE_END);
    if (++g->n_fields > ps->limits->fields ||
        head_n + (size_t)g->n_fields * GUARD_FIELD_COST > ps->limits->memory)
        return refuse(ps, REFUSAL_FIELDS_MANY);
    ps->p++;
    g->state = ST_FIELD;
    return true;
}

static bool end_head(struct pass *ps)
{
    struct guard *g = ps->g;
    bool has_length = (g->seen & SEEN(FIELD_LENGTH)) != 0;

    if (*ps->p != '\n')
        return refuse(ps, REFUSAL_LINE_END);
    if ((g->seen & SEEN(FIELD_HOST)) == 0 && g->minor > 0)
        return refuse(ps, REFUSAL_HOST_MISSING);
    if ((g->seen & SEEN(FIELD_HOST_EMPTY)) != 0 && g->is_origin)
        return refuse(ps, REFUSAL_HOST); /* RFC 9110 4.2.1: no http URI without a host */
    if ((g->seen & SEEN(FIELD_CODING)) != 0) {
        if (has_length)
            return refuse(ps, REFUSAL_LENGTH_AND_CODING);
        ps->p++;
        keep_to(ps, ps->p);
        g->state = ST_CHUNK;
        ps->stop = ps->end;
        return true;
    }
    g->left = has_length ? g->body_n : 0;
    if (g->left > ps->limits->body)
        return refuse(ps, REFUSAL_BODY_LARGE);
    ps->p++;
    ps->stop = ps->end;
    if (g->left > 0)
        g->state = ST_BODY;
    else
        guard_request_over(ps);
    return true;
}

static bool pass_body(struct pass *ps)
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
    guard_request_over(ps);
    return true;
}

/* ---- the whole ---- */

static bool step(struct pass *ps)
{
    switch ((enum state)ps->g->state) {
    case ST_BLANK:
    case ST_BLANK_LF: return skip_blank(ps);
    case ST_METHOD: return read_method(ps);
    case ST_TARGET: return read_target(ps);
    case ST_VERSION: return read_version(ps);
    case ST_LINE_CR: return end_line(ps, '\r', REFUSAL_VERSION, ST_LINE_LF);
    case ST_LINE_LF: return end_line(ps, '\n', REFUSAL_LINE_END, ST_FIELD);
    case ST_FIELD: return begin_field(ps);
    case ST_NAME: return read_name(ps);
    case ST_VALUE: return read_value(ps);
    case ST_VALUE_LF: return end_field(ps);
    case ST_HEAD_LF: return end_head(ps);
    case ST_BODY: return pass_body(ps);
    default: return guard_chunk(ps);
    }
}

/* In these states nothing between kept and p is to be passed on. */
static bool is_held(const struct guard *g)
{
    return g->state >= ST_DATA_CR;
}

/* At stop, and it is not the piece's end. */
static enum http_refusal too_large(const struct guard *g)
{
    return g->state >= ST_TRAILER   ? REFUSAL_TRAILER
           : g->state <= ST_VERSION ? REFUSAL_URI_LONG
                                    : REFUSAL_HEAD_LARGE;
}

static bool is_counted(const struct guard *g)
{
    return (g->state >= ST_METHOD && g->state <= ST_HEAD_LF) || g->state >= ST_TRAILER;
}

size_t guard_pass(struct guard *g, const struct guard_limits *limits, char *out, char *in, size_t n)
{
    struct pass ps = {.g = g,
                      .limits = limits,
                      .out = out,
                      .kept = in,
                      .p = in,
                      .end = in + n,
                      .mark = in,
                      .stop = in + n};

    must(g->refusal == REFUSAL_NONE);
    if (is_counted(g) && limits->head - g->head_n < n)
        ps.stop = in + (limits->head - g->head_n);
    for (;;) {
        if (ps.p == ps.stop) {
            if (ps.stop < ps.end)
                refuse(&ps, too_large(g));
            break;
        }
        if (!step(&ps))
            break;
    }
    if (is_counted(g))
        g->head_n += (uint32_t)(ps.p - ps.mark);
    if (!is_held(g))
        keep_to(&ps, ps.p);
    return (size_t)(ps.out - out);
}

void guard_init(struct guard *g)
{
    *g = (struct guard){.state = ST_BLANK};
}

size_t guard_room(const struct guard *g)
{
    return is_held(g) || g->state == ST_NAME ? GUARD_ROOM : 0;
}

bool guard_is_idle(const struct guard *g)
{
    return g->state == ST_BLANK;
}

bool guard_is_in_head(const struct guard *g)
{
    return g->state <= ST_HEAD_LF;
}

bool guard_is_in_body(const struct guard *g)
{
    return g->state >= ST_BODY;
}

/* ---- after a refusal ---- */

void guard_refuse(struct guard *g, enum http_refusal reason)
{
    must(reason != REFUSAL_NONE);
    if (g->refusal == REFUSAL_NONE)
        guard_note_refusal(g, reason);
}

/* What is missing to a request, after the bytes that are missing to a body or chunk. */
static const char *rest(const struct guard *g)
{
    switch ((enum state)g->state) {
    case ST_BLANK:
    case ST_BLANK_LF: return "- - HTTP/1.1\r\n\r\n";
    case ST_METHOD: return " - HTTP/1.1\r\n\r\n";
    case ST_TARGET: return g->target_n > 0 ? " HTTP/1.1\r\n\r\n" : "- HTTP/1.1\r\n\r\n";
    case ST_VERSION: return "HTTP/1.1\r\n\r\n" + g->at;
    case ST_LINE_CR: return "\r\n\r\n";
    case ST_LINE_LF: return "\n\r\n";
    case ST_FIELD: return "\r\n";
    case ST_NAME: return "-:\r\n\r\n"; /* makes another name of one that frames */
    case ST_VALUE: return g->field == FIELD_LENGTH && g->part == 0 ? "0\r\n\r\n" : "\r\n\r\n";
    case ST_VALUE_LF: return "\n\r\n";
    case ST_HEAD_LF: return "\n";
    case ST_BODY: return "";
    default: return g->has_data ? "\r\n0\r\n\r\n" : "0\r\n\r\n";
    }
}

size_t guard_complete(struct guard *g, char *buf, size_t size)
{
    size_t fill = 0, n;
    const char *text;

    must(g->refusal != REFUSAL_NONE);
    if (g->line_n != UINT32_MAX) { /* the first time */
        g->line_n = UINT32_MAX;
        if (g->state != ST_BODY && g->state != ST_DATA)
            g->left = 0;
        g->head_n = 0; /* of the rest */
    }
    if (g->left > 0) {
        fill = size < g->left ? size : (size_t)g->left;
        g->left -= fill;
    }
    text = rest(g) + g->head_n;
    n = strlen(text);
    if (n > size - fill)
        n = size - fill;
    memcpy(buf + fill, text, n);
    g->head_n += (uint32_t)n;
    return fill + n;
}

bool guard_is_complete(const struct guard *g)
{
    return g->line_n == UINT32_MAX && g->left == 0 && rest(g)[g->head_n] == '\0';
}

size_t guard_restore_name(char *name, size_t n)
{
    if (n == GUARD_COOKIE && name[5] == '\x01')
        name[5] = 'e';
    else if (n == GUARD_COOKIE && name[5] == '\x02')
        name[5] = 'E';
    else if (n == GUARD_COOKIE + 1 && name[6] == '\x03')
        name[--n] = '\0';
    return n;
}
