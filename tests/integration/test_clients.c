/*
 * test_clients.c - clients that people use, against the real binary. A client that is not installed
 * is skipped, and the test says which package has it: scripts/packages.txt, [clients].
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct server *srv;
static char *scripts; /* tests/clients */

static void write_in(const char *dir, const char *name, const char *text)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    file_write(path, "%s", text);
}

static int start(void **state)
{
    char *dir = tmp_dir(), path[512], *big = malloc(300001);

    (void)state;
    snprintf(path, sizeof path, "%s/www", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/www/sub", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    memset(big, 'z', 300000);
    big[300000] = '\0';
    write_in(dir, "www/a.txt", "0123456789");
    write_in(dir, "www/big.bin", big);
    write_in(dir, "www/sub/index.html", "<p>sub");
    srv = server_start_in(dir, "version: 1\n"
                               "server: {workers: 2}\n"
                               "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                               "modules: {path: [@PLUGINS@, @MODULES@]}\n"
                               "plugins:\n"
                               "  site: {module: static, config: {root: www}}\n"
                               "  body: {module: body, config: {reply: true}}\n"
                               "  chunks: {module: streamer}\n"
                               "routes:\n"
                               "  - {match: {path: /body}, chain: [body]}\n"
                               "  - {match: {path: /chunks}, chain: [chunks]}\n"
                               "  - {match: {path: /**}, chain: [site]}\n");
    assert_true(asprintf(&scripts, "%s/../tests/clients", getenv("BULKHEAD_SDK")) > 0);
    free(big);
    free(dir);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    free(scripts);
    return server_stop(&srv);
}

static void needs(const char *program, const char *package)
{
    if (run_command(NULL, "command -v %s >/dev/null", program) == 0)
        return;
    print_message("skipped: there is no %s here (apt-get install %s)\n", program, package);
    skip();
}

/* The output of a command that has to succeed; freed by the caller. */
static char *output_of(const char *command)
{
    char *out;
    int status = run_command(&out, "%s", command);

    if (status != 0)
        harness_fail(__FILE__, __LINE__, "status %d of %s:\n%.2000s", status, command, out);
    return out;
}

static void wants(const char *out, const char *text)
{
    if (strstr(out, text) == NULL)
        harness_fail(__FILE__, __LINE__, "no \"%s\" in:\n%.3000s", text, out);
}

/* Runs a command in which @ stands for the port, and wants a text in its output. */
static void run(const char *command, const char *text)
{
    char *with_port = NULL, *out;
    const char *at = strchr(command, '@');

    assert_non_null(at);
    assert_true(
        asprintf(&with_port, "%.*s%d%s", (int)(at - command), command, srv->port[0], at + 1) > 0);
    out = output_of(with_port);
    wants(out, text);
    free(out);
    free(with_port);
}

#define CURL "curl -sS --max-time 20 "

static void curl_is_content(void **state)
{
    (void)state;
    needs("curl", "curl");
    run(CURL "-i http://127.0.0.1:@/a.txt", "\r\n\r\n0123456789");
    run(CURL "-I http://127.0.0.1:@/a.txt", "Content-Length: 10\r\n");
    run(CURL "-r 2-4 http://127.0.0.1:@/a.txt", "234");
    run(CURL "-r 0-1,8-9 http://127.0.0.1:@/a.txt", "Content-Range: bytes 8-9/10");
    run(CURL "-0 -i http://127.0.0.1:@/chunks?n=3", "ccccccccccbbbbbbbbbb");
    run(CURL "-L http://127.0.0.1:@/sub", "<p>sub");
    run(CURL "--request-target '*' -X OPTIONS -i http://127.0.0.1:@/", "\r\nAllow: GET, ");
    run(CURL "-x http://127.0.0.1:@ http://127.0.0.1/a.txt", "0123456789"); /* absolute-form */
}

static void curl_keeps_its_connection(void **state)
{
    (void)state;
    needs("curl", "curl");
    run("P=@; " CURL "-w '%{num_connects} ' -o /dev/null http://127.0.0.1:$P/a.txt --next -sS -I "
        "-w '%{num_connects} ' -o /dev/null http://127.0.0.1:$P/chunks --next -sS "
        "-w '%{num_connects} ' -o /dev/null http://127.0.0.1:$P/none --next -sS "
        "-w '%{num_connects} ' -o /dev/null http://127.0.0.1:$P/chunks",
        "1 0 0 0 ");
}

static void curl_uploads(void **state)
{
    (void)state;
    needs("curl", "curl");
    run("P=@; head -c 3000000 /dev/zero | " CURL "--data-binary @- http://127.0.0.1:$P/body",
        "bytes=3000000 ");
    run("P=@; head -c 300000 /dev/zero | " CURL "-T - http://127.0.0.1:$P/body", "bytes=300000 ");
}

static void wrk_sees_no_error(void **state)
{
    char *out = NULL, *command = NULL;

    (void)state;
    needs("wrk", "wrk");
    assert_true(asprintf(&command, "wrk -t1 -c32 -d1s http://127.0.0.1:%d/a.txt", srv->port[0]) >
                0);
    out = output_of(command);
    wants(out, "Requests/sec:");
    assert_null(strstr(out, "Socket errors"));
    assert_null(strstr(out, "Non-2xx"));
    free(out);
    free(command);
}

static void ab_gets_keep_alive_for_http_1_0(void **state)
{
    char *out = NULL, *command = NULL;

    (void)state;
    needs("ab", "apache2-utils");
    for (int keep = 0; keep < 2; keep++) {
        assert_true(asprintf(&command, "ab -q -n 500 -c 8 %s http://127.0.0.1:%d/a.txt",
                             keep ? "-k" : "", srv->port[0]) > 0);
        out = output_of(command);
        wants(out, "Complete requests:      500\n");
        wants(out, "Failed requests:        0\n");
        if (keep)
            wants(out, "Keep-Alive requests:    500\n");
        assert_null(strstr(out, "Non-2xx"));
        free(out);
        free(command);
    }
}

static void h2load_pipelines_http_1_1(void **state)
{
    (void)state;
    needs("h2load", "nghttp2-client");
    run("h2load --h1 -n 2000 -c 8 -m 4 http://127.0.0.1:@/a.txt",
        "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout");
}

static void run_script(const char *with, const char *package, const char *name)
{
    char *command = NULL;

    needs(with, package);
    assert_true(asprintf(&command, "%s %s/%s %d", with, scripts, name, srv->port[0]) > 0);
    free(output_of(command));
    free(command);
}

static void pythons_http_client_is_content(void **state)
{
    (void)state;
    run_script("python3", "python3", "client.py");
}

static void nodes_fetch_is_content(void **state)
{
    (void)state;
    run_script("node", "nodejs", "client.mjs");
}

/* ---- a browser ---- */

/* The default configuration, with the places of the build in it. */
static struct server *start_default_site(void)
{
    char *dir = tmp_dir(), path[512], *text, *out = NULL;
    static const char *const change[][2] = {
        {"${BULKHEAD_ADDRESS:-127.0.0.1:8080}", "127.0.0.1:@PORT@"},
        {"../build/plugins", "@PLUGINS@"},
        {"${BULKHEAD_ADMIN:-127.0.0.1:9900}", "127.0.0.1:@PORT1@"}};
    struct server *site;

    snprintf(path, sizeof path, "%s/../config/bulkhead.yaml", getenv("BULKHEAD_SDK"));
    text = file_read(path);
    assert_non_null(text);
    for (int i = 0; i < 3; i++) {
        char *at = strstr(text, change[i][0]);

        assert_non_null(at);
        assert_true(asprintf(&out, "%.*s%s%s", (int)(at - text), text, change[i][1],
                             at + strlen(change[i][0])) > 0);
        free(text);
        text = out;
    }
    assert_int_equal(run_command(NULL, "cp -r %s/../config/www %s/../config/error %s",
                                 getenv("BULKHEAD_SDK"), getenv("BULKHEAD_SDK"), dir),
                     0);
    site = server_start_in(dir, "%s", text);
    free(text);
    free(dir);
    return site;
}

static void chromium_loads_the_default_site(void **state)
{
    struct server *site;
    char *command = NULL, *out;

    (void)state;
    needs("chromium", "chromium");
    site = start_default_site();
    assert_true(
        asprintf(&command,
                 "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
                 "--disable-background-networking --disable-component-update --disable-sync "
                 "--disable-dev-shm-usage --user-data-dir=%s/chromium --dump-dom "
                 "http://127.0.0.1:%d/ 2>/dev/null",
                 site->dir, site->port[0]) > 0);
    out = output_of(command);
    wants(out, "<h1>One plugin floods.");
    wants(out, "class=\"cell-name\""); /* app.js has run: it draws the ship */
    server_wait_log(site, "\"GET /style.css HTTP/1.1\" 200 ");
    server_wait_log(site, "\"GET /app.js HTTP/1.1\" 200 ");
    server_wait_log(site, "\"GET /api/hello HTTP/1.1\" 200 "); /* which app.js asks */
    free(out);
    free(command);
    assert_int_equal(server_stop(&site), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curl_is_content),
        cmocka_unit_test(curl_keeps_its_connection),
        cmocka_unit_test(curl_uploads),
        cmocka_unit_test(wrk_sees_no_error),
        cmocka_unit_test(ab_gets_keep_alive_for_http_1_0),
        cmocka_unit_test(h2load_pipelines_http_1_1),
        cmocka_unit_test(pythons_http_client_is_content),
        cmocka_unit_test(nodes_fetch_is_content),
        cmocka_unit_test(chromium_loads_the_default_site),
    };

    return cmocka_run_group_tests_name("clients", tests, start, stop);
}
