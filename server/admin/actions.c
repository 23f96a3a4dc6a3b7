/*
 * actions.c - what operators do: each is one question to the master, as the commands ask it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/internal.h"
#include "obs/log.h"

/* The body as an object; NULL and a reply when it is something else. No body is an empty object. */
json_t *request_json(struct request *req)
{
    const char *type = request_header(req, "Content-Type");
    json_error_t error;
    json_t *json;

    if (req->body_len == 0)
        return json_object();
    /* A form of another site's can't send this type without asking first. */
    if (type == NULL || strncmp(type, "application/json", 16) != 0) {
        reply_problem(req, 415, "Unsupported Media Type", "send application/json");
        return NULL;
    }
    json = json_loadb(req->body, req->body_len, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(json)) {
        reply_problem(req, 400, "Bad Request", "the body is no JSON object%s%s",
                      json == NULL ? ": " : "", json == NULL ? error.text : "");
        json_decref(json);
        return NULL;
    }
    return json;
}

void request_ask(struct request *req, enum control_command command, int argument,
                 ask_answer *answer)
{
    request_ask_with(req, command, argument, NULL, answer);
}

void request_ask_with(struct request *req, enum control_command command, int argument,
                      const char *text, ask_answer *answer)
{
    int r = ask(&req->admin->asker, command, argument, text, answer, req);

    if (r < 0)
        reply_master_failed(req, r);
    else
        request_suspend(req);
}

/* ---- workers ---- */

static void send_recycled(void *arg, int result, const char *text)
{
    struct request *req = arg;

    (void)text;
    if (result == 0)
        reply_json(req, 202, json_pack("{s:s}", "state", "begun"));
    else if (result == -ENOENT)
        reply_problem(req, 404, "Not Found", "no such worker serves");
    else if (result == -EBUSY)
        reply_problem(req, 409, "Conflict", "the server is starting or stopping");
    else
        reply_master_failed(req, result);
    request_resume(req);
}

void post_workers_recycle(struct request *req)
{
    request_ask(req, CONTROL_RECYCLE, -1, send_recycled);
}

void post_worker_recycle(struct request *req)
{
    char *end;
    long slot = strtol(req->argument, &end, 10);

    if (end == req->argument || *end != '\0' || slot < 0 || slot > 65535)
        reply_problem(req, 404, "Not Found", "a worker is named by its number");
    else
        request_ask(req, CONTROL_RECYCLE, (int)slot, send_recycled);
}

/* ---- reload ---- */

static void send_begun(void *arg, int result, const char *text)
{
    struct request *req = arg;
    json_t *json = result == 0 && text != NULL ? json_loads(text, 0, NULL) : NULL;
    char place[64];

    if (result == -EBUSY) {
        reply_problem(req, 409, "Conflict",
                      "a reload is under way, or the server is starting, stopping or upgraded");
    } else if (result < 0) {
        reply_master_failed(req, result);
    } else {
        snprintf(place, sizeof place, "/api/v1/reload/%lld",
                 (long long)json_integer_value(json_object_get(json, "id")));
        reply_json(req, 202, json_incref(json));
        reply_header(req, "Location", place);
    }
    json_decref(json);
    request_resume(req);
}

void post_reload(struct request *req)
{
    json_t *json = request_json(req);
    const json_t *dry = json_object_get(json, "dry_run");

    if (json == NULL)
        return;
    if (dry != NULL && !json_is_boolean(dry))
        reply_problem(req, 400, "Bad Request", "dry_run: true or false");
    else
        request_ask(req, CONTROL_RELOAD, json_is_true(dry), send_begun);
    json_decref(json);
}

static void send_result(void *arg, int result, const char *text)
{
    struct request *req = arg;

    if (result == -ENOENT)
        reply_problem(req, 404, "Not Found", "only the last reload is kept, and that was another");
    else if (result < 0 || text == NULL)
        reply_master_failed(req, result < 0 ? result : -EPROTO);
    else
        reply_text(req, 200, "application/json", strdup(text), strlen(text));
    request_resume(req);
}

void get_reload(struct request *req)
{
    char *end;
    long id = strtol(req->argument, &end, 10);

    if (end == req->argument || *end != '\0' || id < 0 || id > INT32_MAX)
        reply_problem(req, 404, "Not Found", "a reload is named by its number");
    else
        request_ask(req, CONTROL_RELOAD_RESULT, (int)id, send_result);
}

/* ---- breakers ---- */

static void send_breaker(void *arg, int result, const char *text)
{
    struct request *req = arg;

    (void)text;
    if (result == 0)
        reply_empty(req, 204);
    else if (result == -EOPNOTSUPP)
        reply_problem(req, 409, "Conflict", "that plugin's breaker is off (breaker.crashes: 0)");
    else if (result == -ENOENT)
        reply_problem(req, 404, "Not Found", "there is no such plugin");
    else
        reply_master_failed(req, result);
    request_resume(req);
}

void post_breaker(struct request *req)
{
    json_t *json = request_json(req);
    const char *action = json_string_value(json_object_get(json, "action"));
    int place = plugin_place(req->admin->cfg, req->argument);

    if (json == NULL)
        return;
    if (place < 1)
        reply_problem(req, 404, "Not Found", "there is no plugin of that name");
    else if (action != NULL && strcmp(action, "reset") == 0)
        request_ask(req, CONTROL_BREAKER, control_breaker(place, CONTROL_BREAKER_RESET),
                    send_breaker);
    else if (action != NULL && strcmp(action, "open") == 0)
        request_ask(req, CONTROL_BREAKER, control_breaker(place, CONTROL_BREAKER_OPEN),
                    send_breaker);
    else
        reply_problem(req, 400, "Bad Request", "action: reset or open");
    json_decref(json);
}

/* ---- log levels, alerts ---- */

static void send_as_it_is(void *arg, int result, const char *text)
{
    struct request *req = arg;

    if (result == -ENOENT)
        reply_problem(req, 404, "Not Found", "there is no such thing any more");
    else if (result < 0 || text == NULL)
        reply_master_failed(req, result < 0 ? result : -EPROTO);
    else
        reply_text(req, 200, "application/json", strdup(text), strlen(text));
    request_resume(req);
}

void get_log_level(struct request *req)
{
    request_ask(req, CONTROL_LOG_LEVEL, -1, send_as_it_is);
}

void put_log_level(struct request *req)
{
    json_t *json = request_json(req);
    const char *name = json_string_value(json_object_get(json, "level"));
    const json_t *plugin = json_object_get(json, "plugin");
    bool has_plugin = json_is_string(plugin);
    int place = 0, level = name != NULL ? log_level_find(name) : 0;

    if (json == NULL)
        return;
    if (has_plugin)
        place = plugin_place(req->admin->cfg, json_string_value(plugin));
    if (name == NULL || (level == 0 && strcmp(name, "default") != 0))
        reply_problem(req, 400, "Bad Request", "level: error, warn, info, debug or default");
    else if (plugin != NULL && !has_plugin && !json_is_null(plugin))
        reply_problem(req, 400, "Bad Request", "plugin: its name, or null for the server");
    else if (has_plugin && place < 1)
        reply_problem(req, 404, "Not Found", "there is no plugin of that name");
    else
        request_ask(req, CONTROL_LOG_LEVEL, control_log_level(place, level), send_as_it_is);
    json_decref(json);
}

void get_alerts(struct request *req)
{
    request_ask(req, CONTROL_ALERTS, 0, send_as_it_is);
}
