/*
 * client.c - the thread that asks.
 *
 * Each worker has one: no process depends on another. What that costs is a question per worker, server
 * and interval.
 */
#include "client.h"

#include "keep.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS 1000000LL
/* close() runs on the event loop: a resolver that hangs must not hold it up. */
#define STOP_S 2

struct client {
    bh_inst *inst;
    pthread_t thread;
    int has_thread, stop_fd, step_fd;
    struct client_options options;
    struct source source[SERVERS_MAX];
    struct rules rules; /* the thread's */
    const char *last_why;
    int told[SERVERS_MAX]; /* that this server fails */

    struct { /* metrics */
        uint32_t success_ratio, drift_p95, offset, error, state, rounds;
    } m;

    _Atomic int state, stratum;
    _Atomic int64_t offset_ns, base_ns, error_ns, changed_ns;
};

static void define_metrics(struct client *c)
{
    static const char *const result[] = {"result", NULL};

    /* Without metrics it works as well. */
    (void)bh_metric(c->inst, BH_M_GAUGE_AVG, "ntp_sync_success_ratio",
                    "Rounds of questions to time servers that succeeded, of the window's.", NULL,
                    &c->m.success_ratio);
    (void)bh_metric(c->inst, BH_M_GAUGE_MAX, "time_drift_ms_p95",
                    "How far the machine's clock was off: 95th percentile of the window, in ms.",
                    NULL, &c->m.drift_p95);
    (void)bh_metric(c->inst, BH_M_GAUGE_AVG, "time_offset_ms",
                    "What is added to the machine's clock, in ms.", NULL, &c->m.offset);
    (void)bh_metric(c->inst, BH_M_GAUGE_MAX, "time_error_ms",
                    "How far off the corrected time may be, in ms.", NULL, &c->m.error);
    (void)bh_metric(c->inst, BH_M_GAUGE_MAX, "time_sync_state",
                    "0: no server has answered yet, 1: synced, 2: compensating.", NULL,
                    &c->m.state);
    (void)bh_metric(c->inst, BH_M_COUNTER, "time_sync_rounds_total", "Rounds of questions.", result,
                    &c->m.rounds);
}

static void set_metrics(const struct client *c, int64_t mono)
{
    bh_metric_set(c->inst, c->m.success_ratio, NULL, rules_success_ratio(&c->rules, mono));
    bh_metric_set(c->inst, c->m.drift_p95, NULL, rules_drift_p95_ms(&c->rules, mono));
    bh_metric_set(c->inst, c->m.offset, NULL, (double)c->rules.offset_ns / 1e6);
    if (c->rules.error_ns > 0) /* else nobody knows */
        bh_metric_set(c->inst, c->m.error, NULL, (double)rules_error(&c->rules, mono) / 1e6);
    bh_metric_set(c->inst, c->m.state, NULL, c->rules.state);
}

static void publish(struct client *c)
{
    int64_t mono = bh_now_ns(BH_CLOCK_MONO);

    atomic_store(&c->offset_ns, c->rules.offset_ns);
    atomic_store(&c->base_ns, c->rules.base_ns);
    atomic_store(&c->error_ns, c->rules.error_ns);
    atomic_store(&c->changed_ns, c->rules.changed_ns);
    atomic_store(&c->stratum, c->rules.stratum);
    atomic_store(&c->state, (int)c->rules.state);
    set_metrics(c, mono);
}

int64_t client_time(const struct client *c, int64_t real_ns, int64_t mono_ns)
{
    if (atomic_load_explicit(&c->state, memory_order_relaxed) == SYNC_COMPENSATING)
        return mono_ns + atomic_load_explicit(&c->base_ns, memory_order_relaxed);
    return real_ns + atomic_load_explicit(&c->offset_ns, memory_order_relaxed);
}

struct client_view client_view(const struct client *c, int64_t mono_ns)
{
    struct rules r = {.error_ns = atomic_load(&c->error_ns),
                      .changed_ns = atomic_load(&c->changed_ns)};
    struct client_view v = {.state = (enum sync_state)atomic_load(&c->state),
                            .offset_ns = atomic_load(&c->offset_ns),
                            .stratum = atomic_load(&c->stratum)};

    v.error_ns = r.error_ns > 0 ? rules_error(&r, mono_ns) : -1;
    return v;
}

/* ---- the thread --------------------------------------------------------------------------- */

/* Once when a server begins to fail, once when it answers again. */
static void tell(struct client *c, size_t i, int r, const char *why)
{
    const struct source *s = &c->source[i];

    if (r == -ECANCELED || r == -EAGAIN || (r == 0) == (c->told[i] == 0))
        return;
    c->told[i] = r != 0;
    if (r != 0)
        bh_logf(c->inst, BH_LOG_WARN, "%s port %s: %s", s->host, s->port, why);
    else
        bh_logf(c->inst, BH_LOG_INFO, "%s port %s answers again", s->host, s->port);
}

