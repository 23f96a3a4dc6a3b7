/*
 * test_rate_limit.c - what rate_limit promises.
 */
#include "buckets.h"

#include <bulkhead_test.h>

#define SECOND 1000000000LL

static bh_req *from(bht *t, const char *client)
{
    bh_req *r = bht_request(t, "GET", "/");

    bht_attr(r, "client", client);
    bht_run(r);
    return r;
}

/* How many of 20 requests pass. */
static int passed(bht *t, const char *client)
{
    int n = 0;

    for (int i = 0; i < 20; i++)
        n += bht_passed(from(t, client));
    return n;
}

static void a_burst_passes_and_then_the_rate(void **state)
{
    bht *t = bht_open("rate=2", "burst=5", NULL);

    (void)state;
    assert_int_equal(passed(t, "192.0.2.1"), 5);
    bht_advance(SECOND);
    assert_int_equal(passed(t, "192.0.2.1"), 2);
    bht_advance(SECOND / 4);
    assert_int_equal(passed(t, "192.0.2.1"), 0);
    bht_advance(SECOND / 4);
    assert_int_equal(passed(t, "192.0.2.1"), 1);
    bht_advance(3600 * SECOND);
    assert_int_equal(passed(t, "192.0.2.1"), 5);
    bht_close(t);
}

static void a_rate_below_one_works(void **state)
{
    bht *t = bht_open("rate=0.1", "burst=1", NULL);

    (void)state;
    assert_int_equal(passed(t, "192.0.2.1"), 1);
    assert_string_equal(bht_resp_header(from(t, "192.0.2.1"), "Retry-After"), "10");
    bht_advance(9 * SECOND);
    assert_int_equal(passed(t, "192.0.2.1"), 0);
    bht_advance(SECOND + 1000);
    assert_int_equal(passed(t, "192.0.2.1"), 1);
    bht_close(t);
}

static void the_answer_says_when_to_come_back(void **state)
{
    bht *t = bht_open("rate=2", "burst=4", NULL);
    bh_req *r = from(t, "192.0.2.1");

    (void)state;
    assert_string_equal(bht_resp_header(r, "RateLimit-Policy"), "\"default\";q=4;w=2");
    assert_string_equal(bht_resp_header(r, "RateLimit"), "\"default\";r=3;t=1");
    passed(t, "192.0.2.1");
    r = from(t, "192.0.2.1");
    assert_int_equal(bht_status(r), 429);
    assert_string_equal(bht_resp_header(r, "Retry-After"), "1");
    assert_string_equal(bht_resp_header(r, "Content-Type"), "application/problem+json");
    assert_non_null(strstr(bht_resp_header(r, "RateLimit"), ";r=0;"));
    bht_close(t);
}

static void headers_can_be_switched_off(void **state)
{
    bht *t = bht_open("headers=false", NULL);

    (void)state;
    assert_null(bht_resp_header(from(t, "192.0.2.1"), "RateLimit"));
    bht_close(t);
}

static void clients_do_not_share(void **state)
{
    bht *t = bht_open("rate=1", "burst=5", NULL);

    (void)state;
    assert_int_equal(passed(t, "192.0.2.1"), 5);
    assert_int_equal(passed(t, "192.0.2.2"), 5);
    assert_int_equal(passed(t, "2001:db8::1"), 5);
    bht_close(t);
}

static void an_ipv6_network_of_64_bits_is_one_client(void **state)
{
    bht *t = bht_open("rate=1", "burst=5", NULL);

    (void)state;
    assert_int_equal(passed(t, "2001:db8::1"), 5);
    assert_int_equal(passed(t, "2001:db8::ffff:2"), 0);
    assert_int_equal(passed(t, "2001:db8:0:1::1"), 5);
    bht_close(t);
}

static void a_mapped_ipv4_address_is_that_address(void **state)
{
    bht *t = bht_open("rate=1", "burst=5", NULL);

    (void)state;
    assert_int_equal(passed(t, "::ffff:192.0.2.1"), 5);
    assert_int_equal(passed(t, "192.0.2.1"), 0);
    bht_close(t);
}

static void clients_without_address_are_one(void **state)
{
    bht *t = bht_open("rate=1", "burst=5", NULL);

    (void)state;
    assert_int_equal(passed(t, NULL), 5);
    assert_int_equal(passed(t, "unix:"), 0);
    bht_close(t);
}

