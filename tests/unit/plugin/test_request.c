#include "plugin/request.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "plugin/stream.h"

static struct bh_req req;

static int set_up(void **state)
{
    (void)state;
    memset(&req, 0, sizeof req);
    arena_init(&req.arena, REQUEST_ARENA_MAX);
    request_init(&req);
    req.call = 1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    request_reset(&req);
    arena_fini(&req.arena);
    return 0;
}

static bh_rc set(const char *name, const char *value)
{
    return request_set_field(&req, BH_RESP, bh_s(name), bh_s(value), true);
}

static bh_rc add(const char *name, const char *value)
{
    return request_set_field(&req, BH_RESP, bh_s(name), bh_s(value), false);
}

/* "name=value,..." of what is there. */
static const char *fields(void)
{
    static char text[512];
    const struct fields *f = &req.hdr[BH_RESP];

    text[0] = '\0';
    for (uint32_t i = 0; i < f->n; i++)
        if (f->v[i].name.p != NULL) {
            strcat(strcat(text, text[0] != '\0' ? "," : ""), f->v[i].name.p);
            strcat(strcat(text, "="), f->v[i].value.p);
        }
    return text;
}

/* ---- fields ---- */

static void set_replaces_all_of_that_name_in_the_first_place(void **state)
{
    (void)state;
    add("A", "1");
    add("B", "2");
    add("a", "3");
    assert_int_equal(set("A", "4"), BH_OK);
    assert_string_equal(fields(), "A=4,B=2");
}

static void add_keeps_those_there_are(void **state)
{
    (void)state;
    add("A", "1");
    add("A", "2");
    assert_string_equal(fields(), "A=1,A=2");
}

static void delete_takes_all_or_says_there_is_none(void **state)
{
    (void)state;
    add("A", "1");
    add("B", "2");
    add("a", "3");
    assert_int_equal(request_delete_field(&req, BH_RESP, bh_s("A")), BH_OK);
    assert_string_equal(fields(), "B=2");
    assert_int_equal(request_delete_field(&req, BH_RESP, bh_s("A")), BH_ENOENT);
}

static void names_and_values_are_copied(void **state)
{
    char name[] = "A", value[] = "1";

    (void)state;
    add(name, value);
    name[0] = value[0] = 'x';
    assert_string_equal(fields(), "A=1");
}

static void find_counts_those_of_a_name_in_any_case(void **state)
{
    (void)state;
    add("A", "1");
    add("AB", "no");
    add("a", "2");
    assert_string_equal(fields_find(&req.hdr[BH_RESP], "a", 1, 0)->value.p, "1");
    assert_string_equal(fields_find(&req.hdr[BH_RESP], "A", 1, 1)->value.p, "2");
    assert_null(fields_find(&req.hdr[BH_RESP], "A", 1, 2));
}

static void hundreds_of_fields_are_kept(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++)
        assert_int_equal(add("A", "1"), BH_OK);
    assert_non_null(fields_find(&req.hdr[BH_RESP], "A", 1, 499));
    request_undo(&req);
    assert_null(fields_find(&req.hdr[BH_RESP], "A", 1, 0));
}

/* ---- undo ---- */

static void undo_takes_back_every_kind_of_change_to_fields(void **state)
{
    (void)state;
    add("A", "1");
    add("B", "2");
    req.call++;
    set("A", "9");
    add("C", "3");
    request_delete_field(&req, BH_RESP, bh_s("B"));
    set("B", "8");
    set("A", "7");
    request_delete_field(&req, BH_RESP, bh_s("A"));
    request_undo(&req);
    assert_string_equal(fields(), "A=1,B=2");
}

static void undo_touches_only_the_running_call(void **state)
{
    (void)state;
    add("A", "1");
    req.call++;
    add("B", "2");
    req.call++; /* changes nothing */
    request_undo(&req);
    assert_string_equal(fields(), "A=1,B=2");
}

static void undo_happens_once(void **state)
{
    (void)state;
    add("A", "1");
    request_undo(&req);
    add("B", "2"); /* after a landing, by the host */
    assert_string_equal(fields(), "B=2");
}

static void undo_brings_back_path_variables_and_bodies(void **state)
{
    struct var var = {.name = bh_s("k"), .value = bh_s("v")};

    (void)state;
    req.path = bh_s("/before");
    req.body[BH_REQ] = bh_s("body");
    req.call++;
    request_touch(&req);
    req.path = bh_s("/after");
    req.vars = &var;
    req.body[BH_REQ] = bh_s("other");
    request_undo(&req);
    assert_string_equal(req.path.p, "/before");
    assert_string_equal(req.body[BH_REQ].p, "body");
    assert_null(req.vars);
}

