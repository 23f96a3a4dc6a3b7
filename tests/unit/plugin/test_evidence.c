#include "plugin/evidence.h"

/* link: @interpose */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ipc/shm.h"
#include "plugin/instance.h"
#include "plugin/request.h"

static struct bh_req req;
static struct shm_crash record;

static int set_up(void **state)
{
    (void)state;
    memset(&req, 0, sizeof req);
    memset(&record, 0, sizeof record);
    arena_init(&req.arena, REQUEST_ARENA_MAX);
    request_init(&req);
    req.call = 1;
    req.method = bh_s("POST");
    req.target = bh_s("/a?token=s3cret");
    req.protocol = bh_s("HTTP/1.1");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    request_reset(&req);
    arena_fini(&req.arena);
    return 0;
}

static void assert_kept(const char *bytes, uint64_t seen)
{
    memset(&record, 0, sizeof record);
    evidence_write(&record, &req);
    assert_int_equal(record.has_body, 1);
    assert_int_equal(record.body_len, strlen(bytes));
    assert_memory_equal(record.body, bytes, record.body_len);
    assert_int_equal(record.body_seen, seen);
}

static void first_bytes_of_a_body_are_kept(void **state)
{
    (void)state;
    evidence_begin(&req, 6);
    assert_kept("", 0);
    evidence_body(&req, bh_s("abc"), 9);
    assert_kept("abc", 3);
    evidence_body(&req, bh_s("defgh"), 9);
    assert_kept("abcdef", 8);
    evidence_body(&req, bh_s("i"), 9);
    assert_kept("abcdef", 9);
}

static void body_of_unknown_length_grows(void **state)
{
    static char piece[1000];

    (void)state;
    memset(piece, 'p', sizeof piece);
    evidence_begin(&req, SHM_BODY_COPY);
    for (int i = 0; i < 70; i++)
        evidence_body(&req, bh_sn(piece, sizeof piece), UINT64_MAX);
    evidence_write(&record, &req);
    assert_int_equal(record.body_len, SHM_BODY_COPY);
    assert_int_equal(record.body_seen, 70000);
    for (uint32_t i = 0; i < record.body_len; i++)
        assert_int_equal(record.body[i], 'p');
}

static void length_that_lies_does_no_harm(void **state)
{
    (void)state;
    evidence_begin(&req, 64);
    evidence_body(&req, bh_s("longer than that"), 1);
    evidence_body(&req, bh_s(", and more"), 1);
    assert_kept("longer than that, and more", 26);
}

static void what_found_no_room_leaves_no_gap(void **state)
{
    (void)state;
    evidence_begin(&req, 64);
    evidence_body(&req, bh_s("abc"), 3);
    req.arena.limit = 0;
    req.arena.free = req.arena.end;
    evidence_body(&req, bh_s("defg"), 8);
    req.arena.limit = REQUEST_ARENA_MAX;
    evidence_body(&req, bh_s("h"), 8);
    assert_kept("abc", 8);
}

static void request_of_a_dying_call_is_without_what_that_call_did(void **state)
{
    (void)state;
    assert_int_equal(request_set_field(&req, BH_REQ, bh_s("X-Id"), bh_s("before"), true), BH_OK);
    req.call = 2;
    assert_int_equal(request_set_field(&req, BH_REQ, bh_s("X-Id"), bh_s("during"), true), BH_OK);
    assert_int_equal(request_set_field(&req, BH_REQ, bh_s("Cookie"), bh_s("s3cret"), true), BH_OK);
    incarnation_request = &req;
    record.hook = HOOK_REQUEST;
    evidence_write_last(&record);
    assert_int_equal(record.request_len,
                     strlen("POST /a?token=[redacted 6 bytes] HTTP/1.1\nX-Id: before\n"));
    assert_memory_equal(record.request, "POST /a?token=[redacted 6 bytes] HTTP/1.1\nX-Id: before\n",
                        record.request_len);
}

static void death_outside_of_requests_names_none(void **state)
{
    (void)state;
    incarnation_request = &req;
    record.hook = HOOK_TIMER;
    evidence_write_last(&record);
    assert_int_equal(record.request_len, 0);
    record.hook = HOOK_REQUEST;
    incarnation_request = NULL;
    evidence_write_last(&record);
    assert_int_equal(record.request_len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(first_bytes_of_a_body_are_kept),
        TEST(body_of_unknown_length_grows),
        TEST(length_that_lies_does_no_harm),
        TEST(what_found_no_room_leaves_no_gap),
        TEST(request_of_a_dying_call_is_without_what_that_call_did),
        TEST(death_outside_of_requests_names_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
