#include "exporter/otlp.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "conf/config.h"
#include "exporter/gzip.h"
#include "exporter/outbox.h"
#include "ipc/span.h"

#include <zlib.h>

static struct span_writer w;

static void make_record(void)
{
    struct span_head head = {.trace_id = {1},
                             .id = {2},
                             .parent = {3},
                             .start_ns = 1000,
                             .end_ns = 2000,
                             .kind = SPAN_SERVER,
                             .status = SPAN_ERROR,
                             .flags = 1,
                             .parent_is_remote = 1,
                             .n_attributes = 4,
                             .n_events = 1};

    span_write(&w, &head, "GET /", 5, "a=1", 3, "no", 2);
    span_write_text(&w, "text", "q\"\\\n\xff\0z", 7);
    span_write_number(&w, "int", SPAN_INT, INT64_MIN);
    span_write_number(&w, "bool", SPAN_BOOL, 1);
    span_write_double(&w, "double", 0.25);
    span_write_event(&w, 1500, "crash", 1);
    span_write_text(&w, "id", "x", 1);
    assert_false(w.is_full);
}

static json_t *export(const char *record, size_t n, int *result)
{
    struct config_pair pair = {"k", "v\"w"};
    struct config_tracing cfg = {.service = "shop", .resource = &pair, .n_resources = 1};
    struct otlp_source source = {.version = "1.0", .host = "h", .instance = "i", .pid = 7};
    struct buffer b = {0};
    json_error_t error;
    json_t *json;

    otlp_begin(&b, &cfg, &source);
    *result = otlp_add(&b, record, n, 0);
    otlp_end(&b);
    json = json_loadb(b.p, b.n, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL)
        fail_msg("%s in %.*s", error.text, (int)b.n, b.p);
    buffer_fini(&b);
    return json;
}

static json_t *first_span(const json_t *json)
{
    json_t *rs = json_array_get(json_object_get(json, "resourceSpans"), 0);
    json_t *ss = json_array_get(json_object_get(rs, "scopeSpans"), 0);

    return json_array_get(json_object_get(ss, "spans"), 0);
}

static void a_record_becomes_a_span(void **state)
{
    static const char expected[] =
        "{\"traceId\":\"01000000000000000000000000000000\",\"spanId\":\"0200000000000000\","
        "\"parentSpanId\":\"0300000000000000\",\"traceState\":\"a=1\",\"flags\":769,\"name\":\"GET /\","
        "\"kind\":2,\"startTimeUnixNano\":\"1000\",\"endTimeUnixNano\":\"2000\",\"attributes\":["
        "{\"key\":\"text\",\"value\":{\"stringValue\":\"q\\\"\\\\\\n\xef\xbf\xbd\xef\xbf\xbdz\"}},"
        "{\"key\":\"int\",\"value\":{\"intValue\":\"-9223372036854775808\"}},"
        "{\"key\":\"bool\",\"value\":{\"boolValue\":true}},"
        "{\"key\":\"double\",\"value\":{\"doubleValue\":0.25}}],"
        "\"events\":[{\"timeUnixNano\":\"1500\",\"name\":\"crash\",\"attributes\":["
        "{\"key\":\"id\",\"value\":{\"stringValue\":\"x\"}}]}],\"status\":{\"code\":2,\"message\":\"no\"}}";
    json_t *json, *span = json_loads(expected, 0, NULL);
    int result;

    (void)state;
    make_record();
    json = export(w.p, w.n, &result);
    assert_int_equal(result, 0);
    assert_non_null(span);
    assert_true(json_equal(first_span(json), span));
    json_decref(span);
    json_decref(json);
}

static void what_makes_no_sense_is_left_out_whole(void **state)
{
    static char bytes[SPAN_MAX];
    uint32_t random = 1;
    json_t *json;
    int result;

    (void)state;
    make_record();
    assert_true(w.n > 0);
    for (size_t n = 0; n < w.n; n++) { /* at its true size, so that tools see a read beyond */
        char *copy = malloc(n + 1);

        memcpy(copy, w.p, n);
        json = export(copy, n, &result);
        assert_int_equal(result, -EBADMSG);
        assert_null(first_span(json));
        json_decref(json);
        free(copy);
    }
    for (int i = 0; i < 5000; i++) {
        memcpy(bytes, w.p, w.n);
        for (int k = 0; k < 3; k++) {
            random = random * 1664525 + 1013904223;
            bytes[(random >> 8) % (w.n + 1)] = (char)(random >> 24);
        }
        json_decref(export(bytes, w.n, &result)); /* whatever it says, it is JSON */
    }
}