static void exempt_networks_have_no_limit(void **state)
{
    bht *t = bht_open("rate=1", "burst=1", "exempt=10.0.0.0/9,2001:db8::/33", NULL);

    (void)state;
    assert_int_equal(passed(t, "10.127.0.1"), 20);
    assert_int_equal(passed(t, "10.128.0.1"), 1);
    assert_int_equal(passed(t, "2001:db8:7fff::1"), 20);
    assert_int_equal(passed(t, "2001:db8:8000::1"), 1);
    bht_close(t);
}

static void a_header_can_be_the_key(void **state)
{
    bht *t = bht_open("rate=1", "burst=2", "key=header:X-User", NULL);
    const char *users[] = {"eve", "eve", "eve", "adam"};
    int32_t status[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        bh_req *r = bht_request(t, "GET", "/");

        bht_header(r, "X-User", users[i]);
        bht_run(r);
        status[i] = bht_status(r);
    }
    assert_int_equal(status[1], 200);
    assert_int_equal(status[2], 429);
    assert_int_equal(status[3], 200);
    /* Without the header it is the address that counts. */
    assert_int_equal(passed(t, "192.0.2.1"), 2);
    bht_close(t);
}

static void another_kind_of_key_is_refused(void **state)
{
    static const char *const bad[] = {"key=cookie:a", "key=header:", "key=header:A B",
                                      "rate=0",       "burst=0.5",   "max_keys=0"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bht *t = bht_try(bad[i], NULL);

        assert_int_not_equal(bht_rc(t), BH_OK);
        bht_close(t);
    }
}

static void a_flood_of_new_clients_does_not_free_one_that_is_held_back(void **state)
{
    bht *t = bht_open("rate=0.001", "burst=5", "max_keys=64", "scope=worker", NULL);
    char client[32];

    (void)state;
    assert_int_equal(passed(t, "192.0.2.1"), 5);
    for (int i = 0; i < 2000; i++) {
        snprintf(client, sizeof client, "10.0.%d.%d", i / 250, i % 250);
        from(t, client);
    }
    assert_int_equal(passed(t, "192.0.2.1"), 0);
    bht_close(t);
}

static void only_the_loops_clock_is_read(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    from(t, "192.0.2.1");
    assert_int_equal(bht_clock_reads(BH_CLOCK_REAL) + bht_clock_reads(BH_CLOCK_MONO), 0);
    bht_close(t);
}

static void workers_of_a_machine_share_one_limit(void **state)
{
    bht *one = bht_open("rate=2", "burst=5", NULL), *two = bht_open("rate=2", "burst=5", NULL);

    (void)state;
    assert_int_equal(bht_passed(from(one, "192.0.2.1")) + bht_passed(from(two, "192.0.2.1")), 2);
    assert_int_equal(passed(one, "192.0.2.1") + passed(two, "192.0.2.1"), 3);
    bht_advance(SECOND);
    assert_int_equal(passed(two, "192.0.2.1") + passed(one, "192.0.2.1"), 2);
    bht_close(one);
    bht_close(two);
}

static void each_worker_for_itself_when_told_so(void **state)
{
    bht *one = bht_open("rate=2", "burst=5", "scope=worker", NULL);
    bht *two = bht_open("rate=2", "burst=5", "scope=worker", NULL);

    (void)state;
    assert_int_equal(passed(one, "192.0.2.1") + passed(two, "192.0.2.1"), 10);
    bht_close(one);
    bht_close(two);
}

static void a_full_store_leaves_each_worker_its_own_table(void **state)
{
    bht *t = bht_open("rate=2", "burst=5", NULL);

    (void)state;
    bht_store_full(true);
    assert_int_equal(passed(t, "192.0.2.1"), 5);
    assert_int_equal(passed(t, "192.0.2.2"), 5);
    bht_store_full(false);
    bht_close(t);
}

static void long_values_of_a_header_are_told_apart(void **state)
{
    bht *t = bht_open("key=header:X-Key", "rate=0.001", "burst=1", NULL);
    char value[600];
    int n = 0;

    (void)state;
    for (int i = 0; i < 10; i++) {
        bh_req *r = bht_request(t, "GET", "/");

        memset(value, 'x', sizeof value - 1);
        value[sizeof value - 1] = '\0';
        value[300] = (char)('0' + i % 5); /* in the middle */
        bht_header(r, "X-Key", value);
        bht_run(r);
        n += bht_passed(r);
    }
    assert_int_equal(n, 5);
    bht_close(t);
}

