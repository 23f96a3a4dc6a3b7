/*
 * test_redis.c - the contract on a real redis-server, over TCP, a Unix socket and TLS; and what happens
 * when it is not there, does not answer, or refuses.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "contract.h"
#include "store/redis_store.h"

static char dir[] = "/tmp/bulkhead-redis-XXXXXX";
static char port[8], tls_port[8], socket_path[64], ca_path[64];
static pid_t server;
static const char *config_more = ""; /* lines of its config */

/* Sanitizers and valgrind are slow. */
static uint32_t scaled(uint32_t ms)
{
    const char *scale = getenv("BULKHEAD_TEST_SCALE");
    long n = scale != NULL ? strtol(scale, NULL, 10) : 1;

    return n > 1 && n < 100 ? ms * (uint32_t)n : ms;
}

static struct redis_options options(void)
{
    struct redis_options o = {.link = {.host = "127.0.0.1", .port = port},
                              .user = "plugin",
                              .password = "s3cret",
                              .timeout_ms = scaled(1000)};

    memcpy(o.script, redis_store_scripts, sizeof o.script);
    return o;
}

/* ---- the server ---- */

static void free_port(char *out, size_t size)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)bind(fd, (struct sockaddr *)(void *)&in, sizeof in);
    getsockname(fd, (struct sockaddr *)(void *)&in, &len);
    snprintf(out, size, "%d", ntohs(in.sin_port));
    close(fd);
}

static int start_server(void)
{
    char path[128], command[512];
    FILE *f;

    snprintf(path, sizeof path, "%s/redis.conf", dir);
    f = fopen(path, "w");
    fprintf(f,
            "bind 127.0.0.1\nport %s\ntls-port %s\nunixsocket %s\ndir %s\nsave \"\"\n"
            "tls-cert-file %s/server.crt\ntls-key-file %s/server.key\ntls-auth-clients no\n"
            "user default off\nuser plugin on >s3cret ~test:* ~1:* +@all\n%s",
            port, tls_port, socket_path, dir, dir, dir, config_more);
    fclose(f);
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        snprintf(command, sizeof command, "%s/log", dir);
        dup2(open(command, O_WRONLY | O_CREAT | O_APPEND, 0600), 1);
        execlp("redis-server", "redis-server", path, (char *)NULL);
        execlp("redis-check-rdb", "redis-server", path, (char *)NULL); /* its name decides */
        _exit(127);
    }
    for (int i = 0; i < 1000 && access(socket_path, F_OK) != 0; i++) {
        if (waitpid(server, NULL, WNOHANG) == server)
            return -1;
        usleep(10000);
    }
    return 0;
}

static void stop_server(void)
{
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    unlink(socket_path);
}

static bool has_server(void)
{
    return system("command -v redis-server || command -v redis-check-rdb") == 0;
}

static int set_up_all(void **state)
{
    char command[1024];

    (void)state;
    if (!has_server())
        return 0;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(socket_path, sizeof socket_path, "%s/sock", dir);
    snprintf(ca_path, sizeof ca_path, "%s/server.crt", dir);
    snprintf(command, sizeof command,
             "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
             "-keyout server.key -out server.crt -days 2 -subj /CN=redis.test -addext "
             "subjectAltName=DNS:redis.test >openssl.log 2>&1",
             dir);
    free_port(port, sizeof port);
    do
        free_port(tls_port, sizeof tls_port);
    while (strcmp(port, tls_port) == 0);
    return system(command) != 0 || start_server() < 0 ? -1 : 0;
}

static void tear_down_all(void)
{
    char command[128];

    if (server > 0)
        stop_server();
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (system(command) != 0)
        print_message("%s is left\n", dir);
}

/* ---- driving it ---- */

static void turn(struct redis *r)
{
    int ms = redis_timeout_ms(r, clock_mono_ns());
    struct pollfd p = {.fd = redis_fd(r), .events = redis_events(r)};

    poll(&p, 1, ms < 0 || ms > 100 ? 100 : ms);
    redis_run(r, clock_mono_ns());
}

