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

/* Nearly all paths need no work; two bytes tell. */
static bool is_plain(const char *p, size_t n)
{
    if (memchr(p, '%', n) != NULL)
        return false;
    for (size_t i = 0; i + 1 < n; i++)
        if (p[i] == '/' && (p[i + 1] == '/' || p[i + 1] == '.'))
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
    char *path;
    size_t k = 0;

    if (is_plain(p, n) && p[n] == '\0') {
        *out = (bh_str){p, n};
        return true;
    }
    path = arena_alloc_aligned(a, n + 2, 1);
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

bool target_parse(struct arena *a, bh_str raw, struct target *out)
{
    const char *p = raw.p, *end = p + raw.n, *mark;

    memset(out, 0, sizeof *out);
    if (raw.n == 1 && p[0] == '*') {
        out->path = raw;
        return true;
    }
    if (raw.n > 7 && (strncasecmp(p, "http://", 7) == 0 ||
                      (raw.n > 8 && strncasecmp(p, "https://", 8) == 0))) {
        const char *host = strstr(p, "//") + 2;

        for (p = host; p < end && *p != '/' && *p != '?'; p++)
            ;
        if (p == host)
            return false;
        out->host = (bh_str){host, (size_t)(p - host)};
        if (p == end || *p == '?') { /* no path: "/" */
            out->path = (bh_str){"/", 1};
            if (p < end)
                out->query = (bh_str){p + 1, (size_t)(end - p - 1)};
            return true;
        }
    }
    if (p == end || *p != '/')
        return false;
    mark = memchr(p, '?', (size_t)(end - p));
    if (mark != NULL)
        out->query = (bh_str){mark + 1, (size_t)(end - mark - 1)};
    return normalise(a, p, (size_t)((mark != NULL ? mark : end) - p), &out->path);
}
