/*
 * test_alarm.c - timers of instances, by a clock that the test moves.
 */
#include "plugin/alarm.h"

/* link: @interpose */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "conf/config.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/object.h"
#include "plugin/stream.h"
#include "recovering.h"

#define MS 1000000

static struct shm *shm;
static bh_inst inst;
static struct config_plugin plugin = {.name = "a"};
static struct config config = {.path = "test.yaml", .dir = "/", .plugin = &plugin, .n_plugins = 1};
static struct object object;
static char trace[512];
static int n_opened, n_closed, n_calls;
static uint64_t own_id;
static bh_rc last_rc;
static int *volatile nowhere;

static void note(const char *what)
{
    strncat(trace, what, sizeof trace - strlen(trace) - 1);
}

static void on_timer(void *self, void *arg)
{
    (void)self;
    note(arg);
    n_calls++;
}

FAULTY static void crash(void *self, void *arg)
{
    (void)self, (void)arg;
    n_calls++;
    *nowhere = 1;
}

static bh_rc set(uint32_t first_ms, uint32_t every_ms, void (*fn)(void *, void *), const char *arg,
                 uint64_t *id)
{
    return host_table()->timer(&inst, first_ms, every_ms, fn, (void *)(uintptr_t)arg, id);
}

static bh_rc del(uint64_t id)
{
    return host_table()->timer_del(&inst, id);
}

static void del_self(void *self, void *arg)
{
    (void)self;
    note(arg);
    last_rc = del(own_id);
}

static void set_again(void *self, void *arg)
{
    (void)self, (void)arg;
    n_calls++;
    set(0, 0, set_again, "", NULL);
}

static bh_rc open_(bh_inst *i, const void *cfg, void **self)
{
    (void)i, (void)cfg;
    *self = &n_opened;
    n_opened++;
    return BH_OK;
}

static void close_(void *self)
{
    (void)self;
    n_closed++;
    last_rc = set(1, 0, on_timer, "x", NULL);
}

static bh_plugin desc = {.open = open_, .close = close_};

static void pass(uint32_t ms)
{
    host_loop_mono_ns += (int64_t)ms * MS;
    alarm_run();
}

static int group_set_up(void **state)
{
    (void)state;
    object.desc = &desc;
    host_loop_mono_ns = 1000LL * MS;
    return recovering_set_up(&shm, 1);
}

static void begin(void)
{
    recovering_begin(shm);
    trace[0] = '\0';
    n_opened = n_closed = n_calls = 0;
    inst = (bh_inst){.magic = INSTANCE_MAGIC,
                     .id = 1,
                     .cfg = &plugin,
                     .config = &config,
                     .object = &object,
                     .desc = &desc,
                     .stat = &shm->plugin[0],
                     .meter = &shm->worker[0].metrics_plugin[0]};
    assert_int_equal(instance_open(&inst, NULL), 0);
}

static void end(void)
{
    if (inst.current != NULL)
        incarnation_put(inst.current);
    assert_int_equal(alarm_timeout_ms(), -1);
}

static void they_run_in_the_order_of_their_times(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    static const uint32_t ms[] = {30, 10, 50, 20, 40};

    (void)state;
    begin();
    for (int i = 0; i < 5; i++)
        assert_int_equal(set(ms[i], 0, on_timer, names[i], NULL), BH_OK);
    assert_int_equal(alarm_timeout_ms(), 10);
    pass(9);
    assert_string_equal(trace, "");
    assert_int_equal(alarm_timeout_ms(), 1);
    pass(1);
    assert_string_equal(trace, "b");
    pass(100);
    assert_string_equal(trace, "bdaec");
    assert_int_equal(alarm_timeout_ms(), -1);
    end();
}

