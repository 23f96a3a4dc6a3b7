/*
 * test_request_id.c - what request_id promises.
 */
#include <bulkhead_test.h>

static const char *id_of(bht *t, const char *sent)
{
    bh_req *r = bht_request(t, "GET", "/");

    if (sent != NULL)
        bht_header(r, "X-Request-Id", sent);
    bht_run(r);
    assert_true(bht_passed(r));
    assert_string_equal(bht_resp_header(r, "X-Request-Id"), bht_req_header(r, "X-Request-Id"));
    assert_string_equal(bht_resp_header(r, "X-Request-Id"), bht_var(r, "request_id"));
    return bht_var(r, "request_id");
}

static void makes_a_version_7_uuid_of_the_clock(void **state)
{
    bht *t = bht_open(NULL);
    const char *id = id_of(t, NULL);

    (void)state;
    assert_int_equal(strlen(id), 36);
    assert_int_equal(strspn(id, "0123456789abcdef-"), 36);
    assert_true(id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-');
    assert_int_equal(id[14], '7');
    assert_non_null(strchr("89ab", id[19]));
    /* 2026-01-01T00:00:00Z is 0x019b76daa800 ms. */
    assert_memory_equal(id, "019b76da-a800-", 14);
    bht_close(t);
}

static void ids_sort_in_the_order_they_were_made(void **state)
{
    bht *t = bht_open(NULL);
    char last[64] = "";

    (void)state;
    /* More than a millisecond's counter can hold, on a clock that stands still, then goes back. */
    for (int i = 0; i < 6000; i++) {
        const char *id = id_of(t, NULL);

        if (i == 5000)
            bht_advance(-3000000000LL);
        assert_true(strcmp(last, id) < 0);
        snprintf(last, sizeof last, "%s", id);
    }
    bht_close(t);
}

static void keeps_a_sound_id_of_the_client(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    assert_string_equal(id_of(t, "order-42.a_B"), "order-42.a_B");
    bht_close(t);
}

static void replaces_an_id_that_is_short_long_or_strange(void **state)
{
    bht *t = bht_open(NULL);
    char longest[130];

    (void)state;
    memset(longest, 'a', sizeof longest);
    longest[129] = '\0';
    assert_int_equal(strlen(id_of(t, "short")), 36);
    assert_int_equal(strlen(id_of(t, longest)), 36);
    assert_string_not_equal(id_of(t, "a<script>b</script>c"), "a<script>b</script>c");
    longest[128] = '\0';
    assert_string_equal(id_of(t, longest), longest);
    bht_close(t);
}

static void two_ids_are_none(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_header(r, "X-Request-Id", "first-of-two");
    bht_header(r, "X-Request-Id", "second-of-two");
    bht_run(r);
    assert_int_equal(strlen(bht_req_header(r, "X-Request-Id")), 36);
    bht_close(t);
}

static void without_trust_the_clients_id_is_ignored(void **state)
{
    bht *t = bht_open("trust=false", "header=X-Trace", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_header(r, "X-Trace", "order-42.a_B");
    bht_run(r);
    assert_int_equal(strlen(bht_req_header(r, "X-Trace")), 36);
    bht_close(t);
}

static void an_error_answer_has_it_too(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "GET", "/");
    bh_error e = {.struct_size = sizeof e, .kind = BH_E_CRASH, .signo = 11, .plugin = "x"};

    (void)state;
    bht_next_error(r, &e);
    bht_run(r);
    assert_int_equal(bht_status(r), 500);
    assert_int_equal(strlen(bht_resp_header(r, "X-Request-Id")), 36);
    bht_close(t);
}

static void only_the_loops_clock_is_read(void **state)
{
    bht *t = bht_open(NULL);

    (void)state;
    id_of(t, NULL);
    assert_int_equal(bht_clock_reads(BH_CLOCK_REAL) + bht_clock_reads(BH_CLOCK_MONO), 0);
    bht_close(t);
}

static void a_header_name_with_a_blank_is_refused(void **state)
{
    bht *t = bht_try("header=X Request", NULL);

    (void)state;
    assert_int_not_equal(bht_rc(t), BH_OK);
    assert_non_null(strstr(bht_errors(t), "header: "));
    bht_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_a_version_7_uuid_of_the_clock),
        cmocka_unit_test(ids_sort_in_the_order_they_were_made),
        cmocka_unit_test(keeps_a_sound_id_of_the_client),
        cmocka_unit_test(replaces_an_id_that_is_short_long_or_strange),
        cmocka_unit_test(two_ids_are_none),
        cmocka_unit_test(without_trust_the_clients_id_is_ignored),
        cmocka_unit_test(an_error_answer_has_it_too),
        cmocka_unit_test(only_the_loops_clock_is_read),
        cmocka_unit_test(a_header_name_with_a_blank_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
