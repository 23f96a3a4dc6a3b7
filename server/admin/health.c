/*
 * health.c - for load balancers: does it live, and should it get requests?
 *
 * /healthz: the master answers. /readyz: besides, the server neither starts nor stops, all its workers
 * are not gone, and not too many of its routes are out of order, because a plugin in their chain is in
 * quarantine and has on_error: fail_closed.
 */
#include <string.h>

#include "admin/internal.h"
#include "base/clock.h"
#include "conf/config.h"
#include "ipc/shm.h"

static bool is_open(const struct breaker *b, const struct config_breaker *cfg, int64_t now_ms)
{
    struct breaker_limits limits = {cfg->crashes, cfg->window_ms, cfg->open_ms, cfg->trials};
    struct breaker_view view;

    if (breaker_is_closed(b))
        return false;
    breaker_look(b, &limits, now_ms, &view);
    return view.state == BREAKER_OPEN;
}

static bool is_blocked(const struct admin *a, const struct config_route *route, int64_t now_ms)
{
    for (int i = 0; i < route->n_chain; i++) {
        const struct config_plugin *p = &a->cfg->plugin[route->chain[i]];
        const struct quarantine *q = &a->shm->plugin[route->chain[i]].quarantine;

        if (p->on_error == CONFIG_FAIL_OPEN || !quarantine_is_on(q))
            continue;
        if (is_open(&q->breaker, &p->breaker, now_ms))
            return true;
        for (int k = 0; k < QUARANTINE_BLOCKS; k++)
            if (quarantine_route_of(&q->block[k]) == route->number &&
                is_open(&q->block[k].breaker, &p->breaker, now_ms))
                return true;
    }
    return false;
}

int health_count_blocked(const struct admin *a, int *n_routes)
{
    int64_t now_ms = clock_mono_ms();
    int n = 0;

    *n_routes = a->cfg->n_routes;
    for (int i = 0; i < a->cfg->n_routes; i++)
        n += is_blocked(a, &a->cfg->route[i], now_ms);
    return n;
}

static void send_health(void *arg, int result, const char *text)
{
    struct request *req = arg;

    (void)text;
    if (result < 0)
        reply_master_failed(req, result);
    else
        reply_json(req, 200, json_pack("{s:s}", "status", "ok"));
    if (req->is_suspended)
        request_resume(req);
}

void get_healthz(struct request *req)
{
    request_await_status(req, send_health);
}

static int count_serving(const json_t *status)
{
    const json_t *workers = json_object_get(status, "workers"), *w;
    size_t i;
    int n = 0;

    json_array_foreach(workers, i, w)
    {
        const char *state = json_string_value(json_object_get(w, "state"));

        n += state != NULL && strcmp(state, "serving") == 0;
    }
    return n;
}

static void send_ready(void *arg, int result, const char *text)
{
    struct request *req = arg;
    json_t *status = result == 0 ? json_loads(text, 0, NULL) : NULL;
    const char *state = json_string_value(json_object_get(status, "state"));
    uint32_t most = req->admin->cfg->admin.unready_routes;
    int n_routes, n_blocked = health_count_blocked(req->admin, &n_routes);

    if (result < 0)
        reply_master_failed(req, result);
    else if (state == NULL || strcmp(state, "serving") != 0)
        reply_problem(req, 503, "Not Ready", "the server is %s", state != NULL ? state : "?");
    else if (count_serving(status) == 0)
        reply_problem(req, 503, "Not Ready", "no worker serves");
    else if (most > 0 && n_blocked > 0 &&
             (uint64_t)n_blocked * 100 >= (uint64_t)most * (uint64_t)n_routes)
        reply_problem(req, 503, "Not Ready",
                      "%d of %d routes are out of order: plugins in their chains are in quarantine",
                      n_blocked, n_routes);
    else
        reply_json(req, 200, json_pack("{s:s}", "status", "ready"));
    json_decref(status);
    if (req->is_suspended)
        request_resume(req);
}

void get_readyz(struct request *req)
{
    request_await_status(req, send_ready);
}
