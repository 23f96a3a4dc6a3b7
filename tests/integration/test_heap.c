/*
 * test_heap.c - what a plugin may take of memory and descriptors, and that a crash gives it back.
 */
#include "harness.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct server *start_module(const char *module, const char *limits)
{
    struct server *srv = server_start("version: 1\n"
                                      "server: {workers: 1}\n"
                                      "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n"
                                      "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                                      "plugins:\n"
                                      "  hoard: {module: %s, %s}\n"
                                      "  ok: {module: respond, config: {body: ok}}\n"
                                      "routes:\n"
                                      "  - {match: {path: /hoard}, chain: [hoard]}\n"
                                      "  - {chain: [ok]}\n"
                                      "breaker: {crashes: 0}\n"
                                      "crash: {dir: @DIR@/crashes}\n",
                                      module, limits);

    server_wait_log(srv, "serving on");
    server_wait_standby(srv);
    return srv;
}

static struct server *start(const char *limits)
{
    return start_module("hoard", limits);
}

static void check_get(struct server *srv, const char *query, int status)
{
    char target[128];
    struct response *res;

    snprintf(target, sizeof target, "/hoard?%s", query);
    res = server_get(srv, target);
    assert_int_equal(res->status, status);
    response_free(&res);
}

static pid_t worker_of(struct server *srv)
{
    pid_t pid = 0;

    eventually(server_children(srv, "bh-worker", &pid, 1) == 1);
    return pid;
}

static json_int_t usage(const struct server *srv, const char *what)
{
    json_t *json, *plugin;
    json_int_t n;
    char *text;

    run_command(&text, "RUNTIME_DIRECTORY=%s %s status --json -c %s 2>/dev/null", srv->dir,
                getenv("BULKHEAD"), srv->config);
    json = json_loads(text, 0, NULL);
    assert_non_null(json);
    plugin = json_array_get(json_object_get(json, "plugins"), 0);
    n = json_integer_value(json_object_get(plugin, what));
    json_decref(json);
    free(text);
    return n;
}

static void wait_for_another_worker(struct server *srv, pid_t before)
{
    pid_t pid = before;

    eventually(server_children(srv, "bh-worker", &pid, 1) == 1 && pid != before);
    eventually(server_children(srv, "bh-worker", NULL, 0) == 1);
}

static void a_plugin_that_handles_a_refusal_goes_on(void **state)
{
    struct server *srv = start("memory: 2MiB, descriptors: 40");
    pid_t worker = worker_of(srv);

    (void)state;
    check_get(srv, "leak=1500000", 200);
    assert_in_range(usage(srv, "memory_kib"), 1400, 2048);
    for (int i = 0; i < 10; i++)
        check_get(srv, "leak=1000000", 507);
    check_get(srv, "leak=100000", 200);
    check_get(srv, "fds=30", 200);
    assert_int_equal(usage(srv, "descriptors"), 30);
    check_get(srv, "fds=30", 507);
    check_get(srv, "close=35", 200);
    assert_int_equal(usage(srv, "descriptors"), 5);
    check_get(srv, "fds=30", 200);
    assert_int_equal(worker_of(srv), worker);
    server_wait_log(srv, "plugin 'hoard' has as much memory as it may, 2048 KiB");
    server_wait_log(srv, "plugin 'hoard' has as many descriptors open as it may, 40");
    assert_int_equal(server_stop(&srv), 0);
}

/* "memory_kib": the standby worker's instance has taken something, too. */
static void a_crash_gives_back_memory_and_descriptors(void **state)
{
    struct server *srv = start("memory: 64MiB");
    json_int_t before = usage(srv, "memory_kib");
    pid_t worker = worker_of(srv);

    (void)state;
    check_get(srv, "leak=30000000", 200);
    check_get(srv, "leak=20000000&fds=50&crash=1&text=1", 500);
    eventually(usage(srv, "memory_kib") <= before + 64);
    assert_int_equal(usage(srv, "descriptors"), 0);
    check_get(srv, "leak=60000000&crash=1", 500);
    check_get(srv, "leak=60000000&job=1&crash=1", 500);
    eventually(usage(srv, "memory_kib") <= before + 64);
    assert_int_equal(worker_of(srv), worker);
    assert_int_equal(server_stop(&srv), 0);
}

