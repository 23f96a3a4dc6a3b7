/*
 * test_time_sync.c - what time_sync promises. The clock of these tests stands still, so that offsets
 * come out exact; servers are threads on loopback.
 */
#include "client.h"
#include "rules.h"
#include "server.h"
#include "source.h"
#include "wire.h"

#include <bulkhead_test.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define MS     1000000LL
#define SECOND (1000 * MS)
#define T2036  (2085978496LL * SECOND) /* 2036-02-07T06:28:16Z: seconds since 1900 are 2^32 */

/* ---- SNTP on the wire --------------------------------------------------------------------- */

static void put_stamp(unsigned char *p, int64_t ns)
{
    uint32_t seconds = (uint32_t)((uint64_t)(ns / SECOND + 2208988800LL));
    uint32_t fraction = (uint32_t)(((uint64_t)(ns % SECOND) << 32) / SECOND);

    for (int i = 0; i < 4; i++) {
        p[i] = (unsigned char)(seconds >> (24 - 8 * i));
        p[4 + i] = (unsigned char)(fraction >> (24 - 8 * i));
    }
}

static void put_nonce(unsigned char *p, uint64_t nonce)
{
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)(nonce >> (56 - 8 * i));
}

/* A good answer of a stratum 2 server. */
static void answer(unsigned char p[NTP_BYTES], uint64_t nonce, int64_t t2, int64_t t3)
{
    memset(p, 0, NTP_BYTES);
    p[0] = 4 << 3 | 4;
    p[1] = 2;
    p[6] = 0x10; /* root delay: 1/16 s */
    put_nonce(p + 24, nonce);
    put_stamp(p + 32, t2);
    put_stamp(p + 40, t3);
}

static void assert_near(int64_t a, int64_t b)
{
    if (llabs(a - b) > 10)
        fail_msg("%lld is not near %lld", (long long)a, (long long)b);
}

static void four_time_stamps_give_offset_and_delay(void **state)
{
    const int64_t now = BHT_EPOCH_NS;
    unsigned char p[NTP_BYTES];
    struct ntp_sample s;

    (void)state;
    /* Its clock is 5 s ahead; 30 ms there, 2 ms in it, 10 ms back. */
    answer(p, 7, now + 5 * SECOND + 30 * MS, now + 5 * SECOND + 32 * MS);
    assert_int_equal(ntp_reply(p, sizeof p, 7, now, now + 42 * MS, SECOND, &s), WIRE_OK);
    assert_near(s.offset_ns, 5 * SECOND + 10 * MS); /* half of the asymmetry is unknowable */
    assert_near(s.delay_ns, 40 * MS);
    assert_near(s.distance_ns, 20 * MS + SECOND / 32);
    assert_int_equal(s.stratum, 2);
}

static void a_question_tells_nothing_and_is_version_4(void **state)
{
    unsigned char p[NTP_BYTES];

    (void)state;
    ntp_request(0x0102030405060708, p);
    assert_int_equal(p[0], 0x23);
    for (size_t i = 1; i < 40; i++)
        assert_int_equal(p[i], 0);
    assert_memory_equal(p + 40, "\1\2\3\4\5\6\7\10", 8);
}

