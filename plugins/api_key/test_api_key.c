/*
 * test_api_key.c - what api_key promises.
 */
#include <bulkhead_test.h>
#include <sys/stat.h>

#define EVES  "eves-key-0123456789"
#define PLAIN "plain-key-0123456789"

static void write_keys(const char *text)
{
    const char *path = bht_file("keys.txt", text, strlen(text));

    chmod(path, 0600);
}

static int set_up(void **state)
{
    (void)state;
    write_keys("# who may come in\n\neve:" EVES "\n  " PLAIN "  \r\nadam:adams-key:with-a-colon\n");
    return 0;
}

/* The status that a request with this header gets. */
static int32_t asks(bht *t, const char *header, const char *value)
{
    bh_req *r = bht_request(t, "GET", "/");

    bht_header(r, header, value);
    bht_run(r);
    return bht_status(r);
}

static void a_known_key_passes_with_its_name(void **state)
{
    bht *t = bht_open("keys_file=keys.txt", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_header(r, "X-Api-Key", EVES);
    bht_run(r);
    assert_true(bht_passed(r));
    assert_string_equal(bht_var(r, "api_key_name"), "eve");
    assert_string_equal(bht_log_text(t), "");
    bht_close(t);
}

static void later_plugins_do_not_see_the_key(void **state)
{
    bht *t = bht_open("keys_file=keys.txt", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_header(r, "X-Api-Key", EVES);
    bht_run(r);
    assert_null(bht_req_header(r, "X-Api-Key"));
    r = bht_request(t, "GET", "/");
    bht_header(r, "Authorization", "bearer " EVES);
    bht_run(r);
    assert_true(bht_passed(r));
    assert_null(bht_req_header(r, "Authorization"));
    bht_close(t);
}

static void a_key_without_name_goes_by_its_line(void **state)
{
    bht *t = bht_open("keys_file=keys.txt", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_header(r, "X-Api-Key", PLAIN);
    bht_run(r);
    assert_string_equal(bht_var(r, "api_key_name"), "line-4");
    assert_int_equal(asks(t, "X-Api-Key", "adams-key:with-a-colon"), 200);
    bht_close(t);
}

static void without_a_key_there_is_a_challenge(void **state)
{
    bht *t = bht_open("keys_file=keys.txt", "realm=shop", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_run(r);
    assert_int_equal(bht_status(r), 401);
    assert_false(bht_passed(r));
    assert_string_equal(bht_resp_header(r, "WWW-Authenticate"), "Bearer realm=\"shop\"");
    assert_string_equal(bht_resp_header(r, "Content-Type"), "application/problem+json");
    bht_close(t);
}

static void a_wrong_key_is_refused(void **state)
{
    static const char *const wrong[] = {
        "",          "e",   "eves-key-012345678", EVES "0", "Eves-key-0123456789",
        "eve:" EVES, "eve", "# who may come in"};
    bht *t = bht_open("keys_file=keys.txt", NULL);
    char endless[5000];
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(asks(t, "X-Api-Key", wrong[i]), 401);
    memset(endless, 'e', sizeof endless);
    endless[sizeof endless - 1] = '\0';
    assert_int_equal(asks(t, "X-Api-Key", endless), 401);
    assert_int_equal(asks(t, "Authorization", "Basic " EVES), 401);
    bht_header(r, "X-Api-Key", "wrong");
    bht_run(r);
    assert_string_equal(bht_resp_header(r, "WWW-Authenticate"),
                        "Bearer realm=\"api\", error=\"invalid_token\"");
    bht_close(t);
}

static void two_keys_are_refused(void **state)
{
    bht *t = bht_open("keys_file=keys.txt", NULL);
    bh_req *r = bht_request(t, "GET", "/");

    (void)state;
    bht_header(r, "X-Api-Key", EVES);
    bht_header(r, "X-Api-Key", "another");
    bht_run(r);
    assert_int_equal(bht_status(r), 401);
    bht_close(t);
}

static void bearer_can_be_switched_off(void **state)
{
    bht *t = bht_open("keys_file=keys.txt", "bearer=false", "header=X-Key", NULL);

    (void)state;
    assert_int_equal(asks(t, "Authorization", "Bearer " EVES), 401);
    assert_int_equal(asks(t, "X-Key", EVES), 200);
    bht_close(t);
}

static void a_changed_file_is_read_within_a_second(void **state)
{
    bht *t = bht_open("keys_file=keys.txt", NULL);

    (void)state;
    write_keys("mallory:a-new-key-0123456789\n");
    assert_int_equal(asks(t, "X-Api-Key", EVES), 200);
    bht_advance(1000000000);
    assert_int_equal(asks(t, "X-Api-Key", EVES), 401);
    assert_int_equal(asks(t, "X-Api-Key", "a-new-key-0123456789"), 200);
    bht_close(t);
}

static void a_bad_or_missing_file_leaves_the_old_keys(void **state)
{
    bht *t = bht_open("keys_file=keys.txt", NULL);
    char path[256];
    const char *first;

    (void)state;
    write_keys("mallory:short\n");
    bht_advance(1000000000);
    assert_int_equal(asks(t, "X-Api-Key", EVES), 200);
    first = strstr(bht_log_text(t), "line 1: the key is shorter");
    assert_non_null(first);

    snprintf(path, sizeof path, "%s/keys.txt", bht_dir());
    remove(path);
    for (int i = 0; i < 3; i++) {
        bht_advance(1000000000);
        assert_int_equal(asks(t, "X-Api-Key", EVES), 200);
    }
    assert_null(strstr(strstr(bht_log_text(t), "shorter") + 1, "shorter"));
    bht_close(t);
}

static void does_not_open(const char *text, const char *about)
{
    bht *t;

    write_keys(text);
    t = bht_try("keys_file=keys.txt", NULL);
    assert_int_not_equal(bht_rc(t), BH_OK);
    assert_non_null(strstr(bht_log_text(t), about));
    assert_null(strstr(bht_log_text(t), "secret"));
    bht_close(t);
}

static void a_bad_file_is_refused_by_line_without_showing_keys(void **state)
{
    bht *t = bht_try("keys_file=none.txt", NULL);

    (void)state;
    assert_int_not_equal(bht_rc(t), BH_OK);
    assert_non_null(strstr(bht_log_text(t), "none.txt: No such file"));
    bht_close(t);
    does_not_open("# one\neve:secret\n", "line 2: the key is shorter than 16");
    does_not_open(":secret-0123456789\n", "line 1: the name is empty");
    does_not_open("eve:secret 0123456789\n", "line 1: the key has a character");
    does_not_open("a:secret-0123456789\nb:secret-0123456789\n", "line 2: the key is there already");
}

static void a_file_that_everybody_reads_or_without_keys_is_warned_of(void **state)
{
    bht *t;

    (void)state;
    chmod(bht_file("keys.txt", "# none\n", 7), 0644);
    t = bht_open("keys_file=keys.txt", NULL);
    assert_non_null(strstr(bht_log_text(t), "warn: keys_file keys.txt has no keys"));
    assert_non_null(strstr(bht_log_text(t), "chmod o-r"));
    assert_int_equal(asks(t, "X-Api-Key", EVES), 401);
    bht_close(t);
}

static void many_keys_are_all_found(void **state)
{
    char *text = calloc(1000, 64), *o = text, key[32];
    bht *t;

    (void)state;
    for (int i = 0; i < 1000; i++)
        o += sprintf(o, "user%d:key-number-%010d\n", i, i);
    write_keys(text);
    free(text);
    t = bht_open("keys_file=keys.txt", NULL);
    for (int i = 0; i < 1000; i += 37) {
        snprintf(key, sizeof key, "key-number-%010d", i);
        assert_int_equal(asks(t, "X-Api-Key", key), 200);
    }
    assert_int_equal(asks(t, "X-Api-Key", "key-number-0000001000"), 401);
    bht_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_known_key_passes_with_its_name, set_up),
        cmocka_unit_test_setup(later_plugins_do_not_see_the_key, set_up),
        cmocka_unit_test_setup(a_key_without_name_goes_by_its_line, set_up),
        cmocka_unit_test_setup(without_a_key_there_is_a_challenge, set_up),
        cmocka_unit_test_setup(a_wrong_key_is_refused, set_up),
        cmocka_unit_test_setup(two_keys_are_refused, set_up),
        cmocka_unit_test_setup(bearer_can_be_switched_off, set_up),
        cmocka_unit_test_setup(a_changed_file_is_read_within_a_second, set_up),
        cmocka_unit_test_setup(a_bad_or_missing_file_leaves_the_old_keys, set_up),
        cmocka_unit_test(a_bad_file_is_refused_by_line_without_showing_keys),
        cmocka_unit_test(a_file_that_everybody_reads_or_without_keys_is_warned_of),
        cmocka_unit_test(many_keys_are_all_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
