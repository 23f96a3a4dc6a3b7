#include "master/status.h"

#include <jansson.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "ipc/shm.h"
#include "master/internal.h"
#include "obs/timestamp.h"
#include "store/memory.h"

#ifndef BULKHEAD_VERSION
#define BULKHEAD_VERSION "0"
#endif

void history_init(struct history *h)
{
    memset(h, 0, sizeof *h);
    h->started_ms = clock_mono_ms();
    h->started_real_ns = clock_real_ns();
}

void history_add(struct master *m, const struct child *c, pid_t pid, const char *why)
{
    struct history *h = &m->history;
    struct shm_worker *w = &m->shm->worker[c->index];
    char where[192] = "";
    int i = (int)(h->n_ended++ % HISTORY_ENDS);

    if (atomic_load(&w->call.plugin) != 0)
        death_where(m, c->index, where, sizeof where);
    h->end[i].time_ns = clock_real_ns();
    h->end[i].slot = c->index;
    h->end[i].pid = pid;
    snprintf(h->end[i].why, sizeof h->end[i].why, "%s%s%s", why, where[0] != '\0' ? " " : "",
             where);
    h->n_requests += atomic_exchange(&w->requests, 0);
}

/* What is not UTF-8 (a path, the label of a request) must not cost the whole answer. */
static json_t *text_json(const char *text)
{
    char clean[256];
    json_t *json;

    if (text == NULL)
        return json_null();
    json = json_string(text);
    if (json != NULL)
        return json;
    text_printable(clean, sizeof clean, text);
    return json_string(clean);
}

static json_t *time_json(int64_t real_ns)
{
    char text[TIMESTAMP_SIZE];

    timestamp_format(real_ns, text);
    return json_string(text);
}

/* ---- workers ---- */

/* Memory of its own, in KiB; -1: it is gone, or there is no /proc. */
static long own_memory_kib(pid_t pid)
{
    unsigned long size, resident, shared;
    long kib = -1;
    char path[64];
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    f = fopen(path, "re");
    if (f == NULL)
        return -1;
    if (fscanf(f, "%lu %lu %lu", &size, &resident, &shared) == 3 && resident >= shared)
        kib = (long)(resident - shared) * (sysconf(_SC_PAGESIZE) / 1024);
    fclose(f);
    return kib;
}

static json_t *worker_json(const struct master *m, const struct child *c, int64_t now_ms)
{
    const struct shm_worker *w = &m->shm->worker[c->index];
    const char *state = c->state == CHILD_STARTING ? "starting" : duty_name(c->duty);
    bool is_in_plugin = atomic_load(&w->call.plugin) != 0;
    json_t *json = json_pack("{s:i, s:i, s:s, s:I, s:I, s:I}", "slot", c->index, "pid", (int)c->pid,
                             "state", state, "uptime_s",
                             (json_int_t)((now_ms - c->started_ms) / 1000), "requests",
                             (json_int_t)atomic_load(&w->requests), "connections",
                             (json_int_t)atomic_load(&w->connections));
    long kib = own_memory_kib(c->pid);
    char where[512];

    json_object_set_new(json, "memory_kib", kib >= 0 ? json_integer(kib) : json_null());
    if (is_in_plugin)
        death_where(m, c->index, where, sizeof where);
    json_object_set_new(json, "in", is_in_plugin ? text_json(where) : json_null());
    json_object_set_new(json, "generation", json_integer((json_int_t)c->gen->number));
    return json;
}

static json_t *workers_json(const struct master *m, int64_t now_ms)
{
    json_t *list = json_array();

    for (int i = 0; i < m->n_slots; i++)
        if (child_is_alive(&m->worker[i]))
            json_array_append_new(list, worker_json(m, &m->worker[i], now_ms));
    return list;
}

static json_t *ends_json(const struct history *h)
{
    json_t *list = json_array();

    for (uint64_t k = h->n_ended; k > 0 && h->n_ended - k < HISTORY_ENDS; k--) {
        int i = (int)((k - 1) % HISTORY_ENDS);

        json_array_append_new(list,
                              json_pack("{s:o, s:i, s:i, s:o}", "time",
                                        time_json(h->end[i].time_ns), "slot", h->end[i].slot, "pid",
                                        (int)h->end[i].pid, "why", text_json(h->end[i].why)));
    }
    return list;
}

/* ---- plugins ---- */