static void bad_answers_are_refused(void **state)
{
    static const struct {
        int at, value;
        enum wire_fault fault;
    } cases[] = {
        {0, 4 << 3 | 3, WIRE_MODE},
        {0, 4 << 3 | 5, WIRE_MODE},
        {0, 2 << 3 | 4, WIRE_MODE},
        {0, 5 << 3 | 4, WIRE_MODE},
        {0, 3 << 6 | 4 << 3 | 4, WIRE_UNSYNCHRONIZED},
        {1, 16, WIRE_UNSYNCHRONIZED},
        {1, 0, WIRE_KOD_OTHER},
        {24, 0x55, WIRE_ORIGIN},
        {31, 0, WIRE_ORIGIN},
        {9, 2, WIRE_DISTANCE},
        {32, 0x7f, WIRE_TIMES},
    };
    unsigned char p[NTP_BYTES];
    struct ntp_sample s;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        answer(p, 7, BHT_EPOCH_NS, BHT_EPOCH_NS);
        p[cases[i].at] = (unsigned char)cases[i].value;
        if (ntp_reply(p, sizeof p, 7, BHT_EPOCH_NS, BHT_EPOCH_NS + MS, SECOND, &s) !=
            cases[i].fault)
            fail_msg("byte %d, %d: not %s", cases[i].at, cases[i].value,
                     wire_fault_name(cases[i].fault));
    }
    answer(p, 7, BHT_EPOCH_NS, BHT_EPOCH_NS);
    assert_int_equal(ntp_reply(p, 47, 7, BHT_EPOCH_NS, BHT_EPOCH_NS, SECOND, &s), WIRE_SHORT);
    memset(p + 40, 0, 8);
    assert_int_equal(ntp_reply(p, 48, 7, BHT_EPOCH_NS, BHT_EPOCH_NS, SECOND, &s), WIRE_TIMES);
    answer(p, 7, BHT_EPOCH_NS + MS, BHT_EPOCH_NS); /* sent before it was received */
    assert_int_equal(ntp_reply(p, 48, 7, BHT_EPOCH_NS, BHT_EPOCH_NS, SECOND, &s), WIRE_TIMES);
    answer(p, 7, BHT_EPOCH_NS, BHT_EPOCH_NS + 2 * SECOND); /* longer in the server than away */
    assert_int_equal(ntp_reply(p, 48, 7, BHT_EPOCH_NS, BHT_EPOCH_NS + SECOND, SECOND, &s),
                     WIRE_TIMES);
}

static void a_kiss_of_death_is_told_by_its_kind(void **state)
{
    static const struct {
        const char *code;
        enum wire_fault fault;
    } cases[] = {{"RATE", WIRE_KOD_RATE},
                 {"DENY", WIRE_KOD_DENY},
                 {"RSTR", WIRE_KOD_DENY},
                 {"INIT", WIRE_KOD_OTHER}};
    unsigned char p[NTP_BYTES];
    struct ntp_sample s;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        answer(p, 7, BHT_EPOCH_NS, BHT_EPOCH_NS);
        p[1] = 0;
        memcpy(p + 12, cases[i].code, 4);
        assert_int_equal(ntp_reply(p, 48, 7, BHT_EPOCH_NS, BHT_EPOCH_NS, SECOND, &s),
                         cases[i].fault);
        p[31] ^= 1; /* forged: it does not repeat our question */
        assert_int_equal(ntp_reply(p, 48, 7, BHT_EPOCH_NS, BHT_EPOCH_NS, SECOND, &s), WIRE_ORIGIN);
    }
}

static void the_rollover_of_2036_is_passed(void **state)
{
    static const int64_t offsets[] = {-3, -1, 0, 1, 3};
    unsigned char p[NTP_BYTES], time[TIME_BYTES];
    struct ntp_sample s;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        for (size_t k = 0; k < 5; k++) {
            int64_t ours = T2036 + offsets[i] * SECOND, theirs = T2036 + offsets[k] * SECOND;

            answer(p, 9, theirs + MS, theirs + MS);
            assert_int_equal(ntp_reply(p, 48, 9, ours, ours + 2 * MS, SECOND, &s), WIRE_OK);
            assert_near(s.offset_ns, theirs - ours);
            time_to_wire(theirs, time);
            assert_true(time_from_wire(time, ours) == theirs);
        }
    }
    time_to_wire(T2036, time);
    assert_memory_equal(time, "\0\0\0\0", 4);
    time_to_wire(T2036 - 1, time);
    assert_memory_equal(time, "\xff\xff\xff\xff", 4);
    /* RFC 868: 2,208,988,800 is 1970-01-01. */
    time_to_wire(0, time);
    assert_memory_equal(time, "\x83\xaa\x7e\x80", 4);
}

/* ---- rules -------------------------------------------------------------------------------- */

static struct rules rules(void)
{
    struct rules r = {
        .failures = 3, .recover_ns = 300 * SECOND, .agree_ns = 100 * MS, .window_ns = 600 * SECOND};

    rules_begin(&r, BHT_EPOCH_NS, 0);
    return r;
}