/* Against a model that is too simple to be wrong. */
static void many_that_come_and_go_run_when_they_are_due(void **state)
{
    enum { MANY = 500 };
    static uint64_t id[MANY];
    static uint32_t due[MANY];
    unsigned seed = 7;

    (void)state;
    begin();
    for (int round = 0; round < 20; round++) {
        int expected = 0;

        n_calls = 0;
        for (int i = 0; i < MANY; i++) {
            seed = seed * 1103515245 + 12345;
            due[i] = seed >> 16 & 1023;
            assert_int_equal(set(due[i] + 1, 0, on_timer, "", &id[i]), BH_OK);
        }
        for (int i = 0; i < MANY; i += 3)
            assert_int_equal(del(id[i]), BH_OK);
        for (int i = 0; i < MANY; i++)
            expected += i % 3 != 0 && due[i] + 1 <= 400;
        pass(400);
        assert_int_equal(n_calls, expected);
        pass(1000);
        assert_int_equal(alarm_timeout_ms(), -1);
        for (int i = 0; i < MANY; i++)
            assert_int_equal(del(id[i]), BH_ENOENT);
    }
    end();
}

static void one_that_repeats_keeps_its_beat(void **state)
{
    uint64_t id;

    (void)state;
    begin();
    assert_int_equal(set(5, 10, on_timer, "x", &id), BH_OK);
    pass(5);
    pass(7); /* 12: nothing */
    assert_string_equal(trace, "x");
    pass(4); /* 16: the beat of 15, a little late */
    assert_string_equal(trace, "xx");
    assert_int_equal(alarm_timeout_ms(), 9);
    pass(100); /* far too late: once, and not ten times */
    assert_string_equal(trace, "xxx");
    assert_int_equal(alarm_timeout_ms(), 10);
    assert_int_equal(del(id), BH_OK);
    pass(100);
    assert_string_equal(trace, "xxx");
    end();
}

static void one_may_delete_itself(void **state)
{
    (void)state;
    begin();
    assert_int_equal(set(1, 1, del_self, "r", &own_id), BH_OK);
    pass(1);
    assert_int_equal(last_rc, BH_OK);
    pass(10);
    assert_string_equal(trace, "r");
    assert_int_equal(set(1, 0, del_self, "o", &own_id), BH_OK);
    pass(1);
    assert_int_equal(last_rc, BH_ENOENT); /* it was over when it ran */
    end();
}

static void one_that_sets_itself_runs_once_a_turn(void **state)
{
    (void)state;
    begin();
    set(0, 0, set_again, "", NULL);
    assert_int_equal(alarm_timeout_ms(), 1);
    pass(1);
    assert_int_equal(n_calls, 1);
    pass(1);
    assert_int_equal(n_calls, 2);
    end();
}

static void an_id_is_good_for_one_timer(void **state)
{
    uint64_t first, second;

    (void)state;
    begin();
    assert_int_equal(set(10, 0, on_timer, "1", &first), BH_OK);
    assert_int_equal(del(first), BH_OK);
    assert_int_equal(set(10, 0, on_timer, "2", &second), BH_OK);
    assert_int_equal(del(first), BH_ENOENT);
    assert_int_equal(del(0), BH_ENOENT);
    assert_int_equal(del(UINT64_MAX), BH_ENOENT);
    assert_int_equal(host_table()->timer_del(NULL, second), BH_EINVAL);
    pass(10);
    assert_string_equal(trace, "2");
    end();
}

static void nonsense_is_refused(void **state)
{
    uint64_t id;

    (void)state;
    begin();
    assert_int_equal(set(1, 1, NULL, "", &id), BH_EINVAL);
    assert_int_equal(host_table()->timer(NULL, 1, 0, on_timer, NULL, &id), BH_EINVAL);
    assert_int_equal(set(UINT32_MAX, UINT32_MAX, on_timer, "", &id), BH_OK); /* in 49 days */
    assert_int_equal(alarm_timeout_ms(), 60000);
    end();
}

static void an_instance_has_so_many(void **state)
{
    uint64_t id;

    (void)state;
    begin();
    for (int i = 0; i < ALARMS_MAX; i++)
        assert_int_equal(set(10, 0, on_timer, "", &id), BH_OK);
    assert_int_equal(set(10, 0, on_timer, "", NULL), BH_ELIMIT);
    assert_int_equal(del(id), BH_OK);
    assert_int_equal(set(10, 0, on_timer, "", NULL), BH_OK);
    end();
}

