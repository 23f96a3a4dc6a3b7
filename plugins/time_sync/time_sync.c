/*
 * time_sync.c - what time it is: asks servers (SNTP, TIME), tells plugins, SDKs and other machines.
 *
 * In a chain, it sets the variable "time_sync.now" for the plugins that follow, and answers GET /time.
 * The asking is client.c's, on a thread; the TIME service is server.c's, on another. Both begin in
 * start(): a worker that stands by asks nobody.
 */
#include "client.h"
#include "server.h"

#include <stdlib.h>

#define NS_PER_MS 1000000LL

struct config {
    bh_strlist servers, listen;
    int64_t interval, timeout, max_distance, agree, recover, window;
    int32_t failures;
    const char *path;
};

struct time_sync {
    bh_inst *inst;
    const struct config *cfg;
    struct client *client; /* NULL until start() */
    struct time_server *server;
};

static bh_rc complain(bh_errs *errs, const char *option, bh_str item, const char *fault)
{
    char text[400];

    snprintf(text, sizeof text, "\"%.100s\" %s", item.p ? item.p : "", fault);
    bh_cfg_error(errs, option, text);
    return BH_FAIL;
}

static bh_rc time_sync_validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    bh_rc rc = BH_OK;

    for (size_t i = 0; i < c->servers.n; i++) {
        struct source s;
        const char *fault = source_parse(c->servers.v[i].p, &s);

        if (fault != NULL)
            rc = complain(errs, "servers", c->servers.v[i], fault);
    }
    for (size_t i = 0; i < c->listen.n; i++) {
        const char *fault = time_server_check(c->listen.v[i].p);

        if (fault != NULL)
            rc = complain(errs, "listen", c->listen.v[i], fault);
    }
    if (c->servers.n > SERVERS_MAX) {
        bh_cfg_error(errs, "servers", "has more than 8 servers");
        rc = BH_FAIL;
    }
    if (c->listen.n > LISTEN_MAX) {
        bh_cfg_error(errs, "listen", "has more than 8 addresses");
        rc = BH_FAIL;
    }
    if (*c->path != '\0' && *c->path != '/') {
        bh_cfg_error(errs, "path", "does not begin with '/'");
        rc = BH_FAIL;
    }
    return rc;
}

static bh_rc time_sync_open(bh_inst *inst, const void *cfg, void **selfp)
{
    struct time_sync *self = calloc(1, sizeof *self);

    if (self == NULL)
        return BH_FAIL;
    self->inst = inst;
    self->cfg = cfg;
    *selfp = self;
    return BH_OK;
}

static void time_sync_close(void *self_)
{
    struct time_sync *self = self_;

    time_server_stop(&self->server); /* it asks the client for the time */
    client_stop(&self->client);
    free(self);
}

/* By the clocks themselves: a second that just began counts, and this is no hot path. */
static int64_t now_exact(void *arg)
{
    const struct time_sync *self = arg;

    return client_time(self->client, bh_now_ns(BH_CLOCK_REAL), bh_now_ns(BH_CLOCK_MONO));
}

static bh_rc time_sync_start(void *self_)
{
    struct time_sync *self = self_;
    const struct config *cfg = self->cfg;
    const char *server[SERVERS_MAX], *listen[LISTEN_MAX];
    struct client_options options = {.server = server,
                                     .n_servers = cfg->servers.n,
                                     .interval_ms = cfg->interval,
                                     .timeout_ms = cfg->timeout,
                                     .max_distance_ms = cfg->max_distance,
                                     .rules = {.failures = (unsigned)cfg->failures,
                                               .recover_ns = cfg->recover * NS_PER_MS,
                                               .agree_ns = cfg->agree * NS_PER_MS,
                                               .window_ns = cfg->window * NS_PER_MS}};
    char why[200] = "no memory";

    for (size_t i = 0; i < cfg->servers.n; i++)
        server[i] = cfg->servers.v[i].p;
    for (size_t i = 0; i < cfg->listen.n; i++)
        listen[i] = cfg->listen.v[i].p;
    self->client = client_start(self->inst, &options);
    if (self->client == NULL) {
        bh_log(self->inst, BH_LOG_ERROR, "cannot start the thread that asks for the time");
        return BH_FAIL;
    }
    if (cfg->listen.n == 0)
        return BH_OK;
    self->server = time_server_start(listen, cfg->listen.n, now_exact, self, why, sizeof why);
    if (self->server == NULL)
        bh_logf(self->inst, BH_LOG_ERROR, "no TIME service: %s", why);
    return self->server != NULL ? BH_OK : BH_FAIL;
}

