#include "contract.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "store/store.h"

static const struct contract_backend *backend;
static int64_t clock_ns;

static int64_t fake_now_ns(void)
{
    return clock_ns;
}

static void advance(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000l};

    clock_ns += ms * 1000000ll;
    if (backend->has_own_clock)
        nanosleep(&t, NULL);
}

struct scene {
    struct store *s;
    struct store_ns ns, other;
};

static struct store_key key(const char *text)
{
    return (struct store_key){text, strlen(text)};
}

static int set_up(void **state)
{
    struct scene *sc = calloc(1, sizeof *sc);

    *state = sc;
    clock_ns = 1000000000000000000;
    sc->s = backend->open();
    if (sc->s == NULL)
        return 0;
    if (!backend->has_own_clock)
        sc->s->now_ns = fake_now_ns;
    return sc->s->ops->open_ns(sc->s, "one", &sc->ns) < 0 ||
           sc->s->ops->open_ns(sc->s, "two", &sc->other) < 0;
}

static int tear_down(void **state)
{
    struct scene *sc = *state;

    if (sc->s != NULL)
        backend->close(sc->s);
    free(sc);
    return 0;
}

static struct scene *scene(void **state)
{
    struct scene *sc = *state;

    if (sc->s == NULL)
        skip();
    return sc;
}

static int set(struct scene *sc, const char *k, const char *v, uint32_t ttl_ms, uint64_t version)
{
    return sc->s->ops->set(sc->s, &sc->ns, key(k), v, strlen(v), ttl_ms, version);
}

static int get(struct scene *sc, const struct store_ns *ns, const char *k, char *out, size_t size,
               uint64_t *version)
{
    size_t n = size - 1;
    int r = sc->s->ops->get(sc->s, ns, key(k), out, &n, version);

    if (r == 0)
        out[n] = '\0';
    return r;
}

static void must_be(struct scene *sc, const char *k, const char *want)
{
    uint64_t version;
    char v[256];

    assert_int_equal(get(sc, &sc->ns, k, v, sizeof v, &version), 0);
    assert_string_equal(v, want);
}

static void must_be_absent(struct scene *sc, const char *k)
{
    uint64_t version;
    char v[256];

    assert_int_equal(get(sc, &sc->ns, k, v, sizeof v, &version), -ENOENT);
}

static int add(struct scene *sc, const char *k, int64_t delta, uint32_t ttl_ms, int64_t *out)
{
    return sc->s->ops->add(sc->s, &sc->ns, key(k), delta, ttl_ms, out);
}

static int64_t take(struct scene *sc, const char *k, double per_s, double burst, double cost)
{
    const struct store_bucket b = {per_s, burst, cost};
    int64_t left = 0;

    assert_int_equal(sc->s->ops->bucket(sc->s, &sc->ns, key(k), &b, &left), 0);
    return left;
}

/* ---- values ---- */

static void what_was_set_is_got(void **state)
{
    struct scene *sc = scene(state);

    must_be_absent(sc, "k");
    assert_int_equal(set(sc, "k", "one", 0, 0), 0);
    must_be(sc, "k", "one");
    assert_int_equal(set(sc, "k",
                         "a longer one, of which the first left no room for here, as it was "
                         "made for three bytes",
                         0, 0),
                     0);
    must_be(sc, "k",
            "a longer one, of which the first left no room for here, as it was made for "
            "three bytes");
    assert_int_equal(set(sc, "k", "", 0, 0), 0);
    must_be(sc, "k", "");
}

static void keys_and_values_are_bytes_up_to_their_limits(void **state)
{
    struct scene *sc = scene(state);
    char k[STORE_KEY_MAX], *v = malloc(STORE_VALUE_MAX), *got = malloc(STORE_VALUE_MAX);
    size_t n = STORE_VALUE_MAX;
    uint64_t version;

    for (size_t i = 0; i < sizeof k; i++)
        k[i] = (char)i;
    for (size_t i = 0; i < STORE_VALUE_MAX; i++)
        v[i] = (char)(i * 7);
    assert_int_equal(
        sc->s->ops->set(sc->s, &sc->ns, (struct store_key){k, sizeof k}, v, STORE_VALUE_MAX, 0, 0),
        0);
    assert_int_equal(
        sc->s->ops->get(sc->s, &sc->ns, (struct store_key){k, sizeof k}, got, &n, &version), 0);
    assert_int_equal(n, STORE_VALUE_MAX);
    assert_memory_equal(got, v, STORE_VALUE_MAX);
    n = 10;
    assert_int_equal(
        sc->s->ops->get(sc->s, &sc->ns, (struct store_key){k, sizeof k}, got, &n, &version),
        -E2BIG);
    assert_int_equal(n, STORE_VALUE_MAX);
    free(v);
    free(got);
}

