/*
 * event.c - lines of the exposure log.
 */
#include "event.h"

/* The end of the object at at: braces count outside of strings only. n where it has none. */
static size_t object_end(const char *p, size_t at, size_t n)
{
    int depth = 0, quoted = 0;

    for (; at < n; at++) {
        if (quoted && p[at] == '\\')
            at++;
        else if (p[at] == '"')
            quoted = !quoted;
        else if (!quoted && p[at] == '{')
            depth++;
        else if (!quoted && p[at] == '}' && --depth == 0)
            return at + 1;
    }
    return n;
}

bh_str event_next(bh_str objects, size_t *at)
{
    size_t begin = *at, end;

    while (begin < objects.n && objects.p[begin] == ',')
        begin++;
    if (begin >= objects.n || objects.p[begin] != '{')
        return bh_sn(NULL, 0);
    end = object_end(objects.p, begin, objects.n);
    *at = end;
    return objects.p[end - 1] == '}' ? bh_sn(objects.p + begin, end - begin) : bh_sn(NULL, 0);
}

void event_id(uint64_t maker, uint64_t n, char out[EVENT_ID_SIZE])
{
    /* 48 bits of it, the version, 12 more, the variant; two go. */
    snprintf(out, EVENT_ID_SIZE, "%08x-%04x-8%03x-%04x-%012llx", (unsigned)(maker >> 32),
             (unsigned)(maker >> 16 & 0xffff), (unsigned)(maker >> 4 & 0xfff),
             (unsigned)(0x8000 | (maker & 0xf) << 10 | (n >> 48 & 0x3ff)),
             (unsigned long long)(n & 0xffffffffffff));
}

size_t event_line(const char *id, int64_t now_ms, bh_str status, bh_str request_id, bh_str object,
                  char out[EVENT_MAX])
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:";
    int n;

    if (request_id.p == NULL || strspn(request_id.p, plain) < request_id.n)
        request_id = bh_s(""); /* a client's, perhaps, and not worth escaping */
    n = snprintf(out, EVENT_MAX,
                 "{\"event_id\":\"%s\",\"time\":%lld.%03d,\"status\":%.*s,\"request_id\":\"%.*s\"%s"
                 "%.*s",
                 id, (long long)(now_ms / 1000), (int)(now_ms % 1000),
                 status.n > 0 ? (int)status.n : 4, status.n > 0 ? status.p : "null",
                 (int)request_id.n, request_id.p, object.n > 2 ? "," : "", (int)object.n - 1,
                 object.p + 1);

    return n > 0 && n < EVENT_MAX ? (size_t)n : 0;
}

bh_str event_member(bh_str line, const char *name)
{
    char key[48];
    size_t n = (size_t)snprintf(key, sizeof key, "\"%.40s\":\"", name), end;

    for (size_t at = 1; at < line.n;) {
        const char *p = memmem(line.p + at, line.n - at, key, n);

        if (p == NULL)
            break;
        at = (size_t)(p - line.p) + n;
        if (p[-1] != ',' && p[-1] != '{')
            continue; /* within a string */
        for (end = at; end < line.n && line.p[end] != '"'; end++)
            end += line.p[end] == '\\';
        return end < line.n ? bh_sn(line.p + at, end - at) : bh_sn(NULL, 0);
    }
    return bh_sn(NULL, 0);
}

int event_is_whole(bh_str line)
{
    static const char begin[] = "{\"event_id\":\"";
    size_t n = sizeof begin - 1;

    return line.n > n + 36 && memcmp(line.p, begin, n) == 0 &&
           object_end(line.p, 0, line.n) == line.n && line.p[line.n - 1] == '}';
}
