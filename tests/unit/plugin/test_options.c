#include "plugin/options.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/diag.h"
#include "conf/yaml.h"

struct cfg {
    bool flag;
    int number;
    int8_t small;
    uint64_t wide;
    double ratio;
    float coarse;
    const char *text;
    bh_str counted;
    uint32_t time;
    size_t bytes;
    int mode;
    bh_strlist words;
    bh_cidrlist nets;
    bh_map pairs;
    const char *key;
};

static const bh_opt options[] = {
    BH_BOOL(struct cfg, flag, "yes", "A flag"),
    BH_INT(struct cfg, number, "7", 1, 100, "A number"),
    BH_INT(struct cfg, small, NULL, 0, 0, "A small number"),
    BH_INT(struct cfg, wide, NULL, 0, 0, "A large number"),
    BH_DOUBLE(struct cfg, ratio, "0.5", 0, 1, "A ratio"),
    BH_DOUBLE(struct cfg, coarse, NULL, 0, 0, "Another"),
    BH_STR(struct cfg, text, NULL, "A text"),
    BH_STR(struct cfg, counted, "abc", "Another text"),
    BH_DURATION(struct cfg, time, "5s", 10, 60000, "A time"),
    BH_SIZE(struct cfg, bytes, "8KiB", 0, 1048576, "A size"),
    BH_ENUM(struct cfg, mode, "fast", "slow|fast|off", "A choice"),
    BH_STRLIST(struct cfg, words, "[a, 'b c']", "Words"),
    BH_CIDRLIST(struct cfg, nets, "Networks"),
    BH_MAP(struct cfg, pairs, "Pairs"),
    BH_SECRET(struct cfg, key, "A secret"),
    BH_OPT_END,
};

static const bh_plugin plugin = {.struct_size = sizeof(bh_plugin),
                                 .name = "demo",
                                 .version = "1",
                                 .options = options,
                                 .cfg_size = sizeof(struct cfg)};

static const bh_opt needs_key[] = {BH_STR_REQUIRED(struct cfg, text, "Where to look"), BH_OPT_END};
static const bh_plugin strict = {
    .name = "strict", .version = "1", .options = needs_key, .cfg_size = sizeof(struct cfg)};
static const bh_plugin bare = {.name = "bare", .version = "1"};

static struct arena arena;
static struct diag diag;
static struct cfg cfg;

static int begin(void **state)
{
    (void)state;
    arena_init(&arena, 16u << 20);
    diag_init(&diag);
    memset(&cfg, 0xee, sizeof cfg);
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_fini(&arena);
    diag_fini(&diag);
    return 0;
}

static const struct yaml_node *yaml(const char *text)
{
    const struct yaml_node *root = NULL;

    assert_int_equal(yaml_parse(text, strlen(text), "t", false, &arena, NULL, &root), 0);
    return root;
}

static int apply(const bh_plugin *desc, const char *text)
{
    return options_apply(desc, "inst", "t", text != NULL ? yaml(text) : NULL, 9, 9, &arena, &cfg,
                         &diag);
}

static void assert_mistake(const char *text, const char *what)
{
    char line[512];

    assert_int_equal(apply(&plugin, text), -EINVAL);
    assert_int_equal(diag.n_errors, 1);
    snprintf(line, sizeof line, "%d:%d: %s", diag.item[0].line, diag.item[0].column,
             diag.item[0].what);
    assert_string_equal(line, what);
    diag_fini(&diag);
}

static void defaults_are_written(void **state)
{
    (void)state;
    assert_int_equal(apply(&plugin, NULL), 0);
    assert_true(cfg.flag);
    assert_int_equal(cfg.number, 7);
    assert_int_equal(cfg.small, 0);
    assert_true(cfg.ratio == 0.5);
    assert_null(cfg.text);
    assert_string_equal(cfg.counted.p, "abc");
    assert_int_equal(cfg.counted.n, 3);
    assert_int_equal(cfg.time, 5000);
    assert_int_equal(cfg.bytes, 8192);
    assert_int_equal(cfg.mode, 1);
    assert_int_equal(cfg.words.n, 2);
    assert_string_equal(cfg.words.v[1].p, "b c");
    assert_int_equal(cfg.nets.n, 0);
    assert_null(cfg.key);
}

