/*
 * plugins.c - plugins and routes: what the master counts, beside what the config and the objects say.
 */
#include <string.h>

#include "admin/internal.h"
#include "conf/config.h"

int plugin_place(const struct config *cfg, const char *name)
{
    for (int i = 0; i < cfg->n_plugins; i++)
        if (!cfg->plugin[i].is_removed && name != NULL && strcmp(cfg->plugin[i].name, name) == 0)
            return i + 1;
    return 0;
}

static void set_text(json_t *json, const char *name, const char *text)
{
    json_object_set_new(json, name, text != NULL ? json_string(text) : json_null());
}

static json_t *routes_of(const struct config *cfg, int place)
{
    json_t *list = json_array();

    for (int i = 0; i < cfg->n_routes; i++) {
        for (int k = 0; k < cfg->route[i].n_chain; k++) {
            if (cfg->route[i].chain[k] == place) {
                json_array_append_new(list, json_string(cfg->route[i].name));
                break;
            }
        }
    }
    return list;
}

static json_t *routes_json(const struct config *cfg)
{
    json_t *list = json_array();

    for (int i = 0; i < cfg->n_routes; i++) {
        const struct config_route *r = &cfg->route[i];
        json_t *chain = json_array();

        for (int k = 0; k < r->n_chain; k++)
            json_array_append_new(chain, json_string(cfg->plugin[r->chain[k]].name));
        json_array_append_new(list, json_pack("{s:s, s:s+, s:o}", "name", r->name, "path",
                                              r->path != NULL ? r->path : "",
                                              r->is_prefix ? "**" : "", "chain", chain));
    }
    return list;
}

static void send_plugins(void *arg, int result, const char *text)
{
    struct request *req = arg;
    const struct admin_view *view = req->admin->view;
    json_t *status = result == 0 ? json_loads(text, 0, NULL) : NULL;
    json_t *plugins = json_object_get(status, "plugins"), *p;
    size_t i;

    if (result < 0) {
        reply_master_failed(req, result);
    } else {
        json_array_foreach(plugins, i, p)
        {
            int place = plugin_place(view->cfg, json_string_value(json_object_get(p, "name"))) - 1;

            if (place < 0)
                continue; /* of another generation: we are about to be replaced */
            set_text(p, "version", view->plugin[place].version);
            set_text(p, "summary", view->plugin[place].summary);
            set_text(p, "object", view->plugin[place].object);
            set_text(p, "sha256", view->plugin[place].sha256);
            set_text(p, "hooks", view->plugin[place].hooks);
            json_object_set_new(p, "routes", routes_of(view->cfg, place));
        }
        reply_json(req, 200,
                   json_pack("{s:O?, s:O?, s:o}", "generation",
                             json_object_get(status, "generation"), "plugins", plugins, "routes",
                             routes_json(view->cfg)));
    }
    json_decref(status);
    if (req->is_suspended)
        request_resume(req);
}

void get_plugins(struct request *req)
{
    request_await_status(req, send_plugins);
}

/* ---- generations ---- */

static json_t *find_generation(json_t *list, json_int_t number)
{
    json_t *g;
    size_t i;

    json_array_foreach(list, i, g)
    {
        if (json_integer_value(json_object_get(g, "number")) == number)
            return g;
    }
    g = json_pack("{s:I, s:b, s:[]}", "number", number, "is_current", 0, "workers");
    json_array_append_new(list, g);
    return g;
}

static void send_generations(void *arg, int result, const char *text)
{
    struct request *req = arg;
    json_t *status = result == 0 ? json_loads(text, 0, NULL) : NULL;
    json_t *workers = json_object_get(status, "workers"), *w, *list = json_array(), *g;
    size_t i;

    if (result < 0) {
        json_decref(list);
        reply_master_failed(req, result);
    } else {
        g = find_generation(list, json_integer_value(json_object_get(status, "generation")));
        json_object_set_new(g, "is_current", json_true());
        json_array_foreach(workers, i, w)
        {
            g = find_generation(list, json_integer_value(json_object_get(w, "generation")));
            json_array_append(json_object_get(g, "workers"), w);
        }
        reply_json(req, 200,
                   json_pack("{s:o, s:O?}", "generations", list, "reload",
                             json_object_get(status, "reload")));
    }
    json_decref(status);
    if (req->is_suspended)
        request_resume(req);
}

void get_generations(struct request *req)
{
    request_await_status(req, send_generations);
}
