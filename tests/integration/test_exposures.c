/*
 * test_exposures.c - exposure_log in the real server, with a PostgreSQL that this test starts and with
 * librdkafka's own mock cluster. What is not installed is skipped.
 */
#include "harness.h"
#include "postgres.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#if __has_include(<librdkafka/rdkafka_mock.h>)
#include <librdkafka/rdkafka.h>

#include <librdkafka/rdkafka_mock.h>
#endif

/* ---- the server --------------------------------------------------------------------------- */

static struct server *start(const char *options)
{
    return server_start(
        "version: 1\n"
        "server: {workers: 2}\n"
        "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
        "modules: {path: [@PLUGINS@]}\n"
        "plugins:\n"
        "  seen: {module: exposure_log, config: {linger: 20ms, retry: 50ms, %s}}\n"
        "  time: {module: trace_time, config: {tolerance: 5s}}\n" /* machines are busy */
        "  colour: {module: ab_test, config: {name: colour, id: \"header:X-User\",\n"
        "           tolerance: 5s,\n"
        "           groups: {red: 1, blue: 1}}}\n"
        "  site: {module: respond, config: {body: hello}}\n"
        "  fault: {module: fault, config: {from_request: true}}\n"
        "routes:\n"
        "  - {match: {path: /fault}, chain: [seen, time, colour, fault]}\n"
        "  - {match: {path: /**}, chain: [seen, time, colour, site]}\n"
        "crash: {dir: @DIR@/crashes}\n",
        options);
}

/* n requests of users u<from>... */
static void requests(struct server *srv, int from, int n)
{
    for (int i = from; i < from + n; i++) {
        char header[64];
        struct response *res;

        snprintf(header, sizeof header, "X-User: u%d\r\n", i);
        res = server_request(srv, "GET", "/", header, NULL, 0);
        assert_int_equal(res->status, 200);
        response_free(&res);
    }
}

static long lines(struct server *srv)
{
    char path[500], *text;
    long n = 0;

    snprintf(path, sizeof path, "%s/exposures.jsonl", srv->dir);
    text = file_read(path);
    for (const char *p = text; p != NULL && *p != '\0'; p++)
        n += *p == '\n';
    free(text);
    return n;
}

static void exposures_are_in_the_log(void **state)
{
    struct server *srv = start("batch: 100");

    (void)state;
    requests(srv, 0, 20);
    eventually(lines(srv) == 20);
    assert_int_equal(server_stop(&srv), 0);
}

static void all_are_in_postgres_and_each_once(void **state)
{
    struct postgres *pg = postgres_shared();
    char options[300], *out = NULL;
    struct server *srv;

    (void)state;
    snprintf(options, sizeof options, "postgres: \"host=%s user=pg dbname=postgres\"", pg->dir);
    srv = start(options);
    requests(srv, 0, 50);
    eventually(postgres_number(pg, "SELECT count(*) FROM exposures") == 50);
    assert_int_equal(
        postgres_number(pg, "SELECT count(DISTINCT id) FROM exposures WHERE experiment = 'colour' "
                            "AND status = 200 AND reason = 'assigned' AND NOT fallback AND "
                            "abs(extract(epoch FROM gateway_time - time)) < 60"),
        50);
    /* What was sent, but not acknowledged, comes again: the state is set back, as if it had been lost. */
    assert_int_equal(server_stop(&srv), 0);
    assert_int_equal(
        postgres_sql(pg, &out, "SELECT \\\"group\\\", id FROM exposures ORDER BY id LIMIT 1"), 0);
    assert_non_null(strstr(out, "|u0"));
    free(out);
}

/* Seconds until the kernel asks the peer of the connection to that port of ours whether it is there; -1 when it
 * never will, or while something is on its way. /proc/net/tcp: "rem_address st queues tr:when", st 1 is
 * established, tr 2 is keepalive. */
static double seconds_to_keepalive(unsigned port)
{
    char *text = file_read("/proc/net/tcp"), *saved = NULL;
    double seconds = -1;

    for (char *line = strtok_r(text, "\n", &saved); line != NULL;
         line = strtok_r(NULL, "\n", &saved)) {
        unsigned remote, st, timer, when;

        if (sscanf(line, " %*d: %*x:%*x %*x:%x %x %*x:%*x %x:%x", &remote, &st, &timer, &when) ==
                4 &&
            remote == port && st == 1 && timer == 2)
            seconds = when / (double)sysconf(_SC_CLK_TCK);
    }
    free(text);
    return seconds;
}

