/*
 * test_static.c - the static plugin behind the whole server: what its own test cannot see, such as
 * raw targets, framing, sendfile and connections.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BIG = 3000000 };

static char *bytes(size_t n)
{
    char *p = malloc(n + 1);

    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + (i * 7 + i / 1000) % 26);
    p[n] = '\0';
    return p;
}

static void write_in(const char *dir, const char *name, const char *text)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    file_write(path, "%s", text);
}

/* DIR/www is served; DIR/secret.txt lies beside it. */
static struct server *start(void)
{
    char *dir = tmp_dir();
    char path[512];
    char *big = bytes(BIG);
    struct server *srv;

    snprintf(path, sizeof path, "%s/www", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/www/sub", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    write_in(dir, "secret.txt", "secret");
    write_in(dir, "www/index.html", "<p>index</p>");
    write_in(dir, "www/small.txt", "0123456789");
    write_in(dir, "www/sub/index.html", "<p>sub</p>");
    write_in(dir, "www/.hidden", "hidden");
    write_in(dir, "www/a b.txt", "blank");
    write_in(dir, "www/empty.txt", "");
    write_in(dir, "www/big.bin", big);
    snprintf(path, sizeof path, "%s/www/link.txt", dir);
    assert_int_equal(symlink("../secret.txt", path), 0);
    srv = server_start_in(dir, "version: 1\n"
                               "server: {workers: 1}\n"
                               "listeners: [{name: public, address: \"127.0.0.1:@PORT@\"}]\n"
                               "modules: {path: [@PLUGINS@]}\n"
                               "plugins:\n"
                               "  site: {module: static, config: {root: www}}\n"
                               "routes: [{match: {path: /**}, chain: [site]}]\n"
                               "crash: {dir: @DIR@/crashes, keep: 100}\n");
    free(big);
    free(dir);
    return srv;
}

static void expect(struct server *srv, const char *target, int status, const char *body)
{
    struct response *res = server_get(srv, target);

    if (res->status != status)
        harness_fail(__FILE__, __LINE__, "%s: %d, not %d", target, res->status, status);
    if (body != NULL)
        assert_string_equal(res->body, body);
    assert_null(strstr(res->body, "secret"));
    response_free(&res);
}

static void files_and_indexes_are_served(void **state)
{
    struct server *srv = start();

    (void)state;
    expect(srv, "/", 200, "<p>index</p>");
    expect(srv, "/small.txt", 200, "0123456789");
    expect(srv, "/small.txt?query", 200, "0123456789");
    expect(srv, "/sub/", 200, "<p>sub</p>");
    expect(srv, "/sub/../small.txt", 200, "0123456789");
    expect(srv, "/a%20b.txt", 200, "blank");
    expect(srv, "/empty.txt", 200, "");
    expect(srv, "/none", 404, NULL);
    expect(srv, "/.hidden", 404, NULL);
    expect(srv, "/%2ehidden", 404, NULL);
    assert_int_equal(server_stop(&srv), 0);
}

static void no_target_leaves_the_root(void **state)
{
    static const char *const targets[] = {"/../secret.txt",
                                          "/../../secret.txt",
                                          "/sub/../../secret.txt",
                                          "/%2e%2e/secret.txt",
                                          "/%2e%2e%2fsecret.txt",
                                          "/..%2fsecret.txt",
                                          "/sub/%2e%2e/%2e%2e/secret.txt",
                                          "/sub/..%2f..%2fsecret.txt",
                                          "/%2E%2E/%2E%2E/secret.txt",
                                          "//../secret.txt",
                                          "/.//../secret.txt",
                                          "/%252e%252e/secret.txt",
                                          "/..%5csecret.txt",
                                          "/..\\secret.txt",
                                          "/%c0%ae%c0%ae/secret.txt",
                                          "/link.txt",
                                          "/sub/../link.txt",
                                          "/./../secret.txt",
                                          "http://localhost/../secret.txt",
                                          "http://localhost/%2e%2e/secret.txt",
                                          "/small.txt/../../secret.txt"};
    struct server *srv = start();

    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct response *res = server_get(srv, targets[i]);

        if (res->status != 404 && res->status != 400 && res->status != 403)
            harness_fail(__FILE__, __LINE__, "%s: %d %s", targets[i], res->status, res->body);
        assert_null(strstr(res->body, "secret.txt\n"));
        assert_string_not_equal(res->body, "secret");
        response_free(&res);
    }
    assert_int_equal(server_stop(&srv), 0);
}

