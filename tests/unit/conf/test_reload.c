/* What a reload looks at: align.c and diff.c. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/diag.h"
#include "conf/align.h"
#include "conf/config.h"
#include "conf/diff.h"

#define HEAD "version: 1\nlisteners: [{name: a, address: \"127.0.0.1:8080\"}]\n"

static char dir[] = "/tmp/test-reload-XXXXXX", file[64];
static struct config *old, *new;
static bool in_use[CONFIG_MAX_PLACES], is_fresh[CONFIG_MAX_PLACES];
static struct changes changes;

static int make_dir(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(file, sizeof file, "%s/c.yaml", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(dir);
}

static int begin(void **state)
{
    (void)state;
    memset(in_use, 0, sizeof in_use);
    return 0;
}

static int end(void **state)
{
    (void)state;
    config_destroy(&old);
    config_destroy(&new);
    changes_fini(&changes);
    return 0;
}

static struct config *load(const char *text)
{
    struct config *cfg = NULL;
    struct diag diag;
    FILE *f = fopen(file, "w");

    assert_non_null(f);
    fprintf(f, "%s", text);
    fclose(f);
    diag_init(&diag);
    assert_int_equal(config_load(file, &diag, &cfg), 0);
    diag_fini(&diag);
    return cfg;
}

/* All plugins of old are at work. */
static void align(const char *before, const char *now)
{
    old = load(before);
    new = load(now);
    for (int i = 0; i < old->n_plugins; i++)
        in_use[i] = true;
    assert_int_equal(config_align(new, old, in_use, is_fresh), 0);
}

static const struct config_plugin *at(int i)
{
    assert_in_range(i, 0, new->n_plugins - 1);
    return &new->plugin[i];
}

/* ---- places ---- */

static void a_plugin_keeps_its_place_whatever_the_order(void **state)
{
    (void)state;
    align(HEAD "plugins: {a: {module: m}, b: {module: m}}\nroutes: [{chain: [a, b]}]\n",
          HEAD "plugins: {b: {module: m}, a: {module: m}}\nroutes: [{chain: [b, a]}]\n");
    assert_string_equal(at(0)->name, "a");
    assert_string_equal(at(1)->name, "b");
    assert_int_equal(new->route[0].chain[0], 1);
    assert_int_equal(new->route[0].chain[1], 0);
    assert_false(is_fresh[0] || is_fresh[1]);
}

static void a_removed_plugin_keeps_its_name_and_nobody_gets_its_place(void **state)
{
    (void)state;
    align(HEAD "plugins: {a: {module: m}, b: {module: m}}\nroutes: [{chain: [a, b]}]\n",
          HEAD "plugins: {c: {module: m}, b: {module: m}}\nroutes: [{chain: [c, b]}]\n");
    assert_string_equal(at(0)->name, "a");
    assert_true(at(0)->is_removed);
    assert_string_equal(at(2)->name, "c");
    assert_false(at(2)->is_removed);
    assert_true(is_fresh[2]);
    assert_int_equal(new->route[0].chain[0], 2);
}

static void a_place_that_nobody_works_in_is_given_to_another(void **state)
{
    (void)state;
    old = load(HEAD "plugins: {a: {module: m}, b: {module: m}}\nroutes: [{chain: [a, b]}]\n");
    old->plugin[0].is_removed = true; /* by a reload before, whose workers are gone */
    in_use[1] = true;
    new = load(HEAD "plugins: {b: {module: m}, c: {module: m}}\nroutes: [{chain: [b, c]}]\n");
    assert_int_equal(config_align(new, old, in_use, is_fresh), 0);
    assert_string_equal(at(0)->name, "c");
    assert_true(is_fresh[0]);
    assert_int_equal(new->n_plugins, 2);
}

static void a_plugin_that_comes_back_begins_anew(void **state)
{
    (void)state;
    old = load(HEAD "plugins: {a: {module: m}, b: {module: m}}\nroutes: [{chain: [a, b]}]\n");
    old->plugin[0].is_removed = true;
    in_use[1] = true;
    new = load(HEAD "plugins: {a: {module: m}, b: {module: m}}\nroutes: [{chain: [a, b]}]\n");
    assert_int_equal(config_align(new, old, in_use, is_fresh), 0);
    assert_string_equal(at(0)->name, "a");
    assert_true(is_fresh[0]);
    assert_false(is_fresh[1]);
}

static void a_route_keeps_its_number_as_long_as_it_matches_the_same(void **state)
{
    (void)state;
    align(HEAD "plugins: {a: {module: m}}\nroutes:\n"
               "  - {name: x, match: {path: /x}, chain: [a]}\n"
               "  - {name: y, match: {path: /y}, chain: [a]}\n",
          HEAD "plugins: {a: {module: m}}\nroutes:\n"
               "  - {name: z, match: {path: /z}, chain: [a]}\n"
               "  - {name: y, match: {path: /y}, chain: [a]}\n"
               "  - {name: x, match: {path: /x2}, chain: [a]}\n");
    assert_int_equal(new->route[1].number, 2);
    assert_int_equal(new->route[0].number, 3);
    assert_int_equal(new->route[2].number, 4);
    assert_string_equal(config_route_name(new, 2), "y");
    assert_null(config_route_name(new, 1));
}

/* ---- differences ---- */

static int how_of(const char *path)
{
    for (int i = 0; i < changes.n; i++)
        if (strcmp(changes.item[i].path, path) == 0)
            return (int)changes.item[i].how;
    return -1;
}

static void diff(const char *before, const char *now)
{
    old = load(before);
    new = load(now);
    config_diff(old, new, &changes);
}