/* The asynchronous store behind the interface of the others. */
struct sync_store {
    struct store store;
    struct redis_options o;
    struct redis *redis;
    struct store_answer answer;
    char value[STORE_VALUE_MAX];
    bool is_done;
    char prefix[32];
};

static void take_answer(void *arg, const struct store_answer *a)
{
    struct sync_store *s = arg;

    s->answer = *a;
    if (a->value != NULL)
        memcpy(s->value, a->value, a->n);
    s->is_done = true;
}

static int run(struct store *store, struct store_op op, const struct store_ns *ns,
               struct store_key key)
{
    struct sync_store *s = (void *)store;
    int r;

    op.ns = ns->name;
    op.key = key;
    s->is_done = false;
    r = redis_store_ask(s->redis, s->prefix, &op, take_answer, s, clock_mono_ns());
    if (r < 0)
        return r;
    for (int64_t end = clock_mono_ms() + scaled(10000); !s->is_done && clock_mono_ms() < end;)
        turn(s->redis);
    assert_true(s->is_done);
    return s->answer.r;
}

static int sync_open_ns(struct store *s, const char *name, struct store_ns *ns)
{
    (void)s;
    snprintf(ns->name, sizeof ns->name, "%s", name);
    return 0;
}

static int sync_get(struct store *store, const struct store_ns *ns, struct store_key key, void *buf,
                    size_t *n, uint64_t *version)
{
    struct sync_store *s = (void *)store;
    size_t room = *n;
    int r = run(store, (struct store_op){.kind = STORE_GET}, ns, key);

    if (r < 0)
        return r;
    *n = s->answer.n;
    if (s->answer.n > room)
        return -E2BIG;
    memcpy(buf, s->value, *n);
    *version = s->answer.version;
    return 0;
}

static int sync_set(struct store *s, const struct store_ns *ns, struct store_key key, const void *p,
                    size_t n, uint32_t ttl_ms, uint64_t version)
{
    return run(s,
               (struct store_op){
                   .kind = STORE_SET, .value = p, .n = n, .ttl_ms = ttl_ms, .version = version},
               ns, key);
}

static int sync_del(struct store *s, const struct store_ns *ns, struct store_key key)
{
    return run(s, (struct store_op){.kind = STORE_DEL}, ns, key);
}

static int sync_add(struct store *s, const struct store_ns *ns, struct store_key key, int64_t delta,
                    uint32_t ttl_ms, int64_t *out)
{
    int r = run(s, (struct store_op){.kind = STORE_ADD, .delta = delta, .ttl_ms = ttl_ms}, ns, key);

    if (r == 0)
        *out = ((struct sync_store *)(void *)s)->answer.number;
    return r;
}

static int sync_bucket(struct store *s, const struct store_ns *ns, struct store_key key,
                       const struct store_bucket *b, int64_t *out)
{
    int r = run(s, (struct store_op){.kind = STORE_BUCKET, .bucket = *b}, ns, key);

    if (r == 0)
        *out = ((struct sync_store *)(void *)s)->answer.number;
    return r;
}

static void sync_close(struct store *s)
{
    redis_close(&((struct sync_store *)(void *)s)->redis);
    free(s);
}

static struct sync_store *open_with(const struct redis_options *o)
{
    static const struct store_ops ops = {.name = "redis",
                                         .open_ns = sync_open_ns,
                                         .get = sync_get,
                                         .set = sync_set,
                                         .del = sync_del,
                                         .add = sync_add,
                                         .bucket = sync_bucket,
                                         .close = sync_close};
    static int n;
    struct sync_store *s = calloc(1, sizeof *s);
    char why[256] = "";

    s->store.ops = &ops;
    s->o = *o;
    snprintf(s->prefix, sizeof s->prefix, "test:%d:", n++); /* an empty store for each */
    if (redis_open(&s->o, why, sizeof why, &s->redis) < 0) {
        print_message("%s\n", why);
        free(s);
        return NULL;
    }
    return s;
}

