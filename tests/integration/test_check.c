/*
 * The command line, but for `run`: what people and scripts see.
 */
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

#define LISTEN "version: 1\nlisteners: [{name: a, address: \"127.0.0.1:1\"}]\n"

static char *dir;

static const char *bulkhead(void)
{
    return getenv("BULKHEAD");
}

/* In DIR, so that messages have no temporary names in them. */
__attribute__((format(printf, 2, 3))) static int run_here(char **out, const char *format, ...)
{
    char args[2048];
    va_list ap;

    va_start(ap, format);
    vsnprintf(args, sizeof args, format, ap);
    va_end(ap);
    return run_command(out, "cd '%s' && '%s' %s", dir, bulkhead(), args);
}

static void write_config(const char *text)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/c.yaml", dir);
    file_write(path, "%s", text);
}

static void assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("'%s' does not contain '%s'", text, part);
}

static int set_up(void **state)
{
    (void)state;
    dir = tmp_dir();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(dir);
    return 0;
}

static void good_config_is_ok(void **state)
{
    char *out;

    (void)state;
    write_config(LISTEN "plugins: {hello: {module: respond, config: {body: x}}}\n"
                        "routes: [{chain: [hello]}]\n");
    assert_int_equal(run_here(&out, "check -c c.yaml"), 0);
    assert_string_equal(out, "c.yaml: ok (1 plugin, 1 route)\n");
    free(out);
    assert_int_equal(run_here(&out, "check c.yaml --no-run"), 0);
    free(out);
}

static void all_mistakes_are_listed_and_exit_is_2(void **state)
{
    char *out;

    (void)state;
    write_config(LISTEN "plugins:\n"
                        "  a: {module: respnd}\n"
                        "  b: {module: respond, config: {sttus: 200, status: 99}}\n"
                        "routes: [{chain: [a, b]}]\n");
    assert_int_equal(run_here(&out, "check -c c.yaml"), 2);
    assert_contains(out, "c.yaml:4:15: error: plugins.a.module: there is no module 'respnd'\n"
                         "  hint: did you mean 'respond'?");
    assert_contains(out, "c.yaml:5:33: error: plugins.b.config: unknown option 'sttus'");
    assert_contains(out, "c.yaml:5:53: error: plugins.b.config.status: must be from 200 to 599");
    free(out);
}

static void a_plugins_own_validation_is_part_of_it(void **state)
{
    char *out;

    (void)state;
    write_config(LISTEN "plugins: {a: {module: respond, config: {status: 204, body: x}}}\n"
                        "routes: [{chain: [a]}]\n");
    assert_int_equal(run_here(&out, "check -c c.yaml"), 2);
    assert_contains(out, "has no body");
    free(out);
    assert_int_equal(run_here(&out, "check -c c.yaml --no-run"), 0);
    free(out);
}

static int times_in(const char *text, const char *part)
{
    int n = 0;

    for (; (text = strstr(text, part)) != NULL; text++)
        n++;
    return n;
}

/* On standard error in any case; once more in the log, where that is another place. */
static void what_a_trial_finds_is_said_once(void **state)
{
    char *out, *log, path[PATH_MAX];

    (void)state;
    write_config(LISTEN "plugins: {a: {module: respond, config: {status: 204, body: x}}}\n"
                        "routes: [{chain: [a]}]\n");
    assert_int_equal(run_here(&out, "check -c c.yaml 2>&1"), 2);
    assert_int_equal(times_in(out, "has no body"), 1);
    free(out);
    assert_int_equal(run_here(&out, "run -c c.yaml 2>&1"), 1);
    assert_int_equal(times_in(out, "has no body"), 1);
    free(out);
    write_config(LISTEN "plugins: {a: {module: fault, config: {fault: exit_group, at: validate}}}\n"
                        "routes: [{chain: [a]}]\n");
    assert_int_equal(run_here(&out, "check -c c.yaml 2>&1"), 2);
    assert_int_equal(times_in(out, "ended the process with exit"), 1);
    free(out);
    write_config(LISTEN "plugins: {a: {module: respond, config: {status: 204, body: x}}}\n"
                        "routes: [{chain: [a]}]\nlogs: {error: {path: log}}\n");
    assert_int_equal(run_here(&out, "run -c c.yaml 2>&1"), 1);
    assert_int_equal(times_in(out, "has no body"), 1);
    free(out);
    snprintf(path, sizeof path, "%s/log", dir);
    log = file_read(path);
    assert_non_null(log);
    assert_int_equal(times_in(log, "has no body"), 1);
    free(log);
}

static void json_can_be_read_by_programs(void **state)
{
    json_t *json, *first;
    char *out;

    (void)state;
    write_config(LISTEN "routes: [{chain: [nobody]}]\n");
    assert_int_equal(run_here(&out, "check -c c.yaml --json"), 2);
    json = json_loads(out, 0, NULL);
    assert_non_null(json);
    assert_true(json_is_false(json_object_get(json, "ok")));
    first = json_array_get(json_object_get(json, "errors"), 0);
    assert_int_equal(json_integer_value(json_object_get(first, "line")), 3);
    assert_int_equal(json_integer_value(json_object_get(first, "column")), 19);
    json_decref(json);
    free(out);
}

