/*
 * test_dashboard_hostile.c - the dashboard in a real browser against those who mean harm: texts of plugins and clients
 * that hold markup, pages of others that send requests, frames, names that lead elsewhere. tests/browser/hostile.mjs
 * has it. Skipped where there is no browser.
 */
#include "browser_scene.h"

#include <stdlib.h>

/* Whatever it says of itself is markup: version, summary, function's file, message. */
static const char *const app =
    "#include <bulkhead.h>\n"
    "#include <assert.h>\n"
    "#line 1 \"</script><script>boom(2)</script>.c\"\n"
    "static bh_rc on_request(void *self, bh_req *req, void *ctx)\n"
    "{\n"
    "    (void)self, (void)req, (void)ctx;\n"
    "    assert(!\"<img src=x onerror=boom(1)>\");\n"
    "    return BH_CONTINUE;\n"
    "}\n"
    "BH_PLUGIN(\"app\", \"1<img src=x onerror=boom(1)>\", .summary = \"</script><script>boom(2)</script>\",\n"
    "          .on_request = on_request)\n";

static void nothing_that_others_say_is_run_and_nothing_that_others_ask_is_done(void **state)
{
    char *dir = tmp_dir();
    struct server *srv;

    (void)state;
    browser_needed();
    free(plugin_build(dir, "app", app));
    srv = server_start_in(
        dir, "version: 1\n"
             "server: {workers: 1}\n"
             "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
             "modules: {path: [@DIR@, @PLUGINS@, @MODULES@]}\n"
             "plugins:\n"
             "  app: {module: app}\n"
             "  log: {module: logger}\n"
             "  figures: {module: figures}\n"
             "  hello: {module: respond, config: {body: \"</script><script>boom(2)</script>\"}}\n"
             "routes:\n"
             "  - {match: {path: /app/**}, chain: [app]}\n"
             "  - {match: {path: /log}, chain: [log]}\n"
             "  - {match: {path: /figures}, chain: [figures]}\n"
             "  - {chain: [hello]}\n"
             "crash: {dir: @DIR@/crashes}\n"
             "alerts: {rules: [{name: harm, metric: figures_total, when: \"> 0\"}]}\n"
             "admin: {listen: \"127.0.0.1:@PORT1@\", token_file: admin.token}\n");
    server_wait_log(srv, "admin interface on");
    browser_run("hostile.mjs", "http://127.0.0.1:%d http://127.0.0.1:%d %s $BULKHEAD_PICTURES",
                srv->port[1], srv->port[0], dir);
    free(dir);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_that_others_say_is_run_and_nothing_that_others_ask_is_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
