/*
 * admin_scene.h - what the tests of the admin interface share: a server that has one, its tokens, and questions to it.
 */
#ifndef ADMIN_SCENE_H
#define ADMIN_SCENE_H

#include "harness.h"

/* Of the server that was started last: the operators' token, and that of who may only look. */
extern char *admin_token, *admin_reader;

/* A file of the server's folder with a token that the server has made; freed by the caller. */
char *admin_read_token(const struct server *srv, const char *name);

/* Starts one with `config`, which uses @PORT@, and the admin interface at port[1] with both tokens; `more` is more of
 * `admin:`, from a comma on. dir: a folder of the caller's; NULL: one of its own. */
struct server *admin_start(const char *dir, const char *config, const char *more);

/* The process that has the admin interface; 0: there is none, or two. */
pid_t admin_pid(const struct server *srv);

/* A request on a connection of its own, with extra header lines, each ended by \r\n; or with a token, and JSON. */
struct response *admin_send(const struct server *srv, const char *method, const char *target,
                            const char *headers, const char *body);
struct response *admin_send_with(const struct server *srv, const char *method, const char *target,
                                 const char *token, const char *body);

/* Its status; it is freed. */
int admin_status(struct response *res);

#endif