static void values_are_written(void **state)
{
    (void)state;
    assert_int_equal(apply(&plugin, "flag: off\nnumber: 100\nsmall: -128\n"
                                    "wide: 9223372036854775807\nratio: 1e-1\ncoarse: 2.5\n"
                                    "text: ''\ncounted: 12\ntime: 1m\nbytes: 1MiB\nmode: off\n"
                                    "words: one\npairs: {b: 1, a: two}\nkey: s3cret\n"
                                    "nets: [10.0.0.0/8, '::1', 192.0.2.7, '2001:db8::/32']\n"),
                     0);
    assert_false(cfg.flag);
    assert_int_equal(cfg.number, 100);
    assert_int_equal(cfg.small, -128);
    assert_true(cfg.wide == INT64_MAX);
    assert_true(cfg.ratio == 0.1);
    assert_true(cfg.coarse == 2.5f);
    assert_string_equal(cfg.text, "");
    assert_string_equal(cfg.counted.p, "12");
    assert_int_equal(cfg.time, 60000);
    assert_int_equal(cfg.bytes, 1 << 20);
    assert_int_equal(cfg.mode, 2);
    assert_int_equal(cfg.words.n, 1);
    assert_string_equal(cfg.words.v[0].p, "one");
    assert_int_equal(cfg.pairs.n, 2);
    assert_string_equal(cfg.pairs.v[0].k.p, "b");
    assert_string_equal(cfg.pairs.v[1].v.p, "two");
    assert_string_equal(cfg.key, "s3cret");
    assert_int_equal(cfg.nets.n, 4);
    assert_int_equal(cfg.nets.v[0].bits, 104);
    assert_int_equal(cfg.nets.v[0].addr[12], 10);
    assert_int_equal(cfg.nets.v[1].bits, 128);
    assert_int_equal(cfg.nets.v[2].bits, 128);
    assert_int_equal(cfg.nets.v[3].bits, 32);
}

static void mistakes_have_a_place_and_units(void **state)
{
    (void)state;
    assert_mistake("number: 0", "1:9: plugins.inst.config.number: must be from 1 to 100");
    assert_mistake("number: x",
                   "1:9: plugins.inst.config.number: expected a whole number, not 'x'");
    assert_mistake("time: 5",
                   "1:7: plugins.inst.config.time: expected a duration such as 50ms, 10s, 5m, 1h, "
                   "not '5'");
    assert_mistake("time: 5m", "1:7: plugins.inst.config.time: must be from 10ms to 1m");
    assert_mistake("bytes: 2MiB", "1:8: plugins.inst.config.bytes: must be from 0 to 1MiB");
    assert_mistake("mode: quick",
                   "1:7: plugins.inst.config.mode: expected slow, fast or off, not 'quick'");
    assert_mistake("flag: 2", "1:7: plugins.inst.config.flag: expected true or false, not '2'");
    assert_mistake("ratio: 1.01", "1:8: plugins.inst.config.ratio: must be from 0 to 1");
    assert_mistake("small: 128", "1:8: plugins.inst.config.small: is too large for this option");
    assert_mistake("wide: 9223372036854775808", "1:7: plugins.inst.config.wide: expected a whole "
                                                "number, not '9223372036854775808'");
    assert_mistake("text: [a]", "1:7: plugins.inst.config.text: expected a single value (string), "
                                "not a list");
    assert_mistake(
        "text:", "1:6: plugins.inst.config.text: has no value: give one, or leave the option out");
    assert_mistake("words: {a: b}", "1:8: plugins.inst.config.words: expected a list");
    assert_mistake("words: [a, [b]]",
                   "1:12: plugins.inst.config.words: item 2: expected a single value");
    assert_mistake("pairs: [a]", "1:8: plugins.inst.config.pairs: expected a mapping (key: value)");
    assert_mistake("pairs: {a: [b]}",
                   "1:12: plugins.inst.config.pairs: 'a': expected a single value");
    assert_mistake("[a]", "1:1: plugins.inst.config: expected a mapping (option: value)");
}

static void networks_are_checked(void **state)
{
    static const char *const bad[] = {"10.0.0.0/33", "10.0.0/8",  "::1/129",     "::1/-1",     "x",
                                      "/8",          "10.0.0.0/", "10.0.0.0/+8", "1.2.3.4/08x"};
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "nets: [\"%s\"]", bad[i]);
        if (apply(&plugin, text) == 0)
            fail_msg("%s was taken", bad[i]);
    }
}

