/*
 * rollout_scene.h - what the tests of rollouts share: versions of a plugin, and questions to the server.
 */
#ifndef ROLLOUT_SCENE_H
#define ROLLOUT_SCENE_H

#include <jansson.h>

#include "harness.h"

/* DIR/NAME.so, plugin "v" of that version: answers "VERSION TEXT", TEXT being its option `text`; `does` is C
 * that runs before. */
void rollout_make(const char *dir, const char *name, const char *version, const char *does);
/* With more C at its end. */
void rollout_make_with(const char *dir, const char *name, const char *version, const char *does,
                       const char *code);

/* Of rollout_start(): more of plugin v, more of all. */
#define ROLLOUT_CONFIG                                   \
    "version: 1\n"                                       \
    "server: {workers: 2}\n"                             \
    "listeners: [{address: \"127.0.0.1:@PORT@\"}]\n"     \
    "limits: {per_ip: 0, timeouts: {drain: 5s}}\n"       \
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"          \
    "plugins:\n"                                         \
    "  v: {module: @DIR@/v.so, config: {text: one}%s}\n" \
    "  pages: {module: error_pages}\n"                   \
    "routes: [{chain: [pages, v]}]\n"                    \
    "crash: {dir: @DIR@/crashes}\n"                      \
    "%s"

/* v.so of version 1 serves; `more` is added to the config. */
struct server *rollout_start(const char *does, const char *more);

/* `bulkhead COMMAND`: its exit code, what it said in *out. */
int rollout_ask(const struct server *srv, char **out, const char *command);
/* It must exit so, and say that (NULL: anything). */
void rollout_expect(const struct server *srv, int status, const char *said, const char *command);

/* `rollout status`; freed by the caller. Is a text in there that? A number of an arm. */
json_t *rollout_look(const struct server *srv);
bool rollout_is(const struct server *srv, const char *key, const char *value);
long long rollout_count(const struct server *srv, const char *arm, const char *key);

/* Which version answers that user: '1', '2', ...; 'x': it was no 200. */
char rollout_version_for(struct conn *conn, int user);

#endif
