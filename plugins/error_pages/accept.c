/*
 * accept.c - reads Accept headers (RFC 9110 12.5.1).
 *
 * A newcomer would take the first type listed: what counts is the q-value, and of several ranges
 * that match a type, the most specific one. Types that end in +json count as JSON.
 */
#include "accept.h"

#include <strings.h>

/* What is known so far of one of the two kinds. */
struct preference {
    int specificity; /* of the range that q is from; 0: none matched */
    int q;           /* thousandths */
};

static bh_str trimmed(const char *p, size_t n)
{
    while (n > 0 && (*p == ' ' || *p == '\t'))
        p++, n--;
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
        n--;
    return bh_sn(p, n);
}

static int equals(bh_str s, const char *word)
{
    return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

static int ends_in_json(bh_str type)
{
    return type.n > 5 && strncasecmp(type.p + type.n - 5, "+json", 5) == 0;
}

static void note(struct preference *p, int specificity, int q)
{
    if (specificity > p->specificity || (specificity == p->specificity && q > p->q)) {
        p->specificity = specificity;
        p->q = q;
    }
}

static size_t until(const char *p, size_t n, char c)
{
    const char *end = memchr(p, c, n);

    return end ? (size_t)(end - p) : n;
}

/* "0.85" -> 850. What is no q-value counts as 1. */
static int parse_q(bh_str s)
{
    int q, unit = 100;

    if (s.n == 0 || (s.p[0] != '0' && s.p[0] != '1') || (s.n > 1 && s.p[1] != '.'))
        return 1000;
    q = (s.p[0] - '0') * 1000;
    for (size_t i = 2; i < s.n && s.p[i] >= '0' && s.p[i] <= '9' && unit > 0; i++) {
        q += (s.p[i] - '0') * unit;
        unit /= 10;
    }
    return q > 1000 ? 1000 : q;
}

/* One of "text/html;level=1;q=0.7". */
static void read_range(const char *p, size_t n, struct preference *html, struct preference *json)
{
    size_t len = until(p, n, ';');
    bh_str type = trimmed(p, len);
    int q = 1000;

    while (len < n) {
        bh_str param;

        p += len + 1;
        n -= len + 1;
        len = until(p, n, ';');
        param = trimmed(p, len);
        if (param.n >= 2 && (param.p[0] == 'q' || param.p[0] == 'Q') && param.p[1] == '=')
            q = parse_q(bh_sn(param.p + 2, param.n - 2));
    }
    if (equals(type, "*/*"))
        note(html, 1, q), note(json, 1, q);
    else if (equals(type, "text/*"))
        note(html, 2, q);
    else if (equals(type, "application/*"))
        note(json, 2, q);
    else if (equals(type, "text/html") || equals(type, "application/xhtml+xml"))
        note(html, 3, q);
    else if (equals(type, "application/json") || ends_in_json(type))
        note(json, 3, q);
}

int accept_prefers_json(bh_req *req)
{
    struct preference html = {0, 0}, json = {0, 0};
    bh_str line;

    for (size_t i = 0; (line = bh_header_nth(req, BH_REQ, "Accept", i)).p != NULL; i++) {
        while (line.n > 0) {
            size_t n = until(line.p, line.n, ',');

            read_range(line.p, n, &html, &json);
            n += n < line.n;
            line = bh_sn(line.p + n, line.n - n);
        }
    }
    return json.q > html.q;
}
