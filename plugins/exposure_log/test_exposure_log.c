/*
 * test_exposure_log.c - what exposure_log promises, but for the backends: those have a test of their
 * own with real ones, tests/integration/test_exposures.c.
 */
#include "backlog.h"
#include "event.h"
#include "spool.h"

#include <bulkhead_test.h>

#include "ship.h"

#define OBJECT(G) "{\"experiment\":\"x\",\"group\":\"" G "\",\"id\":\"u1\"}"

static bh_req *exposed(bht *t, const char *objects)
{
    bh_req *r = bht_request(t, "GET", "/");

    if (objects != NULL)
        assert_int_equal(bh_var_set(r, "ab_exposures", bh_s(objects)), BH_OK);
    bht_run(r);
    return r;
}

static size_t count_lines(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

static void each_exposure_is_a_line(void **state)
{
    bht *t = bht_open(NULL);
    const char *log;

    (void)state;
    exposed(t, OBJECT("a"));
    exposed(t, OBJECT("b") "," OBJECT("c"));
    exposed(t, NULL);
    log = bht_sink_text(t, "exposures.jsonl");
    assert_int_equal(count_lines(log), 3);
    assert_non_null(strstr(log, "\",\"time\":1767225600.000,\"status\":200,\"request_id\":\"1\","
                                "\"experiment\":\"x\",\"group\":\"a\",\"id\":\"u1\"}\n"));
    assert_memory_equal(log, "{\"event_id\":\"", 13);
    bht_close(t);
}

static void no_two_events_have_the_same_id(void **state)
{
    static char ids[2000][EVENT_ID_SIZE];
    int n = 0;

    (void)state;
    for (uint64_t maker = 0x0123456789abcdef; n < 2000; maker += 0x10000000000001)
        for (uint64_t i = 0; i < 100; i++, n++)
            event_id(maker, i, ids[n]);
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(strlen(ids[i]), 36);
        assert_int_equal(ids[i][14], '8');
        assert_non_null(strchr("89ab", ids[i][19]));
        for (int k = 0; k < i; k++)
            assert_string_not_equal(ids[i], ids[k]);
    }
}

static void braces_and_quotes_in_an_id_do_not_split_it(void **state)
{
    static const char objects[] = "{\"id\":\"a}\\\"},{\"},{\"id\":\"b\\\\\"},{\"id\":\"c\"}";
    static const char *const expected[] = {"{\"id\":\"a}\\\"},{\"}", "{\"id\":\"b\\\\\"}",
                                           "{\"id\":\"c\"}"};
    size_t at = 0;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        bh_str o = event_next(bh_s(objects), &at);

        assert_int_equal(o.n, strlen(expected[i]));
        assert_memory_equal(o.p, expected[i], o.n);
    }
    assert_null(event_next(bh_s(objects), &at).p);
    for (size_t i = 0; i < 5; i++) {
        static const char *const bad[] = {"", "x", "{", "{\"a", ",,"};

        at = 0;
        assert_null(event_next(bh_s(bad[i]), &at).p);
    }
}

static void members_are_found_outside_of_strings_only(void **state)
{
    bh_str line = bh_s(
               "{\"event_id\":\"e\",\"x\":\"\\\"id\\\":\\\"no\",\"id\":\"yes\\\"\",\"n\":1}"),
           v;

    (void)state;
    v = event_member(line, "id");
    assert_int_equal(v.n, 5);
    assert_memory_equal(v.p, "yes\\\"", 5);
    assert_null(event_member(line, "n").p);
    assert_null(event_member(line, "none").p);
}

