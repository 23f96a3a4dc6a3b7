/*
 * line.c - puts a log line together, so that no request can break its format.
 *
 * Every field has a limit of its own, and the limits together with the fixed text stay below the
 * line's: a long URL cannot push the status out. An escape sequence is never cut in two.
 */
#include "line.h"

#include <strings.h>

static const char redacted[] = "REDACTED";

/* Where a field may go to; full is set once something did not fit. */
struct field {
    struct line *line;
    size_t end;
    int full;
};

static struct field field_begin(struct line *l, size_t max)
{
    struct field f = {l, l->n + max, 0};

    if (f.end > sizeof l->p)
        f.end = sizeof l->p;
    return f;
}

/* All of it or nothing; leaves room for the dots. */
static void field_put(struct field *f, const char *p, size_t n)
{
    if (f->full || f->line->n + n + 3 > f->end) {
        f->full = 1;
        return;
    }
    memcpy(f->line->p + f->line->n, p, n);
    f->line->n += n;
}

static void field_end(struct field *f)
{
    if (f->full && f->line->n + 3 <= sizeof f->line->p) {
        memcpy(f->line->p + f->line->n, "...", 3);
        f->line->n += 3;
    }
}

/* How many bytes the UTF-8 character at p has; 0 when there is none (RFC 3629 4). */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    unsigned low = 0x80, high = 0xbf;

    if (p[0] < 0xc2 || p[0] > 0xf4 || n < len)
        return 0;
    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f; /* no surrogates */
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

static int is_plain(int style, unsigned char c)
{
    return c > 0x20 ? c < 0x7f && c != '"' && c != '\\' : c == ' ' && style != LINE_WORD;
}

static void put_escaped(struct field *f, int style, bh_str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    char escape[8];

    for (size_t i = 0; i < s.n && !f->full;) {
        size_t n = 1;

        if (is_plain(style, p[i])) {
            while (i + n < s.n && n < 256 && is_plain(style, p[i + n]))
                n++;
            /* Runs go in whole; only near the end of the field, character by character. */
            if (f->line->n + n + 3 > f->end)
                n = 1;
            field_put(f, s.p + i, n);
        } else if (style != LINE_WORD && (p[i] == '"' || p[i] == '\\')) {
            escape[0] = '\\';
            escape[1] = s.p[i];
            field_put(f, escape, 2);
        } else if (style == LINE_JSON && p[i] >= 0x80) {
            n = utf8_length(p + i, s.n - i);
            if (n > 0)
                field_put(f, s.p + i, n);
            else
                field_put(f, "\\ufffd", 6), n = 1;
        } else {
            snprintf(escape, sizeof escape, style == LINE_JSON ? "\\u%04x" : "\\x%02x", p[i]);
            field_put(f, escape, strlen(escape));
        }
        i += n;
    }
}

void line_add(struct line *l, const char *text)
{
    size_t n = strlen(text), room = sizeof l->p - l->n;

    n = n < room ? n : room;
    memcpy(l->p + l->n, text, n);
    l->n += n;
}

void line_add_escaped(struct line *l, int style, bh_str s, size_t max)
{
    struct field f = field_begin(l, max);

    if (s.n == 0 && style == LINE_WORD)
        field_put(&f, "-", 1);
    put_escaped(&f, style, s);
    field_end(&f);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Compares a query argument's name as sent, percent-encoded perhaps, with a plain one. */
static int is_name(const char *p, size_t n, bh_str name)
{
    size_t i = 0, k = 0;

    for (; i < n && k < name.n; i++, k++) {
        char c = p[i] == '+' ? ' ' : p[i];

        if (c == '%' && n - i > 2 && hex_digit(p[i + 1]) >= 0 && hex_digit(p[i + 2]) >= 0) {
            c = (char)(hex_digit(p[i + 1]) * 16 + hex_digit(p[i + 2]));
            i += 2;
        }
        if (strncasecmp(&c, &name.p[k], 1) != 0)
            return 0;
    }
    return i == n && k == name.n;
}

static int is_secret(const char *name, size_t n, const bh_strlist *redact)
{
    for (size_t i = 0; i < redact->n; i++) {
        if (is_name(name, n, redact->v[i]))
            return 1;
    }
    return 0;
}

static size_t span_until(const char *p, size_t n, const char *stops)
{
    size_t i = 0;

    while (i < n && (p[i] == '\0' || strchr(stops, p[i]) == NULL))
        i++;
    return i;
}

void line_add_url(struct line *l, int style, bh_str url, const bh_strlist *redact, size_t max)
{
    struct field f = field_begin(l, max);
    size_t at = span_until(url.p, url.n, "?#");

    if (url.n == 0 && style == LINE_WORD)
        field_put(&f, "-", 1);
    put_escaped(&f, style, bh_sn(url.p, at));
    while (at < url.n) { /* at a separator: ? & ; # */
        const char *arg = url.p + at + 1;
        size_t n = span_until(arg, url.n - at - 1, "&;#?");
        size_t name = span_until(arg, n, "=");

        put_escaped(&f, style, bh_sn(url.p + at, 1));
        if (name < n && is_secret(arg, name, redact)) {
            put_escaped(&f, style, bh_sn(arg, name + 1));
            field_put(&f, redacted, sizeof redacted - 1);
        } else {
            put_escaped(&f, style, bh_sn(arg, n));
        }
        at += 1 + n;
    }
    field_end(&f);
}
