#include "conf/config.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <bulkhead.h>

#include "base/address.h"
#include "base/diag.h"
#include "conf/draft.h"
#include "conf/schema.h"
#include "conf/yaml.h"

#define BASE    "version: 1\nlisteners: [{name: a, address: \"127.0.0.1:8080\"}]\n"
#define ROUTES  "routes: [{chain: [p]}]\n"
#define PLUGINS "plugins: {p: {module: m}}\n"

static char dir[] = "/tmp/test-config-XXXXXX", file[PATH_MAX];
static struct diag diag;
static struct config *cfg;

static int make_dir(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(file, sizeof file, "%s/c.yaml", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(dir);
}

static int begin(void **state)
{
    (void)state;
    diag_init(&diag);
    return 0;
}

static int end(void **state)
{
    (void)state;
    diag_fini(&diag);
    config_destroy(&cfg);
    return 0;
}

static int load(const char *text)
{
    FILE *f = fopen(file, "w");

    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    return config_load(file, &diag, &cfg);
}

static void load_well(const char *text)
{
    config_destroy(&cfg); /* of the one before */
    if (load(text) < 0)
        diag_print(&diag, stderr);
    assert_non_null(cfg);
}

/* text has exactly this mistake, "LINE:COLUMN: WHAT", and, when not NULL, a hint that says HINT. */
static void assert_mistake(const char *text, const char *what, const char *hint)
{
    char line[1024];

    assert_true(load(text) < 0);
    assert_null(cfg);
    snprintf(line, sizeof line, "%d:%d: %s", diag.item[0].line, diag.item[0].column,
             diag.item[0].what);
    if (diag.n_errors != 1 || strcmp(line, what) != 0) {
        diag_print(&diag, stderr);
        fail_msg("expected %s", what);
    }
    if (hint != NULL && (diag.item[0].hint == NULL || strstr(diag.item[0].hint, hint) == NULL))
        fail_msg("expected the hint %s", hint);
    diag_fini(&diag);
}

static void defaults_fill_what_is_not_given(void **state)
{
    cpu_set_t set;

    (void)state;
    load_well(BASE PLUGINS ROUTES);
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    assert_int_equal(cfg->n_workers, CPU_COUNT(&set));
    assert_null(cfg->user);
    assert_int_equal(cfg->limits.connections, 16384);
    assert_int_equal(cfg->limits.head, 8192);
    assert_int_equal(cfg->limits.body, 8 << 20);
    assert_int_equal(cfg->limits.idle_ms, 60000);
    assert_int_equal(cfg->limits.head_ms, 10000);
    assert_int_equal(cfg->limits.body_rate, 1024);
    assert_int_equal(cfg->limits.per_ip, 0);
    assert_int_equal(cfg->limits.request_ms, 30000);
    assert_int_equal(cfg->limits.drain_ms, 30000);
    assert_int_equal(cfg->plugin[0].deadline_ms[HOOK_OPEN], 10000);
    assert_int_equal(cfg->plugin[0].deadline_ms[HOOK_LOG], 10000);
    assert_int_equal(cfg->plugin[0].deadline_ms[HOOK_LOAD], 0); /* is no call */
    assert_int_equal(cfg->plugin[0].on_error, CONFIG_FAIL_CLOSED);
    assert_int_equal(cfg->plugin[0].log_level, 0);
    assert_null(cfg->plugin[0].options);
    assert_string_equal(cfg->log.path, "-");
    assert_int_equal(cfg->log.level, BH_LOG_INFO);
    assert_int_equal(cfg->log.format, CONFIG_LOG_TEXT);
    assert_int_equal(cfg->crash.keep, 100);
    assert_int_equal(cfg->respawn.restarts, 5);
    assert_int_equal(cfg->respawn.window_ms, 10000);
    assert_int_equal(cfg->escrow.n_replay, 3);
    assert_string_equal(cfg->escrow.replay[0], "GET");
    assert_string_equal(cfg->route[0].path, "/");
    assert_true(cfg->route[0].is_prefix);
    assert_string_equal(cfg->route[0].name, "route 1");
    assert_null(cfg->route[0].host);
    assert_null(cfg->route[0].methods);
}

static void every_key_is_taken_over(void **state)
{
    (void)state;
    load_well("version: 1\n"
              "server: {workers: 3, user: www}\n"
              "listeners:\n"
              "  - {address: \"[::1]:443\"}\n"
              "  - {name: local, address: \"unix:/run/x.sock\", mode: 0600}\n"
              "limits: {connections: 10, head: 16KiB, body: 0, timeouts: {idle: 1s, request: 2s,\n"
              "  drain: 0}}\n"
              "plugins:\n"
              "  p: {module: ./x/p.so, on_error: fail_open, deadline: 0, log_level: debug,\n"
              "      isolation: boundary, config: {k: v}}\n"
              "routes: [{name: all, match: {path: /a, host: EXAMPLE.com, methods: [GET, PUT],\n"
              "  headers: {X-Beta: \"1\", X-Key: \"*\"}, query: {v: 2}},\n"
              "  chain: [p]}]\n"
              "logs: {error: {path: /var/log/x, level: error, format: json}}\n"
              "crash: {dir: /c, keep: 7}\n"
              "respawn: {restarts: 2, window: 1m}\n"
              "escrow: {replay: [HEAD, DELETE]}\n");
    assert_int_equal(cfg->n_workers, 3);
    assert_string_equal(cfg->user, "www");
    assert_string_equal(cfg->listener[0].name, "listener 1");
    assert_int_equal(cfg->listener[0].addr.in6.sin6_family, AF_INET6);
    assert_int_equal(ntohs(cfg->listener[0].addr.in6.sin6_port), 443);
    assert_string_equal(cfg->listener[1].addr.un.sun_path, "/run/x.sock");
    assert_int_equal(cfg->listener[1].mode, 0600);
    assert_int_equal(cfg->limits.connections, 10);
    assert_int_equal(cfg->limits.head, 16384);
    assert_int_equal(cfg->limits.body, 0);
    assert_int_equal(cfg->limits.drain_ms, 0);
    assert_string_equal(cfg->plugin[0].module, "./x/p.so");
    assert_int_equal(cfg->plugin[0].module_pos.line, 9);
    assert_int_equal(cfg->plugin[0].pos.column, 3);
    assert_int_equal(cfg->plugin[0].on_error, CONFIG_FAIL_OPEN);
    assert_int_equal(cfg->plugin[0].deadline_ms[HOOK_REQUEST], 0);
    assert_int_equal(cfg->plugin[0].log_level, BH_LOG_DEBUG);
    assert_string_equal(yaml_get(cfg->plugin[0].options, "k")->text, "v");
    assert_string_equal(cfg->route[0].name, "all");
    assert_string_equal(cfg->route[0].path, "/a");
    assert_false(cfg->route[0].is_prefix);
    assert_string_equal(cfg->route[0].host, "example.com");
    assert_int_equal(cfg->route[0].host_len, 11);
    assert_int_equal(cfg->route[0].port, 0);
    assert_int_equal(cfg->route[0].path_len, 2);
    assert_int_equal(cfg->route[0].n_headers, 2);
    assert_string_equal(cfg->route[0].header[0].name, "X-Beta");
    assert_string_equal(cfg->route[0].header[0].value, "1");
    assert_null(cfg->route[0].header[1].value);
    assert_int_equal(cfg->route[0].n_queries, 1);
    assert_string_equal(cfg->route[0].query[0].value, "2");
    assert_int_equal(cfg->route[0].n_methods, 2);
    assert_string_equal(cfg->route[0].methods[1], "PUT");
    assert_string_equal(cfg->log.path, "/var/log/x");
    assert_int_equal(cfg->log.level, BH_LOG_ERROR);
    assert_int_equal(cfg->log.format, CONFIG_LOG_JSON);
    assert_string_equal(cfg->crash.dir, "/c");
    assert_int_equal(cfg->respawn.window_ms, 60000);
    assert_int_equal(cfg->escrow.n_replay, 2);
    assert_string_equal(cfg->escrow.replay[1], "DELETE");
}

static void deadlines_are_given_by_hook(void **state)
{
    const uint32_t *ms;

    (void)state;
    load_well(BASE ROUTES "plugins:\n"
                          "  p: {module: m, deadline: {on_log: 10ms, default: 5s, open: 0}}\n"
                          "  q: {module: m, deadline: {on_request: 50ms}}\n");
    ms = cfg->plugin[0].deadline_ms;
    assert_int_equal(ms[HOOK_LOG], 10);
    assert_int_equal(ms[HOOK_OPEN], 0);
    for (int i = 0; i < HOOK_N; i++)
        if (i != HOOK_LOG && i != HOOK_OPEN)
            assert_int_equal(ms[i], hook_is_call((unsigned)i) ? 5000 : 0);
    ms = cfg->plugin[1].deadline_ms;
    assert_int_equal(ms[HOOK_REQUEST], 50);
    assert_int_equal(ms[HOOK_CLOSE], 10000);
}

/* A name that the host publishes and the config does not know would be an error without a cure. */
static void every_call_has_a_key_for_its_deadline(void **state)
{
    char text[256];

    (void)state;
    for (unsigned i = 0; i < HOOK_N; i++) {
        if (!hook_is_call(i))
            continue;
        snprintf(text, sizeof text, BASE ROUTES "plugins: {p: {module: m, deadline: {%s: 77ms}}}\n",
                 hook_name(i));
        load_well(text);
        assert_int_equal(cfg->plugin[0].deadline_ms[i], 77);
        config_destroy(&cfg);
    }
}

static void relative_paths_start_at_the_config(void **state)
{
    char expected[PATH_MAX];

    (void)state;
    load_well(BASE PLUGINS ROUTES "modules: {path: [mods, /abs]}\n");
    assert_string_equal(cfg->dir, dir);
    snprintf(expected, sizeof expected, "%s/crashes", dir);
    assert_string_equal(cfg->crash.dir, expected);
    snprintf(expected, sizeof expected, "%s/mods", dir);
    assert_string_equal(cfg->module_path[0], expected);
    assert_string_equal(cfg->module_path[1], "/abs");
    assert_true(cfg->n_module_paths >= 3); /* then those that come with the program */
    snprintf(expected, sizeof expected, "%s/x", dir);
    assert_string_equal(config_path(cfg, "./x"), expected);
}

static void chains_are_flattened_in_order(void **state)
{
    static const int expected[] = {0, 1, 2, 3};

    (void)state;
    load_well(BASE "plugins: {a: {module: m}, b: {module: m}, c: {module: m}, d: {module: m}}\n"
                   "chains: {outer: [inner, c], inner: [a, b], empty: []}\n"
                   "routes: [{chain: [outer, empty, d]}, {match: {path: /x/**}, chain: [d, a]}]\n");
    assert_int_equal(cfg->route[0].n_chain, 4);
    assert_memory_equal(cfg->route[0].chain, expected, sizeof expected);
    assert_int_equal(cfg->route[1].n_chain, 2);
    assert_int_equal(cfg->route[1].chain[0], 3);
    assert_string_equal(cfg->route[1].path, "/x/");
}

static void values_come_from_the_environment(void **state)
{
    (void)state;
    setenv("BH_TEST_PORT", "9999", 1);
    load_well("version: 1\nlisteners: [{address: \"127.0.0.1:${BH_TEST_PORT}\"}]\n"
              "limits: {connections: \"${BH_TEST_NONE:-12}\"}\n" PLUGINS ROUTES);
    assert_int_equal(ntohs(cfg->listener[0].addr.in.sin_port), 9999);
    assert_int_equal(cfg->limits.connections, 12);
}

static void mistakes_have_a_place_and_a_hint(void **state)
{
    static const struct {
        const char *text, *what, *hint;
    } rows[] = {
        {BASE PLUGINS "rotes: [{chain: [p]}]\n" ROUTES, "4:1: unknown key 'rotes'", "'routes'"},
        {BASE PLUGINS ROUTES "zzz: 1\n", "5:1: unknown key 'zzz'", "version, server, listeners"},
        {"version: 2\nlisteners: [{address: \"1.2.3.4:1\"}]\n" PLUGINS ROUTES,
         "1:10: version: must be 1, not 2", NULL},
        {"listeners: [{address: \"1.2.3.4:1\"}]\n" PLUGINS ROUTES, "1:1: version is missing", NULL},
        {"version: 1\n" PLUGINS ROUTES, "1:1: listeners is missing", NULL},
        {"version: 1\nlisteners: []\n" PLUGINS ROUTES, "2:12: listeners: at least 1 must be given",
         NULL},
        {BASE PLUGINS, "1:1: routes is missing", NULL},
        {BASE PLUGINS ROUTES "server: {workers: 257}\n",
         "5:19: server.workers: expected auto, or a number from 1 to 256, not '257'", NULL},
        {BASE PLUGINS ROUTES "limits: {connections: 0}\n",
         "5:23: limits.connections: must be from 1 to 1048576, not 0", NULL},
        {BASE PLUGINS ROUTES "limits: {head: 2MiB}\n",
         "5:16: limits.head: must be from 1KiB to 1MiB, not 2MiB", NULL},
        {BASE PLUGINS ROUTES "limits: {timeouts: {idle: 5}}\n",
         "5:27: limits.timeouts.idle: expected a duration such as 50ms, 10s, 5m, 1h, not '5'",
         NULL},
        {BASE PLUGINS ROUTES "limits: [1]\n", "5:9: limits: expected a mapping, not a list", NULL},
        {BASE PLUGINS ROUTES "crash: {dir: [a]}\n",
         "5:14: crash.dir: expected a single value, not a list", NULL},
        {BASE PLUGINS ROUTES "crash: {dir: }\n", "5:14: crash.dir: has no value", NULL},
        {BASE PLUGINS ROUTES "modules: {path: x}\n",
         "5:17: modules.path: expected a list, not a single value", "brackets"},
        {BASE ROUTES "plugins: {p: {}}\n", "4:14: plugins.p.module is missing", NULL},
        {BASE ROUTES "plugins: {p: {module: a.b}}\n",
         "4:23: plugins.p.module: 'a.b' is neither a module's name nor the path of an object",
         NULL},
        {BASE ROUTES "plugins: {p: {module: m, deadline: 5ms}}\n",
         "4:36: plugins.p.deadline: must be 0 (none) or from 10ms to 1h, not 5ms", NULL},
        {BASE ROUTES "plugins: {p: {module: m, deadline: {on_log: 5ms}}}\n",
         "4:45: plugins.p.deadline.on_log: must be 0 (none) or from 10ms to 1h, not 5ms", NULL},
        {BASE ROUTES "plugins: {p: {module: m, deadline: {on_requst: 5s}}}\n",
         "4:37: plugins.p.deadline: unknown key 'on_requst'", "did you mean 'on_request'?"},
        {BASE ROUTES "plugins: {p: {module: m, deadline: {thread: 5s}}}\n",
         "4:37: plugins.p.deadline: unknown key 'thread'", "default, validate, open"},
        {BASE ROUTES "plugins: {p: {module: m, deadline: [5s]}}\n",
         "4:36: plugins.p.deadline: expected a single value or a mapping, not a list", NULL},
        {BASE ROUTES "plugins: {p: {module: m, on_error: open}}\n",
         "4:36: plugins.p.on_error: expected fail_closed or fail_open, not 'open'", NULL},
        {BASE ROUTES "plugins: {p: {module: m}, \"a b\": {module: m}}\n",
         "4:27: plugins: 'a b' cannot be a name", "letters"},
        {BASE PLUGINS "routes: [{chain: [q]}]\n",
         "4:19: routes[1]: there is no plugin or chain 'q'", "'p'"},
        {BASE "plugins: {limit: {module: m}}\nroutes: [{chain: [limt]}]\n",
         "4:19: routes[1]: there is no plugin or chain 'limt'", "did you mean 'limit'?"},
        {BASE PLUGINS "chains: {a: [b], b: [a]}\n" ROUTES,
         "4:22: chains.b: a cycle: chain 'a' contains itself", NULL},
        {BASE PLUGINS "chains: {p: [p]}\n" ROUTES,
         "4:10: chains: 'p' is the name of a plugin already (line 3)", NULL},
        {BASE PLUGINS "routes: [{chain: [p, p]}]\n",
         "4:22: routes[1]: plugin 'p' would be passed twice", "second instance"},
        {BASE PLUGINS "routes: [{chain: []}]\n", "4:18: routes[1].chain: the list is empty", NULL},
        {BASE PLUGINS
         "routes: [{match: {path: /a}, chain: [p]}, {match: {path: /a}, chain: [p]}]\n",
         "4:43: routes[2]: can never match: the route in line 4 matches the same", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_mistake(rows[i].text, rows[i].what, rows[i].hint);
}

static void keys_of_later_versions_are_refused_by_name(void **state)
{
    (void)state;
    assert_mistake(BASE PLUGINS ROUTES "logs: {access: {}}\n",
                   "5:16: logs.access: the access log is not in this version; use the access_log "
                   "plugin",
                   NULL);
    assert_mistake(BASE ROUTES "plugins: {p: {module: m, isolation: cell}}\n",
                   "4:37: plugins.p.isolation: isolation 'cell' is not in this version",
                   "boundary");
}

static void the_admin_interface_stays_on_this_machine_unless_told_otherwise(void **state)
{
    static const struct {
        const char *text, *what, *hint;
    } rows[] = {
        {"admin: {}\n", "5:8: admin: listen is missing", "127.0.0.1:9900"},
        {"admin: {listen: \"127.0.0.1:9900\"}\n",
         "5:8: admin: token_file is missing: everybody on this machine can reach 127.0.0.1:9900",
         "admin.token"},
        {"admin: {listen: \"0.0.0.0:9900\", token_file: t}\n",
         "5:17: admin.listen: 0.0.0.0:9900 can be reached from other machines, and tokens would "
         "travel in plain text",
         "plaintext: anywhere"},
        {"admin: {listen: \"0.0.0.0:9900\", token_file: t, tls: {cert: c}}\n",
         "5:53: tls: key is missing", "cert:"},
        {"admin: {listen: \"127.0.0.1:8080\", token_file: t}\n",
         "5:8: admin.listen: the listener in line 2 has that address", NULL},
        {"admin: {listen: \"[::1]:9900\", token_file: t, mode: 0660}\n",
         "5:8: admin: mode is for Unix sockets only", NULL},
        {"admin: {listen: \"unix:a\", read_token_file: t}\n",
         "5:8: admin: read_token_file without token_file: nobody could act", "token_file"},
        {"admin: {listen: \"unix:a\", token_file: t, read_token_file: t}\n",
         "5:8: admin: token_file and read_token_file are the same file", NULL},
        {"admin: {listen: \"unix:a\", hosts: [\"a:80\"]}\n",
         "5:35: admin.hosts: 'a:80' is not a host's name (no port, no path, no stars)", NULL},
    };
    char text[512];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(text, sizeof text, BASE PLUGINS ROUTES "%s", rows[i].text);
        assert_mistake(text, rows[i].what, rows[i].hint);
    }
    load_well(BASE PLUGINS ROUTES);
    assert_false(cfg->admin.is_on);
    load_well(BASE PLUGINS ROUTES "admin: {listen: \"unix:a.sock\", hosts: [ops.example]}\n");
    assert_true(cfg->admin.is_on);
    assert_int_equal(cfg->admin.listener.mode, 0600);
    assert_int_equal(cfg->admin.n_hosts, 1);
    load_well(BASE PLUGINS ROUTES
              "admin: {listen: \"[::]:9900\", plaintext: anywhere, token_file: t}\n");
    assert_int_equal(cfg->admin.token_file[0], '/');
    load_well(BASE PLUGINS ROUTES "admin: {listen: \"[::]:9900\", token_file: t, tls: {cert: c, "
                                  "key: k, min_version: \"1.3\", hsts: 1d}}\n");
    assert_true(cfg->admin.listener.tls.is_on);
    assert_int_equal(cfg->admin.listener.tls.min_version, 1);
    assert_int_equal(cfg->admin.listener.tls.hsts.max_age_ms, 86400000);
    assert_int_equal(cfg->admin.listener.tls.n_certificates, 1);
    assert_int_equal(cfg->admin.listener.tls.certificate[0].key.path[0], '/');
}

static void trusted_proxies_are_networks_addresses_and_unix(void **state)
{
    (void)state;
    load_well(
        "server: {trusted_proxies: [10.0.0.0/8, \"2001:db8::/32\", 192.0.2.7, unix]}\n" BASE PLUGINS
            ROUTES);
    assert_int_equal(cfg->n_trusted, 3);
    assert_true(cfg->trusts_unix);
    assert_int_equal(cfg->trusted[0].bits, 104);
    assert_int_equal(cfg->trusted[1].bits, 32);
    assert_int_equal(cfg->trusted[2].bits, 128);
    assert_int_equal(cfg->forwarded, CONFIG_X_FORWARDED_FOR);
    config_destroy(&cfg);
    assert_mistake("server: {trusted_proxies: [proxy.example]}\n" BASE PLUGINS ROUTES,
                   "1:28: server.trusted_proxies: 'proxy.example' is neither a network nor an "
                   "address",
                   "10.0.0.0/8");
    assert_mistake("server: {trusted_proxies: [10.1.2.3/8]}\n" BASE PLUGINS ROUTES,
                   "1:28: server.trusted_proxies: '10.1.2.3/8' has bits set beyond its prefix: "
                   "10.0.0.0/8 is the network",
                   NULL);
    assert_mistake("server: {trusted_proxies: [10.0.0.0/33]}\n" BASE PLUGINS ROUTES,
                   "1:28: server.trusted_proxies: '10.0.0.0/33' is neither a network nor an "
                   "address",
                   NULL);
}

static void a_proxy_header_of_anybody_is_refused(void **state)
{
    (void)state;
    assert_mistake(
        "version: 1\nlisteners: [{name: a, address: \"127.0.0.1:80\", proxy_protocol: v2}]"
        "\n" PLUGINS ROUTES,
        "2:13: listeners: proxy_protocol on 'a', but nobody there is in "
        "server.trusted_proxies",
        "trusted_proxies: [127.0.0.1]");
    assert_mistake(
        "version: 1\nserver: {trusted_proxies: [127.0.0.1]}\n"
        "listeners: [{name: u, address: \"unix:/x\", proxy_protocol: any}]\n" PLUGINS ROUTES,
        "3:13: listeners: proxy_protocol on 'u', but nobody there is in "
        "server.trusted_proxies",
        "trusted_proxies: [unix]");
}

static void a_plugins_breaker_overrules_single_keys(void **state)
{
    const struct config_breaker *b;

    (void)state;
    assert_int_equal(load(BASE "breaker: {crashes: 7, open: 2s}\n"
                               "plugins:\n"
                               "  p: {module: m}\n"
                               "  q: {module: m, breaker: {crashes: 0, trials: 9}}\n" ROUTES),
                     0);
    b = &cfg->plugin[0].breaker;
    assert_int_equal(b->crashes, 7);
    assert_int_equal(b->window_ms, 60000);
    assert_int_equal(b->open_ms, 2000);
    assert_int_equal(b->trials, 3);
    b = &cfg->plugin[1].breaker;
    assert_int_equal(b->crashes, 0);
    assert_int_equal(b->window_ms, 60000);
    assert_int_equal(b->open_ms, 2000);
    assert_int_equal(b->trials, 9);
    config_destroy(&cfg);
    assert_mistake(BASE ROUTES "plugins: {p: {module: m, breaker: {crash: 1}}}\n",
                   "4:36: plugins.p.breaker: unknown key 'crash'", "crashes");
    assert_mistake(BASE PLUGINS ROUTES "breaker: {crashes: 65}\n",
                   "5:20: breaker.crashes: must be from 0 to 64, not 65", NULL);
}

static void the_heap_for_all_is_that_of_plugins_that_say_nothing(void **state)
{
    (void)state;
    assert_int_equal(load(BASE "heap: shared\n"
                               "plugins:\n"
                               "  p: {module: m}\n"
                               "  q: {module: m, heap: private, memory: 1MiB}\n"
                               "  r: {module: m, memory: 0}\n" ROUTES),
                     0);
    assert_int_equal(cfg->plugin[0].heap, CONFIG_HEAP_SHARED);
    assert_int_equal(cfg->plugin[1].heap, CONFIG_HEAP_PRIVATE);
    assert_int_equal(cfg->plugin[2].heap, CONFIG_HEAP_SHARED);
    config_destroy(&cfg);
    assert_int_equal(load(BASE "plugins: {p: {module: m}, q: {module: m, heap: shared}}\n" ROUTES),
                     0);
    assert_int_equal(cfg->plugin[0].heap, CONFIG_HEAP_PRIVATE);
    assert_int_equal(cfg->plugin[1].heap, CONFIG_HEAP_SHARED);
    config_destroy(&cfg);
}

static void a_limit_of_memory_on_the_shared_heap_is_a_mistake(void **state)
{
    (void)state;
    assert_mistake(BASE ROUTES "plugins: {p: {module: m, heap: shared, memory: 1MiB}}\n",
                   "4:48: plugins.p.memory: a limit has no effect on the server's heap, which this "
                   "plugin shares (`heap: shared`)",
                   "take one of the two out");
    assert_mistake(BASE ROUTES "heap: shared\nplugins: {p: {module: m, memory: 1MiB}}\n",
                   "5:34: plugins.p.memory: a limit has no effect on the server's heap, which this "
                   "plugin shares (`heap: shared` for all)",
                   "`heap: private` for this plugin");
}

static void addresses_are_numeric(void **state)
{
    static const char *const bad[] = {
        "localhost:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x",
        ":80",          "::1:80",    "[::1]",       "[::1:80",         "[127.0.0.1]:80",
        "unix:",        "1.2.3:80",  "127.0.0.1:",  "127.0.0.1:+5",    "[]:80",
        "*:80"};
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "version: 1\nlisteners: [{address: \"%s\"}]\n" PLUGINS ROUTES,
                 bad[i]);
        if (load(text) == 0)
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(diag.n_errors, 1);
        assert_int_equal(diag.item[0].column, 23);
        diag_fini(&diag);
    }
}