static struct store *open_tcp(void)
{
    const struct redis_options o = options();

    return server == 0 ? NULL : &open_with(&o)->store;
}

static struct store *open_unix(void)
{
    struct redis_options o = options();

    o.link = (struct link_options){.path = socket_path};
    return server == 0 ? NULL : &open_with(&o)->store;
}

static struct store *open_tls(void)
{
    struct redis_options o = options();

    o.link = (struct link_options){
        .host = "localhost", .port = tls_port, .tls = true, .ca = ca_path, .name = "redis.test"};
    return server == 0 ? NULL : &open_with(&o)->store;
}

static void close_it(struct store *s)
{
    store_close(&s);
}

/* ---- when it is not well ---- */

static char told[300];
static int n_told;

static void tell(bool is_up, const char *why)
{
    snprintf(told, sizeof told, "%s %s", is_up ? "up" : "down", why);
    n_told++;
}

static int ping(struct sync_store *s)
{
    const struct store_ns ns = {.name = "ns"};
    int64_t n;

    return s->store.ops->add(&s->store, &ns, (struct store_key){"n", 1}, 1, 0, &n);
}

static void wrong(const struct redis_options *o, const char *want)
{
    struct sync_store *s = open_with(o);

    n_told = 0;
    redis_on_change(s->redis, tell);
    assert_true(ping(s) < 0);
    if (strstr(told, want) == NULL)
        fail_msg("'%s' does not say '%s'", told, want);
    assert_null(strstr(told, "wr0ng"));
    assert_int_equal(ping(s), -ENOTCONN); /* at once: it is in a pause */
    assert_int_equal(n_told, 1);
    sync_close(&s->store);
}

static void what_is_wrong_is_said(void **state)
{
    struct redis_options o = options();

    (void)state;
    if (server == 0)
        skip();
    o.password = "wr0ng";
    wrong(&o, "WRONGPASS");
    o = options();
    o.password = NULL;
    wrong(&o, "NOAUTH");
    o = options();
    o.link = (struct link_options){
        .host = "127.0.0.1", .port = tls_port, .tls = true, .ca = ca_path, .name = "other.test"};
    wrong(&o, "name in the certificate");
    o.link.ca = NULL;
    o.link.name = "redis.test";
    wrong(&o, "issuer is unknown");
    o.link.tls = false; /* plain text to a port that speaks TLS */
    o.timeout_ms = 300;
    wrong(&o, "");
    o = options();
    o.link.host = "no-such-host.invalid";
    wrong(&o, "");
    o.link = (struct link_options){.path = "/nowhere/sock"};
    wrong(&o, "No such file");
}

static void start_other(const char *lines)
{
    stop_server();
    config_more = lines;
    assert_int_equal(start_server(), 0);
}

static void one_that_can_only_be_read_or_redirects_is_refused_in_words(void **state)
{
    const struct redis_options o = options();
    char cluster[64], bus[8];

    (void)state;
    if (server == 0)
        skip();
    free_port(bus, sizeof bus);
    snprintf(cluster, sizeof cluster, "cluster-enabled yes\ncluster-port %s\n", bus);
    start_other(cluster);
    wrong(&o, "part of a Redis Cluster");
    start_other("replicaof 127.0.0.1 1\n");
    wrong(&o, "it is a replica");
    start_other("");
}

static void ignore(void *arg, int r, const struct redisReply *reply)
{
    (void)arg, (void)r, (void)reply;
}