static void they_end_before_close(void **state)
{
    (void)state;
    begin();
    set(10, 10, on_timer, "x", NULL);
    incarnation_put(inst.current);
    inst.current = NULL;
    assert_int_equal(n_closed, 1);
    assert_int_equal(last_rc, BH_EPHASE); /* nor can close() set one */
    pass(100);
    assert_string_equal(trace, "");
    end();
}

/* Its requests go on, and may wait for what its timers do. */
static void those_of_a_retired_instance_run_for_as_long_as_it_has_requests(void **state)
{
    struct incarnation *old;

    (void)state;
    begin();
    set(10, 10, on_timer, "o", NULL);
    old = incarnation_get(&inst);
    instance_renew(&inst, old); /* a hook of it has crashed */
    assert_int_equal(n_opened, 2);
    set(10, 10, on_timer, "n", NULL);
    pass(10);
    assert_int_equal(strlen(trace), 2);
    incarnation_put(old);
    pass(10);
    assert_int_equal(strlen(trace), 3);
    assert_int_equal(trace[2], 'n');
    end();
}

static int n_told;

static void told(void *arg)
{
    (void)arg;
    n_told++;
}

static void a_crash_ends_all_of_them_and_breaks_the_streams(void **state)
{
    struct stream *open, *ended;

    (void)state;
    begin();
    n_told = 0;
    open = stream_create(STREAM_ANY, &inst.current->streams);
    ended = stream_create(STREAM_ANY, &inst.current->streams);
    stream_append(ended, "all", 3, true);
    stream_on_data(open, told, NULL);
    stream_on_data(ended, told, NULL);
    set(20, 0, on_timer, "x", NULL);
    set(10, 10, crash, NULL, NULL);
    pass(10);
    assert_int_equal(n_calls, 1);
    assert_int_equal(n_opened, 2);
    assert_int_equal(n_closed, 1);
    assert_int_equal(atomic_load(&shm->plugin[0].crashes), 1);
    assert_int_equal(recovering_record(shm)->hook, HOOK_TIMER);
    assert_int_equal(alarm_timeout_ms(), -1);
    assert_true(stream_is_broken(open));
    assert_false(stream_is_broken(ended));
    assert_int_equal(n_told, 1);
    stream_put(&open);
    stream_put(&ended);
    end();
}

static void after_crashes_in_timers_they_stand_still_for_longer_and_longer(void **state)
{
    uint32_t waited = 0;

    (void)state;
    begin();
    for (int i = 0; i < 4; i++) {
        uint32_t turns = 0;

        recovering_begin(shm);
        set(1, 1, crash, NULL, NULL);
        n_calls = 0;
        for (; n_calls == 0; turns++)
            pass(1);
        assert_true(turns >= waited);
        waited = 100u << i;
        if (i > 0)
            assert_in_range(turns, waited / 2, waited / 2 + 2);
    }
    pass(60001);
    recovering_begin(shm);
    set(1, 1, crash, NULL, NULL);
    pass(1);
    assert_int_equal(n_calls, 2);
    set(1, 0, on_timer, "x", NULL);
    pass(98);
    assert_string_equal(trace, "");
    pass(2); /* all is forgotten after a minute: 100 ms again */
    assert_string_equal(trace, "x");
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_run_in_the_order_of_their_times),
        cmocka_unit_test(many_that_come_and_go_run_when_they_are_due),
        cmocka_unit_test(one_that_repeats_keeps_its_beat),
        cmocka_unit_test(one_may_delete_itself),
        cmocka_unit_test(one_that_sets_itself_runs_once_a_turn),
        cmocka_unit_test(an_id_is_good_for_one_timer),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(an_instance_has_so_many),
        cmocka_unit_test(they_end_before_close),
        cmocka_unit_test(those_of_a_retired_instance_run_for_as_long_as_it_has_requests),
        cmocka_unit_test(a_crash_ends_all_of_them_and_breaks_the_streams),
        cmocka_unit_test(after_crashes_in_timers_they_stand_still_for_longer_and_longer),
    };

    return cmocka_run_group_tests_name("alarm", tests, group_set_up, NULL);
}