static void listeners_do_not_collide(void **state)
{
    (void)state;
    assert_mistake(
        "version: 1\nlisteners: [{address: \"1.2.3.4:80\"}, {address: \"1.2.3.4:80\"}]\n" PLUGINS
            ROUTES,
        "2:38: listeners: the listener in line 2 has the same address", NULL);
    assert_mistake("version: 1\nlisteners: [{name: a, address: \"1.2.3.4:80\"},\n"
                   "  {name: a, address: \"1.2.3.4:81\"}]\n" PLUGINS ROUTES,
                   "3:3: listeners: the name 'a' is taken by the listener in line 2", NULL);
    assert_mistake(
        "version: 1\nlisteners: [{address: \"1.2.3.4:80\", mode: 0600}]\n" PLUGINS ROUTES,
        "2:13: listeners: mode is for Unix sockets only", NULL);
}

static void paths_have_two_stars_at_the_end_only(void **state)
{
    static const char *const bad[] = {"/**/x", "/x/***", "x",      "/a?b",  "/a//b", "/a/../b",
                                      "/x**",  "\"\"",   "/**/**", "/a/..", "/a/."};
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, BASE PLUGINS "routes: [{match: {path: %s}, chain: [p]}]\n",
                 bad[i]);
        if (load(text) == 0)
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(diag.n_errors, 1);
        diag_fini(&diag);
    }
}