static const char *round_of(struct rules *r, int64_t at_s, const int64_t *offsets_ms, size_t n)
{
    struct answer a[SERVERS_MAX];

    for (size_t i = 0; i < n; i++)
        a[i] = (struct answer){offsets_ms[i] * MS, offsets_ms[i] * MS, 5 * MS, 2 + (int)i};
    return rules_round(r, a, n, BHT_EPOCH_NS + at_s * SECOND, at_s * SECOND);
}

#define ROUND(R, AT, ...)                           \
    round_of(R, AT, (const int64_t[]){__VA_ARGS__}, \
             sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
#define FAIL(R, AT) round_of(R, AT, NULL, 0)

static void the_median_of_the_servers_counts(void **state)
{
    struct rules r = rules();

    (void)state;
    assert_null(ROUND(&r, 1, 7));
    assert_int_equal(r.offset_ns, 7 * MS);
    assert_null(ROUND(&r, 2, 8, 4));
    assert_int_equal(r.offset_ns, 6 * MS);
    assert_null(ROUND(&r, 3, 9, 900000, 5)); /* one is wrong */
    assert_int_equal(r.offset_ns, 9 * MS);
    assert_null(ROUND(&r, 4, -900000, 3, 1, 2, 99999));
    assert_int_equal(r.offset_ns, 2 * MS);
    assert_int_equal(r.state, SYNC_SYNCED);
    assert_int_equal(r.stratum, 2);
}

static void servers_that_disagree_are_a_failure(void **state)
{
    struct rules r = rules();

    (void)state;
    assert_string_equal(ROUND(&r, 1, 0, 5000), "the servers disagree");
    assert_string_equal(ROUND(&r, 2, 0, 5000, -5000), "the servers disagree");
    assert_string_equal(FAIL(&r, 3), "no server answered");
    assert_int_equal(r.state, SYNC_COMPENSATING);
}

static void three_failures_in_a_row_and_five_good_minutes(void **state)
{
    struct rules r = rules();

    (void)state;
    assert_null(ROUND(&r, 0, 40));
    FAIL(&r, 60);
    FAIL(&r, 120);
    assert_null(ROUND(&r, 180, 41)); /* not in a row */
    FAIL(&r, 240);
    FAIL(&r, 300);
    assert_int_equal(r.state, SYNC_SYNCED);
    FAIL(&r, 360);
    assert_int_equal(r.state, SYNC_COMPENSATING);
    /* From the last time that was known, by the monotonic clock. */
    assert_int_equal(r.base_ns, BHT_EPOCH_NS + 41 * MS);

    assert_null(ROUND(&r, 420, 90));
    assert_null(ROUND(&r, 700, 90));
    FAIL(&r, 710); /* trouble: from the beginning */
    assert_null(ROUND(&r, 770, 91));
    assert_null(ROUND(&r, 1069, 92));
    assert_int_equal(r.state, SYNC_COMPENSATING);
    assert_int_equal(r.base_ns, BHT_EPOCH_NS + 41 * MS);
    assert_null(ROUND(&r, 1070, 93));
    assert_int_equal(r.state, SYNC_SYNCED);
    assert_int_equal(r.offset_ns, 93 * MS);
}

static void one_that_never_heard_a_server_goes_on_from_its_own_time(void **state)
{
    struct rules r = rules();

    (void)state;
    for (int i = 0; i < 3; i++)
        FAIL(&r, i);
    assert_int_equal(r.state, SYNC_COMPENSATING);
    assert_int_equal(r.base_ns, BHT_EPOCH_NS);
}

static void a_time_server_corrects_only_what_it_can_see(void **state)
{
    struct rules r = rules();
    struct answer coarse = {-300 * MS, 750 * MS, 500 * MS, 0};
    struct answer off = {4200 * MS, 5250 * MS, 500 * MS, 0};

    (void)state;
    assert_null(rules_round(&r, &coarse, 1, BHT_EPOCH_NS, 0));
    assert_int_equal(r.offset_ns, 0); /* it may be right */
    assert_null(rules_round(&r, &off, 1, BHT_EPOCH_NS, 0));
    assert_int_equal(r.offset_ns, 4200 * MS); /* it is not: as little as possible */
}

static void sntp_servers_know_better_than_time_servers(void **state)
{
    struct rules r = rules();
    struct answer a[] = {{5000 * MS, 6000 * MS, 500 * MS, 0},
                         {5000 * MS, 6000 * MS, 500 * MS, 0},
                         {20 * MS, 20 * MS, MS, 3}};

    (void)state;
    assert_null(rules_round(&r, a, 3, BHT_EPOCH_NS, 0));
    assert_int_equal(r.offset_ns, 20 * MS);
    assert_int_equal(r.stratum, 3);
}

static void figures_are_of_the_window(void **state)
{
    struct rules r = rules();

    (void)state;
    assert_true(rules_success_ratio(&r, 0) == 1);
    assert_true(rules_drift_p95_ms(&r, 0) == 0);
    for (int i = 1; i <= 100; i++)
        ROUND(&r, i, i % 2 ? i : -i);
    for (int i = 0; i < 25; i++)
        FAIL(&r, 101 + i);
    assert_true(rules_success_ratio(&r, 126 * SECOND) == 0.8);
    assert_true(rules_drift_p95_ms(&r, 126 * SECOND) == 95);
    /* All but the last ten failures are over. */
    assert_true(rules_success_ratio(&r, 715 * SECOND) == 0);
    assert_true(rules_drift_p95_ms(&r, 715 * SECOND) == 0);
}

static void when_the_machines_clock_is_set_the_right_time_goes_on(void **state)
{
    struct rules r = rules();

    (void)state;
    ROUND(&r, 10, 40);
    rules_step(&r, BHT_EPOCH_NS + 3620 * SECOND, 20 * SECOND); /* an hour ahead */
    assert_int_equal(r.offset_ns, 40 * MS - 3600 * SECOND);
}

static void what_nobody_checks_gets_worse(void **state)
{
    struct rules r = rules();

    (void)state;
    ROUND(&r, 0, 40);
    assert_int_equal(rules_error(&r, 0), 5 * MS);
    assert_int_equal(rules_error(&r, 1000 * SECOND), 55 * MS); /* 50 ppm */
}

/* ---- servers ------------------------------------------------------------------------------ */

static void servers_are_named_like_urls(void **state)
{
    static const struct {
        const char *text, *host, *port;
        enum source_kind kind;
    } good[] = {
        {"127.0.0.1", "127.0.0.1", "123", SOURCE_NTP},
        {"ntp.example:1123", "ntp.example", "1123", SOURCE_NTP},
        {"ntp://[::1]", "::1", "123", SOURCE_NTP},
        {"ntp://[::1]:5", "::1", "5", SOURCE_NTP},
        {"time+udp://a", "a", "37", SOURCE_TIME_UDP},
        {"time+tcp://a:65535", "a", "65535", SOURCE_TIME_TCP},
    };
    static const char *const bad[] = {"",       "http://a",    "::1",  "a:0", "a:65536",
                                      "a:12x",  "[::1",        "[]:1", "a:",  "ntp://",
                                      "[::1]x", "ntp://a:1:2", ":123"};
    struct source s;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_null(source_parse(good[i].text, &s));
        assert_string_equal(s.host, good[i].host);
        assert_string_equal(s.port, good[i].port);
        assert_int_equal(s.kind, good[i].kind);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (source_parse(bad[i], &s) == NULL)
            fail_msg("'%s' is taken", bad[i]);
}

/* What a fake server answers with. */
static struct fake {
    int fd, port, stop_fd;
    pthread_t thread;
    int64_t ahead_ns;
    const char *kiss; /* "RATE", ... */
    int forge;        /* forged answers before the right one */
    _Atomic int questions;
} fake;

static void *serve(void *arg)
{
    struct pollfd p[2] = {{.fd = fake.fd, .events = POLLIN},
                          {.fd = fake.stop_fd, .events = POLLIN}};

    (void)arg;
    while (poll(p, 2, -1) > 0 && p[1].revents == 0) {
        unsigned char in[64], out[NTP_BYTES];
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        uint64_t nonce = 0;
        int64_t now = BHT_EPOCH_NS + fake.ahead_ns;

        if (recvfrom(fake.fd, in, sizeof in, 0, (struct sockaddr *)&from, &len) != NTP_BYTES)
            continue;
        for (int i = 0; i < 8; i++)
            nonce = nonce << 8 | in[40 + i];
        for (int i = 0; i < fake.forge; i++) {
            answer(out, nonce + 2, now + 999 * SECOND, now + 999 * SECOND);
            sendto(fake.fd, out, sizeof out, 0, (struct sockaddr *)&from, len);
        }
        answer(out, nonce, now, now);
        if (fake.kiss != NULL) {
            out[1] = 0;
            memcpy(out + 12, fake.kiss, 4);
        }
        fake.questions++; /* before the answer: who has it may look at once */
        sendto(fake.fd, out, sizeof out, 0, (struct sockaddr *)&from, len);
    }
    return NULL;
}

static int free_socket(int type, int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, type, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void fake_start(int64_t ahead_ns, const char *kiss, int forge)
{
    memset(&fake, 0, sizeof fake);
    fake.ahead_ns = ahead_ns;
    fake.kiss = kiss;
    fake.forge = forge;
    fake.fd = free_socket(SOCK_DGRAM, &fake.port);
    fake.stop_fd = eventfd(0, 0);
    assert_int_equal(pthread_create(&fake.thread, NULL, serve, NULL), 0);
}

static void fake_stop(void)
{
    eventfd_write(fake.stop_fd, 1);
    pthread_join(fake.thread, NULL);
    close(fake.fd);
    close(fake.stop_fd);
}

/* Until GET /time says so, or half a minute is over. */
static void until(bht *t, const char *text)
{
    const char *body = "";

    for (int i = 0; i < 15000; i++) {
        bh_req *r = bht_request(t, "GET", "/time");

        bht_run(r);
        body = bht_resp_body(r);
        if (strstr(body, text) != NULL)
            return;
        usleep(2000);
    }
    fail_msg("%s never came up: %s; %s", text, body, bht_log_text(t));
}

/* The plugin's thread writes it after it has changed what GET /time says. */
static void until_logged(bht *t, const char *text)
{
    for (int i = 0; i < 15000; i++) {
        if (strstr(bht_log_text(t), text) != NULL)
            return;
        usleep(2000);
    }
    fail_msg("%s was never logged: %s", text, bht_log_text(t));
}

static bht *open_with(const char *scheme, int port)
{
    char server[64];

    snprintf(server, sizeof server, "servers=%s127.0.0.1:%d", scheme, port);
    return bht_open(server, "interval=100ms", NULL);
}

static void an_offset_of_three_seconds_is_corrected(void **state)
{
    bht *t;
    bh_req *r;

    (void)state;
    fake_start(3 * SECOND, NULL, 2);
    t = open_with("", fake.port);
    until(t, "{\"time_ms\":1767225603000.000,\"state\":\"synced\",\"offset_ms\":3000.000,"
             "\"error_ms\":31.250,\"stratum\":2}\n");
    r = bht_request(t, "GET", "/other");
    bht_run(r);
    assert_true(bht_passed(r));
    assert_string_equal(bht_var(r, "time_sync.now"), "1767225603.000");
    assert_true(bht_metric(t, "time_drift_ms_p95") == 3000);
    assert_true(bht_metric(t, "ntp_sync_success_ratio") == 1);
    assert_true(bht_metric(t, "time_sync_state") == 1);
    assert_true(bht_metric(t, "time_offset_ms") == 3000);
    bht_close(t);
    fake_stop();
}

static void a_fresh_worker_begins_with_what_another_knows(void **state)
{
    bht *t, *fresh;
    bh_req *r;

    (void)state;
    fake_start(3 * SECOND, NULL, 0);
    t = open_with("", fake.port);
    until(t, "\"offset_ms\":3000.000");
    fake_stop(); /* nobody answers any more */
    fresh = open_with("", fake.port);
    r = bht_request(fresh, "GET", "/time");
    bht_run(r);
    assert_non_null(strstr(bht_resp_body(r), "{\"time_ms\":1767225603000.000,\"state\":\"synced\","
                                             "\"offset_ms\":3000.000,\"error_ms\":31.250"));
    /* Somebody has set the machine's clock meanwhile, and servers have not answered for long. */
    until(t, "\"state\":\"compensating\"");
    bht_close(fresh);
    fresh = open_with("", fake.port);
    bht_clock(BHT_EPOCH_NS + 7200 * SECOND, 11 * SECOND);
    r = bht_request(fresh, "GET", "/time");
    bht_run(r);
    assert_non_null(strstr(bht_resp_body(r), "{\"time_ms\":1767225613000.000,"));
    bht_close(fresh);
    bht_close(t);
}

static void a_server_that_says_rate_is_left_alone(void **state)
{
    bht *t;

    (void)state;
    fake_start(0, "RATE", 0);
    t = open_with("", fake.port);
    until(t, "\"state\":\"compensating\""); /* three rounds, but one question */
    assert_int_equal(fake.questions, 1);
    assert_true(bht_metric(t, "ntp_sync_success_ratio") == 0);
    assert_true(bht_metric(t, "time_sync_rounds_total{failed}") >=
                2); /* the third is being counted */
    assert_non_null(strstr(bht_log_text(t), "kiss of death, RATE"));
    bht_close(t);
    fake_stop();
}

static void a_server_that_says_deny_is_never_asked_again(void **state)
{
    struct source s;
    struct answer a;
    char why[SOURCE_WHY], text[64];
    int stop = eventfd(0, 0);
    bht *t = bht_open(NULL);

    (void)state;
    fake_start(0, "DENY", 0);
    snprintf(text, sizeof text, "127.0.0.1:%d", fake.port);
    assert_null(source_parse(text, &s));
    assert_int_equal(source_ask(&s, stop, 2000, SECOND, SECOND, &a, why), -EIO);
    bht_advance(365 * 86400 * SECOND);
    assert_int_equal(source_ask(&s, stop, 2000, SECOND, SECOND, &a, why), -EAGAIN);
    assert_int_equal(fake.questions, 1);
    fake_stop();
    close(stop);
    bht_close(t);
}

static void each_rate_doubles_the_pause(void **state)
{
    struct source s;
    struct answer a;
    char why[SOURCE_WHY], text[64];
    int stop = eventfd(0, 0);
    bht *t = bht_open(NULL);

    (void)state;
    fake_start(0, "RATE", 0);
    snprintf(text, sizeof text, "127.0.0.1:%d", fake.port);
    assert_null(source_parse(text, &s));
    for (int64_t pause = 128; pause <= 512; pause *= 2) {
        assert_int_equal(source_ask(&s, stop, 2000, SECOND, 64 * SECOND, &a, why), -EIO);
        bht_advance((pause - 1) * SECOND);
        assert_int_equal(source_ask(&s, stop, 2000, SECOND, 64 * SECOND, &a, why), -EAGAIN);
        bht_advance(SECOND);
    }
    fake_stop();
    close(stop);
    bht_close(t);
}

static void without_servers_time_is_the_machines(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "GET", "/time");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_status(r), 200);
    assert_string_equal(bht_resp_header(r, "Cache-Control"), "no-store");
    assert_string_equal(bht_resp_header(r, "Content-Type"), "application/json");
    assert_string_equal(bht_resp_body(r), "{\"time_ms\":1767225600000.000,\"state\":\"unsynced\","
                                          "\"offset_ms\":0.000,\"error_ms\":null,\"stratum\":0}\n");
    r = bht_request(t, "POST", "/time");
    bht_run(r);
    assert_true(bht_passed(r));
    bht_close(t);
}

