/*
 * test_static.c - what static promises.
 */
#include "beneath.h"
#include "cache.h"
#include "httpdate.h"
#include "mime.h"
#include "range.h"

#include <bulkhead_test.h>
#include <sys/stat.h>

#define OLD      1748736000LL /* 2025-06-01T00:00:00Z, before the test clock */
#define OLD_TEXT "Sun, 01 Jun 2025 00:00:00 GMT"
#define SECOND   1000000000LL

#define BIG 100000 /* more than cache_file_max */

static void set_mtime(const char *path, int64_t s)
{
    struct timespec t[2] = {{.tv_sec = s}, {.tv_sec = s}};

    assert_int_equal(utimensat(AT_FDCWD, path, t, AT_SYMLINK_NOFOLLOW), 0);
}

static void put(const char *name, const char *text)
{
    set_mtime(bht_file(name, text, strlen(text)), OLD);
}

static char *in_dir(const char *name)
{
    static char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", bht_dir(), name);
    return path;
}

static int set_up(void **state)
{
    char big[BIG];

    (void)state;
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)('a' + i % 26);
    set_mtime(bht_file("www/big.bin", big, sizeof big), OLD);
    put("www/index.html", "<p>home\n");
    put("www/hello.txt", "hello, world\n");
    put("www/empty.css", "");
    put("www/docs/index.html", "<p>docs\n");
    put("www/bare/file.json", "{}");
    put("www/.git/config", "secret");
    put("www/.well-known/acme", "token");
    put("www/with space/index.html", "<p>space\n");
    put("www/404.html", "<p>nothing here\n");
    put("outside.txt", "outside");
    return 0;
}

/* A request with up to two headers (NULL: none). */
static bh_req *ask(bht *t, const char *method, const char *target, const char *h1, const char *v1,
                   const char *h2, const char *v2)
{
    bh_req *r = bht_request(t, method, target);

    if (h1 != NULL)
        bht_header(r, h1, v1);
    if (h2 != NULL)
        bht_header(r, h2, v2);
    bht_run(r);
    assert_false(bht_passed(r));
    return r;
}

static bh_req *get(bht *t, const char *target)
{
    return ask(t, "GET", target, NULL, NULL, NULL, NULL);
}

static bht *site(void)
{
    return bht_open("root=www", NULL);
}

/* ---- files and folders ----------------------------------------------------------------------- */

static void a_file_comes_with_type_and_validators(void **state)
{
    bht *t = site();
    bh_req *r = get(t, "/hello.txt");

    (void)state;
    assert_int_equal(bht_status(r), 200);
    assert_string_equal(bht_resp_body(r), "hello, world\n");
    assert_string_equal(bht_resp_header(r, "Content-Type"), "text/plain; charset=utf-8");
    assert_string_equal(bht_resp_header(r, "Last-Modified"), OLD_TEXT);
    assert_string_equal(bht_resp_header(r, "Accept-Ranges"), "bytes");
    assert_int_equal(bht_resp_header(r, "ETag")[0], '"');
    assert_null(bht_resp_header(r, "Cache-Control"));
    bht_close(t);
}

static void a_large_file_is_left_to_sendfile(void **state)
{
    bht *t = site();
    bh_req *r = get(t, "/big.bin");

    (void)state;
    assert_int_equal(bht_status(r), 200);
    assert_int_equal(bht_kind(r), BHT_FILE);
    assert_int_equal(bht_resp_len(r), BIG);
    assert_string_equal(bht_resp_header(r, "Content-Type"), "application/octet-stream");
    assert_int_equal(bht_kind(get(t, "/hello.txt")), BHT_REF);
    bht_close(t);
}

static void an_empty_file_is_an_empty_answer(void **state)
{
    bht *t = site();
    bh_req *r = get(t, "/empty.css");

    (void)state;
    assert_int_equal(bht_status(r), 200);
    assert_int_equal(bht_resp_len(r), 0);
    bht_close(t);
}

static void a_folder_is_its_index(void **state)
{
    bht *t = site();

    (void)state;
    assert_string_equal(bht_resp_body(get(t, "/")), "<p>home\n");
    assert_string_equal(bht_resp_body(get(t, "/docs/")), "<p>docs\n");
    assert_string_equal(bht_resp_header(get(t, "/docs/"), "Content-Type"),
                        "text/html; charset=utf-8");
    assert_int_equal(bht_status(get(t, "/bare/")), 404);
    assert_int_equal(bht_status(get(t, "/hello.txt/")), 404);
    bht_close(t);
}

static void the_first_index_that_is_there_is_taken(void **state)
{
    bht *t = bht_open("root=www", "index=home.html,file.json,index.html", NULL);

    (void)state;
    assert_string_equal(bht_resp_body(get(t, "/bare/")), "{}");
    assert_string_equal(bht_resp_body(get(t, "/")), "<p>home\n");
    bht_close(t);
}

