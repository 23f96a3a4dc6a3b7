/*
 * admin_scene.c - admin_scene.h.
 */
#include "admin_scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *admin_token, *admin_reader;

char *admin_read_token(const struct server *srv, const char *name)
{
    char path[512], *text;

    snprintf(path, sizeof path, "%s/%s", srv->dir, name);
    text = file_read(path);
    assert_non_null(text);
    text[strcspn(text, "\n")] = '\0';
    assert_int_equal(strlen(text), 64); /* 256 bits */
    return text;
}

pid_t admin_pid(const struct server *srv)
{
    pid_t pid = 0;

    return server_children(srv, "bh-admin", &pid, 1) == 1 ? pid : 0;
}

struct server *admin_start(const char *dir, const char *config, const char *more)
{
    char *own = dir == NULL ? tmp_dir() : NULL;
    struct server *srv = server_start_in(
        dir != NULL ? dir : own,
        "%sadmin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token, "
        "read_token_file: read.token%s}\n",
        config, more);

    server_wait_log(srv, "admin interface on");
    eventually(admin_pid(srv) != 0); /* it is forked by then, but may not have its name yet */
    free(admin_token);
    free(admin_reader);
    admin_token = admin_read_token(srv, "admin.token");
    admin_reader = admin_read_token(srv, "read.token");
    free(own);
    return srv;
}

struct response *admin_send(const struct server *srv, const char *method, const char *target,
                            const char *headers, const char *body)
{
    struct conn *conn = conn_open(srv->port[1]);
    struct response *res = conn_request(conn, method, target, headers, body,
                                        body != NULL ? strlen(body) : 0);

    conn_close(&conn);
    return res;
}

struct response *admin_send_with(const struct server *srv, const char *method, const char *target,
                                 const char *token, const char *body)
{
    char headers[256];

    snprintf(headers, sizeof headers,
             "Authorization: Bearer %s\r\nContent-Type: application/json\r\n", token);
    return admin_send(srv, method, target, headers, body);
}

int admin_status(struct response *res)
{
    int status = res->status;

    response_free(&res);
    return status;
}
