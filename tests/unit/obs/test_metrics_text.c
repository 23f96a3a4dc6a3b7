#include "obs/metrics_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "ipc/shm.h"
#include "obs/exposition.h"

static struct shm *shm;

static int set_up(void **state)
{
    (void)state;
    if (shm_create(2, 3, &shm) < 0)
        return -1;
    for (uint32_t i = 0; i < 2; i++) {
        metrics_begin(shm, i);
        atomic_store(&shm->worker[i].metrics.is_serving, 1);
    }
    snprintf(shm->plugin[0].name, SHM_PLUGIN_NAME, "shop");
    snprintf(shm->plugin[0].module, SHM_PLUGIN_NAME, "shop.so");
    atomic_store(&shm->plugin[0].is_shown, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    shm_destroy(&shm);
    return 0;
}

static char *text_in(enum metrics_format format)
{
    struct buffer out = {0};

    assert_int_equal(metrics_text(shm, format, 1000, &out), 0);
    return out.p;
}

/* The lines about one family; freed by the caller. */
static char *family(enum metrics_format format, const char *name)
{
    char *text = text_in(format), *out = calloc(1, strlen(text) + 1), *save = NULL;
    bool is_in = false;

    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        size_t n = strlen(name);

        if (strncmp(line, "# TYPE ", 7) == 0)
            is_in = strncmp(line + 7, name, n) == 0 && (line[7 + n] == ' ');
        if (is_in && strcmp(line, "# EOF") != 0) {
            strcat(out, line);
            strcat(out, "\n");
        }
    }
    free(text);
    return out;
}

static void assert_family(enum metrics_format format, const char *name, const char *expected)
{
    char *text = family(format, name);

    assert_string_equal(text, expected);
    free(text);
}

static uint32_t define(uint32_t plugin, enum series_type type, const char *name, const char *help,
                       const char *label)
{
    struct series_spec spec = {.plugin = plugin,
                               .type = type,
                               .name = name,
                               .help = help,
                               .label = {label},
                               .n_labels = label != NULL};
    uint32_t id;

    assert_int_equal(series_define(shm, &spec, &id), 0);
    return id;
}

static void update(uint32_t slot, uint32_t plugin, uint32_t id, enum series_op op,
                   const char *value, double v)
{
    struct series_label label = {value, value != NULL ? strlen(value) : 0};

    assert_int_equal(series_update(shm, slot, plugin, id, op, &label, v), 0);
}

static void requests_are_summed_up_over_workers(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct metrics_listener *l =
            &shm->worker[i].metrics.listener[metrics_listener_place(shm, "public")];

        metrics_add(&l->requests[METRICS_GET][METRICS_2XX], 5);
        metrics_add(&l->requests[METRICS_POST][METRICS_5XX], i);
        metrics_add(&l->in_flight, 2);
    }
    assert_family(
        METRICS_OPENMETRICS, "bulkhead_requests",
        "# TYPE bulkhead_requests counter\n"
        "# HELP bulkhead_requests Requests that have ended, by listener, method and class "
        "of the status. Aborted: the answer was not sent whole.\n"
        "bulkhead_requests_total{listener=\"public\",method=\"GET\",code=\"2xx\"} 10\n"
        "bulkhead_requests_total{listener=\"public\",method=\"POST\",code=\"5xx\"} 1\n");
    assert_family(METRICS_PROMETHEUS, "bulkhead_requests_in_flight",
                  "# TYPE bulkhead_requests_in_flight gauge\n"
                  "# HELP bulkhead_requests_in_flight Requests whose answer has not ended yet.\n"
                  "bulkhead_requests_in_flight{listener=\"public\"} 4\n");
}

static void requests_are_summed_up_by_route(void **state)
{
    (void)state;
    assert_int_equal(metrics_route_place(shm, "shop"), metrics_route_place(shm, "shop"));
    for (uint32_t i = 0; i < 2; i++) {
        struct metrics_route *r = &shm->worker[i].metrics.route[metrics_route_place(shm, "shop")];

        metrics_add(&r->requests[METRICS_2XX], 5);
        metrics_add(&r->requests[METRICS_5XX], i);
    }
    metrics_route_place(shm, "idle");
    assert_family(METRICS_PROMETHEUS, "bulkhead_route_requests_total",
                  "# TYPE bulkhead_route_requests_total counter\n"
                  "# HELP bulkhead_route_requests_total Requests that have ended, by route of the "
                  "config and class of the status.\n"
                  "bulkhead_route_requests_total{route=\"shop\",code=\"2xx\"} 10\n"
                  "bulkhead_route_requests_total{route=\"shop\",code=\"5xx\"} 1\n"
                  "bulkhead_route_requests_total{route=\"idle\",code=\"2xx\"} 0\n");
}

