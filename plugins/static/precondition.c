/*
 * precondition.c - If-Match, If-None-Match and their kin, in the order of RFC 9110 13.2.2.
 *
 * Entity tags go before dates: where a tag is given, the date beside it is not looked at.
 */
#include "precondition.h"
#include "httpdate.h"

/* Is etag in this list? A weak tag matches only where weak ones count (RFC 9110 8.8.3.2). What is
 * not a list of tags ends the search. */
static bool list_has(bh_str list, const char *etag, bool weak_counts)
{
    size_t len = strlen(etag);
    const char *p = list.p, *end = list.p + list.n;

    for (;;) {
        bool is_weak;
        const char *close;

        while (p < end && (*p == ' ' || *p == '\t' || *p == ','))
            p++;
        if (p == end)
            return false;
        if (*p == '*')
            return true;
        is_weak = end - p > 2 && p[0] == 'W' && p[1] == '/';
        p += is_weak ? 2 : 0;
        if (*p != '"' || (close = memchr(p + 1, '"', (size_t)(end - p) - 1)) == NULL)
            return false;
        close++;
        if ((weak_counts || !is_weak) && (size_t)(close - p) == len && memcmp(p, etag, len) == 0)
            return true;
        p = close;
    }
}

/* The header may come in several lines. */
static bool header_has(bh_req *req, const char *name, const char *etag, bool weak_counts)
{
    bh_str list;

    for (size_t i = 0; (list = bh_header_nth(req, BH_REQ, name, i)).p != NULL; i++) {
        if (list_has(list, etag, weak_counts))
            return true;
    }
    return false;
}

/* A date that is not one, or that comes twice, is as good as none (13.1.3, 13.1.4). */
static bool header_date(bh_req *req, const char *name, int64_t now_s, int64_t *out)
{
    bh_str s = bh_header(req, name);

    return s.p != NULL && httpdate_parse(s, now_s, out) &&
           bh_header_nth(req, BH_REQ, name, 1).p == NULL;
}

int precondition_check(bh_req *req, const struct validators *v, int64_t now_s)
{
    int64_t date_s;

    if (bh_header(req, "If-Match").p != NULL) {
        if (!header_has(req, "If-Match", v->etag, false))
            return PRECONDITION_FAILED;
    } else if (header_date(req, "If-Unmodified-Since", now_s, &date_s) && v->modified_s > date_s) {
        return PRECONDITION_FAILED;
    }
    if (bh_header(req, "If-None-Match").p != NULL) {
        if (header_has(req, "If-None-Match", v->etag, true))
            return PRECONDITION_NOT_MODIFIED;
    } else if (header_date(req, "If-Modified-Since", now_s, &date_s) && v->modified_s <= date_s) {
        return PRECONDITION_NOT_MODIFIED;
    }
    return PRECONDITION_MET;
}

bool precondition_allows_range(bh_req *req, const struct validators *v, int64_t now_s)
{
    bh_str s = bh_header(req, "If-Range");

    if (s.p == NULL)
        return true;
    if (s.n > 0 && s.p[0] == '"')
        return bh_str_eq(s, v->etag);
    /* A date has to be the very same, and so old that no change can hide in its second (8.8.2.2).
     * A weak tag never is. */
    return bh_str_eq(s, v->modified_text) && v->modified_s < now_s - 1;
}
