/*
 * kafka.c - lines to a topic of Kafka, by an idempotent producer.
 *
 * A batch is acknowledged when each of its messages has a delivery report without an error (acks=all).
 * The producer itself repeats what got lost on the way, in order and without doubles. When it gives up,
 * or this process dies, the batch comes again: then consumers see some messages twice, with the same
 * event_id.
 */
#include "backend.h"

#include "event.h"

#include <errno.h>
#include <stdlib.h>

#if !__has_include(<librdkafka/rdkafka.h>)

int kafka_open(const struct kafka_options *o, struct backend *out, char why[WHY_SIZE])
{
    (void)o, (void)out;
    snprintf(why, WHY_SIZE,
             "this exposure_log was built without librdkafka (package librdkafka-dev)");
    return -ENOSYS;
}

#else

#include <librdkafka/rdkafka.h>

/* In the order of names. */
struct rdkafka {
    rd_kafka_conf_t *(*conf_new)(void);
    rd_kafka_conf_res_t (*conf_set)(rd_kafka_conf_t *, const char *, const char *, char *, size_t);
    void (*conf_destroy)(rd_kafka_conf_t *);
    void (*conf_set_dr)(rd_kafka_conf_t *,
                        void (*)(rd_kafka_t *, const rd_kafka_message_t *, void *));
    void (*conf_set_log)(rd_kafka_conf_t *,
                         void (*)(const rd_kafka_t *, int, const char *, const char *));
    rd_kafka_t *(*create)(rd_kafka_type_t, rd_kafka_conf_t *, char *, size_t);
    void (*destroy)(rd_kafka_t *);
    rd_kafka_topic_t *(*topic_new)(rd_kafka_t *, const char *, rd_kafka_topic_conf_t *);
    void (*topic_destroy)(rd_kafka_topic_t *);
    int (*produce)(rd_kafka_topic_t *, int32_t, int, void *, size_t, const void *, size_t, void *);
    int (*poll)(rd_kafka_t *, int);
    rd_kafka_resp_err_t (*purge)(rd_kafka_t *, int);
    rd_kafka_resp_err_t (*last_error)(void);
    const char *(*err2str)(rd_kafka_resp_err_t);
};

static const char *const names[] = {"rd_kafka_conf_new",
                                    "rd_kafka_conf_set",
                                    "rd_kafka_conf_destroy",
                                    "rd_kafka_conf_set_dr_msg_cb",
                                    "rd_kafka_conf_set_log_cb",
                                    "rd_kafka_new",
                                    "rd_kafka_destroy",
                                    "rd_kafka_topic_new",
                                    "rd_kafka_topic_destroy",
                                    "rd_kafka_produce",
                                    "rd_kafka_poll",
                                    "rd_kafka_purge",
                                    "rd_kafka_last_error",
                                    "rd_kafka_err2str",
                                    NULL};

/* What the reports of one batch add up to. They come in rd_kafka_poll(), on our thread. */
struct tally {
    size_t reported, failed;
    rd_kafka_resp_err_t error;
};

struct kafka {
    struct rdkafka rk;
    struct kafka_options o;
    rd_kafka_t *producer;
    rd_kafka_topic_t *topic;
};

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    struct tally *t = m->_private;

    (void)rk, (void)opaque;
    t->reported++;
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        t->failed++;
        t->error = m->err;
    }
}

/* What fails is told by the batch that fails. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk, (void)level, (void)facility, (void)text;
}

static int set(struct kafka *k, rd_kafka_conf_t *conf, const char *key, const char *value,
               char why[WHY_SIZE])
{
    return k->rk.conf_set(conf, key, value, why, WHY_SIZE) == RD_KAFKA_CONF_OK ? 0 : -EINVAL;
}

static int configure(struct kafka *k, rd_kafka_conf_t *conf, char why[WHY_SIZE])
{
    char timeout[24];
    int r = 0;

    snprintf(timeout, sizeof timeout, "%d", k->o.timeout_ms);
    if (set(k, conf, "bootstrap.servers", k->o.brokers, why) < 0 ||
        set(k, conf, "client.id", "bulkhead", why) < 0 ||
        set(k, conf, "enable.idempotence", "true", why) < 0 ||
        set(k, conf, "message.timeout.ms", timeout, why) < 0 ||
        /* A batch is all that is ever in there. */
        set(k, conf, "queue.buffering.max.messages", "2000", why) < 0 ||
        set(k, conf, "linger.ms", "5", why) < 0)
        return -EINVAL;
    for (size_t i = 0; i < k->o.options.n && r == 0; i++)
        r = set(k, conf, k->o.options.v[i].k.p, k->o.options.v[i].v.p, why);
    if (r == 0 && k->o.password != NULL)
        r = set(k, conf, "sasl.password", k->o.password, why);
    return r;
}