static void routes_that_come_too_late_share_a_name(void **state)
{
    char name[32], *text;

    (void)state;
    for (int i = 0; i < 2 * METRICS_ROUTES; i++) {
        snprintf(name, sizeof name, "route %d", i);
        metrics_add(
            &shm->worker[0].metrics.route[metrics_route_place(shm, name)].requests[METRICS_2XX], 1);
    }
    text = family(METRICS_PROMETHEUS, "bulkhead_route_requests_total");
    snprintf(name, sizeof name, "_overflow\",code=\"2xx\"} %d\n", METRICS_ROUTES + 1);
    assert_non_null(strstr(text, name));
    free(text);
}

static void versions_share_the_requests_as_the_rollout_says(void **state)
{
    (void)state;
    snprintf(shm->plugin[1].name, SHM_PLUGIN_NAME, "shop@next");
    atomic_store(&shm->plugin[1].is_shown, 1);
    atomic_store(&shm->plugin[0].share, SHM_SHARE_STABLE);
    atomic_store(&shm->plugin[1].share, SHM_SHARE_CANDIDATE);
    rollout_set(&shm->rollout, 1, ROLLOUT_CANARY, ROLLOUT_ALL / 4);
    assert_family(METRICS_PROMETHEUS, "bulkhead_plugin_weight",
                  "# TYPE bulkhead_plugin_weight gauge\n"
                  "# HELP bulkhead_plugin_weight Share of its requests, from 0 to 1, that get this "
                  "version of the plugin; 1 without a rollout.\n"
                  "bulkhead_plugin_weight{plugin=\"shop\"} 0.75\n"
                  "bulkhead_plugin_weight{plugin=\"shop@next\"} 0.25\n");
    rollout_trip(&shm->rollout, 1);
    assert_family(METRICS_PROMETHEUS, "bulkhead_plugin_weight",
                  "# TYPE bulkhead_plugin_weight gauge\n"
                  "# HELP bulkhead_plugin_weight Share of its requests, from 0 to 1, that get this "
                  "version of the plugin; 1 without a rollout.\n"
                  "bulkhead_plugin_weight{plugin=\"shop\"} 1\n"
                  "bulkhead_plugin_weight{plugin=\"shop@next\"} 0\n");
}

static void lines_of_the_log_are_told_by_level_and_plugin(void **state)
{
    (void)state;
    atomic_store(&shm->plugin[0].log.written[1], 3);
    atomic_store(&shm->plugin[0].log.suppressed[1], 7);
    assert_family(METRICS_PROMETHEUS, "bulkhead_plugin_log_lines_total",
                  "# TYPE bulkhead_plugin_log_lines_total counter\n"
                  "# HELP bulkhead_plugin_log_lines_total Lines that the plugin wrote to the error "
                  "log, by level. Suppressed: equal lines that were counted instead of written.\n"
                  "bulkhead_plugin_log_lines_total{plugin=\"shop\",level=\"error\","
                  "outcome=\"written\"} 3\n"
                  "bulkhead_plugin_log_lines_total{plugin=\"shop\",level=\"error\","
                  "outcome=\"suppressed\"} 7\n");
}

static void the_formats_differ_in_counters_units_and_infos(void **state)
{
    (void)state;
    shm->plugin[0].module[0] = '\0';
    assert_family(METRICS_OPENMETRICS, "bulkhead_plugin",
                  "# TYPE bulkhead_plugin info\n"
                  "# HELP bulkhead_plugin Plugins of the config, and their modules.\n"
                  "bulkhead_plugin_info{plugin=\"shop\",module=\"\"} 1\n");
    assert_family(METRICS_PROMETHEUS, "bulkhead_plugin_info",
                  "# TYPE bulkhead_plugin_info gauge\n"
                  "# HELP bulkhead_plugin_info Plugins of the config, and their modules.\n"
                  "bulkhead_plugin_info{plugin=\"shop\",module=\"\"} 1\n");
    assert_family(
        METRICS_OPENMETRICS, "bulkhead_plugin_memory_bytes",
        "# TYPE bulkhead_plugin_memory_bytes gauge\n"
        "# UNIT bulkhead_plugin_memory_bytes bytes\n"
        "# HELP bulkhead_plugin_memory_bytes Memory of its private heaps, in all workers; 0 "
        "with heap: shared.\n"
        "bulkhead_plugin_memory_bytes{plugin=\"shop\"} 0\n");
    assert_family(METRICS_PROMETHEUS, "bulkhead_plugin_failures_total",
                  "# TYPE bulkhead_plugin_failures_total counter\n"
                  "# HELP bulkhead_plugin_failures_total Hooks that returned BH_FAIL.\n"
                  "bulkhead_plugin_failures_total{plugin=\"shop\"} 0\n");
}

