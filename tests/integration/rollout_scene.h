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
