/*
 * test_events.c - what of a breaker is told, and how often.
 */
#include "master/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ipc/control.h"
#include "ipc/shm.h"
#include "master/internal.h"

enum { PLACE = 1 };

static struct config_plugin plugin = {
    .name = "one", .breaker = {.crashes = 2, .window_ms = 10000, .open_ms = 10000, .trials = 1}};
static const struct config cfg = {.plugin = &plugin, .n_plugins = 1};
static struct master *m;

static int set_up(void **state)
{
    static int64_t now_ms;

    (void)state;
    m = calloc(1, sizeof *m);
    m->cfg = &cfg;
    m->phase = MASTER_SERVING;
    if (shm_create(1, 1, &m->shm) < 0)
        return -1;
    events_look(m, now_ms += 100000); /* forgets what the last test has left */
    m->events.n = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    shm_destroy(&m->shm);
    free(m);
    return 0;
}

static void operate(int action)
{
    assert_int_equal(breaker_control(m, PLACE << 8 | action), 0);
}

static void what_an_operator_did_is_told_once(void **state)
{
    (void)state;
    operate(CONTROL_BREAKER_OPEN);
    events_look(m, INT64_C(1) << 40);
    assert_int_equal(m->events.n, 1);
    assert_non_null(strstr(m->events.kept[0].text, "opened by an operator"));
    operate(CONTROL_BREAKER_RESET);
    events_look(m, (INT64_C(1) << 40) + 2000);
    assert_int_equal(m->events.n, 2);
    assert_string_equal(m->events.kept[1].text, "reset by an operator");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_an_operator_did_is_told_once, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
