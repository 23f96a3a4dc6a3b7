/*
 * test_pending.c - what an instance has asked for and is called back about: by number, never twice, and not
 * when the one who asked is gone.
 */
#include "plugin/pending.h"

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
#include "plugin/alarm.h"
#include "plugin/host.h"
#include "plugin/instance.h"
#include "plugin/object.h"
#include "recovering.h"

static struct shm *shm;
static bh_inst inst, other;
static struct config_plugin plugin = {.name = "a"};
static struct config config = {.path = "test.yaml", .dir = "/", .plugin = &plugin, .n_plugins = 1};
static struct object object;
static char trace[512];
static int *volatile nowhere;
static uint64_t asked[4];

static void note(const char *what)
{
    strncat(trace, what, sizeof trace - strlen(trace) - 1);
}

static void answered(void *self, const void *result, void *arg)
{
    (void)self;
    note(arg);
    note(result);
}

static void answered_ticket(void *self, bh_ticket *t, const void *result, void *arg)
{
    (void)self;
    note((const char *)t);
    note(result);
    note(arg);
}

static void dropped(void *owner)
{
    note("-");
    note(owner);
}

static uint64_t ask(const char *arg)
{
    uint64_t id = 0;

    assert_int_equal(pending_add(&inst, (pending_fn *)answered, (void *)(uintptr_t)arg, dropped,
                                 (void *)(uintptr_t)arg, &id),
                     BH_OK);
    assert_true(id != 0);
    return id;
}

static void ask_and_ask(void *self, const void *result, void *arg)
{
    (void)self, (void)result, (void)arg;
    asked[0] = ask("n");
    asked[1] = ask("m");
}

FAULTY static void ask_and_crash(void *self, const void *result, void *arg)
{
    ask_and_ask(self, result, arg);
    *nowhere = 1;
}

static void cancel_another(void *self, const void *result, void *arg)
{
    (void)self, (void)result, (void)arg;
    assert_int_equal(pending_cancel(&inst, asked[0]), BH_OK);
}

static bh_rc open_(bh_inst *i, const void *cfg, void **self)
{
    (void)i, (void)cfg;
    *self = trace;
    return BH_OK;
}

static bh_plugin desc = {.open = open_};

static int group_set_up(void **state)
{
    (void)state;
    object.desc = &desc;
    host_table(); /* whose thread the loop's is */
    host_loop_mono_ns = 1000000000;
    return recovering_set_up(&shm, 1);
}

static void begin_one(bh_inst *i)
{
    *i = (bh_inst){.magic = INSTANCE_MAGIC,
                   .id = 1,
                   .cfg = &plugin,
                   .config = &config,
                   .object = &object,
                   .desc = &desc,
                   .stat = &shm->plugin[0],
                   .meter = &shm->worker[0].metrics_plugin[0]};
    assert_int_equal(instance_open(i, NULL), 0);
}

static void begin(void)
{
    recovering_begin(shm);
    begin_one(&inst);
    trace[0] = '\0';
}

static void end(void)
{
    if (inst.current != NULL)
        incarnation_put(inst.current);
}

static void an_answer_calls_once(void **state)
{
    uint64_t a, b;

    (void)state;
    begin();
    a = ask("a");
    b = ask("b");
    assert_int_not_equal(a, b);
    assert_true(pending_is(a) && pending_is(b));
    pending_finish(b, "1");
    pending_finish(b, "2");
    assert_false(pending_is(b));
    pending_finish(a, "3");
    assert_string_equal(trace, "b1a3");
    end();
    assert_string_equal(trace, "b1a3");
}

static void a_ticket_is_passed_on(void **state)
{
    uint64_t id;

    (void)state;
    begin();
    assert_int_equal(
        pending_add(&inst, (pending_fn *)answered_ticket, (void *)(uintptr_t) "c", NULL, NULL, &id),
        BH_OK);
    pending_finish_with(id, (bh_ticket *)(uintptr_t) "t", "r");
    assert_string_equal(trace, "trc");
    end();
}

/* Places are used again: the answer to one that is gone must not find the next. */
static void a_number_is_not_used_again(void **state)
{
    uint64_t first, next;

    (void)state;
    begin();
    first = ask("a");
    pending_finish(first, "1");
    for (int i = 0; i < 1000; i++) {
        next = ask("b");
        assert_int_not_equal(next, first);
        pending_finish(first, "x");
        assert_true(pending_is(next));
        assert_int_equal(pending_cancel(&inst, next), BH_OK);
        trace[0] = '\0';
    }
    assert_false(pending_is(0));
    assert_false(pending_is(UINT64_MAX));
    pending_finish(UINT64_MAX, "x");
    assert_string_equal(trace, "");
    end();
}