static void run_refuses_what_check_refuses(void **state)
{
    char *out;

    (void)state;
    write_config(LISTEN "routes: [{chain: [nobody]}]\n");
    assert_int_equal(run_here(&out, "run -c c.yaml"), 2);
    assert_contains(out, "c.yaml:3:19: error: routes[1]: there is no plugin or chain 'nobody'");
    free(out);
}

static void bad_objects_have_messages_of_their_own(void **state)
{
    static const struct {
        const char *make, *what;
    } rows[] = {
        {"printf 'hello' > x.so", "is not an ELF file"},
        {"head -c 3000 \"$BULKHEAD_PLUGINS/respond.so\" > x.so", "is truncated"},
        {"printf 'int x;' | cc -shared -fPIC -x c - -o x.so", "has no Bulkhead ABI note"},
        {"printf '#define BH_TARGET_MINOR 9\\n#include <bulkhead.h>\\nBH_PLUGIN(\"x\", \"1\")' |"
         " cc -w -shared -fPIC -I\"$BULKHEAD_SDK/include\" -x c - -o x.so",
         "needs plugin ABI 1.9 at least; this server has 1.1"},
        {"printf '#include <bulkhead.h>\\nint no_such(void);\\n"
         "static bh_rc f(void *s, bh_req *r, void *c) { return no_such(); }\\n"
         "BH_PLUGIN(\"x\", \"1\", .on_request = f)' |"
         " cc -w -shared -fPIC -I\"$BULKHEAD_SDK/include\" -x c - -o x.so",
         "undefined symbol: no_such"},
    };
    char *out;

    (void)state;
    write_config(LISTEN "plugins: {x: {module: ./x.so}}\nroutes: [{chain: [x]}]\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(run_command(NULL, "cd '%s' && %s", dir, rows[i].make), 0);
        assert_int_equal(run_here(&out, "check -c c.yaml"), 2);
        assert_contains(out, "c.yaml:3:23: error: plugins.x.module: ");
        assert_contains(out, rows[i].what);
        free(out);
        assert_int_equal(run_here(&out, "inspect ./x.so"), 2);
        assert_contains(out, rows[i].what);
        free(out);
    }
}

static void inspect_runs_none_of_the_objects_code(void **state)
{
    char *object, *out;

    (void)state;
    object = plugin_build(
        dir, "loud",
        "#include <bulkhead.h>\n#include <unistd.h>\n"
        "__attribute__((constructor)) static void go(void) { write(1, \"RAN\", 3); "
        "_exit(7); }\n"
        "static void on_log(void *s, bh_req *r, void *c) {}\n"
        "BH_PLUGIN(\"loud\", \"3.2.1\", .summary = \"says more\", .on_log = "
        "on_log)\n");
    assert_int_equal(run_here(&out, "inspect ./loud.so"), 0);
    assert_contains(out, "loud 3.2.1 - says more\n");
    assert_contains(out, "hooks:     on_log\n");
    assert_null(strstr(out, "RAN"));
    free(out);
    free(object);
}

static void inspect_json_has_the_options(void **state)
{
    json_t *json, *status;
    char *out;

    (void)state;
    assert_int_equal(run_here(&out, "inspect --json respond"), 0);
    json = json_loads(out, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "name")), "respond");
    status = json_object_get(json_object_get(json_object_get(json, "options"), "properties"),
                             "status");
    assert_int_equal(json_integer_value(json_object_get(status, "maximum")), 599);
    json_decref(json);
    free(out);
}

static void schema_covers_keys_and_plugin_options(void **state)
{
    json_t *json, *plugin, *condition;
    bool found = false;
    char *out;
    size_t i;

    (void)state;
    assert_int_equal(run_here(&out, "schema"), 0);
    json = json_loads(out, 0, NULL);
    assert_non_null(json);
    plugin = json_object_get(json_object_get(json_object_get(json, "properties"), "plugins"),
                             "additionalProperties");
    json_array_foreach(json_object_get(plugin, "allOf"), i, condition)
    {
        const char *module = NULL;

        json_unpack(condition, "{s:{s:{s:{s:s}}}}", "if", "properties", "module", "const", &module);
        found = found || (module != NULL && strcmp(module, "respond") == 0);
    }
    assert_true(found);
    json_decref(json);
    free(out);
}

