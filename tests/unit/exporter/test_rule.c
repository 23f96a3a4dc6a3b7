#include "exporter/rule.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "conf/config.h"
#include "exporter/alert_text.h"
#include "obs/sample.h"

#define SECOND INT64_C(1000)

static struct config_pair severity = {"severity", "page"},
                          summary = {"summary", "look <font> [x](y)\nhere"};
static struct config_rule drift = {.name = "drift",
                                   .metric = "time_drift_ms_p95",
                                   .when = "> 50",
                                   .compare = CONFIG_ABOVE,
                                   .threshold = 50,
                                   .for_ms = 120000,
                                   .label = &severity,
                                   .n_labels = 1,
                                   .annotation = &summary,
                                   .n_annotations = 1};

/* ---- samples ---- */

static void samples_are_read_with_their_labels(void **state)
{
    struct sample s;
    char value[64];

    (void)state;
    assert_true(sample_read("up 1", &s));
    assert_int_equal(s.name_n, 2);
    assert_int_equal(s.labels_n, 0);
    assert_true(s.value > 0.5 && s.value < 1.5);
    assert_true(sample_read("x_total{a=\"q\\\"}\\\\\\n\",b=\"\"} 2.5e3", &s));
    assert_true(s.value > 2499 && s.value < 2501);
    assert_true(sample_label(s.labels, s.labels_n, "a", value, sizeof value));
    assert_string_equal(value, "q\"}\\\n");
    assert_true(sample_label(s.labels, s.labels_n, "b", value, sizeof value));
    assert_string_equal(value, "");
    assert_false(sample_label(s.labels, s.labels_n, "c", value, sizeof value));
    assert_true(sample_read("n NaN", &s));
    assert_true(isnan(s.value));
    assert_true(sample_read("n +Inf 123", &s));
    assert_true(isinf(s.value));
}

static void what_is_no_sample_is_none(void **state)
{
    static const char *const bad[] = {
        "", "# HELP x y", "x", "x{", "x{a=\"b\" 1", "x{a=\"b\"}1", "{} 1", "x one", "x 1x"};
    struct sample s;
    char value[8];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (sample_read(bad[i], &s))
            fail_msg("taken: %s", bad[i]);
    assert_false(sample_label("a", 1, "a", value, sizeof value));
    assert_false(sample_label("a=", 2, "a", value, sizeof value));
    assert_false(sample_label("a=\"b", 4, "b", value, sizeof value));
}

static void a_rule_wants_its_metric_with_its_labels(void **state)
{
    struct config_pair match[] = {{"plugin", "a"}, {"kind", "x"}};
    struct config_rule rule = {.metric = "m_total", .match = match, .n_matches = 2};
    struct sample s;
    size_t base_n = 0;

    (void)state;
    sample_read("m_total{plugin=\"a\",kind=\"x\"} 1", &s);
    assert_true(rule_wants(&rule, 0, 0, &s));
    sample_read("m_total{plugin=\"a\",kind=\"xy\"} 1", &s);
    assert_false(rule_wants(&rule, 0, 0, &s));
    sample_read("m_total{plugin=\"a\"} 1", &s);
    assert_false(rule_wants(&rule, 0, 0, &s));
    rule.n_matches = 0;
    sample_read("m_totals 1", &s);
    assert_false(rule_wants(&rule, 0, 0, &s));

    rule.metric = "lat_seconds_p99";
    assert_true(fabs(rule_quantile_of(rule.metric, &base_n) - 0.99) < 1e-9);
    sample_read("lat_seconds_bucket{le=\"0.5\"} 1", &s);
    assert_true(rule_wants(&rule, 0.99, base_n, &s));
    sample_read("lat_seconds_count 1", &s);
    assert_false(rule_wants(&rule, 0.99, base_n, &s));
    assert_true(rule_quantile_of("lat_seconds", &base_n) <= 0);
    assert_true(rule_quantile_of("_p99", &base_n) <= 0);
}

static void comparisons_are_what_they_say(void **state)
{
    static const struct {
        enum config_compare compare;
        bool below, at, above;
    } rows[] = {{CONFIG_ABOVE, false, false, true}, {CONFIG_AT_LEAST, false, true, true},
                {CONFIG_BELOW, true, false, false}, {CONFIG_AT_MOST, true, true, false},
                {CONFIG_EQUAL, false, true, false}, {CONFIG_NOT_EQUAL, true, false, true}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config_rule rule = {.compare = rows[i].compare, .threshold = 5};

        assert_int_equal(rule_holds(&rule, 4), rows[i].below);
        assert_int_equal(rule_holds(&rule, 5), rows[i].at);
        assert_int_equal(rule_holds(&rule, 6), rows[i].above);
    }
}

