#include "http/target.h"

#include <string.h>
#include <strings.h>

#include "base/arena.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum { OTHER, SLASH, PERCENT, QUERY_MARK, NOT_IN_PATH, NEVER };

/* Visible ASCII is taken but for what RFC 3986 excludes and no client in use leaves unescaped: a
 * backslash above all, which some servers and file systems read as a slash. '|', '[' and ']' come
 * from browsers. In a query everything visible may stand, but '#' would be a fragment's, and the
 * server is not to see one. */
static const unsigned char class_of[256] = {
    [0 ... ' '] = NEVER, ['#'] = NEVER,        [0x7f ... 0xff] = NEVER, ['/'] = SLASH,
    ['%'] = PERCENT,     ['?'] = QUERY_MARK,   ['"'] = NOT_IN_PATH,     ['<'] = NOT_IN_PATH,
    ['>'] = NOT_IN_PATH, ['\\'] = NOT_IN_PATH, ['^'] = NOT_IN_PATH,     ['`'] = NOT_IN_PATH,
    ['{'] = NOT_IN_PATH, ['}'] = NOT_IN_PATH,
};

/* The length of the path at p, which ends at '?' or end. False: a character that it cannot have.
 * *is_plain: nothing in it needs work, as in nearly all paths. */
static bool scan_path(const char *p, const char *end, size_t *n, bool *is_plain)
{
    const char *s = p;

    *is_plain = true;
    for (; s < end; s++) {
        unsigned char class = class_of[(unsigned char)*s];

        if (__builtin_expect(class == OTHER, 1))
            continue;
        if (class == QUERY_MARK)
            break;
        if (class == SLASH) {
            if (s + 1 < end && (s[1] == '/' || s[1] == '.'))
                *is_plain = false;
        } else if (class == PERCENT) {
            *is_plain = false;
        } else {
            return false;
        }
    }
    *n = (size_t)(s - p);
    return true;
}

static bool is_query(bh_str query)
{
    for (size_t i = 0; i < query.n; i++)
        if (class_of[(unsigned char)query.p[i]] == NEVER)
            return false;
    return true;
}

/* RFC 3986 5.2.4 on decoded bytes, in place: what was escaped counts as what it stands for. */
static size_t remove_dots(char *p, size_t n)
{
    size_t out = 0, i = 0;

    while (i < n) {
        size_t start = i + 1, end; /* p[i] == '/' */

        for (end = start; end < n && p[end] != '/'; end++)
            ;
        if (end - start == 0 && end < n) {
            /* "//": one slash */
        } else if (end - start == 1 && p[start] == '.') {
            if (end == n)
                p[out++] = '/';
        } else if (end - start == 2 && p[start] == '.' && p[start + 1] == '.') {
            while (out > 0 && p[--out] != '/')
                ;
            if (end == n)
                p[out++] = '/';
        } else {
            memmove(p + out, p + i, end - i);
            out += end - i;
        }
        i = end;
    }
    if (out == 0)
        p[out++] = '/';
    return out;
}

static bool normalise(struct arena *a, const char *p, size_t n, bh_str *out)
{
    char *path = arena_alloc_aligned(a, n + 2, 1);
    size_t k = 0;

    if (path == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        int hi, lo;

        if (p[i] != '%') {
            path[k++] = p[i];
            continue;
        }
        if (i + 2 >= n || (hi = hex(p[i + 1])) < 0 || (lo = hex(p[i + 2])) < 0 || (hi | lo) == 0)
            return false;
        path[k++] = (char)(hi << 4 | lo);
        i += 2;
    }
    k = remove_dots(path, k);
    path[k] = '\0';
    *out = (bh_str){path, k};
    return true;
}

/* "/path?query" up to end. */
static bool parse_origin(struct arena *a, const char *p, const char *end, struct target *out)
{
    bool is_plain;
    size_t n;

    if (!scan_path(p, end, &n, &is_plain))
        return false;
    if (p + n < end) {
        out->query = bh_sn(p + n + 1, (size_t)(end - p) - n - 1);
        if (!is_query(out->query))
            return false;
    }
    if (!is_plain || p[n] != '\0')
        return normalise(a, p, n, &out->path);
    out->path = bh_sn(p, n);
    return true;
}

static bool parse_absolute(struct arena *a, const char *host, const char *end, struct target *out)
{
    const char *p = host;

    out->form = TARGET_ABSOLUTE;
    while (p < end && *p != '/' && *p != '?')
        p++;
    out->host = bh_sn(host, (size_t)(p - host));
    if (!authority_parse(out->host, &out->authority))
        return false; /* names of users are refused here, too: RFC 9110 4.2.4 */
    if (p < end && *p == '/')
        return parse_origin(a, p, end, out);
    out->path = bh_s("/"); /* none is as good as this: 4.2.3 */
    if (p < end)
        out->query = bh_sn(p + 1, (size_t)(end - p - 1));
    return is_query(out->query);
}

bool target_parse(struct arena *a, bh_str raw, struct target *out)
{
    const char *p = raw.p, *end = p + raw.n;

    memset(out, 0, sizeof *out);
    if (raw.n > 0 && *p == '/')
        return parse_origin(a, p, end, out);
    out->path = raw;
    if (raw.n == 1 && *p == '*') {
        out->form = TARGET_ASTERISK;
        return true;
    }
    if (raw.n > 7 && strncasecmp(p, "http://", 7) == 0)
        return parse_absolute(a, p + 7, end, out);
    if (raw.n > 8 && strncasecmp(p, "https://", 8) == 0)
        return parse_absolute(a, p + 8, end, out);
    out->form = TARGET_AUTHORITY;
    out->host = raw;
    return authority_parse(raw, &out->authority) && out->authority.has_port;
}