static void a_folder_without_its_slash_is_redirected(void **state)
{
    bht *t = site();
    bh_req *r = get(t, "/docs?a=b&c=%20");

    (void)state;
    assert_int_equal(bht_status(r), 301);
    assert_string_equal(bht_resp_header(r, "Location"), "/docs/?a=b&c=%20");
    assert_string_equal(bht_resp_header(get(t, "/with%20space"), "Location"), "/with%20space/");
    bht_close(t);
}

static void a_redirect_does_not_lead_to_another_host(void **state)
{
    bht *t = site();
    bh_req *r = get(t, "//docs");

    (void)state;
    assert_true(bht_status(r) == 404 || strcmp(bht_resp_header(r, "Location"), "/docs/") == 0);
    bht_close(t);
}

static void other_methods_are_not_allowed(void **state)
{
    static const char *const methods[] = {"POST", "PUT", "DELETE", "PATCH", "get"};
    bht *t = site();

    (void)state;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        bh_req *r = ask(t, methods[i], "/hello.txt", NULL, NULL, NULL, NULL);

        assert_int_equal(bht_status(r), 405);
        assert_string_equal(bht_resp_header(r, "Allow"), "GET, HEAD, OPTIONS");
    }
    bht_close(t);
}

static void head_is_as_get_and_knows_no_ranges(void **state)
{
    bht *t = site();
    bh_req *r = ask(t, "HEAD", "/hello.txt", "Range", "bytes=0-4", NULL, NULL);

    (void)state;
    assert_int_equal(bht_status(r), 200);
    assert_non_null(bht_resp_header(r, "ETag"));
    assert_null(bht_resp_header(r, "Content-Range"));
    bht_close(t);
}

static void the_not_found_page_is_sent_with_404(void **state)
{
    bht *t = bht_open("root=www", "not_found=/404.html", NULL);
    bh_req *r = ask(t, "GET", "/none", "Range", "bytes=0-1", NULL, NULL);

    (void)state;
    assert_int_equal(bht_status(r), 404);
    assert_string_equal(bht_resp_body(r), "<p>nothing here\n");
    assert_string_equal(bht_resp_header(r, "Content-Type"), "text/html; charset=utf-8");
    bht_close(t);
    t = bht_open("root=www", "not_found=/gone.html", NULL);
    assert_int_equal(bht_status(get(t, "/none")), 404);
    bht_close(t);
}

static void options_show_in_answers(void **state)
{
    bht *t = bht_open("root=www", "max_age=1h", "types.txt=text/x-own", NULL);
    bh_req *r = get(t, "/hello.txt");

    (void)state;
    assert_string_equal(bht_resp_header(r, "Cache-Control"), "max-age=3600");
    assert_string_equal(bht_resp_header(r, "Content-Type"), "text/x-own");
    bht_close(t);
}

/* ---- what must not be reached ---------------------------------------------------------------- */

static void nothing_outside_of_root_is_served(void **state)
{
    static const char *const targets[] = {
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/docs/../../outside.txt",
        "/..%2foutside.txt",
        "/link-out",
        "/link-abs",
        "/folder-out/outside.txt",
        "/%00",
        "/hello.txt%00.html",
        "/docs/%2e%2e/hello.txt",
        "/./hello.txt",
        "//etc/passwd",
    };

    (void)state;
    assert_true(symlink("../outside.txt", in_dir("www/link-out")) == 0 || errno == EEXIST);
    assert_true(symlink("/etc/passwd", in_dir("www/link-abs")) == 0 || errno == EEXIST);
    assert_true(symlink("..", in_dir("www/folder-out")) == 0 || errno == EEXIST);
    for (int dotfiles = 0; dotfiles < 2; dotfiles++) {
        bht *t = bht_open("root=www", dotfiles ? "dotfiles=true" : "dotfiles=false", NULL);

        for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
            bh_req *r = bht_request(t, "GET", targets[i]);

            bht_run(r);
            /* The mock host ends the path at a %00, as no real one would pass it on. */
            if (strstr(targets[i], "%00") == NULL)
                assert_int_equal(bht_status(r), 404);
            assert_null(strstr(bht_resp_body(r), "outside"));
        }
        bht_close(t);
    }
}

static void walking_refuses_what_openat2_refuses(void **state)
{
    int dir = open(in_dir("www"), O_PATH | O_DIRECTORY);
    struct {
        const char *path;
        bool ok_walk, ok_openat2;
    } rows[] = {
        {"hello.txt", true, true},
        {"docs/index.html", true, true},
        {"", true, true},
        {"docs", true, true},
        {"none", false, false},
        {"../outside.txt", false, false},
        {"docs/../../outside.txt", false, false},
        {"link-out", false, false},
        {"link-abs", false, false},
        {"folder-out/outside.txt", false, false},
        {"/etc/passwd", false, false},
        {"link-in", false, true},
        {"hello.txt/x", false, false},
    };

    (void)state;
    assert_true(symlink("hello.txt", in_dir("www/link-in")) == 0 || errno == EEXIST);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int walk = 0; walk < 2; walk++) {
            int fd = beneath_has_openat2(dir) || walk ? beneath_open(dir, rows[i].path, walk) : -1;

            if (beneath_has_openat2(dir) || walk)
                assert_int_equal(fd >= 0, walk ? rows[i].ok_walk : rows[i].ok_openat2);
            if (fd >= 0)
                close(fd);
        }
    }
    close(dir);
}