/* Without it, what waits for an answer of a machine without power waits for two hours. */
static void a_database_that_is_gone_without_a_word_is_noticed_within_half_a_minute(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int at = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof a;
    char options[300];
    struct server *srv;

    (void)state;
    if (dlopen("libpq.so.5", RTLD_NOW | RTLD_NODELETE) == NULL) {
        print_message("libpq is not installed\n");
        skip();
    }
    assert_int_equal(bind(at, (struct sockaddr *)&a, sizeof a), 0); /* it never answers */
    assert_int_equal(listen(at, 8), 0);
    assert_int_equal(getsockname(at, (struct sockaddr *)&a, &len), 0);
    snprintf(options, sizeof options,
             "postgres: \"host=127.0.0.1 port=%d user=pg gssencmode=disable sslmode=disable\"",
             ntohs(a.sin_port));
    srv = start(options);
    requests(srv, 0, 1);
    eventually(seconds_to_keepalive(ntohs(a.sin_port)) >= 0);
    assert_true(seconds_to_keepalive(ntohs(a.sin_port)) <= 10);
    close(at);
    assert_int_equal(server_stop(&srv), 0);
}

static void sending_the_whole_log_again_changes_nothing(void **state)
{
    struct postgres *pg = postgres_shared();
    char options[300], path[500];
    struct server *srv;
    char *copy, *text;

    (void)state;
    snprintf(options, sizeof options, "postgres: \"host=%s user=pg dbname=postgres\"", pg->dir);
    srv = start(options);
    requests(srv, 0, 30);
    eventually(postgres_number(pg, "SELECT count(*) FROM exposures") == 30);
    snprintf(path, sizeof path, "%s/exposures.jsonl", srv->dir);
    copy = file_read(path);
    assert_int_equal(server_stop(&srv), 0);

    srv = start(options); /* in a new folder: with no state */
    snprintf(path, sizeof path, "%s/exposures.jsonl", srv->dir);
    file_write(path, "%s", copy);
    free(copy);
    requests(srv, 100, 5);
    eventually(postgres_number(pg, "SELECT count(*) FROM exposures") == 35);
    text = server_log(srv);
    assert_null(strstr(text, "left out")); /* they are no faults, either */
    free(text);
    assert_int_equal(server_stop(&srv), 0);
}

