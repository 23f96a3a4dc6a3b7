/*
 * api.c - which path is whose, and who may go there.
 */
#include <stdio.h>
#include <string.h>

#include "admin/internal.h"
#include "base/clock.h"
#include "conf/config.h"

const struct api_route api_routes[] = {
    {"GET", "/", ADMIN_NOBODY, get_index},
    {"GET", "/assets/{name}", ADMIN_NOBODY, get_asset},
    {"GET", "/metrics", ADMIN_READER, get_metrics},
    {"GET", "/healthz", ADMIN_NOBODY, get_healthz},
    {"GET", "/readyz", ADMIN_NOBODY, get_readyz},
    {"GET", "/api/v1/session", ADMIN_NOBODY, get_session},
    {"POST", "/api/v1/session", ADMIN_NOBODY, post_session},
    {"DELETE", "/api/v1/session", ADMIN_NOBODY, delete_session},
    {"GET", "/api/v1/status", ADMIN_READER, get_status},
    {"GET", "/api/v1/plugins", ADMIN_READER, get_plugins},
    {"GET", "/api/v1/config", ADMIN_READER, get_config},
    {"GET", "/api/v1/crashes", ADMIN_READER, get_crashes},
    {"GET", "/api/v1/crashes/{id}", ADMIN_READER, get_crash},
    {"POST", "/api/v1/workers/recycle", ADMIN_OPERATOR, post_workers_recycle},
    {"POST", "/api/v1/workers/{slot}/recycle", ADMIN_OPERATOR, post_worker_recycle},
    {"POST", "/api/v1/reload", ADMIN_OPERATOR, post_reload},
    {"GET", "/api/v1/reload/{id}", ADMIN_READER, get_reload},
    {"POST", "/api/v1/plugins/{name}/breaker", ADMIN_OPERATOR, post_breaker},
    {"GET", "/api/v1/rollout", ADMIN_READER, get_rollout},
    {"POST", "/api/v1/rollout", ADMIN_OPERATOR, post_rollout},
    {"POST", "/api/v1/rollout/{action}", ADMIN_OPERATOR, post_rollout_action},
    {"GET", "/api/v1/history", ADMIN_READER, get_history},
    {"GET", "/api/v1/generations", ADMIN_READER, get_generations},
    {"GET", "/api/v1/alerts", ADMIN_READER, get_alerts},
    {"GET", "/api/v1/loglevel", ADMIN_READER, get_log_level},
    {"PUT", "/api/v1/loglevel", ADMIN_OPERATOR, put_log_level},
    {"GET", "/api/v1/events", ADMIN_READER, get_events},
    {"GET", "/api/v1/openapi.json", ADMIN_NOBODY, get_openapi},
    {NULL, NULL, ADMIN_NOBODY, NULL},
};

/* "/a/{x}/b" matches "/a/1/b"; what stands for {x} in argument. */
static bool matches(const char *pattern, const char *path, char *argument, size_t size)
{
    while (*pattern != '\0' && *path != '\0') {
        if (*pattern == '{') {
            size_t n = strcspn(path, "/");

            if (n == 0 || n >= size)
                return false;
            snprintf(argument, size, "%.*s", (int)n, path);
            path += n;
            pattern += strcspn(pattern, "}") + 1;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *pattern == '\0' && *path == '\0';
}

static bool is_method(const struct request *req, const char *method)
{
    return strcmp(req->method, method) == 0 ||
           (strcmp(req->method, "HEAD") == 0 && strcmp(method, "GET") == 0);
}

static void refuse_method(struct request *req)
{
    char allowed[128] = "", argument[256];
    size_t n = 0;

    for (const struct api_route *r = api_routes; r->method != NULL; r++)
        if (matches(r->path, req->path, argument, sizeof argument) && n < sizeof allowed)
            n += (size_t)snprintf(allowed + n, sizeof allowed - n, "%s%s", n > 0 ? ", " : "",
                                  r->method);
    if (n == 0) {
        reply_problem(req, 404, "Not Found", "there is nothing at %.200s", req->path);
        return;
    }
    reply_problem(req, 405, "Method Not Allowed", "%.200s takes %s", req->path, allowed);
    reply_header(req, "Allow", allowed);
}

static enum admin_role role_needed(const struct request *req, const struct api_route *route)
{
    if (strcmp(route->path, "/metrics") == 0 && req->admin->cfg->admin.has_open_metrics)
        return ADMIN_NOBODY;
    return route->role;
}

void api_handle(struct request *req)
{
    const struct api_route *found = NULL;
    enum admin_role needed;

    for (const struct api_route *r = api_routes; r->method != NULL && found == NULL; r++)
        if (is_method(req, r->method) &&
            matches(r->path, req->path, req->argument, sizeof req->argument))
            found = r;
    if (found == NULL) {
        refuse_method(req);
        return;
    }
    needed = role_needed(req, found);
    /* Where nothing is needed a wrong token is nobody's business; but a login does its own. */
    if (needed != ADMIN_NOBODY || found->handle == get_session) {
        if (!auth_identify(req->admin->auth, req, clock_mono_ms()))
            return;
    }
    if (req->role < needed && req->role == ADMIN_NOBODY) {
        reply_problem(req, 401, "Unauthorized",
                      "send a token, as: Authorization: Bearer TOKEN (admin.token_file has it)");
        reply_header(req, "WWW-Authenticate", "Bearer realm=\"bulkhead\"");
    } else if (req->role < needed) {
        reply_problem(req, 403, "Forbidden", "this token may look, and not act");
    } else {
        found->handle(req);
    }
}
