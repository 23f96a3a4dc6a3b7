/*
 * keys.c - every key of the config file: the table of all, and those of the processes.
 *
 * Declared here and in keys_*.c, and nowhere else.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "conf/keys.h"
#include "conf/yaml.h"

static int read_workers(struct schema_reader *r, const struct yaml_node *node, const char *path,
                        void *base)
{
    struct config *cfg = base;
    const char *why;
    cpu_set_t set;
    long long v;

    if (strcmp(node->text, "auto") == 0) {
        /* More CPUs than a cpu_set_t holds, or an exotic kernel: one worker still serves. */
        cfg->n_workers = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
        if (cfg->n_workers > CONFIG_MAX_WORKERS)
            cfg->n_workers = CONFIG_MAX_WORKERS;
        return 0;
    }
    if (value_int(node->text, &v, &why) < 0 || v < 1 || v > CONFIG_MAX_WORKERS) {
        schema_error(r, node, path, NULL, "expected auto, or a number from 1 to %d, not '%.60s'",
                     CONFIG_MAX_WORKERS, node->text);
        return -EINVAL;
    }
    cfg->n_workers = (int)v;
    return 0;
}

static const struct schema server_keys[] = {
    {"workers", SCHEMA_CUSTOM, .def = "auto", .form = "auto, or 1 to 256",
     .pattern = "^(auto|[0-9]+)$", .read = read_workers,
     .help = "Worker processes; auto: one for each CPU this process may run on"},
    {"user", SCHEMA_STRING, OFF(struct config, user), .form = "a user's name",
     .help = "User to run the workers as, when started as root; absent: no change"},
    {"trusted_proxies", SCHEMA_STRINGS, OFF(struct draft, trusted), .max = 256,
     .help = "Networks (10.0.0.0/8), addresses, or unix: peers that may say for whom they ask"},
    {"forwarded", SCHEMA_ENUM, OFF(struct config, forwarded), .def = "x-forwarded-for",
     .form = "x-forwarded-for|forwarded|off",
     .help = "The header by which trusted proxies say so; the other one is not looked at"},
    {"untrusted_forwarded", SCHEMA_ENUM, OFF(struct config, strips_forwarded), .def = "keep",
     .form = "keep|strip",
     .help = "Such headers of other peers: left to plugins as they are, or taken out"},
    {NULL, SCHEMA_END},
};

static const struct schema module_keys[] = {
    {"path", SCHEMA_STRINGS, OFF(struct draft, module_dirs), .max = 32,
     .help = "Folders to look for NAME.so in, before those that come with Bulkhead"},
    {NULL, SCHEMA_END},
};

static const struct schema crash_keys[] = {
    {"dir", SCHEMA_STRING, OFF(struct config, crash.dir), .def = "crashes", .form = "a folder",
     .help = "Where crash records are written; made when missing"},
    {"keep", SCHEMA_INT, OFF(struct config, crash.keep), .def = "100", .min = 1, .max = 1000000,
     .help = "Records to keep; older ones are removed"},
    {"record_body", SCHEMA_SIZE, OFF(struct config, crash.record_body), .def = "0", .min = 0,
     .max = CONFIG_RECORD_BODY_MAX,
     .help = "First bytes of a request's body to keep with a record, secrets and all; 0: none"},
    {NULL, SCHEMA_END},
};

static const struct schema respawn_keys[] = {
    {"restarts", SCHEMA_INT, OFF(struct config, respawn.restarts), .def = "5", .min = 1,
     .max = 1000, .help = "Restarts of a worker at once, within the window; then with a delay"},
    {"window", SCHEMA_DURATION, OFF(struct config, respawn.window_ms), .def = "10s", .min = 100,
     .max = 24 * HOUR, .help = "Time over which restarts are counted"},
    {NULL, SCHEMA_END},
};

static const struct schema recycle_keys[] = {
    {"memory", SCHEMA_SIZE, OFF(struct config, recycle.memory), .def = "0", .min = 0,
     .max = 1024 * GIB,
     .help = "A worker whose own memory has grown to this is replaced, gracefully; 0: never"},
    {NULL, SCHEMA_END},
};

