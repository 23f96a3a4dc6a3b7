/*
 * ship.c - lock, read, send, acknowledge.
 *
 * All workers have this thread, and one of all has the lock. It asks the log for news every linger_ms;
 * nobody has to wake it, so a request costs nothing here.
 */
#include "ship.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define LOCK_MS      500 /* between two tries */
#define RETRY_MAX_MS 30000
#define STOP_S       2

struct shipper {
    bh_inst *inst;
    pthread_t thread;
    int stop_fd;
    struct ship_options o;
    struct backend backend;
    struct spool spool;
    struct batch batch;
    int is_failing;
    int64_t pause_ms;
    uint32_t lines, failures, lag; /* metrics */
};

/* True: go on. False: it is over. */
static int wait_ms(const struct shipper *s, int64_t ms)
{
    struct pollfd p = {.fd = s->stop_fd, .events = POLLIN};

    return poll(&p, 1, (int)ms) <= 0;
}

static void define_metrics(struct shipper *s)
{
    static const char *const lines[] = {"backend", "result", NULL};

    /* Without metrics it works as well. */
    (void)bh_metric(s->inst, BH_M_COUNTER, "exposure_lines_total",
                    "Lines that a backend has: shipped, or left_out, as it does not take them.",
                    lines, &s->lines);
    (void)bh_metric(s->inst, BH_M_COUNTER, "exposure_failures_total",
                    "Batches that a backend did not take.", (const char *const[]){"backend", NULL},
                    &s->failures);
    (void)bh_metric(s->inst, BH_M_GAUGE_MAX, "exposure_lag_bytes",
                    "Bytes of the log that a backend does not have yet.",
                    (const char *const[]){"backend", NULL}, &s->lag);
}

static void count(struct shipper *s, const char *result, size_t n)
{
    const bh_str values[] = {bh_s(s->backend.name), bh_s(result)};

    if (n > 0)
        bh_metric_add(s->inst, s->lines, values, (double)n);
}

static void tell_lag(struct shipper *s, off_t lag)
{
    const bh_str backend = bh_s(s->backend.name);

    bh_metric_set(s->inst, s->lag, &backend, (double)lag);
}

static void on_failure(struct shipper *s, const char *why)
{
    const bh_str backend = bh_s(s->backend.name);

    bh_metric_add(s->inst, s->failures, &backend, 1);
    tell_lag(s, spool_lag(&s->spool));
    if (!s->is_failing)
        bh_logf(s->inst, BH_LOG_WARN, "%s: %s; exposures wait in the log until it works again",
                s->backend.name, why);
    s->is_failing = 1;
    s->pause_ms = s->pause_ms == 0 ? s->o.retry_ms : 2 * s->pause_ms;
    s->pause_ms = s->pause_ms < RETRY_MAX_MS ? s->pause_ms : RETRY_MAX_MS;
}

static void on_success(struct shipper *s, size_t n, size_t refused)
{
    if (s->is_failing)
        bh_logf(s->inst, BH_LOG_INFO, "%s works again", s->backend.name);
    s->is_failing = 0;
    s->pause_ms = 0;
    count(s, "shipped", n - refused);
    count(s, "left_out", refused + s->batch.bad);
    tell_lag(s, spool_lag(&s->spool));
    if (refused + s->batch.bad > 0)
        bh_logf(s->inst, BH_LOG_WARN, "%s: %zu lines were left out: %s", s->backend.name,
                refused + s->batch.bad,
                refused > 0 ? "it does not take them" : "they are no exposures");
}

/* How long to wait before the next turn. */
static int64_t turn(struct shipper *s)
{
    char why[WHY_SIZE] = "";
    size_t refused = 0;
    int r;

    if (s->spool.state_fd < 0) {
        r = spool_lock(&s->spool, why, sizeof why);
        if (r == -EAGAIN)
            return LOCK_MS;
        if (r < 0)
            goto fail;
    }
    r = spool_read(&s->spool, s->o.batch, &s->batch);
    if (r < 0) {
        snprintf(why, sizeof why, "%.180s: %s", s->spool.path, strerror(-r));
        goto fail;
    }
    if (s->batch.n == 0 && s->batch.bad == 0) {
        tell_lag(s, 0);
        return s->o.linger_ms;
    }
    r = s->backend.send(s->backend.state, &s->batch, &refused, why);
    if (!wait_ms(s, 0))
        return 0; /* close() did not wait for this: the instance is no more. It comes again */
    if (r < 0)
        goto fail;
    r = spool_acknowledge(&s->spool, &s->batch);
    if (r < 0) {
        snprintf(why, sizeof why, "%.180s: %s", s->spool.state_path, strerror(-r));
        goto fail;
    }
    on_success(s, s->batch.n, refused);
    return s->batch.n + s->batch.bad >= s->o.batch ? 0 : s->o.linger_ms;

fail:
    on_failure(s, why);
    return s->pause_ms;
}

static void destroy(struct shipper *s)
{
    s->backend.close(s->backend.state);
    spool_fini(&s->spool);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    free(s);
}

static void *run(void *arg)
{
    struct shipper *s = arg;

    while (wait_ms(s, turn(s)))
        continue;
    return NULL;
}

struct shipper *shipper_start(bh_inst *inst, const struct ship_options *o,
                              const struct backend *backend)
{
    struct shipper *s = calloc(1, sizeof *s);

    if (s == NULL) {
        backend->close(backend->state);
        return NULL;
    }
    s->inst = inst;
    s->o = *o;
    define_metrics(s);
    s->backend = *backend;
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->stop_fd < 0 || spool_init(&s->spool, o->path, backend->name, o->keep) < 0 ||
        pthread_create(&s->thread, NULL, run, s) != 0) {
        destroy(s);
        return NULL;
    }
    return s;
}

void shipper_stop(struct shipper **sp)
{
    struct shipper *s = *sp;
    struct timespec until;

    *sp = NULL;
    if (s == NULL)
        return;
    eventfd_write(s->stop_fd, 1);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STOP_S;
    if (pthread_timedjoin_np(s->thread, NULL, &until) != 0) {
        pthread_detach(s->thread); /* waits for a server; keeps what it needs */
        return;
    }
    destroy(s);
}
