/*
 * cors.c - lets pages of other origins use this server, as the Fetch standard has it (3.2).
 *
 * A preflight is answered here with 204, allowed or not: it is the browser that refuses. Response
 * headers are set in on_request already, so that a page can read error answers as well. What a
 * request does on the server is not prevented by CORS; that is an authentication plugin's work.
 */
#include <bulkhead.h>
#include <stdlib.h>

struct config {
    bh_strlist origins, methods, headers, expose;
    int32_t credentials;
    int64_t max_age; /* ms */
};

struct cors {
    const struct config *cfg;
    int any_origin;
    char *methods, *headers, *expose; /* "GET, HEAD"; NULL: none */
    char max_age[24];                 /* seconds; "": none */
};

static const bh_str any = {"*", 1};
static const bh_str default_methods[] = {{"GET", 3}, {"HEAD", 4}, {"POST", 4}};
static const bh_str default_headers[] = {{"Content-Type", 12}};

static bh_strlist or_default(bh_strlist given, const bh_str *def, size_t n)
{
    bh_strlist l = {def, n};

    return given.n > 0 ? given : l;
}

static int has_star(const bh_strlist *list)
{
    for (size_t i = 0; i < list->n; i++) {
        if (bh_str_eq(list->v[i], "*"))
            return 1;
    }
    return 0;
}

static int is_token(bh_str s)
{
    static const char chars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return s.n > 0 && strspn(s.p, chars) == s.n;
}

/* scheme://host[:port] as browsers write it (lower case, no path), "null", or a pattern whose
 * host begins with "*." */
static int is_origin(bh_str s)
{
    static const char chars[] = "0123456789abcdefghijklmnopqrstuvwxyz-._:[]";
    const char *host = strstr(s.p, "://");

    if (bh_str_eq(s, "*") || bh_str_eq(s, "null"))
        return 1;
    if (host == NULL ||
        strspn(s.p, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != (size_t)(host - s.p))
        return 0;
    host += 3;
    if (strncmp(host, "*.", 2) == 0)
        host += 2;
    return *host != '\0' && host[strspn(host, chars)] == '\0';
}

static bh_rc check_tokens(const bh_strlist *list, const char *option, int credentials,
                          bh_errs *errs)
{
    bh_rc rc = BH_OK;

    for (size_t i = 0; i < list->n; i++) {
        if (!is_token(list->v[i])) {
            bh_cfg_error(errs, option, "has a name that is not a token (RFC 9110 5.6.2)");
            rc = BH_FAIL;
        }
    }
    if (credentials && has_star(list)) {
        bh_cfg_error(errs, option, "cannot be \"*\" with credentials: browsers take it literally");
        rc = BH_FAIL;
    }
    return rc;
}

static bh_rc cors_validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    bh_rc faults = BH_OK;
    char msg[256];

    for (size_t i = 0; i < c->origins.n; i++) {
        if (is_origin(c->origins.v[i]))
            continue;
        snprintf(msg, sizeof msg,
                 "\"%.100s\" is not an origin; write https://example.org, https://*.example.org "
                 "or \"*\"",
                 c->origins.v[i].p);
        bh_cfg_error(errs, "origins", msg);
        faults = BH_FAIL;
    }
    if (c->credentials && (c->origins.n == 0 || has_star(&c->origins))) {
        bh_cfg_error(errs, "origins",
                     "must be named when credentials are allowed (\"*\" is every "
                     "site of the world)");
        faults = BH_FAIL;
    }
    faults |= check_tokens(&c->methods, "methods", c->credentials, errs);
    faults |= check_tokens(&c->headers, "headers", c->credentials, errs);
    faults |= check_tokens(&c->expose, "expose", c->credentials, errs);
    return faults == BH_OK ? BH_OK : BH_FAIL;
}

/* "a, b, c"; NULL when out of memory. */
static char *join(bh_strlist list)
{
    size_t n = 1;
    char *s, *o;

    for (size_t i = 0; i < list.n; i++)
        n += list.v[i].n + 2;
    s = o = malloc(n);
    if (s == NULL)
        return NULL;
    for (size_t i = 0; i < list.n; i++) {
        if (i > 0)
            o = (char *)memcpy(o, ", ", 2) + 2;
        o = (char *)memcpy(o, list.v[i].p, list.v[i].n) + list.v[i].n;
    }
    *o = '\0';
    return s;
}

static void cors_close(void *self)
{
    struct cors *c = self;

    free(c->methods);
    free(c->headers);
    free(c->expose);
    free(c);
}