static void a_request_id_with_odd_characters_is_left_out(void **state)
{
    bht *t = bht_open(NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    assert_int_equal(bh_var_set(r, "ab_exposures", bh_s(OBJECT("a"))), BH_OK);
    assert_int_equal(bh_var_set(r, "request_id", bh_s("a\"b")), BH_OK);
    bht_run(r);
    assert_non_null(strstr(bht_sink_text(t, "exposures.jsonl"), "\"request_id\":\"\","));
    bht_close(t);
}

static void a_log_that_is_full_gets_its_lines_later_in_their_order(void **state)
{
    bht *t = bht_open(NULL);
    const char *log;

    (void)state;
    exposed(t, OBJECT("a"));
    bht_sink_full(t, true);
    for (int i = 0; i < 5; i++)
        exposed(t, OBJECT("b"));
    assert_int_equal(count_lines(bht_sink_text(t, "exposures.jsonl")), 1);
    bht_sink_full(t, false);
    bht_advance(30 * 1000000LL);
    exposed(t, OBJECT("c"));
    log = bht_sink_text(t, "exposures.jsonl");
    assert_int_equal(count_lines(log), 7);
    assert_non_null(strstr(strrchr(log, '{'), "\"c\""));
    assert_true(bht_metric(t, "exposure_events_total{written}") == 7);
    assert_int_equal(bht_timers(t), 0);
    assert_string_equal(bht_log_text(t), "");
    bht_close(t);
}

static void lost_exposures_are_told_now_and_then(void **state)
{
    bht *t = bht_open("backlog=64KiB", NULL);
    size_t kept = 0;

    (void)state;
    bht_sink_full(t, true);
    for (; bht_log_text(t)[0] == '\0' && kept < 10000; kept++)
        exposed(t, OBJECT("a"));
    assert_non_null(strstr(bht_log_text(t), "1 exposures were lost"));
    kept--;
    assert_true(kept > 200 && kept < 1000);
    for (int i = 0; i < 4; i++)
        exposed(t, OBJECT("a"));
    assert_int_equal(count_lines(bht_log_text(t)), 1);
    bht_advance(11 * 1000000000LL);
    exposed(t, OBJECT("a"));
    assert_non_null(strstr(bht_log_text(t), "5 exposures were lost"));
    assert_true(bht_metric(t, "exposure_events_total{lost}") == 6);
    bht_sink_full(t, false);
    bht_advance(1000000000LL);
    assert_int_equal(count_lines(bht_sink_text(t, "exposures.jsonl")), kept);
    bht_close(t);
}

static void a_backlog_is_used_over_and_over(void **state)
{
    struct backlog b;
    char line[300];
    int in = 0, out = 0;

    (void)state;
    backlog_init(&b, 4096);
    for (int round = 0; round < 500; round++) {
        for (int k = 0; k < 7; k++) {
            memset(line, 'x', sizeof line);
            snprintf(line, sizeof line, "%d ", in);
            if (backlog_put(&b, line, 20 + (size_t)in % 280))
                in++;
        }
        for (int k = 0; k < 6 && b.n > 0; k++) {
            assert_int_equal(atoi(backlog_first(&b).p), out);
            assert_int_equal(backlog_first(&b).n, 20 + out % 280);
            out++;
            backlog_drop_first(&b);
        }
    }
    assert_true(out > 2000);
    backlog_fini(&b);
}

/* ---- the spool ---------------------------------------------------------------------------- */

static char *line_of(int i)
{
    static char text[200];

    snprintf(text, sizeof text,
             "{\"event_id\":\"00000000-0000-8000-8000-%012d\",\"time\":1.000,\"id\":\"%d\"}\n", i,
             i);
    return text;
}

static void append(const char *path, const char *text)
{
    FILE *f = fopen(path, "ae");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static const char *fresh(const char *name)
{
    static char path[PATH_MAX];
    char state[PATH_MAX + 8];

    snprintf(path, sizeof path, "%s/%s", bht_dir(), name);
    snprintf(state, sizeof state, "%s.test", path);
    unlink(path);
    unlink(state);
    return path;
}

static struct spool spool_of(const char *path, int keep)
{
    struct spool s;
    char why[400];

    assert_int_equal(spool_init(&s, path, "test", keep), 0);
    assert_int_equal(spool_lock(&s, why, sizeof why), 0);
    return s;
}

static struct batch batch;

static size_t read_some(struct spool *s, size_t max)
{
    assert_int_equal(spool_read(s, max, &batch), 0);
    return batch.n;
}

static void what_is_not_acknowledged_comes_again(void **state)
{
    const char *path = fresh("a.jsonl");
    struct spool s = spool_of(path, 1);

    (void)state;
    assert_int_equal(read_some(&s, 10), 0); /* there is no log yet */
    for (int i = 0; i < 5; i++)
        append(path, line_of(i));
    assert_int_equal(read_some(&s, 3), 3);
    assert_int_equal(spool_acknowledge(&s, &batch), 0);
    assert_int_equal(read_some(&s, 10), 2);
    spool_fini(&s); /* dies here */
    s = spool_of(path, 1);
    assert_int_equal(read_some(&s, 10), 2);
    assert_non_null(strstr(batch.line[0].p, "\"id\":\"3\""));
    assert_int_equal(spool_acknowledge(&s, &batch), 0);
    assert_int_equal(read_some(&s, 10), 0);
    assert_int_equal(spool_lag(&s), 0);
    spool_fini(&s);
}

static void half_a_line_waits_for_its_other_half(void **state)
{
    const char *path = fresh("b.jsonl");
    struct spool s = spool_of(path, 1);

    (void)state;
    append(path, line_of(1));
    append(path, "{\"event_id\":\"00000000-0000-8000");
    assert_int_equal(read_some(&s, 10), 1);
    assert_int_equal(spool_acknowledge(&s, &batch), 0);
    assert_int_equal(read_some(&s, 10), 0);
    append(path, "-8000-000000000002\",\"time\":1.000}\n");
    assert_int_equal(read_some(&s, 10), 1);
    spool_fini(&s);
}

static void lines_that_are_none_are_passed_over(void **state)
{
    const char *path = fresh("c.jsonl");
    struct spool s = spool_of(path, 1);

    (void)state;
    append(path, "hello\n\n{\"event_id\":\"short\"}\n");
    append(path, line_of(1));
    assert_int_equal(read_some(&s, 10), 1);
    assert_int_equal(batch.bad, 3);
    assert_int_equal(spool_acknowledge(&s, &batch), 0);
    assert_int_equal(read_some(&s, 10), 0);
    spool_fini(&s);
}

static void only_one_has_the_lock(void **state)
{
    const char *path = fresh("d.jsonl");
    struct spool s = spool_of(path, 1), other;
    char why[400];

    (void)state;
    assert_int_equal(spool_init(&other, path, "test", 1), 0);
    assert_int_equal(spool_lock(&other, why, sizeof why), -EAGAIN);
    spool_fini(&s);
    assert_int_equal(spool_lock(&other, why, sizeof why), 0);
    spool_fini(&other);
}

static void a_log_that_is_rotated_is_read_to_its_end(void **state)
{
    const char *path = fresh("e.jsonl");
    struct spool s = spool_of(path, 1);
    char old[PATH_MAX + 8];

    (void)state;
    snprintf(old, sizeof old, "%s.1", path);
    append(path, line_of(1));
    append(path, line_of(2));
    assert_int_equal(read_some(&s, 1), 1);
    assert_int_equal(spool_acknowledge(&s, &batch), 0);
    spool_fini(&s);
    assert_int_equal(rename(path, old), 0); /* while nobody looks */
    append(path, line_of(3));
    s = spool_of(path, 1);
    assert_int_equal(read_some(&s, 10), 1);
    assert_non_null(strstr(batch.line[0].p, "\"id\":\"2\""));
    assert_int_equal(spool_acknowledge(&s, &batch), 0);
    assert_int_equal(read_some(&s, 10), 1);
    assert_non_null(strstr(batch.line[0].p, "\"id\":\"3\""));
    spool_fini(&s);
    unlink(old);
}

static void one_that_is_not_kept_gives_its_room_back(void **state)
{
    const char *path = fresh("f.jsonl");
    struct spool s = spool_of(path, 0);
    struct stat before, after;

    (void)state;
    for (int i = 0; i < 2000; i++)
        append(path, line_of(i));
    assert_int_equal(stat(path, &before), 0);
    while (read_some(&s, 1000) > 0)
        assert_int_equal(spool_acknowledge(&s, &batch), 0);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    if (after.st_blocks < before.st_blocks) /* file systems may not offer it */
        assert_true(after.st_blocks <= 8);
    append(path, line_of(7));
    assert_int_equal(read_some(&s, 10), 1);
    spool_fini(&s);
}

/* ---- a backend that fails at will --------------------------------------------------------- */

static struct {
    _Atomic int fail, calls, closed;
    _Atomic size_t got;
} sent;

static int fake_send(void *state, const struct batch *b, size_t *refused, char why[WHY_SIZE])
{
    (void)state, (void)refused;
    sent.calls++;
    if (sent.fail) {
        snprintf(why, WHY_SIZE, "out of order");
        return -EIO;
    }
    sent.got += b->n;
    return 0;
}

static void fake_close(void *state)
{
    (void)state;
    sent.closed++;
}

static void until_got(size_t n)
{
    for (int i = 0; i < 5000 && sent.got < n; i++)
        usleep(2000);
    assert_int_equal(sent.got, n);
}

static void a_backend_that_fails_gets_the_same_again(void **state)
{
    bht *t = bht_open(NULL);
    const char *path = fresh("g.jsonl");
    const struct backend backend = {"test", NULL, fake_send, fake_close};
    const struct ship_options o = {path, 1, 100, 10, 10};
    struct shipper *s;

    (void)state;
    memset(&sent, 0, sizeof sent);
    sent.fail = 1;
    for (int i = 0; i < 250; i++)
        append(path, line_of(i));
    s = shipper_start(t, &o, &backend);
    assert_non_null(s);
    for (int i = 0; i < 5000 && sent.calls < 3; i++)
        usleep(2000);
    assert_true(bht_metric(t, "exposure_failures_total{test}") >= 2);
    assert_true(bht_metric(t, "exposure_lag_bytes{test}") > 10000);
    assert_int_equal(sent.got, 0);
    sent.fail = 0;
    until_got(250);
    for (int i = 0; i < 5000 && bht_metric(t, "exposure_lag_bytes{test}") > 0; i++)
        usleep(2000);
    assert_true(bht_metric(t, "exposure_lag_bytes{test}") == 0);
    assert_true(bht_metric(t, "exposure_lines_total{test,shipped}") == 250);
    shipper_stop(&s);
    assert_int_equal(sent.closed, 1);
    assert_non_null(strstr(bht_log_text(t), "warn: test: out of order; exposures wait in the log"));
    assert_non_null(strstr(bht_log_text(t), "info: test works again"));
    assert_int_equal(count_lines(bht_log_text(t)), 2);
    bht_close(t);
}

static void bad_options_are_refused(void **state)
{
    static const char *const bad[][3] = {
        {"path=", NULL, NULL},
        {"path=-", "postgres=dbname=x", NULL},
        {"keep=false", "postgres=dbname=x", "kafka=localhost"},
        {"table=", NULL, NULL},
        {"batch=0", NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bht *t = bht_try(bad[i][0], bad[i][1], bad[i][2], NULL);

        if (bht_rc(t) == BH_OK)
            fail_msg("%s is taken", bad[i][0]);
        bht_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_exposure_is_a_line),
        cmocka_unit_test(no_two_events_have_the_same_id),
        cmocka_unit_test(braces_and_quotes_in_an_id_do_not_split_it),
        cmocka_unit_test(members_are_found_outside_of_strings_only),
        cmocka_unit_test(a_request_id_with_odd_characters_is_left_out),
        cmocka_unit_test(a_log_that_is_full_gets_its_lines_later_in_their_order),
        cmocka_unit_test(a_backlog_is_used_over_and_over),
        cmocka_unit_test(lost_exposures_are_told_now_and_then),
        cmocka_unit_test(what_is_not_acknowledged_comes_again),
        cmocka_unit_test(half_a_line_waits_for_its_other_half),
        cmocka_unit_test(lines_that_are_none_are_passed_over),
        cmocka_unit_test(only_one_has_the_lock),
        cmocka_unit_test(a_log_that_is_rotated_is_read_to_its_end),
        cmocka_unit_test(one_that_is_not_kept_gives_its_room_back),
        cmocka_unit_test(a_backend_that_fails_gets_the_same_again),
        cmocka_unit_test(bad_options_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
