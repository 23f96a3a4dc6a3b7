/*
 * config.h - the configuration of a server: a YAML file, checked, immutable.
 *
 * config_load() reports every mistake of the file, not only the first. What a newcomer would get
 * wrong: plugin options (`config:` of a plugin) are only kept here as YAML nodes, since checking
 * them needs the plugin's own declaration; see plugin/options.h and plugin/setup.h.
 */
#ifndef CONF_CONFIG_H
#define CONF_CONFIG_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "conf/plan.h"
#include "plugin/hook.h"

struct address_net;
struct arena;
struct diag;
struct yaml_node;

#define CONFIG_MAX_PLUGINS 256 /* instances */
#define CONFIG_MAX_WORKERS 256
#define CONFIG_MAX_CHAIN   64 /* plugins in one route's chain */

#define CONFIG_RECORD_BODY_MAX (64 << 10) /* SHM_BODY_COPY */

struct config_pos { /* where in the file */
    int line, column;
};

enum config_proxy_protocol { CONFIG_PROXY_OFF, CONFIG_PROXY_ANY, CONFIG_PROXY_V1, CONFIG_PROXY_V2 };
enum config_forwarded { CONFIG_X_FORWARDED_FOR, CONFIG_FORWARDED, CONFIG_FORWARDED_OFF };

struct config_file {
    const char *path; /* absolute; NULL: none */
    struct config_pos pos;
};

struct config_certificate {
    struct config_pos pos;
    struct config_file cert, key; /* chain and private key, PEM */
    const struct yaml_node *name_list;
    const char **names; /* in lower case; none: those in the certificate */
    int n_names;
};

enum config_client_auth { CONFIG_CLIENT_NONE, CONFIG_CLIENT_OPTIONAL, CONFIG_CLIENT_REQUIRED };

struct config_tls { /* of a listener */
    bool is_on;
    struct config_pos pos;
    struct config_certificate first;        /* as it is written beside the others */
    struct config_certificate *certificate; /* all, and the first is for those whom no name fits */
    int n_certificates;
    struct config_file client_ca;
    enum config_client_auth client_auth;
    uint32_t min_version; /* 0: TLS 1.2, 1: TLS 1.3 */
    const char *priority; /* in GnuTLS's words; NULL: ours */
    struct config_pos priority_pos;
    bool no_tickets;
    struct {
        uint64_t max_age_ms; /* 0: no such header */
        bool subdomains, preload;
    } hsts;
};

struct config_listener {
    const char *name;
    const char *address; /* as written */
    struct config_pos pos;
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } addr;
    socklen_t addr_len;
    mode_t mode;               /* of a Unix socket, as are these: */
    const char *owner, *group; /* names or numbers; NULL: as it comes */
    bool is_dual_stack;        /* [::] takes IPv4 connections as well */
    struct config_tls tls;
    enum config_proxy_protocol proxy_protocol;
};

enum config_on_error {
    CONFIG_FAIL_CLOSED, /* the request fails: on_error, else 500 */
    CONFIG_FAIL_OPEN,   /* the plugin is skipped for this request */
};

/* When a plugin that crashes again and again is not called any more. */
struct config_breaker {
    uint32_t crashes; /* within window_ms: it opens; 0: never */
    uint32_t window_ms;
    uint32_t open_ms; /* the first time; up to ten times as long, when trials fail */
    uint32_t trials;  /* requests that have to end well before it closes */
};

/* Where what it allocates comes from. */
enum config_heap {
    CONFIG_HEAP_PRIVATE, /* a heap of its instance, which goes after a crash */
    CONFIG_HEAP_SHARED,  /* libc's, as for the server itself */
};

enum config_store_backend { CONFIG_STORE_MEMORY, CONFIG_STORE_LMDB, CONFIG_STORE_REDIS };

/* What plugins are told while Redis cannot be had. */
enum config_when_down {
    CONFIG_DOWN_LOCAL, /* the memory store answers */
    CONFIG_DOWN_ERROR,
};

#define CONFIG_STORE_NAME 64 /* of a namespace, with its NUL */

struct destination;

struct config_plugin {
    const char *name;   /* of the instance */
    const char *module; /* NAME, or a path of an object when it contains '/' */
    struct config_pos pos, module_pos;
    enum config_on_error on_error;
    uint32_t deadline_ms[HOOK_N];   /* of one call, by hook; 0: none */
    uint32_t threads;               /* of its own, alive at a time, in one worker */
    uint32_t descriptors;           /* open at a time, in one worker */
    uint32_t outbound;              /* requests to other servers at a time, in one worker */
    const struct destination *http; /* where those may go; NULL: no rules (base/destination.h) */
    const struct yaml_node *http_allow; /* as it stands in the file */
    uint64_t memory;                    /* of its heap, in one worker, bytes; 0: no limit */
    enum config_heap heap;
    int log_level; /* BH_LOG_*; 0: as logs.error.level */
    struct config_breaker breaker;
    struct {
        const char *ns; /* namespace in the store; its own name when it says nothing */
        struct config_pos ns_pos;
        uint64_t quota; /* bytes; store.quota when it says nothing */
    } store;
    const struct yaml_node *options; /* the `config:` mapping, or NULL */
    struct plan plan;                /* `rollout:`, how changes of it are to be rolled out */
    const char *options_from;        /* where those stood, if not in the file; NULL */
    const char *object;       /* whose bytes are loaded in place of the module's; NULL: those */
    const char *candidate_of; /* name of the plugin whose next version it may be; NULL: none */
    bool is_removed;          /* a reload has taken it out: this is only its place (conf/align.h) */
};

