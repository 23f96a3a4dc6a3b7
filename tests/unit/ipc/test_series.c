#include "ipc/series.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/metrics.h"
#include "ipc/shm.h"

static struct shm *shm;

static int set_up(void **state)
{
    (void)state;
    if (shm_create(3, 3, &shm) < 0)
        return -1;
    for (uint32_t i = 0; i < 3; i++) {
        metrics_begin(shm, i);
        atomic_store(&shm->worker[i].metrics.is_serving, 1);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    shm_destroy(&shm);
    return 0;
}

static int define(uint32_t plugin, enum series_type type, const char *name, const char *label,
                  uint32_t *out)
{
    struct series_spec spec = {.plugin = plugin,
                               .type = type,
                               .name = name,
                               .help = "",
                               .label = {label},
                               .n_labels = label != NULL};

    return series_define(shm, &spec, out);
}

static uint32_t defined(enum series_type type, const char *name, const char *label)
{
    uint32_t id = UINT32_MAX;

    assert_int_equal(define(0, type, name, label, &id), 0);
    return id;
}

static int update(uint32_t slot, uint32_t id, enum series_op op, const char *value, double v)
{
    struct series_label label[SERIES_LABELS] = {{value, value != NULL ? strlen(value) : 0}};

    return series_update(shm, slot, 0, id, op, label, v);
}

static double value_of(const char *name)
{
    struct series_reading r;

    assert_int_equal(series_read(shm, 0, name, &r), 0);
    return r.value;
}

static void the_same_definition_is_the_same_metric(void **state)
{
    (void)state;
    assert_int_equal(defined(SERIES_COUNTER, "orders", "shop"),
                     defined(SERIES_COUNTER, "orders", "shop"));
    assert_int_not_equal(defined(SERIES_COUNTER, "orders", "shop"),
                         defined(SERIES_COUNTER, "orders", "city"));
}

static void counters_of_all_workers_are_summed_up(void **state)
{
    uint32_t id = defined(SERIES_COUNTER, "orders", "shop");

    (void)state;
    assert_int_equal(update(0, id, SERIES_ADD, "a", 1), 0);
    assert_int_equal(update(1, id, SERIES_ADD, "a", 2), 0);
    assert_int_equal(update(2, id, SERIES_ADD, "b", 4), 0);
    assert_true(value_of("orders") == 7);
    assert_true(value_of("orders_total") == 7);
}

static void a_gauge_is_what_its_type_says(void **state)
{
    static const struct {
        enum series_type type;
        double is;
    } types[] = {
        {SERIES_GAUGE, 9}, {SERIES_GAUGE_MAX, 6}, {SERIES_GAUGE_MIN, 0}, {SERIES_GAUGE_AVG, 3}};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        char name[8] = {'g', (char)('0' + i)};
        uint32_t id = defined(types[i].type, name, NULL);

        for (uint32_t slot = 0; slot < 3; slot++)
            assert_int_equal(update(slot, id, SERIES_SET, NULL, 3.0 * slot), 0);
        assert_true(value_of(name) == types[i].is);
    }
}

static void a_worker_that_has_not_set_a_gauge_does_not_count(void **state)
{
    uint32_t id = defined(SERIES_GAUGE_MIN, "g", NULL);
    struct series_reading r;

    (void)state;
    assert_int_equal(series_read(shm, 0, "g", &r), -ENODATA);
    update(1, id, SERIES_SET, NULL, 5);
    assert_true(value_of("g") == 5);
    assert_int_equal(series_read(shm, 0, "no_such", &r), -ENOENT);
    assert_int_equal(series_read(shm, 1, "g", &r), -ENOENT);
}

static void gauges_end_with_their_worker_and_counters_do_not(void **state)
{
    uint32_t gauge = defined(SERIES_GAUGE, "g", NULL), counter = defined(SERIES_COUNTER, "c", NULL);

    (void)state;
    update(0, gauge, SERIES_ADD, NULL, 5);
    update(1, gauge, SERIES_ADD, NULL, 7);
    update(0, counter, SERIES_ADD, NULL, 11);
    metrics_end(shm, 0);
    metrics_begin(shm, 0);
    atomic_store(&shm->worker[0].metrics.is_serving, 1);
    assert_true(value_of("g") == 7);
    assert_true(value_of("c") == 11);
}

static void what_stands_by_does_not_show_in_gauges(void **state)
{
    uint32_t id = defined(SERIES_GAUGE_AVG, "g", NULL);

    (void)state;
    update(0, id, SERIES_SET, NULL, 0);
    update(1, id, SERIES_SET, NULL, 8);
    atomic_store(&shm->worker[0].metrics.is_serving, 0);
    assert_true(value_of("g") == 8);
}