/* As a failover does it, with a connection that is there. */
static void one_that_takes_no_writes_any_more_is_left(void **state)
{
    const struct redis_options o = options();
    const struct redis_arg demote[] = {{"REPLICAOF", 9}, {"127.0.0.1", 9}, {"1", 1}};
    struct sync_store *s;

    (void)state;
    if (server == 0)
        skip();
    s = open_with(&o);
    redis_on_change(s->redis, tell);
    assert_int_equal(ping(s), 0);
    n_told = 0;
    assert_int_equal(redis_send(s->redis, demote, 3, ignore, NULL, clock_mono_ns()), 0);
    assert_int_equal(ping(s), -ENOTCONN);
    assert_non_null(strstr(told, "READONLY"));
    for (int64_t end = clock_mono_ms() + scaled(1000); clock_mono_ms() < end;)
        turn(s->redis);
    assert_false(redis_is_up(s->redis));
    assert_int_equal(n_told, 1); /* once, though it was tried again */
    start_other("");
    for (int64_t end = clock_mono_ms() + scaled(10000);
         !redis_is_up(s->redis) && clock_mono_ms() < end;)
        turn(s->redis);
    assert_int_equal(ping(s), 0);
    sync_close(&s->store);
}

static void it_comes_back_by_itself(void **state)
{
    const struct redis_options o = options();
    struct sync_store *s;
    int64_t end;

    (void)state;
    if (server == 0)
        skip();
    s = open_with(&o);
    redis_on_change(s->redis, tell);
    assert_int_equal(ping(s), 0);
    stop_server();
    assert_true(ping(s) < 0);
    assert_non_null(strstr(told, "down"));
    assert_int_equal(start_server(), 0);
    for (end = clock_mono_ms() + scaled(5000); !redis_is_up(s->redis) && clock_mono_ms() < end;)
        turn(s->redis);
    assert_non_null(strstr(told, "up"));
    assert_int_equal(ping(s), 0);
    sync_close(&s->store);
}

static void one_that_does_not_answer_is_given_up(void **state)
{
    struct redis_options o = options();
    struct sync_store *s;
    int64_t begin;

    (void)state;
    if (server == 0)
        skip();
    o.timeout_ms = 200;
    s = open_with(&o);
    assert_int_equal(ping(s), 0);
    kill(server, SIGSTOP);
    begin = clock_mono_ms();
    assert_int_equal(ping(s), -ETIMEDOUT);
    assert_in_range(clock_mono_ms() - begin, 190, scaled(1000));
    assert_int_equal(ping(s), -ENOTCONN);
    kill(server, SIGCONT);
    sync_close(&s->store);
}

/* A server that answers whatever it is asked with `head`, and then `more` without end. */
static pid_t flood(char fake_port[8], const char *head, const char *more)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), client;
    char block[65536];
    size_t n = 0;
    pid_t pid;

    assert_int_equal(bind(fd, (struct sockaddr *)(void *)&in, sizeof in), 0);
    assert_int_equal(listen(fd, 8), 0);
    getsockname(fd, (struct sockaddr *)(void *)&in, &len);
    snprintf(fake_port, 8, "%d", ntohs(in.sin_port));
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (; n + strlen(more) <= sizeof block; n += strlen(more))
            memcpy(block + n, more, strlen(more));
        while ((client = accept(fd, NULL, NULL)) >= 0) {
            send(client, head, strlen(head), MSG_NOSIGNAL);
            while (send(client, block, n, MSG_NOSIGNAL) > 0)
                continue;
            close(client);
        }
        _exit(0);
    }
    close(fd);
    return pid;
}

static long resident_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return kib;
}

static void an_answer_without_end_is_given_up(void **state)
{
    static const struct {
        const char *head, *more;
    } floods[] = {
        {"$500000000\r\n", "x"},       /* a string */
        {"*1000000000\r\n", ":1\r\n"}, /* an array: longer than we take */
        {"*3\r\n$500000000\r\n", "x"}, /* in an array */
        {"+", "x"},                    /* a line that does not end */
    };

    (void)state;
    if (server == 0)
        skip();
    for (size_t i = 0; i < sizeof floods / sizeof floods[0]; i++) {
        struct redis_options o = options();
        char fake_port[8];
        pid_t fake = flood(fake_port, floods[i].head, floods[i].more);
        long before = resident_kib();
        struct sync_store *s;
        int64_t begin;

        o.link.port = fake_port;
        s = open_with(&o);
        redis_on_change(s->redis, tell);
        told[0] = '\0';
        begin = clock_mono_ms();
        assert_int_equal(ping(s), -ENOTCONN);
        assert_in_range(clock_mono_ms() - begin, 0, o.timeout_ms / 2);
        assert_non_null(strstr(told, "is it a Redis server?"));
        assert_in_range(resident_kib() - before, 0, 16 << 10);
        sync_close(&s->store);
        kill(fake, SIGKILL);
        waitpid(fake, NULL, 0);
    }
}

