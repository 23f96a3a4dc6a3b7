/*
 * test_trace_time.c - what trace_time promises.
 */
#include "stamp.h"

#include <bulkhead_test.h>

#define MS     1000000LL
#define SECOND (1000 * MS)

/* bht_open() sets the clocks to 2026-01-01T00:00:00.000Z. */
#define NOW "1767225600.000"

static bh_req *sent_at(bht *t, const char *time, const char *offset)
{
    bh_req *r = bht_request(t, "GET", "/");

    if (time != NULL)
        bht_header(r, "X-Trace-Time", time);
    if (offset != NULL)
        bht_header(r, "X-Time-Offset", offset);
    bht_run(r);
    return r;
}

static void a_time_near_the_gateways_is_the_anchor(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = sent_at(t, "1767225599.900", NULL);

    (void)state;
    assert_true(bht_passed(r));
    assert_string_equal(bht_var(r, "trace_time_anchor"), "1767225599.900");
    assert_string_equal(bht_var(r, "trace_time.source"), "client");
    assert_string_equal(bht_var(r, "trace_time.client"), "1767225599.900");
    assert_string_equal(bht_var(r, "trace_time.gateway"), NOW);
    assert_string_equal(bht_var(r, "trace_time.skew_ms"), "-100");
    assert_string_equal(bht_req_header(r, "X-Trace-Time"), "1767225599.900");
    assert_string_equal(bht_resp_header(r, "X-Trace-Time"), "1767225599.900");
    bht_close(t);
}

static void without_a_time_it_is_the_gateways(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = sent_at(t, NULL, NULL);

    (void)state;
    assert_string_equal(bht_var(r, "trace_time_anchor"), NOW);
    assert_string_equal(bht_var(r, "trace_time.source"), "gateway");
    assert_null(bht_var(r, "trace_time.client"));
    assert_null(bht_var(r, "trace_time.skew_ms"));
    assert_string_equal(bht_req_header(r, "X-Trace-Time"), NOW);
    bht_close(t);
}

static void the_tolerance_is_exact(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    assert_string_equal(bht_var(sent_at(t, "1767225600.200", NULL), "trace_time.source"), "client");
    assert_string_equal(bht_var(sent_at(t, "1767225600.201", NULL), "trace_time.source"),
                        "gateway");
    assert_string_equal(bht_var(sent_at(t, "1767225599.800", NULL), "trace_time.source"), "client");
    assert_string_equal(bht_var(sent_at(t, "1767225599.799", NULL), "trace_time.source"),
                        "gateway");
    bht_close(t);
}

static void one_that_is_off_is_replaced_but_told(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = sent_at(t, "1767225605", NULL);

    (void)state;
    assert_string_equal(bht_var(r, "trace_time_anchor"), NOW);
    assert_string_equal(bht_var(r, "trace_time.client"), "1767225605.000");
    assert_string_equal(bht_var(r, "trace_time.skew_ms"), "5000");
    assert_string_equal(bht_resp_header(r, "X-Trace-Time"), NOW);
    bht_close(t);
}

static void the_clients_own_offset_corrects_its_time(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = sent_at(t, "1767229200.050", "-3600000.7");

    (void)state;
    assert_string_equal(bht_var(r, "trace_time_anchor"), "1767225600.050");
    assert_string_equal(bht_var(r, "trace_time.source"), "client");
    /* The next hop must not correct it again. */
    assert_null(bht_req_header(r, "X-Time-Offset"));
    bht_close(t);
}

static void nonsense_is_no_time(void **state)
{
    static const char *const bad[] = {
        "",
        "now",
        "-1767225600",
        "1767225600.",
        " 1767225600",
        "1e9",
        "1767225600.1.2",
        "0x69562a80",
        "17672256000000",
        "1767225600,5",
        "12345",
        "inf",
        "1767225600.0a0",
        "1767225600 ",
        "1767225600.1234567890",
        "1667225600" /* three years ago */,
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bht *t = bht_open(NULL);
        bh_req *r = sent_at(t, bad[i], NULL);

        assert_string_equal(bht_var(r, "trace_time_anchor"), NOW);
        assert_null(bht_var(r, "trace_time.client"));
        bht_close(t);
    }
}

