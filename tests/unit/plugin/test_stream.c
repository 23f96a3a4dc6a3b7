#include "plugin/stream.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct stream *s;

static int set_up(void **state)
{
    (void)state;
    s = stream_create(STREAM_ANY, NULL);
    return s == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    stream_put(&s);
    assert_null(s);
    return 0;
}

static void assert_next(const char *expected)
{
    const char *p;
    size_t n;

    assert_true(stream_peek(s, &p, &n));
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(p, expected, n);
    stream_pop(s);
}

static void assert_empty(void)
{
    const char *p;
    size_t n;

    assert_false(stream_peek(s, &p, &n));
}

static void blocks_come_out_as_they_went_in(void **state)
{
    (void)state;
    assert_int_equal(stream_append(s, "one", 3, false), 0);
    assert_int_equal(stream_append(s, "two", 3, false), 0);
    assert_next("one");
    assert_int_equal(stream_append(s, "three", 5, false), 0);
    assert_next("two");
    assert_next("three");
    assert_empty();
}

static void where_many_wait_small_ones_share_a_block_but_not_one_that_is_being_read(void **state)
{
    const char *p;
    size_t n;

    (void)state;
    for (int i = 0; i < 16; i++)
        assert_int_equal(stream_append(s, "a", 1, false), 0);
    assert_int_equal(stream_append(s, "one", 3, false), 0);
    assert_int_equal(stream_append(s, "two", 3, false), 0);
    for (int i = 0; i < 16; i++)
        assert_next("a");
    assert_true(stream_peek(s, &p, &n));
    assert_int_equal(stream_append(s, "three", 5, false), 0);
    assert_next("onetwo");
    assert_next("three");
    assert_empty();
}

/* What waits for a slow reader costs what it is long, however small the pieces are. */
static void a_million_bytes_one_by_one_make_few_blocks(void **state)
{
    size_t n_bytes = 0, n_blocks = 0, n;
    const char *p;

    (void)state;
    while (stream_append(s, "a", 1, false) == 0)
        n_bytes++;
    assert_int_equal(n_bytes, STREAM_MAX);
    for (; stream_peek(s, &p, &n); n_blocks++)
        stream_pop(s);
    assert_true(n_blocks <= STREAM_MAX / 4000 + 32);
}

static void more_or_less_than_announced_breaks_it(void **state)
{
    struct stream *t = stream_create(5, NULL);

    (void)state;
    assert_int_equal(stream_append(t, "four", 4, false), 0);
    assert_int_equal(stream_append(t, "ab", 2, true), -EMSGSIZE);
    assert_true(stream_is_broken(t));
    assert_int_equal(stream_append(t, "a", 1, true), -EMSGSIZE);
    stream_put(&t);
    t = stream_create(5, NULL);
    assert_int_equal(stream_append(t, "four", 4, true), -EMSGSIZE);
    assert_true(stream_is_broken(t));
    stream_put(&t);
    t = stream_create(5, NULL);
    assert_int_equal(stream_append(t, "four", 4, false), 0);
    assert_int_equal(stream_append(t, "5", 1, true), 0);
    assert_false(stream_is_broken(t));
    assert_int_equal(stream_append(t, "6", 1, false), -EPIPE);
    stream_put(&t);
}

static void nothing_is_taken_when_nobody_reads(void **state)
{
    (void)state;
    stream_lose(s);
    assert_int_equal(stream_append(s, "a", 1, false), -ECONNRESET);
    assert_int_equal(stream_append(s, NULL, 0, true), -ECONNRESET);
    assert_empty();
}

static bh_rc more(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    return BH_CONTINUE;
}

static void a_wish_for_room_is_granted_once_at_half(void **state)
{
    char *big = calloc(1, STREAM_MAX);

    (void)state;
    assert_int_equal(stream_append(s, big, STREAM_LOW, false), 0);
    assert_int_equal(stream_append(s, big, STREAM_LOW, false), 0);
    assert_true(stream_want_room(s, more));
    assert_null(stream_take_wish(s));
    stream_pop(s);
    assert_ptr_equal(stream_take_wish(s), more);
    assert_null(stream_take_wish(s));
    assert_false(stream_want_room(s, more)); /* nothing written: it would go round in circles */
    assert_int_equal(stream_append(s, "a", 1, false), 0);
    assert_true(stream_want_room(s, more));
    assert_int_equal(stream_append(s, "a", 1, true), 0);
    assert_null(stream_take_wish(s)); /* closed: there is nothing more to write */
    free(big);
}