/* operator new is the C++ library's, which allocates for whoever calls it. */
static void what_cxx_objects_allocate_is_the_plugins_own(void **state)
{
    struct server *srv = start_module("cxx", "memory: 8MiB");
    json_int_t before = usage(srv, "memory_kib");
    pid_t worker = worker_of(srv);

    (void)state;
    check_get(srv, "keep=2000000", 200);
    assert_in_range(usage(srv, "memory_kib"), before + 1900, before + 2100);
    check_get(srv, "throw=1", 500);
    eventually(usage(srv, "memory_kib") <= before + 64);
    check_get(srv, "keep=20000000", 500); /* std::bad_alloc, which it does not catch */
    check_get(srv, "keep=2000000", 200);
    assert_int_equal(worker_of(srv), worker);
    assert_int_equal(server_stop(&srv), 0);
}

static void memory_that_a_static_variable_still_names_stays_usable(void **state)
{
    struct server *srv = start("memory: 64MiB");
    pid_t worker = worker_of(srv);

    (void)state;
    check_get(srv, "static=1&crash=1", 500);
    for (int i = 0; i < 20; i++)
        check_get(srv, "use=1", 200);
    check_get(srv, "static=1&use=1&crash=1", 500);
    check_get(srv, "use=1", 200);
    assert_int_equal(worker_of(srv), worker);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_plugin_that_leaks_memory_without_end_is_taken_out(void **state)
{
    struct server *srv = start("memory: 2MiB");
    pid_t worker = worker_of(srv);

    (void)state;
    for (int i = 0; i < 1 + 16; i++)
        check_get(srv, "leak=1500000", i == 0 ? 200 : 507);
    server_wait_log(srv, "it asks for ever more memory, and gives none back");
    wait_for_another_worker(srv, worker);
    check_get(srv, "leak=1500000", 200);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_plugin_that_leaks_descriptors_without_end_is_taken_out(void **state)
{
    struct server *srv = start("descriptors: 10");
    pid_t worker = worker_of(srv);

    (void)state;
    for (int i = 0; i < 1 + 16; i++)
        check_get(srv, "fds=10", i == 0 ? 200 : 507);
    server_wait_log(srv, "it opens ever more descriptors, and closes none");
    wait_for_another_worker(srv, worker);
    check_get(srv, "fds=10", 200);
    assert_int_equal(server_stop(&srv), 0);
}

/* What bends libc's lists does nothing to a heap that has none in its blocks. */
static void the_shared_heap_is_the_servers(void **state)
{
    struct server *srv = start("heap: private");
    pid_t worker = worker_of(srv);
    struct response *res;

    (void)state;
    check_get(srv, "bend=1", 200);
    assert_int_equal(worker_of(srv), worker);
    assert_int_equal(server_stop(&srv), 0);

    srv = start("heap: shared");
    worker = worker_of(srv);
    check_get(srv, "leak=3000000", 200);
    res = server_get(srv, "/hoard?bend=1"); /* answered by the successor */
    assert_int_equal(res->status, 500);
    response_free(&res);
    wait_for_another_worker(srv, worker);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plugin_that_handles_a_refusal_goes_on),
        cmocka_unit_test(a_crash_gives_back_memory_and_descriptors),
        cmocka_unit_test(what_cxx_objects_allocate_is_the_plugins_own),
        cmocka_unit_test(memory_that_a_static_variable_still_names_stays_usable),
        cmocka_unit_test(a_plugin_that_leaks_memory_without_end_is_taken_out),
        cmocka_unit_test(a_plugin_that_leaks_descriptors_without_end_is_taken_out),
        cmocka_unit_test(the_shared_heap_is_the_servers),
    };

    return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
