#include "http/route.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "conf/config.h"
#include "plugin/request.h"

/* What a route without `methods` takes: those of RFC 9110 and 5789, but for CONNECT and TRACE, which
 * no route gets. */
static const char *const standard[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

#define N_STANDARD (int)(sizeof standard / sizeof standard[0])

/* ---- hosts ---- */

static bool matches_host(const struct config_route *r, const struct route_query *q)
{
    bh_str host = q->host.host;

    if (host.p == NULL)
        return false;
    if (r->port != 0 && r->port != (q->host.port != 0 ? q->host.port : q->default_port))
        return false;
    if (host.n > 1 && host.p[host.n - 1] == '.')
        host.n--; /* the same name, spelt out to the root */
    if (r->host[0] != '.')
        return host.n == r->host_len && strncasecmp(host.p, r->host, host.n) == 0;
    return host.n > r->host_len &&
           strncasecmp(host.p + host.n - r->host_len, r->host, r->host_len) == 0;
}

/* ---- paths ---- */

/* One segment each; a star stands for any bytes, but a star alone not for an empty segment. */
static bool matches_segment(const char *pat, const char *pat_end, const char *s, const char *end)
{
    const char *star = NULL, *retry = NULL;

    if (pat_end - pat == 1 && *pat == '*')
        return s < end;
    while (s < end) {
        if (pat < pat_end && *pat == '*') {
            star = pat++;
            retry = s;
        } else if (pat < pat_end && *pat == *s) {
            pat++;
            s++;
        } else if (star != NULL) {
            pat = star + 1;
            s = ++retry;
        } else {
            return false;
        }
    }
    while (pat < pat_end && *pat == '*')
        pat++;
    return pat == pat_end;
}

/* Both begin with a slash. A pattern that ends with one (is_prefix) takes all that is below. */
static bool matches_stars(const struct config_route *r, bh_str path)
{
    const char *pat = r->path, *pat_end = pat + r->path_len;
    const char *s = path.p, *end = s + path.n;

    while (pat < pat_end) {
        const char *pat_stop, *stop;

        if (s == end || *s != '/') /* only the last slash may be missing: "/a" of "/a/" */
            return r->is_prefix && s == end && pat + 1 == pat_end;
        pat++;
        s++;
        if (r->is_prefix && pat == pat_end)
            return true;
        pat_stop = memchr(pat, '/', (size_t)(pat_end - pat));
        stop = memchr(s, '/', (size_t)(end - s));
        if (pat_stop == NULL)
            pat_stop = pat_end;
        if (stop == NULL)
            stop = end;
        if (!matches_segment(pat, pat_stop, s, stop))
            return false;
        pat = pat_stop;
        s = stop;
    }
    return s == end;
}

static bool matches_path(const struct config_route *r, bh_str path)
{
    size_t n = r->path_len;

    if (__builtin_expect(r->has_stars, 0))
        return matches_stars(r, path);
    if (!r->is_prefix)
        return path.n == n && memcmp(path.p, r->path, n) == 0;
    /* "/api/" + anything, and "/api" itself */
    return (path.n >= n && memcmp(path.p, r->path, n) == 0) ||
           (path.n + 1 == n && memcmp(path.p, r->path, n - 1) == 0);
}

/* ---- fields and parameters ---- */

static bool has_field(const struct fields *f, const struct config_condition *c)
{
    size_t len = strlen(c->name);
    const struct field *field;

    for (size_t nth = 0; (field = fields_find(f, c->name, len, nth)) != NULL; nth++)
        if (c->value == NULL || bh_str_eq(field->value, c->value))
            return true;
    return false;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Is that what the encoded text stands for? As bh_query() decodes. */
static bool decodes_to(const char *p, const char *end, const char *text)
{
    for (; p < end; p++, text++) {
        unsigned char c = (unsigned char)(*p == '+' ? ' ' : *p);

        if (*p == '%' && end - p > 2 && hex(p[1]) >= 0 && hex(p[2]) >= 0) {
            c = (unsigned char)(hex(p[1]) << 4 | hex(p[2]));
            p += 2;
        }
        if (c == '\0' || (unsigned char)*text != c)
            return false;
    }
    return *text == '\0';
}

static bool has_parameter(bh_str query, const struct config_condition *c)
{
    const char *p = query.p, *end = query.p != NULL ? query.p + query.n : NULL;

    while (p < end) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        const char *stop = amp != NULL ? amp : end;
        const char *eq = memchr(p, '=', (size_t)(stop - p));

        if (decodes_to(p, eq != NULL ? eq : stop, c->name) &&
            (c->value == NULL || decodes_to(eq != NULL ? eq + 1 : stop, stop, c->value)))
            return true;
        p = stop + 1;
    }
    return false;
}

static bool matches_conditions(const struct config_route *r, const struct route_query *q)
{
    for (int i = 0; i < r->n_headers; i++)
        if (!has_field(q->fields, &r->header[i]))
            return false;
    for (int i = 0; i < r->n_queries; i++)
        if (!has_parameter(q->query, &r->query[i]))
            return false;
    return true;
}

/* ---- methods ---- */

static bool is_standard(bh_str method)
{
    for (int i = 0; i < N_STANDARD; i++)
        if (bh_str_eq(method, standard[i]))
            return true;
    return false;
}

static bool matches_method(const struct config_route *r, bh_str method)
{
    if (r->is_any_method)
        return true;
    if (r->methods == NULL)
        return is_standard(method);
    for (int i = 0; i < r->n_methods; i++) {
        if (bh_str_eq(method, r->methods[i]))
            return true;
        /* HEAD is GET without the body (RFC 9110 9.3.2). */
        if (strcmp(r->methods[i], "GET") == 0 && bh_str_eq(method, "HEAD"))
            return true;
    }
    return false;
}

bool route_knows_method(const struct config *cfg, bh_str method)
{
    if (is_standard(method))
        return true;
    for (int i = 0; i < cfg->n_routes; i++)
        if (cfg->route[i].methods != NULL && matches_method(&cfg->route[i], method))
            return true;
    return false;
}

/* ---- routes ---- */

/* All but the method. */
static bool matches(const struct config_route *r, const struct route_query *q)
{
    return (q->path.p == NULL || matches_path(r, q->path)) &&
           (r->host == NULL || matches_host(r, q)) && matches_conditions(r, q);
}

const struct config_route *route_find(const struct config *cfg, const struct route_query *q,
                                      bool *other_method)
{
    *other_method = false;
    for (int i = 0; i < cfg->n_routes; i++) {
        const struct config_route *r = &cfg->route[i];

        if (!matches(r, q))
            continue;
        if (matches_method(r, q->method))
            return r;
        *other_method = true;
    }
    return NULL;
}

struct allow {
    char *text;
    size_t n, size;
};

static void allow(struct allow *a, const char *method)
{
    size_t len = strlen(method);

    for (const char *p = a->text; a->n > 0 && p != NULL; p = strchr(p, ',')) {
        p += p == a->text ? 0 : 2;
        if (strncmp(p, method, len) == 0 && (p[len] == ',' || p[len] == '\0'))
            return;
    }
    if (a->n + len + 3 < a->size)
        a->n += (size_t)snprintf(a->text + a->n, a->size - a->n, "%s%s", a->n > 0 ? ", " : "",
                                 method);
}

size_t route_allow(const struct config *cfg, const struct route_query *q, char *text, size_t size)
{
    struct allow a = {.text = text, .size = size};

    text[0] = '\0';
    for (int i = 0; i < cfg->n_routes; i++) {
        const struct config_route *r = &cfg->route[i];

        if (!matches(r, q))
            continue;
        for (int k = 0; (r->methods == NULL || r->is_any_method) && k < N_STANDARD; k++)
            allow(&a, standard[k]);
        for (int k = 0; k < r->n_methods; k++) {
            if (strcmp(r->methods[k], "*") == 0)
                continue;
            allow(&a, r->methods[k]);
            if (strcmp(r->methods[k], "GET") == 0)
                allow(&a, "HEAD");
        }
    }
    allow(&a, "OPTIONS");
    return a.n;
}
