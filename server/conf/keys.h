/*
 * keys.h - the pieces of the table of keys; only for the files keys*.c, which declare them.
 *
 * One file for each part of the config: who adds a key looks for its neighbours. Help ends up in
 * docs/configuration.md and in editors: one line, from the reader's side.
 */
#ifndef CONF_KEYS_H
#define CONF_KEYS_H

#include "conf/draft.h"

#define OFF(type, member) .off = offsetof(type, member), .size = sizeof(((type *)NULL)->member)
#define MINUTE            60000
#define HOUR              (60 * MINUTE)
#define KIB               1024ll
#define MIB               (1024 * KIB)
#define GIB               (1024 * MIB)
#define NOT_YET           " is not in this version"

/* keys_listeners.c */
extern const struct schema listener_keys[], limit_keys[], tls_keys[];
extern const struct schema_items listener_items;

/* keys_plugins.c */
extern const struct schema plugin_keys[], breaker_keys[];
extern const struct schema_items plugin_items;

/* keys_routes.c */
extern const struct schema chain_keys[], route_keys[];
extern const struct schema_items chain_items, route_items;

/* keys_observe.c */
extern const struct schema log_keys[], tracing_keys[], alert_keys[];

/* keys_store.c */
extern const struct schema store_keys[];

/* keys_admin.c */
extern const struct schema admin_keys[];

#endif