static void comments_and_the_order_of_keys_do_not_count(void **state)
{
    (void)state;
    diff(
        HEAD "plugins: {a: {module: m, deadline: 1s}}\nroutes: [{chain: [a]}]\n",
        "# another day\nversion: 1\nroutes: [{chain: [a]}]\nlisteners: [{address: \"127.0.0.1:8080\", "
        "name: a}]\nplugins: {a: {deadline: 1s, module: m}}\n");
    assert_int_equal(changes.n, 0);
}

static void a_value_is_told_with_what_it_was(void **state)
{
    (void)state;
    diff(HEAD "limits: {body: 1MiB}\nplugins: {a: {module: m}}\nroutes: [{chain: [a]}]\n",
         HEAD "limits: {body: 2MiB}\nplugins: {a: {module: m}}\nroutes: [{chain: [a]}]\n");
    assert_int_equal(changes.n, 1);
    assert_string_equal(changes.item[0].path, "limits.body");
    assert_string_equal(changes.item[0].from, "1MiB");
    assert_string_equal(changes.item[0].to, "2MiB");
    assert_int_equal(changes.item[0].how, CHANGE_WORKERS);
}

static void values_of_plugin_options_are_never_told(void **state)
{
    (void)state;
    diff(HEAD "plugins: {a: {module: m, config: {key: swordfish}}}\nroutes: [{chain: [a]}]\n",
         HEAD "plugins: {a: {module: m, config: {key: swordfish2}}}\nroutes: [{chain: [a]}]\n");
    assert_int_equal(changes.n, 1);
    assert_string_equal(changes.item[0].path, "plugins.a.config.key");
    assert_string_equal(changes.item[0].from, "");
    assert_string_equal(changes.item[0].to, "");
}

/* Whatever the name of the receiver, and however long. */
static void what_receivers_are_told_by_is_never_told(void **state)
{
    static const char format[] = HEAD
        "plugins: {a: {module: m}}\nroutes: [{chain: [a]}]\n"
        "alerts: {receivers: [{name: \"%s\", url: \"https://h/?key=%s\"}]}\n";
    char name[200] = "a].b";

    (void)state;
    for (int i = 0; i < 2; i++) {
        char before[1024], now[1024];

        snprintf(before, sizeof before, format, name, "swordfish");
        snprintf(now, sizeof now, format, name, "swordfish2");
        old = load(before);
        new = load(now);
        config_diff(old, new, &changes);
        assert_int_equal(changes.n, 1);
        assert_string_equal(changes.item[0].from, "");
        assert_string_equal(changes.item[0].to, "");
        changes_fini(&changes);
        config_destroy(&old);
        config_destroy(&new);
        memset(name, 'a', sizeof name - 1);
    }
}

static void nor_are_they_when_the_plugin_is_new(void **state)
{
    (void)state;
    diff(HEAD "plugins: {a: {module: m}}\nroutes: [{chain: [a]}]\n",
         HEAD "plugins: {a: {module: m, config: {key: swordfish}}}\nroutes: [{chain: [a]}]\n");
    assert_true(changes.n > 0);
    for (int i = 0; i < changes.n; i++)
        assert_null(strstr(changes.item[i].to, "swordfish"));
}

static void what_takes_more_than_new_workers_says_so(void **state)
{
    (void)state;
    diff("version: 1\nserver: {workers: 2}\nlisteners: [{name: a, address: \"127.0.0.1:8080\"}]\n"
         "plugins: {a: {module: m}}\nroutes: [{chain: [a]}]\n",
         "version: 1\nserver: {workers: 3}\nlisteners: [{name: a, address: \"127.0.0.1:8081\"}]\n"
         "plugins: {a: {module: m}}\nroutes: [{chain: [a]}]\n");
    assert_int_equal(how_of("server.workers"), CHANGE_RESTART);
    assert_int_equal(how_of("listeners[a].address"), CHANGE_LISTENER);
}

static void routes_in_another_order_are_a_change(void **state)
{
    (void)state;
    diff(HEAD
         "plugins: {a: {module: m}}\nroutes: [{name: x, match: {path: /x}, chain: [a]}, {name: y, "
         "chain: [a]}]\n",
         HEAD
         "plugins: {a: {module: m}}\nroutes: [{name: y, chain: [a]}, {name: x, match: {path: /x}, "
         "chain: [a]}]\n");
    assert_int_equal(changes.n, 1);
    assert_string_equal(changes.item[0].path, "routes");
    assert_string_equal(changes.item[0].to, "in another order");
}

static void ever_more_changes_are_cut(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * CHANGES_MAX; i++)
        changes_add(&changes, '~', CHANGE_WORKERS, "x", NULL, NULL);
    assert_int_equal(changes.n, CHANGES_MAX);
    assert_true(changes.is_cut);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_plugin_keeps_its_place_whatever_the_order),
        TEST(a_removed_plugin_keeps_its_name_and_nobody_gets_its_place),
        TEST(a_place_that_nobody_works_in_is_given_to_another),
        TEST(a_plugin_that_comes_back_begins_anew),
        TEST(a_route_keeps_its_number_as_long_as_it_matches_the_same),
        TEST(comments_and_the_order_of_keys_do_not_count),
        TEST(a_value_is_told_with_what_it_was),
        TEST(values_of_plugin_options_are_never_told),
        TEST(what_receivers_are_told_by_is_never_told),
        TEST(nor_are_they_when_the_plugin_is_new),
        TEST(what_takes_more_than_new_workers_says_so),
        TEST(routes_in_another_order_are_a_change),
        TEST(ever_more_changes_are_cut),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