static json_t *breaker_json(const struct breaker *b, const struct breaker_limits *limits,
                            int64_t now_ms)
{
    struct breaker_view view;

    breaker_look(b, limits, now_ms, &view);
    return json_pack(
        "{s:s, s:b, s:I, s:i, s:i, s:i, s:I, s:I}", "state", breaker_state_name(view.state), "held",
        view.is_held, "left_ms", (json_int_t)view.left_ms, "recent_crashes", (int)view.n_crashes,
        "trials_begun", (int)view.n_given, "trials_passed", (int)view.n_passed, "opened",
        (json_int_t)atomic_load(&b->n_opened), "refused", (json_int_t)atomic_load(&b->n_refused));
}

static json_t *blocked_json(const struct master *m, const struct quarantine *q,
                            const struct breaker_limits *limits, int64_t now_ms)
{
    json_t *list = json_array();

    for (int i = 0; i < QUARANTINE_BLOCKS; i++) {
        const struct quarantine_block *b = &q->block[i];
        const char *route = config_route_name(m->cfg, quarantine_route_of(b));
        json_t *json;

        if (route == NULL || breaker_is_closed(&b->breaker))
            continue;
        json = breaker_json(&b->breaker, limits, now_ms);
        json_object_set_new(json, "route", text_json(route));
        json_array_append_new(list, json);
    }
    return list;
}

/* Of all workers that there are. */
static void add_usage(const struct master *m, int i, json_t *json)
{
    uint64_t bytes = 0, descriptors = 0; /* any numbers, if a worker has gone mad */

    for (int k = 0; k < m->n_slots; k++) {
        const struct shm_worker *w = &m->shm->worker[k];

        if (!child_is_alive(&m->worker[k]))
            continue;
        bytes += (uint64_t)atomic_load(&w->memory[i]);
        descriptors += (uint64_t)atomic_load(&w->descriptors[i]);
    }
    json_object_set_new(json, "memory_kib",
                        m->cfg->plugin[i].heap == CONFIG_HEAP_PRIVATE
                            ? json_integer((json_int_t)(bytes / 1024))
                            : json_null());
    json_object_set_new(json, "descriptors", json_integer((json_int_t)descriptors));
}

static json_t *plugin_json(const struct master *m, int i, int64_t now_ms)
{
    const struct config_plugin *p = &m->cfg->plugin[i];
    const struct shm_plugin *s = &m->shm->plugin[i];
    struct breaker_limits limits = {.crashes = p->breaker.crashes,
                                    .window_ms = p->breaker.window_ms,
                                    .open_ms = p->breaker.open_ms,
                                    .trials = p->breaker.trials};
    static const struct {
        const char *name;
        size_t at;
    } counters[] = {
        {"crashes", offsetof(struct shm_plugin, crashes)},
        {"deadlines", offsetof(struct shm_plugin, deadlines)},
        {"failures", offsetof(struct shm_plugin, failures)},
        {"worker_deaths", offsetof(struct shm_plugin, worker_deaths)},
        {"ejections", offsetof(struct shm_plugin, ejections)},
        {"renewals", offsetof(struct shm_plugin, renewals)},
        {"copies", offsetof(struct shm_plugin, copies)},
    };
    json_t *json = json_pack("{s:o, s:i, s:o, s:s, s:o, s:o}", "name", text_json(p->name), "place",
                             i + 1, "module", text_json(p->module), "on_error",
                             p->on_error == CONFIG_FAIL_OPEN ? "fail_open" : "fail_closed",
                             "breaker", breaker_json(&s->quarantine.breaker, &limits, now_ms),
                             "blocked_routes", blocked_json(m, &s->quarantine, &limits, now_ms));

    if (limits.crashes == 0)
        json_object_set_new(json_object_get(json, "breaker"), "state", json_string("off"));
    for (size_t k = 0; k < sizeof counters / sizeof counters[0]; k++) {
        const _Atomic uint64_t *n = (const void *)((const char *)s + counters[k].at);

        json_object_set_new(json, counters[k].name, json_integer((json_int_t)atomic_load(n)));
    }
    add_usage(m, i, json);
    figures_add_calls(m, i, json);
    return json;
}

/* ---- the whole ---- */

__attribute__((format(printf, 2, 3))) static void add_problem(json_t *list, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_array_append_new(list, text_json(text));
}

static const char *member(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text != NULL ? text : "?";
}

static void add_problems_of(json_t *list, const json_t *plugin)
{
    const char *name = member(plugin, "name");
    const char *state = member(json_object_get(plugin, "breaker"), "state");
    const json_t *blocked = json_object_get(plugin, "blocked_routes"), *block;
    size_t i;

    if (strcmp(state, breaker_state_name(BREAKER_OPEN)) == 0 ||
        strcmp(state, breaker_state_name(BREAKER_HALF_OPEN)) == 0)
        add_problem(list, "plugin '%s': its breaker is %s", name, state);
    json_array_foreach(blocked, i, block)
    {
        add_problem(list, "plugin '%s': route '%s' is blocked", name, member(block, "route"));
    }
}

