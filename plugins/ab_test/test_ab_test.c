/*
 * test_ab_test.c - what ab_test promises.
 */
#include "experiment.h"
#include "siphash.h"
#include "target.h"

#include <bulkhead_test.h>

#define IDS 1000000

static bh_req *request(bht *t, const char *sid, const char *more_name, const char *more)
{
    bh_req *r = bht_request(t, "GET", "/");
    char cookie[400];

    snprintf(cookie, sizeof cookie, "sid=%s", sid);
    if (more_name != NULL && strcmp(more_name, "Cookie") == 0)
        snprintf(cookie, sizeof cookie, "sid=%s; %s", sid, more);
    else if (more_name != NULL)
        bht_header(r, more_name, more);
    bht_header(r, "Cookie", cookie);
    return r;
}

/* As trace_time leaves it. */
static void at(bh_req *r, const char *client, const char *gateway)
{
    assert_int_equal(bh_var_set(r, "trace_time.gateway", bh_s(gateway)), BH_OK);
    if (client != NULL)
        assert_int_equal(bh_var_set(r, "trace_time.client", bh_s(client)), BH_OK);
}

static const char *group_of(bht *t, const char *sid)
{
    bh_req *r = request(t, sid, NULL, NULL);

    bht_run(r);
    assert_true(bht_passed(r));
    return bht_var(r, "ab.colour");
}

#define HALVES "name=colour", "salt=s1", "groups.control=50", "groups.blue=50"

static void siphash_is_siphash(void **state)
{
    (void)state;
    /* As of openssl mac -macopt hexkey:00...00 -macopt size:8 -in FILE SIPHASH, read backwards. */
    assert_true(siphash("", 0) == 0x1e924b9d737700d7);
    assert_true(siphash("abcdefgh", 8) == 0xe65ba172cce22193);
    assert_true(siphash("salt\0name\0id", 12) == 0x661fd5bf7f7748d1);
}

static void the_group_follows_from_the_id_alone(void **state)
{
    bht *t = bht_open(HALVES, NULL), *other = bht_open(HALVES, NULL);
    char sid[16];
    int blue = 0;

    (void)state;
    for (int i = 0; i < 200; i++) {
        snprintf(sid, sizeof sid, "s%d", i);
        assert_string_equal(group_of(t, sid), group_of(other, sid));
        blue += strcmp(group_of(t, sid), "blue") == 0;
    }
    assert_true(blue > 60 && blue < 140);
    bht_close(t);
    bht_close(other);
}

/* Pearson's chi-square of counts against shares of n. */
static double chi_square(const uint32_t *count, const double *share, size_t groups, double n)
{
    double sum = 0;

    for (size_t i = 0; i < groups; i++) {
        double d = count[i] - share[i] * n;

        sum += d * d / (share[i] * n);
    }
    return sum;
}

static struct experiment experiment(const char *name, const char *salt, const bh_pair *pairs,
                                    size_t n)
{
    const bh_map map = {pairs, n};
    struct experiment e;

    assert_null(experiment_init(&e, bh_s(name), bh_s(salt), &map));
    return e;
}

#define PAIR(K, V)           \
    {                        \
        {K, sizeof(K) - 1},  \
        {                    \
            V, sizeof(V) - 1 \
        }                    \
    }

static const bh_pair four[] = {PAIR("a", "50"), PAIR("b", "30"), PAIR("c", "19"), PAIR("d", "1")};

/* 16.27: what chi-square with three degrees of freedom passes once in a thousand by chance. The ids
 * are fixed, so this either holds or does not, for ever. */
static void a_million_ids_are_split_as_the_weights_say(void **state)
{
    static const double share[] = {0.50, 0.30, 0.19, 0.01};
    static const char *const salts[] = {"s1", "another", "2026"};

    (void)state;
    for (size_t s = 0; s < sizeof salts / sizeof salts[0]; s++) {
        struct experiment e = experiment("colour", salts[s], four, 4);
        uint32_t count[4] = {0}, fallback[4] = {0};
        char id[32];

        for (int i = 0; i < IDS; i++) {
            bh_str sid = bh_sn(id, (size_t)snprintf(id, sizeof id, "%d", i));

            count[experiment_group(&e, experiment_bucket(&e, sid, -1))]++;
            fallback[experiment_group(&e, experiment_bucket_by_id(sid))]++;
        }
        assert_true(chi_square(count, share, 4, IDS) < 16.27);
        assert_true(chi_square(fallback, share, 4, IDS) < 16.27);
    }
}

