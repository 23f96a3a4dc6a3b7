/*
 * plan.h - how another version of a plugin is rolled out: `rollout:` of a plugin, or what
 * `bulkhead rollout start` asks for.
 */
#ifndef CONF_PLAN_H
#define CONF_PLAN_H

#include <stdbool.h>
#include <stdint.h>

struct arena;
struct diag;
struct schema_reader;
struct yaml_node;

#define PLAN_STEPS 16

/* What makes a request one of the candidate's: always the same for the same key. */
enum plan_key {
    PLAN_KEY_CLIENT, /* the client's address */
    PLAN_KEY_HEADER,
    PLAN_KEY_COOKIE,
    PLAN_KEY_REQUEST, /* nothing: each request for itself */
};

struct plan_step {
    struct {
        int line, column;
    } pos;
    uint32_t shadow, canary; /* parts of ROLLOUT_ALL; one of them is 0 */
    uint32_t for_ms;         /* at least so long ... */
    uint32_t samples;        /* ... and so many requests in the candidate, before the next */
};

struct plan_gate { /* on a metric of the plugin's own; metric NULL: there is none */
    const char *metric;
    uint32_t improves_by; /* parts of ROLLOUT_ALL; promoted only if it does */
    uint32_t worsens_by;  /* rolled back if it does; 0: not for that */
    uint32_t lower_is_better;
};

struct plan {
    bool is_on; /* it is there at all */
    enum plan_key key;
    const char *key_name; /* of the header, or the cookie */
    struct plan_step *step;
    int n_steps;
    struct plan_gate gate;
    uint32_t has_errors, has_latency; /* gates: share of errors, share of slow requests */
    uint32_t samples;                 /* in the candidate, before these two say anything */
    uint32_t is_manual;               /* steps are taken by hand */
};

/* What needs more than one key to judge. node: the mapping; path: "plugins.x.rollout". */
void plan_settle(struct schema_reader *r, struct plan *plan, const struct yaml_node *node,
                 const char *path);

/* From text (YAML, so JSON as well); NULL or "": all as usual. name stands for the file in diag. All in
 * arena. 0, or -errno and diag. */
int plan_parse(const char *text, const char *name, struct arena *arena, struct diag *diag,
               struct plan *out);

/* Into another arena. 0 or -ENOMEM. */
int plan_copy(const struct plan *from, struct arena *arena, struct plan *out);

/* "5%", "0.1%" */
void plan_print_parts(uint32_t parts, char *buf, unsigned size);

#endif
