/*
 * exposure.c - the JSON of an exposure. Only the id can hold what a client chose.
 */
#include "exposure.h"

struct out {
    size_t n;
    char p[EXPOSURE_MAX];
};

static void put(struct out *o, const char *p, size_t n)
{
    n = n < sizeof o->p - o->n ? n : sizeof o->p - o->n;
    memcpy(o->p + o->n, p, n);
    o->n += n;
}

static void put_text(struct out *o, const char *s)
{
    put(o, s, strlen(s));
}

/* Bytes that are not ASCII become U+00XX: an id is bytes, and so stays one-to-one. */
static void put_quoted(struct out *o, bh_str s)
{
    char escape[8];

    put_text(o, "\"");
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
            put(o, s.p + i, 1);
        else
            put(o, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
    }
    put_text(o, "\"");
}

static void put_member(struct out *o, const char *name, bh_str value)
{
    put_text(o, o->n > 1 ? ",\"" : "\"");
    put_text(o, name);
    put_text(o, "\":");
    put_quoted(o, value);
}

bh_rc exposure_add(bh_req *req, const struct exposure *e)
{
    bh_str before = bh_var(req, "ab_exposures");
    struct out o;
    char number[64];
    char *all;

    o.n = 0;
    put_text(&o, "{");
    put_member(&o, "experiment", e->experiment);
    put_member(&o, "group", e->group);
    put_member(&o, "id", e->id);
    put_member(&o, "reason", e->reason);
    snprintf(number, sizeof number, ",\"bucket\":%u,\"fallback\":%s", e->bucket,
             e->fallback ? "true" : "false");
    put_text(&o, number);
    if (e->request_time.p != NULL)
        put_member(&o, "request_time", e->request_time);
    put_member(&o, "gateway_time", e->gateway_time);
    put_text(&o, "}");
    if (before.n == 0)
        return bh_var_set(req, "ab_exposures", bh_sn(o.p, o.n));
    all = bh_alloc(req, before.n + 1 + o.n);
    if (all == NULL)
        return BH_ENOMEM;
    memcpy(all, before.p, before.n);
    all[before.n] = ',';
    memcpy(all + before.n + 1, o.p, o.n);
    return bh_var_set(req, "ab_exposures", bh_sn(all, before.n + 1 + o.n));
}