static void a_server_that_is_not_there_ends_in_compensation(void **state)
{
    int port, fd = free_socket(SOCK_DGRAM, &port);
    bht *t;

    (void)state;
    close(fd); /* nobody is there: refused at once */
    t = open_with("", port);
    until(t, "\"state\":\"compensating\"");
    /* Told once, not each time. */
    assert_non_null(strstr(bht_log_text(t), "Connection refused"));
    assert_null(strstr(strstr(bht_log_text(t), "Connection refused") + 1, "Connection refused"));
    until_logged(t, "3 failures in a row; time goes on by the monotonic");
    /* The machine's clock is set: nobody who asks here sees it. */
    bht_clock(BHT_EPOCH_NS + 3600 * SECOND, 10 * SECOND);
    until(t, "{\"time_ms\":1767225609000");
    bht_close(t);
}

static void the_time_service_answers_over_udp_and_tcp(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct pollfd p;
    char listen[100];
    unsigned char in[8];
    int port, fd = free_socket(SOCK_STREAM, &port);
    bht *t;

    (void)state;
    close(fd);
    snprintf(listen, sizeof listen, "listen=udp://127.0.0.1:%d,tcp://127.0.0.1:%d", port, port);
    t = bht_open(listen, NULL);
    a.sin_port = htons((uint16_t)port);
    for (int i = 0; i < 2; i++) {
        fd = socket(AF_INET, i ? SOCK_STREAM : SOCK_DGRAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
        if (i == 0)
            assert_int_equal(send(fd, "", 0, 0), 0);
        p = (struct pollfd){.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 10000), 1);
        assert_int_equal(recv(fd, in, sizeof in, 0), 4);
        /* 2208988800 + 1767225600 */
        assert_memory_equal(in, "\xed\x00\x37\x80", 4);
        close(fd);
    }
    bht_close(t);
}

