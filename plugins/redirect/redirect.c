/*
 * redirect.c - answers with another address, made from a template.
 *
 * What a client sent goes into the Location percent-encoded, and cannot reach its authority part:
 * validate() allows only {host} and {scheme} there, and an answer that begins with "//" or "/\"
 * (which browsers take for another host) is never made.
 */
#include <bulkhead.h>
#include <stdlib.h>
#include <strings.h>

#define MAX_PARTS 32

enum part_kind { PART_TEXT, PART_SCHEME, PART_HOST, PART_PATH, PART_REST, PART_QUERY };

static const char *const part_names[] = {
    [PART_SCHEME] = "{scheme}", [PART_HOST] = "{host}",   [PART_PATH] = "{path}",
    [PART_REST] = "{rest}",     [PART_QUERY] = "{query}",
};
#define N_PART_NAMES (sizeof part_names / sizeof part_names[0])

struct part {
    enum part_kind kind;
    bh_str text;
};

struct config {
    const char *to;
    int32_t status;
    bh_strlist from;
};

struct redirect {
    const struct config *cfg;
    size_t n_parts;
    struct part part[MAX_PARTS];
};

static enum part_kind part_kind_at(const char *s)
{
    for (size_t k = PART_SCHEME; k < N_PART_NAMES; k++) {
        if (strncmp(s, part_names[k], strlen(part_names[k])) == 0)
            return (enum part_kind)k;
    }
    return PART_TEXT;
}

/* Cut a template into parts. The number of parts, or 0 with *fault set. */
static size_t parse_template(const char *to, struct part part[MAX_PARTS], const char **fault)
{
    size_t n = 0;

    while (*to != '\0') {
        enum part_kind kind = part_kind_at(to);
        size_t len = kind == PART_TEXT ? strcspn(to, "{") : strlen(part_names[kind]);

        if (len == 0) {
            *fault = "knows {path}, {rest}, {query}, {host} and {scheme} only";
            return 0;
        }
        if (n == MAX_PARTS) {
            *fault = "has too many parts";
            return 0;
        }
        part[n].kind = kind;
        part[n++].text = bh_sn(to, len);
        to += len;
    }
    if (n == 0)
        *fault = "is empty";
    return n;
}

/* The template up to where its path begins: what decides which server is meant. */
static const char *authority_fault(const char *to)
{
    const char *at;

    if (*to == '/' || strncmp(to, part_names[PART_PATH], strlen(part_names[PART_PATH])) == 0)
        return to[0] == '/' && (to[1] == '/' || to[1] == '\\') ? "begins with //: name a scheme"
                                                               : NULL;
    if (strncmp(to, "http://", 7) == 0)
        at = to + 7;
    else if (strncmp(to, "https://", 8) == 0)
        at = to + 8;
    else if (strncmp(to, "{scheme}://", 11) == 0)
        at = to + 11;
    else
        return "must begin with /, {path}, http://, https:// or {scheme}://";

    if (*at == '\0' || *at == '/' || *at == '?' || *at == '#' || part_kind_at(at) == PART_PATH)
        return "has no host";
    while (*at != '\0' && *at != '/' && *at != '?' && *at != '#') {
        enum part_kind kind = part_kind_at(at);

        if (kind == PART_PATH)
            return NULL; /* it begins with a slash, which ends the authority */
        if (kind == PART_REST || kind == PART_QUERY)
            return "lets the client choose the host: put a / before {rest} or {query}";
        if (*at == '@' || *at == '\\')
            return "has a @ or \\ in its host";
        at += kind == PART_TEXT ? 1 : strlen(part_names[kind]);
    }
    return NULL;
}

static bh_rc redirect_validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    struct part part[MAX_PARTS];
    const char *fault = NULL;
    bh_rc rc = BH_OK;

    for (const char *s = c->to; *s != '\0' && fault == NULL; s++) {
        if ((unsigned char)*s <= 0x20 || (unsigned char)*s >= 0x7f)
            fault = "has a character that is not allowed in a URL: percent-encode it";
    }
    if (fault == NULL && parse_template(c->to, part, &fault) > 0)
        fault = authority_fault(c->to);
    if (fault != NULL) {
        bh_cfg_error(errs, "to", fault);
        rc = BH_FAIL;
    }
    if (c->status > 303 && c->status < 307) {
        bh_cfg_error(errs, "status", "is not 301, 302, 303, 307 or 308");
        rc = BH_FAIL;
    }
    for (size_t i = 0; i < c->from.n; i++) {
        const char *star = strchr(c->from.v[i].p, '*');

        if (c->from.v[i].p[0] != '/' || (star != NULL && strcmp(star - 1, "/**") != 0)) {
            bh_cfg_error(errs, "from", "wants paths like /old and /old/**");
            rc = BH_FAIL;
        }
    }
    return rc;
}

static bh_rc redirect_open(bh_inst *inst, const void *cfg, void **self)
{
    struct redirect *r = calloc(1, sizeof *r);
    const char *fault = NULL;

    if (r == NULL) {
        bh_log(inst, BH_LOG_ERROR, "out of memory");
        return BH_FAIL;
    }
    r->cfg = cfg;
    r->n_parts = parse_template(r->cfg->to, r->part, &fault);
    if (r->n_parts == 0) {
        bh_logf(inst, BH_LOG_ERROR, "to: %s", fault);
        free(r);
        return BH_FAIL;
    }
    *self = r;
    return BH_OK;
}