static void one_star_may_stand_anywhere(void **state)
{
    (void)state;
    load_well(BASE PLUGINS "routes: [{match: {path: /a/*/b*.c/**}, chain: [p]}]\n");
    assert_string_equal(cfg->route[0].path, "/a/*/b*.c/");
    assert_true(cfg->route[0].is_prefix);
    assert_true(cfg->route[0].has_stars);
    load_well(BASE PLUGINS "routes: [{match: {path: /a/**}, chain: [p]}]\n");
    assert_false(cfg->route[0].has_stars);
}

static void hosts_are_names_addresses_or_all_below_a_name(void **state)
{
    static const struct {
        const char *text, *host; /* host NULL: refused */
        int port;
    } rows[] = {{"a.Example", "a.example", 0},
                {"a.example.", "a.example", 0},
                {"a.example:80", "a.example", 80},
                {"\"*.a.example\"", ".a.example", 0},
                {"\"*.a.example:81\"", ".a.example", 81},
                {"\"[::1]\"", "[::1]", 0},
                {"\"[::1]:82\"", "[::1]", 82},
                {"\"*\"", NULL, 0},
                {"\"*.\"", NULL, 0},
                {"a*.b", NULL, 0},
                {"a/b", NULL, 0},
                {"u@a", NULL, 0},
                {"a:0", NULL, 0},
                {"a:65536", NULL, 0},
                {"\"a:\"", NULL, 0},
                {"a:b", NULL, 0},
                {"\"::1\"", NULL, 0}};
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(text, sizeof text, BASE PLUGINS "routes: [{match: {host: %s}, chain: [p]}]\n",
                 rows[i].text);
        if (rows[i].host == NULL) {
            if (load(text) == 0)
                fail_msg("%s was taken", rows[i].text);
            diag_fini(&diag);
            continue;
        }
        load_well(text);
        assert_string_equal(cfg->route[0].host, rows[i].host);
        assert_int_equal(cfg->route[0].host_len, strlen(rows[i].host));
        assert_int_equal(cfg->route[0].port, rows[i].port);
    }
}