/* What a header field or a query parameter must be for a route to match. */
struct config_condition {
    const char *name;
    const char *value; /* NULL: any, as long as it is there */
};

struct config_route {
    struct config_pos pos;
    const char *name; /* "route 1", or its own */
    uint32_t number;  /* what counters know it by, from 1; kept over reloads (conf/align.h) */
    const char *host; /* lower case, without port, or ".example.org" for all below it; NULL: any */
    size_t host_len;
    uint16_t port;    /* 0: any */
    const char *path; /* exact, or with is_prefix what stood before the two stars ("/api/") */
    size_t path_len;
    bool is_prefix; /* a pattern that ended in two stars: "/api/" matches "/api/x" and "/api" */
    bool has_stars; /* single ones: each stands for some of one segment */
    bool is_any_method;
    const char **methods; /* NULL: the standard ones */
    int n_methods;
    const struct config_condition *header, *query;
    int n_headers, n_queries;
    uint64_t body;    /* bytes of a request's; 0: limits.body */
    const int *chain; /* indices into plugin[], in order; chains flattened */
    int n_chain;
};

struct config_admin {
    bool is_on;
    struct config_pos pos;
    struct config_listener listener;          /* its address, mode, owner and group */
    const char *token_file, *read_token_file; /* absolute; NULL: none */
    const char **host;                        /* names by which it may be asked */
    int n_hosts;
    bool allows_plaintext;   /* on an address that others can reach */
    bool has_open_metrics;   /* /metrics asks for no token */
    uint32_t unready_routes; /* percent out of order that make /readyz say no; 0: any number */
    uint32_t session_ms;     /* of a browser, from its login */
};

enum config_log_format { CONFIG_LOG_TEXT, CONFIG_LOG_JSON, CONFIG_LOG_AUTO };

struct config_pair {
    const char *name, *value;
};

enum config_trace_parent { CONFIG_PARENT_FOLLOW, CONFIG_PARENT_TRUSTED, CONFIG_PARENT_IGNORE };

struct config_tracing {
    const char *endpoint;            /* with its path; NULL: no traces */
    uint64_t sample;                 /* of 2^63, as many traces are recorded that begin here */
    enum config_trace_parent parent; /* whose traces go on here */
    const char *service;
    const char *ca; /* absolute; NULL: the system's */
    bool is_plain;  /* not compressed */
    uint32_t timeout_ms, interval_ms;
    uint64_t queue; /* bytes that wait to be sent, at most */
    struct config_pair *header,
        *resource; /* of requests to the endpoint: secrets; of the service */
    int n_headers, n_resources;
};

#define CONFIG_MAX_RULES     64
#define CONFIG_MAX_RECEIVERS 16

enum config_compare {
    CONFIG_ABOVE,
    CONFIG_AT_LEAST,
    CONFIG_BELOW,
    CONFIG_AT_MOST,
    CONFIG_EQUAL,
    CONFIG_NOT_EQUAL
};

struct config_rule { /* of an alert */
    struct config_pos pos;
    const char *name;
    const char *metric; /* as `/metrics` names it, or NAME_p95 of a histogram NAME */
    const char *when;   /* as written, for people */
    enum config_compare compare;
    double threshold;
    uint32_t for_ms;  /* it has to hold for so long */
    uint32_t over_ms; /* counters: by how much they grew in that time; 0: what they are */
    struct config_pair *match, *label, *annotation; /* match: labels that the metric must have */
    int n_matches, n_labels, n_annotations;
    uint32_t receivers; /* bits: indices into receiver[] */
    const struct yaml_node *receiver_list, *match_map, *label_map, *annotation_map;
};

enum config_receiver_type { CONFIG_WEBHOOK, CONFIG_ALERTMANAGER, CONFIG_WECOM };

struct config_receiver {
    struct config_pos pos;
    const char *name;
    enum config_receiver_type type;
    const char *url; /* a secret: it may hold a key */
    const char *ca;
    bool is_quiet; /* not told of what is over */
    struct config_pair *header;
    int n_headers;
    const struct yaml_node *header_map;
};

struct config_alerts {
    struct config_rule *rule;
    int n_rules;
    struct config_receiver *receiver;
    int n_receivers;
    uint32_t repeat_ms; /* what goes on is told again after so long */
};

struct config {
    const char *path; /* of the file, as given */
    const char *dir;  /* absolute; relative paths are meant from here */