static void hidden_files_stay_hidden(void **state)
{
    bht *t = site();

    (void)state;
    assert_int_equal(bht_status(get(t, "/.git/config")), 404);
    assert_string_equal(bht_resp_body(get(t, "/.well-known/acme")), "token");
    assert_int_equal(bht_status(get(t, "/.well-known/../.git/config")), 404);
    bht_close(t);
    t = bht_open("root=www", "dotfiles=true", NULL);
    assert_string_equal(bht_resp_body(get(t, "/.git/config")), "secret");
    bht_close(t);
}

static void a_fifo_neither_stops_the_worker_nor_is_served(void **state)
{
    bht *t = site();

    (void)state;
    assert_true(mkfifo(in_dir("www/fifo"), 0666) == 0 || errno == EEXIST);
    assert_int_equal(bht_status(get(t, "/fifo")), 404);
    bht_close(t);
}

static void an_endless_path_is_not_found(void **state)
{
    bht *t = site();
    char target[9000];

    (void)state;
    memset(target, 'a', sizeof target);
    target[0] = '/';
    target[sizeof target - 1] = '\0';
    assert_int_equal(bht_status(get(t, target)), 404);
    target[300] = '\0';
    assert_int_equal(bht_status(get(t, target)), 404);
    bht_close(t);
}

/* ---- preconditions --------------------------------------------------------------------------- */

static int32_t status_with(const char *h1, const char *v1, const char *h2, const char *v2)
{
    bht *t = site();
    int32_t status = bht_status(ask(t, "GET", "/hello.txt", h1, v1, h2, v2));

    bht_close(t);
    return status;
}

static const char *etag_of(const char *target)
{
    static char etag[ETAG_SIZE];
    bht *t = site();

    snprintf(etag, sizeof etag, "%s", bht_resp_header(get(t, target), "ETag"));
    bht_close(t);
    return etag;
}

#define BEFORE "Sat, 31 May 2025 23:59:59 GMT"
#define AFTER  "Sun, 01 Jun 2025 00:00:01 GMT"

static void if_none_match_answers_304_with_the_tag_and_no_body(void **state)
{
    bht *t = bht_open("root=www", "max_age=1m", NULL);
    const char *etag = etag_of("/hello.txt");
    bh_req *r = ask(t, "GET", "/hello.txt", "If-None-Match", etag, NULL, NULL);

    (void)state;
    assert_int_equal(bht_status(r), 304);
    assert_int_equal(bht_resp_len(r), 0);
    assert_string_equal(bht_resp_header(r, "ETag"), etag);
    assert_string_equal(bht_resp_header(r, "Cache-Control"), "max-age=60");
    assert_null(bht_resp_header(r, "Content-Type"));
    bht_close(t);
}

static void tags_are_found_in_lists_and_weakly_where_that_counts(void **state)
{
    const char *etag = etag_of("/hello.txt");
    char list[256];

    (void)state;
    snprintf(list, sizeof list, "\"a,b\", W/%s , \"c\"", etag);
    assert_int_equal(status_with("If-None-Match", list, NULL, NULL), 304);
    assert_int_equal(status_with("If-Match", list, NULL, NULL), 412);
    snprintf(list, sizeof list, "\"x\",%s", etag);
    assert_int_equal(status_with("If-Match", list, NULL, NULL), 200);
    assert_int_equal(status_with("If-None-Match", "\"x\"", "If-None-Match", etag), 304);
    assert_int_equal(status_with("If-None-Match", "*", NULL, NULL), 304);
    assert_int_equal(status_with("If-Match", "*", NULL, NULL), 200);
    assert_int_equal(status_with("If-Match", "\"x\"", NULL, NULL), 412);
    assert_int_equal(status_with("If-None-Match", "garbage", NULL, NULL), 200);
    assert_int_equal(status_with("If-None-Match", "\"unclosed", NULL, NULL), 200);
    assert_int_equal(status_with("If-None-Match", "W/", NULL, NULL), 200);
    assert_int_equal(status_with("If-None-Match", "", NULL, NULL), 200);
}