static bh_rc cors_open(bh_inst *inst, const void *cfg, void **self)
{
    struct cors *c = calloc(1, sizeof *c);
    const struct config *o = cfg;
    bh_strlist methods = or_default(o->methods, default_methods, 3);
    bh_strlist headers = or_default(o->headers, default_headers, 1);

    if (c == NULL)
        goto fail;
    c->cfg = o;
    c->any_origin = o->origins.n == 0 || has_star(&o->origins);
    c->methods = join(methods);
    c->headers = join(headers);
    if (c->methods == NULL || c->headers == NULL)
        goto fail;
    if (o->expose.n > 0 && (c->expose = join(o->expose)) == NULL)
        goto fail;
    if (o->max_age > 0)
        snprintf(c->max_age, sizeof c->max_age, "%lld", (long long)o->max_age / 1000);
    *self = c;
    return BH_OK;

fail:
    bh_log(inst, BH_LOG_ERROR, "out of memory");
    if (c != NULL)
        cors_close(c);
    return BH_FAIL;
}

// pattern: scheme://*.rest; the star is one label or more.
static int pattern_matches(bh_str pattern, bh_str origin)
{
    static const char labels[] = "0123456789abcdefghijklmnopqrstuvwxyz-._";
    const char *star = strstr(pattern.p, "://*.");
    size_t before, after;

    if (star == NULL)
        return pattern.n == origin.n && memcmp(pattern.p, origin.p, origin.n) == 0;
    before = (size_t)(star + 3 - pattern.p);
    after = pattern.n - before - 1; /* with its dot */
    return origin.n > before + after && memcmp(origin.p, pattern.p, before) == 0 &&
           memcmp(origin.p + origin.n - after, pattern.p + before + 1, after) == 0 &&
           strspn(origin.p + before, labels) >= origin.n - before - after;
}

static int is_allowed(const struct cors *c, bh_str origin)
{
    if (c->any_origin)
        return 1;
    for (size_t i = 0; i < c->cfg->origins.n; i++) {
        if (pattern_matches(c->cfg->origins.v[i], origin))
            return 1;
    }
    return 0;
}

static bh_rc answer_preflight(const struct cors *c, bh_req *req, int allowed)
{
    /* The answer depends on these, allowed or not: a cache may not mix them up. */
    if (bh_header_add(req, BH_RESP, "Vary",
                      bh_s("Access-Control-Request-Method, Access-Control-Request-Headers")) !=
        BH_OK)
        return BH_FAIL;
    if (allowed && (bh_resp_header(req, "Access-Control-Allow-Methods", c->methods) != BH_OK ||
                    bh_resp_header(req, "Access-Control-Allow-Headers", c->headers) != BH_OK))
        return BH_FAIL;
    if (allowed && c->max_age[0] != '\0' &&
        bh_resp_header(req, "Access-Control-Max-Age", c->max_age) != BH_OK)
        return BH_FAIL;
    return bh_reply_n(req, 204, NULL, NULL, 0);
}

static bh_rc cors_on_request(void *self, bh_req *req, void *ctx)
{
    const struct cors *c = self;
    bh_str origin = bh_header(req, "Origin");
    int allowed;

    (void)ctx;
    /* Also without an Origin: otherwise a cache hands that answer to a page that sends one. */
    if (!c->any_origin && bh_header_add(req, BH_RESP, "Vary", bh_s("Origin")) != BH_OK)
        return BH_FAIL;
    if (origin.p == NULL)
        return BH_CONTINUE;

    allowed = is_allowed(c, origin);
    if (allowed) {
        if (bh_header_set(req, BH_RESP, "Access-Control-Allow-Origin",
                          c->any_origin ? any : origin) != BH_OK)
            return BH_FAIL;
        if (c->cfg->credentials &&
            bh_resp_header(req, "Access-Control-Allow-Credentials", "true") != BH_OK)
            return BH_FAIL;
    }
    if (bh_str_eq(bh_attr(req, "method"), "OPTIONS") &&
        bh_header(req, "Access-Control-Request-Method").p != NULL)
        return answer_preflight(c, req, allowed);
    if (allowed && c->expose != NULL &&
        bh_resp_header(req, "Access-Control-Expose-Headers", c->expose) != BH_OK)
        return BH_FAIL;
    return BH_CONTINUE;
}

static const bh_opt cors_options[] = {
    BH_STRLIST(struct config, origins, NULL,
               "https://a.org, https://*.a.org; absent: every origin"),
    BH_STRLIST(struct config, methods, NULL, "methods pages may use; absent: GET, HEAD, POST"),
    BH_STRLIST(struct config, headers, NULL, "headers pages may send; absent: Content-Type"),
    BH_STRLIST(struct config, expose, NULL, "headers of answers that pages may read"),
    BH_BOOL(struct config, credentials, "false", "pages may send cookies and authorization"),
    BH_DURATION(struct config, max_age, "10m", 0, 86400000, "how long a preflight holds"),
    BH_OPT_END,
};

BH_PLUGIN("cors", "1.0.0", .summary = "lets pages of other origins use this server",
          .options = cors_options, .cfg_size = sizeof(struct config), .validate = cors_validate,
          .open = cors_open, .close = cors_close, .on_request = cors_on_request)
