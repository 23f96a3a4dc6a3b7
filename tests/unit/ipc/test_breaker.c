#include "ipc/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct breaker_limits limits = {
    .crashes = 3, .window_ms = 60000, .open_ms = 30000, .trials = 2};

enum { T0 = 1000000 }; /* some time after boot */

static struct breaker b;

static int reset(void **state)
{
    (void)state;
    memset(&b, 0, sizeof b);
    return 0;
}

static enum breaker_state state_at(int64_t now)
{
    struct breaker_view view;

    breaker_look(&b, &limits, now, &view);
    return view.state;
}

static void open_at(int64_t now)
{
    for (uint32_t i = 1; i < limits.crashes; i++)
        assert_int_equal(breaker_crash(&b, &limits, now, 0), BREAKER_SAME);
    assert_int_equal(breaker_crash(&b, &limits, now, 0), BREAKER_OPENED);
}

/* Lets a trial in. */
static int64_t try_at(int64_t now, enum breaker_change change)
{
    struct breaker_answer answer;

    assert_true(breaker_ask(&b, &limits, now, &answer));
    assert_int_equal(answer.change, change);
    assert_int_not_equal(answer.token, 0);
    return answer.token;
}

static uint32_t refused_at(int64_t now)
{
    struct breaker_answer answer;

    assert_false(breaker_ask(&b, &limits, now, &answer));
    return answer.retry_ms;
}

static void opens_at_the_last_of_so_many_crashes(void **state)
{
    struct breaker_answer answer;

    (void)state;
    assert_true(breaker_ask(&b, &limits, T0, &answer));
    assert_int_equal(answer.token, 0);
    open_at(T0);
    assert_false(breaker_is_closed(&b));
    assert_int_equal(state_at(T0), BREAKER_OPEN);
    assert_int_equal(refused_at(T0 + 1), 29999);
    assert_int_equal(atomic_load(&b.n_opened), 1);
    assert_int_equal(atomic_load(&b.n_refused), 1);
}

static void crashes_beyond_the_window_do_not_count(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(breaker_crash(&b, &limits, T0 + i * 30000, 0), BREAKER_SAME);
    assert_true(breaker_is_closed(&b));
}

static void more_crashes_than_are_remembered_open_it_all_the_same(void **state)
{
    struct breaker_limits many = limits;

    (void)state;
    many.crashes = BREAKER_CRASHES_MAX;
    for (int i = 0; i < 10 * BREAKER_CRASHES_MAX; i++)
        breaker_crash(&b, &many, T0 + i * 1000, 0); /* 60 in a window */
    assert_true(breaker_is_closed(&b));
    for (int i = 0; i < 5; i++)
        breaker_crash(&b, &many, T0 + 10 * BREAKER_CRASHES_MAX * 1000, 0);
    assert_false(breaker_is_closed(&b));
}

static void never_opens_when_it_is_off(void **state)
{
    struct breaker_limits off = limits;

    (void)state;
    off.crashes = 0;
    for (int i = 0; i < 100; i++)
        assert_int_equal(breaker_crash(&b, &off, T0, 0), BREAKER_SAME);
    assert_int_equal(breaker_trip(&b, &off, T0), BREAKER_SAME);
    assert_true(breaker_is_closed(&b));
}

static void forgets_crashes_by_their_tag(void **state)
{
    (void)state;
    breaker_crash(&b, &limits, T0, 7);
    breaker_crash(&b, &limits, T0, 7);
    breaker_forget(&b, 7);
    breaker_crash(&b, &limits, T0, 8);
    assert_int_equal(breaker_crash(&b, &limits, T0, 0), BREAKER_SAME);
    assert_int_equal(breaker_crash(&b, &limits, T0, 0), BREAKER_OPENED);
}

static void lets_so_many_trials_in_when_its_time_is_over(void **state)
{
    (void)state;
    open_at(T0);
    assert_int_equal(refused_at(T0 + 29999), 1);
    try_at(T0 + 30000, BREAKER_TRYING);
    try_at(T0 + 30000, BREAKER_SAME);
    assert_int_equal(refused_at(T0 + 30001), 1000);
    assert_int_equal(state_at(T0 + 30001), BREAKER_HALF_OPEN);
}

static void closes_when_all_trials_have_passed(void **state)
{
    int64_t token;

    (void)state;
    open_at(T0);
    token = try_at(T0 + 30000, BREAKER_TRYING);
    try_at(T0 + 30000, BREAKER_SAME);
    assert_int_equal(breaker_trial_ended(&b, &limits, token, true), BREAKER_SAME);
    assert_int_equal(state_at(T0 + 30001), BREAKER_HALF_OPEN);
    assert_int_equal(breaker_trial_ended(&b, &limits, token, true), BREAKER_RECOVERED);
    assert_true(breaker_is_closed(&b));
    /* What was before does not count any more. */
    assert_int_equal(breaker_crash(&b, &limits, T0 + 30002, 0), BREAKER_SAME);
    assert_int_equal(breaker_crash(&b, &limits, T0 + 30002, 0), BREAKER_SAME);
    assert_int_equal(breaker_crash(&b, &limits, T0 + 30002, 0), BREAKER_OPENED);
}