static void machines_of_a_cluster_share_one_limit(void **state)
{
    bht *one = bht_open("rate=2", "burst=8", "scope=cluster", NULL);
    bht *two = bht_open("rate=2", "burst=8", "scope=cluster", NULL);

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(bht_passed(from(one, "192.0.2.1")) + bht_passed(from(two, "192.0.2.1")),
                         2);
    assert_int_equal(passed(one, "192.0.2.1") + passed(two, "192.0.2.1"), 0);
    bht_advance(SECOND);
    assert_int_equal(passed(two, "192.0.2.1") + passed(one, "192.0.2.1"), 2);
    bht_close(one);
    bht_close(two);
}

static void a_lease_spares_questions_and_so_does_a_refusal(void **state)
{
    bht *t = bht_open("rate=1000", "burst=400", "scope=cluster", "lease=50ms", NULL);
    unsigned before = bht_store_asked();
    bh_req *r;

    (void)state;
    for (int i = 0; i < 400; i++)
        assert_true(bht_passed(from(t, "192.0.2.1")));
    assert_int_equal(bht_store_asked() - before, 8); /* 50 at a time */
    for (int i = 0; i < 50; i++) {
        r = from(t, "192.0.2.1");
        assert_int_equal(bht_status(r), 429);
        assert_string_equal(bht_resp_header(r, "Retry-After"), "1");
        assert_non_null(strstr(bht_resp_header(r, "RateLimit"), ";r=0;"));
    }
    assert_int_equal(bht_store_asked() - before, 9);
    bht_close(t);
}

static void an_old_lease_is_forgotten(void **state)
{
    bht *t = bht_open("rate=10", "burst=8", "scope=cluster", "lease=200ms", NULL);

    (void)state;
    assert_true(bht_passed(from(t, "192.0.2.1"))); /* one of two that were taken */
    bht_advance(2 * SECOND);
    assert_int_equal(passed(t, "192.0.2.1"), 8); /* not nine */
    bht_close(t);
}

static void without_the_clusters_store_it_fails(void **state)
{
    bht *t = bht_open("scope=cluster", NULL);
    bh_req *r;

    (void)state;
    bht_store_down(true);
    r = from(t, "192.0.2.1");
    assert_false(bht_passed(r));
    assert_int_equal(bht_status(r), 500); /* or goes on, with on_error: fail_open */
    bht_store_down(false);
    assert_true(bht_passed(from(t, "192.0.2.1")));
    bht_close(t);
}

static void keys_of_different_kinds_and_lengths_differ(void **state)
{
    const uint64_t seed[2] = {1, 2};
    struct buckets *b = buckets_create(8, 1, 1, seed);

    (void)state;
    assert_true(buckets_key(b, 'h', "abcd", 4) == buckets_key(b, 'h', "abcd", 4));
    assert_true(buckets_key(b, 'h', "abcd", 4) != buckets_key(b, '4', "abcd", 4));
    assert_true(buckets_key(b, 'h', "abcd\0", 5) != buckets_key(b, 'h', "abcd", 4));
    assert_true(buckets_key(b, 'h', "abcdefgh1", 9) != buckets_key(b, 'h', "abcdefgh2", 9));
    buckets_destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_passes_and_then_the_rate),
        cmocka_unit_test(a_rate_below_one_works),
        cmocka_unit_test(the_answer_says_when_to_come_back),
        cmocka_unit_test(headers_can_be_switched_off),
        cmocka_unit_test(clients_do_not_share),
        cmocka_unit_test(an_ipv6_network_of_64_bits_is_one_client),
        cmocka_unit_test(a_mapped_ipv4_address_is_that_address),
        cmocka_unit_test(clients_without_address_are_one),
        cmocka_unit_test(exempt_networks_have_no_limit),
        cmocka_unit_test(a_header_can_be_the_key),
        cmocka_unit_test(another_kind_of_key_is_refused),
        cmocka_unit_test(a_flood_of_new_clients_does_not_free_one_that_is_held_back),
        cmocka_unit_test(only_the_loops_clock_is_read),
        cmocka_unit_test(keys_of_different_kinds_and_lengths_differ),
        cmocka_unit_test(workers_of_a_machine_share_one_limit),
        cmocka_unit_test(each_worker_for_itself_when_told_so),
        cmocka_unit_test(a_full_store_leaves_each_worker_its_own_table),
        cmocka_unit_test(long_values_of_a_header_are_told_apart),
        cmocka_unit_test(machines_of_a_cluster_share_one_limit),
        cmocka_unit_test(a_lease_spares_questions_and_so_does_a_refusal),
        cmocka_unit_test(an_old_lease_is_forgotten),
        cmocka_unit_test(without_the_clusters_store_it_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