static void histograms_count_and_sum(void **state)
{
    uint32_t id = defined(SERIES_HISTOGRAM, "h", NULL);
    struct series_reading r;

    (void)state;
    update(0, id, SERIES_OBSERVE, NULL, 0.5);
    update(1, id, SERIES_OBSERVE, NULL, 2);
    update(1, id, SERIES_OBSERVE, NULL, -1);
    assert_int_equal(series_read(shm, 0, "h", &r), 0);
    assert_true(r.value == 1.5);
    assert_int_equal(r.count, 3);
}

static void too_many_sets_of_values_are_counted_apart(void **state)
{
    uint32_t id = defined(SERIES_COUNTER, "orders", "shop");
    int n_over = 0;
    char name[16];

    (void)state;
    for (int i = 0; i < SERIES_PLUGIN_SERIES + 100; i++) {
        snprintf(name, sizeof name, "shop %d", i);
        n_over += update(0, id, SERIES_ADD, name, 1) == -ENOSPC;
    }
    assert_int_equal(n_over, 100);
    assert_int_equal(shm->plugin[0].series.n_overflowed, 100);
    assert_int_equal(shm->plugin[0].series.n_dropped, 0);
    assert_true(value_of("orders") == SERIES_PLUGIN_SERIES + 100); /* the sum is true */
    assert_int_equal(update(1, id, SERIES_ADD, "shop 5", 1), 0);   /* known ones go on */
}

static void what_has_no_sum_is_dropped_and_counted(void **state)
{
    uint32_t id = defined(SERIES_GAUGE, "g", "shop");
    char name[100];

    (void)state;
    memset(name, 'x', sizeof name);
    name[64] = '\0';
    assert_int_equal(update(0, id, SERIES_SET, name, 1), -ENOBUFS);
    assert_int_equal(shm->plugin[0].series.n_dropped, 1);
}

static void an_update_that_makes_no_sense_is_dropped_and_counted(void **state)
{
    uint32_t counter = defined(SERIES_COUNTER, "c", NULL), gauge = defined(SERIES_GAUGE, "g", NULL),
             histogram = defined(SERIES_HISTOGRAM, "h", NULL);

    (void)state;
    assert_int_equal(update(0, counter, SERIES_ADD, NULL, -1), -EINVAL);
    assert_int_equal(update(0, counter, SERIES_ADD, NULL, NAN), -EINVAL);
    assert_int_equal(update(0, counter, SERIES_SET, NULL, 1), -EINVAL);
    assert_int_equal(update(0, gauge, SERIES_SET, NULL, NAN), -EINVAL);
    assert_int_equal(update(0, gauge, SERIES_OBSERVE, NULL, 1), -EINVAL);
    assert_int_equal(update(0, histogram, SERIES_OBSERVE, NULL, INFINITY), -EINVAL);
    assert_int_equal(update(0, histogram, SERIES_ADD, NULL, 1), -EINVAL);
    assert_int_equal(update(0, 999999, SERIES_ADD, NULL, 1), -EINVAL);
    assert_int_equal(series_update(shm, 0, 1, counter, SERIES_ADD, NULL, 1), -EINVAL);
    assert_int_equal(shm->plugin[0].series.n_dropped, 8);
    assert_int_equal(shm->plugin[1].series.n_dropped, 1);
}

static void a_name_has_one_type_whoever_defines_it(void **state)
{
    uint32_t id;

    (void)state;
    defined(SERIES_COUNTER, "orders", NULL);
    assert_int_equal(define(1, SERIES_COUNTER, "orders", NULL, &id), 0);
    assert_int_equal(define(1, SERIES_GAUGE, "orders", NULL, &id), -EEXIST);
    assert_int_equal(define(0, SERIES_GAUGE, "size", NULL, &id), 0);
    assert_int_equal(define(1, SERIES_GAUGE_MAX, "size", NULL, &id), 0);
}

static void a_new_version_may_change_a_type(void **state)
{
    uint32_t old = defined(SERIES_COUNTER, "x", NULL), new;

    (void)state;
    update(0, old, SERIES_ADD, NULL, 5);
    new = defined(SERIES_GAUGE, "x", NULL);
    assert_int_not_equal(old, new);
    update(0, new, SERIES_SET, NULL, 3);
    assert_true(value_of("x") == 3);
}

static void a_plugin_has_a_share_of_the_table(void **state)
{
    uint32_t id;
    char name[16];

    (void)state;
    for (int i = 0; i < SERIES_PLUGIN_DEFS; i++) {
        snprintf(name, sizeof name, "m%d", i);
        assert_int_equal(define(0, SERIES_COUNTER, name, NULL, &id), 0);
    }
    assert_int_equal(define(0, SERIES_COUNTER, "one_more", NULL, &id), -ENOSPC);
    assert_int_equal(define(0, SERIES_COUNTER, "m3", NULL, &id), 0);
    assert_int_equal(define(1, SERIES_COUNTER, "one_more", NULL, &id), 0);
}