static void one_crash_while_half_open_opens_it_for_longer(void **state)
{
    static const uint32_t open_ms[] = {60000, 120000, 240000, 300000, 300000, 300000};
    int64_t now = T0, token;

    (void)state;
    open_at(now);
    now += 30000;
    for (size_t i = 0; i < sizeof open_ms / sizeof open_ms[0]; i++) {
        token = try_at(now, BREAKER_TRYING);
        assert_int_equal(breaker_crash(&b, &limits, now, 0), BREAKER_REOPENED);
        assert_int_equal(refused_at(now), open_ms[i]);
        assert_int_equal(breaker_trial_ended(&b, &limits, token, true), BREAKER_SAME);
        now += open_ms[i];
    }
    for (int i = 0; i < 30; i++) { /* however often */
        try_at(now, BREAKER_TRYING);
        breaker_crash(&b, &limits, now, 0);
        now += 300000;
    }
    token = try_at(now, BREAKER_TRYING);
    breaker_trial_ended(&b, &limits, token, true);
    breaker_trial_ended(&b, &limits, try_at(now, BREAKER_SAME), true);
    open_at(now);
    assert_int_equal(refused_at(now), 30000); /* closed: the back-off begins anew */
}

static void a_crash_while_open_changes_nothing(void **state)
{
    (void)state;
    open_at(T0);
    assert_int_equal(breaker_crash(&b, &limits, T0 + 10000, 0), BREAKER_SAME);
    assert_int_equal(refused_at(T0 + 10000), 20000);
}

static void a_trial_that_showed_nothing_makes_room_for_another(void **state)
{
    int64_t token;

    (void)state;
    open_at(T0);
    token = try_at(T0 + 30000, BREAKER_TRYING);
    try_at(T0 + 30000, BREAKER_SAME);
    refused_at(T0 + 30000);
    assert_int_equal(breaker_trial_ended(&b, &limits, token, false), BREAKER_SAME);
    try_at(T0 + 30000, BREAKER_SAME);
    refused_at(T0 + 30000);
}

static void trials_of_dead_workers_are_given_up_in_time(void **state)
{
    int64_t lost, token;

    (void)state;
    open_at(T0);
    lost = try_at(T0 + 30000, BREAKER_TRYING);
    token = try_at(T0 + 30000, BREAKER_SAME);
    assert_int_equal(breaker_trial_ended(&b, &limits, token, true), BREAKER_SAME);
    refused_at(T0 + 59999);
    token = try_at(T0 + 60000, BREAKER_SAME);
    refused_at(T0 + 60000); /* the one that passed still counts */
    assert_int_equal(breaker_trial_ended(&b, &limits, lost, true), BREAKER_SAME);
    assert_int_equal(state_at(T0 + 60001), BREAKER_HALF_OPEN);
    assert_int_equal(breaker_trial_ended(&b, &limits, token, true), BREAKER_RECOVERED);
}

static void trips_for_other_reasons_once(void **state)
{
    (void)state;
    assert_int_equal(breaker_trip(&b, &limits, T0), BREAKER_OPENED);
    assert_int_equal(breaker_trip(&b, &limits, T0 + 5), BREAKER_SAME);
    assert_int_equal(refused_at(T0), 30000);
}

/* Whatever a stray write leaves there, calls go on in the end. */
static void recovers_from_any_bit_pattern(void **state)
{
    uint64_t noise = 0x9e3779b97f4a7c15u;

    (void)state;
    for (int i = 0; i < 10000; i++) {
        int64_t now = T0;
        int n_steps = 0;

        noise = noise * 6364136223846793005u + 1442695040888963407u;
        atomic_store(&b.word, noise ^ noise >> 33);
        while (!breaker_is_closed(&b)) {
            struct breaker_answer answer;

            if (breaker_ask(&b, &limits, now, &answer) && answer.token != 0)
                breaker_trial_ended(&b, &limits, answer.token, true);
            else if (answer.token == 0)
                now += answer.retry_ms > 0 ? answer.retry_ms : 1000;
            assert_true(++n_steps < 1000);
        }
        assert_true(now <= T0 + 900000);
    }
}