static void dates_are_compared_to_the_second(void **state)
{
    (void)state;
    assert_int_equal(status_with("If-Modified-Since", OLD_TEXT, NULL, NULL), 304);
    assert_int_equal(status_with("If-Modified-Since", AFTER, NULL, NULL), 304);
    assert_int_equal(status_with("If-Modified-Since", BEFORE, NULL, NULL), 200);
    assert_int_equal(status_with("If-Unmodified-Since", OLD_TEXT, NULL, NULL), 200);
    assert_int_equal(status_with("If-Unmodified-Since", BEFORE, NULL, NULL), 412);
    assert_int_equal(status_with("If-Modified-Since", "yesterday", NULL, NULL), 200);
    assert_int_equal(status_with("If-Unmodified-Since", "0", NULL, NULL), 200);
}

static void preconditions_are_taken_in_the_order_of_the_rfc(void **state)
{
    const char *etag = etag_of("/hello.txt");

    (void)state;
    /* A tag makes the date beside it void. */
    assert_int_equal(status_with("If-None-Match", "\"x\"", "If-Modified-Since", AFTER), 200);
    assert_int_equal(status_with("If-Match", etag, "If-Unmodified-Since", BEFORE), 200);
    /* If-Match goes before If-None-Match, and that before Range. */
    assert_int_equal(status_with("If-Match", "\"x\"", "If-None-Match", etag), 412);
    assert_int_equal(status_with("If-None-Match", etag, "Range", "bytes=0-1"), 304);
    assert_int_equal(status_with("If-Match", "\"x\"", "Range", "bytes=99-"), 412);
}

static void if_range_wants_the_very_same_file(void **state)
{
    const char *etag = etag_of("/hello.txt");
    char weak[80];

    (void)state;
    snprintf(weak, sizeof weak, "W/%s", etag);
    assert_int_equal(status_with("Range", "bytes=0-1", "If-Range", etag), 206);
    assert_int_equal(status_with("Range", "bytes=0-1", "If-Range", "\"x\""), 200);
    assert_int_equal(status_with("Range", "bytes=0-1", "If-Range", weak), 200);
    assert_int_equal(status_with("Range", "bytes=0-1", "If-Range", OLD_TEXT), 206);
    assert_int_equal(status_with("Range", "bytes=0-1", "If-Range", AFTER), 200);
    assert_int_equal(status_with("Range", "bytes=99-", "If-Range", "\"x\""), 200);
}

/* ---- ranges ---------------------------------------------------------------------------------- */

static void a_range_is_partial_content_from_memory_and_from_disk(void **state)
{
    bht *t = site();
    bh_req *r = ask(t, "GET", "/hello.txt", "Range", "bytes=7-11", NULL, NULL);

    (void)state;
    assert_int_equal(bht_status(r), 206);
    assert_string_equal(bht_resp_body(r), "world");
    assert_string_equal(bht_resp_header(r, "Content-Range"), "bytes 7-11/13");
    assert_non_null(bht_resp_header(r, "ETag"));
    r = ask(t, "GET", "/big.bin", "Range", "bytes=-3", NULL, NULL);
    assert_int_equal(bht_status(r), 206);
    assert_int_equal(bht_resp_len(r), 3);
    assert_string_equal(bht_resp_header(r, "Content-Range"), "bytes 99997-99999/100000");
    assert_int_equal(bht_resp_body(r)[2], 'a' + (BIG - 1) % 26);
    bht_close(t);
}

static void a_range_past_the_end_is_416(void **state)
{
    bht *t = site();
    bh_req *r = ask(t, "GET", "/hello.txt", "Range", "bytes=13-", NULL, NULL);

    (void)state;
    assert_int_equal(bht_status(r), 416);
    assert_string_equal(bht_resp_header(r, "Content-Range"), "bytes */13");
    bht_close(t);
}

/* "FIRST+LEN FIRST+LEN", "whole" or "416". */
static const char *ranges(const char *value, uint64_t size)
{
    static char text[1024];
    struct range v[RANGE_MAX];
    int n = range_parse(bh_s(value), size, v);
    size_t len = 0;

    if (n == RANGE_WHOLE)
        return "whole";
    if (n == RANGE_UNSATISFIABLE)
        return "416";
    for (int i = 0; i < n; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%llu+%llu", i > 0 ? " " : "",
                                (unsigned long long)v[i].first, (unsigned long long)v[i].len);
    return text;
}

