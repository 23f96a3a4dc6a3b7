/*
 * target.c - conditions on a request.
 */
#include "target.h"

static const char *const plain[] = {"client", "path", "host", "method", "listener"};
static const char *const named[] = {"header:", "cookie:", "query:", "var:"};

static int begins(bh_str s, const char *prefix)
{
    size_t n = strlen(prefix);

    return s.n > n && memcmp(s.p, prefix, n) == 0;
}

const char *target_fault(bh_str what)
{
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (bh_str_eq(what, plain[i]))
            return NULL;
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
        if (begins(what, named[i]))
            return NULL;
    return "is not header:NAME, cookie:NAME, query:NAME, var:NAME, client, path, host, method or "
           "listener";
}

bh_str target_value(bh_req *req, bh_str what)
{
    if (begins(what, "header:"))
        return bh_header(req, what.p + 7);
    if (begins(what, "cookie:"))
        return bh_cookie(req, what.p + 7);
    if (begins(what, "query:"))
        return bh_query(req, what.p + 6);
    if (begins(what, "var:"))
        return bh_var(req, what.p + 4);
    return bh_attr(req, what.p);
}

/* Goes back to the last star only: linear in practice, |pattern| * |text| at worst. */
int target_glob(bh_str pattern, bh_str text)
{
    size_t p = 0, t = 0, star = (size_t)-1, resume = 0;

    while (t < text.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            resume = t;
        } else if (p < pattern.n && pattern.p[p] == text.p[t]) {
            p++;
            t++;
        } else if (star != (size_t)-1) {
            p = star + 1;
            t = ++resume;
        } else {
            return 0;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}

static int matches_one(bh_str patterns, bh_str value)
{
    for (size_t at = 0; at <= patterns.n;) {
        size_t n = strcspn(patterns.p + at, "|");

        if (target_glob(bh_sn(patterns.p + at, n), value))
            return 1;
        at += n + 1;
    }
    return 0;
}

int target_matches(bh_req *req, const bh_map *conditions)
{
    for (size_t i = 0; i < conditions->n; i++) {
        bh_str value = target_value(req, conditions->v[i].k);

        if (value.p == NULL || !matches_one(conditions->v[i].v, value))
            return 0;
    }
    return 1;
}