static void wait_for(pid_t pid)
{
    int status = -1;

    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

/* Each transition has one winner, though two processes go for it. */
static void two_processes_agree_on_every_change(void **state)
{
    enum { ROUNDS = 20000, N = BREAKER_RECOVERED + 1 };
    struct shared {
        struct breaker b;
        _Atomic int64_t now;
        _Atomic uint64_t n[N];
    } *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t n_back;
    pid_t pid[2];

    (void)state;
    assert_ptr_not_equal(s, MAP_FAILED);
    atomic_store(&s->now, T0);
    for (int p = 0; p < 2; p++) {
        pid[p] = fork();
        if (pid[p] != 0)
            continue;
        for (int i = 0; i < ROUNDS; i++) {
            int64_t now = atomic_fetch_add(&s->now, 500);
            struct breaker_answer answer;

            if (!breaker_ask(&s->b, &limits, now, &answer))
                continue;
            atomic_fetch_add(&s->n[answer.change], 1);
            if (i % 7 == 0 || answer.token == 0)
                atomic_fetch_add(&s->n[breaker_crash(&s->b, &limits, now, 0)], 1);
            else
                atomic_fetch_add(
                    &s->n[breaker_trial_ended(&s->b, &limits, answer.token, i % 3 != 0)], 1);
        }
        _exit(0);
    }
    wait_for(pid[0]);
    wait_for(pid[1]);
    assert_true(atomic_load(&s->n[BREAKER_OPENED]) > 10);
    assert_true(atomic_load(&s->n[BREAKER_RECOVERED]) > 10);
    assert_true(atomic_load(&s->n[BREAKER_REOPENED]) > 10);
    assert_int_equal(atomic_load(&s->b.n_opened),
                     atomic_load(&s->n[BREAKER_OPENED]) + atomic_load(&s->n[BREAKER_REOPENED]));
    /* Every way from open to half-open ends in one of two, but for the last. */
    n_back = atomic_load(&s->n[BREAKER_REOPENED]) + atomic_load(&s->n[BREAKER_RECOVERED]);
    assert_in_range(atomic_load(&s->n[BREAKER_TRYING]), n_back, n_back + 1);
    assert_in_range(atomic_load(&s->n[BREAKER_OPENED]), atomic_load(&s->n[BREAKER_RECOVERED]),
                    atomic_load(&s->n[BREAKER_RECOVERED]) + 1);
    munmap(s, sizeof *s);
}

static void stays_open_for_an_operator_until_it_is_reset(void **state)
{
    static const struct breaker_limits off = {.crashes = 0, .open_ms = 1000};
    struct breaker_view view;

    (void)state;
    assert_false(breaker_hold(&b, &off, T0));
    assert_true(breaker_hold(&b, &limits, T0));
    breaker_look(&b, &limits, T0 + 100 * 30000, &view);
    assert_int_equal(view.state, BREAKER_OPEN);
    assert_true(view.is_held);
    assert_int_equal(refused_at(T0 + 100 * 30000), limits.open_ms);
    assert_int_equal(breaker_crash(&b, &limits, T0, 0), BREAKER_SAME);
    breaker_reset(&b);
    assert_int_equal(state_at(T0), BREAKER_CLOSED);
    assert_true(breaker_is_closed(&b));
    open_at(T0); /* as a new one */
    breaker_look(&b, &limits, T0, &view);
    assert_false(view.is_held);
}

static void a_reset_ends_trials_and_forgets_crashes(void **state)
{
    int64_t token;

    (void)state;
    open_at(T0);
    token = try_at(T0 + 30000, BREAKER_TRYING);
    breaker_reset(&b);
    assert_int_equal(breaker_trial_ended(&b, &limits, token, true), BREAKER_SAME);
    assert_int_equal(breaker_crash(&b, &limits, T0 + 30001, 0), BREAKER_SAME);
    assert_int_equal(state_at(T0 + 30001), BREAKER_CLOSED);
}

#define TEST(NAME) cmocka_unit_test_setup(NAME, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opens_at_the_last_of_so_many_crashes),
        TEST(crashes_beyond_the_window_do_not_count),
        TEST(more_crashes_than_are_remembered_open_it_all_the_same),
        TEST(never_opens_when_it_is_off),
        TEST(forgets_crashes_by_their_tag),
        TEST(lets_so_many_trials_in_when_its_time_is_over),
        TEST(closes_when_all_trials_have_passed),
        TEST(one_crash_while_half_open_opens_it_for_longer),
        TEST(a_crash_while_open_changes_nothing),
        TEST(a_trial_that_showed_nothing_makes_room_for_another),
        TEST(trials_of_dead_workers_are_given_up_in_time),
        TEST(trips_for_other_reasons_once),
        TEST(stays_open_for_an_operator_until_it_is_reset),
        TEST(a_reset_ends_trials_and_forgets_crashes),
        TEST(recovers_from_any_bit_pattern),
        TEST(two_processes_agree_on_every_change),
    };

    return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}
