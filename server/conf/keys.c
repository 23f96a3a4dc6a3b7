/*
 * keys.c - every key of the config file: the one place where they are declared.
 *
 * Help ends up in docs/configuration.md and in editors: one line, from the reader's side.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/must.h"
#include "conf/draft.h"
#include "conf/yaml.h"

#define OFF(type, member) .off = offsetof(type, member), .size = sizeof(((type *)NULL)->member)
#define MINUTE            60000
#define HOUR              (60 * MINUTE)
#define KIB               1024ll
#define MIB               (1024 * KIB)
#define GIB               (1024 * MIB)
#define NOT_YET           " is not in this version"

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

static const struct schema certificate_keys[] = {
    {"cert", SCHEMA_CUSTOM, .is_required = true, .read = tls_read_more_cert, .form = "a path",
     .help = "Certificate and, after it, those that lead to its root; PEM"},
    {"key", SCHEMA_CUSTOM, .is_required = true, .read = tls_read_more_key, .form = "a path",
     .help = "Private key of that certificate; PEM"},
    {"names", SCHEMA_STRINGS, OFF(struct config_certificate, name_list), .min = 1, .max = 1000,
     .help = "Host names it is for, *.example.org too; default: those in the certificate"},
    {NULL, SCHEMA_END},
};

static const struct schema_items certificate_items = {
    sizeof(struct config_certificate), offsetof(struct config_listener, tls.certificate),
    offsetof(struct config_listener, tls.n_certificates), offsetof(struct config_certificate, pos),
    0};

static const struct schema hsts_keys[] = {
    {"max_age", SCHEMA_DURATION, OFF(struct config_listener, tls.hsts.max_age_ms), .def = "365d",
     .min = 1000, .max = 3650 * 24 * (long long)HOUR, .help = "How long browsers shall keep to it"},
    {"subdomains", SCHEMA_ENUM, OFF(struct config_listener, tls.hsts.subdomains), .def = "off",
     .form = "off|on", .help = "For all names below the host's as well"},
    {"preload", SCHEMA_ENUM, OFF(struct config_listener, tls.hsts.preload), .def = "off",
     .form = "off|on", .help = "Consent to be put on browsers' lists"},
    {NULL, SCHEMA_END},
};

static const struct schema tls_keys[] = {
    {"cert", SCHEMA_CUSTOM, .read = tls_read_cert, .form = "a path",
     .help = "Certificate and, after it, those that lead to its root; PEM. Needed"},
    {"key", SCHEMA_CUSTOM, .read = tls_read_key, .form = "a path",
     .help = "Private key of that certificate; PEM. Needed"},
    {"certificates", SCHEMA_LIST, .keys = certificate_keys, .items = &certificate_items,
     .max = 1000, .help = "More of them: the client's choice of a name (SNI) decides"},
    {"min_version", SCHEMA_ENUM, OFF(struct config_listener, tls.min_version), .def = "1.2",
     .form = "1.2|1.3", .help = "Oldest version of TLS; 1.0 and 1.1 are not spoken"},
    {"priority", SCHEMA_CUSTOM, .read = tls_read_priority, .form = "a priority string of GnuTLS",
     .help = "Versions, ciphers, groups, in place of `min_version` and what is chosen with care"},
    {"client_auth", SCHEMA_ENUM, OFF(struct config_listener, tls.client_auth), .def = "none",
     .form = "none|optional|required",
     .help = "Certificates of clients: not asked for; checked if there is one; needed"},
    {"client_ca", SCHEMA_CUSTOM, .read = tls_read_client_ca, .form = "a path",
     .help = "Whose signature clients' certificates must bear; PEM"},
    {"session_tickets", SCHEMA_ENUM, OFF(struct config_listener, tls.no_tickets), .def = "on",
     .form = "on|off", .help = "Clients that come again may resume, with any worker"},
    {"hsts", SCHEMA_CUSTOM, .read = tls_read_hsts, .keys = hsts_keys, .form = "a duration, or off",
     .pattern = "^(off|0|[0-9]+(d|h|m|s|ms))$",
     .help = "Strict-Transport-Security for so long: browsers come by https only; absent: off"},
    {NULL, SCHEMA_END},
};

static const struct schema listener_keys[] = {
    {"name", SCHEMA_STRING, OFF(struct config_listener, name), .form = "a name",
     .help = "Name in logs and for plugins; default: \"listener 1\" and so on"},
    {"address", SCHEMA_CUSTOM, .is_required = true, .read = listener_read_address,
     .form = "IP:PORT, [IPv6]:PORT or unix:PATH",
     .pattern = "^([0-9.]+:[0-9]+|\\[[0-9a-fA-F:.]+\\]:[0-9]+|unix:.+)$",
     .help = "Address to listen on; no host names"},
    {"mode", SCHEMA_CUSTOM, .form = "an octal number such as 0660", .pattern = "^0?[0-7]{3}$",
     .read = listener_read_mode, .help = "Permissions of a Unix socket; default: 0660"},
    {"proxy_protocol", SCHEMA_ENUM, OFF(struct config_listener, proxy_protocol), .def = "off",
     .form = "off|any|v1|v2",
     .help =
         "Every connection begins with a PROXY header; only server.trusted_proxies may connect"},
    {"owner", SCHEMA_STRING, OFF(struct config_listener, owner), .form = "a user's name or number",
     .help = "Owner of a Unix socket's file; default: who starts the server"},
    {"group", SCHEMA_STRING, OFF(struct config_listener, group), .form = "a group's name or number",
     .help = "Group of a Unix socket's file; default: that of who starts the server"},
    {"dual_stack", SCHEMA_ENUM, OFF(struct config_listener, is_dual_stack), .def = "off",
     .form = "off|on", .help = "With [::]: IPv4 connections, too; else IPv6 alone"},
    {"tls", SCHEMA_MAP, .keys = tls_keys, .help = "Speak TLS there (HTTPS)"},
    {NULL, SCHEMA_END},
};

static const struct schema_items listener_items = {
    sizeof(struct config_listener), offsetof(struct config, listener),
    offsetof(struct config, n_listeners), offsetof(struct config_listener, pos), 0};

static const struct schema timeout_keys[] = {
    {"idle", SCHEMA_DURATION, OFF(struct config, limits.idle_ms), .def = "60s", .min = 100,
     .max = 24 * HOUR, .help = "Between two requests, time until the next one begins"},
    {"request", SCHEMA_DURATION, OFF(struct config, limits.request_ms), .def = "30s", .min = 100,
     .max = 24 * HOUR, .help = "Time for a request, from its head to the start of the answer"},
    {"drain", SCHEMA_DURATION, OFF(struct config, limits.drain_ms), .def = "30s", .min = 0,
     .max = 24 * HOUR, .help = "On SIGTERM, time for requests in flight to end"},
    {"head", SCHEMA_DURATION, OFF(struct config, limits.head_ms), .def = "10s", .min = 100,
     .max = HOUR,
     .help = "Time for a request's line and headers, from connecting or its first byte; then 408"},
    {"body", SCHEMA_DURATION, OFF(struct config, limits.body_ms), .def = "10s", .min = 100,
     .max = HOUR, .help = "Interval over which limits.body_rate is taken; missed: 408"},
    {"send", SCHEMA_DURATION, OFF(struct config, limits.send_ms), .def = "10s", .min = 100,
     .max = HOUR, .help = "Interval over which limits.send_rate is taken; missed: cut"},
    {NULL, SCHEMA_END},
};

static const struct schema limit_keys[] = {
    {"connections", SCHEMA_INT, OFF(struct config, limits.connections), .def = "16384", .min = 1,
     .max = 1 << 20, .help = "Open connections of one worker, over all listeners; more get 503"},
    {"per_ip", SCHEMA_INT, OFF(struct config, limits.per_ip), .def = "0", .min = 0, .max = 1 << 20,
     .help =
         "Open connections of one client address, over all workers; more get 503; 0: any number"},
    {"ipv6_prefix", SCHEMA_INT, OFF(struct config, limits.ipv6_prefix), .def = "64", .min = 16,
     .max = 128, .help = "Bits of an IPv6 address that make one client for limits.per_ip"},
    {"head", SCHEMA_SIZE, OFF(struct config, limits.head), .def = "8KiB", .min = KIB, .max = MIB,
     .help = "Request line and headers; more is answered 431"},
    {"uri", SCHEMA_SIZE, OFF(struct config, limits.uri), .def = "8KiB", .min = 64, .max = MIB,
     .help = "Request target; more is answered 414. limits.head counts it, too"},
    {"headers", SCHEMA_INT, OFF(struct config, limits.headers), .def = "100", .min = 1,
     .max = 10000, .help = "Header fields of a request; more are answered 431"},
    {"body", SCHEMA_SIZE, OFF(struct config, limits.body), .def = "8MiB", .min = 0,
     .max = 1024 * GIB, .help = "Request body; more is answered 413"},
    {"body_rate", SCHEMA_SIZE, OFF(struct config, limits.body_rate), .def = "1KiB", .min = 0,
     .max = GIB, .help = "Bytes per second at which a body must come at least; 0: any progress"},
    {"send_rate", SCHEMA_SIZE, OFF(struct config, limits.send_rate), .def = "1KiB", .min = 0,
     .max = GIB, .help = "Bytes per second that a client must take at least; 0: any progress"},
    {"timeouts", SCHEMA_MAP, .keys = timeout_keys, .help = "How long things may take"},
    {NULL, SCHEMA_END},
};

static const struct schema module_keys[] = {
    {"path", SCHEMA_STRINGS, OFF(struct draft, module_dirs), .max = 32,
     .help = "Folders to look for NAME.so in, before those that come with Bulkhead"},
    {NULL, SCHEMA_END},
};

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

static const struct schema breaker_keys[] = {BREAKER_KEYS(struct config, "5", "60s", "30s", "3")};

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

static const struct schema plugin_store_keys[] = {
    {"namespace", SCHEMA_CUSTOM, .form = "a name", .read = read_namespace,
     .help = "Whose keys it sees: plugins with the same namespace share; default: its own name"},
    {"quota", SCHEMA_SIZE, OFF(struct config_plugin, store.quota), .min = 0, .max = 1024 * GIB,
     .help = "Bytes that its namespace may take; then sets are refused; default: store.quota"},
    {NULL, SCHEMA_END},
};

static const struct schema plugin_http_keys[] = {
    {"allow", SCHEMA_STRINGS, OFF(struct config_plugin, http_allow), .max = 64,
     .help = "HOST[:PORT], *.DOMAIN, a network, public, any, unix:/PATH; absent: any address but "
             "link-local ones and other metadata services; []: none"},
    {NULL, SCHEMA_END},
};

static const struct schema plugin_keys[] = {
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
    {"http", SCHEMA_MAP, .keys = plugin_http_keys, .help = "Where those may go"},
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

static const struct schema_items plugin_items = {
    sizeof(struct config_plugin), offsetof(struct config, plugin),
    offsetof(struct config, n_plugins), offsetof(struct config_plugin, pos),
    offsetof(struct config_plugin, name)};

static const struct schema chain_keys[] = {
    {"", SCHEMA_STRINGS, OFF(struct draft_chain, list),
     .help = "Names of plugins and other chains"},
    {NULL, SCHEMA_END},
};

static const struct schema_items chain_items = {
    sizeof(struct draft_chain), offsetof(struct draft, chain), offsetof(struct draft, n_chains),
    offsetof(struct draft_chain, pos), offsetof(struct draft_chain, name)};

static const struct schema match_keys[] = {
    {"path", SCHEMA_CUSTOM, .def = "/**", .read = route_read_path,
     .form = "/x (exactly), /x/** (/x and all below it), /x/*/y or /** (all)",
     .pattern = "^/([^*]|\\*(?!\\*))*(/\\*\\*)?$|^/\\*\\*$",
     .help = "Path of the request, decoded"},
    {"methods", SCHEMA_STRINGS, OFF(struct draft_route, methods), .min = 1, .max = 32,
     .help = "Methods, such as GET; \"*\": every one; absent: the standard ones"},
    {"host", SCHEMA_CUSTOM, .form = "a host, *.DOMAIN for all below it; with a port or without",
     .read = route_read_host, .help = "Host that the request names; absent: any"},
    {"headers", SCHEMA_NODE, OFF(struct draft_route, headers),
     .help = "Header fields, NAME: VALUE, all of which must be there; \"*\": any value"},
    {"query", SCHEMA_NODE, OFF(struct draft_route, query),
     .help = "Query parameters, NAME: VALUE, all of which must be there; \"*\": any value"},
    {NULL, SCHEMA_END},
};

static const struct schema route_keys[] = {
    {"name", SCHEMA_STRING, OFF(struct draft_route, route.name), .form = "a name",
     .help = "Name in logs and for plugins; default: \"route 1\" and so on"},
    {"match", SCHEMA_MAP, .keys = match_keys, .help = "Which requests; absent: all"},
    {"body", SCHEMA_SIZE, OFF(struct draft_route, route.body), .min = 1, .max = 1024 * GIB,
     .help = "Request body; more is answered 413; default: limits.body"},
    {"chain", SCHEMA_STRINGS, OFF(struct draft_route, list), .is_required = true, .min = 1,
     .help = "Plugins and chains to pass, in this order; the last one usually answers"},
    {NULL, SCHEMA_END},
};

static const struct schema_items route_items = {
    sizeof(struct draft_route), offsetof(struct draft, route), offsetof(struct draft, n_routes),
    offsetof(struct draft_route, route.pos), 0};

static const struct schema error_log_keys[] = {
    {"path", SCHEMA_STRING, OFF(struct config, log.path), .def = "-", .form = "a path, or -",
     .help = "File to append to; \"-\": standard error"},
    {"level", SCHEMA_ENUM, OFF(struct config, log.level), .def = "info", .min = 1,
     .form = "error|warn|info|debug", .help = "The least severe lines to log"},
    {"format", SCHEMA_ENUM, OFF(struct config, log.format), .def = "text", .form = "text|json|auto",
     .help = "Lines for people, or a JSON object a line; auto: text for a terminal or the journal"},
    {"repeats", SCHEMA_INT, OFF(struct config, log.repeats), .def = "5", .min = 0, .max = 1000000,
     .help = "Equal lines of one process to write within 10s; others are counted; 0: write all"},
    {NULL, SCHEMA_END},
};

static const struct schema log_keys[] = {
    {"error", SCHEMA_MAP, .keys = error_log_keys, .help = "What the server and its plugins report"},
    {"access", SCHEMA_ABSENT, .help = "the access log" NOT_YET "; use the access_log plugin"},
    {NULL, SCHEMA_END},
};

static const struct schema tracing_keys[] = {
    {"endpoint", SCHEMA_CUSTOM, .read = tracing_read_endpoint,
     .form = "http://HOST:4318 or a whole URL", .pattern = "^https?://.+$",
     .help = "Collector that takes OTLP over HTTP; without a path: /v1/traces; absent: no traces"},
    {"sample", SCHEMA_CUSTOM, .def = "100%", .read = tracing_read_sample, .form = "0% to 100%",
     .pattern = "^[0-9]+(\\.[0-9]+)?%$", .help = "Share of the traces that begin here to record"},
    {"parent", SCHEMA_ENUM, OFF(struct config, tracing.parent), .def = "follow",
     .form = "follow|trusted|ignore",
     .help = "Whose traceparent is gone on with: anybody's, server.trusted_proxies', nobody's"},
    {"headers", SCHEMA_NODE, OFF(struct draft, trace_headers),
     .help = "Header fields for the collector, NAME: VALUE, such as Authorization"},
    {"service", SCHEMA_STRING, OFF(struct config, tracing.service), .def = "bulkhead",
     .form = "a name", .help = "service.name of the traces"},
    {"resource", SCHEMA_NODE, OFF(struct draft, trace_resource),
     .help = "Further attributes of the resource, NAME: VALUE, such as deployment.environment"},
    {"compression", SCHEMA_ENUM, OFF(struct config, tracing.is_plain), .def = "gzip",
     .form = "gzip|none", .help = "How requests to the collector are compressed"},
    {"ca", SCHEMA_STRING, OFF(struct config, tracing.ca), .form = "a path",
     .help = "Certificates of authorities to trust, PEM, in place of the system's"},
    {"timeout", SCHEMA_DURATION, OFF(struct config, tracing.timeout_ms), .def = "10s", .min = 100,
     .max = 10 * MINUTE, .help = "Time for one request to the collector"},
    {"interval", SCHEMA_DURATION, OFF(struct config, tracing.interval_ms), .def = "1s", .min = 10,
     .max = HOUR, .help = "Spans wait for company so long, unless a batch (512) is full before"},
    {"queue", SCHEMA_SIZE, OFF(struct config, tracing.queue), .def = "8MiB", .min = 64 * KIB,
     .max = GIB,
     .help = "What may wait for a collector that does not answer; beyond that spans are dropped"},
    {NULL, SCHEMA_END},
};

static const struct schema rule_keys[] = {
    {"name", SCHEMA_STRING, OFF(struct config_rule, name), .is_required = true, .form = "a name",
     .help = "Name of the alert: its label `alertname`"},
    {"metric", SCHEMA_CUSTOM, .is_required = true, .read = alert_read_metric,
     .form = "a metric's name", .pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$",
     .help = "As `bulkhead metrics` shows it; NAME_p50, _p95, _p99, _p999: of a histogram NAME"},
    {"when", SCHEMA_CUSTOM, .is_required = true, .read = alert_read_when,
     .form = "\"> 50\", or with >=, <, <=, ==, !=", .pattern = "^(>|>=|<|<=|==|!=) *[-+0-9.eE]+$",
     .help = "What its value must be"},
    {"for", SCHEMA_DURATION, OFF(struct config_rule, for_ms), .def = "0", .min = 0,
     .max = 24 * HOUR, .help = "How long that must hold before anybody is told"},
    {"over", SCHEMA_DURATION, OFF(struct config_rule, over_ms), .def = "0", .min = 0,
     .max = 24 * HOUR,
     .help = "Take the growth of a counter over this time; of a histogram, default there: 1m"},
    {"match", SCHEMA_NODE, OFF(struct config_rule, match_map),
     .help = "Labels that the metric must have, NAME: VALUE, such as plugin: auth"},
    {"labels", SCHEMA_NODE, OFF(struct config_rule, label_map),
     .help = "Labels to give to the alert, NAME: VALUE, such as severity: page"},
    {"annotations", SCHEMA_NODE, OFF(struct config_rule, annotation_map),
     .help = "Texts for people, NAME: VALUE, such as summary"},
    {"receivers", SCHEMA_STRINGS, OFF(struct config_rule, receiver_list), .min = 1,
     .max = CONFIG_MAX_RECEIVERS, .help = "Who is told; default: all"},
    {NULL, SCHEMA_END},
};

static const struct schema_items rule_items = {
    sizeof(struct config_rule), offsetof(struct config, alerts.rule),
    offsetof(struct config, alerts.n_rules), offsetof(struct config_rule, pos), 0};

static const struct schema receiver_keys[] = {
    {"name", SCHEMA_STRING, OFF(struct config_receiver, name), .is_required = true,
     .form = "a name", .help = "Name, for rules and logs"},
    {"type", SCHEMA_ENUM, OFF(struct config_receiver, type), .def = "webhook",
     .form = "webhook|alertmanager|wecom",
     .help = "JSON as Alertmanager's webhook sends it; Alertmanager's API v2; a robot of WeCom"},
    {"url", SCHEMA_CUSTOM, .is_required = true, .read = alert_read_url, .form = "a URL",
     .pattern = "^https?://.+$",
     .help = "Where to send it; alertmanager: without a path, /api/v2/alerts. Never shown: it may "
             "hold a key"},
    {"headers", SCHEMA_NODE, OFF(struct config_receiver, header_map),
     .help = "Header fields to send, NAME: VALUE; never shown"},
    {"resolved", SCHEMA_ENUM, OFF(struct config_receiver, is_quiet), .def = "on", .form = "on|off",
     .help = "Tell when an alert is over, too"},
    {"ca", SCHEMA_STRING, OFF(struct config_receiver, ca), .form = "a path",
     .help = "Certificates of authorities to trust, PEM, in place of the system's"},
    {NULL, SCHEMA_END},
};

static const struct schema_items receiver_items = {
    sizeof(struct config_receiver), offsetof(struct config, alerts.receiver),
    offsetof(struct config, alerts.n_receivers), offsetof(struct config_receiver, pos), 0};

static const struct schema alert_keys[] = {
    {"rules", SCHEMA_LIST, .keys = rule_keys, .items = &rule_items, .max = CONFIG_MAX_RULES,
     .help = "What to tell of"},
    {"receivers", SCHEMA_LIST, .keys = receiver_keys, .items = &receiver_items,
     .max = CONFIG_MAX_RECEIVERS, .help = "Whom to tell"},
    {"repeat", SCHEMA_DURATION, OFF(struct config, alerts.repeat_ms), .def = "4h", .min = MINUTE,
     .max = 24 * HOUR, .help = "Tell again of what goes on after so long"},
    {NULL, SCHEMA_END},
};

static const struct schema crash_keys[] = {
    {"dir", SCHEMA_STRING, OFF(struct config, crash.dir), .def = "crashes", .form = "a folder",
     .help = "Where crash records are written; made when missing"},
    {"keep", SCHEMA_INT, OFF(struct config, crash.keep), .def = "100", .min = 1, .max = 1000000,
     .help = "Records to keep; older ones are removed"},
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

static const struct schema admin_keys[] = {
    {"listen", SCHEMA_CUSTOM, .read = admin_read_listen,
     .form = "IP:PORT, [IPv6]:PORT or unix:PATH",
     .pattern = "^([0-9.]+:[0-9]+|\\[[0-9a-fA-F:.]+\\]:[0-9]+|unix:.+)$",
     .help = "Address to listen on. Needed; of this machine only, unless `plaintext` allows more"},
    {"mode", SCHEMA_CUSTOM, .form = "an octal number such as 0660", .pattern = "^0?[0-7]{3}$",
     .read = admin_read_mode, .help = "Permissions of a Unix socket; default: 0600"},
    {"owner", SCHEMA_STRING, OFF(struct config, admin.listener.owner),
     .form = "a user's name or number", .help = "Owner of a Unix socket's file"},
    {"group", SCHEMA_STRING, OFF(struct config, admin.listener.group),
     .form = "a group's name or number", .help = "Group of a Unix socket's file"},
    {"token_file", SCHEMA_STRING, OFF(struct config, admin.token_file), .form = "a path",
     .help = "File with the operators' token; made, with a random one, when missing"},
    {"read_token_file", SCHEMA_STRING, OFF(struct config, admin.read_token_file), .form = "a path",
     .help = "File with the token of those who may only look; made when missing"},
    {"hosts", SCHEMA_STRINGS, OFF(struct draft, admin_hosts), .max = 64,
     .help = "Names to be asked by, beside localhost and IP addresses (against DNS rebinding)"},
    {"session", SCHEMA_DURATION, OFF(struct config, admin.session_ms), .def = "12h", .min = MINUTE,
     .max = 30 * 24 * (long long)HOUR, .help = "How long a browser stays logged in"},
    {"unready_routes", SCHEMA_INT, OFF(struct config, admin.unready_routes), .def = "50", .min = 0,
     .max = 100,
     .help =
         "Percent of the routes that plugins in quarantine put out of order before /readyz says "
         "503; 0: never"},
    {"metrics", SCHEMA_ENUM, OFF(struct config, admin.has_open_metrics), .def = "token",
     .form = "token|open", .help = "Who may read /metrics: holders of a token, or everybody"},
    {"plaintext", SCHEMA_ENUM, OFF(struct config, admin.allows_plaintext), .def = "local",
     .form = "local|anywhere",
     .help =
         "Where it may listen without TLS, which it does not speak; tokens can be read on the way"},
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

static const struct schema redis_keys[] = {
    {"address", SCHEMA_CUSTOM, .def = "127.0.0.1:6379", .read = store_read_address,
     .form = "HOST:PORT, [IPv6]:PORT or unix:PATH", .pattern = "^(unix:.+|.+:[0-9]+)$",
     .help = "Where it is; a name is looked up with each connection"},
    {"user", SCHEMA_STRING, OFF(struct config, store.redis.user), .form = "a user's name",
     .help = "User of Redis' access list; absent: the default one"},
    {"password", SCHEMA_STRING, OFF(struct config, store.redis.password), .form = "a password",
     .help = "Its password: take it from a variable, ${NAME}"},
    {"database", SCHEMA_INT, OFF(struct config, store.redis.database), .def = "0", .min = 0,
     .max = 65535, .help = "Number of the database"},
    {"prefix", SCHEMA_STRING, OFF(struct config, store.redis.prefix),
     .def = "bulkhead:", .form = "a prefix",
     .help = "What all keys begin with; servers that share state have the same"},
    {"timeout", SCHEMA_DURATION, OFF(struct config, store.redis.timeout_ms), .def = "200ms",
     .min = 1, .max = MINUTE, .help = "For an answer, and for a connection"},
    {"when_down", SCHEMA_ENUM, OFF(struct config, store.redis.when_down), .def = "local",
     .form = "local|error",
     .help =
         "While it cannot be had: this machine's memory store answers, or plugins get an error"},
    {"tls", SCHEMA_ENUM, OFF(struct config, store.redis.tls), .def = "off", .form = "off|on",
     .help = "Speak TLS to it, and check its certificate"},
    {"ca", SCHEMA_STRING, OFF(struct config, store.redis.ca), .form = "a path",
     .help = "Who has to have signed that; PEM; absent: whom the system trusts"},
    {"name", SCHEMA_STRING, OFF(struct config, store.redis.name), .form = "a host's name",
     .help = "Whom that has to be for; default: the host of `address`"},
    {NULL, SCHEMA_END},
};

static const struct schema store_keys[] = {
    {"backend", SCHEMA_ENUM, OFF(struct config, store.backend), .def = "memory",
     .form = "memory|lmdb|redis",
     .help = "memory: shared by workers, empty after a restart. lmdb: a file. redis: for machines"},
    {"path", SCHEMA_STRING, OFF(struct config, store.path), .form = "a path",
     .help = "lmdb: its file, in a folder that the workers' user may write to"},
    {"sync", SCHEMA_DURATION, OFF(struct config, store.sync_ms), .def = "1s", .min = 0, .max = HOUR,
     .help = "lmdb: how often it is written out to the disk; 0: the kernel decides"},
    {"size", SCHEMA_SIZE, OFF(struct config, store.size), .def = "32MiB", .min = 2 * MIB,
     .max = 2 * GIB, .help = "Of the store in memory or of LMDB's; taken as it is needed"},
    {"quota", SCHEMA_SIZE, OFF(struct config, store.quota), .def = "8MiB", .min = 0,
     .max = 1024 * GIB,
     .help = "Bytes that a namespace may take, where its plugin says nothing else; 0: no limit"},
    {"redis", SCHEMA_MAP, .keys = redis_keys, .help = "The server of `backend: redis`"},
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