struct many {
    int n, failed;
    int64_t last;
};

static void count(void *arg, const struct store_answer *a)
{
    struct many *m = arg;

    m->n++;
    m->failed += a->r != 0;
    m->failed += a->number != m->last + 1; /* in order */
    m->last = a->number;
}

static void a_thousand_at_once_go_out_in_a_row(void **state)
{
    const struct redis_options o = options();
    struct sync_store *s;
    struct many m = {0};
    struct store_op op = {.kind = STORE_ADD, .ns = "ns", .key = {"many", 4}, .delta = 1};

    (void)state;
    if (server == 0)
        skip();
    s = open_with(&o);
    for (int i = 0; i < 1000; i++) /* the first of them before there is a connection */
        assert_int_equal(redis_store_ask(s->redis, s->prefix, &op, count, &m, clock_mono_ns()), 0);
    for (int64_t end = clock_mono_ms() + scaled(5000); m.n < 1000 && clock_mono_ms() < end;)
        turn(s->redis);
    assert_int_equal(m.n, 1000);
    assert_int_equal(m.failed, 0);
    while (redis_store_ask(s->redis, s->prefix, &op, count, &m, clock_mono_ns()) == 0)
        continue;
    assert_int_equal(redis_store_ask(s->redis, s->prefix, &op, count, &m, clock_mono_ns()),
                     -EAGAIN);
    sync_close(&s->store); /* they are told */
    assert_int_equal(m.n, 1000 + REDIS_QUEUE_MAX);
}

static void as_many_tokens_as_there_are_are_taken(void **state)
{
    const struct redis_options o = options();
    struct store_op op = {
        .kind = STORE_BUCKET, .bucket = {.per_s = 0.01, .burst = 25, .cost = 1}, .most = 10};
    static const double want[] = {10, 10, 5, 0};
    const struct store_ns ns = {.name = "ns"};
    struct sync_store *s;

    (void)state;
    if (server == 0)
        skip();
    s = open_with(&o);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(run(&s->store, op, &ns, (struct store_key){"b", 1}), 0);
        assert_true(s->answer.taken == want[i]);
    }
    assert_in_range(-s->answer.number, 90000, 100000);
    sync_close(&s->store);
}

int main(void)
{
    static const struct contract_backend backends[] = {
        {.name = "redis", .open = open_tcp, .close = close_it, .has_own_clock = true},
        {.name = "redis, Unix socket",
         .open = open_unix,
         .close = close_it,
         .has_own_clock = true,
         .is_another_way = true},
        {.name = "redis, TLS",
         .open = open_tls,
         .close = close_it,
         .has_own_clock = true,
         .is_another_way = true},
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(a_thousand_at_once_go_out_in_a_row),
        cmocka_unit_test(as_many_tokens_as_there_are_are_taken),
        cmocka_unit_test(one_that_can_only_be_read_or_redirects_is_refused_in_words),
        cmocka_unit_test(one_that_takes_no_writes_any_more_is_left),
        cmocka_unit_test(it_comes_back_by_itself),
        cmocka_unit_test(one_that_does_not_answer_is_given_up),
        cmocka_unit_test(an_answer_without_end_is_given_up),
    };
    int failed = set_up_all(NULL) != 0;

    if (failed)
        print_error("redis-server does not start\n");
    for (size_t i = 0; !failed && i < sizeof backends / sizeof backends[0]; i++)
        failed += contract_run(&backends[i]);
    failed += cmocka_run_group_tests_name("redis, unwell", tests, NULL, NULL);
    tear_down_all();
    return failed;
}