static void namespaces_do_not_see_each_other(void **state)
{
    struct scene *sc = scene(state);
    struct store_ns again = {0};
    uint64_t version;
    char v[64];

    assert_int_equal(set(sc, "k", "one's", 0, 0), 0);
    assert_int_equal(get(sc, &sc->other, "k", v, sizeof v, &version), -ENOENT);
    assert_int_equal(sc->s->ops->open_ns(sc->s, "one", &again), 0);
    assert_int_equal(get(sc, &again, "k", v, sizeof v, &version), 0);
}

static void what_was_deleted_is_gone(void **state)
{
    struct scene *sc = scene(state);

    assert_int_equal(sc->s->ops->del(sc->s, &sc->ns, key("k")), -ENOENT);
    assert_int_equal(set(sc, "k", "v", 0, 0), 0);
    assert_int_equal(sc->s->ops->del(sc->s, &sc->ns, key("k")), 0);
    must_be_absent(sc, "k");
    assert_int_equal(sc->s->ops->del(sc->s, &sc->ns, key("k")), -ENOENT);
}

static void what_is_over_is_as_good_as_never_set(void **state)
{
    struct scene *sc = scene(state);

    assert_int_equal(set(sc, "short", "v", 300, 0), 0);
    assert_int_equal(set(sc, "long", "v", 600000, 0), 0);
    must_be(sc, "short", "v");
    advance(350);
    must_be_absent(sc, "short");
    must_be(sc, "long", "v");
    assert_int_equal(set(sc, "short", "w", 0, STORE_NEW), 0);
    assert_int_equal(set(sc, "long", "w", 0, 0), 0); /* and for ever, from now on */
    advance(10);
    must_be(sc, "long", "w");
}

static void compare_and_set_lets_one_win(void **state)
{
    struct scene *sc = scene(state);
    uint64_t first, second;
    char v[64];

    assert_int_equal(set(sc, "k", "x", 0, 12345), -ESTALE); /* there is nothing */
    assert_int_equal(set(sc, "k", "a", 0, STORE_NEW), 0);
    assert_int_equal(set(sc, "k", "b", 0, STORE_NEW), -ESTALE);
    assert_int_equal(get(sc, &sc->ns, "k", v, sizeof v, &first), 0);
    assert_int_equal(get(sc, &sc->ns, "k", v, sizeof v, &second), 0);
    assert_int_equal(set(sc, "k", "c", 0, first), 0);
    assert_int_equal(set(sc, "k", "d", 0, second), -ESTALE);
    must_be(sc, "k", "c");
    /* The same value again is another one: nobody is fooled by a change to and fro. */
    assert_int_equal(get(sc, &sc->ns, "k", v, sizeof v, &first), 0);
    assert_int_equal(sc->s->ops->del(sc->s, &sc->ns, key("k")), 0);
    assert_int_equal(set(sc, "k", "c", 0, 0), 0);
    assert_int_equal(set(sc, "k", "e", 0, first), -ESTALE);
}

/* ---- counters ---- */

static void counters_count(void **state)
{
    struct scene *sc = scene(state);
    uint64_t before, after;
    int64_t n = 0;
    char v[64];

    assert_int_equal(add(sc, "n", 5, 0, &n), 0);
    assert_int_equal(n, 5);
    assert_int_equal(get(sc, &sc->ns, "n", v, sizeof v, &before), 0);
    assert_int_equal(add(sc, "n", -7, 0, &n), 0);
    assert_int_equal(n, -2);
    must_be(sc, "n", "-2");
    assert_int_equal(get(sc, &sc->ns, "n", v, sizeof v, &after), 0);
    assert_true(before != after);
    assert_int_equal(set(sc, "n", "x", 0, before), -ESTALE);
    assert_int_equal(set(sc, "n", "41", 0, 0), 0);
    assert_int_equal(add(sc, "n", 1, 0, &n), 0);
    assert_int_equal(n, 42);
}

static void a_counter_keeps_the_time_that_it_began_with(void **state)
{
    struct scene *sc = scene(state);
    int64_t n = 0;

    assert_int_equal(add(sc, "n", 1, 450, &n), 0);
    advance(300);
    assert_int_equal(add(sc, "n", 1, 450, &n), 0);
    assert_int_equal(n, 2);
    advance(300);
    assert_int_equal(add(sc, "n", 1, 450, &n), 0);
    assert_int_equal(n, 1);
}

static void what_is_no_number_is_not_counted(void **state)
{
    struct scene *sc = scene(state);
    int64_t n = 77;

    assert_int_equal(set(sc, "k", "12 apples", 0, 0), 0);
    assert_int_equal(add(sc, "k", 1, 0, &n), -EDOM);
    must_be(sc, "k", "12 apples");
    assert_int_equal(add(sc, "n", INT64_MAX, 0, &n), 0);
    assert_int_equal(add(sc, "n", 1, 0, &n), -EDOM);
    assert_int_equal(n, INT64_MAX);
    must_be(sc, "n", "9223372036854775807");
}

