/*
 * test_places.c - where and as whom it is started: what other programs leave behind in a process, or on a
 * machine, and people do not think of.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SITE                                                 \
    "modules: {path: [@PLUGINS@]}\n"                         \
    "plugins: {ok: {module: respond, config: {body: ok}}}\n" \
    "routes: [{match: {path: /**}, chain: [ok]}]\n"          \
    "crash: {dir: @DIR@/crashes}\n"

/* Hardened machines have 077 for root; the private copies of plugins are for server.user to read. */
static void workers_of_another_user_start_under_a_strict_umask(void **state)
{
    struct server *srv;
    struct response *res;
    mode_t before;

    (void)state;
    if (geteuid() != 0)
        skip();
    before = umask(077);
    srv = server_start("version: 1\n"
                       "server: {workers: 1, user: nobody}\n"
                       "listeners: [{name: a, address: \"127.0.0.1:@PORT@\"}]\n" SITE);
    umask(before);
    res = server_get(srv, "/");
    assert_int_equal(res->status, 200);
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_noexec_folder_for_copies_is_named(void **state)
{
    char *dir = tmp_dir(), *out = NULL;

    (void)state;
    if (geteuid() != 0 || run_command(NULL, "unshare -m true") != 0)
        skip();
    char path[512];

    snprintf(path, sizeof path, "%s/c.yaml", dir);
    file_write(path,
               "version: 1\n"
               "listeners: [{name: a, address: \"127.0.0.1:1\"}]\n"
               "modules: {path: [%s]}\n"
               "plugins: {ok: {module: respond}}\n"
               "routes: [{match: {path: /**}, chain: [ok]}]\n",
               getenv("BULKHEAD_PLUGINS"));
    assert_int_equal(run_command(&out,
                                 "unshare -m sh -c 'mkdir %s/t && mount -t tmpfs -o noexec tmpfs "
                                 "%s/t && TMPDIR=%s/t %s check -c %s'",
                                 dir, dir, dir, getenv("BULKHEAD"), path),
                     2);
    assert_non_null(strstr(out, "noexec"));
    assert_non_null(strstr(out, "TMPDIR"));
    free(out);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_of_another_user_start_under_a_strict_umask),
        cmocka_unit_test(a_noexec_folder_for_copies_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
