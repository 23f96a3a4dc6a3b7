#include "http/forwarded.h"

#include <string.h>
#include <strings.h>

#include "conf/config.h"
#include "plugin/request.h"

#define HOPS_MAX 32 /* the last ones: nobody has as many proxies */

struct list { /* the last HOPS_MAX elements of all fields of a name; oldest first, in a ring */
    bh_str v[HOPS_MAX];
    uint32_t n; /* seen so far */
};

static bh_str trim(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    while (p < end && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return bh_sn(p, (size_t)(end - p));
}

/* RFC 9110 5.6.1: elements between commas, some of them empty; a comma in quotes is none. */
static void add_elements(struct list *l, bh_str value)
{
    const char *p = value.p, *end = value.p + value.n, *begin = p;
    bool in_quotes = false;

    for (;; p++) {
        if (p == end || (*p == ',' && !in_quotes)) {
            bh_str e = trim(begin, p);

            if (e.n > 0)
                l->v[l->n++ % HOPS_MAX] = e;
            if (p == end)
                return;
            begin = p + 1;
        } else if (*p == '"') {
            in_quotes = !in_quotes;
        } else if (*p == '\\' && in_quotes && p + 1 < end) {
            p++;
        }
    }
}

static void read_list(const struct fields *fields, const char *name, struct list *out)
{
    size_t n = strlen(name);

    out->n = 0;
    for (uint32_t i = 0; i < fields->n; i++) {
        const struct field *f = &fields->v[i];

        if (f->name.n == n && f->name.p != NULL && strncasecmp(f->name.p, name, n) == 0)
            add_elements(out, f->value);
    }
}

/* i: from the end, from 0. */
static bh_str from_end(const struct list *l, uint32_t i)
{
    return i < l->n && i < HOPS_MAX ? l->v[(l->n - 1 - i) % HOPS_MAX] : bh__none();
}

/* The value of a parameter of a Forwarded element (RFC 7239 4), without its quotes. One that needs
 * escapes is none that is of use here. */
static bh_str parameter(bh_str element, const char *name)
{
    const char *p = element.p, *end = element.p + element.n;
    size_t n = strlen(name);

    while (p < end) {
        const char *semicolon = p;
        bool in_quotes = false;
        bh_str pair;

        for (; semicolon < end && (*semicolon != ';' || in_quotes); semicolon++)
            in_quotes = in_quotes != (*semicolon == '"');
        pair = trim(p, semicolon);
        p = semicolon + 1;
        if (pair.n <= n || strncasecmp(pair.p, name, n) != 0 || pair.p[n] != '=')
            continue;
        pair = bh_sn(pair.p + n + 1, pair.n - n - 1);
        if (pair.n >= 2 && pair.p[0] == '"' && pair.p[pair.n - 1] == '"')
            pair = bh_sn(pair.p + 1, pair.n - 2);
        return pair.n > 0 && memchr(pair.p, '"', pair.n) == NULL &&
                       memchr(pair.p, '\\', pair.n) == NULL
                   ? pair
                   : bh__none();
    }
    return bh__none();
}

static bool is_trusted(const struct config *cfg, const struct address *a)
{
    return address_is_in(a, cfg->trusted, cfg->n_trusted);
}

/* Walks back to the client; how many elements that took. */
static uint32_t find_client(const struct config *cfg, const struct list *hops, bool is_rfc7239,
                            struct address *client)
{
    uint32_t i = 0;

    while (i < hops->n && i < HOPS_MAX) {
        bh_str e = from_end(hops, i);
        struct address a;

        if (is_rfc7239)
            e = parameter(e, "for");
        i++;
        if (e.p == NULL || !address_parse(&a, e.p, e.n, true))
            break; /* "unknown", a secret name: the last address that is known stands for it */
        *client = a;
        if (!is_trusted(cfg, client))
            break;
    }
    return i;
}

static bh_str known_scheme(bh_str s)
{
    if (s.n == 4 && strncasecmp(s.p, "http", 4) == 0)
        return bh_s("http");
    return s.n == 5 && strncasecmp(s.p, "https", 5) == 0 ? bh_s("https") : bh__none();
}

/* What the proxy next to the client said, where each has said something; else the one that did. */
static bh_str beside(const struct fields *fields, const char *name, uint32_t n_hops)
{
    struct list l;

    read_list(fields, name, &l);
    if (l.n == 0)
        return bh__none();
    if (n_hops > l.n)
        n_hops = l.n;
    return from_end(&l, n_hops > 0 ? n_hops - 1 : 0);
}

void forwarded_read(const struct config *cfg, const struct fields *fields,
                    const struct address *peer, struct forwarded *out)
{
    struct list hops;
    uint32_t n;

    *out = (struct forwarded){.client = *peer, .scheme = bh__none(), .host = bh__none()};
    switch (cfg->forwarded) {
    case CONFIG_FORWARDED:
        read_list(fields, "forwarded", &hops);
        n = find_client(cfg, &hops, true, &out->client);
        if (n > 0) {
            out->scheme = known_scheme(parameter(from_end(&hops, n - 1), "proto"));
            out->host = parameter(from_end(&hops, n - 1), "host");
        }
        break;
    case CONFIG_X_FORWARDED_FOR:
        read_list(fields, "x-forwarded-for", &hops);
        n = find_client(cfg, &hops, false, &out->client);
        out->scheme = known_scheme(beside(fields, "x-forwarded-proto", n));
        out->host = beside(fields, "x-forwarded-host", n);
        break;
    case CONFIG_FORWARDED_OFF: break;
    }
}

bool forwarded_is_name(bh_str name)
{
    static const char *const names[] = {
        "forwarded",        "x-forwarded-for",    "x-forwarded-proto", "x-forwarded-host",
        "x-forwarded-port", "x-forwarded-server", "x-forwarded-by",    "x-real-ip"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (name.n == strlen(names[i]) && strncasecmp(name.p, names[i], name.n) == 0)
            return true;
    return false;
}
