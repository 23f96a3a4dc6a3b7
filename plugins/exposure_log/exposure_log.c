/*
 * exposure_log.c - who saw which group of an experiment: a line of JSON each, and from there to
 * PostgreSQL and Kafka.
 *
 * The hook writes a line to a log of the host, through shared memory: a worker that dies right after
 * loses none. All the rest is done behind that log, by a thread (ship.c) that reads it and remembers
 * how far the backend has got.
 */
#include "backlog.h"
#include "event.h"
#include "ship.h"

#include <stdlib.h>

#define REPORT_MS 10000
#define RETRY_MS  20 /* of lines that the log could not take */

enum { POSTGRES, KAFKA, BACKENDS };

struct config {
    const char *path, *table, *kafka, *topic;
    bh_str postgres, kafka_password;
    bh_map kafka_options;
    int32_t keep, create, batch;
    int64_t linger, retry, kafka_timeout, backlog;
};

struct exposure_log {
    bh_inst *inst;
    const struct config *cfg;
    uint32_t sink;
    uint64_t maker, made; /* of event ids */
    uint64_t dropped, reported;
    int64_t report_ms;
    uint32_t events; /* metric */
    struct backlog backlog;
    int has_timer; /* which empties it */
    char path[PATH_MAX];
    struct backend backend[BACKENDS]; /* until start() */
    int has[BACKENDS];
    struct shipper *shipper[BACKENDS];
};

static bh_rc complain(bh_errs *errs, const char *option, const char *fault)
{
    bh_cfg_error(errs, option, fault);
    return BH_FAIL;
}

static bh_rc exposure_log_validate(const void *cfg, bh_errs *errs)
{
    const struct config *c = cfg;
    int ships = c->postgres.n > 0 || c->kafka != NULL;
    bh_rc rc = BH_OK;

    if (*c->path == '\0')
        rc = complain(errs, "path", "is empty");
    if (strcmp(c->path, "-") == 0 && ships)
        rc = complain(errs, "path", "has to be a file: it is read for postgres and kafka");
    if (*c->table == '\0' || strlen(c->table) > 63)
        rc = complain(errs, "table", "has to have 1 to 63 bytes");
    if (*c->topic == '\0' || strlen(c->topic) > 249)
        rc = complain(errs, "topic", "has to have 1 to 249 bytes");
    if (!c->keep && c->postgres.n > 0 && c->kafka != NULL)
        rc = complain(errs, "keep",
                      "cannot be false with two backends: one would delete what the "
                      "other has not read");
    return rc;
}

static void close_backends(struct exposure_log *self)
{
    for (int i = 0; i < BACKENDS; i++) {
        if (self->has[i])
            self->backend[i].close(self->backend[i].state);
        self->has[i] = 0;
    }
}

static bh_rc open_backends(struct exposure_log *self)
{
    const struct config *c = self->cfg;
    const struct postgres_options postgres = {c->postgres.p, c->table, c->create};
    const struct kafka_options kafka = {c->kafka, c->topic, c->kafka_password.p, c->kafka_options,
                                        (int)c->kafka_timeout};
    char why[WHY_SIZE] = "";

    if (c->postgres.n > 0) {
        self->has[POSTGRES] = postgres_open(&postgres, &self->backend[POSTGRES], why) == 0;
        if (!self->has[POSTGRES]) {
            bh_logf(self->inst, BH_LOG_ERROR, "postgres: %s", why);
            return BH_FAIL;
        }
    }
    if (c->kafka != NULL) {
        self->has[KAFKA] = kafka_open(&kafka, &self->backend[KAFKA], why) == 0;
        if (!self->has[KAFKA]) {
            bh_logf(self->inst, BH_LOG_ERROR, "kafka: %s", why);
            close_backends(self);
            return BH_FAIL;
        }
    }
    return BH_OK;
}

static bh_rc exposure_log_open(bh_inst *inst, const void *cfg, void **selfp)
{
    static const char *const labels[] = {"result", NULL};
    struct exposure_log *self = calloc(1, sizeof *self);
    const struct config *c = cfg;

    if (self == NULL || bh_random(&self->maker, sizeof self->maker) != BH_OK) {
        free(self);
        return BH_FAIL;
    }
    self->inst = inst;
    self->cfg = c;
    snprintf(self->path, sizeof self->path, "%s%s%s",
             *c->path == '/' ? "" : bh_info(inst, "config_dir").p, *c->path == '/' ? "" : "/",
             c->path);
    if (bh_sink_open(inst, c->path, &self->sink) != BH_OK) {
        bh_logf(inst, BH_LOG_ERROR, "cannot open the log file %s", c->path);
        free(self);
        return BH_FAIL;
    }
    (void)bh_metric(inst, BH_M_COUNTER, "exposure_events_total",
                    "Exposures: written to the log, or lost, as it was not written fast enough.",
                    labels, &self->events);
    backlog_init(&self->backlog, (size_t)c->backlog);
    if (open_backends(self) != BH_OK) {
        free(self);
        return BH_FAIL;
    }
    *selfp = self;
    return BH_OK;
}

static void count(struct exposure_log *self, const char *result)
{
    const bh_str value = bh_s(result);

    bh_metric_add(self->inst, self->events, &value, 1);
}