static void openmetrics_ends_with_eof_and_the_older_format_does_not(void **state)
{
    char *text = text_in(METRICS_OPENMETRICS);

    (void)state;
    assert_string_equal(text + strlen(text) - 6, "# EOF\n");
    free(text);
    text = text_in(METRICS_PROMETHEUS);
    assert_null(strstr(text, "EOF"));
    free(text);
}

static void metrics_of_plugins_are_told_in_order(void **state)
{
    uint32_t id, other;

    (void)state;
    snprintf(shm->plugin[2].name, SHM_PLUGIN_NAME, "shop@next");
    atomic_store(&shm->plugin[2].is_shown, 1);
    other = define(2, SERIES_COUNTER, "orders", "later", "city");
    update(0, 2, other, SERIES_ADD, "Rome", 7);
    id = define(0, SERIES_COUNTER, "orders", "Orders that came in.", "city");
    update(1, 0, id, SERIES_ADD, "Oslo", 1.5);
    update(0, 0, id, SERIES_ADD, "Bern", 2);
    update(1, 0, id, SERIES_ADD, "Bern", 1);
    assert_family(METRICS_OPENMETRICS, "orders",
                  "# TYPE orders counter\n"
                  "# HELP orders Orders that came in.\n"
                  "orders_total{plugin=\"shop\",city=\"Bern\"} 3\n"
                  "orders_total{plugin=\"shop\",city=\"Oslo\"} 1.5\n"
                  "orders_total{plugin=\"shop@next\",city=\"Rome\"} 7\n");
}

static void what_a_plugin_says_cannot_break_a_line(void **state)
{
    uint32_t id = define(0, SERIES_GAUGE, "g", "a \"quoted\"\nline \\ \xff", "l");

    (void)state;
    update(0, 0, id, SERIES_SET, "a\"b\\c\nd\xc3\xa9\xff", -2.5);
    assert_family(METRICS_OPENMETRICS, "g",
                  "# TYPE g gauge\n"
                  "# HELP g a \\\"quoted\\\"\\nline \\\\ \xef\xbf\xbd\n"
                  "g{plugin=\"shop\",l=\"a\\\"b\\\\c\\nd\xc3\xa9\xef\xbf\xbd\"} -2.5\n");
    assert_family(METRICS_PROMETHEUS, "g",
                  "# TYPE g gauge\n"
                  "# HELP g a \"quoted\"\\nline \\\\ \xef\xbf\xbd\n"
                  "g{plugin=\"shop\",l=\"a\\\"b\\\\c\\nd\xc3\xa9\xef\xbf\xbd\"} -2.5\n");
}

static void a_histogram_is_cumulative_and_has_all_in_its_last_bucket(void **state)
{
    uint32_t id = define(0, SERIES_HISTOGRAM, "size", "", NULL);
    char *text;

    (void)state;
    update(0, 0, id, SERIES_OBSERVE, NULL, 0.25); /* the bound itself is in the bucket */
    update(1, 0, id, SERIES_OBSERVE, NULL, 3);
    update(1, 0, id, SERIES_OBSERVE, NULL, 1e300);
    text = family(METRICS_OPENMETRICS, "size");
    assert_non_null(strstr(text, "size_bucket{plugin=\"shop\",le=\"0.125\"} 0\n"));
    assert_non_null(strstr(text, "size_bucket{plugin=\"shop\",le=\"0.25\"} 1\n"));
    assert_non_null(strstr(text, "size_bucket{plugin=\"shop\",le=\"2.0\"} 1\n"));
    assert_non_null(strstr(text, "size_bucket{plugin=\"shop\",le=\"4.0\"} 2\n"));
    assert_non_null(strstr(text, "size_bucket{plugin=\"shop\",le=\"1073741824.0\"} 2\n"));
    assert_non_null(strstr(text, "size_bucket{plugin=\"shop\",le=\"+Inf\"} 3\n"
                                 "size_sum{plugin=\"shop\"} 1e+300\n"
                                 "size_count{plugin=\"shop\"} 3\n"));
    free(text);
}

