/*
 * reload_scene.h - a server with a plugin whose versions say which they are, and its reloads: what the
 * tests of reloads share.
 */
#ifndef RELOAD_SCENE_H
#define RELOAD_SCENE_H

#include <stdbool.h>

#include "harness.h"

/* A client that does not read while a reload goes on is not to be cut for that.
 * Of listeners, text, more options of v, more keys. */
#define RELOAD_CONFIG                                       \
    "version: 1\n"                                          \
    "server: {workers: 2}\n"                                \
    "listeners:\n"                                          \
    "  - {name: a, address: \"127.0.0.1:@PORT@\"}\n"        \
    "%s"                                                    \
    "limits: {timeouts: {drain: 20s, send: 60s}}\n"         \
    "modules: {path: [@PLUGINS@, @MODULES@]}\n"             \
    "plugins:\n"                                            \
    "  v: {module: @DIR@/v.so, config: {text: \"%s\"}%s}\n" \
    "  pause: {module: pause}\n"                            \
    "  stream: {module: streamer}\n"                        \
    "  fatal: {module: inside}\n"                           \
    "routes:\n"                                             \
    "  - {match: {path: /pause/**}, chain: [pause]}\n"      \
    "  - {match: {path: /stream/**}, chain: [stream]}\n"    \
    "  - {match: {path: /fatal}, chain: [fatal]}\n"         \
    "  - {chain: [v]}\n"                                    \
    "crash: {dir: @DIR@/crashes}\n"                         \
    "%s"

/* Builds NAME.so in dir: answers "VERSION TEXT", or after a while to /wait/MS. START may be defined in
 * globals: what start() does. */
char *reload_make(const char *dir, const char *name, const char *version, const char *globals,
                  const char *in_open);
/* In a folder of its own, with v.so of version "1". more: of RELOAD_CONFIG. */
struct server *reload_start(const char *more);
/* The exit status of a command that asks that server. */
int reload_ask(const struct server *srv, const char *command, char **out);
/* `bulkhead reload --wait`: fails the test, if it ends otherwise, or does not say that. */
void reload_now(const struct server *srv, int expected, const char *said);
int reload_generation(const struct server *srv);
void reload_check_says(struct server *srv, const char *text);
bool reload_conn_says(struct conn *conn, const char *text);
/* how: `cp`, in place, or `mv` */
void reload_put_object(const struct server *srv, const char *how, const char *object);

#endif