static void drop(struct exposure_log *self)
{
    int64_t now_ms = bh_now_ns(BH_CLOCK_LOOP) / 1000000;

    count(self, "lost");
    self->dropped++;
    if (self->report_ms != 0 && now_ms - self->report_ms < REPORT_MS)
        return;
    bh_logf(self->inst, BH_LOG_ERROR,
            "%llu exposures were lost: the log is not written as fast as they come",
            (unsigned long long)(self->dropped - self->reported));
    self->report_ms = now_ms;
    self->reported = self->dropped;
}

static void write_backlog(struct exposure_log *self)
{
    bh_str line;

    while ((line = backlog_first(&self->backlog)).p != NULL) {
        if (bh_sink_write(self->inst, self->sink, line.p, line.n) == BH_EAGAIN)
            return;
        count(self, "written");
        backlog_drop_first(&self->backlog);
    }
}

static void on_timer(void *self_, void *arg)
{
    struct exposure_log *self = self_;

    (void)arg;
    self->has_timer = 0;
    write_backlog(self);
    if (backlog_first(&self->backlog).p != NULL)
        self->has_timer = bh_timer(self->inst, RETRY_MS, 0, on_timer, NULL, NULL) == BH_OK;
}

/* Behind those that wait; a burst is longer than the log's buffer, perhaps, but it ends. */
static void write_line(struct exposure_log *self, const char *line, size_t n)
{
    write_backlog(self);
    if (backlog_first(&self->backlog).p == NULL &&
        bh_sink_write(self->inst, self->sink, line, n) == BH_OK) {
        count(self, "written");
        return;
    }
    if (!backlog_put(&self->backlog, line, n))
        drop(self);
    else if (!self->has_timer)
        self->has_timer = bh_timer(self->inst, RETRY_MS, 0, on_timer, NULL, NULL) == BH_OK;
}

static void exposure_log_close(void *self_)
{
    struct exposure_log *self = self_;

    for (int i = 0; i < BACKENDS; i++)
        shipper_stop(&self->shipper[i]);
    close_backends(self);
    write_backlog(self);
    while (backlog_first(&self->backlog).p != NULL) {
        drop(self);
        backlog_drop_first(&self->backlog);
    }
    backlog_fini(&self->backlog);
    free(self);
}

static bh_rc exposure_log_start(void *self_)
{
    struct exposure_log *self = self_;
    const struct config *c = self->cfg;
    const struct ship_options o = {self->path, c->keep, (size_t)c->batch, c->linger, c->retry};

    for (int i = 0; i < BACKENDS; i++) {
        if (!self->has[i])
            continue;
        self->has[i] = 0; /* the shipper's from here on */
        self->shipper[i] = shipper_start(self->inst, &o, &self->backend[i]);
        if (self->shipper[i] == NULL) {
            bh_log(self->inst, BH_LOG_ERROR, "cannot start a thread: exposures stay in the log");
            return BH_FAIL;
        }
    }
    return BH_OK;
}

static void exposure_log_on_log(void *self_, bh_req *req, void *ctx)
{
    struct exposure_log *self = self_;
    bh_str objects = bh_var(req, "ab_exposures"), object;
    bh_str status = bh_attr(req, "status"), id = bh_var(req, "request_id");
    int64_t now_ms = bh_now_ns(BH_CLOCK_LOOP_REAL) / 1000000;
    char event[EVENT_ID_SIZE], line[EVENT_MAX];

    (void)ctx;
    if (id.p == NULL)
        id = bh_attr(req, "id");
    for (size_t at = 0; (object = event_next(objects, &at)).p != NULL;) {
        size_t n;

        event_id(self->maker, self->made++, event);
        n = event_line(event, now_ms, status, id, object, line);
        if (n == 0)
            drop(self);
        else
            write_line(self, line, n);
    }
}

static const bh_opt exposure_log_options[] = {
    BH_STR(struct config, path, "exposures.jsonl", "log of exposures, a line of JSON each"),
    BH_BOOL(struct config, keep, "true",
            "keep lines in it that were shipped; false: give their room on the disk back"),
    BH_SECRET(struct config, postgres, "connection string of PostgreSQL: host=... dbname=..."),
    BH_STR(struct config, table, "exposures", "table there"),
    BH_BOOL(struct config, create, "true", "make that table when it is not there"),
    BH_STR(struct config, kafka, NULL, "brokers of Kafka: HOST:PORT,HOST:PORT"),
    BH_STR(struct config, topic, "exposures", "topic there"),
    BH_MAP(struct config, kafka_options, "more options of librdkafka: {security.protocol: SSL}"),
    BH_SECRET(struct config, kafka_password, "librdkafka's sasl.password"),
    BH_DURATION(struct config, kafka_timeout, "30s", 1000, 900000,
                "after so much time a message is taken for not delivered"),
    BH_SIZE(struct config, backlog, "8MiB", 65536, 1 << 30,
            "memory of a worker for lines that the log cannot take as fast as they come"),
    BH_INT(struct config, batch, "500", 1, SPOOL_LINES, "lines shipped at once, at most"),
    BH_DURATION(struct config, linger, "1s", 10, 60000, "how often to look for new lines"),
    BH_DURATION(struct config, retry, "1s", 10, 30000,
                "how long to wait when it fails; doubled each time, up to 30s"),
    BH_OPT_END,
};

BH_PLUGIN("exposure_log", "1.0.0",
          .summary = "logs who saw which group; ships it to PostgreSQL and Kafka",
          .options = exposure_log_options, .cfg_size = sizeof(struct config),
          .validate = exposure_log_validate, .open = exposure_log_open, .start = exposure_log_start,
          .close = exposure_log_close, .on_log = exposure_log_on_log)