static void drop_producer(struct kafka *k)
{
    if (k->topic != NULL)
        k->rk.topic_destroy(k->topic);
    if (k->producer != NULL)
        k->rk.destroy(k->producer);
    k->topic = NULL;
    k->producer = NULL;
}

static int make_producer(struct kafka *k, char why[WHY_SIZE])
{
    rd_kafka_conf_t *conf;

    if (k->producer != NULL)
        return 0;
    conf = k->rk.conf_new();
    if (configure(k, conf, why) < 0) {
        k->rk.conf_destroy(conf);
        return -EINVAL;
    }
    k->rk.conf_set_dr(conf, on_report);
    k->rk.conf_set_log(conf, on_log);
    k->producer = k->rk.create(RD_KAFKA_PRODUCER, conf, why, WHY_SIZE);
    if (k->producer == NULL) {
        k->rk.conf_destroy(conf); /* else it is the producer's */
        return -EIO;
    }
    k->topic = k->rk.topic_new(k->producer, k->o.topic, NULL);
    if (k->topic != NULL)
        return 0;
    snprintf(why, WHY_SIZE, "topic: %s", k->rk.err2str(k->rk.last_error()));
    drop_producer(k);
    return -EIO;
}

/* By id: all of one client's exposures are in one partition, in their order. */
static int produce(struct kafka *k, bh_str line, struct tally *t)
{
    bh_str key = event_member(line, "id");

    return k->rk.produce(k->topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY,
                         (void *)(uintptr_t)line.p, line.n, key.p, key.n, t);
}

static int kafka_send(void *state, const struct batch *b, size_t *refused, char why[WHY_SIZE])
{
    struct kafka *k = state;
    struct tally t = {0};
    size_t produced = 0;
    int r = make_producer(k, why);

    (void)refused;
    if (r < 0)
        return r;
    while (produced < b->n && produce(k, b->line[produced], &t) == 0)
        produced++;
    if (produced < b->n)
        t.error = k->rk.last_error();
    /* Each message gets a report within message.timeout.ms: this ends. */
    while (t.reported < produced)
        k->rk.poll(k->producer, 100);
    if (t.failed == 0 && produced == b->n)
        return 0;
    snprintf(why, WHY_SIZE, "Kafka: %s", k->rk.err2str(t.error));
    /* A fresh one: an idempotent producer that had a fatal error takes no more messages. */
    drop_producer(k);
    return -EIO;
}

static void kafka_close(void *state)
{
    drop_producer(state);
    free(state);
}

int kafka_open(const struct kafka_options *o, struct backend *out, char why[WHY_SIZE])
{
    struct kafka *k = calloc(1, sizeof *k);
    rd_kafka_conf_t *conf;
    int r;

    if (k == NULL) {
        snprintf(why, WHY_SIZE, "no memory");
        return -ENOMEM;
    }
    _Static_assert(sizeof k->rk == (sizeof names / sizeof names[0] - 1) * sizeof(void *),
                   "a function for each name");
    r = backend_load("librdkafka.so.1", "librdkafka1", names, (void **)&k->rk, why);
    k->o = *o;
    if (r == 0) {
        conf = k->rk.conf_new();
        r = configure(k, conf, why); /* a wrong option is told before the first event */
        k->rk.conf_destroy(conf);
    }
    if (r < 0) {
        free(k);
        return r;
    }
    *out = (struct backend){"kafka", k, kafka_send, kafka_close};
    return 0;
}

#endif