static void an_offset_that_is_nonsense_counts_as_none(void **state)
{
    static const char *const bad[] = {"",   "x",           "-",  "1e3", "1234567890123",
                                      "5.", "99999999999", "--5"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bht *t = bht_open(NULL);
        bh_req *r = sent_at(t, "1767225600.100", bad[i]);

        assert_string_equal(bht_var(r, "trace_time_anchor"), "1767225600.100");
        bht_close(t);
    }
}

static void headers_and_the_answer_are_options(void **state)
{
    bht *t = bht_open("header=X-Sent", "response=false", "tolerance=5s", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_header(r, "X-Sent", "1767225604.5");
    bht_run(r);
    assert_string_equal(bht_var(r, "trace_time_anchor"), "1767225604.500");
    assert_null(bht_resp_header(r, "X-Sent"));
    bht_close(t);
}

static void bad_options_are_refused(void **state)
{
    static const char *const bad[] = {"header=", "header=X Y", "offset_header=a:b", "tolerance=0s",
                                      "plausible=100ms"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bht *t = bht_try(bad[i], NULL);

        assert_int_not_equal(bht_rc(t), BH_OK);
        bht_close(t);
    }
}

static void only_the_loops_clocks_are_read(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    sent_at(t, NOW, NULL);
    assert_int_equal(bht_clock_reads(BH_CLOCK_REAL) + bht_clock_reads(BH_CLOCK_MONO), 0);
    bht_close(t);
}

static void the_largest_skew_is_told_and_forgotten(void **state)
{
    bht *t = bht_open("window=60s", NULL);

    (void)state;
    sent_at(t, "1767225600.150", NULL);
    sent_at(t, "1767225592.000", NULL);
    sent_at(t, "1767225600.020", NULL);
    sent_at(t, NULL, NULL);
    sent_at(t, "1667225600", NULL); /* nonsense is no skew */
    assert_true(bht_metric(t, "trace_time_skew_ms_max") == 8000);
    assert_true(bht_metric(t, "trace_time_requests_total{client}") == 2);
    assert_true(bht_metric(t, "trace_time_requests_total{corrected}") == 1);
    assert_true(bht_metric(t, "trace_time_requests_total{gateway}") == 2);
    bht_advance(59 * SECOND);
    assert_true(bht_metric(t, "trace_time_skew_ms_max") == 8000);
    bht_advance(70 * SECOND);
    assert_true(bht_metric(t, "trace_time_skew_ms_max") == 0);
    bht_close(t);
}

static void stamps_survive_a_round_trip(void **state)
{
    char buf[STAMP_SIZE];
    int64_t ms = 0;

    (void)state;
    for (int64_t v = 1767225600000; v < 1767225602000; v += 7) {
        assert_int_equal(stamp_parse(stamp_print(v, buf), &ms), 1);
        assert_int_equal(ms, v);
    }
    assert_int_equal(stamp_parse(bh_s("1767225600.0289"), &ms), 1);
    assert_int_equal(ms, 1767225600028);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_time_near_the_gateways_is_the_anchor),
        cmocka_unit_test(without_a_time_it_is_the_gateways),
        cmocka_unit_test(the_tolerance_is_exact),
        cmocka_unit_test(one_that_is_off_is_replaced_but_told),
        cmocka_unit_test(the_clients_own_offset_corrects_its_time),
        cmocka_unit_test(nonsense_is_no_time),
        cmocka_unit_test(an_offset_that_is_nonsense_counts_as_none),
        cmocka_unit_test(headers_and_the_answer_are_options),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(only_the_loops_clocks_are_read),
        cmocka_unit_test(the_largest_skew_is_told_and_forgotten),
        cmocka_unit_test(stamps_survive_a_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
