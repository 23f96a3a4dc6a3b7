/*
 * headers.c - sets, adds and removes header fields, on the request and on the answer.
 *
 * In each direction: remove, then set, then add. The request's are changed for the plugins that
 * follow. The answer's are set twice: in on_request, so that they are there whoever answers (error
 * pages included), and again in on_response, because the one who answers may have set others.
 */
#include <bulkhead.h>
#include <strings.h>

struct config {
    bh_map request_set, request_add, response_set, response_add;
    bh_strlist request_remove, response_remove;
};

static int is_token(bh_str s)
{
    static const char chars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return s.n > 0 && strspn(s.p, chars) == s.n;
}

/* NULL: fine. */
static const char *name_fault(bh_str name)
{
    static const char *const hosts[] = {"Content-Length", "Transfer-Encoding", "Connection", "Date",
                                        "Upgrade",        "Trailer",           "Keep-Alive", "TE"};

    if (!is_token(name))
        return "is not a header name (a token, RFC 9110 5.1)";
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        if (strcasecmp(name.p, hosts[i]) == 0)
            return "is a header that only the server sets";
    }
    return NULL;
}

static const char *value_fault(bh_str value)
{
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return "has a control character in its value";
    }
    if (value.n > 0 && (strchr(" \t", value.p[0]) || strchr(" \t", value.p[value.n - 1])))
        return "has a blank before or after its value";
    return NULL;
}

static bh_rc complain(bh_errs *errs, const char *option, bh_str name, const char *fault)
{
    char msg[256];

    snprintf(msg, sizeof msg, "\"%.100s\" %s", name.p ? name.p : "", fault);
    bh_cfg_error(errs, option, msg);
    return BH_FAIL;
}

static bh_rc check_map(const bh_map *map, const char *option, bh_errs *errs)
{
    bh_rc rc = BH_OK;

    for (size_t i = 0; i < map->n; i++) {
        const char *fault = name_fault(map->v[i].k);

        if (fault == NULL)
            fault = value_fault(map->v[i].v);
        if (fault != NULL)
            rc = complain(errs, option, map->v[i].k, fault);
    }
    return rc;
}

static bh_rc check_list(const bh_strlist *list, const char *option, bh_errs *errs)
{
    bh_rc rc = BH_OK;

    for (size_t i = 0; i < list->n; i++) {
        const char *fault = name_fault(list->v[i]);

        if (fault != NULL)
            rc = complain(errs, option, list->v[i], fault);
    }
    return rc;
}

static bh_rc headers_validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    bh_rc faults = BH_OK;

    faults |= check_list(&c->request_remove, "request_remove", errs);
    faults |= check_map(&c->request_set, "request_set", errs);
    faults |= check_map(&c->request_add, "request_add", errs);
    faults |= check_list(&c->response_remove, "response_remove", errs);
    faults |= check_map(&c->response_set, "response_set", errs);
    faults |= check_map(&c->response_add, "response_add", errs);
    return faults == BH_OK ? BH_OK : BH_FAIL;
}

static bh_rc headers_open(bh_inst *inst, const void *cfg, void **self)
{
    (void)inst;
    *self = (void *)(uintptr_t)cfg; /* lives as long as the instance; only read */
    return BH_OK;
}

static bh_rc remove_all(bh_req *req, int32_t side, const bh_strlist *names)
{
    for (size_t i = 0; i < names->n; i++) {
        bh_rc rc = bh_header_del(req, side, names->v[i].p);

        if (rc != BH_OK && rc != BH_ENOENT)
            return rc;
    }
    return BH_OK;
}

static bh_rc set_all(bh_req *req, int32_t side, const bh_map *map)
{
    for (size_t i = 0; i < map->n; i++) {
        bh_rc rc = bh_header_set(req, side, map->v[i].k.p, map->v[i].v);

        if (rc != BH_OK)
            return rc;
    }
    return BH_OK;
}

static bh_rc add_all(bh_req *req, int32_t side, const bh_map *map)
{
    for (size_t i = 0; i < map->n; i++) {
        bh_rc rc = bh_header_add(req, side, map->v[i].k.p, map->v[i].v);

        if (rc != BH_OK)
            return rc;
    }
    return BH_OK;
}

static bh_rc headers_on_request(void *self, bh_req *req, void *ctx)
{
    const struct config *c = self;

    (void)ctx;
    if (remove_all(req, BH_REQ, &c->request_remove) != BH_OK ||
        set_all(req, BH_REQ, &c->request_set) != BH_OK ||
        add_all(req, BH_REQ, &c->request_add) != BH_OK ||
        set_all(req, BH_RESP, &c->response_set) != BH_OK)
        return BH_FAIL;
    return BH_CONTINUE;
}

static bh_rc headers_on_response(void *self, bh_req *req, void *ctx)
{
    const struct config *c = self;

    (void)ctx;
    if (remove_all(req, BH_RESP, &c->response_remove) != BH_OK ||
        set_all(req, BH_RESP, &c->response_set) != BH_OK ||
        add_all(req, BH_RESP, &c->response_add) != BH_OK)
        return BH_FAIL;
    return BH_CONTINUE;
}

static const bh_opt headers_options[] = {
    BH_STRLIST(struct config, request_remove, NULL, "request headers that later plugins don't see"),
    BH_MAP(struct config, request_set, "request headers that later plugins see instead"),
    BH_MAP(struct config, request_add, "request headers that later plugins see in addition"),
    BH_STRLIST(struct config, response_remove, NULL, "headers to take out of the answer"),
    BH_MAP(struct config, response_set, "headers of the answer, replacing those of that name"),
    BH_MAP(struct config, response_add, "headers of the answer, beside those of that name"),
    BH_OPT_END,
};

BH_PLUGIN("headers", "1.0.0", .summary = "sets, adds and removes headers",
          .options = headers_options, .cfg_size = sizeof(struct config),
          .validate = headers_validate, .open = headers_open, .on_request = headers_on_request,
          .on_response = headers_on_response)