static void quantiles_are_those_of_promql(void **state)
{
    const double bound[] = {1, 2, 4, INFINITY}, count[] = {10, 20, 40, 40};

    (void)state;
    assert_true(fabs(rule_quantile(0.5, bound, count, 4) - 2) < 1e-9);
    assert_true(fabs(rule_quantile(0.25, bound, count, 4) - 1) < 1e-9);
    assert_true(fabs(rule_quantile(0.75, bound, count, 4) - 3) < 1e-9);
    assert_true(fabs(rule_quantile(0.99, bound, (const double[]){0, 0, 0, 5}, 4) - 4) < 1e-9);
    assert_true(isnan(rule_quantile(0.5, bound, (const double[]){0, 0, 0, 0}, 4)));
    assert_true(isnan(rule_quantile(0.5, bound, count, 0)));
}

/* ---- windows ---- */

static double add(struct window *w, int64_t now_ms, double v)
{
    double out;

    window_add(w, now_ms, &v, &out);
    return out;
}

static void a_window_tells_what_a_counter_grew_by(void **state)
{
    struct window *w = window_create(10000, 1);

    (void)state;
    assert_non_null(w);
    assert_true(fabs(add(w, 0, 100)) < 1e-9); /* what was before is not growth */
    for (int i = 1; i <= 10; i++)
        assert_true(fabs(add(w, i * SECOND, 100 + i) - i) < 1e-9);
    for (int i = 11; i <= 100; i++)
        assert_true(fabs(add(w, i * SECOND, 100 + i) - 10) < 1e-9);
    assert_true(fabs(add(w, 101 * SECOND, 0) - 9) < 1e-9);  /* it began anew ... */
    assert_true(fabs(add(w, 102 * SECOND, 3) - 11) < 1e-9); /* ... and grew */
    for (int i = 103; i <= 112; i++)
        add(w, i * SECOND, 3);
    assert_true(fabs(add(w, 113 * SECOND, 3)) < 1e-9);
    window_destroy(&w);
    assert_null(w);
}

/* ---- states ---- */

static void an_alert_fires_when_it_has_held_long_enough(void **state)
{
    struct alert a = {.rule = &drift};
    int64_t t = 1000 * SECOND;

    (void)state;
    assert_int_equal(alert_step(&a, 10, t, 1), ALERT_SAME);
    assert_int_equal(alert_step(&a, 51, t += SECOND, 1), ALERT_SAME);
    assert_int_equal(a.is.state, ALERT_PENDING);
    assert_int_equal(alert_step(&a, 51, t + 119 * SECOND, 1), ALERT_SAME);
    assert_int_equal(alert_step(&a, 63.5, t + 120 * SECOND, 77), ALERT_FIRED);
    assert_int_equal(a.is.state, ALERT_FIRING);
    assert_int_equal(a.is.began_ns, 77);
    assert_int_equal(alert_step(&a, 80, t + 121 * SECOND, 1), ALERT_SAME);
    assert_int_equal(alert_step(&a, 50, t + 122 * SECOND, 88), ALERT_ENDED);
    assert_int_equal(a.is.state, ALERT_RESOLVED);
    assert_int_equal(a.is.ended_ns, 88);
    t += 122 * SECOND;
    assert_int_equal(alert_step(&a, 1, t + RULE_REMEMBER_MS - 1, 1), ALERT_SAME);
    assert_int_equal(a.is.state, ALERT_RESOLVED);
    assert_int_equal(alert_step(&a, 1, t + RULE_REMEMBER_MS, 1), ALERT_SAME);
    assert_int_equal(a.is.state, ALERT_INACTIVE);
}

static void one_good_value_begins_the_wait_anew(void **state)
{
    struct alert a = {.rule = &drift};

    (void)state;
    alert_step(&a, 60, 0, 1);
    alert_step(&a, 60, 119 * SECOND, 1);
    alert_step(&a, 40, 120 * SECOND, 1);
    assert_int_equal(a.is.state, ALERT_INACTIVE);
    assert_int_equal(alert_step(&a, 60, 121 * SECOND, 1), ALERT_SAME);
    assert_int_equal(alert_step(&a, 60, 240 * SECOND, 1), ALERT_SAME);
    assert_int_equal(alert_step(&a, 60, 241 * SECOND, 1), ALERT_FIRED);
}

static void without_for_it_fires_at_once(void **state)
{
    struct config_rule rule = drift;
    struct alert a = {.rule = &rule};

    (void)state;
    rule.for_ms = 0;
    assert_int_equal(alert_step(&a, 60, 5, 1), ALERT_FIRED);
}

static void a_gap_ends_nothing_but_a_long_one_does(void **state)
{
    struct config_rule rule = drift;
    struct alert a = {.rule = &rule};

    (void)state;
    rule.for_ms = 0;
    alert_step(&a, 60, 0, 1);
    assert_int_equal(alert_step(&a, NAN, RULE_NO_DATA_MS - 1, 1), ALERT_SAME);
    assert_int_equal(a.is.state, ALERT_FIRING);
    assert_int_equal(alert_step(&a, NAN, RULE_NO_DATA_MS, 1), ALERT_ENDED);
}

/* ---- what is sent ---- */

