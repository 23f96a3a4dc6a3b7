/*
 * rollout.c - staged rollouts: how the one under way goes, and what is done about it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/internal.h"

static void send_status(void *arg, int result, const char *text)
{
    struct request *req = arg;

    if (result < 0 || text == NULL)
        reply_master_failed(req, result < 0 ? result : -EPROTO);
    else
        reply_text(req, 200, "application/json", strdup(text), strlen(text));
    request_resume(req);
}

void get_rollout(struct request *req)
{
    request_ask(req, CONTROL_ROLLOUT_STATUS, 0, send_status);
}

/* What the master answers has an "error" when it did not do it. */
static void send_done(void *arg, int result, const char *text)
{
    struct request *req = arg;
    json_t *json = result == 0 && text != NULL ? json_loads(text, 0, NULL) : NULL;
    const char *error = json_string_value(json_object_get(json, "error"));

    if (json == NULL)
        reply_master_failed(req, result < 0 ? result : -EPROTO);
    else if (error != NULL && json_is_true(json_object_get(json, "is_input")))
        reply_problem(req, 400, "Bad Request", "%s", error);
    else if (error != NULL)
        reply_problem(req, 409, "Conflict", "%s", error);
    else
        reply_json(req, 202, json_incref(json));
    json_decref(json);
    request_resume(req);
}

/* An object somewhere on the machine is named by who has a shell there, by `bulkhead rollout start`. */
void post_rollout(struct request *req)
{
    json_t *json = request_json(req);
    const json_t *module = json_object_get(json, "module");
    const char *name = json_string_value(module);
    char *text;

    if (json == NULL)
        return;
    if (module != NULL && (name == NULL || strchr(name, '/') != NULL)) {
        reply_problem(req, 400, "Bad Request",
                      "module: the name of one in modules.path; a path only with the command");
        json_decref(json);
        return;
    }
    json_object_set_new(json, "by", json_string("the admin interface"));
    text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (text != NULL)
        request_ask_with(req, CONTROL_ROLLOUT_START, 0, text, send_done);
    free(text);
}

void post_rollout_action(struct request *req)
{
    static const char *const names[] = {
        [CONTROL_ROLLOUT_PAUSE] = "pause", [CONTROL_ROLLOUT_RESUME] = "resume",
        [CONTROL_ROLLOUT_STEP] = "step",   [CONTROL_ROLLOUT_PROMOTE] = "promote",
        [CONTROL_ROLLOUT_ABORT] = "abort", [CONTROL_ROLLOUT_BACK] = "rollback",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(req->argument, names[i]) != 0)
            continue;
        request_ask_with(req, CONTROL_ROLLOUT_DO, (int)i, "the admin interface", send_done);
        return;
    }
    reply_problem(req, 404, "Not Found", "pause, resume, step, promote, abort or rollback");
}