static void long_texts_are_cut_and_too_many_refused(void **state)
{
    static char text[3000];
    struct span_head head = {.trace_id = {1}, .id = {2}, .kind = SPAN_INTERNAL, .n_attributes = 1};
    json_t *json, *value;
    int result;

    (void)state;
    memset(text, 'x', sizeof text);
    span_write(&w, &head, text, sizeof text, NULL, 0, "", 0);
    span_write_text(&w, "k", text, sizeof text);
    json = export(w.p, w.n, &result);
    value = json_object_get(json_array_get(json_object_get(first_span(json), "attributes"), 0),
                            "value");
    assert_int_equal(strlen(json_string_value(json_object_get(value, "stringValue"))),
                     SPAN_VALUE_MAX);
    assert_int_equal(strlen(json_string_value(json_object_get(first_span(json), "name"))),
                     SPAN_NAME_MAX);
    json_decref(json);
    head.n_attributes = SPAN_ATTRIBUTES + 1;
    span_write(&w, &head, "n", 1, NULL, 0, "", 0);
    json_decref(export(w.p, w.n, &result));
    assert_int_equal(result, -EBADMSG);
    for (int i = 0; i < 100; i++)
        span_write_text(&w, "k", text, sizeof text);
    assert_true(w.is_full);
}

static void a_packed_body_unpacks_to_itself(void **state)
{
    static char text[100000], out[sizeof text];
    z_stream z = {0};
    size_t n = 0;
    char *packed;

    (void)state;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)("abcd"[i % 4] + i / 5000);
    packed = gzip_pack(text, sizeof text, &n);
    assert_non_null(packed);
    assert_true(n < sizeof text / 10);
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    z.next_in = (Bytef *)(void *)packed;
    z.avail_in = (uInt)n;
    z.next_out = (Bytef *)(void *)out;
    z.avail_out = sizeof out;
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    inflateEnd(&z);
    assert_memory_equal(out, text, sizeof text);
    free(packed);
}

static void retry_after_is_seconds_or_a_date(void **state)
{
    const int64_t now_s = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */

    (void)state;
    assert_int_equal(outbox_retry_after_ms(" 12", now_s), 12000);
    assert_int_equal(outbox_retry_after_ms("0", now_s), 0);
    assert_int_equal(outbox_retry_after_ms("Sun, 06 Nov 1994 08:50:07 GMT", now_s), 30000);
    assert_int_equal(outbox_retry_after_ms("Sun, 06 Nov 1994 08:49:07 GMT", now_s), 0);
    assert_int_equal(outbox_retry_after_ms("99999999999999999999", now_s), 300000);
    assert_int_equal(outbox_retry_after_ms("100000", now_s), 300000);
    assert_int_equal(outbox_retry_after_ms("soon", now_s), -1);
    assert_int_equal(outbox_retry_after_ms("1.5", now_s), -1);
    assert_int_equal(outbox_retry_after_ms("", now_s), -1);
}

static void what_is_tried_again_is_what_otlp_says(void **state)
{
    static const long again[] = {0, 429, 502, 503, 504},
                      refused[] = {301, 400, 401, 404, 413, 500, 501};

    (void)state;
    for (size_t i = 0; i < sizeof again / sizeof again[0]; i++)
        assert_int_equal(outbox_judge(&(struct outbox_answer){.status = again[i]}), OUTBOX_AGAIN);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_int_equal(outbox_judge(&(struct outbox_answer){.status = refused[i]}),
                         OUTBOX_REFUSED);
    assert_int_equal(outbox_judge(&(struct outbox_answer){.status = 200}), OUTBOX_TAKEN);
    assert_int_equal(outbox_judge(&(struct outbox_answer){.status = 204}), OUTBOX_TAKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_becomes_a_span),
        cmocka_unit_test(what_makes_no_sense_is_left_out_whole),
        cmocka_unit_test(long_texts_are_cut_and_too_many_refused),
        cmocka_unit_test(a_packed_body_unpacks_to_itself),
        cmocka_unit_test(retry_after_is_seconds_or_a_date),
        cmocka_unit_test(what_is_tried_again_is_what_otlp_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