static const struct schema escrow_keys[] = {
    {"standby", SCHEMA_INT, OFF(struct config, escrow.standby), .def = "1", .min = 0, .max = 1,
     .help = "Workers that are loaded and wait to take the place of one that ends"},
    {"replay", SCHEMA_STRINGS, OFF(struct draft, replay), .max = 32,
     .help = "Methods run again when a worker ends before it answers; default: GET, HEAD, OPTIONS"},
    {NULL, SCHEMA_END},
};

static const struct schema control_keys[] = {
    {"socket", SCHEMA_STRING, OFF(struct config, control.socket), .form = "a path, or off",
     .help =
         "Where `bulkhead status` asks; default: /run/bulkhead or such, a name for each config"},
    {NULL, SCHEMA_END},
};

static const struct schema state_keys[] = {
    {"dir", SCHEMA_STRING, OFF(struct config, state.dir), .form = "a folder",
     .help = "Default: $STATE_DIRECTORY, else `state` beside crash.dir"},
    {NULL, SCHEMA_END},
};

static const struct schema reload_keys[] = {
    {"watch", SCHEMA_ENUM, OFF(struct config, reload.watch), .form = "false|true", .def = "false",
     .help = "true: reload by itself when this file or a plugin object changes"},
    {NULL, SCHEMA_END},
};

const struct schema config_keys[] = {
    {"version", SCHEMA_INT, OFF(struct draft, version), .is_required = true, .min = 1, .max = 1,
     .help = "Version of this format"},
    {"server", SCHEMA_MAP, .keys = server_keys, .help = "The processes"},
    {"listeners", SCHEMA_LIST, .keys = listener_keys, .items = &listener_items, .is_required = true,
     .min = 1, .max = 32, .help = "Where to accept connections"},
    {"limits", SCHEMA_MAP, .keys = limit_keys, .help = "What one worker and one request may use"},
    {"modules", SCHEMA_MAP, .keys = module_keys, .help = "Where plugin objects are"},
    {"plugins", SCHEMA_NAMED, .keys = plugin_keys, .items = &plugin_items,
     .max = CONFIG_MAX_PLUGINS, .help = "Instances of plugins, by names of your choice"},
    {"chains", SCHEMA_NAMED, .keys = chain_keys, .items = &chain_items, .max = 256,
     .help = "Named sequences of plugins, for use in routes and other chains"},
    {"routes", SCHEMA_LIST, .keys = route_keys, .items = &route_items, .is_required = true,
     .min = 1, .max = 4096, .help = "Which requests pass which plugins; the first match wins"},
    {"logs", SCHEMA_MAP, .keys = log_keys, .help = "What is written where"},
    {"alerts", SCHEMA_MAP, .keys = alert_keys,
     .help = "Rules on metrics, and who is told when they hold"},
    {"tracing", SCHEMA_MAP, .keys = tracing_keys, .help = "Traces of requests, for OpenTelemetry"},
    {"crash", SCHEMA_MAP, .keys = crash_keys, .help = "Crash records"},
    {"respawn", SCHEMA_MAP, .keys = respawn_keys, .help = "How workers that died are replaced"},
    {"recycle", SCHEMA_MAP, .keys = recycle_keys,
     .help = "When workers are replaced by fresh ones"},
    {"escrow", SCHEMA_MAP, .keys = escrow_keys,
     .help = "How connections of a worker that must end are handed to another"},
    {"breaker", SCHEMA_MAP, .keys = breaker_keys,
     .help = "When a plugin that crashes repeatedly is not called; `on_error` says what follows"},
    {"heap", SCHEMA_ENUM, OFF(struct config, heap), .def = "private", .form = "private|shared",
     .help = "What plugins allocate from: a heap of their own, given back after a crash, or "
             "the server's"},
    {"store", SCHEMA_MAP, .keys = store_keys,
     .help = "State that plugins share across workers, reloads and crashes"},
    {"control", SCHEMA_MAP, .keys = control_keys, .help = "The socket for commands"},
    {"admin", SCHEMA_MAP, .keys = admin_keys,
     .help = "The admin interface: API, metrics and dashboard; absent: there is none"},
    {"reload", SCHEMA_MAP, .keys = reload_keys, .help = "How the config is loaded anew"},
    {"state", SCHEMA_MAP, .keys = state_keys,
     .help = "What outlives the server: objects that were quarantined, the last good ones"},
    {NULL, SCHEMA_END},
};
