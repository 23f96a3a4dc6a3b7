/*
 * session.c - browsers log in and out.
 */
#include <string.h>

#include "admin/internal.h"
#include "base/clock.h"

void get_session(struct request *req)
{
    const char *by = req->is_by_cookie                              ? "cookie"
                     : request_header(req, "Authorization") != NULL ? "token"
                                                                    : "socket";

    if (req->role == ADMIN_NOBODY)
        reply_json(req, 200, json_pack("{s:n, s:n}", "role", "by"));
    else
        reply_json(req, 200, json_pack("{s:s, s:s}", "role", auth_role_name(req->role), "by", by));
}

void post_session(struct request *req)
{
    json_t *json = req->body != NULL ? json_loadb(req->body, req->body_len, 0, NULL) : NULL;
    const char *type = request_header(req, "Content-Type");
    const char *token = json_string_value(json_object_get(json, "token"));

    /* A form of another site's can't send this type without asking first. */
    if (type == NULL || strncmp(type, "application/json", 16) != 0)
        reply_problem(req, 415, "Unsupported Media Type", "send application/json");
    else if (token == NULL)
        reply_problem(req, 400, "Bad Request", "send {\"token\": \"...\"}");
    else
        auth_login(req->admin->auth, req, token, clock_mono_ms());
    json_decref(json);
}

void delete_session(struct request *req)
{
    auth_logout(req->admin->auth, req);
    events_end_sessions();
}