static void a_list_is_left_in_any_order(void **state)
{
    struct stream *list = NULL, *a, *b, *c;

    (void)state;
    a = stream_create(STREAM_ANY, &list);
    b = stream_create(STREAM_ANY, &list);
    c = stream_create(STREAM_ANY, &list);
    stream_put(&b);
    streams_break(list);
    assert_true(stream_is_broken(a));
    assert_true(stream_is_broken(c));
    streams_disown(&list);
    assert_null(list);
    stream_put(&a);
    stream_put(&c);
}

static void bytes_are_copied(void **state)
{
    char text[] = "one";

    (void)state;
    assert_int_equal(stream_append(s, text, 3, false), 0);
    text[0] = 'x';
    assert_next("one");
}

static void an_empty_write_leaves_no_block(void **state)
{
    (void)state;
    assert_int_equal(stream_append(s, NULL, 0, false), 0);
    assert_empty();
    assert_false(stream_has_ended(s));
}

static void it_ends_when_closed_and_all_was_popped(void **state)
{
    (void)state;
    assert_int_equal(stream_append(s, "one", 3, true), 0);
    assert_false(stream_has_ended(s));
    assert_next("one");
    assert_true(stream_has_ended(s));
}

static void nothing_is_taken_after_the_end(void **state)
{
    (void)state;
    assert_int_equal(stream_append(s, NULL, 0, true), 0);
    assert_int_equal(stream_append(s, "one", 3, false), -EPIPE);
    assert_int_equal(stream_append(s, NULL, 0, true), -EPIPE);
    assert_empty();
    assert_true(stream_has_ended(s));
}

static void a_full_stream_takes_nothing_until_something_was_popped(void **state)
{
    char *big = calloc(1, STREAM_MAX);

    (void)state;
    assert_int_equal(stream_append(s, big, STREAM_MAX - 1, false), 0);
    assert_int_equal(stream_append(s, "ab", 2, true), -EAGAIN);
    assert_int_equal(stream_append(s, "a", 1, false), 0); /* the end was not taken either */
    stream_pop(s);
    assert_int_equal(stream_append(s, "ab", 2, false), 0);
    free(big);
}

static void one_block_may_be_larger_than_the_limit_when_none_waits(void **state)
{
    char *big = calloc(1, 2 * STREAM_MAX);

    (void)state;
    assert_int_equal(stream_append(s, big, 2 * STREAM_MAX, false), 0);
    assert_int_equal(stream_append(s, "a", 1, false), -EAGAIN);
    free(big);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    for (size_t less = 0; less < 64; less++)
        assert_int_equal(stream_append(s, "a", SIZE_MAX - less, false), -ENOMEM);
    assert_empty();
}

static int n_calls;

static void count(void *arg)
{
    assert_ptr_equal(arg, &n_calls);
    n_calls++;
}

static void the_reader_is_called_for_data_and_for_the_end_but_not_when_full(void **state)
{
    char *big = calloc(1, STREAM_MAX);

    (void)state;
    n_calls = 0;
    stream_on_data(s, count, &n_calls);
    assert_int_equal(stream_append(s, big, STREAM_MAX, false), 0);
    assert_int_equal(n_calls, 1);
    assert_int_equal(stream_append(s, "a", 1, false), -EAGAIN);
    assert_int_equal(n_calls, 1);
    assert_int_equal(stream_append(s, NULL, 0, true), 0);
    assert_int_equal(n_calls, 2);
    free(big);
}

static void put_of_nothing_is_fine(void **state)
{
    struct stream *none = NULL;

    (void)state;
    stream_put(&none);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blocks_come_out_as_they_went_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            where_many_wait_small_ones_share_a_block_but_not_one_that_is_being_read, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(a_million_bytes_one_by_one_make_few_blocks, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_taken_when_nobody_reads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wish_for_room_is_granted_once_at_half, set_up, tear_down),
        cmocka_unit_test(more_or_less_than_announced_breaks_it),
        cmocka_unit_test(a_list_is_left_in_any_order),
        cmocka_unit_test_setup_teardown(bytes_are_copied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_write_leaves_no_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_ends_when_closed_and_all_was_popped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_taken_after_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_stream_takes_nothing_until_something_was_popped,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_block_may_be_larger_than_the_limit_when_none_waits,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(sizes_that_overflow_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            the_reader_is_called_for_data_and_for_the_end_but_not_when_full, set_up, tear_down),
        cmocka_unit_test(put_of_nothing_is_fine),
    };

    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
