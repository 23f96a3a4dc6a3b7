#include "conf/overlay.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct overlay o;

static int set_up(void **state)
{
    (void)state;
    memset(&o, 0, sizeof o);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    overlay_fini(&o);
    return 0;
}

static int put(const char *plugin, const char *version)
{
    struct overlay_variant v = {.plugin = strdup(plugin)};
    int r;

    snprintf(v.version, sizeof v.version, "%s", version);
    r = overlay_put(&o, &v);
    overlay_variant_fini(&v); /* what was taken over is not in it any more */
    return r;
}

static void a_plugin_has_one_variant(void **state)
{
    (void)state;
    assert_int_equal(put("a", "1"), 0);
    assert_int_equal(put("b", "1"), 0);
    assert_int_equal(put("a", "2"), 0);
    assert_int_equal(o.n, 2);
    assert_string_equal(overlay_find(&o, "a")->version, "2");
    overlay_drop(&o, "a");
    assert_null(overlay_find(&o, "a"));
    assert_non_null(overlay_find(&o, "b"));
    overlay_drop(&o, "nobody");
    assert_int_equal(o.n, 1);
}

static void too_many_are_refused(void **state)
{
    char name[16];

    (void)state;
    for (int i = 0; i < OVERLAY_VARIANTS; i++) {
        snprintf(name, sizeof name, "p%d", i);
        assert_int_equal(put(name, "1"), 0);
    }
    assert_int_equal(put("another", "1"), -ENOSPC);
    assert_int_equal(put("p3", "2"), 0);
}

static void a_copy_is_a_whole_one(void **state)
{
    struct overlay copy;

    (void)state;
    assert_int_equal(put("a", "1"), 0);
    o.rollout.number = 7;
    o.rollout.key_name = strdup("x-user");
    o.rollout.candidate = (struct overlay_variant){.plugin = strdup("a"), .options = strdup("{}")};
    assert_int_equal(overlay_copy(&o, &copy), 0);
    overlay_fini(&o);
    assert_int_equal(o.n, 0);
    assert_int_equal(o.rollout.number, 0);
    assert_string_equal(copy.variant[0].plugin, "a");
    assert_string_equal(copy.rollout.key_name, "x-user");
    assert_string_equal(copy.rollout.candidate.options, "{}");
    overlay_fini(&copy);
}

static void all_are_dropped_but_the_stable_arm_of_a_rollout(void **state)
{
    (void)state;
    assert_int_equal(put("a", "1"), 0);
    assert_int_equal(put("b", "1"), 0);
    assert_int_equal(put("c", "1"), 0);
    o.rollout.number = 1;
    o.rollout.candidate = (struct overlay_variant){.plugin = strdup("b")};
    overlay_drop_all(&o);
    assert_int_equal(o.n, 1);
    assert_non_null(overlay_find(&o, "b"));
    overlay_end_rollout(&o);
    overlay_drop_all(&o);
    assert_int_equal(o.n, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_plugin_has_one_variant),
        TEST(too_many_are_refused),
        TEST(a_copy_is_a_whole_one),
        TEST(all_are_dropped_but_the_stable_arm_of_a_rollout),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