static void what_is_forgotten_leaves_room_and_no_figures(void **state)
{
    uint32_t id;
    char name[16];

    (void)state;
    for (int round = 0; round < 10; round++) {
        struct series_reading r;

        for (int i = 0; i < SERIES_PLUGIN_SERIES; i++) {
            id = defined(i < 100 ? SERIES_HISTOGRAM : SERIES_COUNTER, i < 100 ? "h" : "c", "l");
            snprintf(name, sizeof name, "%d", i);
            assert_int_equal(update(0, id, i < 100 ? SERIES_OBSERVE : SERIES_ADD, name, 1), 0);
        }
        assert_true(value_of("c") == SERIES_PLUGIN_SERIES - 100);
        assert_int_equal(series_read(shm, 0, "h", &r), 0);
        assert_int_equal(r.count, 100);
        metrics_forget_plugin(shm, 0);
        assert_int_equal(series_read(shm, 0, "c", &r), -ENOENT);
    }
}

static void processes_that_count_at_once_lose_nothing(void **state)
{
    enum { PROCESSES = 3, LABELS = 50, ROUNDS = 200 };

    (void)state;
    for (uint32_t k = 0; k < PROCESSES; k++) {
        pid_t pid = fork();

        if (pid == 0) {
            for (int i = 0; i < LABELS * ROUNDS; i++) {
                uint32_t id;
                char name[16];

                snprintf(name, sizeof name, "%d", i % LABELS);
                if (define(0, SERIES_COUNTER, "c", "l", &id) < 0 ||
                    update(k, id, SERIES_ADD, name, 1) < 0)
                    _exit(1);
            }
            _exit(0);
        }
        assert_true(pid > 0);
    }
    for (int k = 0; k < PROCESSES; k++) {
        int status;

        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_true(value_of("c") == PROCESSES * LABELS * ROUNDS);
    assert_int_equal(shm->plugin[0].series.n_series, LABELS);
}

/* A process that dies between claiming an entry and filling it in leaves what others complete. */
static void a_half_made_entry_is_completed_by_the_next(void **state)
{
    uint32_t id = defined(SERIES_COUNTER, "c", "l");

    (void)state;
    update(0, id, SERIES_ADD, "x", 1);
    for (uint32_t i = 0; i < SERIES_MAX; i++)
        if (atomic_load(&shm->series.series_key[i]) != 0) {
            atomic_store(&shm->series.series[i].is_ready, 0);
            memset(shm->series.series[i].text, 0, SERIES_TEXT);
        }
    update(0, id, SERIES_ADD, "x", 1);
    assert_true(value_of("c") == 2);
}

static void damaged_memory_is_read_without_harm(void **state)
{
    uint32_t id = defined(SERIES_HISTOGRAM, "h", "l");
    struct series_reading r;
    struct shm_plugin *p = &shm->plugin[0];

    (void)state;
    update(0, id, SERIES_OBSERVE, "x", 1);
    for (int byte = 0; byte < 256; byte += 51) {
        memset((void *)shm->series.series, byte, sizeof shm->series.series);
        memset((void *)shm->series.def, byte, sizeof shm->series.def);
        series_read(shm, 0, "h", &r);
        series_update(shm, 0, 0, id, SERIES_ADD, &(struct series_label){"x", 1}, 1);
        for (uint32_t i = 0; i < SERIES_MAX; i++) {
            uint64_t bucket[HISTOGRAM_X_SIZE] = {0};
            double sum = 0;

            series_histogram(shm, i, bucket, &sum);
        }
    }
    assert_true(atomic_load(&p->series.n_dropped) > 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(the_same_definition_is_the_same_metric),
        T(counters_of_all_workers_are_summed_up),
        T(a_gauge_is_what_its_type_says),
        T(a_worker_that_has_not_set_a_gauge_does_not_count),
        T(gauges_end_with_their_worker_and_counters_do_not),
        T(what_stands_by_does_not_show_in_gauges),
        T(histograms_count_and_sum),
        T(too_many_sets_of_values_are_counted_apart),
        T(what_has_no_sum_is_dropped_and_counted),
        T(an_update_that_makes_no_sense_is_dropped_and_counted),
        T(a_name_has_one_type_whoever_defines_it),
        T(a_new_version_may_change_a_type),
        T(a_plugin_has_a_share_of_the_table),
        T(what_is_forgotten_leaves_room_and_no_figures),
        T(processes_that_count_at_once_lose_nothing),
        T(a_half_made_entry_is_completed_by_the_next),
        T(damaged_memory_is_read_without_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