static void tell_state(struct client *c, enum sync_state before, const char *why)
{
    const struct rules *r = &c->rules;

    if (r->state == before)
        return;
    if (r->state == SYNC_COMPENSATING)
        bh_logf(c->inst, BH_LOG_WARN,
                "%s: %u failures in a row; time goes on by the monotonic clock until there was no "
                "trouble for %lld s",
                why, r->failed, (long long)(r->recover_ns / 1000000000));
    else
        bh_logf(c->inst, BH_LOG_INFO, "synchronized: offset %.3f ms, error at most %.3f ms",
                (double)r->offset_ns / 1e6, (double)r->error_ns / 1e6);
}

static int is_stopped(const struct client *c)
{
    struct pollfd p = {.fd = c->stop_fd, .events = POLLIN};

    return poll(&p, 1, 0) > 0;
}

static void ask_all(struct client *c)
{
    struct answer answers[SERVERS_MAX];
    enum sync_state before = c->rules.state;
    const char *why;
    bh_str result;
    size_t n = 0;

    for (size_t i = 0; i < c->options.n_servers; i++) {
        char text[SOURCE_WHY] = "";
        int r = source_ask(&c->source[i], c->stop_fd, (int)c->options.timeout_ms,
                           c->options.max_distance_ms * NS_PER_MS,
                           c->options.interval_ms * NS_PER_MS, &answers[n], text);

        /* After close() the instance is no more. */
        if (r == -ECANCELED || is_stopped(c))
            return;
        tell(c, i, r, text);
        n += r == 0;
    }
    why = rules_round(&c->rules, answers, n, bh_now_ns(BH_CLOCK_REAL), bh_now_ns(BH_CLOCK_MONO));
    publish(c);
    if (why == NULL || c->rules.state != before)
        keep_save(c->inst, &c->rules);
    result = bh_s(why == NULL ? "ok" : "failed");
    bh_metric_add(c->inst, c->m.rounds, &result, 1);
    tell_state(c, before, why);
}

/* A timer that is never due, but tells when the machine's clock is set. */
static void watch_for_steps(const struct client *c)
{
    struct itimerspec never = {.it_value = {.tv_sec = (time_t)1 << 40}};

    timerfd_settime(c->step_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static void on_step(struct client *c)
{
    uint64_t expirations;

    if (read(c->step_fd, &expirations, sizeof expirations) < 0 && errno != ECANCELED)
        return;
    rules_step(&c->rules, bh_now_ns(BH_CLOCK_REAL), bh_now_ns(BH_CLOCK_MONO));
    publish(c);
    watch_for_steps(c);
    bh_log(c->inst, BH_LOG_WARN, "the machine's clock was set; asking again");
}

/* Up to a tenth later, so that workers and machines do not ask all at once. */
static int wait_ms(const struct client *c)
{
    uint32_t random = 0;
    int64_t interval = c->options.interval_ms;

    (void)bh_random(&random, sizeof random); /* without it, on the dot */
    return (int)(interval + interval * (random % 1000) / 10000);
}

static void *run(void *arg)
{
    struct client *c = arg;
    struct pollfd p[2] = {{.fd = c->stop_fd, .events = POLLIN},
                          {.fd = c->step_fd, .events = POLLIN}};

    watch_for_steps(c);
    for (;;) {
        ask_all(c);
        if (poll(p, 2, wait_ms(c)) < 0 && errno != EINTR)
            break;
        if (p[0].revents != 0)
            break;
        if (p[1].revents != 0)
            on_step(c);
    }
    return NULL;
}

/* ---- begin and end ------------------------------------------------------------------------ */

static void destroy(struct client *c)
{
    if (c->stop_fd >= 0)
        close(c->stop_fd);
    if (c->step_fd >= 0)
        close(c->step_fd);
    free(c);
}

struct client *client_start(bh_inst *inst, const struct client_options *options)
{
    struct client *c = calloc(1, sizeof *c);
    int64_t real_ns, mono_ns;

    if (c == NULL)
        return NULL;
    c->inst = inst;
    c->options = *options;
    c->rules = options->rules;
    define_metrics(c);
    c->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->step_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    real_ns = bh_now_ns(BH_CLOCK_REAL);
    mono_ns = bh_now_ns(BH_CLOCK_MONO);
    rules_begin(&c->rules, real_ns, mono_ns);
    if (options->n_servers > 0)
        keep_load(inst, &c->rules, real_ns, mono_ns);
    publish(c);
    if (c->stop_fd < 0 || c->step_fd < 0)
        goto fail;
    for (size_t i = 0; i < options->n_servers; i++)
        if (source_parse(options->server[i], &c->source[i]) != NULL)
            goto fail;
    c->options.server = NULL; /* parsed: not the caller's any more */
    if (options->n_servers > 0) {
        if (pthread_create(&c->thread, NULL, run, c) != 0)
            goto fail;
        c->has_thread = 1;
    }
    return c;

fail:
    destroy(c);
    return NULL;
}

void client_stop(struct client **cp)
{
    struct client *c = *cp;
    struct timespec until;

    *cp = NULL;
    if (c == NULL)
        return;
    eventfd_write(c->stop_fd, 1);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STOP_S;
    /* One that hangs in the resolver keeps what it needs, and ends when that answers. */
    if (c->has_thread && pthread_timedjoin_np(c->thread, NULL, &until) != 0) {
        pthread_detach(c->thread);
        return;
    }
    destroy(c);
}
