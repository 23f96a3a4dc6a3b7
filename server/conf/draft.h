/*
 * draft.h - a config while it is being checked; only for the files of conf/.
 *
 * The table of keys fills a draft; what needs more than one key to judge (names that refer to each
 * other, duplicates) is settled after that, into the struct config that the draft begins with.
 */
#ifndef CONF_DRAFT_H
#define CONF_DRAFT_H

#include "conf/config.h"
#include "conf/schema.h"

struct draft_chain {
    struct config_pos pos;
    const char *name;
    const struct yaml_node *list; /* names of plugins and chains */
    enum { CHAIN_NEW, CHAIN_OPEN, CHAIN_DONE } state;
    int plugin[CONFIG_MAX_CHAIN]; /* flattened, when CHAIN_DONE */
    int n;
};

struct draft_route {
    struct config_route route;
    const struct yaml_node *methods, *headers, *query, *list;
};

struct draft {
    struct config cfg; /* first: the caller gets a pointer to it */
    int version;       /* checked, and then of no use: there is only one */
    const struct yaml_node *module_dirs, *replay, *trusted, *admin_hosts;
    const struct yaml_node *trace_headers, *trace_resource;
    struct draft_chain *chain;
    int n_chains;
    struct draft_route *route;
    int n_routes;
};

/* The keys of a plugin's `rollout:`. plan.c */
extern const struct schema plan_keys[];

/* Readers of single keys (schema.read). */
int listener_read_address(struct schema_reader *r, const struct yaml_node *node, const char *path,
                          void *listener);
int listener_read_mode(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       void *listener);
int tls_read_cert(struct schema_reader *r, const struct yaml_node *node, const char *path,
                  void *listener);
int tls_read_key(struct schema_reader *r, const struct yaml_node *node, const char *path,
                 void *listener);
int tls_read_more_cert(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       void *certificate);
int tls_read_more_key(struct schema_reader *r, const struct yaml_node *node, const char *path,
                      void *certificate);
int tls_read_client_ca(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       void *listener);
int tls_read_priority(struct schema_reader *r, const struct yaml_node *node, const char *path,
                      void *listener);
int tls_read_hsts(struct schema_reader *r, const struct yaml_node *node, const char *path,
                  void *listener);
int route_read_path(struct schema_reader *r, const struct yaml_node *node, const char *path,
                    void *route);
int route_read_host(struct schema_reader *r, const struct yaml_node *node, const char *path,
                    void *route);

int tracing_read_endpoint(struct schema_reader *r, const struct yaml_node *node, const char *path,
                          void *draft);
int tracing_read_sample(struct schema_reader *r, const struct yaml_node *node, const char *path,
                        void *draft);
int alert_read_when(struct schema_reader *r, const struct yaml_node *node, const char *path,
                    void *rule);
int alert_read_metric(struct schema_reader *r, const struct yaml_node *node, const char *path,
                      void *rule);
int alert_read_url(struct schema_reader *r, const struct yaml_node *node, const char *path,
                   void *receiver);
/* Names that refer to each other, mappings. 0 or -ENOMEM. */
int alerts_settle(struct schema_reader *r, struct draft *d);
/* Headers, attributes. 0 or -ENOMEM. */
int tracing_settle(struct schema_reader *r, struct draft *d);
/* An http:// or https:// URL with a host, and without a user in it; else false, and why. url.c */
bool url_is_sound(const char *url, const char **why);
/* A name, an IPv4 address, or an IPv6 address with or without brackets. */
bool host_is_sound(const char *host, size_t n);
bool port_is_sound(const char *port, size_t n); /* 1 to 65535 */
/* A mapping of texts, each on one line; names are tokens of HTTP where `are_headers`. 0 or -ENOMEM. */
int pairs_read(struct schema_reader *r, const struct yaml_node *map, const char *path,
               bool are_headers, struct config_pair **out, int *n);

int admin_read_listen(struct schema_reader *r, const struct yaml_node *node, const char *path,
                      void *draft);
int admin_read_mode(struct schema_reader *r, const struct yaml_node *node, const char *path,
                    void *draft);

/* The path of a Unix socket, absolute, in its address. */
void listener_settle_unix(struct schema_reader *r, const struct config *cfg,
                          struct config_listener *l, const char *where);
/* `admin:` as a whole: what must go together, paths. 0 or -ENOMEM. */
int admin_settle(struct schema_reader *r, struct draft *d);
/* server.trusted_proxies, and whether listeners with proxy_protocol can do with it. 0 or -ENOMEM. */
int proxies_settle(struct schema_reader *r, struct draft *d);
int store_read_address(struct schema_reader *r, const struct yaml_node *node, const char *path,
                       void *config);
/* Where plugins may send requests: `plugins.NAME.http`. 0 or -ENOMEM. */
int destinations_settle(struct schema_reader *r, struct draft *d);
/* Namespaces and quotas of plugins; paths. 0 or -ENOMEM. */
int store_settle(struct schema_reader *r, struct draft *d);
/* Names, duplicates, sockets' paths. Mistakes are counted in r->n_bad. */
void listeners_settle(struct schema_reader *r, struct draft *d);
/* One listener's `tls:`, which may be absent. node: the listener's mapping. */
void tls_settle(struct schema_reader *r, struct config *cfg, struct config_listener *l,
                const struct yaml_node *node);
/* Chains flattened, routes made. */
void chains_settle(struct schema_reader *r, struct draft *d);
/* The match of route i: methods, conditions, whether it can match at all. routes.c */
void route_settle_match(struct schema_reader *r, struct draft *d, int i, const char *where);

/* A list of methods, checked: tokens in upper case, each once. NULL, 0 for none. */
void methods_read(struct schema_reader *r, const struct yaml_node *list, const char *where,
                  const char ***methods, int *n);

#endif
