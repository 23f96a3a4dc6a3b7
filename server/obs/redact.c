#include "obs/redact.h"

#include <string.h>
#include <strings.h>

struct out {
    char *p;
    size_t n, size;
    bool is_full;
};

static const char *const secret_headers[] = {
    "authorization", "proxy-authorization", "cookie", "set-cookie", "cookie2", NULL};
static const char *const secret_arguments[] = {"key", "sig", "code", "signature", "auth",
                                               "jwt", "pwd", "pass", "api_key",   NULL};
/* Anywhere in a name. */
static const char *const secret_words[] = {"token",  "secret",  "password", "passwd",     "api-key",
                                           "apikey", "api_key", "session",  "credential", NULL};
/* Headers whose value is a URL. */
static const char *const url_headers[] = {"referer",        "location",      "content-location",
                                          "x-original-url", "x-rewrite-url", NULL};

static bool is_one_of(const char *const *list, const char *name, size_t n)
{
    for (; *list != NULL; list++) {
        if (strlen(*list) == n && strncasecmp(*list, name, n) == 0)
            return true;
    }
    return false;
}

static bool has_secret_word(const char *name, size_t n)
{
    for (const char *const *word = secret_words; *word != NULL; word++) {
        size_t len = strlen(*word);

        for (size_t i = 0; i + len <= n; i++) {
            if (strncasecmp(name + i, *word, len) == 0)
                return true;
        }
    }
    return false;
}

bool redact_is_secret_header(const char *name, size_t n)
{
    return is_one_of(secret_headers, name, n) || has_secret_word(name, n);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool redact_is_secret_argument(const char *name, size_t n)
{
    char plain[128];
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        int hi = name[i] == '%' && i + 2 < n ? hex_value(name[i + 1]) : -1;
        int lo = hi >= 0 ? hex_value(name[i + 2]) : -1;

        if (len == sizeof plain)
            return true; /* nobody names a harmless argument like that */
        plain[len++] = lo >= 0 ? (char)(hi << 4 | lo) : name[i];
        i += lo >= 0 ? 2 : 0;
    }
    return is_one_of(secret_arguments, plain, len) || has_secret_word(plain, len);
}

/* ---- writing ---- */

static void put(struct out *o, const char *p, size_t n)
{
    if (o->is_full || n > o->size - o->n) {
        o->is_full = true;
        return;
    }
    memcpy(o->p + o->n, p, n);
    o->n += n;
}

static void put_string(struct out *o, const char *s)
{
    put(o, s, strlen(s));
}

static void put_escaped(struct out *o, const char *p, size_t n)
{
    static const char hex[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];

        if (c < 0x20 || c == 0x7f)
            put(o, (const char[]){'\\', 'x', hex[c >> 4], hex[c & 15]}, 4);
        else
            put(o, p + i, 1);
    }
}

/* Not snprintf(): this may run in a fault handler. */
static void put_number(struct out *o, size_t n)
{
    char digits[20], *p = digits + sizeof digits;

    do
        *--p = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    put(o, p, (size_t)(digits + sizeof digits - p));
}

static void put_value(struct out *o, const char *p, size_t n)
{
    put_escaped(o, p, n < REDACT_VALUE_MAX ? n : REDACT_VALUE_MAX);
    if (n > REDACT_VALUE_MAX) {
        put_string(o, "[");
        put_number(o, n - REDACT_VALUE_MAX);
        put_string(o, " more bytes]");
    }
}

static void put_redacted(struct out *o, size_t n)
{
    put_string(o, "[redacted ");
    put_number(o, n);
    put_string(o, " bytes]");
}

/* Length of the run without any of the characters in stop. */
static size_t span(const char *p, size_t n, const char *stop)
{
    size_t i = 0;

    while (i < n && (p[i] == '\0' || strchr(stop, p[i]) == NULL))
        i++;
    return i;
}

/* name=value&name=value; a fragment after '#' may hold them too (OAuth's implicit grant). */
static void put_arguments(struct out *o, const char *p, size_t n)
{
    while (n > 0) {
        size_t arg = span(p, n, "&;#?");
        size_t name = span(p, arg, "=");

        if (name < arg && redact_is_secret_argument(p, name)) {
            put_value(o, p, name + 1);
            put_redacted(o, arg - name - 1);
        } else {
            put_value(o, p, arg);
        }
        put(o, p + arg, arg < n);
        arg += arg < n;
        p += arg;
        n -= arg;
    }
}

static void put_url(struct out *o, const char *p, size_t n)
{
    size_t path = span(p, n, "?#");
    size_t scheme = span(p, path, ":/");

    if (path - scheme > 3 && memcmp(p + scheme, "://", 3) == 0) {
        size_t start = scheme + 3;
        size_t authority = span(p + start, path - start, "/");
        const char *at = memrchr(p + start, '@', authority);

        put_escaped(o, p, start);
        if (at != NULL) {
            put_redacted(o, (size_t)(at - p) - start);
            start = (size_t)(at - p);
        }
        put_value(o, p + start, path - start);
    } else {
        put_value(o, p, path);
    }
    put(o, p + path, path < n);
    path += path < n;
    put_arguments(o, p + path, n - path);
}

size_t redact_request_line(char *out, size_t size, const char *method, const char *target,
                           size_t target_len, const char *protocol)
{
    struct out o = {.p = out, .size = size};

    put_value(&o, method, strlen(method));
    put_string(&o, " ");
    put_url(&o, target, target_len);
    put_string(&o, " ");
    put_value(&o, protocol, strlen(protocol));
    put_string(&o, "\n");
    return o.is_full ? 0 : o.n;
}

size_t redact_header(char *out, size_t size, const char *name, size_t name_len, const char *value,
                     size_t value_len)
{
    struct out o = {.p = out, .size = size};

    put_value(&o, name, name_len);
    put_string(&o, ": ");
    if (redact_is_secret_header(name, name_len))
        put_redacted(&o, value_len);
    else if (is_one_of(url_headers, name, name_len))
        put_url(&o, value, value_len);
    else
        put_value(&o, value, value_len);
    put_string(&o, "\n");
    return o.is_full ? 0 : o.n;
}
