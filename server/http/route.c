#include "http/route.h"

#include <string.h>
#include <strings.h>

#include "conf/config.h"

static bool matches_host(const struct config_route *r, bh_str host)
{
    size_t n = strlen(r->host);

    if (host.p == NULL || host.n < n || strncasecmp(host.p, r->host, n) != 0)
        return false;
    return host.n == n || host.p[n] == ':';
}

static bool matches_path(const struct config_route *r, bh_str path)
{
    size_t n = strlen(r->path);

    if (!r->is_prefix)
        return path.n == n && memcmp(path.p, r->path, n) == 0;
    /* "/api/" + anything, and "/api" itself */
    return (path.n >= n && memcmp(path.p, r->path, n) == 0) ||
           (path.n + 1 == n && memcmp(path.p, r->path, n - 1) == 0);
}

static bool matches_method(const struct config_route *r, bh_str method)
{
    if (r->methods == NULL)
        return true;
    for (int i = 0; i < r->n_methods; i++) {
        if (bh_str_eq(method, r->methods[i]))
            return true;
        /* HEAD is GET without the body (RFC 9110 9.3.2). */
        if (strcmp(r->methods[i], "GET") == 0 && bh_str_eq(method, "HEAD"))
            return true;
    }
    return false;
}

const struct config_route *route_find(const struct config *cfg, bh_str host, bh_str path,
                                      bh_str method, const struct config_route **other_method)
{
    *other_method = NULL;
    for (int i = 0; i < cfg->n_routes; i++) {
        const struct config_route *r = &cfg->route[i];

        if ((r->host != NULL && !matches_host(r, host)) || !matches_path(r, path))
            continue;
        if (matches_method(r, method))
            return r;
        if (*other_method == NULL)
            *other_method = r;
    }
    return NULL;
}
