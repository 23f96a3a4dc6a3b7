/*
 * test_host.c - the host for plugins' own unit tests: its clock, its timers and its open streams, by a
 * plugin that lives on them.
 */
#include "../../../sdk/testing/bulkhead_test.h"

#include "../../plugins/events.c" /* NOLINT: under test */

#define MS 1000000LL

static void timers_run_when_the_clock_passes_them(void **state)
{
    bht *t = bht_open("every=10ms", "heartbeat=25ms", NULL);
    struct instance *self = t->self;

    (void)state;
    assert_int_equal(bht_timers(t), 2);
    bht_advance(9 * MS);
    assert_int_equal(self->ticks, 0);
    bht_advance(1 * MS);
    assert_int_equal(self->ticks, 1);
    bht_advance(1000 * MS); /* each at its time, none is left out */
    assert_int_equal(self->ticks, 101);
    bht_close(t);
}

static void a_stream_that_is_kept_open_takes_what_timers_write(void **state)
{
    bht *t = bht_open("every=10ms", "heartbeat=25ms", "size=3", NULL);
    bh_req *r = bht_request(t, "GET", "/events?n=3");

    (void)state;
    bht_keep_open(r);
    assert_false(bht_run(r));
    assert_string_equal(bht_resp_header(r, "Content-Type"), "text/event-stream");
    bht_advance(15 * MS);
    assert_false(bht_wait(r, 1));
    assert_string_equal(bht_resp_body(r), "id: 1\ndata: xxx\n\n");
    bht_advance(15 * MS);
    assert_true(bht_wait(r, 1));
    assert_string_equal(bht_resp_body(r), "id: 1\ndata: xxx\n\n"
                                          "id: 2\ndata: xxx\n\n:\n\nid: 3\ndata: xxx\n\n");
    assert_int_equal(((struct instance *)t->self)->n_clients, 0);
    bht_close(t);
}

static void a_client_that_leaves_is_forgotten(void **state)
{
    bht *t = bht_open("every=10ms", NULL);
    bh_req *r = bht_request(t, "GET", "/events");
    struct instance *self = t->self;

    (void)state;
    bht_keep_open(r);
    assert_false(bht_run(r));
    assert_int_equal(self->n_clients, 1);
    bht_cancel(r);
    assert_int_equal(self->n_clients, 0);
    bht_advance(100 * MS);
    assert_non_null(strstr(bht_log_text(t), "a client left after"));
    bht_close(t);
}

static void a_slow_client_misses_events_until_there_is_room(void **state)
{
    bht *t = bht_open("every=10ms", "size=65536", NULL);
    bh_req *r = bht_request(t, "GET", "/events");
    struct instance *self = t->self;

    (void)state;
    bht_keep_open(r);
    assert_false(bht_run(r));
    bht_advance(300 * MS);
    assert_true(self->missed > 10);
    assert_false(bht_wait(r, 1)); /* it reads, all that waits, and then what is said of it */
    assert_non_null(strstr(bht_resp_body(r), "event: missed\ndata: 15\n\n"));
    bht_cancel(r);
    bht_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_run_when_the_clock_passes_them),
        cmocka_unit_test(a_stream_that_is_kept_open_takes_what_timers_write),
        cmocka_unit_test(a_client_that_leaves_is_forgotten),
        cmocka_unit_test(a_slow_client_misses_events_until_there_is_room),
    };

    return cmocka_run_group_tests_name("sdk", tests, NULL, NULL);
}