/* ---- buckets ---- */

static void a_bucket_gives_what_it_holds_and_then_what_it_gets(void **state)
{
    struct scene *sc = scene(state);
    int64_t left;

    for (int i = 9; i >= 0; i--) /* one a 100 s: none comes meanwhile */
        assert_int_equal(take(sc, "b", 0.01, 10, 1), i);
    left = take(sc, "b", 0.01, 10, 1);
    assert_in_range(-left, 95000, 100000);
    assert_in_range(-take(sc, "b", 0.01, 10, 2), 195000, 200000);
    assert_int_equal(take(sc, "b", 0.01, 10, 0), 0); /* a look takes nothing */

    assert_int_equal(take(sc, "fast", 4, 1, 1), 0);
    assert_true(take(sc, "fast", 4, 1, 1) < 0);
    advance(300);
    assert_int_equal(take(sc, "fast", 4, 1, 1), 0);
}

static void a_bucket_that_is_full_is_forgotten(void **state)
{
    struct scene *sc = scene(state);
    uint64_t version;
    char v[64];

    assert_int_equal(take(sc, "b", 20, 5, 5), 0);
    assert_int_equal(get(sc, &sc->ns, "b", v, sizeof v, &version), -EDOM);
    advance(300);
    must_be_absent(sc, "b");
    assert_int_equal(take(sc, "b", 20, 5, 0), 5);
}

static void a_value_is_no_bucket(void **state)
{
    struct scene *sc = scene(state);
    const struct store_bucket b = {1, 1, 1};
    int64_t left;

    assert_int_equal(set(sc, "k", "v", 0, 0), 0);
    assert_int_equal(sc->s->ops->bucket(sc->s, &sc->ns, key("k"), &b, &left), -EDOM);
}

/* ---- quotas ---- */

static void a_namespace_that_is_full_refuses_and_loses_nothing(void **state)
{
    struct scene *sc = scene(state);
    char k[32], v[1000];
    uint64_t version;
    int n, r = 0;

    memset(v, 'v', sizeof v);
    sc->ns.quota = 100000;
    for (n = 0; n < 200 && r == 0; n++) {
        snprintf(k, sizeof k, "key %d", n);
        r = sc->s->ops->set(sc->s, &sc->ns, key(k), v, sizeof v, n < 5 ? 1000 : 0, 0);
    }
    assert_int_equal(r, -ENOSPC);
    assert_in_range(n, 40, 101);
    for (int i = 0; i < n - 1; i++) {
        char got[1001];

        snprintf(k, sizeof k, "key %d", i);
        assert_int_equal(get(sc, &sc->ns, k, got, sizeof got, &version), 0);
    }
    /* One of the same size in the place of another, and another namespace, are not concerned. */
    assert_int_equal(sc->s->ops->set(sc->s, &sc->ns, key("key 7"), v, sizeof v, 0, 0), 0);
    assert_int_equal(sc->s->ops->set(sc->s, &sc->other, key("k"), v, sizeof v, 0, 0), 0);
    assert_int_equal(sc->s->ops->del(sc->s, &sc->ns, key("key 7")), 0);
    assert_int_equal(sc->s->ops->set(sc->s, &sc->ns, key("key 7"), v, sizeof v, 0, 0), 0);
    /* What is over makes room. */
    advance(2000);
    for (int i = 0; i < 5; i++) {
        snprintf(k, sizeof k, "key %d", i);
        must_be_absent(sc, k);
    }
    assert_int_equal(sc->s->ops->set(sc->s, &sc->ns, key("again"), v, sizeof v, 0, 0), 0);
}

#define CONTRACT(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int contract_run(const struct contract_backend *b)
{
    const struct CMUnitTest tests[] = {
        CONTRACT(what_was_set_is_got),
        CONTRACT(keys_and_values_are_bytes_up_to_their_limits),
        CONTRACT(namespaces_do_not_see_each_other),
        CONTRACT(what_was_deleted_is_gone),
        CONTRACT(compare_and_set_lets_one_win),
        CONTRACT(counters_count),
        CONTRACT(what_is_no_number_is_not_counted),
        CONTRACT(a_value_is_no_bucket),
        /* in which time passes */
        CONTRACT(what_is_over_is_as_good_as_never_set),
        CONTRACT(a_counter_keeps_the_time_that_it_began_with),
        CONTRACT(a_bucket_gives_what_it_holds_and_then_what_it_gets),
        CONTRACT(a_bucket_that_is_full_is_forgotten),
        /* about quotas */
        CONTRACT(a_namespace_that_is_full_refuses_and_loses_nothing),
    };

    backend = b;
    return _cmocka_run_group_tests(b->name, tests,
                                   b->is_another_way ? 8
                                   : b->has_quota    ? 13
                                                     : 12,
                                   NULL, NULL);
}
