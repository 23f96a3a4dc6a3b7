/*
 * keys_plugins.c - `plugins:`, and `breaker:`, which holds for all of them.
 */
#include <errno.h>
#include <string.h>

#include "base/must.h"
#include "conf/keys.h"
#include "conf/yaml.h"

static int read_module(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       void *base)
{
    struct config_plugin *p = base;

    if (strchr(node->text, '/') == NULL &&
        node->text[strspn(node->text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789_-")] != '\0') {
        schema_error(r, node, path, "NAME for NAME.so in modules.path, or DIR/NAME.so",
                     "'%.80s' is neither a module's name nor the path of an object", node->text);
        return -EINVAL;
    }
    p->module = node->text;
    p->module_pos.line = node->line;
    p->module_pos.column = node->column;
    return 0;
}

/* 0 is "none"; what is shorter than the watchdog's step would only look like a deadline. */
static int parse_deadline(struct schema_reader *r, const struct yaml_node *node, const char *path,
                          uint32_t *out)
{
    unsigned long long ms;
    const char *why;

    if (value_duration_ms(node->text, &ms, &why) < 0) {
        schema_error(r, node, path, NULL, "expected %s, not '%.60s'", why, node->text);
        return -EINVAL;
    }
    if (ms != 0 && (ms < 10 || ms > HOUR)) {
        schema_error(r, node, path, NULL, "must be 0 (none) or from 10ms to 1h, not %.60s",
                     node->text);
        return -EINVAL;
    }
    *out = (uint32_t)ms;
    return 0;
}

/* `deadline: 5s`, or `default: 5s` in a mapping: of every call. */
static int read_deadline(struct schema_reader *r, const struct yaml_node *node, const char *path,
                         void *base)
{
    struct config_plugin *p = base;
    uint32_t ms;

    if (parse_deadline(r, node, path, &ms) < 0)
        return -EINVAL;
    for (int i = 0; i < HOOK_N; i++)
        p->deadline_ms[i] = hook_is_call(i) ? ms : 0;
    return 0;
}

/* The last part of the key's path is the hook's name. */
static int read_hook_deadline(struct schema_reader *r, const struct yaml_node *node,
                              const char *path, void *base)
{
    const char *dot = strrchr(path, '.');
    struct config_plugin *p = base;

    must(dot != NULL && hook_find(dot + 1) != HOOK_NONE);
    return parse_deadline(r, node, path, &p->deadline_ms[hook_find(dot + 1)]);
}

static int read_isolation(struct schema_reader *r, const struct yaml_node *node, const char *path,
                          void *base)
{
    (void)base;
    if (strcmp(node->text, "boundary") == 0)
        return 0;
    schema_error(r, node, path, "boundary is the only one, and the default",
                 "isolation '%.40s'" NOT_YET, node->text);
    return -EINVAL;
}

#define DEADLINE_FORM    "0 (none), or 10ms to 1h"
#define DEADLINE_PATTERN "^(0|[0-9]+(\\.[0-9]+)? *(ms|s|m|h))$"
#define DEADLINE(KEY, HELP)                                                     \
    {                                                                           \
        KEY, SCHEMA_CUSTOM, .form = DEADLINE_FORM, .pattern = DEADLINE_PATTERN, \
                            .read = read_hook_deadline, .help = HELP            \
    }

/* "default" comes first: it fills in all, and the others then overrule it. */
static const struct schema deadline_keys[] = {
    {"default", SCHEMA_CUSTOM, .form = DEADLINE_FORM, .pattern = DEADLINE_PATTERN,
     .read = read_deadline, .help = "Of those that are not given here; default: 10s"},
    DEADLINE("validate", "Of validate(), before the server starts"),
    DEADLINE("open", "Of open(), at the start and after a crash"),
    DEADLINE("start", "Of start()"),
    DEADLINE("drain", "Of drain()"),
    DEADLINE("close", "Of close()"),
    DEADLINE("on_request", "Of on_request"),
    DEADLINE("on_request_body", "Of one call of on_request_body"),
    DEADLINE("on_response", "Of on_response"),
    DEADLINE("on_response_body", "Of one call of on_response_body"),
    DEADLINE("on_error", "Of on_error"),
    DEADLINE("on_log", "Of on_log"),
    DEADLINE("defer", "Of a deferred function"),
    DEADLINE("offload", "Of an offloaded job"),
    DEADLINE("post", "Of a posted call"),
    DEADLINE("timer", "Of a timer's function"),
    DEADLINE("save", "Of save(), in the old worker of a reload"),
    DEADLINE("restore", "Of restore(), in the new one"),
    DEADLINE("on_writable", "Of a function that a stream calls when there is room"),
    {NULL, SCHEMA_END},
};

/* The same keys twice: where a plugin leaves one out, the default for all holds (breakers_settle()). */
#define BREAKER_KEYS(TYPE, CRASHES, WINDOW, OPEN, TRIALS)                                       \
    {"crashes",                                                                                 \
     SCHEMA_INT,                                                                                \
     OFF(TYPE, breaker.crashes),                                                                \
     .def = CRASHES,                                                                            \
     .min = 0,                                                                                  \
     .max = 64,                                                                                 \
     .help = "Crashes within the window that open it; equal ones block their route; 0: never"}, \
        {"window",                                                                              \
         SCHEMA_DURATION,                                                                       \
         OFF(TYPE, breaker.window_ms),                                                          \
         .def = WINDOW,                                                                         \
         .min = 100,                                                                            \
         .max = 24 * HOUR,                                                                      \
         .help = "Time over which crashes are counted"},                                        \
        {"open",                                                                                \
         SCHEMA_DURATION,                                                                       \
         OFF(TYPE, breaker.open_ms),                                                            \
         .def = OPEN,                                                                           \
         .min = 100,                                                                            \
         .max = 24 * HOUR,                                                                      \
         .help = "Time before trials; doubles when a trial crashes, up to tenfold"},            \
        {"trials",                                                                              \
         SCHEMA_INT,                                                                            \
         OFF(TYPE, breaker.trials),                                                             \
         .def = TRIALS,                                                                         \
         .min = 1,                                                                              \
         .max = 100,                                                                            \
         .help = "Requests that have to end well before the breaker closes"},                   \
        {NULL, SCHEMA_END},

const struct schema breaker_keys[] = {BREAKER_KEYS(struct config, "5", "60s", "30s", "3")};

static const struct schema plugin_breaker_keys[] = {
    BREAKER_KEYS(struct config_plugin, NULL, NULL, NULL, NULL)};

static int read_namespace(struct schema_reader *r, const struct yaml_node *node, const char *path,
                          void *base)
{
    struct config_plugin *p = base;

    if (node->len == 0 || node->len >= CONFIG_STORE_NAME ||
        memchr(node->text, ':', node->len) != NULL) {
        schema_error(r, node, path, NULL, "expected 1 to %d bytes without a colon, not '%.60s'",
                     CONFIG_STORE_NAME - 1, node->text);
        return -EINVAL;
    }
    p->store.ns = node->text;
    p->store.ns_pos = (struct config_pos){node->line, node->column};
    return 0;
}

static const struct schema http_keys[] = {
    {"allow", SCHEMA_STRINGS, OFF(struct config_plugin, http_allow), .max = 64,
     .help =
         "Where it may go: hosts, networks, public, any; absent: any address but link-local and metadata"},
    {NULL, SCHEMA_END},
};

static const struct schema plugin_store_keys[] = {
    {"namespace", SCHEMA_CUSTOM, .form = "a name", .read = read_namespace,
     .help = "Whose keys it sees: plugins with the same namespace share; default: its own name"},
    {"quota", SCHEMA_SIZE, OFF(struct config_plugin, store.quota), .min = 0, .max = 1024 * GIB,
     .help = "Bytes that its namespace may take; then sets are refused; default: store.quota"},
    {NULL, SCHEMA_END},
};

const struct schema plugin_keys[] = {
    {"module", SCHEMA_CUSTOM, .is_required = true, .read = read_module,
     .form = "a module's name, or the path of its object",
     .help = "NAME: NAME.so in modules.path; with a slash: a path"},
    {"on_error", SCHEMA_ENUM, OFF(struct config_plugin, on_error), .def = "fail_closed",
     .form = "fail_closed|fail_open",
     .help = "When it crashes or fails: fail the request, or go on without the plugin"},
    {"deadline", SCHEMA_CUSTOM, .def = "10s", .read = read_deadline, .keys = deadline_keys,
     .form = DEADLINE_FORM, .pattern = DEADLINE_PATTERN,
     .help =
         "Time for one call, or a mapping of times by hook; a longer call is treated as a crash"},
    {"threads", SCHEMA_INT, OFF(struct config_plugin, threads), .def = "64", .min = 0, .max = 10000,
     .help = "Threads of its own that it may have at a time in each worker; then it gets EAGAIN"},
    {"descriptors", SCHEMA_INT, OFF(struct config_plugin, descriptors), .def = "1024", .min = 0,
     .max = 1000000,
     .help = "Descriptors that it may have open at a time in each worker; then it gets EMFILE"},
    {"outbound", SCHEMA_INT, OFF(struct config_plugin, outbound), .def = "64", .min = 0,
     .max = 10000,
     .help = "Requests to other servers that it may make at a time in each worker; then BH_EAGAIN"},
    {"http", SCHEMA_MAP, .keys = http_keys, .help = "Where those may go"},
    {"memory", SCHEMA_SIZE, OFF(struct config_plugin, memory), .def = "1GiB", .min = 0,
     .max = INT64_MAX,
     .help = "Memory it may allocate in each worker; then malloc() returns NULL. 0: no limit"},
    {"heap", SCHEMA_ENUM, OFF(struct config_plugin, heap), .form = "private|shared",
     .help = "A heap of its own, or the server's, without a limit; default: as in `heap` for all"},
    {"log_level", SCHEMA_ENUM, OFF(struct config_plugin, log_level), .min = 1,
     .form = "error|warn|info|debug",
     .help = "The least severe lines of this plugin to log; default: logs.error.level"},
    {"config", SCHEMA_NODE, OFF(struct config_plugin, options),
     .help = "Options of the plugin: see `bulkhead inspect` or its README"},
    {"isolation", SCHEMA_CUSTOM, .def = "boundary", .form = "boundary", .pattern = "^boundary$",
     .read = read_isolation, .help = "How it is kept apart: by the recovery boundary"},
    {"breaker", SCHEMA_MAP, .keys = plugin_breaker_keys,
     .help = "When it is not called any more; what is left out is as in `breaker` for all"},
    {"store", SCHEMA_MAP, .keys = plugin_store_keys,
     .help = "What it keeps in the store (`store`, below)"},
    {"rollout", SCHEMA_MAP, .keys = plan_keys,
     .help = "Reloads that change its object or options take effect step by step"},
    {NULL, SCHEMA_END},
};

const struct schema_items plugin_items = {
    sizeof(struct config_plugin), offsetof(struct config, plugin),
    offsetof(struct config, n_plugins), offsetof(struct config_plugin, pos),
    offsetof(struct config_plugin, name)};