    int n_workers;    /* auto resolved */
    const char *user; /* NULL: stay */

    struct address_net *trusted; /* proxies that may say for whom they ask */
    int n_trusted;
    bool trusts_unix;                /* and peers of Unix sockets */
    enum config_forwarded forwarded; /* the header by which they say it */
    bool strips_forwarded;           /* such headers of others are taken out */

    struct config_listener *listener;
    int n_listeners;

    struct {
        uint32_t connections; /* per worker */
        uint32_t per_ip;      /* connections of one address, over all workers; 0: any number */
        uint32_t ipv6_prefix; /* bits that make one address */
        uint32_t head;        /* bytes: request line and headers */
        uint32_t uri;         /* bytes */
        uint32_t headers;     /* their number */
        uint64_t body;        /* bytes */
        uint32_t body_rate, send_rate; /* bytes per second at least, over body_ms and send_ms */
        uint32_t head_ms, body_ms, send_ms;
        uint32_t idle_ms, request_ms, drain_ms;
    } limits;

    const char **module_path; /* absolute directories, in order; the built-in one last */
    int n_module_paths;

    struct config_plugin *plugin; /* after a reload with places of removed ones */
    int n_plugins;

    struct config_route *route;
    int n_routes;
    uint32_t last_route; /* the highest number given so far */

    struct {
        const char *path; /* absolute; "-": stderr */
        int level;        /* BH_LOG_* */
        enum config_log_format format;
        uint32_t repeats; /* of equal lines within ten seconds, those that are written; 0: all */
    } log;

    struct {
        const char *dir;      /* absolute */
        uint32_t keep;        /* records; older ones are removed */
        uint64_t record_body; /* bytes of a request's body that go along; 0: none */
    } crash;

    struct {
        uint32_t restarts;  /* of one worker at once ... */
        uint32_t window_ms; /* ... within this time; after that with a growing delay */
    } respawn;

    struct {
        uint64_t memory; /* of a worker, bytes; 0: no limit */
    } recycle;

    struct {
        uint32_t standby;    /* workers that are loaded and wait: 0 or 1 */
        const char **replay; /* methods of requests that another worker may run again */
        int n_replay;
    } escrow;

    struct {
        const char *socket; /* absolute; "off"; NULL: at the usual place (ipc/control.h) */
    } control;

    struct config_admin admin;

    struct {
        bool watch; /* the file, and the objects of plugins */
    } reload;

    struct config_tracing tracing;
    struct config_alerts alerts;

    struct config_breaker breaker; /* for plugins that say nothing else */
    enum config_heap heap;         /* as well */

    struct { /* state that plugins share: store/store.h */
        enum config_store_backend backend;
        uint64_t size;    /* bytes, of the memory segment */
        uint64_t quota;   /* bytes, of a namespace */
        const char *path; /* absolute; of LMDB's file */
        uint32_t sync_ms; /* 0: the kernel decides */
        struct {
            const char *host, *port; /* NULL: a Unix socket */
            const char *path;        /* of that; absolute */
            const char *user, *password, *prefix;
            uint32_t database, timeout_ms;
            enum config_when_down when_down;
            bool tls;
            const char *ca, *name; /* NULL: the system's; as host */
        } redis;
    } store;

    struct {             /* a rollout that is under way (conf/overlay.h): not from the file */
        uint32_t number; /* 0: there is none */
        uint64_t salt[2];
        enum plan_key key;
        const char *key_name;
        int stable, candidate; /* places in plugin[] */
    } rollout;

    struct {
        const char *dir; /* absolute: what outlives the server */
    } state;

    struct arena *arena; /* owns all of the above */
    const struct yaml_node *root;
};

/* 0 and a config in *out (free with config_destroy), or -errno with every mistake in diag.
 * Reads the file and the environment; no other I/O. Bounded: files up to 1 MiB, nesting up to 32,
 * 50,000 nodes (aliases count each time). */
int config_load(const char *path, struct diag *diag, struct config **out);
void config_destroy(struct config **cfgp);

/* The name of the route with that number; NULL: there is none. */
const char *config_route_name(const struct config *cfg, uint32_t number);
/* The plugin's own name, for its candidate as well. */
static inline const char *config_plugin_name(const struct config_plugin *p)
{
    return p->candidate_of != NULL ? p->candidate_of : p->name;
}

/* Do they match the same requests? */
bool config_route_is_same(const struct config_route *a, const struct config_route *b);

/* The folders that end every module_path: those of the installation and of a build tree, whether
 * they exist or not. Their number; strings in arena. */
#define CONFIG_MAX_DEFAULT_DIRS 3
int config_default_module_dirs(struct arena *arena, const char *dirs[CONFIG_MAX_DEFAULT_DIRS]);

/* The path of the file itself, absolute. */
void config_file_path(const struct config *cfg, char *buf, size_t size);

/* A path of the config, absolute: joined to cfg->dir when relative. In the config's arena. */
const char *config_path(const struct config *cfg, const char *path);

#endif