static void redirect_close(void *self)
{
    free(self);
}

/* Is path meant? *rest: what "**" stands for, the whole path when the pattern has none. */
static int pattern_matches(bh_str pattern, bh_str path, bh_str *rest)
{
    size_t stem = pattern.n;

    if (stem >= 3 && memcmp(pattern.p + stem - 3, "/**", 3) == 0) {
        stem -= 3; // "/old/**" is /old, too
        if (path.n < stem || memcmp(path.p, pattern.p, stem) != 0 ||
            (path.n > stem && path.p[stem] != '/'))
            return 0;
        *rest = bh_sn(path.p + stem, path.n - stem);
        return 1;
    }
    *rest = path;
    return path.n == stem && memcmp(path.p, pattern.p, stem) == 0;
}

static int is_meant(const struct redirect *r, bh_str path, bh_str *rest)
{
    *rest = path;
    for (size_t i = 0; i < r->cfg->from.n; i++) {
        if (pattern_matches(r->cfg->from.v[i], path, rest))
            return 1;
    }
    return r->cfg->from.n == 0;
}

/* Only what can stand in a host (and port) passes: it comes from the client. */
static int is_host(bh_str host)
{
    static const char chars[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "-._~:[]";

    return host.p != NULL && host.n > 0 && strspn(host.p, chars) == host.n;
}

/* RFC 3986 pchar and "/"; for a query "?" and "%" as well, as it was encoded by the client. */
static char *encode(char *out, bh_str s, int is_query)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            (c != '\0' && strchr("-._~!$&'()*+,;=:@/", c)) ||
            (is_query && (c == '?' || c == '%'))) {
            *out++ = (char)c;
        } else {
            *out++ = '%';
            *out++ = digits[c >> 4];
            *out++ = digits[c & 15];
        }
    }
    return out;
}

static bh_str skip_slashes(bh_str s)
{
    while (s.n > 0 && *s.p == '/') {
        s.p++;
        s.n--;
    }
    return s;
}

static bh_rc redirect_on_request(void *self, bh_req *req, void *ctx)
{
    const struct redirect *r = self;
    bh_str path = bh_attr(req, "path"), query = bh_attr(req, "query");
    bh_str host = bh_attr(req, "host"), scheme = bh_attr(req, "scheme");
    bh_str rest;
    size_t room = 1;
    char *location, *o;

    (void)ctx;
    if (path.n == 0 || !is_meant(r, path, &rest))
        return BH_CONTINUE;
    rest = skip_slashes(rest);
    path = skip_slashes(path); /* one is put back: "//elsewhere" is not a path */

    for (size_t i = 0; i < r->n_parts; i++)
        room += r->part[i].text.n + 1 + 3 * (path.n + query.n + host.n + scheme.n);
    location = o = bh_alloc(req, room);
    if (location == NULL)
        return BH_FAIL;

    for (size_t i = 0; i < r->n_parts; i++) {
        bh_str text = r->part[i].text;

        switch (r->part[i].kind) {
        case PART_PATH:
            *o++ = '/';
            o = encode(o, path, 0);
            break;
        case PART_REST: o = encode(o, rest, 0); break;
        case PART_QUERY:
            if (query.n == 0 && o > location && (o[-1] == '?' || o[-1] == '&'))
                o--; /* "{path}?{query}" without a query */
            o = encode(o, query, 1);
            break;
        case PART_HOST:
            if (!is_host(host))
                return bh_reply(req, 400, "text/plain; charset=utf-8", "400 Bad Request\n");
            o = (char *)memcpy(o, host.p, host.n) + host.n;
            break;
        case PART_SCHEME: text = scheme.n > 0 ? scheme : bh_s("http"); /* fall through */
        case PART_TEXT: o = (char *)memcpy(o, text.p, text.n) + text.n; break;
        }
    }
    while (o - location > 1 && location[0] == '/' && location[1] == '/')
        location++;

    if (bh_header_set(req, BH_RESP, "Location", bh_sn(location, (size_t)(o - location))) != BH_OK)
        return BH_FAIL;
    return bh_reply(req, r->cfg->status, "text/plain; charset=utf-8", "See the Location header.\n");
}

static const bh_opt redirect_options[] = {
    BH_STR_REQUIRED(struct config, to, "where to: may have {path} {rest} {query} {host} {scheme}"),
    BH_INT(struct config, status, "302", 301, 308, "301, 302, 303, 307 or 308"),
    BH_STRLIST(struct config, from, NULL,
               "paths that are redirected: /old, /old/**; all if absent"),
    BH_OPT_END,
};

BH_PLUGIN("redirect", "1.0.0", .summary = "answers with another address",
          .options = redirect_options, .cfg_size = sizeof(struct config),
          .validate = redirect_validate, .open = redirect_open, .close = redirect_close,
          .on_request = redirect_on_request)