static void conditions_of_a_route_are_judged(void **state)
{
    (void)state;
    assert_mistake(BASE PLUGINS "routes: [{match: {headers: {\"a b\": 1}}, chain: [p]}]\n",
                   "4:29: routes[1].match.headers: 'a b' cannot be a name", NULL);
    assert_mistake(BASE PLUGINS "routes: [{match: {headers: {Host: a}}, chain: [p]}]\n",
                   "4:29: routes[1].match.headers: host is not matched here", "match.host");
    assert_mistake(BASE PLUGINS "routes: [{match: {headers: {a: [b]}}, chain: [p]}]\n",
                   "4:32: routes[1].match.headers: a wants a value", "\"*\"");
    assert_mistake(BASE PLUGINS "routes: [{match: {query: {a: }}, chain: [p]}]\n",
                   "4:30: routes[1].match.query: a wants a value", "\"*\"");
    assert_mistake(BASE PLUGINS "routes: [{match: {methods: [TRACE]}, chain: [p]}]\n",
                   "4:28: routes[1]: TRACE cannot be served", "405");
    assert_mistake(BASE PLUGINS "routes: [{match: {headers: {a: b}}, chain: [p]},\n"
                                "  {match: {headers: {a: b}}, chain: [p]}]\n",
                   "5:3: routes[2]: can never match: the route in line 4 matches the same", NULL);
    load_well(BASE PLUGINS "routes: [{match: {path: /a}, chain: [p]},\n"
                           "  {match: {path: /a, headers: {a: b}}, chain: [p]}]\n");
}