static void ranges_are_read_as_the_rfc_has_them(void **state)
{
    static const struct {
        const char *value;
        uint64_t size;
        const char *what;
    } rows[] = {
        {"bytes=0-0", 10, "0+1"},
        {"Bytes= 2-5 ", 10, "2+4"},
        {"bytes=2-", 10, "2+8"},
        {"bytes=9-99", 10, "9+1"},
        {"bytes=-4", 10, "6+4"},
        {"bytes=-40", 10, "0+10"},
        {"bytes=0-18446744073709551615", 10, "0+10"},
        {"bytes=0-99999999999999999999999", 10, "0+10"},
        {"bytes=-99999999999999999999999", 10, "0+10"},
        {"bytes=10-", 10, "416"},
        {"bytes=99999999999999999999999-", 10, "416"},
        {"bytes=-0", 10, "416"},
        {"bytes=0-", 0, "416"},
        {"bytes=-5", 0, "whole"},
        {"bytes=5-2", 10, "whole"},
        {"bytes=", 10, "whole"},
        {"bytes=,", 10, "whole"},
        {"bytes=-", 10, "whole"},
        {"bytes=a-b", 10, "whole"},
        {"bytes=1 - 2", 10, "whole"},
        {"bytes=1-2 3-4", 10, "whole"},
        {"bytes=+1-2", 10, "whole"},
        {"bytes=0x1-2", 10, "whole"},
        {"bytes 0-1", 10, "whole"},
        {"lines=1-2", 10, "whole"},
        {"", 10, "whole"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(ranges(rows[i].value, rows[i].size), rows[i].what);
}

static void several_ranges_keep_their_order_and_do_not_overlap(void **state)
{
    static const struct {
        const char *value, *what;
    } rows[] = {
        {"bytes=0-1,3-4", "0+2 3+2"},
        {"bytes=3-4,0-1", "3+2 0+2"},
        {"bytes= 0-1 ,\t3-4 ", "0+2 3+2"},
        {"bytes=,0-1,,3-4,", "0+2 3+2"},
        {"bytes=0-4,5-9", "0+5 5+5"}, /* side by side is not overlapping */
        {"bytes=0-0,-1", "0+1 9+1"},
        {"bytes=0-,-1", "0+10"},
        {"bytes=0-5,3-7", "0+8"},
        {"bytes=0-5,1-2", "0+6"},
        {"bytes=7-8,0-1,1-7", "0+9"},
        {"bytes=9-,0-1,4-5,1-4", "9+1 0+6"},
        {"bytes=2-3,2-3,2-3", "2+2"},
        {"bytes=0-1,20-30", "0+2"}, /* what is outside is left out */
        {"bytes=20-30,-0", "416"},
        {"bytes=0-1,5-2", "whole"}, /* one that is no range spoils all */
        {"bytes=0-1,x", "whole"},
        {"bytes=0-1;3-4", "whole"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(ranges(rows[i].value, 10), rows[i].what);
}

static void too_many_ranges_are_answered_with_the_whole(void **state)
{
    char value[4096] = "bytes=";
    struct range v[RANGE_MAX];
    size_t n = strlen(value);

    (void)state;
    for (int i = 0; i < RANGE_MAX; i++)
        n += (size_t)snprintf(value + n, sizeof value - n, "%d-%d,", 2 * i, 2 * i);
    assert_int_equal(range_parse(bh_s(value), 1000, v), RANGE_MAX);
    snprintf(value + n, sizeof value - n, "900-");
    assert_int_equal(range_parse(bh_s(value), 1000, v), RANGE_WHOLE);
}

/* The body that RFC 9110 14.6 asks for, with the boundary that the answer names. */
static void assert_parts(bh_req *r, const char *type, const char *const *range,
                         const char *const *text, int n, size_t size)
{
    static const char prefix[] = "multipart/byteranges; boundary=";
    const char *outer = bht_resp_header(r, "Content-Type");
    static char body[BIG + 4096];
    size_t len = 0;

    assert_int_equal(bht_status(r), 206);
    assert_null(bht_resp_header(r, "Content-Range"));
    assert_memory_equal(outer, prefix, sizeof prefix - 1);
    for (int i = 0; i < n; i++)
        len += (size_t)snprintf(
            body + len, sizeof body - len,
            "%s--%s\r\nContent-Type: %s\r\nContent-Range: bytes %s/%zu\r\n\r\n%s",
            i > 0 ? "\r\n" : "", outer + sizeof prefix - 1, type, range[i], size, text[i]);
    snprintf(body + len, sizeof body - len, "\r\n--%s--\r\n", outer + sizeof prefix - 1);
    assert_string_equal(bht_resp_body(r), body);
}

static void several_ranges_come_in_parts(void **state)
{
    static const char *const range[] = {"7-11", "0-4"}, *const text[] = {"world", "hello"};
    static const char *const big_range[] = {"0-2", "26-28", "99998-99999"};
    static const char *const big_text[] = {"abc", "abc", "cd"};
    bht *t = site();
    bh_req *r = ask(t, "GET", "/hello.txt", "Range", "bytes=7-11,0-4", NULL, NULL);

    (void)state;
    assert_parts(r, "text/plain; charset=utf-8", range, text, 2, 13);
    r = ask(t, "GET", "/big.bin", "Range", "bytes=0-2,26-28,-2", NULL, NULL);
    assert_parts(r, "application/octet-stream", big_range, big_text, 3, BIG);
    bht_close(t);
}

static void several_ranges_that_melt_into_one_come_plain(void **state)
{
    bht *t = site();
    bh_req *r = ask(t, "GET", "/hello.txt", "Range", "bytes=0-4,2-7", NULL, NULL);

    (void)state;
    assert_int_equal(bht_status(r), 206);
    assert_string_equal(bht_resp_header(r, "Content-Range"), "bytes 0-7/13");
    assert_string_equal(bht_resp_body(r), "hello, w");
    bht_close(t);
}

static void ranges_too_large_to_be_put_together_get_the_whole(void **state)
{
    static char huge[1100000];
    bht *t = site();
    bh_req *r;

    (void)state;
    memset(huge, 'x', sizeof huge);
    set_mtime(bht_file("www/huge.bin", huge, sizeof huge), OLD);
    r = ask(t, "GET", "/huge.bin", "Range", "bytes=0-599999,600001-", NULL, NULL);
    assert_int_equal(bht_status(r), 200);
    r = ask(t, "GET", "/huge.bin", "Range", "bytes=1-", NULL, NULL);
    assert_int_equal(bht_status(r), 206);
    r = ask(t, "GET", "/huge.bin", "Range", "bytes=0-99,200-299", NULL, NULL);
    assert_int_equal(bht_status(r), 206);
    bht_close(t);
}

static void options_says_what_may_be_asked(void **state)
{
    bht *t = site();
    bh_req *r = ask(t, "OPTIONS", "/hello.txt", NULL, NULL, NULL, NULL);

    (void)state;
    assert_int_equal(bht_status(r), 200);
    assert_string_equal(bht_resp_header(r, "Allow"), "GET, HEAD, OPTIONS");
    assert_string_equal(bht_resp_body(r), "");
    bht_close(t);
}

/* ---- descriptors that others close ---- */

/* The plugin's descriptor of the root. */
static int find_root_fd(void)
{
    const char *root = in_dir("www");
    struct stat st, is;

    assert_int_equal(stat(root, &st), 0);
    for (int fd = 3; fd < 256; fd++)
        if (fstat(fd, &is) == 0 && is.st_dev == st.st_dev && is.st_ino == st.st_ino)
            return fd;
    fail_msg("no descriptor of %s is open", root);
    return -1;
}

static void a_root_that_another_plugin_has_closed_is_opened_again(void **state)
{
    bht *t = site();

    (void)state;
    close(find_root_fd());
    assert_int_equal(bht_status(get(t, "/big.bin")), 200);
    assert_int_equal(bht_status(get(t, "/none")), 404);
    bht_close(t);
}

static void a_stranger_in_the_place_of_the_root_is_neither_served_nor_closed(void **state)
{
    bht *t = site();
    int fd = find_root_fd(), other = open(in_dir("www/docs"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st, is;

    (void)state;
    assert_int_equal(fstat(other, &st), 0);
    assert_int_equal(dup2(other, fd), fd);
    assert_int_equal(bht_status(get(t, "/hello.txt")), 200);
    bht_close(t);
    assert_int_equal(fstat(fd, &is), 0);
    assert_int_equal(is.st_ino, st.st_ino);
    close(fd);
    close(other);
}

/* ---- the cache ------------------------------------------------------------------------------- */

static void a_kept_file_is_believed_for_a_while_and_then_read_again(void **state)
{
    bht *t = site();

    (void)state;
    assert_string_equal(bht_resp_body(get(t, "/hello.txt")), "hello, world\n");
    put("www/hello.txt", "changed");
    assert_string_equal(bht_resp_body(get(t, "/hello.txt")), "hello, world\n");
    bht_advance(SECOND);
    assert_string_equal(bht_resp_body(get(t, "/hello.txt")), "changed");
    remove(in_dir("www/hello.txt"));
    bht_advance(SECOND);
    assert_int_equal(bht_status(get(t, "/hello.txt")), 404);
    bht_close(t);
}

static void an_unchanged_file_is_not_read_again(void **state)
{
    bht *t = site();
    const char *path;

    (void)state;
    get(t, "/hello.txt");
    /* In place, of the same size and time: it cannot be noticed, which is how we see it. */
    path = bht_file("www/hello.txt", "HELLO, WORLD\n", 13);
    set_mtime(path, OLD);
    bht_advance(5 * SECOND);
    assert_string_equal(bht_resp_body(get(t, "/hello.txt")), "hello, world\n");
    bht_close(t);
}

static void a_file_that_changed_just_before_is_read_again(void **state)
{
    bht *t = site();

    (void)state;
    set_mtime(bht_file("www/hello.txt", "one", 3), BHT_EPOCH_NS / SECOND - 1);
    assert_string_equal(bht_resp_body(get(t, "/hello.txt")), "one");
    set_mtime(bht_file("www/hello.txt", "two", 3), BHT_EPOCH_NS / SECOND - 1);
    bht_advance(SECOND);
    assert_string_equal(bht_resp_body(get(t, "/hello.txt")), "two");
    bht_close(t);
}

static void without_a_cache_all_is_served_from_disk(void **state)
{
    bht *t = bht_open("root=www", "cache_size=0", NULL);

    (void)state;
    assert_string_equal(bht_resp_body(get(t, "/hello.txt")), "hello, world\n");
    assert_int_equal(bht_kind(get(t, "/hello.txt")), BHT_FILE);
    assert_int_equal(bht_status(get(t, "/empty.css")), 200);
    bht_close(t);
}

static void a_hit_reads_only_the_loops_clock(void **state)
{
    bht *t = site();

    (void)state;
    get(t, "/hello.txt");
    get(t, "/hello.txt");
    assert_int_equal(bht_clock_reads(BH_CLOCK_REAL) + bht_clock_reads(BH_CLOCK_MONO), 0);
    bht_close(t);
}

static void a_root_that_is_switched_is_followed(void **state)
{
    bht *t;

    (void)state;
    put("v1/page.txt", "one");
    put("v2/page.txt", "two");
    remove(in_dir("current"));
    assert_int_equal(symlink("v1", in_dir("current")), 0);
    t = bht_open("root=current", NULL);
    assert_string_equal(bht_resp_body(get(t, "/page.txt")), "one");
    remove(in_dir("current"));
    assert_int_equal(symlink("v2", in_dir("current")), 0);
    bht_advance(SECOND);
    assert_string_equal(bht_resp_body(get(t, "/page.txt")), "two");
    bht_close(t);
}

static struct cache_entry *add(struct cache *c, const char *key, size_t size)
{
    struct file_info info = {.size = size};
    struct cache_entry *e = cache_entry_create(c, bh_s(key), &info);

    assert_non_null(e);
    memset(e->body, *key, size);
    cache_add(c, e);
    cache_entry_put(e);
    return e;
}

static void the_cache_drops_what_was_not_used_longest(void **state)
{
    bht *t = site(); /* gives the cache a host to get random numbers from */
    struct cache *c = cache_create(10000);
    struct file_info huge = {.size = 10000};

    (void)state;
    add(c, "a", 2500);
    add(c, "b", 2500);
    add(c, "c", 2500);
    assert_non_null(cache_find(c, bh_s("a")));
    add(c, "d", 2500);
    assert_null(cache_find(c, bh_s("b")));
    assert_non_null(cache_find(c, bh_s("a")));
    assert_non_null(cache_find(c, bh_s("c")));
    assert_non_null(cache_find(c, bh_s("d")));
    assert_true(cache_bytes(c) <= 10000);
    assert_null(cache_entry_create(c, bh_s("huge"), &huge));
    cache_destroy(c);
    bht_close(t);
}

static void an_entry_in_use_outlives_its_place_in_the_cache(void **state)
{
    bht *t = site();
    struct cache *c = cache_create(4000);
    struct cache_entry *e = cache_entry_get(add(c, "a", 1000));

    (void)state;
    for (int i = 0; i < 100; i++) {
        char key[8];

        snprintf(key, sizeof key, "k%d", i);
        add(c, key, 1000);
    }
    add(c, "k99", 1200); /* replaces */
    assert_null(cache_find(c, bh_s("a")));
    assert_int_equal(e->body[999], 'a');
    cache_destroy(c);
    cache_entry_put(e);
    bht_close(t);
}

/* ---- small things ---------------------------------------------------------------------------- */

static void types_go_by_the_last_extension_in_any_case(void **state)
{
    static const bh_pair pair = {{"x-own", 5}, {"text/own", 8}};
    static const bh_map none, own = {&pair, 1};
    char all[] = "7z aac apng atom avif bin bmp bz2 cjs css csv deb docx eot epub flac gif gz htm "
                 "html ico ics jpeg jpg js json jsonld jxl log m3u8 m4a m4v map md mjs mov mp3 mp4 "
                 "mpd odp ods odt oga ogg ogv opus otf pdf png pptx rar rss rtf svg tar tgz tif "
                 "tiff toml ts ttf txt vtt wasm wav weba webm webmanifest webp woff woff2 xhtml "
                 "xlsx xml xz yaml yml zip zst";

    (void)state;
    assert_string_equal(mime_type("a/b.min.JS", &none), "text/javascript; charset=utf-8");
    assert_string_equal(mime_type("a.b/c", &none), "application/octet-stream");
    assert_string_equal(mime_type(".html", &none), "application/octet-stream");
    assert_string_equal(mime_type("archive.tar.gz", &none), "application/gzip");
    assert_string_equal(mime_type("a.X-OWN", &own), "text/own");
    /* Each is found, so the table is sorted. */
    for (char *save, *e = strtok_r(all, " ", &save); e != NULL; e = strtok_r(NULL, " ", &save)) {
        char name[32];

        snprintf(name, sizeof name, "a.%s", e);
        assert_true(strcmp(e, "bin") == 0 || strstr(mime_type(name, &none), "octet") == NULL);
    }
}

static void all_three_kinds_of_dates_are_read(void **state)
{
    int64_t now_s = BHT_EPOCH_NS / SECOND, s = 0;
    char text[HTTPDATE_SIZE];
    static const char *const bad[] = {"",
                                      "Sun",
                                      "Sun, ",
                                      "Sun, 06 Nov 1994 08:49:37",
                                      "Sun, 06 Nov 1994 08:49:37 CET",
                                      "Sun, 6 Nov 1994 08:49:37 GMT",
                                      "Sun, 06 Nov 1994 24:00:00 GMT",
                                      "Sun Nov",
                                      "Sun Nov 6",
                                      "Sun, 32 Nov 1994 08:49:37 GMT",
                                      "Sunday, 06-Nov",
                                      "784111777",
                                      "Sun, 06 Nox 1994 08:49:37 GMT"};

    (void)state;
    assert_true(httpdate_parse(bh_s("Sun, 06 Nov 1994 08:49:37 GMT"), now_s, &s));
    assert_int_equal(s, 784111777);
    s = 0;
    assert_true(httpdate_parse(bh_s("Sunday, 06-Nov-94 08:49:37 GMT"), now_s, &s));
    assert_int_equal(s, 784111777);
    s = 0;
    assert_true(httpdate_parse(bh_s("Sun Nov  6 08:49:37 1994"), now_s, &s));
    assert_int_equal(s, 784111777);
    httpdate_format(s, text);
    assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(httpdate_parse(bh_s(bad[i]), now_s, &s));
}

static void refuses(const char *option, const char *about)
{
    bht *t = strncmp(option, "root=", 5) == 0 ? bht_try(option, NULL)
                                              : bht_try("root=www", option, NULL);

    assert_int_not_equal(bht_rc(t), BH_OK);
    assert_true(strstr(bht_errors(t), about) != NULL || strstr(bht_log_text(t), about) != NULL);
    bht_close(t);
}

static void unsound_options_are_refused(void **state)
{
    (void)state;
    refuses("root=", "root: is empty");
    refuses("root=none", "No such file");
    refuses("root=outside.txt", "Not a directory");
    refuses("index=a/b", "index: ");
    refuses("not_found=404.html", "not_found: ");
    refuses("types..txt=text/plain", "types: ");
    refuses("types.txt=text", "types: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(name, set_up)
        TEST(a_file_comes_with_type_and_validators),
        TEST(a_large_file_is_left_to_sendfile),
        TEST(an_empty_file_is_an_empty_answer),
        TEST(a_folder_is_its_index),
        TEST(the_first_index_that_is_there_is_taken),
        TEST(a_folder_without_its_slash_is_redirected),
        TEST(a_redirect_does_not_lead_to_another_host),
        TEST(other_methods_are_not_allowed),
        TEST(head_is_as_get_and_knows_no_ranges),
        TEST(the_not_found_page_is_sent_with_404),
        TEST(options_show_in_answers),
        TEST(nothing_outside_of_root_is_served),
        TEST(walking_refuses_what_openat2_refuses),
        TEST(hidden_files_stay_hidden),
        TEST(a_fifo_neither_stops_the_worker_nor_is_served),
        TEST(an_endless_path_is_not_found),
        TEST(if_none_match_answers_304_with_the_tag_and_no_body),
        TEST(tags_are_found_in_lists_and_weakly_where_that_counts),
        TEST(dates_are_compared_to_the_second),
        TEST(preconditions_are_taken_in_the_order_of_the_rfc),
        TEST(if_range_wants_the_very_same_file),
        TEST(a_range_is_partial_content_from_memory_and_from_disk),
        TEST(a_range_past_the_end_is_416),
        TEST(ranges_are_read_as_the_rfc_has_them),
        TEST(several_ranges_keep_their_order_and_do_not_overlap),
        TEST(too_many_ranges_are_answered_with_the_whole),
        TEST(several_ranges_come_in_parts),
        TEST(several_ranges_that_melt_into_one_come_plain),
        TEST(ranges_too_large_to_be_put_together_get_the_whole),
        TEST(options_says_what_may_be_asked),
        TEST(a_kept_file_is_believed_for_a_while_and_then_read_again),
        TEST(an_unchanged_file_is_not_read_again),
        TEST(a_file_that_changed_just_before_is_read_again),
        TEST(without_a_cache_all_is_served_from_disk),
        TEST(a_hit_reads_only_the_loops_clock),
        TEST(a_root_that_is_switched_is_followed),
        TEST(a_root_that_another_plugin_has_closed_is_opened_again),
        TEST(a_stranger_in_the_place_of_the_root_is_neither_served_nor_closed),
        TEST(the_cache_drops_what_was_not_used_longest),
        TEST(an_entry_in_use_outlives_its_place_in_the_cache),
        TEST(types_go_by_the_last_extension_in_any_case),
        TEST(all_three_kinds_of_dates_are_read),
        TEST(unsound_options_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
