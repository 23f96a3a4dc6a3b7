#include "obs/traceparent.h"

#include <string.h>

/* Lower case only: upper case makes the field invalid. */
static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *p, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        int high = digit(p[2 * i]), low = digit(p[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool is_zero(const uint8_t *id, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (id[i] != 0)
            return false;
    return true;
}

bool traceparent_parse(const char *p, size_t n, struct traceparent *out)
{
    struct traceparent t;
    uint8_t version;

    if (n < TRACEPARENT_LEN || !read_hex(p, 1, &version) || version == 0xff)
        return false;
    /* Later versions may have more behind it, after another dash. */
    if (version == 0 ? n != TRACEPARENT_LEN : n > TRACEPARENT_LEN && p[TRACEPARENT_LEN] != '-')
        return false;
    if (p[2] != '-' || p[35] != '-' || p[52] != '-' || !read_hex(p + 3, 16, t.trace_id) ||
        !read_hex(p + 36, 8, t.parent) || !read_hex(p + 53, 1, &t.flags))
        return false;
    if (is_zero(t.trace_id, 16) || is_zero(t.parent, 8))
        return false;
    t.flags &= TRACEPARENT_SAMPLED;
    *out = t;
    return true;
}

void trace_hex(const uint8_t *id, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        *out++ = digits[id[i] >> 4];
        *out++ = digits[id[i] & 15];
    }
    *out = '\0';
}

void traceparent_format(const struct traceparent *t, char out[TRACEPARENT_LEN + 1])
{
    memcpy(out, "00-", 4);
    trace_hex(t->trace_id, 16, out + 3);
    out[35] = '-';
    trace_hex(t->parent, 8, out + 36);
    out[52] = '-';
    trace_hex(&t->flags, 1, out + 53);
}

/* ---- tracestate ---- */

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_number(char c)
{
    return c >= '0' && c <= '9';
}

static size_t key_part(const char *p, size_t n)
{
    size_t i = 0;

    while (i < n && (is_lower(p[i]) || is_number(p[i]) || p[i] == '_' || p[i] == '-' ||
                     p[i] == '*' || p[i] == '/'))
        i++;
    return i;
}

/* A name, or TENANT@SYSTEM. */
static bool is_key(const char *p, size_t n)
{
    size_t first = key_part(p, n), rest;

    if (first == 0)
        return false;
    if (first == n)
        return is_lower(p[0]) && n <= 256;
    if (p[first] != '@' || first > 241 || !(is_lower(p[0]) || is_number(p[0])))
        return false;
    rest = n - first - 1;
    return rest > 0 && rest <= 14 && is_lower(p[first + 1]) &&
           key_part(p + first + 1, rest) == rest;
}

static bool is_value(const char *p, size_t n)
{
    if (n == 0 || n > 256 || p[n - 1] == ' ')
        return false;
    for (size_t i = 0; i < n; i++)
        if (p[i] < 0x20 || p[i] > 0x7e || p[i] == ',' || p[i] == '=')
            return false;
    return true;
}

static bool is_member(const char *p, size_t n, size_t *key_len)
{
    const char *eq = memchr(p, '=', n);

    if (eq == NULL)
        return false;
    *key_len = (size_t)(eq - p);
    return is_key(p, *key_len) && is_value(eq + 1, n - *key_len - 1);
}

bool tracestate_is_valid(const char *p, size_t n, int *n_members)
{
    const char *keys[TRACESTATE_MEMBERS], *end = p + n;
    size_t key_len[TRACESTATE_MEMBERS];
    int n_keys = 0;

    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma != NULL ? comma : end;
        const char *next = comma != NULL ? comma + 1 : end;

        while (p < stop && (*p == ' ' || *p == '\t'))
            p++;
        while (stop > p && (stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        if (p < stop) {
            if (n_keys == TRACESTATE_MEMBERS || ++*n_members > TRACESTATE_MEMBERS ||
                !is_member(p, (size_t)(stop - p), &key_len[n_keys]))
                return false;
            keys[n_keys] = p;
            for (int i = 0; i < n_keys; i++)
                if (key_len[i] == key_len[n_keys] && memcmp(keys[i], p, key_len[i]) == 0)
                    return false;
            n_keys++;
        }
        p = next;
    }
    return true;
}