/* ---- replies and what they own ---- */

static struct reply bytes_reply(int status)
{
    return (struct reply){.kind = REPLY_BYTES, .status = status, .bytes = "", .fd = -1};
}

static struct reply file_reply(void)
{
    struct reply reply = {.kind = REPLY_FILE, .status = 200, .fd = open("/dev/null", O_RDONLY)};

    assert_true(reply.fd >= 0);
    return reply;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void undo_brings_back_the_reply_that_was_replaced(void **state)
{
    struct reply first = bytes_reply(201), second = bytes_reply(202);

    (void)state;
    request_set_reply(&req, &first);
    req.call++;
    request_set_reply(&req, &second);
    request_undo(&req);
    assert_int_equal(req.reply.status, 201);
}

static void undo_closes_a_file_that_the_call_brought(void **state)
{
    struct reply first = bytes_reply(201), file = file_reply();

    (void)state;
    request_set_reply(&req, &first);
    req.call++;
    request_set_reply(&req, &file);
    request_undo(&req);
    assert_false(is_open(file.fd));
    assert_int_equal(req.reply.status, 201);
}

static void undo_brings_back_a_file_still_open(void **state)
{
    struct reply file = file_reply(), other = bytes_reply(202);

    (void)state;
    request_set_reply(&req, &file);
    req.call++;
    request_set_reply(&req, &other);
    assert_true(is_open(file.fd)); /* an undo may still want it */
    request_undo(&req);
    assert_true(is_open(file.fd));
    assert_int_equal(req.reply.fd, file.fd);
}

static void a_replaced_file_is_closed_once_its_call_is_over(void **state)
{
    struct reply file = file_reply(), other = bytes_reply(202);

    (void)state;
    request_set_reply(&req, &file);
    req.call++;
    request_set_reply(&req, &other);
    req.call++;
    request_touch(&req);
    assert_false(is_open(file.fd));
}

static void files_replaced_within_one_call_are_closed_at_once(void **state)
{
    struct reply first = file_reply(), second = file_reply();

    (void)state;
    request_set_reply(&req, &first);
    request_set_reply(&req, &second);
    assert_false(is_open(first.fd));
    assert_true(is_open(second.fd));
    request_undo(&req);
    assert_false(is_open(second.fd));
    assert_int_equal(req.reply.kind, REPLY_NONE);
}

static void reset_closes_what_reply_and_undo_own(void **state)
{
    struct reply first = file_reply(), second = file_reply();

    (void)state;
    request_set_reply(&req, &first);
    req.call++;
    request_set_reply(&req, &second);
    request_reset(&req);
    assert_false(is_open(first.fd));
    assert_false(is_open(second.fd));
    assert_int_equal(req.magic, 0); /* late calls with this handle are refused */
}

static void streams_are_owned_like_files(void **state)
{
    struct reply first = {
        .kind = REPLY_STREAM, .status = 200, .fd = -1, .stream = stream_create(STREAM_ANY, NULL)};
    struct reply second = {
        .kind = REPLY_STREAM, .status = 200, .fd = -1, .stream = stream_create(STREAM_ANY, NULL)};

    (void)state;
    request_set_reply(&req, &first); /* valgrind and the sanitizers tell whether both are freed */
    req.call++;
    request_set_reply(&req, &second);
    request_undo(&req);
    assert_ptr_equal(req.reply.stream, first.stream);
    assert_int_equal(stream_append(req.reply.stream, "a", 1, true), 0);
}

int main(void)
{
#define T(NAME) cmocka_unit_test_setup_teardown(NAME, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(set_replaces_all_of_that_name_in_the_first_place),
        T(add_keeps_those_there_are),
        T(delete_takes_all_or_says_there_is_none),
        T(names_and_values_are_copied),
        T(find_counts_those_of_a_name_in_any_case),
        T(hundreds_of_fields_are_kept),
        T(undo_takes_back_every_kind_of_change_to_fields),
        T(undo_touches_only_the_running_call),
        T(undo_happens_once),
        T(undo_brings_back_path_variables_and_bodies),
        T(undo_brings_back_the_reply_that_was_replaced),
        T(undo_closes_a_file_that_the_call_brought),
        T(undo_brings_back_a_file_still_open),
        T(a_replaced_file_is_closed_once_its_call_is_over),
        T(files_replaced_within_one_call_are_closed_at_once),
        T(reset_closes_what_reply_and_undo_own),
        T(streams_are_owned_like_files),
    };

    return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