/* Two experiments, or two salts, must not hold the same people: every pair of groups a quarter. */
static void experiments_are_independent(void **state)
{
    static const bh_pair halves[] = {PAIR("a", "1"), PAIR("b", "1")};
    static const double share[] = {0.25, 0.25, 0.25, 0.25};
    struct experiment e = experiment("one", "s", halves, 2), f = experiment("two", "s", halves, 2);
    uint32_t count[4] = {0};
    char id[32];

    (void)state;
    for (int i = 0; i < 100000; i++) {
        bh_str sid = bh_sn(id, (size_t)snprintf(id, sizeof id, "user-%d", i));

        count[2 * experiment_group(&e, experiment_bucket(&e, sid, -1)) +
              experiment_group(&f, experiment_bucket(&f, sid, -1))]++;
    }
    assert_true(chi_square(count, share, 4, 100000) < 16.27);
}

/* What the README tells those who write an SDK. */
static void the_bucket_is_the_hash_of_salt_name_and_id(void **state)
{
    static const bh_pair one[] = {PAIR("a", "1")};
    struct experiment e = experiment("name", "salt", one, 1);

    (void)state;
    assert_int_equal(experiment_bucket(&e, bh_s("id"), -1), 0x661fd5bf7f7748d1 % 10000);
    assert_int_equal(experiment_bucket(&e, bh_s("id"), 7), siphash("salt\0name\0id\0"
                                                                   "7",
                                                                   14) %
                                                               10000);
}

static void growing_a_group_moves_nobody_else(void **state)
{
    static const bh_pair small[] = {PAIR("blue", "10"), PAIR("control", "90")},
                         large[] = {PAIR("blue", "20"), PAIR("control", "80")};
    struct experiment e = experiment("x", "s", small, 2), f = experiment("x", "s", large, 2);
    int moved = 0;
    char id[32];

    (void)state;
    for (int i = 0; i < 10000; i++) {
        bh_str sid = bh_sn(id, (size_t)snprintf(id, sizeof id, "%d", i));
        size_t before = experiment_group(&e, experiment_bucket(&e, sid, -1));
        size_t after = experiment_group(&f, experiment_bucket(&f, sid, -1));

        assert_false(before == 0 && after != 0);
        moved += before != after;
    }
    assert_true(moved > 900 && moved < 1100);
}

static void ids_that_are_numbers_fall_back_to_their_remainder(void **state)
{
    (void)state;
    assert_int_equal(experiment_bucket_by_id(bh_s("1234567")), 5670);
    assert_int_equal(experiment_bucket_by_id(bh_s("0")), 0);
    assert_int_equal(experiment_bucket_by_id(bh_s("999999999999999999")), 9990);
    /* No numbers: hashed. */
    assert_int_equal(experiment_bucket_by_id(bh_s("12a")), siphash("12a", 3) % 1000 * 10);
    assert_int_equal(experiment_bucket_by_id(bh_s("1000000000000000000")),
                     siphash("1000000000000000000", 19) % 1000 * 10);
}