static void its_answer_is_understood_by_its_own_client(void **state)
{
    char listen[100];
    int port, fd = free_socket(SOCK_STREAM, &port);
    bht *server, *t;

    (void)state;
    close(fd);
    snprintf(listen, sizeof listen, "listen=udp://127.0.0.1:%d,tcp://127.0.0.1:%d", port, port);
    server = bht_open(listen, NULL);
    t = open_with("time+udp://", port);
    until(t, "\"state\":\"synced\",\"offset_ms\":0.000,\"error_ms\":500.000,\"stratum\":0}");
    bht_close(t);
    t = open_with("time+tcp://", port);
    until(t, "\"state\":\"synced\",\"offset_ms\":0.000,");
    bht_close(t);
    bht_close(server);
}

static void bad_options_are_refused(void **state)
{
    static const char *const bad[] = {"servers=http://a",  "servers=a,b,c,d,e,f,g,h,i",
                                      "listen=0.0.0.0:37", "listen=udp://",
                                      "path=time",         "failures=0",
                                      "interval=1ms"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bht *t = bht_try(bad[i], NULL);

        if (bht_rc(t) == BH_OK)
            fail_msg("%s is taken", bad[i]);
        bht_close(t);
    }
}

static void requests_read_only_the_loops_clocks(void **state)
{
    bht *t = bht_open(NULL);
    unsigned before = bht_clock_reads(BH_CLOCK_REAL) + bht_clock_reads(BH_CLOCK_MONO);

    (void)state;
    bht_run(bht_request(t, "GET", "/"));
    assert_int_equal(bht_clock_reads(BH_CLOCK_REAL) + bht_clock_reads(BH_CLOCK_MONO), before);
    bht_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_time_stamps_give_offset_and_delay),
        cmocka_unit_test(a_question_tells_nothing_and_is_version_4),
        cmocka_unit_test(bad_answers_are_refused),
        cmocka_unit_test(a_kiss_of_death_is_told_by_its_kind),
        cmocka_unit_test(the_rollover_of_2036_is_passed),
        cmocka_unit_test(the_median_of_the_servers_counts),
        cmocka_unit_test(servers_that_disagree_are_a_failure),
        cmocka_unit_test(three_failures_in_a_row_and_five_good_minutes),
        cmocka_unit_test(one_that_never_heard_a_server_goes_on_from_its_own_time),
        cmocka_unit_test(a_time_server_corrects_only_what_it_can_see),
        cmocka_unit_test(sntp_servers_know_better_than_time_servers),
        cmocka_unit_test(figures_are_of_the_window),
        cmocka_unit_test(when_the_machines_clock_is_set_the_right_time_goes_on),
        cmocka_unit_test(what_nobody_checks_gets_worse),
        cmocka_unit_test(servers_are_named_like_urls),
        cmocka_unit_test(an_offset_of_three_seconds_is_corrected),
        cmocka_unit_test(a_fresh_worker_begins_with_what_another_knows),
        cmocka_unit_test(a_server_that_says_rate_is_left_alone),
        cmocka_unit_test(a_server_that_says_deny_is_never_asked_again),
        cmocka_unit_test(each_rate_doubles_the_pause),
        cmocka_unit_test(without_servers_time_is_the_machines),
        cmocka_unit_test(a_server_that_is_not_there_ends_in_compensation),
        cmocka_unit_test(the_time_service_answers_over_udp_and_tcp),
        cmocka_unit_test(its_answer_is_understood_by_its_own_client),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(requests_read_only_the_loops_clocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