static void methods_are_upper_case_tokens(void **state)
{
    (void)state;
    assert_mistake(BASE PLUGINS "routes: [{match: {methods: [get]}, chain: [p]}]\n",
                   "4:29: routes[1]: 'get' is not a method in upper case", "GET");
    assert_mistake(BASE PLUGINS "routes: [{match: {methods: [\"A B\"]}, chain: [p]}]\n",
                   "4:29: routes[1]: 'A B' is not a method in upper case", NULL);
    assert_mistake(BASE PLUGINS "routes: [{match: {methods: [GET, GET]}, chain: [p]}]\n",
                   "4:34: routes[1]: GET stands there twice", NULL);
}

static void methods_that_must_not_run_twice_are_refused(void **state)
{
    (void)state;
    assert_mistake(BASE PLUGINS ROUTES "escrow: {replay: [GET, POST]}\n",
                   "5:24: escrow.replay: POST may do more when it is run twice", "GET, HEAD");
    assert_mistake(BASE PLUGINS ROUTES "escrow: {replay: [get]}\n",
                   "5:19: escrow.replay: 'get' is not a method in upper case", "GET");
    load_well(BASE PLUGINS ROUTES "escrow: {replay: []}\n");
    assert_int_equal(cfg->escrow.n_replay, 0);
}