static void a_time_that_is_off_falls_back_to_the_session_id(void **state)
{
    bht *t = bht_open("name=colour", "groups.low=300", "groups.high=700", NULL);
    static const struct {
        const char *sid, *client, *group, *reason;
    } cases[] = {
        {"1299", "1767225600.201", "low", "fallback"},
        {"1300", "1767225600.201", "high", "fallback"},
        {"1299", "1767225599.799", "low", "fallback"},
        {"1299", "1767225600.200", NULL, "assigned"},
        {"1299", NULL, NULL, "assigned"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bh_req *r = request(t, cases[i].sid, NULL, NULL);
        char reason[64];

        at(r, cases[i].client, "1767225600.000");
        bht_run(r);
        if (cases[i].group != NULL)
            assert_string_equal(bht_var(r, "ab.colour"), cases[i].group);
        snprintf(reason, sizeof reason, "\"reason\":\"%s\"", cases[i].reason);
        assert_non_null(strstr(bht_var(r, "ab_exposures"), reason));
    }
    /* Reported at once, then every ten seconds at most. */
    assert_non_null(strstr(bht_log_text(t), "experiment 'colour': 1 request was split by session "
                                            "id: its time is off by more than 200 ms (the last by "
                                            "201 ms)"));
    assert_null(strstr(strchr(bht_log_text(t), '\n') + 1, "split by session id"));
    assert_string_equal(bht_events_text(t),
                        "ab_fallback: experiment 'colour': 1 request was split by session id: "
                        "its time is off by more than 200 ms (the last by 201 ms)\n");
    bht_advance(11 * 1000000000LL);
    {
        bh_req *r = request(t, "1299", NULL, NULL);

        at(r, "1767225600.900", "1767225600.000");
        bht_run(r);
    }
    assert_non_null(strstr(strchr(bht_events_text(t), '\n'), "'colour': 3 requests were split"));
    bht_close(t);
}

static void a_client_stays_in_its_group_when_the_weights_change(void **state)
{
    bht *before = bht_open("name=colour", "groups.control=100", "groups.blue=0", NULL);
    bht *after = bht_open("name=colour", "groups.control=0", "groups.blue=100", NULL);
    bh_req *r = request(before, "u1", NULL, NULL);
    char cookie[200];

    (void)state;
    bht_run(r);
    assert_string_equal(bht_var(r, "ab.colour"), "control");
    snprintf(cookie, sizeof cookie, "%.*s", (int)strcspn(bht_resp_header(r, "Set-Cookie"), ";"),
             bht_resp_header(r, "Set-Cookie"));
    assert_non_null(strstr(bht_resp_header(r, "Set-Cookie"),
                           "; Path=/; Max-Age=2592000; SameSite=Lax; HttpOnly"));
    r = request(after, "u1", "Cookie", cookie);
    bht_run(r);
    assert_string_equal(bht_var(r, "ab.colour"), "control");
    assert_null(bht_resp_header(r, "Set-Cookie"));
    assert_non_null(strstr(bht_var(r, "ab_exposures"), "\"reason\":\"sticky\""));
    /* It is that id's cookie, and nobody else's; nor is a group's name enough. */
    r = request(after, "u2", "Cookie", cookie);
    bht_run(r);
    assert_string_equal(bht_var(r, "ab.colour"), "blue");
    r = request(after, "u1", "Cookie", "ab_colour=control.0123456789abcdef");
    bht_run(r);
    assert_string_equal(bht_var(r, "ab.colour"), "blue");
    bht_close(before);
    bht_close(after);
}

static void not_sticky_means_that_the_id_decides(void **state)
{
    bht *before = bht_open("name=colour", "groups.control=100", "groups.blue=0", NULL);
    bht *after = bht_open("name=colour", "groups.control=0", "groups.blue=100", "sticky=false",
                          NULL);
    bh_req *r = request(before, "u1", NULL, NULL);
    char cookie[200];

    (void)state;
    bht_run(r);
    snprintf(cookie, sizeof cookie, "%.*s", (int)strcspn(bht_resp_header(r, "Set-Cookie"), ";"),
             bht_resp_header(r, "Set-Cookie"));
    r = request(after, "u1", "Cookie", cookie);
    bht_run(r);
    assert_string_equal(bht_var(r, "ab.colour"), "blue");
    assert_non_null(bht_resp_header(r, "Set-Cookie"));
    bht_close(before);
    bht_close(after);
}

static void the_group_goes_both_ways_in_a_header(void **state)
{
    bht *t = bht_open("name=colour", "groups.blue=1", NULL);
    bh_req *r = request(t, "u1", "X-Experiment", "colour=forged");

    (void)state;
    bht_run(r);
    assert_string_equal(bht_req_header(r, "X-Experiment"), "colour=blue");
    assert_string_equal(bht_resp_header(r, "X-Experiment"), "colour=blue");
    bht_close(t);
}

static void who_has_no_id_takes_no_part(void **state)
{
    bht *t = bht_open(HALVES, NULL);
    bh_req *r = bht_request(t, "GET", "/");
    char sid[300];

    (void)state;
    bht_header(r, "X-Experiment", "colour=forged");
    bht_run(r);
    assert_true(bht_passed(r));
    assert_null(bht_var(r, "ab.colour"));
    assert_null(bht_req_header(r, "X-Experiment"));
    memset(sid, 'a', sizeof sid);
    sid[257] = '\0';
    assert_null(group_of(t, sid));
    bht_close(t);
}

static void targets_choose_who_takes_part(void **state)
{
    bht *t = bht_open(HALVES, "id=header:X-User", "target.header:X-Country=DE|A*",
                      "target.path=/shop/*", NULL);
    static const struct {
        const char *path, *country;
        int in;
    } cases[] = {{"/shop/a", "DE", 1}, {"/shop/a", "AT", 1}, {"/shop/a", "FR", 0}, {"/a", "DE", 0},
                 {"/shop/a", NULL, 0}, {"/shop/", "A", 1},   {"/shop/a", "", 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bh_req *r = bht_request(t, "GET", cases[i].path);

        bht_header(r, "X-User", "7");
        if (cases[i].country != NULL)
            bht_header(r, "X-Country", cases[i].country);
        bht_run(r);
        assert_int_equal(bht_var(r, "ab.colour") != NULL, cases[i].in);
    }
    bht_close(t);
}

static void patterns_are_matched_whole(void **state)
{
    (void)state;
    assert_true(target_glob(bh_s("*"), bh_s("")));
    assert_true(target_glob(bh_s("a*b*c"), bh_s("axxbyybzc")));
    assert_false(target_glob(bh_s("a*b*c"), bh_s("axxbyybz")));
    assert_false(target_glob(bh_s("ab"), bh_s("abc")));
    assert_true(target_glob(bh_s("*a*"), bh_s("bab")));
    assert_false(target_glob(bh_s(""), bh_s("a")));
}

static void it_begins_and_ends_by_the_requests_time(void **state)
{
    bht *t = bht_open(HALVES, "starts=2026-01-01T00:00:10Z", "ends=2026-01-02", NULL);
    static const struct {
        const char *client, *gateway;
        int in;
    } cases[] = {
        {NULL, "1767225609.999", 0},
        {NULL, "1767225610.000", 1},
        {"1767225610.050", "1767225609.900", 1}, /* the client's, when it is near */
        {"1767225609.950", "1767225610.050", 0},
        {"1767225700.000", "1767225609.900", 0}, /* the gateway's, when it is not */
        {NULL, "1767311999.999", 1},
        {NULL, "1767312000.000", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bh_req *r = request(t, "u1", NULL, NULL);

        at(r, cases[i].client, cases[i].gateway);
        bht_run(r);
        assert_int_equal(bht_var(r, "ab.colour") != NULL, cases[i].in);
    }
    bht_close(t);
}

static void each_slice_of_time_draws_anew(void **state)
{
    bht *t = bht_open(HALVES, "slice=1h", "sticky=false", NULL);
    int changes = 0;
    const char *last = NULL;

    (void)state;
    for (int hour = 0; hour < 64; hour++) {
        bh_req *r = request(t, "u1", NULL, NULL), *later = request(t, "u1", NULL, NULL);
        char begin[32], end[32];

        snprintf(begin, sizeof begin, "%d.000", 1767225600 + hour * 3600);
        snprintf(end, sizeof end, "%d.999", 1767225600 + hour * 3600 + 3599);
        at(r, NULL, begin);
        at(later, NULL, end);
        bht_run(r);
        bht_run(later);
        assert_string_equal(bht_var(r, "ab.colour"), bht_var(later, "ab.colour"));
        changes += last != NULL && strcmp(last, bht_var(r, "ab.colour")) != 0;
        last = bht_var(r, "ab.colour");
    }
    assert_true(changes > 16 && changes < 48);
    bht_close(t);
}

static void testers_choose_their_group(void **state)
{
    bht *t = bht_open("name=colour", "groups.control=1", "groups.blue=0", "testers=10.0.0.0/8",
                      "override_key=let-me-in", NULL);
    static const struct {
        const char *client, *target, *key, *group;
    } cases[] = {
        {"10.1.2.3", "/?ab_colour=blue", NULL, "blue"},
        {"192.0.2.1", "/?ab_colour=blue", NULL, "control"},
        {"192.0.2.1", "/?ab_colour=blue", "let-me-in", "blue"},
        {"192.0.2.1", "/?ab_colour=blue", "let-me-inn", "control"},
        {"192.0.2.1", "/?ab_colour=blue", "", "control"},
        {"10.1.2.3", "/?ab_colour=green", NULL, "control"},
    };
    bh_req *r;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r = bht_request(t, "GET", cases[i].target);
        bht_attr(r, "client", cases[i].client);
        bht_header(r, "Cookie", "sid=1");
        if (cases[i].key != NULL)
            bht_header(r, "X-Experiment-Key", cases[i].key);
        bht_run(r);
        assert_string_equal(bht_var(r, "ab.colour"), cases[i].group);
    }
    r = request(t, "1", "X-Experiment-Override", "colour=blue");
    bht_attr(r, "client", "10.0.0.1");
    bht_run(r);
    assert_string_equal(bht_var(r, "ab.colour"), "blue");
    /* A look is not remembered. */
    assert_null(bht_resp_header(r, "Set-Cookie"));
    bht_close(t);
}

static void rates_are_of_the_window(void **state)
{
    bht *t = bht_open("name=colour", "groups.low=300", "groups.high=700", "sticky=false",
                      "window=60s", NULL);
    char cookie[200] = "";

    (void)state;
    /* One client, four requests; of two the time is off. 1299: low by its id; high by its hash. */
    for (int i = 0; i < 4; i++) {
        bh_req *r = request(t, "1299", cookie[0] ? "Cookie" : NULL, cookie);

        at(r, i % 2 ? "1767225700.000" : "1767225600.000", "1767225600.000");
        bht_run(r);
        assert_string_equal(bht_var(r, "ab.colour"), i % 2 ? "low" : "high");
        snprintf(cookie, sizeof cookie, "%.*s", (int)strcspn(bht_resp_header(r, "Set-Cookie"), ";"),
                 bht_resp_header(r, "Set-Cookie"));
    }
    for (int i = 0; i < 6; i++) { /* others, new */
        bh_req *r = request(t, "77", NULL, NULL);

        at(r, NULL, "1767225600.000");
        bht_run(r);
    }
    bht_advance(1000000000);
    assert_true(bht_metric(t, "ab_fallback_rate{colour}") == 0.2);
    assert_true(bht_metric(t, "group_assignment_consistency_rate{colour}") == 0);
    assert_true(bht_metric(t, "ab_fallbacks_total{colour}") == 2);
    assert_true(bht_metric(t, "ab_seen_again_total{colour}") == 3);
    assert_true(bht_metric(t, "ab_consistent_total{colour}") == 0);
    assert_true(bht_metric(t, "ab_assignments_total{colour,low,fallback}") == 2);
    assert_true(bht_metric(t, "ab_assignments_total{colour,high,assigned}") >= 2);
    /* All of that is over after two windows. */
    bht_advance(121000000000LL);
    for (int i = 0; i < 3; i++) {
        bh_req *r = request(t, "1299", i ? "Cookie" : NULL, cookie);

        at(r, NULL, "1767225600.000");
        bht_run(r);
        if (i == 0)
            snprintf(cookie, sizeof cookie, "%.*s",
                     (int)strcspn(bht_resp_header(r, "Set-Cookie"), ";"),
                     bht_resp_header(r, "Set-Cookie"));
    }
    bht_advance(1000000000);
    assert_true(bht_metric(t, "ab_fallback_rate{colour}") == 0);
    assert_true(bht_metric(t, "group_assignment_consistency_rate{colour}") == 1);
    bht_close(t);
}

static void an_exposure_is_json_whatever_the_id_is(void **state)
{
    bht *t = bht_open("name=colour", "groups.blue=1", "id=header:X-User", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_header(r, "X-User", "a\"b\\c\xc3\xa4\t");
    at(r, "1767225600.010", "1767225600.020");
    bht_run(r);
    assert_non_null(
        strstr(bht_var(r, "ab_exposures"),
               "{\"experiment\":\"colour\",\"group\":\"blue\",\"id\":\"a\\u0022b\\u005cc"
               "\\u00c3\\u00a4\\u0009\",\"reason\":\"assigned\",\"bucket\":"));
    assert_non_null(strstr(bht_var(r, "ab_exposures"),
                           ",\"fallback\":false,\"request_time\":\"1767225600.010\","
                           "\"gateway_time\":\"1767225600.020\"}"));
    bht_close(t);
}

static void two_experiments_add_up_in_one_variable(void **state)
{
    bht *t = bht_open("name=colour", "groups.blue=1", NULL);
    bh_req *r = request(t, "u1", NULL, NULL);

    (void)state;
    assert_int_equal(bh_var_set(r, "ab_exposures", bh_s("{\"experiment\":\"x\"}")), BH_OK);
    bht_run(r);
    assert_memory_equal(bht_var(r, "ab_exposures"),
                        "{\"experiment\":\"x\"},{\"experiment\":\"colour\"", 41);
    bht_close(t);
}

static void bad_options_are_refused(void **state)
{
    static const char *const bad[][2] = {
        {"name=a b", NULL},
        {"groups.b c=1", NULL},
        {"groups.a=-1", NULL},
        {"groups.a=0", NULL},
        {"groups.a=1.5", NULL},
        {"id=session", NULL},
        {"id=cookie:", NULL},
        {"salt=", NULL},
        {"target.country=DE", NULL},
        {"starts=tomorrow", NULL},
        {"starts=2026-01-02", "ends=2026-01-01"},
        {"slice=300ms", NULL},
        {"override_key=short", NULL},
        {"header=X Y", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *name = strncmp(bad[i][0], "name", 4) == 0 ? bad[i][0] : "name=x";
        const char *groups = strncmp(bad[i][0], "groups", 6) == 0 ? bad[i][0] : "groups.a=1";
        const char *rest = name == bad[i][0] || groups == bad[i][0] ? "sticky=true" : bad[i][0];
        bht *t = bht_try(name, groups, rest, bad[i][1], NULL);

        if (bht_rc(t) == BH_OK)
            fail_msg("%s is not refused", bad[i][0]);
        bht_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_is_siphash),
        cmocka_unit_test(the_group_follows_from_the_id_alone),
        cmocka_unit_test(a_million_ids_are_split_as_the_weights_say),
        cmocka_unit_test(experiments_are_independent),
        cmocka_unit_test(the_bucket_is_the_hash_of_salt_name_and_id),
        cmocka_unit_test(growing_a_group_moves_nobody_else),
        cmocka_unit_test(ids_that_are_numbers_fall_back_to_their_remainder),
        cmocka_unit_test(a_time_that_is_off_falls_back_to_the_session_id),
        cmocka_unit_test(a_client_stays_in_its_group_when_the_weights_change),
        cmocka_unit_test(not_sticky_means_that_the_id_decides),
        cmocka_unit_test(the_group_goes_both_ways_in_a_header),
        cmocka_unit_test(who_has_no_id_takes_no_part),
        cmocka_unit_test(targets_choose_who_takes_part),
        cmocka_unit_test(patterns_are_matched_whole),
        cmocka_unit_test(it_begins_and_ends_by_the_requests_time),
        cmocka_unit_test(each_slice_of_time_draws_anew),
        cmocka_unit_test(testers_choose_their_group),
        cmocka_unit_test(rates_are_of_the_window),
        cmocka_unit_test(an_exposure_is_json_whatever_the_id_is),
        cmocka_unit_test(two_experiments_add_up_in_one_variable),
        cmocka_unit_test(bad_options_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