static json_t *text_for(enum config_receiver_type type, const struct alert *a, int n)
{
    struct config_receiver to = {.name = "ops", .type = type};
    const struct alert *list[100];
    struct alert_message m = {.to = &to,
                              .alert = list,
                              .n = n,
                              .instance = "host",
                              .now_ns = INT64_C(1795793494000000000)};
    size_t len;
    char *text;
    json_t *json;

    for (int i = 0; i < n; i++)
        list[i] = &a[i];
    text = alert_text(&m, &len);
    assert_non_null(text);
    json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    free(text);
    return json;
}

static struct alert firing(void)
{
    struct alert a = {.rule = &drift,
                      .is = {.state = ALERT_FIRING,
                             .value = 63.25,
                             .began_ns = INT64_C(1795793434000000000),
                             .labels = "plugin=\"clock\",bad=\"\xff<@all>\""}};

    return a;
}

static const char *at(const json_t *json, const char *name)
{
    return json_string_value(json_object_get(json, name));
}

static void alertmanager_gets_labels_and_an_end(void **state)
{
    struct alert a = firing();
    json_t *json = text_for(CONFIG_ALERTMANAGER, &a, 1), *one = json_array_get(json, 0);
    const json_t *labels = json_object_get(one, "labels");

    (void)state;
    assert_string_equal(at(labels, "alertname"), "drift");
    assert_string_equal(at(labels, "plugin"), "clock");
    assert_string_equal(at(labels, "severity"), "page");
    assert_string_equal(at(labels, "instance"), "host");
    assert_string_equal(at(labels, "bad"), "\xef\xbf\xbd<@all>");
    assert_string_equal(at(json_object_get(one, "annotations"), "value"), "63.25");
    assert_string_equal(at(one, "startsAt"), "2026-11-27T15:30:34.000Z");
    assert_string_equal(at(one, "endsAt"), "2026-11-27T15:35:34.000Z"); /* four minutes from now */
    json_decref(json);
    a.is.state = ALERT_RESOLVED;
    a.is.ended_ns = INT64_C(1795793490000000000);
    json = text_for(CONFIG_ALERTMANAGER, &a, 1);
    assert_string_equal(at(json_array_get(json, 0), "endsAt"), "2026-11-27T15:31:30.000Z");
    json_decref(json);
}

static void a_webhook_gets_what_alertmanager_sends(void **state)
{
    struct alert two[2] = {firing(), firing()};
    json_t *json;

    (void)state;
    two[1].is.state = ALERT_RESOLVED;
    snprintf(two[1].is.labels, sizeof two[1].is.labels, "plugin=\"other\"");
    json = text_for(CONFIG_WEBHOOK, two, 2);
    assert_string_equal(at(json, "version"), "4");
    assert_string_equal(at(json, "status"), "firing");
    assert_string_equal(at(json, "receiver"), "ops");
    assert_string_equal(at(json_object_get(json, "commonLabels"), "alertname"), "drift");
    assert_null(json_object_get(json_object_get(json, "commonLabels"), "plugin"));
    assert_int_equal(json_array_size(json_object_get(json, "alerts")), 2);
    assert_string_equal(at(json_array_get(json_object_get(json, "alerts"), 1), "status"),
                        "resolved");
    json_decref(json);
}

static void wecom_gets_markdown_without_foreign_markup(void **state)
{
    struct alert a = firing(), many[100];
    json_t *json = text_for(CONFIG_WECOM, &a, 1);
    const char *text = at(json_object_get(json, "markdown"), "content");

    (void)state;
    assert_string_equal(at(json, "msgtype"), "markdown");
    assert_string_equal(
        text, "<font color=\"warning\">FIRING</font> **drift**: time_drift_ms_p95 is 63.25 "
              "(alert when > 50 for 120 s)\n"
              "> instance: host\n"
              "> plugin: clock\n"
              "> bad: \xef\xbf\xbd(@all)\n"
              "> severity: page\n"
              "> summary: look (font) (x)(y) here\n"
              "> since: 2026-11-27T15:30:34.000Z\n");
    json_decref(json);
    for (int i = 0; i < 100; i++)
        many[i] = a;
    json = text_for(CONFIG_WECOM, many, 100);
    text = at(json_object_get(json, "markdown"), "content");
    assert_true(strlen(text) <= 4096);
    assert_non_null(strstr(text, " more: `bulkhead alerts`"));
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_read_with_their_labels),
        cmocka_unit_test(what_is_no_sample_is_none),
        cmocka_unit_test(a_rule_wants_its_metric_with_its_labels),
        cmocka_unit_test(comparisons_are_what_they_say),
        cmocka_unit_test(quantiles_are_those_of_promql),
        cmocka_unit_test(a_window_tells_what_a_counter_grew_by),
        cmocka_unit_test(an_alert_fires_when_it_has_held_long_enough),
        cmocka_unit_test(one_good_value_begins_the_wait_anew),
        cmocka_unit_test(without_for_it_fires_at_once),
        cmocka_unit_test(a_gap_ends_nothing_but_a_long_one_does),
        cmocka_unit_test(alertmanager_gets_labels_and_an_end),
        cmocka_unit_test(a_webhook_gets_what_alertmanager_sends),
        cmocka_unit_test(wecom_gets_markdown_without_foreign_markup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