static void unknown_options_get_the_nearest(void **state)
{
    (void)state;
    assert_int_equal(apply(&plugin, "numbr: 1\nzzzz: 2\nnumber: 0\n"), -EINVAL);
    assert_int_equal(diag.n_errors, 3);
    assert_string_equal(diag.item[0].what,
                        "plugins.inst.config: unknown option 'numbr' (module demo)");
    assert_string_equal(diag.item[0].hint, "did you mean 'number'?");
    assert_non_null(strstr(diag.item[1].hint, "its options are flag, number"));
    assert_int_equal(apply(&bare, "x: 1"), -EINVAL);
    assert_string_equal(diag.item[3].hint, "it has no options");
}

static void required_options_are_asked_for(void **state)
{
    (void)state;
    assert_int_equal(apply(&strict, NULL), -EINVAL);
    assert_int_equal(diag.item[0].line, 9);
    assert_string_equal(diag.item[0].what, "plugins.inst.config: 'text' is missing");
    assert_string_equal(diag.item[0].hint, "Where to look");
    assert_int_equal(apply(&strict, "text: x"), 0);
}

static void secrets_are_not_quoted(void **state)
{
    (void)state;
    assert_int_equal(apply(&plugin, "key: {a: hunter2}"), -EINVAL);
    assert_null(strstr(diag.item[0].what, "hunter2"));
}

static void null_cfg_only_checks(void **state)
{
    (void)state;
    assert_int_equal(options_apply(&plugin, "i", "t", yaml("number: 3"), 1, 1, &arena, NULL, &diag),
                     0);
    assert_int_equal(options_apply(&plugin, "i", "t", yaml("number: 0"), 1, 1, &arena, NULL, &diag),
                     -EINVAL);
}

static void a_member_outside_of_the_struct_is_never_written(void **state)
{
    bh_opt bad[] = {BH_INT(struct cfg, number, "1", 0, 0, ""), BH_OPT_END};
    bh_plugin p = {.name = "p", .version = "1", .options = bad, .cfg_size = sizeof cfg};
    char what[256];

    (void)state;
    bad[0].off = sizeof cfg - 3;
    assert_int_equal(options_check(&p, what, sizeof what), -EINVAL);
    assert_int_equal(apply(&p, "number: 1"), -EINVAL);
    bad[0].off = SIZE_MAX;
    assert_int_equal(options_check(&p, what, sizeof what), -EINVAL);
    bad[0].off = 0;
    assert_int_equal(options_check(&p, what, sizeof what), 0);
}

static void raw_config_keeps_types(void **state)
{
    (void)state;
    assert_string_equal(
        options_json(yaml("{a: 1, b: '1', c: [true, ~, 1.5, x], d: {e: \"\\u00e4\\n\"}}"), &arena)
            .p,
        "{\"a\":1,\"b\":\"1\",\"c\":[true,null,1.5,\"x\"],\"d\":{\"e\":\"\xc3\xa4\\n\"}}");
    assert_string_equal(options_json(NULL, &arena).p, "{}");
}

static void schema_tells_types_ranges_and_defaults(void **state)
{
    json_t *schema = options_schema(&plugin), *props = json_object_get(schema, "properties"), *o;

    (void)state;
    assert_false(json_boolean_value(json_object_get(schema, "additionalProperties")));
    o = json_object_get(props, "number");
    assert_string_equal(json_string_value(json_object_get(o, "type")), "integer");
    assert_int_equal(json_integer_value(json_object_get(o, "maximum")), 100);
    assert_int_equal(json_integer_value(json_object_get(o, "default")), 7);
    o = json_object_get(props, "mode");
    assert_int_equal(json_array_size(json_object_get(o, "enum")), 3);
    o = json_object_get(props, "time");
    assert_string_equal(json_string_value(json_object_get(o, "x-range")), "10ms to 1m");
    o = json_object_get(props, "key");
    assert_true(json_is_true(json_object_get(o, "writeOnly")));
    assert_int_equal(json_array_size(json_object_get(json_object_get(props, "words"), "default")),
                     2);
    json_decref(schema);
    schema = options_schema(&strict);
    assert_int_equal(json_array_size(json_object_get(schema, "required")), 1);
    json_decref(schema);
    schema = options_schema(&bare);
    assert_non_null(schema);
    json_decref(schema);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(defaults_are_written),
        TEST(values_are_written),
        TEST(mistakes_have_a_place_and_units),
        TEST(networks_are_checked),
        TEST(unknown_options_get_the_nearest),
        TEST(required_options_are_asked_for),
        TEST(secrets_are_not_quoted),
        TEST(null_cfg_only_checks),
        TEST(a_member_outside_of_the_struct_is_never_written),
        TEST(raw_config_keeps_types),
        TEST(schema_tells_types_ranges_and_defaults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