static void durations_are_in_seconds(void **state)
{
    struct metrics_listener *l = &shm->worker[0].metrics.listener[metrics_listener_place(shm, "a")];
    char *text;

    (void)state;
    histogram_ns_add(&l->duration, 16384);
    histogram_ns_add(&l->duration, 1500000000);
    text = family(METRICS_OPENMETRICS, "bulkhead_request_duration_seconds");
    assert_non_null(strstr(text, "{listener=\"a\",le=\"1.6384e-05\"} 1\n"));
    assert_non_null(strstr(text, "{listener=\"a\",le=\"1.073741824\"} 1\n"));
    assert_non_null(strstr(text, "{listener=\"a\",le=\"2.147483648\"} 2\n"));
    assert_non_null(
        strstr(text, "bulkhead_request_duration_seconds_sum{listener=\"a\"} 1.500016384\n"));
    free(text);
}

static void plugins_that_are_not_in_the_config_are_not_told(void **state)
{
    uint32_t id = define(1, SERIES_COUNTER, "orders", "", NULL);
    char *text;

    (void)state;
    update(0, 1, id, SERIES_ADD, NULL, 1);
    text = text_in(METRICS_PROMETHEUS);
    assert_null(strstr(text, "orders_total{"));
    free(text);
}

static void a_rollout_is_told_by_state_share_and_arm(void **state)
{
    (void)state;
    rollout_set(&shm->rollout, 7, ROLLOUT_CANARY, ROLLOUT_ALL / 20);
    rollout_count(&shm->rollout, ROLLOUT_CANDIDATE, true, 1000);
    assert_family(METRICS_OPENMETRICS, "bulkhead_rollout_state",
                  "# TYPE bulkhead_rollout_state gauge\n"
                  "# HELP bulkhead_rollout_state 1 for the state in which the rollout of a plugin "
                  "is.\n"
                  "bulkhead_rollout_state{state=\"off\"} 0\n"
                  "bulkhead_rollout_state{state=\"shadow\"} 0\n"
                  "bulkhead_rollout_state{state=\"canary\"} 1\n"
                  "bulkhead_rollout_state{state=\"tripped\"} 0\n");
    assert_family(METRICS_OPENMETRICS, "bulkhead_rollout_share",
                  "# TYPE bulkhead_rollout_share gauge\n"
                  "# HELP bulkhead_rollout_share Share of the requests, from 0 to 1, that the "
                  "candidate gets, or runs along with.\n"
                  "bulkhead_rollout_share 0.05\n");
    assert_family(METRICS_OPENMETRICS, "bulkhead_rollout_errors",
                  "# TYPE bulkhead_rollout_errors counter\n"
                  "# HELP bulkhead_rollout_errors Those of them that failed, or were answered "
                  "5xx.\n"
                  "bulkhead_rollout_errors_total{arm=\"stable\"} 0\n"
                  "bulkhead_rollout_errors_total{arm=\"candidate\"} 1\n");
}

static void only_the_last_shape_of_a_metric_is_told(void **state)
{
    uint32_t old = define(0, SERIES_COUNTER, "x", "old", NULL), new;

    (void)state;
    update(0, 0, old, SERIES_ADD, NULL, 1);
    new = define(0, SERIES_GAUGE, "x", "new", "l");
    update(0, 0, new, SERIES_SET, "v", 0);
    assert_family(METRICS_OPENMETRICS, "x",
                  "# TYPE x gauge\n# HELP x new\nx{plugin=\"shop\",l=\"v\"} 0\n");
}

static void more_listeners_than_places_share_the_last_one(void **state)
{
    char name[16], *text;

    (void)state;
    for (int i = 0; i < METRICS_LISTENERS + 5; i++) {
        snprintf(name, sizeof name, "l%d", i);
        metrics_add(&shm->worker[0].metrics.listener[metrics_listener_place(shm, name)].accepted,
                    1);
    }
    text = family(METRICS_PROMETHEUS, "bulkhead_connections_accepted_total");
    assert_non_null(strstr(text, "{listener=\"l30\"} 1\n"));
    assert_non_null(strstr(text, "{listener=\"_overflow\"} 6\n"));
    free(text);
}