/* The reload that tidies up after a rollout has failed. */
static bool now_is_late(const struct master *m)
{
    return m->reload.state == RELOAD_IDLE && m->reload.has_failed;
}

static void add_stopped(json_t *list, const struct child *c)
{
    char name[32];

    if (!child_is_alive(c) || !c->is_stopped)
        return;
    child_name(c, name, sizeof name);
    add_problem(list, "%s (pid %d) is stopped, by a signal or a debugger", name, (int)c->pid);
}

/* What somebody should look at, in words. */
static json_t *problems_json(const struct master *m, const json_t *plugins)
{
    int n_missing = m->cfg->n_workers - posts_count_ready(m);
    json_t *list = json_array();
    const json_t *plugin;
    size_t i;

    if (m->phase != MASTER_SERVING)
        add_problem(list, "the server is %s", phase_name(m->phase));
    else if (n_missing > 0)
        add_problem(list, "%d of %d workers are missing", n_missing, m->cfg->n_workers);
    if (!child_is_alive(&m->recorder))
        add_problem(list, "the recorder is not running: crash records wait");
    if (m->admin.door.is_open && !child_is_alive(&m->admin_child))
        add_problem(list, "the admin process is not running");
    if (exporter_is_wanted_by(m) && !child_is_alive(&m->exporter))
        add_problem(list, "the exporter is not running: traces wait, and are dropped");
    add_stopped(list, &m->recorder);
    add_stopped(list, &m->admin_child);
    add_stopped(list, &m->exporter);
    for (int w = 0; w < m->n_slots; w++)
        add_stopped(list, &m->worker[w]);
    alerts_add_problems(m, list);
    if (m->reload.state == RELOAD_IDLE && m->reload.has_failed)
        add_problem(list, "the last reload failed: %s", m->reload.why);
    json_array_foreach(plugins, i, plugin)
    {
        add_problems_of(list, plugin);
    }
    for (int k = 0; k < m->overlay.n; k++) {
        const struct overlay_variant *v = &m->overlay.variant[k];

        if (m->overlay.rollout.number == 0 ||
            strcmp(m->overlay.rollout.candidate.plugin, v->plugin) != 0)
            add_problem(list,
                        "plugin '%s': version %s runs, which is not what the config names: name it "
                        "there, or take the file at its word with bulkhead reload --force",
                        v->plugin, v->version);
    }
    if (m->rollout.phase == ROLLOUT_ENDING && now_is_late(m))
        add_problem(list, "plugin '%s': the version that is out cannot be unloaded: %s",
                    m->rollout.stable.plugin, m->reload.why);
    return list;
}

static json_t *path_json(const struct config *cfg)
{
    char path[4352];

    config_file_path(cfg, path, sizeof path);
    return text_json(path);
}

static json_t *limits_json(const struct master *m)
{
    json_t *json = json_object();

    for (int i = 0; i < SHM_LIMITS; i++)
        json_object_set_new(json, shm_limit_name(i),
                            json_integer((json_int_t)atomic_load(&m->shm->limit[i])));
    return json;
}

/* Requests that the wire guard refused, by reason; of the admin interface, or of all workers that were. */
static json_t *refusals_json(const struct master *m, bool of_admin)
{
    json_t *json = json_object();

    for (int r = REFUSAL_NONE + 1; r < REFUSAL_COUNT; r++) {
        uint64_t n = of_admin ? atomic_load(&m->shm->admin->refused[r]) : 0;

        for (int i = 0; i < m->n_slots && !of_admin; i++)
            n += atomic_load(&m->shm->worker[i].refused[r]);
        json_object_set_new(json, refusal_name((enum http_refusal)r), json_integer((json_int_t)n));
    }
    return json;
}

/* Spans, since the server was started. */
static json_t *traces_json(const struct master *m)
{
    const struct shm_traces *t = &m->shm->traces;
    uint64_t dropped = 0;

    if (m->cfg->tracing.endpoint == NULL)
        return json_null();
    for (int i = 0; i < m->n_slots; i++)
        dropped += atomic_load(&m->shm->worker[i].spans.dropped);
    return json_pack("{s:I, s:I, s:I, s:I}", "sent", (json_int_t)atomic_load(&t->sent), "refused",
                     (json_int_t)atomic_load(&t->refused), "lost",
                     (json_int_t)atomic_load(&t->lost), "dropped", (json_int_t)dropped);
}

static json_t *exporter_json(const struct master *m)
{
    if (!exporter_is_wanted_by(m))
        return json_null();
    return json_pack("{s:b, s:i}", "running", child_is_alive(&m->exporter), "pid",
                     (int)m->exporter.pid);
}