static void nul_and_bad_escapes_are_400(void **state)
{
    struct server *srv = start();

    (void)state;
    expect(srv, "/small.txt%00", 400, NULL);
    expect(srv, "/%00", 400, NULL);
    expect(srv, "/%zz", 400, NULL);
    expect(srv, "/%", 400, NULL);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_range_is_206(void **state)
{
    struct server *srv = start();
    struct response *res = server_request(srv, "GET", "/small.txt", "Range: bytes=2-4\r\n", NULL,
                                          0);

    (void)state;
    assert_int_equal(res->status, 206);
    assert_string_equal(res->body, "234");
    assert_string_equal(response_header(res, "Content-Range"), "bytes 2-4/10");
    response_free(&res);
    res = server_request(srv, "GET", "/small.txt", "Range: bytes=10-\r\n", NULL, 0);
    assert_int_equal(res->status, 416);
    assert_string_equal(response_header(res, "Content-Range"), "bytes */10");
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_range_of_a_big_file_is_exact(void **state)
{
    struct server *srv = start();
    struct response *res = server_request(srv, "GET", "/big.bin",
                                          "Range: bytes=1000001-2000000\r\n", NULL, 0);
    char *big = bytes(BIG);

    (void)state;
    assert_int_equal(res->status, 206);
    assert_int_equal(res->body_len, 1000000);
    assert_memory_equal(res->body, big + 1000001, 1000000);
    response_free(&res);
    res = server_request(srv, "GET", "/big.bin", "Range: bytes=-5\r\n", NULL, 0);
    assert_int_equal(res->body_len, 5);
    assert_memory_equal(res->body, big + BIG - 5, 5);
    response_free(&res);
    free(big);
    assert_int_equal(server_stop(&srv), 0);
}

static void a_big_file_arrives_whole_and_the_connection_stays(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    char *big = bytes(BIG);

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct response *res = conn_request(conn, "GET", "/big.bin", NULL, NULL, 0);

        assert_int_equal(res->status, 200);
        assert_int_equal(res->body_len, BIG);
        assert_memory_equal(res->body, big, BIG);
        assert_false(res->closed);
        response_free(&res);
    }
    assert_true(conn_is_idle(conn));
    free(big);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static int run_quietly(const char *command)
{
    return run_command(NULL, "%s", command);
}

static void a_client_that_leaves_in_the_middle_leaves_no_descriptor(void **state)
{
    struct server *srv = start();
    char command[128];
    pid_t worker;

    (void)state;
    eventually(server_children(srv, "worker", &worker, 1) == 1);
    expect(srv, "/small.txt", 200, NULL);
    snprintf(command, sizeof command, "ls -l /proc/%d/fd | grep big.bin", (int)worker);
    for (int i = 0; i < 20; i++) {
        struct conn *conn = conn_open(srv->port[0]);

        conn_sendf(conn, "GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n");
        conn_close(&conn);
    }
    expect(srv, "/small.txt", 200, NULL);
    eventually(run_quietly(command) == 1); /* grep finds none */
    assert_int_equal(server_stop(&srv), 0);
}

static void what_is_unchanged_is_304_without_a_body(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    struct response *res = conn_request(conn, "GET", "/small.txt", NULL, NULL, 0);
    char header[256], since[256];

    (void)state;
    snprintf(header, sizeof header, "If-None-Match: %s\r\n", response_header(res, "ETag"));
    snprintf(since, sizeof since, "If-Modified-Since: %s\r\n",
             response_header(res, "Last-Modified"));
    response_free(&res);
    for (int i = 0; i < 4; i++) { /* a stray byte would be taken for the next answer */
        res = conn_request(conn, i % 2 ? "HEAD" : "GET", "/small.txt", i < 2 ? header : since, NULL,
                           0);
        assert_int_equal(res->status, 304);
        response_free(&res);
    }
    res = conn_request(conn, "GET", "/small.txt", "If-None-Match: \"other\"\r\n", NULL, 0);
    assert_int_equal(res->status, 200);
    response_free(&res);
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void head_has_the_length_and_no_body(void **state)
{
    struct server *srv = start();
    struct conn *conn = conn_open(srv->port[0]);
    static const struct {
        const char *target, *length;
    } rows[] = {{"/small.txt", "10"}, {"/big.bin", "3000000"}, {"/empty.txt", "0"}, {"/", "12"}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct response *res = conn_request(conn, "HEAD", rows[i].target, NULL, NULL, 0);

        assert_int_equal(res->status, 200);
        assert_string_equal(response_header(res, "Content-Length"), rows[i].length);
        response_free(&res);
    }
    assert_true(conn_is_idle(conn));
    conn_close(&conn);
    assert_int_equal(server_stop(&srv), 0);
}

static void other_methods_are_405(void **state)
{
    struct server *srv = start();
    struct response *res = server_request(srv, "POST", "/small.txt", NULL, "x", 1);

    (void)state;
    assert_int_equal(res->status, 405);
    assert_non_null(response_header(res, "Allow"));
    response_free(&res);
    assert_int_equal(server_stop(&srv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_and_indexes_are_served),
        cmocka_unit_test(no_target_leaves_the_root),
        cmocka_unit_test(nul_and_bad_escapes_are_400),
        cmocka_unit_test(a_range_is_206),
        cmocka_unit_test(a_range_of_a_big_file_is_exact),
        cmocka_unit_test(a_big_file_arrives_whole_and_the_connection_stays),
        cmocka_unit_test(a_client_that_leaves_in_the_middle_leaves_no_descriptor),
        cmocka_unit_test(what_is_unchanged_is_304_without_a_body),
        cmocka_unit_test(head_has_the_length_and_no_body),
        cmocka_unit_test(other_methods_are_405),
    };

    return cmocka_run_group_tests_name("static", tests, NULL, NULL);
}