static void damaged_memory_makes_no_damaged_text(void **state)
{
    uint32_t id = define(0, SERIES_HISTOGRAM, "h", "", "l");

    (void)state;
    update(0, 0, id, SERIES_OBSERVE, "x", 1);
    for (int byte = 1; byte < 256; byte += 50) {
        struct buffer out = {0};

        memset((void *)&shm->series, byte, sizeof shm->series);
        memset((void *)shm->listener_name, byte, sizeof shm->listener_name);
        memset((void *)shm->plugin, byte, 3 * sizeof shm->plugin[0]);
        assert_int_equal(metrics_text(shm, METRICS_OPENMETRICS, 1000, &out), 0);
        assert_null(strstr(out.p, "\n\n"));
        buffer_fini(&out);
    }
}

static void who_asks_for_openmetrics_gets_it(void **state)
{
    (void)state;
    assert_int_equal(metrics_format_for(NULL), METRICS_PROMETHEUS);
    assert_int_equal(metrics_format_for("*/*"), METRICS_PROMETHEUS);
    assert_int_equal(
        metrics_format_for("application/openmetrics-text;version=1.0.0;q=0.75,text/plain;q=0.5"),
        METRICS_OPENMETRICS);
    assert_non_null(strstr(metrics_content_type(METRICS_OPENMETRICS), "openmetrics"));
}

/* ---- the documentation ---- */

static char *read_doc(void)
{
    FILE *f = fopen("docs/metrics.md", "r");
    char *text = calloc(1, 1 << 16);

    assert_non_null(f);
    assert_true(fread(text, 1, (1 << 16) - 1, f) > 0);
    fclose(f);
    return text;
}

static const char *full_name(const struct family *f, char *buf, size_t size)
{
    snprintf(buf, size, "%s%s", f->name,
             f->type == FAMILY_COUNTER ? "_total"
             : f->type == FAMILY_INFO  ? "_info"
                                       : "");
    return buf;
}

static void every_metric_is_documented_and_no_other_one(void **state)
{
    char *doc = read_doc(), name[128], line[160];
    size_t n = 0, n_rows = 0;

    (void)state;
    for (const struct family *f; (f = metrics_family(n)) != NULL; n++) {
        snprintf(line, sizeof line, "\n| `%s` |", full_name(f, name, sizeof name));
        if (strstr(doc, line) == NULL)
            fail_msg("docs/metrics.md has no row for %s", name);
    }
    for (const char *p = doc; (p = strstr(p, "\n| `")) != NULL; p++)
        n_rows += strncmp(p + 4, "bulkhead_", 9) == 0 || strncmp(p + 4, "process_", 8) == 0;
    assert_int_equal(n_rows, n);
    free(doc);
}

static void every_name_is_sound_and_ends_with_its_unit(void **state)
{
    const struct family *f;

    (void)state;
    for (size_t i = 0; (f = metrics_family(i)) != NULL; i++) {
        size_t n = strlen(f->name), u = f->unit != NULL ? strlen(f->unit) : 0;

        assert_true(exposition_is_name(f->name, n));
        assert_true(f->help[0] != '\0');
        assert_true(u == 0 || (f->name[n - u - 1] == '_' && strcmp(f->name + n - u, f->unit) == 0));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(f->name, metrics_family(k)->name);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(requests_are_summed_up_over_workers),
        T(requests_are_summed_up_by_route),
        T(routes_that_come_too_late_share_a_name),
        T(versions_share_the_requests_as_the_rollout_says),
        T(lines_of_the_log_are_told_by_level_and_plugin),
        T(the_formats_differ_in_counters_units_and_infos),
        T(openmetrics_ends_with_eof_and_the_older_format_does_not),
        T(metrics_of_plugins_are_told_in_order),
        T(what_a_plugin_says_cannot_break_a_line),
        T(a_histogram_is_cumulative_and_has_all_in_its_last_bucket),
        T(durations_are_in_seconds),
        T(plugins_that_are_not_in_the_config_are_not_told),
        T(a_rollout_is_told_by_state_share_and_arm),
        T(only_the_last_shape_of_a_metric_is_told),
        T(more_listeners_than_places_share_the_last_one),
        T(damaged_memory_makes_no_damaged_text),
        T(who_asks_for_openmetrics_gets_it),
        T(every_metric_is_documented_and_no_other_one),
        T(every_name_is_sound_and_ends_with_its_unit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