static json_t *admin_json(const struct master *m)
{
    char address[192];

    if (!m->admin.door.is_open)
        return json_null();
    admin_describe(m, address, sizeof address);
    return json_pack("{s:b, s:i, s:o, s:o}", "running", child_is_alive(&m->admin_child), "pid",
                     (int)m->admin_child.pid, "address", text_json(address), "refusals",
                     refusals_json(m, true));
}

static json_int_t count_requests(const struct master *m)
{
    uint64_t n = m->history.n_requests;

    for (int i = 0; i < m->n_slots; i++)
        n += atomic_load(&m->shm->worker[i].requests);
    return (json_int_t)n;
}

/* How the last one went. */
static json_t *reload_json(const struct master *m)
{
    const struct reload *r = &m->reload;

    if (r->state != RELOAD_IDLE)
        return json_pack("{s:s}", "state", "running");
    if (r->result_ns == 0)
        return json_null();
    return json_pack("{s:s, s:o, s:o}", "state", r->has_failed ? "failed" : "done", "time",
                     time_json(r->result_ns), "why",
                     r->has_failed ? text_json(r->why) : json_null());
}

/* The memory store's. */
static json_t *store_json(const struct master *m)
{
    struct store_memory_stat s;

    store_memory_stat(m->store, &s);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "size", (json_int_t)s.size, "used",
                     (json_int_t)s.used, "entries", (json_int_t)s.entries, "expired",
                     (json_int_t)s.expired, "refused", (json_int_t)s.refused, "repaired",
                     (json_int_t)s.repaired);
}

/* How the rollout goes; which plugins run otherwise than the config says; what is in quarantine. */
static void add_rollout(const struct master *m, json_t *json)
{
    json_t *variants = json_array(), *bans = json_array();
    char *text = rollout_status(m);

    json_object_set_new(json, "rollout",
                        text != NULL ? json_loads(text, JSON_DECODE_ANY, NULL) : json_null());
    free(text);
    for (int i = 0; i < m->overlay.n; i++) {
        const struct overlay_variant *v = &m->overlay.variant[i];

        json_array_append_new(
            variants, json_pack("{s:o, s:o, s:s, s:s}", "plugin", text_json(v->plugin), "module",
                                text_json(v->module), "version", v->version, "sha256", v->sha256));
    }
    json_object_set_new(json, "variants", variants);
    for (int i = 0; i < m->bans.n; i++) {
        const struct ban *b = &m->bans.ban[i];

        json_array_append_new(bans, json_pack("{s:s, s:s, s:s, s:s, s:s}", "sha256", b->sha256,
                                              "plugin", b->plugin, "version", b->version, "since",
                                              b->when, "why", b->why));
    }
    json_object_set_new(json, "quarantine", bans);
}

char *status_json(const struct master *m)
{
    int64_t now_ms = clock_mono_ms();
    json_t *plugins = json_array(), *json;
    char *text;

    for (int i = 0; i < m->cfg->n_plugins; i++)
        if (!m->cfg->plugin[i].is_removed)
            json_array_append_new(plugins, plugin_json(m, i, now_ms));
    json = json_pack(
        "{s:s, s:s, s:i, s:o, s:I, s:o, s:I, s:o, s:{s:b, s:i}, s:o, s:o, s:{s:I, s:o}}", "version",
        BULKHEAD_VERSION, "state", phase_name(m->phase), "pid", (int)getpid(), "started",
        time_json(m->history.started_real_ns), "uptime_s",
        (json_int_t)((now_ms - m->history.started_ms) / 1000), "config", path_json(m->cfg),
        "requests", count_requests(m), "workers", workers_json(m, now_ms), "recorder", "running",
        child_is_alive(&m->recorder), "pid", (int)m->recorder.pid, "problems",
        problems_json(m, plugins), "alerts", alerts_count_json(m), "ended_workers", "count",
        (json_int_t)m->history.n_ended, "last", ends_json(&m->history));
    json_object_set_new(json, "admin", admin_json(m));
    json_object_set_new(json, "exporter", exporter_json(m));
    json_object_set_new(json, "traces", traces_json(m));
    json_object_set_new(json, "listeners", figures_listeners(m));
    json_object_set_new(json, "limits", limits_json(m));
    json_object_set_new(json, "refusals", refusals_json(m, false));
    json_object_set_new(json, "store", store_json(m));
    json_object_set_new(json, "plugins", plugins);
    json_object_set_new(json, "generation", json_integer((json_int_t)m->generation->number));
    json_object_set_new(json, "reload", reload_json(m));
    add_rollout(m, json);
    text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}