/* ---- requests ----------------------------------------------------------------------------- */

/* {"time_ms":1767225600123.456,...}. error_ms is null while nobody knows. */
static bh_rc answer_time(struct time_sync *self, bh_req *req)
{
    int64_t mono = bh_now_ns(BH_CLOCK_MONO);
    /* Not the loop's clock: the other end measures by this. */
    int64_t now = client_time(self->client, bh_now_ns(BH_CLOCK_REAL), mono);
    struct client_view v = client_view(self->client, mono);
    char text[256], error[32] = "null";

    if (v.error_ns >= 0)
        snprintf(error, sizeof error, "%.3f", (double)v.error_ns / 1e6);
    snprintf(text, sizeof text,
             "{\"time_ms\":%lld.%03d,\"state\":\"%s\",\"offset_ms\":%.3f,\"error_ms\":%s,"
             "\"stratum\":%d}\n",
             (long long)(now / NS_PER_MS), (int)(now / 1000 % 1000), rules_state_name(v.state),
             (double)v.offset_ns / 1e6, error, v.stratum);
    if (bh_resp_header(req, "Cache-Control", "no-store") != BH_OK)
        return BH_FAIL;
    return bh_reply(req, 200, "application/json", text);
}

static bh_rc time_sync_on_request(void *self_, bh_req *req, void *ctx)
{
    struct time_sync *self = self_;
    bh_str method;
    char stamp[32];
    int64_t ms;

    (void)ctx;
    if (self->client == NULL)
        return BH_FAIL; /* start() has failed, and said why */
    if (*self->cfg->path != '\0' && bh_str_eq(bh_attr(req, "path"), self->cfg->path)) {
        method = bh_attr(req, "method");
        if (bh_str_eq(method, "GET") || bh_str_eq(method, "HEAD"))
            return answer_time(self, req);
    }
    ms = client_time(self->client, bh_now_ns(BH_CLOCK_LOOP_REAL), bh_now_ns(BH_CLOCK_LOOP)) /
         NS_PER_MS;
    snprintf(stamp, sizeof stamp, "%lld.%03d", (long long)(ms / 1000), (int)(ms % 1000));
    return bh_var_set(req, "time_sync.now", bh_s(stamp)) == BH_OK ? BH_CONTINUE : BH_FAIL;
}

static const bh_opt time_sync_options[] = {
    BH_STRLIST(struct config, servers, NULL,
               "who is asked: HOST, ntp://HOST:123, time+udp://HOST:37, time+tcp://HOST:37"),
    BH_DURATION(struct config, interval, "64s", 100, 86400000, "between two rounds of questions"),
    BH_DURATION(struct config, timeout, "1s", 10, 60000, "how long to wait for an answer"),
    BH_DURATION(struct config, max_distance, "1500ms", 1, 60000,
                "a server that may be off by more is not used"),
    BH_DURATION(struct config, agree, "500ms", 1, 60000,
                "more than half of the servers must be so near to the median"),
    BH_INT(struct config, failures, "3", 1, 1000,
           "failed rounds in a row until time goes on by the monotonic clock"),
    BH_DURATION(struct config, recover, "5m", 0, 86400000,
                "without trouble until servers are believed again"),
    BH_DURATION(struct config, window, "10m", 1000, 86400000,
                "ntp_sync_success_ratio and time_drift_ms_p95 are of so much time"),
    BH_STR(struct config, path, "/time", "GET of this answers the time; empty: none does"),
    BH_STRLIST(struct config, listen, NULL,
               "addresses of a TIME service (RFC 868): udp://0.0.0.0:37, tcp://[::]:37"),
    BH_OPT_END,
};

BH_PLUGIN("time_sync", "1.0.0", .summary = "asks servers for the time, and tells it",
          .options = time_sync_options, .cfg_size = sizeof(struct config),
          .validate = time_sync_validate, .open = time_sync_open, .start = time_sync_start,
          .close = time_sync_close, .on_request = time_sync_on_request)
