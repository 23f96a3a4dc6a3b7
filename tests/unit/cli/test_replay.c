/* link: -Wl,--undefined=boundary_hook */
/* The request of a record as bytes. What is done with them: tests/integration/test_replay.c. */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/replay_request.h"

static json_t *notes;
static char *bytes;
static size_t n_bytes;

static int set_up(void **state)
{
    (void)state;
    notes = json_array();
    bytes = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(notes);
    free(bytes);
    return 0;
}

/* request: of the record, as JSON. */
static int make(const char *request, const char *body)
{
    json_t *record = json_pack("{s:o?}", "request", json_loads(request, JSON_DECODE_ANY, NULL));
    int r;

    assert_non_null(record);
    r = replay_request(record,
                       &(struct replay_body){.p = body,
                                             .n = body != NULL ? strlen(body) : 0,
                                             .is_given = body != NULL},
                       notes, &bytes, &n_bytes);
    json_decref(record);
    return r;
}

static void request_is_sent_as_it_was_but_for_the_connection(void **state)
{
    (void)state;
    assert_int_equal(make("{\"method\":\"GET\",\"target\":\"/a?b=c\",\"protocol\":\"HTTP/1.1\","
                          "\"headers\":[[\"Host\",\"x.example\"],[\"Connection\",\"keep-alive\"],"
                          "[\"X-A\",\"1\"],[\"X-A\",\"2\"]]}",
                          NULL),
                     0);
    assert_string_equal(bytes, "GET /a?b=c HTTP/1.1\r\nHost: x.example\r\nX-A: 1\r\nX-A: 2\r\n"
                               "Connection: close\r\n\r\n");
    assert_int_equal(json_array_size(notes), 0);
}

static void missing_body_is_made_up_and_told(void **state)
{
    (void)state;
    assert_int_equal(
        make("{\"method\":\"POST\",\"target\":\"/\",\"protocol\":\"HTTP/1.1\",\"headers\":"
             "[[\"Host\",\"h\"],[\"Content-Length\",\"4\"]]}",
             NULL),
        0);
    assert_string_equal(strstr(bytes, "Content-Length"), "Content-Length: 4\r\n\r\nxxxx");
    assert_int_equal(json_array_size(notes), 1);
}

static void given_body_is_sent(void **state)
{
    (void)state;
    assert_int_equal(
        make("{\"method\":\"POST\",\"target\":\"/\",\"protocol\":\"HTTP/1.1\",\"headers\":"
             "[[\"Host\",\"h\"],[\"Transfer-Encoding\",\"chunked\"]]}",
             "real"),
        0);
    assert_string_equal(strstr(bytes, "Content-Length"), "Content-Length: 4\r\n\r\nreal");
    assert_int_equal(json_array_size(notes), 0);
}

/* One whose body is on record: `recorded`, of `came` bytes that had come. */
static void make_recorded(const char *framing, const char *recorded, int came)
{
    json_t *record = json_pack("{s:{s:s, s:s, s:s, s:[[s, s], o]}, s:{s:i}}", "request", "method",
                               "POST", "target", "/", "protocol", "HTTP/1.1", "headers", "Host",
                               "h", json_loads(framing, 0, NULL), "body", "received", came);

    assert_non_null(record);
    assert_int_equal(replay_request(record,
                                    &(struct replay_body){.p = recorded, .n = strlen(recorded)},
                                    notes, &bytes, &n_bytes),
                     0);
    json_decref(record);
}

static const char *only_note(void)
{
    assert_int_equal(json_array_size(notes), 1);
    return json_string_value(json_array_get(notes, 0));
}

static void recorded_body_is_sent(void **state)
{
    (void)state;
    make_recorded("[\"Content-Length\",\"4\"]", "real", 4);
    assert_string_equal(strstr(bytes, "Content-Length"), "Content-Length: 4\r\n\r\nreal");
    assert_int_equal(json_array_size(notes), 0);
}

static void chunked_body_is_sent_chunked(void **state)
{
    (void)state;
    make_recorded("[\"Transfer-Encoding\",\"chunked\"]", "real", 4);
    assert_string_equal(strstr(bytes, "Transfer"),
                        "Transfer-Encoding: chunked\r\n\r\n4\r\nreal\r\n0\r\n\r\n");
    assert_int_equal(json_array_size(notes), 0);
}

static void cut_body_is_filled_up_and_told(void **state)
{
    (void)state;
    make_recorded("[\"Content-Length\",\"6\"]", "real", 6);
    assert_string_equal(strstr(bytes, "Content-Length"), "Content-Length: 6\r\n\r\nrealxx");
    assert_non_null(strstr(only_note(), "was cut for the record: its first 4 of 6 bytes"));
}

static void body_that_had_not_come_is_filled_up_and_told(void **state)
{
    (void)state;
    make_recorded("[\"Content-Length\",\"6\"]", "real", 4);
    assert_string_equal(strstr(bytes, "Content-Length"), "Content-Length: 6\r\n\r\nrealxx");
    assert_non_null(strstr(only_note(), "4 of 6 bytes of the body had come when it crashed"));
}

static void redacted_parts_are_told(void **state)
{
    (void)state;
    assert_int_equal(make("{\"method\":\"GET\",\"target\":\"/?k=[redacted 3 bytes]\",\"protocol\":"
                          "\"HTTP/1.1\",\"headers\":[]}",
                          NULL),
                     0);
    assert_memory_equal(bytes, "GET /?k=%5Bredacted%203%20bytes%5D HTTP/1.1\r\nHost: ", 49);
    assert_int_equal(json_array_size(notes), 1);
}

static void record_cannot_smuggle_a_second_request(void **state)
{
    (void)state;
    assert_int_equal(
        make("{\"method\":\"GET\",\"target\":\"/\",\"protocol\":\"HTTP/1.1\",\"headers\":"
             "[[\"A\",\"1\\r\\n\\r\\nGET /2 HTTP/1.1\"],[\"B\\r\\nC\",\"2\"]]}",
             NULL),
        0);
    assert_null(strstr(bytes, "\r\n\r\nGET"));
    assert_null(strstr(bytes, "\r\nC: 2"));
}

static void what_is_no_request_is_refused(void **state)
{
    (void)state;
    assert_int_equal(make("null", NULL), -ENOENT);
    assert_int_equal(make("{\"text\":\"garbage\"}", NULL), -EBADMSG);
    assert_int_equal(make("{\"method\":\"G T\",\"target\":\"/\",\"headers\":[]}", NULL), -EBADMSG);
    assert_int_equal(make("{\"method\":\"GET\",\"target\":\"/\\r\\nX: y\",\"headers\":[]}", NULL),
                     -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(request_is_sent_as_it_was_but_for_the_connection),
        TEST(missing_body_is_made_up_and_told),
        TEST(given_body_is_sent),
        TEST(recorded_body_is_sent),
        TEST(chunked_body_is_sent_chunked),
        TEST(cut_body_is_filled_up_and_told),
        TEST(body_that_had_not_come_is_filled_up_and_told),
        TEST(redacted_parts_are_told),
        TEST(record_cannot_smuggle_a_second_request),
        TEST(what_is_no_request_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