static void too_long_chains_are_refused(void **state)
{
    char text[16384] = BASE "plugins:\n";
    size_t n = strlen(text);

    (void)state;
    for (int i = 0; i <= CONFIG_MAX_CHAIN; i++)
        n += (size_t)sprintf(text + n, "  p%d: {module: m}\n", i);
    n += (size_t)sprintf(text + n, "routes:\n  - chain:\n");
    for (int i = 0; i <= CONFIG_MAX_CHAIN; i++)
        n += (size_t)sprintf(text + n, "    - p%d\n", i);
    assert_true(load(text) < 0);
    assert_int_equal(diag.n_errors, 1);
    assert_string_equal(diag.item[0].what, "routes[1]: more than 64 plugins");
}

static void exponential_chains_cost_nothing(void **state)
{
    char text[16384] = BASE PLUGINS "chains:\n  c0: [p]\n";
    size_t n = strlen(text);

    (void)state;
    for (int i = 1; i < 200; i++)
        n += (size_t)sprintf(text + n, "  c%d: [c%d, c%d, c%d]\n", i, i - 1, i - 1, i - 1);
    sprintf(text + n, "routes: [{chain: [c199]}]\n");
    assert_true(load(text) < 0);
    assert_true(diag.n_errors < 1000);
}

static void all_mistakes_come_in_one_run_in_order(void **state)
{
    (void)state;
    assert_true(load("version: 1\n"
                     "listeners: [{address: nowhere}]\n"
                     "limits: {head: 1, body: x}\n"
                     "plugins: {p: {modul: m}}\n"
                     "routes: [{chain: [q], match: {path: x}}]\n"
                     "version: 1\n") < 0);
    assert_int_equal(diag.n_errors, 8);
    for (int i = 1; i < diag.n; i++)
        assert_true(diag.item[i - 1].line <= diag.item[i].line);
}

static void empty_sections_are_as_good_as_absent(void **state)
{
    (void)state;
    load_well(BASE PLUGINS ROUTES "chains:\n  # none yet\nlimits:\nserver:\n");
    assert_int_equal(cfg->limits.connections, 16384);
}

static void missing_file_and_directory_say_so(void **state)
{
    (void)state;
    assert_int_equal(config_load("/nonexistent.yaml", &diag, &cfg), -ENOENT);
    assert_int_equal(config_load(dir, &diag, &cfg), -EISDIR);
    assert_int_equal(diag.n_errors, 2);
    assert_string_equal(diag.item[0].what, "cannot read it: No such file or directory");
    assert_string_equal(diag.item[1].what, "this is a directory");
}