static void what_is_cancelled_is_not_answered(void **state)
{
    uint64_t id;

    (void)state;
    begin();
    id = ask("a");
    begin_one(&other);
    assert_int_equal(pending_cancel(&other, id), BH_ENOENT); /* not its own */
    incarnation_put(other.current);
    assert_int_equal(pending_cancel(&inst, id), BH_OK);
    assert_string_equal(trace, "-a");
    assert_int_equal(pending_cancel(&inst, id), BH_ENOENT);
    pending_finish(id, "1");
    assert_string_equal(trace, "-a");
    end();
}

static void a_callback_may_ask_and_cancel(void **state)
{
    uint64_t id;

    (void)state;
    begin();
    assert_int_equal(pending_add(&inst, (pending_fn *)ask_and_ask, NULL, NULL, NULL, &id), BH_OK);
    pending_finish(id, "");
    assert_true(pending_is(asked[0]) && pending_is(asked[1]));
    assert_int_equal(pending_add(&inst, (pending_fn *)cancel_another, NULL, NULL, NULL, &id),
                     BH_OK);
    pending_finish(id, "");
    assert_string_equal(trace, "-n");
    pending_finish(asked[1], "1");
    assert_string_equal(trace, "-nm1");
    end();
}

/* Since nobody knows what state it left behind. What it had asked before stays. */
static void what_a_call_that_crashed_asked_is_undone(void **state)
{
    uint64_t before, id;

    (void)state;
    begin();
    before = ask("b");
    assert_int_equal(pending_add(&inst, (pending_fn *)ask_and_crash, NULL, NULL, NULL, &id), BH_OK);
    inst.current->refs++; /* as if a request was in it: else it goes at once */
    incarnation_running = NULL;
    {
        struct incarnation *inc = inst.current;

        pending_finish(id, "");
        assert_string_equal(trace, "-m-n");
        assert_false(pending_is(asked[0]) || pending_is(asked[1]));
        if (inst.current != inc) /* a fresh one has taken its place */
            incarnation_put(inc);
        else
            inc->refs--;
    }
    pending_finish(before, "1");
    end();
}

static void what_waits_ends_with_who_asked(void **state)
{
    uint64_t a, b;

    (void)state;
    begin();
    a = ask("a");
    b = ask("b");
    end();
    assert_string_equal(trace, "-b-a");
    pending_finish(a, "1");
    pending_finish(b, "1");
    assert_string_equal(trace, "-b-a");
}

static void one_that_was_taken_out_is_not_called(void **state)
{
    uint64_t id, more;

    (void)state;
    begin();
    id = ask("a");
    inst.is_ejected = true;
    pending_finish(id, "1");
    assert_string_equal(trace, "");
    assert_int_equal(pending_add(&inst, (pending_fn *)answered, NULL, NULL, NULL, &more),
                     BH_EPHASE);
    inst.is_ejected = false;
    end();
}

static void there_is_a_limit(void **state)
{
    static uint64_t id[PENDING_MAX];
    uint64_t more;

    (void)state;
    begin();
    for (int i = 0; i < PENDING_MAX; i++)
        assert_int_equal(pending_add(&inst, (pending_fn *)answered, NULL, NULL, NULL, &id[i]),
                         BH_OK);
    assert_int_equal(pending_add(&inst, (pending_fn *)answered, NULL, NULL, NULL, &more),
                     BH_ELIMIT);
    assert_int_equal(pending_cancel(&inst, id[PENDING_MAX / 2]), BH_OK);
    assert_int_equal(pending_add(&inst, (pending_fn *)answered, NULL, NULL, NULL, &more), BH_OK);
    end();
    for (int i = 0; i < PENDING_MAX; i++)
        assert_false(pending_is(id[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_calls_once),
        cmocka_unit_test(a_ticket_is_passed_on),
        cmocka_unit_test(a_number_is_not_used_again),
        cmocka_unit_test(what_is_cancelled_is_not_answered),
        cmocka_unit_test(a_callback_may_ask_and_cancel),
        cmocka_unit_test(what_a_call_that_crashed_asked_is_undone),
        cmocka_unit_test(what_waits_ends_with_who_asked),
        cmocka_unit_test(one_that_was_taken_out_is_not_called),
        cmocka_unit_test(there_is_a_limit),
    };

    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