static void nothing_is_lost_while_postgres_and_workers_die(void **state)
{
    struct postgres *pg = postgres_shared();
    char options[300], path[500], *text;
    struct server *srv;
    pid_t workers[8];

    (void)state;
    snprintf(options, sizeof options, "postgres: \"host=%s user=pg dbname=postgres\", batch: 7",
             pg->dir);
    srv = start(options);
    requests(srv, 0, 40);
    eventually(postgres_number(pg, "SELECT count(*) FROM exposures") >= 1);
    postgres_stop(pg);
    requests(srv, 40, 40);
    server_wait_log(srv, "exposures wait in the log until it works again");
    /* Both workers, of which one ships. */
    for (size_t n = server_children(srv, "worker", workers, 8); n > 0; n--)
        kill(workers[n - 1], SIGKILL);
    eventually(server_children(srv, "worker", NULL, 0) >= 2);
    requests(srv, 80, 40);
    postgres_start(pg);
    eventually(postgres_number(pg, "SELECT count(*) FROM exposures") == 120);
    for (size_t n = server_children(srv, "worker", workers, 8); n > 0; n--)
        kill(workers[n - 1], SIGKILL);
    requests(srv, 120, 40);
    eventually(postgres_number(pg, "SELECT count(*) FROM exposures") == 160);
    assert_int_equal(postgres_number(pg, "SELECT count(DISTINCT id) FROM exposures"), 160);
    assert_int_equal(postgres_number(pg, "SELECT count(DISTINCT event_id) FROM exposures"), 160);
    snprintf(path, sizeof path, "%s/exposures.jsonl.postgres", srv->dir);
    text = file_read(path);
    assert_non_null(text);
    free(text);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_request_that_crashed_is_an_exposure_too(void **state)
{
    struct server *srv = start("batch: 100");
    struct response *res = server_request(srv, "GET", "/fault?fault=segv", "X-User: u1\r\n", NULL,
                                          0);
    char path[500], *text;

    (void)state;
    assert_int_equal(res->status, 500);
    response_free(&res);
    eventually(lines(srv) == 1);
    snprintf(path, sizeof path, "%s/exposures.jsonl", srv->dir);
    text = file_read(path);
    assert_non_null(strstr(text, "\"status\":500,"));
    free(text);
    assert_int_equal(server_stop(&srv), 0);
}

static void one_line_that_postgres_refuses_holds_up_no_other(void **state)
{
    struct postgres *pg = postgres_shared();
    char options[300];
    struct server *srv;

    (void)state;
    assert_int_equal(
        postgres_sql(pg, NULL,
                     "CREATE TABLE seen (event_id uuid PRIMARY KEY, time timestamptz, "
                     "experiment text, \\\"group\\\" text, id text CHECK (id <> 'u13'), "
                     "reason text, bucket integer, fallback boolean, request_time "
                     "timestamptz, gateway_time timestamptz, status integer, "
                     "request_id text)"),
        0);
    snprintf(options, sizeof options,
             "postgres: \"host=%s user=pg dbname=postgres\", table: seen, create: false", pg->dir);
    srv = start(options);
    requests(srv, 0, 30);
    eventually(postgres_number(pg, "SELECT count(*) FROM seen") == 29);
    server_wait_log(srv, "postgres: 1 lines were left out: it does not take them");
    assert_int_equal(server_stop(&srv), 0);
}

/* ---- Kafka -------------------------------------------------------------------------------- */

#ifdef RD_KAFKA_VERSION

static struct {
    rd_kafka_conf_t *(*conf_new)(void);
    rd_kafka_conf_res_t (*conf_set)(rd_kafka_conf_t *, const char *, const char *, char *, size_t);
    rd_kafka_t *(*create)(rd_kafka_type_t, rd_kafka_conf_t *, char *, size_t);
    void (*destroy)(rd_kafka_t *);
    rd_kafka_mock_cluster_t *(*cluster)(rd_kafka_t *, int);
    void (*cluster_end)(rd_kafka_mock_cluster_t *);
    const char *(*brokers)(const rd_kafka_mock_cluster_t *);
    rd_kafka_resp_err_t (*topic)(rd_kafka_mock_cluster_t *, const char *, int, int);
    rd_kafka_resp_err_t (*down)(rd_kafka_mock_cluster_t *, int32_t);
    rd_kafka_resp_err_t (*up)(rd_kafka_mock_cluster_t *, int32_t);
    rd_kafka_resp_err_t (*subscribe)(rd_kafka_t *, const rd_kafka_topic_partition_list_t *);
    rd_kafka_topic_partition_list_t *(*list_new)(int);
    rd_kafka_topic_partition_t *(*list_add)(rd_kafka_topic_partition_list_t *, const char *,
                                            int32_t);
    void (*list_destroy)(rd_kafka_topic_partition_list_t *);
    rd_kafka_message_t *(*consume)(rd_kafka_t *, int);
    void (*message_destroy)(rd_kafka_message_t *);
    rd_kafka_resp_err_t (*close)(rd_kafka_t *);
} rk;

static void load_rdkafka(void)
{
    static const char *const names[] = {"rd_kafka_conf_new",
                                        "rd_kafka_conf_set",
                                        "rd_kafka_new",
                                        "rd_kafka_destroy",
                                        "rd_kafka_mock_cluster_new",
                                        "rd_kafka_mock_cluster_destroy",
                                        "rd_kafka_mock_cluster_bootstraps",
                                        "rd_kafka_mock_topic_create",
                                        "rd_kafka_mock_broker_set_down",
                                        "rd_kafka_mock_broker_set_up",
                                        "rd_kafka_subscribe",
                                        "rd_kafka_topic_partition_list_new",
                                        "rd_kafka_topic_partition_list_add",
                                        "rd_kafka_topic_partition_list_destroy",
                                        "rd_kafka_consumer_poll",
                                        "rd_kafka_message_destroy",
                                        "rd_kafka_consumer_close"};
    void *lib = dlopen("librdkafka.so.1", RTLD_NOW | RTLD_NODELETE);
    void **to = (void **)&rk;

    if (lib == NULL) {
        print_message("librdkafka is not installed\n");
        skip();
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_non_null(to[i] = dlsym(lib, names[i]));
}

/* What a consumer got until now: by user. */
static struct {
    int messages, users;
    bool seen[1000];
    int with_key;
} got;

static void take_messages(rd_kafka_t *consumer)
{
    rd_kafka_message_t *m;

    while ((m = rk.consume(consumer, 50)) != NULL) {
        char *text = m->err == 0 ? strndup(m->payload, m->len) : NULL;
        const char *id = text != NULL ? strstr(text, ",\"id\":\"u") : NULL;
        int user = id != NULL ? atoi(id + 8) : -1;

        if (user >= 0 && user < 1000) {
            got.messages++;
            got.users += !got.seen[user];
            got.seen[user] = true;
            got.with_key += m->key_len > 1 && ((const char *)m->key)[0] == 'u';
        }
        free(text);
        rk.message_destroy(m);
    }
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *brokers)
{
    rd_kafka_conf_t *conf = rk.conf_new();
    char why[256];
    rd_kafka_t *c;

    rk.conf_set(conf, "log_level", "0", NULL, 0);
    if (brokers != NULL) {
        rk.conf_set(conf, "bootstrap.servers", brokers, why, sizeof why);
        rk.conf_set(conf, "group.id", "test", why, sizeof why);
        rk.conf_set(conf, "auto.offset.reset", "earliest", why, sizeof why);
    }
    c = rk.create(type, conf, why, sizeof why);
    assert_non_null(c);
    return c;
}

static bool took(rd_kafka_t *consumer, int users)
{
    take_messages(consumer);
    return got.users >= users;
}

static void all_are_in_kafka_also_when_a_broker_was_away(void **state)
{
    rd_kafka_t *host, *consumer;
    rd_kafka_mock_cluster_t *cluster;
    rd_kafka_topic_partition_list_t *topics;
    char options[300];
    struct server *srv;

    (void)state;
    load_rdkafka();
    host = client(RD_KAFKA_PRODUCER, NULL);
    cluster = rk.cluster(host, 1);
    rk.topic(cluster, "exposures", 3, 1);
    memset(&got, 0, sizeof got);
    snprintf(options, sizeof options,
             "kafka: \"%s\", kafka_timeout: 1s, kafka_options: {reconnect.backoff.ms: 20, "
             "reconnect.backoff.max.ms: 100}",
             rk.brokers(cluster));
    srv = start(options);
    consumer = client(RD_KAFKA_CONSUMER, rk.brokers(cluster));
    topics = rk.list_new(1);
    rk.list_add(topics, "exposures", RD_KAFKA_PARTITION_UA);
    rk.subscribe(consumer, topics);
    rk.list_destroy(topics);

    requests(srv, 0, 40);
    eventually(took(consumer, 40));
    assert_int_equal(got.messages, 40); /* without trouble, each once */
    assert_int_equal(got.with_key, 40);
    rk.down(cluster, 1);
    requests(srv, 40, 40);
    server_wait_log(srv, "exposures wait in the log until it works again");
    rk.up(cluster, 1);
    requests(srv, 80, 20);
    eventually(took(consumer, 100));
    assert_int_equal(server_stop(&srv), 0);
    rk.close(consumer);
    rk.destroy(consumer);
    rk.cluster_end(cluster);
    rk.destroy(host);
}

#else

static void all_are_in_kafka_also_when_a_broker_was_away(void **state)
{
    (void)state;
    print_message("librdkafka-dev was not installed when this was built\n");
    skip();
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exposures_are_in_the_log),
        cmocka_unit_test(a_request_that_crashed_is_an_exposure_too),
        cmocka_unit_test(all_are_in_postgres_and_each_once),
        cmocka_unit_test(a_database_that_is_gone_without_a_word_is_noticed_within_half_a_minute),
        cmocka_unit_test(sending_the_whole_log_again_changes_nothing),
        cmocka_unit_test(nothing_is_lost_while_postgres_and_workers_die),
        cmocka_unit_test(one_line_that_postgres_refuses_holds_up_no_other),
        cmocka_unit_test(all_are_in_kafka_also_when_a_broker_was_away),
    };

    return cmocka_run_group_tests(tests, NULL, postgres_end);
}