/* A default that its own key refuses would be an error in every config. */
static void table_is_sound(const struct schema *keys)
{
    int n = 0;

    for (const struct schema *s = keys; s->kind != SCHEMA_END; s++, n++) {
        assert_non_null(s->help);
        assert_true(strlen(s->help) < 100);
        assert_false(s->is_required && s->def != NULL);
        if (s->kind == SCHEMA_ENUM)
            assert_non_null(s->form);
        if (s->kind == SCHEMA_CUSTOM)
            assert_true(s->read != NULL && s->form != NULL);
        if (s->keys != NULL)
            table_is_sound(s->keys);
    }
    assert_true(n > 0 && n < 32);
}

/* One place for the `tracing:` endpoint and receivers of alerts; hosts and ports for Redis, too. */
static void a_url_that_cannot_be_asked_is_a_mistake(void **state)
{
    static const struct {
        const char *url, *why; /* NULL: sound */
    } cases[] = {
        {"http://c", NULL},
        {"http://c:1", NULL},
        {"https://c-1.example.org:65535/a:b@c?d=e:f", NULL},
        {"http://[::1]", NULL},
        {"http://[2001:db8::1]:8080/x", NULL},
        {"http://127.0.0.1:80?x", NULL},
        {"http://my_service.", NULL},
        {"http://b\xc3\xbc"
         "cher.example",
         NULL},
        {"http://3com.example", NULL},
        {"http://h:abc/s3cret", "port"},
        {"http://h:/s3cret", "port"},
        {"http://h:0/s3cret", "port"},
        {"http://h:65536/s3cret", "port"},
        {"http://h:-1/s3cret", "port"},
        {"http://h:+80/s3cret", "port"},
        {"http://h:0x50/s3cret", "port"},
        {"http://[::1]:/s3cret", "port"},
        {"http://h:80:90/s3cret", "host"},
        {"http://::1/s3cret", "host"},
        {"http://[::1/s3cret", "host"},
        {"http://[::1]x/s3cret", "host"},
        {"http://[]/s3cret", "host"},
        {"http://[127.0.0.1]/s3cret", "host"},
        {"http://a..b/s3cret", "host"},
        {"http://.a/s3cret", "host"},
        {"http://256.1.1.1/s3cret", "host"},
        {"http://127.1/s3cret", "host"},
        {"http://a,b/s3cret", "host"},
        {"http://a%20b/s3cret", "host"},
        {"http://${HOST}/s3cret", "host"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *why = NULL;
        bool is_sound = url_is_sound(cases[i].url, &why);

        if (is_sound != (cases[i].why == NULL) || (!is_sound && strstr(why, cases[i].why) == NULL))
            fail_msg("%s: %s", cases[i].url, is_sound ? "sound" : why);
    }
    assert_mistake(BASE PLUGINS ROUTES
                   "alerts: {receivers: [{name: r, url: \"http://host:abc/s3cret\"}]}\n",
                   "5:37: alerts.receivers[1].url: has a port that is not a number from 1 to 65535",
                   "https://alerts.example.org:8443/hook");
    assert_mistake(BASE PLUGINS ROUTES "tracing: {endpoint: \"http://a b:4318\"}\n",
                   "5:21: tracing.endpoint: has blanks or control characters in it",
                   "http://127.0.0.1:4318");
    assert_mistake(
        BASE PLUGINS ROUTES "store: {backend: redis, redis: {address: \"a b:6379\"}}\n",
        "5:42: store.redis.address: 'a b:6379' is not a host with a port from 1 to 65535", NULL);
    assert_mistake(
        BASE PLUGINS ROUTES "store: {backend: redis, redis: {address: \"::1:6379\"}}\n",
        "5:42: store.redis.address: '::1:6379' is not a host with a port from 1 to 65535", NULL);
    load_well(BASE PLUGINS ROUTES "store: {backend: redis, redis: {address: \"[::1]:6379\"}}\n");
    assert_string_equal(cfg->store.redis.host, "::1");
}

static void a_collector_gets_a_path_and_no_password(void **state)
{
    (void)state;
    load_well(BASE PLUGINS ROUTES
              "tracing: {endpoint: \"https://c:4318\", sample: 25%, headers: {A: b}}\n");
    assert_string_equal(cfg->tracing.endpoint, "https://c:4318/v1/traces");
    assert_true(cfg->tracing.sample == UINT64_C(1) << 61);
    assert_int_equal(cfg->tracing.n_headers, 1);
    assert_string_equal(cfg->tracing.header[0].value, "b");
    load_well(BASE PLUGINS ROUTES "tracing: {endpoint: \"http://c/otlp\"}\n");
    assert_string_equal(cfg->tracing.endpoint, "http://c/otlp");
    assert_true(cfg->tracing.sample == UINT64_C(1) << 63);
    load_well(BASE PLUGINS ROUTES);
    assert_null(cfg->tracing.endpoint);
    config_destroy(&cfg);
    assert_mistake(BASE PLUGINS ROUTES "tracing: {endpoint: \"c:4318\"}\n",
                   "5:21: tracing.endpoint: expected http:// or https:// and a host",
                   "http://127.0.0.1:4318");
    assert_mistake(
        BASE PLUGINS ROUTES "tracing: {endpoint: \"http://u:s3cret@c\"}\n",
        "5:21: tracing.endpoint: has a user in it; put what the other end asks for into a header",
        NULL);
    assert_mistake(BASE PLUGINS ROUTES "tracing: {sample: 0.5}\n",
                   "5:19: tracing.sample: expected 0% to 100%, not '0.5'", "5%, or 0.1%");
    assert_mistake(BASE PLUGINS ROUTES "tracing: {headers: {\"a b\": c}}\n",
                   "5:21: tracing.headers: 'a b' is no name of a header field", NULL);
    assert_mistake(BASE PLUGINS ROUTES "tracing: {headers: {a: \"b\\r\\nc: d\"}}\n",
                   "5:24: tracing.headers: a: expected a text of one line", NULL);
}

#define RULE(REST) BASE PLUGINS ROUTES "alerts: {rules: [{name: r, metric: m" REST "}]}\n"

static void rules_of_alerts_are_judged(void **state)
{
    (void)state;
    load_well(
        BASE PLUGINS ROUTES
        "alerts:\n"
        "  rules:\n"
        "    - {name: a, metric: m_total, when: \">= -1.5e3\", for: 2m, over: 5m, match: {plugin: x}, "
        "labels: {severity: page}, annotations: {summary: s}}\n"
        "    - {name: b, metric: m, when: \"!= 1\", receivers: [w]}\n"
        "  receivers:\n"
        "    - {name: am, type: alertmanager, url: \"http://h:9093\", headers: {X-A: b}}\n"
        "    - {name: w, type: wecom, url: \"https://h/send?key=k\", resolved: off}\n");
    assert_int_equal(cfg->alerts.n_rules, 2);
    assert_int_equal(cfg->alerts.rule[0].compare, CONFIG_AT_LEAST);
    assert_true(cfg->alerts.rule[0].threshold < -1499 && cfg->alerts.rule[0].threshold > -1501);
    assert_int_equal(cfg->alerts.rule[0].for_ms, 120000);
    assert_int_equal(cfg->alerts.rule[0].over_ms, 300000);
    assert_string_equal(cfg->alerts.rule[0].match[0].value, "x");
    assert_int_equal(cfg->alerts.rule[0].receivers, 3);
    assert_int_equal(cfg->alerts.rule[1].receivers, 2);
    assert_int_equal(cfg->alerts.rule[1].compare, CONFIG_NOT_EQUAL);
    assert_string_equal(cfg->alerts.receiver[0].url, "http://h:9093/api/v2/alerts");
    assert_string_equal(cfg->alerts.receiver[1].url, "https://h/send?key=k");
    assert_true(cfg->alerts.receiver[1].is_quiet);
    config_destroy(&cfg);
    assert_mistake(
        RULE(", when: 50"),
        "5:45: alerts.rules[1].when: expected >, >=, <, <=, == or != and a number, not '50'",
        "quotes");
    assert_mistake(
        RULE(", when: \"> x\""),
        "5:45: alerts.rules[1].when: expected >, >=, <, <=, == or != and a number, not '> x'",
        NULL);
    assert_mistake(RULE(", when: \"> 1\", receivers: [who]"),
                   "5:64: alerts.rules: there is no receiver 'who'", "alerts.receivers");
    assert_mistake(RULE(", when: \"> 1\", labels: {alertname: x}"),
                   "5:61: alerts.rules: labels: 'alertname' cannot be the name of a label", NULL);
    assert_mistake(BASE PLUGINS ROUTES
                   "alerts: {rules: [{name: r, metric: \"m{a}\", when: \"> 1\"}]}\n",
                   "5:36: alerts.rules[1].metric: 'm{a}' is no name of a metric", "match");
    assert_mistake(BASE PLUGINS ROUTES
                   "alerts: {receivers: [{name: r, url: \"ftp://h/s3cret\"}]}\n",
                   "5:37: alerts.receivers[1].url: expected http:// or https:// and a host", NULL);
}

static void every_key_has_help_and_a_form(void **state)
{
    (void)state;
    table_is_sound(config_keys);
}

static void as_many_routes_as_there_may_be_fit_into_a_file(void **state)
{
    enum { ROUTES_MAX = 4096 };
    char *text = malloc(ROUTES_MAX * 64 + 1024);
    size_t n = (size_t)sprintf(text, BASE PLUGINS "routes:\n");

    (void)state;
    for (int i = 0; i < ROUTES_MAX; i++)
        n += (size_t)sprintf(text + n, "- {match: {path: /r%d, methods: [GET]}, chain: [p]}\n", i);
    load_well(text);
    assert_int_equal(cfg->n_routes, ROUTES_MAX);
    free(text);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(defaults_fill_what_is_not_given),
        TEST(every_key_is_taken_over),
        TEST(as_many_routes_as_there_may_be_fit_into_a_file),
        TEST(deadlines_are_given_by_hook),
        TEST(every_call_has_a_key_for_its_deadline),
        TEST(relative_paths_start_at_the_config),
        TEST(chains_are_flattened_in_order),
        TEST(values_come_from_the_environment),
        TEST(mistakes_have_a_place_and_a_hint),
        TEST(keys_of_later_versions_are_refused_by_name),
        TEST(the_admin_interface_stays_on_this_machine_unless_told_otherwise),
        TEST(trusted_proxies_are_networks_addresses_and_unix),
        TEST(a_proxy_header_of_anybody_is_refused),
        TEST(a_plugins_breaker_overrules_single_keys),
        TEST(the_heap_for_all_is_that_of_plugins_that_say_nothing),
        TEST(a_limit_of_memory_on_the_shared_heap_is_a_mistake),
        TEST(addresses_are_numeric),
        TEST(listeners_do_not_collide),
        TEST(paths_have_two_stars_at_the_end_only),
        TEST(one_star_may_stand_anywhere),
        TEST(hosts_are_names_addresses_or_all_below_a_name),
        TEST(conditions_of_a_route_are_judged),
        TEST(methods_are_upper_case_tokens),
        TEST(methods_that_must_not_run_twice_are_refused),
        TEST(too_long_chains_are_refused),
        TEST(exponential_chains_cost_nothing),
        TEST(all_mistakes_come_in_one_run_in_order),
        TEST(empty_sections_are_as_good_as_absent),
        TEST(missing_file_and_directory_say_so),
        TEST(a_url_that_cannot_be_asked_is_a_mistake),
        TEST(a_collector_gets_a_path_and_no_password),
        TEST(rules_of_alerts_are_judged),
        TEST(every_key_has_help_and_a_form),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