/* Between its markers docs/configuration.md is what `bulkhead schema --markdown` prints. */
static void reference_in_the_docs_is_up_to_date(void **state)
{
    static const char begin[] = "<!-- reference: begin -->\n", end[] = "<!-- reference: end -->\n";
    char path[PATH_MAX], *docs, *from, *to, *out;
    bool is_same = false;

    (void)state;
    snprintf(path, sizeof path, "%s/../docs/configuration.md", getenv("BULKHEAD_SDK"));
    docs = file_read(path);
    assert_non_null(docs);
    assert_int_equal(run_here(&out, "schema --markdown"), 0);
    from = strstr(docs, begin);
    to = strstr(docs, end);
    if (from != NULL && to != NULL) {
        *to = '\0';
        is_same = strcmp(from + strlen(begin), out) == 0;
    }
    if (!is_same)
        fail_msg("run `make docs`: docs/configuration.md does not have the current keys");
    free(out);
    free(docs);
}

static void new_makes_a_folder_with_the_name_filled_in(void **state)
{
    char path[PATH_MAX], *out, *text;

    (void)state;
    assert_int_equal(
        run_command(NULL,
                    "mkdir -p '%s/tpl/sub' && cd '%s/tpl' && echo 'a @NAME@ b@c @' > "
                    "@NAME@.c && echo '@NAME@@NAME@' > sub/x_@NAME@ && chmod +x @NAME@.c",
                    dir, dir),
        0);
    assert_int_equal(run_here(&out, "new thing made --template tpl"), 0);
    free(out);
    snprintf(path, sizeof path, "%s/made/thing.c", dir);
    text = file_read(path);
    assert_string_equal(text, "a thing b@c @\n");
    assert_int_equal(access(path, X_OK), 0);
    free(text);
    snprintf(path, sizeof path, "%s/made/sub/x_thing", dir);
    text = file_read(path);
    assert_string_equal(text, "thingthing\n");
    free(text);
    assert_int_equal(run_here(&out, "new thing made --template tpl"), 2); /* exists */
    assert_contains(out, "made exists");
    free(out);
}

static void new_refuses_bad_names(void **state)
{
    static const char *const bad[] = {"Upper", "1st", "a-b",  "a/b",
                                      "''",    "_x",  "../x", "a23456789012345678901234567890ab"};
    char *out;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(run_here(&out, "new %s --template .", bad[i]), 2);
        free(out);
    }
}

static void the_template_builds_and_passes_its_test(void **state)
{
    char *out;

    (void)state;
    if (run_command(NULL, "test -d \"$BULKHEAD_SDK/template\"") != 0)
        skip();
    assert_int_equal(run_here(&out, "new shiny --template \"$BULKHEAD_SDK/template\""), 0);
    free(out);
    if (run_command(&out,
                    "cd '%s/shiny' && env -u MAKEFLAGS -u MAKELEVEL -u V make "
                    "BULKHEAD_SDK=\"$BULKHEAD_SDK\" all test",
                    dir) != 0)
        fail_msg("%s", out);
    free(out);
    assert_int_equal(run_here(&out, "inspect shiny/shiny.so"), 0);
    assert_contains(out, "shiny ");
    free(out);
}

static void every_command_has_help(void **state)
{
    static const char *const commands[] = {"",       "run",     "check", "inspect",
                                           "schema", "crashes", "new",   "version"};
    char *out;

    (void)state;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        assert_int_equal(run_here(&out, "%s --help", commands[i]), 0);
        assert_contains(out, "usage: bulkhead");
        free(out);
        assert_int_equal(run_here(&out, "%s --no-such-option", commands[i]), 2);
        free(out);
    }
    assert_int_equal(run_here(&out, "no-such-command"), 2);
    assert_contains(out, "there is no command 'no-such-command'");
    free(out);
}

static void version_names_server_and_abi(void **state)
{
    char *out;

    (void)state;
    assert_int_equal(run_here(&out, "version"), 0);
    assert_contains(out, "bulkhead ");
    assert_contains(out, "(plugin ABI 1.1)");
    free(out);
}

static void missing_config_says_which(void **state)
{
    char *out;

    (void)state;
    assert_int_equal(run_here(&out, "check -c nowhere.yaml"), 2);
    assert_string_equal(out, "nowhere.yaml: error: cannot read it: No such file or directory\n");
    free(out);
    assert_int_equal(run_here(&out, "check -c ."), 2);
    assert_contains(out, "this is a directory");
    free(out);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(good_config_is_ok),
        TEST(all_mistakes_are_listed_and_exit_is_2),
        TEST(a_plugins_own_validation_is_part_of_it),
        TEST(what_a_trial_finds_is_said_once),
        TEST(json_can_be_read_by_programs),
        TEST(run_refuses_what_check_refuses),
        TEST(bad_objects_have_messages_of_their_own),
        TEST(inspect_runs_none_of_the_objects_code),
        TEST(inspect_json_has_the_options),
        TEST(schema_covers_keys_and_plugin_options),
        TEST(reference_in_the_docs_is_up_to_date),
        TEST(new_makes_a_folder_with_the_name_filled_in),
        TEST(new_refuses_bad_names),
        TEST(the_template_builds_and_passes_its_test),
        TEST(every_command_has_help),
        TEST(version_names_server_and_abi),
        TEST(missing_config_says_which),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
